-- Failed contacts: retry them, and ignore them, as a plain role that owns only its servers.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_failure_shop;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_failure_shop;
CREATE TABLE customers (id integer PRIMARY KEY, email text);
CREATE TABLE leads (country text, day date, email text, PRIMARY KEY (country, day));
GRANT SELECT, TRIGGER ON customers, leads TO regress_failure_shop;
CREATE VIEW what AS SELECT server, source, key, reason, attempts FROM contactsync.failures ORDER BY server, source::text, key COLLATE "C";
CREATE VIEW queued AS SELECT server, source, key FROM contactsync.changes ORDER BY server, source::text, key COLLATE "C";
CREATE VIEW ignored AS SELECT watch, id, key, attempts, ignored FROM contactsync.failure;
GRANT SELECT ON what, queued, ignored TO regress_failure_shop;
-- the queue is empty
CREATE FUNCTION clear() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM contactsync.queue';
SET SESSION AUTHORIZATION regress_failure_shop;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE SERVER other FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (api_key 'mc_live_secret');
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}') AS customers \gset
SELECT contactsync_watch('leads', 'mail', '{"email": "email"}') AS leads \gset
SELECT contactsync_watch('customers', 'other', '{"email": "email"}') AS other \gset
RESET SESSION AUTHORIZATION;
INSERT INTO customers VALUES (1, 'nobody'), (2, NULL), (3, 'no body');
INSERT INTO leads VALUES ('de', '2026-01-02', 'nobody'), ('at', '2026-01-02', 'no body');
SET SESSION AUTHORIZATION regress_failure_shop;
CALL contactsync_run();
SELECT * FROM what;

-- retry all failures of a server, of a table, of a reason, or some of them
SELECT contactsync_retry('mail');
SELECT * FROM queued;
SELECT clear();
SELECT contactsync_retry('customers', 'mail');
SELECT * FROM queued;
SELECT clear();
SELECT contactsync_retry_reason('mail', 'missing_field');
SELECT * FROM queued;
SELECT contactsync_retry_reason('mail', 'conflict');
SELECT clear();
SELECT contactsync_retry(array_agg(id)) FROM contactsync.failures WHERE key LIKE '%"at"%' OR server = 'other' AND key = '3';
SELECT * FROM queued;
CALL contactsync_run();
SELECT * FROM what WHERE attempts > 1;
SELECT contactsync_retry('leads', 'other');
SELECT contactsync_retry('nobody');
SELECT contactsync_retry_reason('nobody', 'conflict');
SELECT contactsync_retry(ARRAY[-1]::bigint[]), contactsync_retry('{}'::bigint[]);

-- ignored failures are not shown, not counted, and not retried with the others
SELECT contactsync_ignore(array_agg(id)) FROM contactsync.failures WHERE key IN ('1', '2') AND server = 'mail';
SELECT contactsync_ignore(array_agg(id)) FROM ignored WHERE watch = :customers;
SELECT * FROM what;
SELECT source, failed, failures FROM contactsync.status WHERE server = 'mail' ORDER BY source::text;
SELECT contactsync_retry('customers', 'mail');
-- they are retried if named; if they fail in the same way, they stay ignored
SELECT id FROM ignored WHERE watch = :customers AND key = '1' \gset
SELECT contactsync_retry(ARRAY[:id]::bigint[]);
SELECT * FROM queued;
CALL contactsync_run();
SELECT key, attempts, ignored FROM ignored WHERE watch = :customers ORDER BY key;
-- another failure is shown
RESET SESSION AUTHORIZATION;
UPDATE customers SET email = NULL WHERE id = 1;
SET SESSION AUTHORIZATION regress_failure_shop;
CALL contactsync_run('mail');
SELECT * FROM what WHERE server = 'mail' AND source = 'customers'::regclass;
-- a contact that no longer fails is not a failure
RESET SESSION AUTHORIZATION;
DELETE FROM customers WHERE id IN (1, 2);
SET SESSION AUTHORIZATION regress_failure_shop;
CALL contactsync_run('mail');
SELECT key, ignored FROM ignored WHERE watch = :customers ORDER BY key;

--
-- contactsync_touch()
--

SELECT contactsync_touch('customers', 'mail', 3, '4', 5::bigint);
SELECT * FROM queued;
RESET SESSION AUTHORIZATION;
SELECT keys, contact FROM contactsync.queue;
SET SESSION AUTHORIZATION regress_failure_shop;
SELECT contact FROM contactsync.changes;
SELECT clear();
SELECT contactsync_touch('customers', 'mail', VARIADIC ARRAY[3, 4]);
SELECT contactsync_touch('leads', 'mail', ARRAY['de', '2026-01-02'], '["at", "2026-01-02"]', ARRAY['ch', 'Jan 2 2026']);
SELECT * FROM queued;
SELECT clear();
SELECT contactsync_touch('customers', 'mail', VARIADIC array_agg(g)) FROM generate_series(1, 450) g;
RESET SESSION AUTHORIZATION;
SELECT n FROM contactsync.queue ORDER BY id;
SET SESSION AUTHORIZATION regress_failure_shop;
SELECT clear();
-- an invalid key
SELECT contactsync_touch('customers', 'mail', 'x');
SELECT contactsync_touch('customers', 'mail', NULL::integer);
SELECT contactsync_touch('customers', 'mail', ARRAY['1', '2']);
SELECT contactsync_touch('leads', 'mail', 'de');
SELECT contactsync_touch('leads', 'mail', '["de"]');
SELECT contactsync_touch('leads', 'mail', ARRAY['de', NULL]);
SELECT contactsync_touch('leads', 'mail', ARRAY['de', 'yesteryear']);
SELECT contactsync_touch('leads', 'other', 1);
SELECT contactsync_touch(NULL, 'mail', 1) IS NULL AS nothing;

-- failures of other roles
SELECT array_agg(id) AS ids FROM ignored \gset
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_failure;
SET SESSION AUTHORIZATION regress_failure;
SELECT contactsync_retry(:'ids'::bigint[]), contactsync_ignore(:'ids'::bigint[]);
SELECT contactsync_retry('customers', 'mail');
SELECT contactsync_retry('mail');
SELECT contactsync_touch('customers', 'mail', 1);
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM contactsync.queue;
DROP OWNED BY regress_failure_shop CASCADE;
DROP ROLE regress_failure, regress_failure_shop;
