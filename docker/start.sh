#!/bin/sh
# Start PostgreSQL with contactsync, as postgres; create the database if there is none. "contactsync-start sandbox" starts
# the simulated providers instead, on port 8025.
set -eu
data=/var/lib/postgresql/data
bin=$(echo /usr/lib/postgresql/*/bin)

if [ "${1:-}" = sandbox ]; then
	exec python3 /usr/local/share/contactsync/sandbox --port 8025
fi
if [ ! -e $data/PG_VERSION ]; then
	: "${POSTGRES_PASSWORD:?is not set: it is to be the password of the role postgres}"
	password=$(mktemp)
	printf '%s\n' "$POSTGRES_PASSWORD" >"$password"
	"$bin/initdb" -D $data --auth-local=peer --auth-host=scram-sha-256 --pwfile="$password" --encoding=UTF8 --locale=C.UTF-8
	rm "$password"
	echo "host all all all scram-sha-256" >>$data/pg_hba.conf
	cat >>$data/postgresql.conf <<-CONF
		listen_addresses = '*'
		shared_preload_libraries = 'contactsync'
		track_commit_timestamp = on             # to determine which row changed last
	CONF
fi
unset POSTGRES_PASSWORD
exec "$bin/postgres" -D $data
