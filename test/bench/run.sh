#!/usr/bin/env bash
# Measure the performance of capture and delivery in one run, as ratios and rates.
#
# usage: test/bench/run.sh [--rounds N] [--rows N] [--rate N] [--single-rows N] [--json FILE] [PART ...]
#
# Parts: capture update throttled deliver floor single scan latency trickle pace; all of these if none. --json writes what was measured
# to a file, which the user who runs the server can write; test/bench/chart.py draws it.
#
#        test/bench/run.sh [--drain-rows N] [--steady-minutes N] [--rate N] [--json FILE] PART ...
#
# These take long, and show what becomes of the worker where there is much. Parts: drain (a long queue, with and without a snapshot that is
# held), steady (a load with such a snapshot, minute by minute), watches (one more beside 500).
#
#        test/bench/run.sh [--soak-seconds N] soak
#        test/bench/run.sh [--answers N] [--servers N] [--server-rows N] [--server-rounds N] [--calls N] [--backlog N] PART ...
#
# The former takes an hour, the latter half of one. They show whether what is used stays flat, and fail if it does not. Parts:
# resources, or one of its parts: answers servers calls backlog.
#
#        test/bench/run.sh [--rounds N] [--defined-servers N] [--defined-rows N] PART ...
#
# What definitions of providers cost beside built-in ones. It fails if that is more than twice as much CPU of the worker. Parts:
# definitions, or one of its parts: reload defined.
#
# This builds into a private PostgreSQL, and starts a server with default settings except for those it prints, and the fast
# responder of the sandbox as the provider. Because machines are noisy, compare the medians of interleaved rounds.
set -eu
# shellcheck source=test/prefix.sh
. "$(dirname "${BASH_SOURCE[0]}")/../prefix.sh"

PG_CONFIG='' "$top/test/setup.sh" bench
private_installation >/dev/null

as_server "$bindir/initdb" -D "$work/data" -U postgres -A trust >/dev/null
as_server tee -a "$work/data/postgresql.conf" >/dev/null <<EOF
listen_addresses = ''
unix_socket_directories = '$work'
shared_preload_libraries = 'contactsync'
contactsync.allowed_networks = '127.0.0.0/8'
shared_buffers = 512MB
max_wal_size = 4GB
checkpoint_timeout = 30min
EOF
as_server "$bindir/pg_ctl" -D "$work/data" -l "$work/log/server.log" -w start >/dev/null
as_server /usr/bin/python3 "$tree/test/bench/bench.py" --bindir "$bindir" --socket "$work" "$@"
