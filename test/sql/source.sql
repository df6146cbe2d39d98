-- How the rows of a source are read: within a time limit, with isolation of bad rows, and with the same values in all sessions.
\set SHOW_CONTEXT never
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
SET client_min_messages = warning;

-- Values do not depend on the settings of the delivering session.
CREATE TABLE settings (id integer PRIMARY KEY, at timestamptz, span interval, number float8, bytes bytea);
SELECT contactsync_watch('settings', 'mail', '{"email": "concat_ws('' | '', at, span, number, bytes)"}') > 0 AS watched;
INSERT INTO settings VALUES (1, '2024-02-03 04:05:06.7+00', '1 year -2 days 03:04', 0.1, '\xff00');
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Kolkata';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = -10;
SET bytea_output = 'escape';
CALL contactsync_run();
SELECT message FROM contactsync.failures;
SELECT contactsync_retry('mail');
SET datestyle = 'German';
SET timezone = 'America/New_York';
SET intervalstyle = 'iso_8601';
SET extra_float_digits = 3;
RESET bytea_output;
CALL contactsync_run();
SELECT message FROM contactsync.failures;
-- also what the locale decides, and what decides how an expression is read
CREATE TABLE locales (price money PRIMARY KEY, at date, words text[]);
SELECT contactsync_watch('locales', 'mail', '{"email": "concat_ws(''|'', price, to_char(at, ''TMMon''), current_setting(''lc_monetary''), current_setting(''lc_numeric''), current_setting(''lc_time''), length(''\\t''), to_tsvector(''the''), current_setting(''xmlbinary''), NULL = NULL)"}') > 0 AS watched;
SET lc_monetary = 'POSIX';
SET lc_numeric = 'POSIX';
SET lc_time = 'POSIX';
SET transform_null_equals = on;
SET default_text_search_config = 'english';
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SET array_nulls = off;
SET xmlbinary = hex;
SET xmloption = document;
INSERT INTO locales VALUES (1234.5, '2024-03-01');
CALL contactsync_run();
SELECT key, message FROM contactsync.failures WHERE source = 'locales'::regclass;
SELECT current_setting('lc_monetary'), current_setting('lc_numeric'), current_setting('lc_time'), current_setting('transform_null_equals'), current_setting('standard_conforming_strings');
RESET lc_monetary;
RESET lc_numeric;
RESET lc_time;
RESET transform_null_equals;
RESET default_text_search_config;
RESET standard_conforming_strings;
RESET escape_string_warning;
RESET array_nulls;
RESET xmlbinary;
RESET xmloption;
SELECT contactsync_unwatch('locales', 'mail') IS NOT NULL AS unwatched;
DROP TABLE locales;
-- and the settings of the session are restored
SELECT current_setting('datestyle'), current_setting('timezone'), current_setting('intervalstyle'), current_setting('extra_float_digits'),
	current_setting('enable_seqscan'), current_setting('search_path'), current_setting('transaction_read_only'), current_setting('lock_timeout');
RESET datestyle;
RESET timezone;
RESET intervalstyle;
RESET extra_float_digits;
DROP TABLE settings;

-- When somebody opted in is a time that the world uses.
CREATE TABLE times (id integer PRIMARY KEY, email text, at timestamptz);
SELECT contactsync_watch('times', 'mail', '{"email": "email", "opt_in": "true", "opt_in_at": "at"}') > 0 AS watched;
INSERT INTO times VALUES (1, 'a@example.com', '10000-01-01'), (2, 'b@example.com', '294276-12-31'), (3, 'nobody', '9999-12-31'), (4, 'nobody', 'infinity'), (5, 'nobody', NULL);
CALL contactsync_run();
SELECT key, reason, field, message FROM contactsync.failures ORDER BY key;
DROP TABLE times;

-- A row that fails fails alone, in any position, with any error.
CREATE TABLE customers (id integer PRIMARY KEY, email text DEFAULT 'nobody', what text, ms integer DEFAULT 0);
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "attributes": {"size": "pg_relation_size(what::regclass)"}}',
	filter => 'pg_sleep(ms / 1000.0)::text = ''''') > 0 AS watched;
INSERT INTO customers (id) SELECT generate_series(1, 100);
UPDATE customers SET what = 'no_such_table' WHERE id IN (1, 50, 51, 100);
UPDATE customers SET what = '"' WHERE id = 7;
UPDATE customers SET what = '4294967296' WHERE id = 8;
CALL contactsync_run();
SELECT reason, message, count(*), array_agg(key ORDER BY key::integer) FILTER (WHERE reason = 'mapping_error') AS keys
FROM contactsync.failures GROUP BY reason, message ORDER BY reason, message;
SELECT state, reason FROM contactsync.watches;
-- An error of all rows causes no failures.
UPDATE contactsync.watch SET columns = NULL;		-- otherwise the watch follows
ALTER TABLE customers RENAME COLUMN what TO which;
UPDATE customers SET which = NULL;
CALL contactsync_run();
SELECT state, reason, backlog FROM contactsync.status WHERE source IS NOT NULL;
ALTER TABLE customers RENAME COLUMN which TO what;
CALL contactsync_run();
SELECT state, reason, backlog FROM contactsync.status WHERE source IS NOT NULL;
SELECT reason, count(*) FROM contactsync.failures GROUP BY reason;
UPDATE contactsync.watch SET columns = NULL;
ALTER TABLE customers RENAME COLUMN id TO number;
UPDATE customers SET email = 'again';
CALL contactsync_run();
SELECT state, reason FROM contactsync.watches;
ALTER TABLE customers RENAME COLUMN number TO id;
DELETE FROM customers;
CALL contactsync_run();
SELECT state, reason FROM contactsync.watches;
SELECT count(*) FROM contactsync.failures;

-- Rows that are interrupted by a limit of the session stay queued.
INSERT INTO customers (id, ms) VALUES (1, 20000);
SET statement_timeout = '100ms';
CALL contactsync_run();
RESET statement_timeout;
SELECT source, key FROM contactsync.changes;
UPDATE customers SET ms = 0;
CALL contactsync_run();
SELECT key, message FROM contactsync.failures;

-- A row that takes too long fails, and only that row.
ALTER SYSTEM SET contactsync.source_timeout = '150ms';
SELECT pg_reload_conf();
\c -
SET client_min_messages = warning;
SET contactsync.clock_speed = 1000;
SHOW contactsync.source_timeout;
INSERT INTO customers (id, ms) SELECT g, CASE WHEN g = 5 THEN 20000 ELSE 0 END FROM generate_series(1, 10) g
	ON CONFLICT (id) DO UPDATE SET email = 'again';
CALL contactsync_run();
SELECT key, reason, message FROM contactsync.failures ORDER BY key::integer;
SELECT state, reason, backlog FROM contactsync.status WHERE source IS NOT NULL;
-- A row that fails early does not take the time of the following rows.
UPDATE customers SET ms = 30, what = CASE WHEN id = 1 THEN 'no_such_table' END;
CALL contactsync_run();
SELECT key, reason, message FROM contactsync.failures ORDER BY key::integer;
ALTER SYSTEM RESET contactsync.source_timeout;
SELECT pg_reload_conf();
