#!/usr/bin/env bash
# Have everything go wrong at once on a private copy of the installed PostgreSQL, and check that nothing is lost: see chaos.py.
#
# usage: test/fuzz/chaos.sh [--seed N] [--seconds N] [--kills N] [--changes N] [--round SECONDS] [--databases N] [--cells N] [--show N] [--verbose] [--keep]
#
# Without arguments it runs for three rounds of 8 seconds, and the quiet after each; the long form is --kills 500 --changes 300000
# --cells 50. The seed, which it prints, reproduces the same choices, though not the same timing. Needs python3-psycopg2 in
# addition to the packages of the tests.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

"$top/test/setup.sh" bench || exit
private_installation
as_server /usr/bin/python3 "$tree/test/fuzz/chaos.py" --bindir "$bindir" --work "$work" "$@"
status=$?
[[ " $* " != *" --keep "* ]] || trap - EXIT
exit $status
