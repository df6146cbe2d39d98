-- What is held on one person: shown, and erased.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE TABLE customers (id integer PRIMARY KEY, email text);
CREATE TABLE leads (country text, id integer, email text, PRIMARY KEY (country, id));
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}') AS customers \gset
SELECT contactsync_watch('leads', 'mail', '{"email": "email", "external_id": "country || id"}') AS leads \gset
RESET client_min_messages;
SELECT id AS endpoint FROM contactsync.endpoint \gset
CREATE FUNCTION fill() RETURNS void LANGUAGE sql AS $$
	INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, email, action, synced_at, remote_id) SELECT e.id, w.id, '1', 'jane@example.com', NULL, 'u', '2026-01-01', 'r1'
		FROM contactsync.endpoint e, contactsync.watch w WHERE w.source = 'customers'::regclass;
	INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, email, action, synced_at) SELECT e.id, w.id, '["de", "1"]', 'de1', 'jane@example.com', 'u', '2026-01-02'
		FROM contactsync.endpoint e, contactsync.watch w WHERE w.source = 'leads'::regclass;
	INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, email, action, synced_at) SELECT e.id, w.id, '2', 'joe@example.com', NULL, 'u', '2026-01-01'
		FROM contactsync.endpoint e, contactsync.watch w WHERE w.source = 'customers'::regclass;
	INSERT INTO contactsync.failure (endpoint, watch, key, upsert_key, reason, message, attempts, first_at, last_at) SELECT e.id, w.id, '1', 'jane@example.com', 'rejected', 'no', 1, '2026-01-03', '2026-01-04'
		FROM contactsync.endpoint e, contactsync.watch w WHERE w.source = 'customers'::regclass;
	INSERT INTO contactsync.remote_contact (endpoint, email, pulled_at, opt_in) SELECT id, 'jane@example.com', '2026-01-05', false FROM contactsync.endpoint;
	INSERT INTO contactsync.trace (endpoint, watch, key, upsert_key, started_at, duration, method, url, request, status, verdict) SELECT e.id, w.id, '1', 'jane@example.com', '2026-01-01', '1 s', 'POST', 'https://x/', '{}', 200, 'done'
		FROM contactsync.endpoint e, contactsync.watch w WHERE w.source = 'customers'::regclass;
	INSERT INTO contactsync.call (endpoint, started_at, duration, method, path, status, verdict, contacts, failed, attempt, sent, received, error)
		SELECT id, now(), '1 s', 'PUT', '/contacts/jane%40example.com', 400, 'reject', 1, 1, 1, 1, 1, 'jane@example.com is refused' FROM contactsync.endpoint;
	INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys) SELECT e.id, w.id, pg_current_xact_id(), 1000001, '2026-01-06', 3, '{2,1,3}' FROM contactsync.endpoint e, contactsync.watch w WHERE w.source = 'customers'::regclass;
	INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys) SELECT e.id, w.id, pg_current_xact_id(), 1000002, '2026-01-07', 1, '{1}' FROM contactsync.endpoint e, contactsync.watch w WHERE w.source = 'customers'::regclass;
	INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, contact) SELECT id, 0, pg_current_xact_id(), 1000003, '2026-01-08', 1, '{"email": "Jane@Example.com ", "first_name": "Jane"}' FROM contactsync.endpoint;
	UPDATE contactsync.endpoint SET reason = 'request_refused: jane@example.com';
$$;
-- whatever holds the address or the key
CREATE FUNCTION mentions(what text) RETURNS TABLE (place text, n bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR place IN SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'r' ORDER BY 1 LOOP
		EXECUTE format('SELECT count(*) FROM %s t WHERE lower(t::text) LIKE lower(%L)', place, '%' || what || '%') INTO n;
		IF n > 0 THEN RETURN NEXT; END IF;
	END LOOP;
END $$;

SELECT fill();
SELECT * FROM mentions('jane');
SELECT at::date, server, source, key, event, detail - 'id' AS detail FROM contactsync_find(' Jane@example.com');
SELECT count(*) FROM contactsync_find('nobody@example.com');

-- of the rows that it was sent for one is still there
INSERT INTO customers VALUES (1, 'jane@example.com');
DELETE FROM contactsync.queue WHERE id < 1000000;
SELECT * FROM contactsync_forget('jane@example.com');
SELECT * FROM mentions('jane');
SELECT keys, n FROM contactsync.queue;
SELECT key FROM contactsync.contact;
SELECT path, error FROM contactsync.call;
-- but for the note that is there until whoever delivers has forgotten it as well
SELECT watch = 0 AS direct, key FROM contactsync.forgotten ORDER BY watch, key;
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, action) VALUES (:endpoint, :customers, '1', 'jane@example.com', 'u');
SELECT contactsync_pause('mail');
SET client_min_messages = error;
CALL contactsync_run();
RESET client_min_messages;
SELECT * FROM mentions('jane');
SELECT count(*) FROM contactsync.forgotten;
SELECT count(*) FROM contactsync_find('jane@example.com');
SELECT * FROM contactsync_forget('jane@example.com');

-- by the key of a row
DELETE FROM contactsync.contact;
TRUNCATE contactsync.queue;
SELECT fill();
SELECT * FROM contactsync_forget('leads', 'mail', ARRAY['de', '1']);
SELECT key FROM contactsync.contact ORDER BY key;
DELETE FROM customers;
TRUNCATE contactsync.queue;
SELECT * FROM contactsync_forget('customers', 'mail', 1);
SELECT place FROM mentions('jane');
SELECT contactsync_forget('customers', 'mail', NULL::text);
SELECT contactsync_forget('customers', 'mail', 'x');
SELECT contactsync_forget('customers', 'nobody', 1);

-- who is traced
SELECT contactsync_trace('mail', 'Jane@Example.com');
SELECT contactsync_trace_row('leads', 'mail', '["de", "7"]');
SELECT watch = :leads AS row, contact, until > now() + interval '6 days' AS until FROM contactsync.traced ORDER BY 1;
SELECT contactsync_trace('mail', 'jane@example.com', false);
SELECT contactsync_trace_row('leads', 'mail', ARRAY['de', '7'], false);
SELECT count(*) FROM contactsync.traced;
SELECT contactsync_trace('nobody', 'jane@example.com');

-- somebody else's
DELETE FROM contactsync.contact;
TRUNCATE contactsync.queue;
SELECT fill();
CREATE ROLE regress_person;
SET ROLE regress_person;
SELECT count(*) FROM contactsync_find('jane@example.com');
SELECT * FROM contactsync_forget('jane@example.com');
SELECT * FROM contactsync_forget('customers', 'mail', 1);
SELECT contactsync_trace('mail', 'jane@example.com');
SELECT contactsync_trace_row('customers', 'mail', 1);
SELECT count(*) FROM contactsync.traces;
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER mail TO regress_person;
SET ROLE regress_person;
SELECT contactsync_trace('mail', 'jane@example.com');
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER mail FROM regress_person;
DROP ROLE regress_person;
SELECT count(*) FROM contactsync_find('jane@example.com');
