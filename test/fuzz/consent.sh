#!/usr/bin/env bash
# Try what happens to people's consent, on a private copy of the machine's PostgreSQL: see consent.py.
#
# usage: test/fuzz/consent.sh [--seed N] [--seeds N] [--steps N] [--provider NAME] [--acts NAME,...] [--verbose] [--keep]
#
# Without arguments it runs a few seeds in about a minute. A failing seed runs again with --seed N --seeds 1. Needs
# python3-psycopg2 beside what the tests need.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

"$top/test/setup.sh" bench || exit
private_dir
private_tree
private_postgres
as_server make -s -C "$tree" PG_CONFIG="$PG_CONFIG" with_llvm=no -j2 install || exit
as_server /usr/bin/python3 "$tree/test/fuzz/consent.py" --bindir "$bindir" --work "$work" "$@"
