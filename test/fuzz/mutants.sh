#!/usr/bin/env bash
# Break the rules of consent in the source, one at a time, and check that the histories of consent.py notice; see mutants.py.
#
# usage: test/fuzz/mutants.sh [--find N] [NAME ...]
#
# It takes a few minutes. Needs python3-psycopg2 in addition to the packages of the tests.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

"$top/test/setup.sh" bench || exit
private_dir
private_tree
private_postgres
as_server /usr/bin/python3 "$tree/test/fuzz/mutants.py" --tree "$tree" --bindir "$bindir" --work "$work" "$@"
