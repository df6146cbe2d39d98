-- What is held on a person is found and erased by indexes, however many others there are.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_person_index;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_person_index;
GRANT CREATE ON SCHEMA public TO regress_person_index;
SET SESSION AUTHORIZATION regress_person_index;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE TABLE customers (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}') AS watch \gset
RESET SESSION AUTHORIZATION;
SELECT endpoint FROM contactsync.watch WHERE id = :watch \gset

-- Everything is known of 5000 persons.
CREATE FUNCTION email(i int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'c' || i || '@example.com' $$;
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, email, action, synced_at, opt_in, claimed, opted_out, held, direct)
	SELECT :endpoint, :watch, i, 'x' || i, email(i), 'u', now(), 't', true, false, false, false FROM generate_series(1, 5000) i;
INSERT INTO contactsync.source_row (watch, key, endpoint, upsert_key, opt_in, withheld)
	SELECT watch, key, endpoint, upsert_key, opt_in, false FROM contactsync.contact;
INSERT INTO contactsync.departure (endpoint, upsert_key, watch, key, departed_at)
	SELECT endpoint, upsert_key, watch, key, now() FROM contactsync.contact WHERE key::int % 2 = 0;
INSERT INTO contactsync.remote_contact (endpoint, email, pulled_at) SELECT endpoint, email, now() FROM contactsync.contact;
INSERT INTO contactsync.account (id, provider, base_url, name, role) VALUES (77, 'mailingcore', '', 't1', 'regress_person_index');
INSERT INTO contactsync.consent (account, hash, state) SELECT 77, contactsync.consent_hash(email), 'o' FROM contactsync.contact;
INSERT INTO contactsync.failure (endpoint, watch, key, upsert_key, contact, reason, attempts, first_at, last_at)
	SELECT endpoint, watch, key, CASE WHEN key::int % 2 = 0 THEN upsert_key END,
		CASE WHEN key::int % 2 = 1 THEN jsonb_build_object('email', email) END, 'rejected', 1, now(), now() FROM contactsync.contact;

-- Which tables are read from beginning to end, or more than some rows of, in this transaction?
CREATE VIEW read_much AS
	SELECT relname, seq_tup_read > 0 AS scanned, COALESCE(idx_tup_fetch, 0) > 100 AS by_index
	FROM pg_stat_xact_user_tables
	WHERE schemaname = 'contactsync' AND (seq_tup_read > 100 OR idx_tup_fetch > 100);
GRANT SELECT ON read_much TO regress_person_index;

SET ROLE regress_person_index;
SELECT pg_stat_force_next_flush();
BEGIN;
SELECT event, count(*) FROM contactsync_find('C17@example.com ') GROUP BY event ORDER BY event;
SELECT event, count(*) FROM contactsync_find('C18@example.com ') GROUP BY event ORDER BY event;
TABLE read_much;
COMMIT;
SELECT pg_stat_force_next_flush();
BEGIN;
SELECT * FROM contactsync_forget('C17@example.com ');
SELECT * FROM contactsync_forget('C18@example.com ');
SELECT * FROM contactsync_forget('C19@example.com', suppression => false);
TABLE read_much;
COMMIT;
-- by the key of a row, the contacts of its server and role are read: the row may have been sent as another one than it stands for
SELECT pg_stat_force_next_flush();
BEGIN;
SELECT * FROM contactsync_forget('customers', 'mail', 20);
TABLE read_much;
COMMIT;
SELECT count(*) FROM contactsync.contacts;
SELECT contactsync_unwatch('customers', 'mail');
DROP SERVER mail CASCADE;
RESET ROLE;
DROP VIEW read_much;
DROP OWNED BY regress_person_index CASCADE;
DROP ROLE regress_person_index;
