#!/usr/bin/env bash
# Let each place in the code that allocates, runs a statement or calls a library fail once, while random histories check that
# nobody's consent is violated and that every contact arrives; see faults.py and faults.c.
#
# usage: test/faults/faults.sh [--seconds N] [--gap MILLISECONDS] [--seed N] [--sanitize] [OPTION OF consent.py...]
#
# With --sanitize, the sanitizers of gcc watch as well. Needs python3-psycopg2 in addition to the packages of the tests.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

sanitize=false
if [ "${1-}" = --sanitize ]; then
    sanitize=true
    shift
fi

in_tree() {
    as_server make --no-print-directory -s -C "$tree" PG_CONFIG="$PG_CONFIG" with_llvm=no "$@"
}

# The functions that faults.c has wrappers for.
wrapped() {
    sed -nE 's/^(EREPORTS|RETURNS)\([^,]*, ([A-Za-z0-9_]+),.*/\2/p' "$tree/test/faults/faults.c"
}

"$top/test/setup.sh" bench || exit
private_dir
private_tree
private_postgres
! $sanitize || private_sanitizers
as_server mkdir "$tree/src/faults"
as_server cp "$tree/test/faults/faults.c" "$tree/src/faults/"
# each call is to be a place of its own
export COPT="${COPT-} -g -fno-optimize-sibling-calls"
in_tree -j2 SHLIB_LINK="$(in_tree print-SHLIB_LINK) $(wrapped | sed 's/^/-Wl,--wrap=/' | tr '\n' ' ')" install || exit
as_server /usr/bin/python3 "$tree/test/faults/faults.py" --bindir "$bindir" --work "$work" --library "$tree/contactsync.so" "$@"
status=$?
cat "$work"/log/report* 2>/dev/null && status=1
exit $status
