-- Keys of all types: their text does not depend on the settings of a session, and finds the row again.
\set SHOW_CONTEXT never
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
SET client_min_messages = warning;
CREATE SCHEMA ext;
CREATE EXTENSION citext SCHEMA ext;
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN code AS text CHECK (VALUE <> '');
CREATE DOMAIN short_code AS code CHECK (length(VALUE) < 10);
CREATE DOMAIN folded AS ext.citext;
CREATE TYPE pair AS (a integer, b text);

-- A watched table with such keys.  Its contacts cannot be sent, so every row that is found becomes a failure.
CREATE FUNCTION keyed(type text, VARIADIC literals text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	source text := format('%I', 'by ' || type);
	literal text;
BEGIN
	EXECUTE format('CREATE TABLE %s (id %s PRIMARY KEY, email text DEFAULT ''nobody'')', source, type);
	PERFORM contactsync_watch(source::regclass, 'mail');
	FOREACH literal IN ARRAY literals LOOP
		EXECUTE format('INSERT INTO %s VALUES (%s)', source, literal);
	END LOOP;
END $$;

-- first settings
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Kolkata';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = -3;
SET bytea_output = 'escape';
SELECT keyed('integer', '0', '-1', '2147483647', '-2147483648');
SELECT keyed('bigint', '9223372036854775807', '-9223372036854775808');
SELECT keyed('smallint', '-32768');
SELECT keyed('numeric', '1.50', '-0.000001', '1e30', '''NaN''', '''Infinity''');
SELECT keyed('double precision', '0.1::float8 + 0.2', '1e-300', '''-Infinity''', '-0.0');
SELECT keyed('real', '1.0 / 3', '16777216');
SELECT keyed('boolean', 'true', 'false');
SELECT keyed('uuid', '''A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11''');
SELECT keyed('text', '''plain''', ''' two  words ''', '''''', '''"quoted" and ''''quoted''''''', '''back\slash''', '''{a,b}''', '''NULL''', '''nächste''', '''[1, 2]''', 'E''tab\tline\nend''');
SELECT keyed('varchar(20)', '''Various''');
SELECT keyed('char(6)', '''pad''');
SELECT keyed('"char"', '''x''');
SELECT keyed('name', '''Some Name''');
SELECT keyed('ext.citext', '''MixedCase''');
SELECT keyed('short_code', '''A-1''');
SELECT keyed('folded', '''Folded''');
SELECT keyed('mood', '''so so''', '''happy''');
SELECT keyed('date', '''2024-02-29''', '''0044-03-15 BC''', '''infinity''');
SELECT keyed('timestamp', '''2024-03-04 05:06:07.891234''');
SELECT keyed('timestamptz', '''2024-03-31 02:30:00.000001+02''', '''1850-01-01 00:00:00+00''', '''-infinity''');
SELECT keyed('time', '''23:59:59.999999''');
SELECT keyed('timetz', '''23:59:59+05:30''');
SELECT keyed('interval', '''1 year -2 days 03:04:05.6''', '''-1 mon''', '''-36 hours''');
SELECT keyed('bytea', '''\x00ff5c27''');
SELECT keyed('oid', '4294967295');
SELECT keyed('inet', '''10.0.0.1/8''', '''::1''');
SELECT keyed('macaddr', '''08-00-2b-01-02-03''');
SELECT keyed('bit varying', '''B''''0101''''''::text::varbit');
SELECT keyed('integer[]', '''{1,NULL,3}''', '''{{1,2},{3,4}}''');
SELECT keyed('timestamptz[]', 'ARRAY[''2024-03-31 02:30:00+02''::timestamptz]');
SELECT keyed('daterange', '''[2024-01-01,2024-02-01)''', '''empty''');
SELECT keyed('tstzrange', '''[2024-01-01 00:00+00,)''');
SELECT keyed('jsonb', '''{"b": 1, "a": [1, "x"]}''');
SELECT keyed('pair', 'ROW(1, ''a "b", c'')');
-- several columns
CREATE TABLE composite (t text, "At Time" timestamptz, n numeric, b bytea, email text DEFAULT 'nobody', PRIMARY KEY (n, t, "At Time", b));
SELECT contactsync_watch('composite', 'mail') > 0 AS watched;
INSERT INTO composite VALUES ('a "b" \ [c], {d}', '2024-03-31 02:30:00+02', 1.50, '\x00ff'), ('', '2024-01-01 00:00:00+00', -1, ''),
	(E'tab\tline\nend ü é', 'infinity', 'NaN', '\x5c');
-- some keys do not fit into an index of contactsync
CREATE TABLE long (id text PRIMARY KEY, email text DEFAULT 'nobody');
SELECT contactsync_watch('long', 'mail') > 0 AS watched;
INSERT INTO long VALUES (repeat('long', 5000)), ('short'), (repeat('word', 1000)),
	('random' || (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 83) i));
SELECT source, key FROM contactsync.changes WHERE source <> 'long'::regclass ORDER BY id, source, key COLLATE "C";

-- second settings
SET datestyle = 'German';
SET timezone = 'America/New_York';
SET intervalstyle = 'iso_8601';
SET extra_float_digits = 0;
RESET bytea_output;
CREATE TEMPORARY TABLE expected AS SELECT source, key FROM contactsync.changes WHERE source <> 'long'::regclass OR key = 'short';
CALL contactsync_run('mail');
SELECT count(*) AS left FROM contactsync.changes;
SELECT source, state, reason FROM contactsync.status WHERE state <> 'idle';
SELECT source, key, 'not found' AS problem FROM expected e
WHERE NOT EXISTS (SELECT FROM contactsync.failures f WHERE f.source = e.source AND f.key = e.key AND f.reason = 'invalid_email')
UNION ALL
SELECT source, key, message FROM contactsync.failures
WHERE (reason <> 'invalid_email' OR (source, key) NOT IN (SELECT source, key FROM expected)) AND source <> 'long'::regclass;
SELECT source, left(key, 8) AS begins, length(key), reason, message FROM contactsync.failures WHERE source = 'long'::regclass ORDER BY key COLLATE "C";
SELECT count(*) > 60 AS found FROM contactsync.failures;
-- a truncated key finds no row, so it fails again
SELECT contactsync_retry('mail') > 60 AS retried;
CALL contactsync_run('mail');
SELECT source, left(key, 8) AS begins, reason, attempts FROM contactsync.failures WHERE source = 'long'::regclass ORDER BY key COLLATE "C";
