#!/usr/bin/env bash
# Show contactsync at work: 10,000 customers with all the dirt of a real table are mirrored to MailingCore and to
# CampaignLark while they are being changed, and in the end what the providers have is compared with the table.
#
# usage: test/demo.sh [OPTION...]
#
#   --real-time       at the pace of the real providers, which takes about ten minutes
#   --customers N     so many instead of 10,000
#   --keep            leave the temporary directory, with logs and data
#
# The providers are simulators that run on this machine (test/sandbox) and hold to the providers' documents, rate limits
# included. All else is what a user has: PostgreSQL with contactsync preloaded, and an application that knows nothing of
# it. What is missing is installed (Debian; test/setup.sh), what is started is private, and nothing is left behind.
#
# Exits with 1 if the providers have anything else than the table says.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/prefix.sh"

usage() {
    sed -n '/^# usage/,/^#$/p; /^#   --/p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'
}

customers=10000 speed=10 keep=false
while [ $# -gt 0 ]; do
    case $1 in
        --real-time) speed=1 ;;
        --customers) customers=${2:-}; shift ;;
        --keep) keep=true ;;
        -h | --help) usage; exit ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
[[ $customers =~ ^[1-9][0-9]*$ ]] || { usage >&2; exit 2; }

# ---------------------------------------------------------------------------
# Saying what happens
# ---------------------------------------------------------------------------

# Run a command that prints nothing of interest, and say what is done and how long it took: task TEXT COMMAND...
task() {
    local started=$SECONDS
    printf '%s ' "$1 ..."
    if ! "${@:2}" >"$work/log/task" 2>&1 </dev/null; then
        printf 'failed\n\n'
        give_up "$work/log/task"
    fi
    printf '%d s\n' $((SECONDS - started))
}

# What these files say last, and the end.
give_up() {
    tail -n 40 "$@" >&2
    exit 1
}

# One line of figures every few seconds, for as long as the application works or anything is waiting: follow PID
follow() {
    local line shown=never
    printf '\n%6s  %9s   %-22s  %-22s\n' time customers MailingCore CampaignLark
    printf '%6s  %9s   %10s %10s   %10s %10s\n' '' 'in table' synced waiting synced waiting
    while true; do
        line=$(query "
            SELECT to_char(clock_timestamp() - pg_postmaster_start_time(), 'MI:SS'),
                (SELECT count(*) FROM shop.customers), m.synced, m.backlog, c.synced, c.backlog
            FROM contactsync.status m, contactsync.status c
            WHERE m.server = 'mailingcore' AND c.server = 'campaignlark'") || return
        # shellcheck disable=SC2086
        [ "${line#* }" = "$shown" ] || printf "%6s  %'9d   %'10d %'10d   %'10d %'10d\n" $line
        shown=${line#* }
        [[ $line != *' 0' || $line != *' 0 '*' '* ]] || kill -0 "$1" 2>/dev/null || return 0
        sleep $((speed == 1 ? 10 : 2))
    done
}

# ---------------------------------------------------------------------------
# The parts
# ---------------------------------------------------------------------------

build() {
    private_tree && private_postgres &&
        as_server make --no-print-directory -s -C "$tree" -j2 PG_CONFIG="$PG_CONFIG" install
}

# Run a command of PostgreSQL's against the demo's server.
client() {
    as_server env PATH="$bindir:$PATH" PGHOST="$work" PGPORT=5432 PGDATABASE=postgres PGUSER="${as:-postgres}" \
        PGOPTIONS='-c client_min_messages=warning' "$@"
}

run_sql() {
    client psql -XqAt -F ' ' -v ON_ERROR_STOP=1 "$@"
}

query() {
    run_sql -c "$1"
}

start_server() {
    as_server "$bindir/initdb" -D "$work/data" -U postgres --auth=trust --encoding=UTF8 --no-locale --no-sync &&
        as_server tee -a "$work/data/postgresql.conf" <<CONF &&
listen_addresses = ''
unix_socket_directories = '$work'
shared_preload_libraries = 'contactsync'
track_commit_timestamp = on             # so that the demo can tell what was changed last
contactsync.clock_speed = $speed
CONF
        as_server "$bindir/pg_ctl" -D "$work/data" -l "$work/log/server" -w start
}

# The simulators: $sandbox is their URL.
start_sandbox() {
    set -m      # a process group of its own, which the cleanup ends
    as_server /usr/bin/python3 "$tree/test/sandbox" --clock-speed "$speed" >"$work/log/sandbox" 2>&1 </dev/null &
    set +m
    local pid=$!
    until grep -q '^listening on ' "$work/log/sandbox"; do
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.1
    done
    sandbox=http://$(sed -n 's/^listening on //p' "$work/log/sandbox")
    # a field for our number, as one adds it at CampaignLark's website
    /usr/bin/python3 - "$sandbox/control/campaignlark/config" <<'PYTHON'
import json, sys, urllib.request
field = {"id": 8, "label": "Customer", "merge_tag": "external_id", "type": "TEXT", "definition": None, "default_value": None,
         "order": 8, "immutable": False, "required": False, "tracked": False}
urllib.request.urlopen(sys.argv[1], json.dumps({"fields": {"external_id": field}}).encode()).close()
PYTHON
}

define() {
    run_sql -f "$tree/test/demo/shop.sql" &&
        run_sql -f "$tree/test/demo/mirror.sql" -v mailingcore="$sandbox/mailingcore" -v campaignlark="$sandbox/campaignlark/v1"
}

# The application: customers come in batches, while four sessions change, move, add and remove them at a steady rate.
application() {
    local as=app left=$customers
    client pgbench --no-vacuum --client=4 --random-seed=1 --define=customers="$customers" \
        --transactions=$((customers * 3 / 40)) --rate=$((customers * speed * 12 / 10000 + 1)) --max-tries=10 \
        "${@/#/--file=$tree/test/demo/work/}" >"$work/log/pgbench" 2>&1 &
    while [ $left -gt 0 ]; do
        query "CALL shop.enrol($((left < 500 ? left : 500)))" || return
        left=$((left - 500))
    done
    wait $!
}

# Everybody who failed once more, until that helps nobody any more: an address may have become free.
retry() {
    local before='' after
    while after=$(query "SELECT count(*) FROM contactsync.failures") && [ "$after" != "$before" ]; do
        before=$after
        query "SELECT contactsync_retry('mailingcore')" && query "CALL contactsync_wait('mailingcore')" || return
    done
}

# ---------------------------------------------------------------------------

"$top/test/setup.sh" || exit
private_dir
export LC_ALL=C.UTF-8
printf 'contactsync: %d customers, to MailingCore and CampaignLark at once (both simulated)\n\n' "$customers"

task "building contactsync" build
task "starting the providers" start_sandbox
task "starting PostgreSQL" start_server
task "creating a table of customers, two servers and two watches" define
if [ "$speed" -gt 1 ]; then
    cat <<EOF

Time runs $speed times faster for contactsync and for the providers, whose limits
hold in it: 300 calls a minute at MailingCore, 100 a second at CampaignLark.
--real-time shows the real pace.
EOF
fi

set -m
application change.sql@25 points.sql@20 newsletter.sql@10 move.sql@12 enrol.sql@8 leave.sql@8 bulk.sql@2 seen.sql@10 \
    regret.sql@5 >"$work/log/application" 2>&1 </dev/null &
set +m
worker=$!
follow $worker || give_up "$work/log/server"
wait $worker || give_up "$work/log/application" "$work/log/pgbench"

printf '\n'
task "trying the failures at MailingCore again" retry
client /usr/bin/python3 "$tree/test/demo/compare.py" "$sandbox"
result=$?

printf '\n%s, %d s in all\n' "$([ $result -eq 0 ] && echo "No difference" || echo "THERE ARE DIFFERENCES")" $SECONDS
if $keep; then
    trap - EXIT
    printf 'kept %s\n' "$work"
fi
exit $result
