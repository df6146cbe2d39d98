#!/usr/bin/env bash
# Demonstrate contactsync: mirror 10,000 customers, as messy as in a real table, to MailingCore and to
# CampaignLark while they are being changed, and finally compare the providers' contacts with the table.
#
# usage: test/demo.sh [OPTION...]
#
#   --shell           instead, open psql on the server, with a server for each of the five simulated providers, ready to use:
#                     the tour of README.md can be typed there
#   --installed       use the extension that is installed for PG_CONFIG instead of building it
#   --real-time       run at the pace of the real providers, which takes about ten minutes
#   --customers N     use N customers instead of 10,000
#   --keep            keep the temporary directory with logs and data
#
# The providers are local simulators (test/sandbox) that follow the providers' documentation, including rate limits.
# Everything else is as in production: PostgreSQL with contactsync preloaded, and an application that does not know
# about it. The script installs missing packages (Debian; test/setup.sh), uses private servers, and leaves nothing behind.
#
# The exit status is 1 if the providers' contacts differ from the table.
set -u
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/prefix.sh"

usage() {
    sed -n '/^# usage/,/^#$/p; /^#   --/p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'
}

customers=10000 speed=10 keep=false shell=false installed=false
while [ $# -gt 0 ]; do
    case $1 in
        --shell) shell=true speed=1 ;;
        --installed) installed=true ;;
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
# Output
# ---------------------------------------------------------------------------

# Run a command without showing its output, and print its description and duration: task TEXT COMMAND...
task() {
    local started=$SECONDS
    printf '%s ' "$1 ..."
    if ! "${@:2}" >"$work/log/task" 2>&1 </dev/null; then
        printf 'failed\n\n'
        give_up "$work/log/task"
    fi
    printf '%d s\n' $((SECONDS - started))
}

# Print the last lines of these files, and exit.
give_up() {
    tail -n 40 "$@" >&2
    exit 1
}

# Print a line of figures every few seconds while the application runs or changes are waiting: follow PID
follow() {
    local line shown=never
    printf '\n%6s  %9s   %-22s  %-22s\n' time customers MailingCore CampaignLark
    printf '%6s  %9s   %10s %10s   %10s %10s\n' '' 'in table' synced waiting synced waiting
    while true; do
        line=$(query "
            SELECT to_char(clock_timestamp() - pg_postmaster_start_time(), 'MI:SS'),
                (SELECT count(*) FROM shop.customers), m.synced, m.backlog, c.synced, c.backlog
            FROM contactsync.status m, contactsync.status c
            WHERE m.server = 'mailingcore' AND m.source IS NOT NULL AND c.server = 'campaignlark' AND c.source IS NOT NULL") || return
        # shellcheck disable=SC2086
        [ "${line#* }" = "$shown" ] || printf "%6s  %'9d   %'10d %'10d   %'10d %'10d\n" $line
        shown=${line#* }
        [[ $line != *' 0' || $line != *' 0 '*' '* ]] || kill -0 "$1" 2>/dev/null || return 0
        sleep $((speed == 1 ? 10 : 2))
    done
}

# ---------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------

build() {
    private_tree || return
    if $installed; then
        local config=${PG_CONFIG:-pg_config}
        bindir=$("$config" --bindir) || return
        [ -e "$("$config" --sharedir)/extension/contactsync.control" ] && return
        echo "contactsync is not installed for $config"
        return 1
    fi
    private_postgres && as_server make --no-print-directory -s -C "$tree" -j2 PG_CONFIG="$PG_CONFIG" install
}

# Run a PostgreSQL client program against the server of the demo.
client() {
    as_server env PATH="$bindir:$PATH" PGHOST="$work" PGPORT=5432 PGDATABASE=postgres PGUSER="${as:-postgres}" \
        PGOPTIONS="-c client_min_messages=${messages:-warning}" "$@"
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
contactsync.allowed_networks = '127.0.0.0/8'
track_commit_timestamp = on             # to determine which row changed last
contactsync.clock_speed = $speed
CONF
        as_server "$bindir/pg_ctl" -D "$work/data" -l "$work/log/server" -w start
}

# Start the simulators and set $sandbox to their URL.
start_sandbox() {
    set -m      # use a separate process group, which the cleanup terminates
    as_server /usr/bin/python3 "$tree/test/sandbox" --clock-speed "$speed" >"$work/log/sandbox" 2>&1 </dev/null &
    set +m
    local pid=$!
    until grep -q '^listening on ' "$work/log/sandbox"; do
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.1
    done
    sandbox=http://$(sed -n 's/^listening on //p' "$work/log/sandbox")
    # add a field for the customer number, as a user would on CampaignLark's website
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

# Run the application: customers arrive in batches, while four sessions change, move, add and remove them at a steady rate.
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

# Retry all failed contacts until no more of them succeed: an address may have become available.
retry() {
    local before='' after
    while after=$(query "SELECT count(*) FROM contactsync.failures") && [ "$after" != "$before" ]; do
        before=$after
        query "SELECT contactsync_retry('mailingcore')" && query "CALL contactsync_wait('mailingcore')" || return
    done
}

# Wait until no contact is left that is to be removed after delete_delay, because no row stands for it.
remove() {
    until [ "$(query "SELECT count(*) FROM contactsync.departure")" = 0 ]; do
        sleep 1
    done
}

# ---------------------------------------------------------------------------
# The shell
# ---------------------------------------------------------------------------

define_servers() {
    run_sql -f "$tree/test/demo/servers.sql" -v sandbox="$sandbox"
}

# Open psql, and explain what there is. Its input can also be a file, or another program.
open_psql() {
    cat <<'EOF'

A throwaway PostgreSQL server with contactsync, and a server for each simulated provider, with your user mapping:

    mailingcore   campaignlark   caramel   owlat   spotzee

For example:

    SELECT contactsync_upsert('mailingcore', '{"email": "jane@example.com"}');
    CALL contactsync_wait('mailingcore');

What the simulated providers have:

    SELECT * FROM sandbox.contacts;     -- their contacts
    SELECT * FROM sandbox.people;       -- who can be mailed, and by whose word
    SELECT * FROM sandbox.requests;     -- the requests that they received

The tour in README.md can be typed here. \q ends the server, the providers, and everything that was made.

EOF
    trap : INT      # for psql to handle
    messages=notice client psql -q -P expanded=auto
}

# ---------------------------------------------------------------------------

"$top/test/setup.sh" || exit
private_dir
export LC_ALL=C.UTF-8
if $shell; then
    task "building contactsync" build
    task "starting the providers" start_sandbox
    task "starting PostgreSQL" start_server
    task "creating a server for each provider" define_servers
    open_psql
    exit
fi
printf 'contactsync: %d customers, to MailingCore and CampaignLark at once (both simulated)\n\n' "$customers"

task "building contactsync" build
task "starting the providers" start_sandbox
task "starting PostgreSQL" start_server
task "creating a table of customers, two servers and two watches" define
if [ "$speed" -gt 1 ]; then
    cat <<EOF

Time runs $speed times faster for contactsync and for the providers, whose limits apply
to that time: 300 calls a minute at MailingCore, 100 a second at CampaignLark.
Use --real-time to see the real pace.
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
task "removing contacts without a customer, a minute after the customer left" remove
task "retrying the failures at MailingCore" retry
client /usr/bin/python3 "$tree/test/demo/compare.py" "$sandbox"
result=$?

printf '\n%s, %d s in total\n' "$([ $result -eq 0 ] && echo "No differences" || echo "THERE ARE DIFFERENCES")" $SECONDS
if $keep; then
    trap - EXIT
    printf 'keeping %s\n' "$work"
fi
exit $result
