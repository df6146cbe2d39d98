#!/bin/sh
# Launcher for pg_regress: give each test a copy of the database that pg_regress created, so that tests do not affect each
# other. pg_regress calls it with its psql command, "psql -X -a -q -d DATABASE ...", and with the name of the test
# at the end of PGAPPNAME.
psql=$1 template=$6 database=${PGAPPNAME##*/}

"$psql" -X -q -d postgres -c "CREATE DATABASE \"$database\" TEMPLATE \"$template\"" || exit
exec "$@" -d "$database"
