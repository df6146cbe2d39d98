-- What would be sent of rows, without a watch and with one, and nothing is sent; what a dry run counts.
\set SHOW_CONTEXT never
\pset format unaligned
SET client_min_messages = warning;
CREATE ROLE regress_trial;
CREATE ROLE regress_trial_other;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_trial;
GRANT CREATE ON SCHEMA public TO regress_trial;
SET SESSION AUTHORIZATION regress_trial;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't');
CREATE SERVER spot FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee');
CREATE SERVER owl FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat', topic_id 't');
CREATE SERVER lark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', check_fields 'false');
CREATE SERVER melt FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'b');
CREATE TABLE people (id integer PRIMARY KEY, email text, name text, wants boolean, born date, ok boolean DEFAULT true);
INSERT INTO people VALUES
	(1, ' Ann@Example.com', 'Ann', true, '2000-01-02', true), (2, 'bob@example.com', 'Bob', false, NULL, true), (3, 'nobody', 'Nobody', true, NULL, true),
	(4, NULL, 'None', NULL, NULL, true), (5, 'eve@example.com', 'Eve', NULL, NULL, true), (6, 'ann@example.com', 'Ann again', true, NULL, true),
	(7, 'hidden@example.com', 'Hidden', true, NULL, false), (8, 'zoe@example.com', 'Zoe', true, NULL, true);
\set mapping '{"email": "email", "external_id": "id", "opt_in": "wants", "attributes": {"name": "name", "born": "born", "rest": "10 / (id - 8)"}}'

-- Without a user mapping and without a watch.
SELECT key, outcome, reason, message, contact, consent, difference, sent_at, upsert_key FROM contactsync_try('people', 'mail', :'mapping', 'ok');
SELECT key, method, url, body FROM contactsync_try('people', 'mail', :'mapping', 'ok', rows => 2);
SELECT key, curl FROM contactsync_try('people', 'mail', :'mapping', 'ok', rows => 1);
SELECT key, outcome, contact FROM contactsync_try('people', 'mail', :'mapping', keys => ARRAY[7, 1, 99]);
SELECT key, outcome, message FROM contactsync_try('people', 'mail', :'mapping', 'ok', keys => ARRAY[7, 99]);
SELECT key, outcome FROM contactsync_try('people', 'mail', :'mapping', keys => ARRAY['1', '2']);
SELECT key, outcome, contact FROM contactsync_try('people', 'mail', rows => 1);
-- What is withheld, and what would be created, at each provider.
SELECT s.server, t.key, outcome, message, consent, method, url, body
FROM (VALUES ('spot'::name, '{"external_id": "id", "email": "email", "opt_in": "wants"}'::jsonb), ('owl', '{"email": "email", "opt_in": "wants"}'),
	('lark', '{"email": "email", "opt_in": "wants"}'), ('melt', '{"email": "email"}')) AS s (server, mapping),
	contactsync_try('people', s.server, s.mapping, keys => ARRAY[1, 2]) AS t ORDER BY s.server, t.key;

-- Nothing was sent, and nothing stored.
SELECT count(*) FROM contactsync.watches;
SELECT count(*) FROM contactsync.status;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'people'::regclass;

-- Errors are those of contactsync_watch().
SELECT * FROM contactsync_try('people', 'mail', '{"email": "mail"}');
SELECT * FROM contactsync_try('people', 'mail', '{"external_id": "id"}');
SELECT * FROM contactsync_try('people', 'mail', :'mapping', filter => 'name');
SELECT * FROM contactsync_try('people', 'nobody', :'mapping');
SELECT * FROM contactsync_try(NULL, 'mail', :'mapping');
SELECT * FROM contactsync_try('people', 'mail', :'mapping', rows => NULL);
SELECT * FROM contactsync_try('people', 'mail', :'mapping', rows => -1);
SELECT * FROM contactsync_try('people', 'mail', :'mapping', rows => 1001);
SELECT * FROM contactsync_try('people', 'mail', :'mapping', keys => ARRAY[NULL::integer]);
SELECT * FROM contactsync_try('people', 'mail', :'mapping', keys => ARRAY['one']);
SELECT count(*) FROM contactsync_try('people', 'mail', :'mapping', rows => 0);
SELECT count(*) FROM contactsync_try('people', 'mail', :'mapping', keys => '{}'::integer[]);
SELECT * FROM contactsync_try('contactsync.status', 'mail', '{"email": "server"}');

-- A view, which is read by the columns that are named; a key of several columns.
CREATE VIEW adults AS SELECT id, email, 'eu'::text AS region FROM people WHERE id < 3;
SELECT * FROM contactsync_try('adults', 'mail', '{"email": "email"}');
SELECT key, outcome, contact FROM contactsync_try('adults', 'mail', '{"email": "email"}', key_columns => '{region, id}');
SELECT key, outcome FROM contactsync_try('adults', 'mail', '{"email": "email"}', key_columns => '{region, id}', keys => ARRAY['["eu", "2"]']);
SELECT key, outcome FROM contactsync_try('adults', 'mail', '{"email": "email"}', key_columns => '{region, id}', keys => ARRAY[['eu', '2'], ['us', '1']]);
SELECT key, outcome FROM contactsync_try('adults', 'mail', '{"email": "email"}', key_columns => '{region, id}', keys => ARRAY['eu', '2']);

-- Rights: who may not read the table or use the server sees nothing, and expressions run as the caller.
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_trial_other;
SELECT * FROM contactsync_try('people', 'mail', '{"email": "email"}');
RESET SESSION AUTHORIZATION;
GRANT USAGE ON FOREIGN SERVER mail TO regress_trial_other;
SET SESSION AUTHORIZATION regress_trial_other;
SELECT * FROM contactsync_try('people', 'mail', '{"email": "email"}');
RESET SESSION AUTHORIZATION;
GRANT SELECT ON people TO regress_trial_other;
GRANT CREATE ON SCHEMA public TO regress_trial_other;
CREATE TABLE secrets AS SELECT 'secret'::text AS secret;
SET SESSION AUTHORIZATION regress_trial_other;
SELECT * FROM contactsync_try('people', 'mail', '{"email": "email"}');
CREATE TABLE mine AS SELECT id, email FROM people;
ALTER TABLE mine ADD PRIMARY KEY (id);
SELECT key, outcome, contact FROM contactsync_try('mine', 'mail', '{"email": "email", "first_name": "CURRENT_USER"}', rows => 1);
SELECT * FROM contactsync_try('mine', 'mail', '{"email": "email", "first_name": "(SELECT secret FROM secrets)"}', rows => 1);
-- A row security policy applies.
ALTER TABLE mine ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY even ON mine USING (id % 2 = 0);
SELECT key, outcome FROM contactsync_try('mine', 'mail', '{"email": "email"}', rows => 3);
SELECT key, outcome, message FROM contactsync_try('mine', 'mail', '{"email": "email"}', keys => ARRAY[1]);
-- An expression cannot write.
CREATE FUNCTION write() RETURNS text LANGUAGE plpgsql AS $$ BEGIN DELETE FROM mine; RETURN 'x'; END $$;
SELECT key, outcome, reason, message FROM contactsync_try('mine', 'mail', '{"email": "email", "first_name": "write()"}', rows => 1);
SET search_path = pg_catalog;
SELECT key, outcome FROM public.contactsync_try('public.mine', 'mail', '{"email": "email"}', rows => 1);
RESET search_path;
RESET SESSION AUTHORIZATION;

-- With a watch: what was never sent, what was, and how that differs.
SET SESSION AUTHORIZATION regress_trial;
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'k');
SELECT contactsync_watch('people', 'mail', '{"email": "email", "external_id": "id", "opt_in": "wants", "attributes": {"name": "name"}}', 'ok', on_delete => 'delete') > 0 AS watched;
SELECT key, outcome, reason, message, contact, consent, difference, sent_at, method, body FROM contactsync_preview('people', 'mail', ARRAY[1, 2, 3, 7, 99]);
-- As if some had been sent.
RESET SESSION AUTHORIZATION;
CREATE FUNCTION sent(ids integer[], opt_in "char", claimed boolean, opted_out boolean) RETURNS void LANGUAGE sql AS $$
	INSERT INTO contactsync.contact (endpoint, upsert_key, email, action, digest, synced_at, watch, key, opt_in, claimed, opted_out, held, direct)
	SELECT w.endpoint, p.id, lower(trim(p.email)), 'u', d.digest[1], '2026-01-02 03:04+00', w.id, p.id, opt_in, claimed, opted_out, false, false
	FROM contactsync.watch w, people p, contactsync_preview('mail', jsonb_build_object('email', p.email, 'external_id', p.id::text, 'opt_in', p.wants, 'attributes', jsonb_build_object('name', p.name))) AS d
	WHERE p.id = ANY (ids);
	INSERT INTO contactsync.source_row (watch, key, endpoint, upsert_key, opt_in, withheld)
	SELECT w.id, i, w.endpoint, i, opt_in, false FROM contactsync.watch w, unnest(ids) AS i;
$$;
SELECT sent('{1}', 't', true, false), sent('{2, 5}', 'f', false, false), sent('{8}', 't', true, true), sent('{7}', 't', true, false);
UPDATE people SET name = 'Robert' WHERE id = 2;
UPDATE people SET email = 'eve@example.org', wants = true WHERE id = 5;
DELETE FROM contactsync.queue;
SET SESSION AUTHORIZATION regress_trial;
SET timezone = 'UTC';
SELECT key, outcome, message, consent, difference, sent_at, method, body FROM contactsync_preview('people', 'mail', ARRAY[1, 2, 5, 6, 7, 8]);
DELETE FROM people WHERE id = 1;
SELECT key, outcome, message FROM contactsync_preview('people', 'mail', ARRAY[1]);
INSERT INTO people VALUES (1, 'ann@example.com', 'Ann', true);
UPDATE people SET ok = true WHERE id = 7;
-- A row that says yes since it was sent is a word of the person if it is sent as a change: shown is what may be claimed.
SELECT key, consent, body FROM contactsync_preview('people', 'mail', ARRAY[5]);
-- What was claimed is claimed again if the user says that the provider lost it.
BEGIN;
SELECT contactsync_mark_stale('mail', claims => 'again');
SELECT key, outcome, consent, difference, body FROM contactsync_preview('people', 'mail', ARRAY[7, 8]);
SELECT key, outcome, consent FROM contactsync_try('people', 'mail', '{"email": "email", "external_id": "id", "opt_in": "wants"}', keys => ARRAY[7, 8]);
ROLLBACK;
-- Who is new is proved by listing the contacts of the provider: not yet, done, and impossible.
INSERT INTO people VALUES (10, 'new@example.com', 'New', true), (11, 'listed@example.com', 'Listed', true);
SELECT key, outcome, consent, body FROM contactsync_preview('people', 'mail', ARRAY[10, 11]);
RESET SESSION AUTHORIZATION;
UPDATE contactsync.endpoint SET learned_at = now();
INSERT INTO contactsync.remote_contact (endpoint, email, opt_in, pulled_at) SELECT id, 'listed@example.com', false, now() FROM contactsync.endpoint;
SET SESSION AUTHORIZATION regress_trial;
SELECT key, outcome, consent, body FROM contactsync_preview('people', 'mail', ARRAY[10, 11]);
RESET SESSION AUTHORIZATION;
UPDATE contactsync.endpoint SET learned_at = NULL, unlearnable = 'no right to list';
SET SESSION AUTHORIZATION regress_trial;
SELECT key, outcome, consent, body FROM contactsync_preview('people', 'mail', ARRAY[10]);
-- Both forms of the function, and what is neither.
SELECT method FROM contactsync_preview('mail', '{"email": "jane@example.com"}');
SELECT outcome FROM contactsync_preview('people', 'mail', keys => ARRAY(SELECT id FROM people WHERE id = 2));
SELECT outcome FROM contactsync_preview('people', 'mail', ARRAY['2']);
SELECT * FROM contactsync_preview('people', 'spot', ARRAY[1]);
SELECT * FROM contactsync_preview('people', 'mail', NULL::integer[]);
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_trial_other;
SELECT * FROM contactsync_preview('people', 'mail', ARRAY[2]);
RESET SESSION AUTHORIZATION;

-- A dry run counts rows and contacts, which several rows can be, and shows some keys and a message.
SET SESSION AUTHORIZATION regress_trial;
SELECT contactsync_unwatch('people', 'mail');
CREATE TABLE twins (id integer PRIMARY KEY, email text, wants boolean);
INSERT INTO twins SELECT n, 'twin' || n / 3 || '@example.com', n % 2 = 0 FROM generate_series(1, 8) n;
INSERT INTO twins VALUES (20, 'nobody', true), (21, NULL, true), (22, NULL, true), (23, 'none', true);
SELECT contactsync_watch('twins', 'mail', '{"email": "email", "opt_in": "wants"}') > 0 AS watched;
SELECT * FROM contactsync_import('twins', 'mail', dry_run => true);
CREATE USER MAPPING FOR CURRENT_USER SERVER spot OPTIONS (api_key 'k');
SELECT contactsync_watch('twins', 'spot', '{"external_id": "''p'' || id / 3", "email": "email", "opt_in": "wants"}') > 0 AS watched;
SELECT * FROM contactsync_reconcile('twins', 'spot', dry_run => true);
SELECT * FROM contactsync_import('twins', 'mail');

RESET SESSION AUTHORIZATION;
DROP FUNCTION sent(integer[], "char", boolean, boolean);
DROP OWNED BY regress_trial, regress_trial_other CASCADE;
DROP ROLE regress_trial, regress_trial_other;
