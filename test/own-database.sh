#!/bin/sh
# Launcher for pg_regress: give each test a copy of the database that pg_regress created, so that tests do not affect each
# other, and run it as postgres, who owns the extension as well, so that the output does not depend on who runs the tests.
# pg_regress calls this with its psql command, "psql -X -a -q -d DATABASE ...", and with the name of the test at the end of
# PGAPPNAME.
psql=$1 template=$6 database=${PGAPPNAME##*/}

"$psql" -X -q -v ON_ERROR_STOP=1 -d "$template" <<EOF || exit
SELECT 'CREATE ROLE postgres SUPERUSER LOGIN' WHERE to_regrole('postgres') IS NULL \\gexec
\\connect - postgres
SELECT 'DROP EXTENSION contactsync', 'CREATE EXTENSION contactsync'
	FROM pg_extension WHERE extname = 'contactsync' AND extowner <> 'postgres'::regrole \\gexec
\\connect postgres
CREATE DATABASE "$database" TEMPLATE "$template";
EOF
exec "$@" -d "$database" -U postgres
