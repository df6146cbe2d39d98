-- The queue, its processing without a provider, and the views.
\set SHOW_CONTEXT never
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE SERVER other FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE SERVER unmapped FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1');
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER foreign_one FOREIGN DATA WRAPPER nothing;
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (api_key 'mc_live_secret');

--
-- contactsync_upsert()
--

SELECT contactsync_upsert('mail', '{"email": "jane@example.com", "first_name": "Jane"}') AS id \gset
SELECT server, source, key, id = :id AS "the one returned", contact, queued_at <= clock_timestamp() AS queued FROM contactsync.changes;
SELECT server, source, owner = CURRENT_USER::regrole AS mine, state, backlog, oldest IS NOT NULL AS oldest FROM contactsync.status;

-- it is part of the transaction
BEGIN;
SELECT contactsync_upsert('mail', '{"email": "joe@example.com"}') > :id AS next;
ROLLBACK;
BEGIN;
SELECT contactsync_upsert('mail', '{"email": "jim@example.com"}') > :id AS next;
SAVEPOINT a;
SELECT contactsync_upsert('mail', '{"email": "joe@example.com"}') > :id AS next;
ROLLBACK TO a;
SELECT contactsync_upsert('mail', '{"email": "jim@example.com", "locale": "en"}') > :id AS next;
COMMIT;
SELECT contact FROM contactsync.changes ORDER BY id;

-- contacts that the provider cannot accept are rejected at once
SELECT contactsync_upsert('mail', '{"email": "a@example.com", "firstname": "A"}');
SELECT contactsync_upsert('mail', '{"email": "a@example.com", "tags": ["a"], "topics": ["b"]}');
SELECT contactsync_upsert('mail', '{"email": "a@example.com", "tags": "a"}');
SELECT contactsync_upsert('mail', '{"email": "a@example.com", "opt_in": "yes"}');
SELECT contactsync_upsert('mail', '{"email": "a@example.com", "attributes": ["plan"]}');
SELECT contactsync_upsert('mail', '{"email": 1}');
SELECT contactsync_upsert('mail', '{"email": "nobody"}');
SELECT contactsync_upsert('mail', '{"email": ""}');
SELECT contactsync_upsert('mail', '{"email": null}');
SELECT contactsync_upsert('mail', '{"first_name": "Jane"}');
SELECT contactsync_upsert('mail', '{}');
SELECT contactsync_upsert('mail', '[{"email": "a@example.com"}]');
SELECT contactsync_upsert('mail', '"a@example.com"');
SELECT contactsync_upsert('mail', 'null');
SELECT contactsync_upsert('mail', jsonb_build_object('email', 'a@example.com', 'attributes', jsonb_build_object('text', repeat('x', 100000))));
-- servers that cannot be used
SELECT contactsync_upsert('nobody', '{"email": "a@example.com"}');
SELECT contactsync_upsert('foreign_one', '{"email": "a@example.com"}');
SELECT contactsync_upsert('unmapped', '{"email": "a@example.com"}');
-- empty and missing arguments
SELECT contactsync_upsert(NULL, '{"email": "a@example.com"}') IS NULL, contactsync_upsert('mail', NULL) IS NULL;
SELECT count(*) FROM contactsync.changes;
DELETE FROM contactsync.queue;

--
-- contactsync_run() and contactsync_wait(), as far as nothing has to be sent
--

CALL contactsync_run();
CALL contactsync_run('mail');
CALL contactsync_wait('mail');
CALL contactsync_run('nobody');
CALL contactsync_run('foreign_one');
CALL contactsync_wait('nobody');
CALL contactsync_wait(NULL);
BEGIN;
CALL contactsync_run();
ROLLBACK;
BEGIN;
CALL contactsync_wait('mail');
ROLLBACK;
CREATE FUNCTION run() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL contactsync_run(); END $$;
SELECT run();
-- but a procedure may call it
DO $$ BEGIN CALL contactsync_run('mail'); END $$;
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}') > 0 AS queued;
CALL contactsync_wait('mail');
CALL contactsync_wait('other');
DELETE FROM contactsync.queue;

--
-- Rows that are deleted, filtered out, or cannot be sent
--

SET client_min_messages = warning;
CREATE TABLE customers (id integer PRIMARY KEY, email text, amount integer, active boolean DEFAULT true);
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "attributes": {"share": "100 / amount"}}',
	filter => 'active', on_delete => 'delete') AS watch \gset
SELECT contactsync_watch('customers', 'other', '{"email": "email"}', filter => 'active') AS other \gset
INSERT INTO customers VALUES (1, 'nobody', 1, true), (2, 'nobody', 0, true), (3, 'nobody', 3, true), (4, 'no body@example.com', 4, true),
	(5, NULL, 5, true), (6, 'six@example.com', 6, false), (7, 'seven@example.com', 1, NULL), (8, 'eight@example.com', 8, true);
DELETE FROM customers WHERE id = 8;
SELECT server, source, key FROM contactsync.changes ORDER BY server, key;
CALL contactsync_run('mail');
SELECT server, source, key FROM contactsync.changes ORDER BY server, key;
SELECT v.server, v.source, v.key, v.upsert_key, v.reason, v.code, v.message, v.field, v.attempts, f.first_at = f.last_at AS once, v.request_id
FROM contactsync.failures v JOIN contactsync.failure f USING (id) ORDER BY v.server, v.key;
SELECT server, source, state, backlog, synced, unchanged, failed, failures, last_success, last_error, last_error_at IS NOT NULL AS at
FROM contactsync.status ORDER BY server, source::text;
CALL contactsync_run();
SELECT server, key, reason FROM contactsync.failures ORDER BY server, key;
SELECT count(*) FROM contactsync.calls;

-- Failing again increases the count; a contact that no longer fails is not a failure.
UPDATE customers SET email = 'still nobody' WHERE id IN (1, 3);
UPDATE customers SET active = false WHERE id = 2;
DELETE FROM customers WHERE id = 5;
CALL contactsync_run();
SELECT v.server, v.key, v.reason, v.attempts, f.last_at > f.first_at AS again
FROM contactsync.failures v JOIN contactsync.failure f USING (id) ORDER BY v.server, v.key;
SELECT server, source, synced, unchanged, failed, failures FROM contactsync.status WHERE source IS NOT NULL ORDER BY server;

-- contactsync_retry()
SELECT contactsync_retry('mail');
SELECT server, source, key FROM contactsync.changes ORDER BY server, key;
CALL contactsync_run();
SELECT server, key, reason, attempts FROM contactsync.failures ORDER BY server, key;
SELECT contactsync_retry('nobody');
SELECT contactsync_retry(NULL) IS NULL;
-- in the transaction that changes the same rows
BEGIN;
UPDATE customers SET email = 'nobody at all';
SELECT contactsync_retry('mail');
SELECT contactsync_retry('mail');
COMMIT;
CALL contactsync_run();
SELECT server, key, reason, attempts FROM contactsync.failures ORDER BY server, key;
SELECT count(*) FROM contactsync.queue;

-- TRUNCATE, twice: the known contacts of the table are examined, and are deleted, or exist again
INSERT INTO contactsync.source_row (endpoint, watch, key, upsert_key, opt_in, withheld)
	SELECT e.id, :watch, k, 'x' || k, '-', false FROM contactsync.endpoint e, unnest('{1,3,100,200}'::text[]) k WHERE e.server = 'mail';
TRUNCATE customers;
TRUNCATE customers;
SELECT server, source, key, contact FROM contactsync.changes ORDER BY server, key;
INSERT INTO customers VALUES (3, 'nobody', 1);
CALL contactsync_run();
SELECT server, key, reason FROM contactsync.failures ORDER BY server, key;
SELECT count(*) FROM contactsync.queue;

-- A watch that no longer matches its table waits, and says why.
UPDATE contactsync.watch SET columns = NULL;		-- otherwise the watch follows
ALTER TABLE customers RENAME COLUMN amount TO quantity;
UPDATE customers SET email = 'nobody really';
CALL contactsync_run();
SELECT server, source, state, reason, since IS NOT NULL AS since, backlog FROM contactsync.status WHERE source IS NOT NULL ORDER BY server;
SELECT server, source, state, reason FROM contactsync.watches ORDER BY server;
SELECT server, key FROM contactsync.changes;
ALTER TABLE customers RENAME COLUMN quantity TO amount;
CALL contactsync_run();
SELECT server, source, state, reason, backlog FROM contactsync.status WHERE source IS NOT NULL ORDER BY server;
SELECT server, key, message FROM contactsync.failures ORDER BY server, key;
-- The filter is evaluated first: it can exclude rows for which the mapping fails.
INSERT INTO customers VALUES (9, 'nobody', 0, false), (10, 'nobody', 0, NULL);
CALL contactsync_run();
SELECT server, key, message FROM contactsync.failures ORDER BY server, key;

-- A filter that fails for some rows affects only those.
SELECT contactsync_unwatch('customers', 'mail'), contactsync_unwatch('customers', 'other');
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}', filter => '100 / amount > 10') > 0 AS watched;
TRUNCATE customers;
INSERT INTO customers SELECT g, 'nobody', g - 3 FROM generate_series(1, 5) g;
INSERT INTO customers SELECT g, 'nobody', 1000 FROM generate_series(6, 1000) g;
CALL contactsync_run();
SELECT key, reason, message FROM contactsync.failures ORDER BY key::integer;
SELECT contactsync_unwatch('customers', 'mail');
SELECT (SELECT count(*) FROM contactsync.failure), (SELECT count(*) FROM contactsync.source_row), (SELECT count(*) FROM contactsync.counter WHERE watch <> 0);
-- Data that a call in flight stored afterwards is deleted later, but not data of a watch that will be restored.
INSERT INTO contactsync.source_row (endpoint, watch, key, upsert_key, opt_in, withheld)
	SELECT 1, w, k, 'x', '-', false FROM unnest(ARRAY[:watch, :other, 1000]) w, generate_series(1, 3) k;
INSERT INTO contactsync.counter (endpoint, watch) VALUES (1, :watch), (1, 1000);
CALL contactsync_run();
SELECT watch, count(*) FROM contactsync.source_row GROUP BY watch ORDER BY watch;
SELECT watch FROM contactsync.counter ORDER BY watch;
TRUNCATE contactsync.source_row, contactsync.counter;

--
-- The views
--

SELECT contactsync_watch('customers', 'mail', '{"email": "email"}') AS watch \gset
SELECT id AS endpoint FROM contactsync.endpoint WHERE server = 'mail' \gset
-- the last one may be about to be created
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, action, synced_at, remote_id, error, opt_in, claimed, opted_out, held, direct)
VALUES (:endpoint, :watch, '1', 'a@example.com', 'u', '2024-01-01', 'r1', NULL, 't', true, false, false, false),
	(:endpoint, :watch, '2', 'b@example.com', 'n', '2024-01-01', NULL, 'note', 't', false, false, false, false),
	(:endpoint, 0, NULL, 'c@example.com', 'u', '2024-01-01', NULL, NULL, 't', false, false, true, true),
	(:endpoint, :watch, '4', 'd@example.com', 'u', '2024-01-01', NULL, NULL, 't', true, true, false, false),
	(:endpoint, :watch, '5', 'e@example.com', 'u', NULL, NULL, NULL, '-', false, false, false, false);
SELECT * FROM contactsync.contacts ORDER BY key;
INSERT INTO contactsync.call (endpoint, started_at, duration, method, path, status, verdict, contacts, failed, attempt, sent, received)
VALUES (:endpoint, '2024-01-01 00:00+00', '0.25s', 'POST', '/v1/contacts', 200, 'done', 2, 1, 1, 100, 20);
SELECT server, duration, method, path, status, verdict, contacts, failed, attempt, sent, received FROM contactsync.calls;
INSERT INTO contactsync.failure (endpoint, watch, key, reason, attempts, first_at, last_at) VALUES (:endpoint, :watch, '1', 'rejected', 1, now(), now());
UPDATE contactsync.endpoint SET state = 'halted', reason = 'unauthorized', since = '2024-01-01 00:00+00', until = '2024-01-02 00:00+00' WHERE id = :endpoint;
UPDATE contactsync.watch SET state = 'broken', reason = 'column gone', since = '2024-01-03 00:00+00' WHERE id = :watch;
SET timezone = UTC;
SELECT server, source, state, reason, since, until, failures, worker FROM contactsync.status ORDER BY server, source::text;
RESET timezone;
-- views on which others rely
SELECT attrelid::regclass AS view, string_agg(format('%s %s', attname, format_type(atttypid, NULL)), ', ' ORDER BY attnum) AS columns
FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'v')
GROUP BY attrelid ORDER BY attrelid::regclass::text;
