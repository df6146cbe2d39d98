#!/usr/bin/env bash
# Judge hostile answers of all providers with a contactsync that is built to find memory errors: see answers.py.
#
# usage: test/fuzz/answers.sh [SEED [NUMBER]]
#
# Prints the faults, of which there should be none, and the number of answers for each verdict.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

seed=${1:-$RANDOM} number=${2:-20000}
"$top/test/setup.sh" || exit
private_dir
private_tree
private_postgres
private_sanitizers
as_server make -s -C "$tree" PG_CONFIG="$PG_CONFIG" -j2 install || exit

as_server "$bindir/initdb" --pgdata="$work/data" --no-sync --encoding=UTF8 --no-locale --auth=trust >"$work/log/initdb" || exit
as_server "$bindir/pg_ctl" --pgdata="$work/data" --log="$work/log/server" --wait start \
    --options="-c listen_addresses= -c unix_socket_directories=$work/tmp -c fsync=off" >/dev/null || exit

echo "seed $seed"
/usr/bin/python3 "$tree/test/fuzz/answers.py" "$seed" "$number" |
    as_server env PGHOST="$work/tmp" "$bindir/psql" -X -q -d postgres -f "$tree/test/fuzz/answers.sql"
status=$?
cat "$work"/log/report* 2>/dev/null && status=1
as_server "$bindir/pg_ctl" --pgdata="$work/data" --mode=immediate stop >/dev/null
exit $status
