#!/usr/bin/env bash
# Torture contactsync on a private copy of the machine's PostgreSQL: see torture.py.
#
# usage: test/fuzz/run.sh [--seconds N] [--seed N] [--gentle] [--verbose] [--keep]
#
# Prints the seed, which makes the same choices again, if not the same timing. Needs python3-psycopg2 beside what the
# tests need. Not a part of test/run.sh, for it takes as long as it is told to.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

"$top/test/setup.sh" bench || exit
private_dir
private_tree
private_postgres
as_server make -s -C "$tree" PG_CONFIG="$PG_CONFIG" with_llvm=no -j2 install || exit
as_server /usr/bin/python3 "$tree/test/fuzz/torture.py" --bindir "$bindir" --work "$work" "$@"
