#!/usr/bin/env bash
# Measure what hostile roles cost the others: how late their changes arrive, and how soon the worker ends.
#
# usage: test/bench/hostile.sh [--seconds N] [PART ...]     parts: sleep end reload roles ddl; all if none
#
#   sleep    one mapping that sleeps for ever, beside ten roles that each change a row ten times a second
#   end      how long the worker takes to end while a mapping does not
#   reload   500 watches, and more of them made while a role changes rows
#   roles    twenty hostile roles at once, beside one that changes rows
#   ddl      what a DDL command of a role without a watch takes, without the extension, and with it beside 0 and 500 watches
#
# This builds into a private PostgreSQL, and takes the fast responder of the sandbox for the provider. A latency is the time
# from the change to its stored outcome. contactsync.source_timeout is 1 s: what a hostile mapping costs is in proportion to it.
set -eu
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

seconds=60 parts=()
while [ $# -gt 0 ]; do
    case $1 in
        --seconds) seconds=$2; shift 2 ;;
        *) parts+=("$1"); shift ;;
    esac
done
[ ${#parts[@]} -gt 0 ] || parts=(sleep end reload roles ddl)

PG_CONFIG='' "$top/test/setup.sh" bench
private_installation >/dev/null
as_server "$bindir/initdb" -D "$work/data" -U postgres -A trust --no-locale --encoding=UTF8 >/dev/null
as_server tee -a "$work/data/postgresql.conf" >/dev/null <<END
listen_addresses = ''
unix_socket_directories = '$work'
shared_preload_libraries = 'contactsync'
contactsync.allowed_networks = '127.0.0.0/8'
contactsync.source_timeout = '1s'
contactsync.launcher_naptime = '1s'
max_connections = 100
max_locks_per_transaction = 1024
END
as_server "$bindir/pg_ctl" -D "$work/data" -l "$work/log/server.log" -w start >/dev/null
# in a process group of its own, which the cleanup ends
set -m
as_server /usr/bin/python3 "$tree/test/sandbox" --fast >"$work/log/sandbox" &
set +m
until grep -qs listening "$work/log/sandbox"; do sleep 0.1; done
port=$(sed 's/.*://' "$work/log/sandbox")

sql_in() { "$bindir/psql" -h "$work" -U postgres -d "$1" -XqAt -v ON_ERROR_STOP=1 -c 'SET client_min_messages = error' "${@:2}"; }
sql() { sql_in postgres "$@"; }

worker() { sql -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 'contactsync worker'"; }

# Make an empty database with roles, each with a server and a table of its own: begin ROLE...
begin() {
    local role
    sql -c 'DROP EXTENSION IF EXISTS contactsync CASCADE' -c 'DROP SCHEMA public CASCADE' -c 'CREATE SCHEMA public' -c 'GRANT ALL ON SCHEMA public TO PUBLIC'
    for role in "${made[@]}"; do
        sql -c "DROP OWNED BY $role CASCADE" -c "DROP ROLE $role"
    done
    made=()
    sql -c 'CREATE EXTENSION contactsync' -c 'GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO PUBLIC'
    for role; do
        sql -c "CREATE ROLE $role" -c "SET SESSION AUTHORIZATION $role" \
            -c "CREATE SERVER $role FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id '$role', base_url 'http://127.0.0.1:$port/mailingcore', pace '1000', burst '1000')" \
            -c "CREATE USER MAPPING FOR CURRENT_USER SERVER $role OPTIONS (api_key 'mc_test_$role')" \
            -c "CREATE TABLE $role (id int PRIMARY KEY, email text, at timestamptz DEFAULT clock_timestamp())"
        made+=("$role")
    done
}
made=()

# Have a role watch its table, and change a row of it every so many seconds, until a time.
watch() { sql -c "SET SESSION AUTHORIZATION $1" -c "SELECT contactsync_watch('$1', '$1', '{\"email\": \"email\"}')" >/dev/null; }
change() {
    sql -c "SET SESSION AUTHORIZATION $1" -c "
        DO \$\$
        DECLARE
            stop timestamptz := clock_timestamp() + interval '$seconds s';
            n int := 0;
        BEGIN
            WHILE clock_timestamp() < stop LOOP
                n := n + 1;
                INSERT INTO $1 VALUES (n, format('c%s@$1.example', n));
                COMMIT;
                PERFORM pg_sleep($2);
            END LOOP;
        END \$\$"
}

# Print the latencies of roles, once all is sent: latencies ROLE...
latencies() {
    local role union=
    for role; do
        sql -c "CALL contactsync_wait('$role')" >/dev/null 2>&1
        union+="${union:+ UNION ALL }SELECT extract(epoch FROM c.synced_at - t.at) * 1000 AS ms FROM $role t JOIN contactsync.contact c ON c.upsert_key = t.email"
    done
    sql -c "SELECT format('%s changes: p50 %s ms, p99 %s ms, at most %s ms', count(*), round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 1),
        round((percentile_cont(0.99) WITHIN GROUP (ORDER BY ms))::numeric), round(max(ms)::numeric)) FROM ($union) l"
}

hostile_function() {
    sql -c "
        CREATE FUNCTION act(how text) RETURNS text LANGUAGE plpgsql AS \$\$
        BEGIN
            CASE how
            WHEN 'sleep' THEN PERFORM pg_sleep(3600);
            WHEN 'catch' THEN LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
            WHEN 'busy' THEN LOOP BEGIN LOOP NULL; END LOOP; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
            WHEN 'cancel' THEN RAISE 'cancelled' USING ERRCODE = '57014';
            WHEN 'lock' THEN RAISE 'locked' USING ERRCODE = '55P03';
            ELSE NULL;
            END CASE;
            RETURN how;
        END \$\$"
}

# Give a role a watch whose mapping acts so, with rows that it concerns: hostile ROLE HOW
hostile() {
    sql -c "SET SESSION AUTHORIZATION $1" -c "SELECT contactsync_watch('$1', '$1', '{\"email\": \"email\", \"first_name\": \"act(''$2'')\"}')" \
        -c "INSERT INTO $1 SELECT i, format('h%s@$1.example', i) FROM generate_series(1, 1000) i" >/dev/null
}

part_sleep() {
    local roles=() i
    for i in $(seq 10); do roles+=("good$i"); done
    begin bad "${roles[@]}"
    for i in "${roles[@]}"; do watch "$i"; done
    seconds=$((seconds / 3)) ; for i in "${roles[@]}"; do change "$i" 0.1 & pids+=($!); done; wait "${pids[@]}"; pids=() seconds=$((seconds * 3))
    echo "sleep: ten roles alone: $(latencies "${roles[@]}")"
    begin bad "${roles[@]}"
    sql -c 'SELECT 1' >/dev/null; hostile_function
    for i in "${roles[@]}"; do watch "$i"; done
    hostile bad sleep
    for i in "${roles[@]}"; do change "$i" 0.1 & pids+=($!); done; wait "${pids[@]}"; pids=()
    echo "sleep: beside a mapping that sleeps: $(latencies "${roles[@]}")"
}
pids=()

part_end() {
    local how pid start
    for how in sleep catch busy; do
        begin bad
        hostile_function
        sql -c "ALTER SYSTEM SET contactsync.source_timeout = '1d'" -c 'SELECT pg_reload_conf()' >/dev/null
        hostile bad $how
        until [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'contactsync worker' AND state = 'active' AND query = 'contactsync: reading changes' AND now() - state_change > interval '1 s'")" = 1 ]; do sleep 0.1; done
        pid=$(worker)
        start=$(date +%s%N)
        kill -TERM "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.005; done
        echo "end: the worker ends $((($(date +%s%N) - start) / 1000000)) ms after SIGTERM, during a mapping that does not end ($how)"
    done
    sql -c 'ALTER SYSTEM RESET ALL' -c 'SELECT pg_reload_conf()' >/dev/null
}

part_reload() {
    local i pid before
    begin good
    watch good
    sql -c "DO \$\$ BEGIN FOR i IN 1 .. 550 LOOP EXECUTE format('CREATE TABLE w%s (id int PRIMARY KEY, email text)', i); EXECUTE format('ALTER TABLE w%s OWNER TO good', i); END LOOP; END \$\$"
    for i in 0 1 2 3 4; do
        sql -c 'SET SESSION AUTHORIZATION good' -c "SELECT count(contactsync_watch(format('w%s', i)::regclass, 'good', '{\"email\": \"email\"}')) FROM generate_series($i * 100 + 1, $i * 100 + 100) i" >/dev/null
    done
    sql -c "CALL contactsync_wait('good')" >/dev/null 2>&1
    pid=$(worker)
    seconds=15 change good 0.02 &
    pids+=($!)
    before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
    sleep 5
    before=$((2 * $(awk '{ print $14 + $15 }' "/proc/$pid/stat") - before))
    for i in $(seq 501 550); do
        sql -c 'SET SESSION AUTHORIZATION good' -c "SELECT contactsync_watch('w$i', 'good', '{\"email\": \"email\"}')" >/dev/null
        sleep 0.05
    done
    echo "reload: $((($(awk '{ print $14 + $15 }' "/proc/$pid/stat") - before) * 1000 / $(getconf CLK_TCK) / 50)) ms of CPU for each watch that is added to 500"
    wait "${pids[@]}"
    pids=()
    echo "reload: $(latencies good)"
    echo "reload: $(sql -c "SELECT count(*) FILTER (WHERE verdict <> 'done' OR attempt > 1) FROM contactsync.call") calls aborted or repeated, of $(sql -c 'SELECT count(*) FROM contactsync.call'); the worker is $([ "$pid" = "$(worker)" ] && echo the same || echo another)"
}

part_roles() {
    local kinds=(sleep catch busy cancel lock) roles=() i
    for i in $(seq 20); do roles+=("bad$i"); done
    begin good "${roles[@]}"
    hostile_function
    watch good
    for i in $(seq 0 19); do hostile "${roles[$i]}" "${kinds[$((i % 5))]}"; done
    for i in $(seq 5); do
        (sql -c "SET SESSION AUTHORIZATION bad$i" -c 'BEGIN' -c "SELECT contactsync_mark_stale('bad$i')" -c "SELECT pg_sleep($seconds)" -c 'ROLLBACK' >/dev/null) &
        pids+=($!)
    done
    i=$(worker)
    change good 0.05
    wait "${pids[@]}"
    pids=()
    echo "roles: beside twenty hostile roles: $(latencies good); the worker is $([ "$i" = "$(worker)" ] && echo the same || echo another)"
}

# The databases are measured in turn, so that what else the machine does concerns all alike.
part_ddl() {
    local db i
    sql -c "CREATE ROLE plain"
    for db in without zero many; do
        sql -c "CREATE DATABASE $db"
        sql_in $db -c "GRANT ALL ON SCHEMA public TO plain" -c "CREATE TABLE taken (statement text, us float, cpu float)" -c "GRANT ALL ON taken TO plain" -c "
            CREATE FUNCTION cpu() RETURNS float LANGUAGE sql SECURITY DEFINER AS
                'SELECT (s[14]::float + s[15]::float) * 10000 FROM string_to_array(pg_read_file(''/proc/self/stat''), '' '') s'" -c "
            CREATE PROCEDURE measure(statements text[], times int) LANGUAGE plpgsql AS \$\$
            DECLARE
                us float[] := array_fill(0::float, ARRAY[cardinality(statements)]);
                start timestamptz;
                before float := cpu();
            BEGIN
                FOR n IN 1 .. times LOOP
                    FOR i IN 1 .. cardinality(statements) LOOP
                        start := clock_timestamp();
                        EXECUTE statements[i];
                        COMMIT;
                        INSERT INTO taken VALUES (statements[i], extract(epoch FROM clock_timestamp() - start) * 1e6);
                    END LOOP;
                END LOOP;
                INSERT INTO taken VALUES ('cpu of all', NULL, (cpu() - before) / times);
            END \$\$"
    done
    sql_in zero -c "CREATE EXTENSION contactsync"
    sql_in many -c "CREATE EXTENSION contactsync" -c "CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'many', base_url 'http://127.0.0.1:$port/mailingcore')" \
        -c "CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_test_many')" -c "DO \$\$ BEGIN FOR i IN 1 .. 500 LOOP EXECUTE format('CREATE TABLE w%s (id int PRIMARY KEY, email text)', i); END LOOP; END \$\$"
    for i in 0 1 2 3 4; do
        sql_in many -c "SELECT count(contactsync_watch(format('w%s', i)::regclass, 'mail', '{\"email\": \"email\"}')) FROM generate_series($i * 100 + 1, $i * 100 + 100) i" >/dev/null
    done
    for i in $(seq "$seconds"); do
        for db in without zero many; do
            sql_in $db -c 'SET SESSION AUTHORIZATION plain' -c 'SET synchronous_commit = off' -c "CALL measure(ARRAY['CREATE TABLE one (id int PRIMARY KEY, name text)', 'ALTER TABLE one ADD COLUMN more int',
                'ALTER TABLE one RENAME COLUMN more TO less', 'DROP TABLE one', 'CREATE TEMP TABLE two (id int)', 'DROP TABLE two'], 30)"
        done
    done
    for db in without zero many; do
        sql_in $db -c "SELECT format('ddl: %s: %s: p50 %s us', '$db', statement, round((percentile_cont(0.5) WITHIN GROUP (ORDER BY us))::numeric)) FROM taken WHERE us IS NOT NULL GROUP BY statement ORDER BY statement"
        sql_in $db -c "SELECT format('ddl: %s: CPU of all six: median %s us', '$db', round((percentile_cont(0.5) WITHIN GROUP (ORDER BY cpu))::numeric)) FROM taken WHERE cpu IS NOT NULL"
    done
}

for part in "${parts[@]}"; do
    "part_$part"
done
