-- needs UTF-8
-- What a provider or a mapping says is shown to administrators: no character of it may be invisible or change the direction
-- of the text. And the extension says what to do if its schema was made by somebody else.

\set SHOW_CONTEXT never
\set VERBOSITY terse
\pset format unaligned
-- the code points that stay of all that Unicode calls controls, format characters, separators, or ignorable
CREATE FUNCTION remains(message text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(DISTINCT to_hex(ascii(c)), ' ') FROM regexp_split_to_table(message, '') c
	WHERE ascii(c) < 32 OR ascii(c) BETWEEN 127 AND 160 OR ascii(c) IN (173, 847, 1564, 4447, 4448, 5760, 6068, 6069, 6155, 6156, 6157, 6158, 6159, 10240, 12288, 12644, 65279, 65440, 65529, 65530, 65531)
		OR ascii(c) BETWEEN 8192 AND 8207 OR ascii(c) BETWEEN 8232 AND 8239 OR ascii(c) BETWEEN 8287 AND 8303 OR ascii(c) BETWEEN 65024 AND 65039
		OR ascii(c) BETWEEN 113824 AND 113827 OR ascii(c) BETWEEN 119155 AND 119162 OR ascii(c) BETWEEN 917504 AND 921599
$$;
CREATE FUNCTION hostile() RETURNS text LANGUAGE sql AS $$
	SELECT 'x' || string_agg(chr(c) || 'x', '') FROM unnest('{1,9,10,13,27,31,127,128,133,155,159,173,847,1564,4447,6068,6158,8203,8204,8205,8206,8207,8232,8233,8234,8235,8236,8237,8238,8288,8294,8295,8296,8297,8303,12644,65024,65279,65440,65529,113824,119155,917505,917631,917760}'::int[]) c
$$;
SELECT length(hostile()), hostile() = regexp_replace(hostile(), '[[:cntrl:]]', '') AS plain;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'secret');

-- what a provider says
SELECT remains(message), remains(code), remains(field), replace(message, ' ', '') FROM contactsync_judge('mail', 422, NULL,
	json_build_object('message', hostile(), 'code', hostile(), 'field', hostile())::text, '{"email": "jane@example.com"}');
SELECT verdict, remains(message) FROM contactsync_judge('mail', 200, NULL, '<html><title>' || hostile() || '</title>', '{"email": "jane@example.com"}');
-- it stays readable
SELECT message FROM contactsync_judge('mail', 422, NULL, json_build_object('message', 'admin' || U&'\202E' || 'txt.exe é ł Ж 用 😀 עברית')::text, '{"email": "jane@example.com"}');

-- what is stored: an error of a mapping, an address, and the reason why a watch is broken
CREATE FUNCTION fail(email text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
	IF email LIKE 'fail%' THEN RAISE EXCEPTION USING MESSAGE = 'failed' || hostile(); END IF;
	RETURN email;
END $$;
CREATE TABLE customers (id int PRIMARY KEY, email text);
SELECT contactsync_watch('customers', 'mail', '{"email": "public.fail(email)", "external_id": "id"}') > 0 AS watched;
INSERT INTO customers VALUES (1, 'fail@example.com'), (2, U&'a\202Eb@example.com'), (3, 'a@' || hostile() || '.com');
CALL contactsync_run('mail');
SELECT key, reason, remains(message), length(message) > 20 AS says_something FROM contactsync.failures ORDER BY key;
SELECT remains(last_error) FROM contactsync.status WHERE source IS NOT NULL;
CREATE TABLE leads (id int PRIMARY KEY, U&"e\202Email" text);
SELECT contactsync_watch('leads', 'mail', '{"email": "\"e\u202Email\""}') > 0 AS watched;
ALTER TABLE leads DROP U&"e\202Email";
CALL contactsync_run('mail');
SELECT state, remains(reason), reason FROM contactsync.status WHERE source = 'leads'::regclass;

-- somebody else's schema of that name
CREATE DATABASE regress_contactsync_squat;
\set db :DBNAME
\c regress_contactsync_squat
CREATE SCHEMA contactsync;
\set VERBOSITY default
CREATE EXTENSION contactsync;
ALTER SCHEMA contactsync RENAME TO elsewhere;
CREATE EXTENSION contactsync;
SELECT extname FROM pg_extension WHERE extname = 'contactsync';
\c :db
DROP DATABASE regress_contactsync_squat;
