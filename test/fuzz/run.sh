#!/usr/bin/env bash
# Torture contactsync on a private copy of the installed PostgreSQL: see torture.py.
#
# usage: test/fuzz/run.sh [--seconds N] [--seed N] [--gentle] [--verbose] [--keep]
#
# Prints the seed, which reproduces the same choices, though not the same timing. Requires python3-psycopg2 in addition to
# the packages for the tests. This is not part of test/run.sh, because it runs for as long as requested.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

"$top/test/setup.sh" bench || exit
private_installation
as_server /usr/bin/python3 "$tree/test/fuzz/torture.py" --bindir "$bindir" --work /tmp "$@"
