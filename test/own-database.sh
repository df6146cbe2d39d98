#!/bin/sh
# Launcher for pg_regress: give each test a copy of the database that pg_regress created, so that tests do not affect each
# other, and run it as postgres, who owns the extension as well, so that the output does not depend on who runs the tests.
# pg_regress calls this with its psql command, "psql -X -a -q -d DATABASE ...", and with the name of the test at the end of
# PGAPPNAME. A test whose first line is "-- needs UTF-8" has characters that not every encoding has: it gets a database in
# UTF-8, even with --encoding of test/run.sh.
psql=$1 template=$6 database=${PGAPPNAME##*/}

# The tests are UTF-8, whatever the encoding of the databases.
export PGCLIENTENCODING=UTF8

create="CREATE DATABASE \"$database\" TEMPLATE \"$template\""
if [ "$(head -n 1 "test/sql/$database.sql")" = "-- needs UTF-8" ]; then
	create="CREATE DATABASE \"$database\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
fi
"$psql" -X -q -v ON_ERROR_STOP=1 -d "$template" <<EOF || exit
SELECT 'CREATE ROLE postgres SUPERUSER LOGIN' WHERE to_regrole('postgres') IS NULL \\gexec
\\connect - postgres
SELECT 'DROP EXTENSION contactsync', 'CREATE EXTENSION contactsync'
	FROM pg_extension WHERE extname = 'contactsync' AND extowner <> 'postgres'::regrole \\gexec
\\connect postgres
$create;
\\connect "$database"
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS contactsync;
EOF
exec "$@" -d "$database" -U postgres
