-- Data about one person: show it, and erase it.
-- Both as plain roles that own only a server, which must see and erase only their own data.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_person_shop;
CREATE ROLE regress_person_boss IN ROLE regress_person_shop;
CREATE ROLE regress_person_rival;
CREATE ROLE regress_person_nobody;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_person_shop, regress_person_rival;
CREATE TABLE customers (id integer PRIMARY KEY, email text);
CREATE TABLE leads (country text, id integer, email text, PRIMARY KEY (country, id));
GRANT SELECT, TRIGGER ON customers TO regress_person_shop, regress_person_rival;
GRANT SELECT, TRIGGER ON leads TO regress_person_shop;
SET SESSION AUTHORIZATION regress_person_shop;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}') AS customers \gset
SELECT contactsync_watch('leads', 'mail', '{"email": "email", "external_id": "country || id"}') AS leads \gset
SET SESSION AUTHORIZATION regress_person_rival;
CREATE SERVER rival FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't2', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER rival OPTIONS (api_key 'mc_live_secret');
SELECT contactsync_watch('customers', 'rival', '{"email": "email"}') AS rival \gset
RESET SESSION AUTHORIZATION;
RESET client_min_messages;
SELECT id AS endpoint FROM contactsync.endpoint WHERE server = 'mail' \gset
-- all kinds of data that can be stored about Jane, at each server
CREATE FUNCTION fill() RETURNS void LANGUAGE sql AS $$
	INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, email, action, synced_at, remote_id, opt_in, claimed, opted_out, held, direct)
		SELECT endpoint, id, '1', 'jane@example.com', NULL::text, 'u'::"char", timestamptz '2026-01-01', 'r1', 't'::"char", true, false, false, false FROM contactsync.watch WHERE source = 'customers'::regclass
		UNION ALL SELECT endpoint, id, '["de", "1"]', 'de1', 'jane@example.com', 'u', '2026-01-02', NULL, '-', false, false, false, false FROM contactsync.watch WHERE source = 'leads'::regclass
		UNION ALL SELECT endpoint, id, '2', 'joe@example.com', NULL, 'u', '2026-01-01', NULL, '-', false, false, false, false FROM contactsync.watch WHERE source = 'customers'::regclass;
	INSERT INTO contactsync.source_row (watch, key, endpoint, upsert_key, opt_in, withheld)
		SELECT watch, key, endpoint, upsert_key, opt_in, false FROM contactsync.contact;
	INSERT INTO contactsync.failure (endpoint, watch, key, upsert_key, reason, message, attempts, first_at, last_at) SELECT endpoint, id, '1', 'jane@example.com', 'rejected', 'no', 1, '2026-01-03', '2026-01-04'
		FROM contactsync.watch WHERE source = 'customers'::regclass;
	INSERT INTO contactsync.remote_contact (endpoint, email, pulled_at, opt_in) SELECT id, 'jane@example.com', '2026-01-05', false FROM contactsync.endpoint;
	INSERT INTO contactsync.trace (endpoint, watch, key, upsert_key, started_at, duration, method, url, request, status, verdict) SELECT endpoint, id, '1', 'jane@example.com', '2026-01-01', '1 s', 'POST', 'https://x/', '{}', 200, 'done'
		FROM contactsync.watch WHERE source = 'customers'::regclass;
	INSERT INTO contactsync.call (endpoint, started_at, duration, method, path, status, verdict, contacts, failed, attempt, sent, received, error)
		SELECT id, now(), '1 s', 'PUT', '/contacts/jane%40example.com', 400, 'reject', 1, 1, 1, 1, 1, 'jane@example.com is refused' FROM contactsync.endpoint;
	INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys) SELECT endpoint, id, pg_current_xact_id(), 1000001, '2026-01-06', 3, '{2,1,3}' FROM contactsync.watch WHERE source = 'customers'::regclass;
	INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys) SELECT endpoint, id, pg_current_xact_id(), 1000002, '2026-01-07', 1, '{1}' FROM contactsync.watch WHERE source = 'customers'::regclass;
	INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, contact) SELECT id, 0, pg_current_xact_id(), 1000003, '2026-01-08', 1, '{"email": "Jane@Example.com ", "first_name": "Jane"}' FROM contactsync.endpoint;
	UPDATE contactsync.endpoint SET reason = 'request_refused: jane@example.com';
	UPDATE contactsync.watch SET reason = 'removals: 20 contacts would be removed at the provider, 0 would stay. The first are jane@example.com.';
$$;
CREATE FUNCTION empty() RETURNS void LANGUAGE sql AS $$
	DELETE FROM contactsync.contact;
	DELETE FROM contactsync.source_row;
	DELETE FROM contactsync.remaining_row;
	DELETE FROM contactsync.failure;
	DELETE FROM contactsync.remote_contact;
	DELETE FROM contactsync.trace;
	DELETE FROM contactsync.call;
	DELETE FROM contactsync.queue;
$$;
-- where the address or the key is stored, and for which server
CREATE FUNCTION mentions(what text) RETURNS TABLE (place text, mail bigint, rival bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR place IN SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'r' ORDER BY 1 LOOP
		EXECUTE format('SELECT count(*) FILTER (WHERE e.server = ''mail''), count(*) FILTER (WHERE e.server = ''rival'') FROM %s t LEFT JOIN contactsync.endpoint e'
			' ON e.id = COALESCE(to_jsonb(t) ->> ''endpoint'', to_jsonb(t) ->> ''id'')::int WHERE lower(t::text) LIKE lower(%L)', place, '%' || what || '%') INTO mail, rival;
		IF mail + rival > 0 THEN RETURN NEXT; END IF;
	END LOOP;
END $$;

SELECT fill();
SELECT * FROM mentions('jane');
SET SESSION AUTHORIZATION regress_person_shop;
SELECT at::date, server, source, key, event, detail - 'id' AS detail FROM contactsync_find(' Jane@example.com') ORDER BY at, event;
SELECT count(*) FROM contactsync_find('nobody@example.com');
SET SESSION AUTHORIZATION regress_person_rival;
SELECT at::date, server, source, key, event FROM contactsync_find('jane@example.com') ORDER BY at, event;
SET SESSION AUTHORIZATION regress_person_nobody;
SELECT * FROM contactsync_find('jane@example.com');
SELECT * FROM contactsync_forget('jane@example.com');
RESET SESSION AUTHORIZATION;
SELECT * FROM mentions('jane');

-- of the rows that it was sent for, one still exists
INSERT INTO customers VALUES (1, 'jane@example.com');
DELETE FROM contactsync.queue WHERE id < 1000000;
SET SESSION AUTHORIZATION regress_person_shop;
SELECT * FROM contactsync_forget('jane@example.com');
SELECT count(*) FROM contactsync_find('jane@example.com');
RESET SESSION AUTHORIZATION;
SELECT * FROM mentions('jane');
SELECT keys, n FROM contactsync.queue WHERE endpoint = :endpoint;
SELECT key FROM contactsync.contact WHERE endpoint = :endpoint;
SELECT path, error FROM contactsync.call WHERE endpoint = :endpoint;
-- except for the note that exists until the delivering process has forgotten it as well
SELECT watch = 0 AS direct, key FROM contactsync.forgotten ORDER BY watch, key;
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, action, opt_in, claimed, opted_out, held, direct)
VALUES (:endpoint, :customers, '1', 'jane@example.com', 'u', '-', false, false, false, false);
INSERT INTO contactsync.source_row (watch, key, endpoint, upsert_key, opt_in, withheld) VALUES (:customers, '1', :endpoint, 'jane@example.com', '-', false);
SET SESSION AUTHORIZATION regress_person_shop;
SELECT contactsync_pause('mail');
SET client_min_messages = error;
CALL contactsync_run();
RESET client_min_messages;
SELECT count(*) FROM contactsync_find('jane@example.com');
SELECT * FROM contactsync_forget('jane@example.com');
RESET SESSION AUTHORIZATION;
SELECT * FROM mentions('jane');
SELECT count(*) FROM contactsync.forgotten WHERE key <> 'jane@example.com';

-- the data of the other role exists until that role erases it
SET SESSION AUTHORIZATION regress_person_rival;
SELECT count(*) FROM contactsync_find('jane@example.com');
SELECT * FROM contactsync_forget('jane@example.com');
SELECT count(*) FROM contactsync_find('jane@example.com');
RESET SESSION AUTHORIZATION;
SELECT place FROM mentions('jane') WHERE rival > 0;

-- by the key of a row
SELECT empty();
SELECT fill();
SET SESSION AUTHORIZATION regress_person_shop;
SELECT * FROM contactsync_forget('leads', 'mail', ARRAY['de', '1']);
RESET SESSION AUTHORIZATION;
SELECT * FROM mentions('jane');
DELETE FROM customers;
DELETE FROM contactsync.queue WHERE id < 1000000;
SET SESSION AUTHORIZATION regress_person_shop;
SELECT * FROM contactsync_forget('customers', 'mail', 1);
SELECT contactsync_forget('customers', 'mail', NULL::text);
SELECT contactsync_forget('customers', 'mail', 'x');
SELECT contactsync_forget('customers', 'nobody', 1);
SELECT * FROM contactsync_forget('customers', 'rival', 1);
RESET SESSION AUTHORIZATION;
SELECT * FROM mentions('jane');

-- a member of the role acts as the role, a superuser as all roles
SELECT empty();
SELECT fill();
SET SESSION AUTHORIZATION regress_person_boss;
SELECT server, count(*) FROM contactsync_find('jane@example.com') GROUP BY 1;
SELECT what, rows FROM contactsync_forget('jane@example.com') WHERE what = 'contact';
RESET SESSION AUTHORIZATION;
SELECT server, count(*) FROM contactsync_find('jane@example.com') GROUP BY 1;
SELECT what, rows FROM contactsync_forget('jane@example.com') WHERE what = 'contact';
SELECT server, count(*) FROM contactsync_find('jane@example.com') GROUP BY 1;

-- the hash is that of the normalized address, as long as half a SHA-256, and depends on the key
SELECT contactsync.consent_hash(E' Jane@Example.COM=20\n') = contactsync.consent_hash('jane@example.com') AS same,
	contactsync.consent_hash('jane@example.com') = contactsync.consent_hash('joe@example.com') AS joe, length(contactsync.consent_hash('jane@example.com'));
-- consent is remembered as closed, without a time, unless it is to be forgotten as well
SELECT empty();
TRUNCATE contactsync.forgotten, contactsync.consent;
SELECT fill();
INSERT INTO contactsync.account (provider, base_url, name, role)
	SELECT 'mailingcore', 'http://127.0.0.1:9', server, role FROM contactsync.endpoint ON CONFLICT DO NOTHING;
UPDATE contactsync.endpoint e SET account = a.id FROM contactsync.account a WHERE a.name = e.server AND a.role = e.role;
INSERT INTO contactsync.consent (account, hash, state, opt_in_at)
	SELECT account, contactsync.consent_hash(a), 'c', '2026-01-01' FROM contactsync.endpoint, unnest('{jane@example.com,joe@example.com}'::text[]) a;
CREATE VIEW memory AS SELECT e.server, a AS address, c.state, c.opt_in_at::date FROM contactsync.endpoint e JOIN contactsync.consent c USING (account)
	JOIN unnest('{jane@example.com,joe@example.com}'::text[]) a ON c.hash = contactsync.consent_hash(a) ORDER BY 1, 2;
SET SESSION AUTHORIZATION regress_person_shop;
SELECT what, rows FROM contactsync_forget('jane@example.com') WHERE what = 'contact';
RESET SESSION AUTHORIZATION;
SELECT * FROM memory;
SET SESSION AUTHORIZATION regress_person_shop;
SELECT what, rows FROM contactsync_forget('jane@example.com', suppression => false) WHERE what = 'contact';
RESET SESSION AUTHORIZATION;
SELECT * FROM memory;
SELECT count(*) FROM contactsync.consent;

-- so it is by the key of a row, whether anything was remembered of the address or not
SELECT empty();
SELECT fill();
TRUNCATE contactsync.consent;
INSERT INTO contactsync.consent (account, hash, state, opt_in_at)
	SELECT account, contactsync.consent_hash(a), 'c', '2026-01-01' FROM contactsync.endpoint, unnest('{jane@example.com,joe@example.com}'::text[]) a
	WHERE server = 'mail';
-- the row was sent with another address before
DELETE FROM contactsync.source_row WHERE endpoint = :endpoint AND upsert_key = 'joe@example.com';
UPDATE contactsync.contact SET watch = :customers, key = '1', claimed = true WHERE endpoint = :endpoint AND upsert_key = 'joe@example.com';
SET SESSION AUTHORIZATION regress_person_shop;
SELECT what, rows FROM contactsync_forget('customers', 'mail', 1) WHERE what = 'contact';
RESET SESSION AUTHORIZATION;
SELECT * FROM memory;
TRUNCATE contactsync.consent;
SELECT empty();
SELECT fill();
SET SESSION AUTHORIZATION regress_person_shop;
SELECT what, rows FROM contactsync_forget('customers', 'mail', 1) WHERE what = 'contact';
RESET SESSION AUTHORIZATION;
SELECT * FROM memory;
TRUNCATE contactsync.consent, contactsync.forgotten;
INSERT INTO contactsync.consent (account, hash, state, opt_in_at)
	SELECT account, contactsync.consent_hash(a), 'c', '2026-01-01' FROM contactsync.endpoint, unnest('{jane@example.com,joe@example.com}'::text[]) a
	WHERE NOT (server = 'mail' AND a LIKE 'jane%');

-- a row that shares its contact is forgotten, but the contact is not
SELECT empty();
SELECT fill();
INSERT INTO contactsync.source_row (watch, key, endpoint, upsert_key, opt_in, withheld) VALUES (:customers, '9', :endpoint, 'jane@example.com', '-', false);
SET SESSION AUTHORIZATION regress_person_shop;
SELECT key, event FROM contactsync_find('jane@example.com') WHERE event = 'synced' ORDER BY key;
SELECT what, rows FROM contactsync_forget('customers', 'mail', 9, suppression => false) WHERE what = 'contact';
SELECT key, event FROM contactsync_find('jane@example.com') WHERE event = 'synced' ORDER BY key;
SELECT what, rows FROM contactsync_forget('customers', 'mail', 1, suppression => false) WHERE what = 'contact';
SELECT key, event FROM contactsync_find('jane@example.com') WHERE event = 'synced' ORDER BY key;
RESET SESSION AUTHORIZATION;
SELECT server, address FROM memory;

-- a removal that is due is still made if the watch removes contacts, and no row stands for the contact
SELECT empty();
SELECT fill();
UPDATE contactsync.watch SET on_delete = 'delete' WHERE id = :leads;
DELETE FROM contactsync.source_row WHERE watch IN (:customers, :leads) AND key <> '2';
INSERT INTO contactsync.departure (endpoint, upsert_key, watch, key, departed_at) VALUES
	(:endpoint, 'de1', :leads, '["de", "1"]', '2026-01-09'), (:endpoint, 'jane@example.com', :customers, '1', '2026-01-09');
SET SESSION AUTHORIZATION regress_person_shop;
SELECT at::date, key, event, detail FROM contactsync_find('jane@example.com') WHERE event = 'departed' ORDER BY key;
SELECT what, rows FROM contactsync_forget('jane@example.com') WHERE what = 'contact';
SELECT event, detail FROM contactsync_find('jane@example.com');
RESET SESSION AUTHORIZATION;
SELECT * FROM memory;
DELETE FROM contactsync.departure;
DROP VIEW memory;

-- traced contacts
SET SESSION AUTHORIZATION regress_person_shop;
SELECT contactsync_trace('mail', 'Jane@Example.com');
SELECT contactsync_trace_row('leads', 'mail', '["de", "7"]');
RESET SESSION AUTHORIZATION;
SELECT endpoint = :endpoint AS own, watch = :leads AS row, contact, until > now() + interval '6 days' AS until FROM contactsync.traced ORDER BY 2;
SET SESSION AUTHORIZATION regress_person_shop;
SELECT contactsync_trace('mail', 'jane@example.com', false);
SELECT contactsync_trace_row('leads', 'mail', ARRAY['de', '7'], false);
SELECT contactsync_trace('nobody', 'jane@example.com');
SELECT contactsync_trace('rival', 'jane@example.com');
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM contactsync.traced;

-- a role without a server
SET SESSION AUTHORIZATION regress_person_nobody;
SELECT * FROM contactsync_forget('customers', 'mail', 1);
SELECT contactsync_trace('mail', 'jane@example.com');
SELECT contactsync_trace_row('customers', 'mail', 1);
SELECT count(*) FROM contactsync.traces;
RESET SESSION AUTHORIZATION;
GRANT USAGE ON FOREIGN SERVER mail TO regress_person_nobody;
SET SESSION AUTHORIZATION regress_person_nobody;
SELECT contactsync_trace('mail', 'jane@example.com');
RESET SESSION AUTHORIZATION;

-- what is closed stays so when a contact whose consent was claimed goes with its server
SELECT empty();
SELECT fill();
TRUNCATE contactsync.consent;
INSERT INTO contactsync.consent (account, hash, state) SELECT account, contactsync.consent_hash('jane@example.com'), 'o' FROM contactsync.endpoint WHERE server = 'rival';
SELECT claimed, opted_out FROM contactsync.contact c JOIN contactsync.endpoint e ON e.id = c.endpoint WHERE server = 'rival' AND upsert_key = 'jane@example.com';
DROP SERVER rival CASCADE;
SELECT a.name, c.state FROM contactsync.consent c JOIN contactsync.account a ON a.id = c.account WHERE hash = contactsync.consent_hash('jane@example.com');

DROP OWNED BY regress_person_shop, regress_person_rival, regress_person_nobody CASCADE;
DROP ROLE regress_person_boss, regress_person_shop, regress_person_rival, regress_person_nobody;
