#!/usr/bin/env bash
# Recreate the pictures in docs/images.
#
# usage: test/screenshots.sh
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SCREENSHOTS=$(mktemp -d /tmp/contactsync-pictures.XXXXXX)
export SCREENSHOTS
trap 'rm -rf "$SCREENSHOTS"' EXIT
[ "$(id -u)" -ne 0 ] || chown postgres: "$SCREENSHOTS"
test/run.sh 107_report
mkdir -p docs/images
cp "$SCREENSHOTS"/*.png docs/images/
