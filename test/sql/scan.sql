-- Imports, reconciliations and the bulk guard, as far as nothing has to be sent, as a plain role that owns only its
-- servers.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_scan_shop;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_scan_shop;
CREATE TABLE customers (id integer, region text COLLATE "C", email text, divisor integer DEFAULT 1, verified boolean DEFAULT true,
	PRIMARY KEY (region, id));
CREATE TABLE people (id integer PRIMARY KEY, email text, name text);
INSERT INTO people SELECT g, 'p' || g || '@example.com' FROM generate_series(1, 20) g;
GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON customers, people TO regress_scan_shop;
CREATE VIEW walks AS SELECT server, source, kind, state, reason, phase, done, total, percent, COALESCE(rate > 0, false) AS rate, eta IS NOT NULL AS eta,
	new, changed, unchanged, refused, invalid, filtered, gone, started_at <= clock_timestamp() AS started, finished_at >= started_at AS finished
FROM contactsync.progress WHERE kind <> 'backlog' ORDER BY started_at, server;
GRANT SELECT ON walks TO regress_scan_shop;
CREATE FUNCTION pretend_synced(which text) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
	INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, action, digest, synced_at, opt_in, claimed, opted_out, held, direct)
	SELECT w.endpoint, w.id, format('["%s", "%s"]', c.region, c.id), c.email, 'u',
		(contactsync_preview('mail', jsonb_build_object('email', c.email, 'attributes', jsonb_build_object('ratio', 10 / c.divisor)))).digest[1], now(),
		'-', false, false, false, false
	FROM customers c, contactsync.watch w WHERE w.source = 'customers'::regclass AND c.email LIKE which;
	INSERT INTO contactsync.source_row (watch, key, endpoint, upsert_key, digest, opt_in, withheld)
	SELECT watch, key, endpoint, upsert_key, digest, opt_in, false FROM contactsync.contact ON CONFLICT DO NOTHING;
$$;
-- the queue is empty
CREATE FUNCTION clear() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM contactsync.queue';
SET SESSION AUTHORIZATION regress_scan_shop;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
INSERT INTO customers SELECT g, 'eu', 'eu' || g || '@example.com' FROM generate_series(1, 2500) g;
INSERT INTO customers VALUES (1, 'us', 'nobody', 1), (2, 'us', '', 1), (3, 'us', 'zero@example.com', 0), (4, 'us', 'new@example.com', 1);
UPDATE customers SET verified = false WHERE email = 'new@example.com';
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "attributes": {"ratio": "10 / divisor"}}', filter => 'verified') > 0 AS watched;

--
-- Dry runs
--

SELECT * FROM contactsync_import('customers', 'mail', dry_run => true);
SELECT * FROM contactsync_import('customers', 'mail', filter => $$region = 'us'$$, dry_run => true);
SELECT * FROM contactsync_reconcile('customers', 'mail', dry_run => true);
-- known contacts: unchanged, changed, deleted, and refused
SELECT pretend_synced('eu1___@example.com');
SELECT * FROM contactsync_import('customers', 'mail', dry_run => true);
RESET SESSION AUTHORIZATION;
UPDATE contactsync.contact SET digest = gen_random_uuid() WHERE key LIKE '%10__"]';
UPDATE contactsync.contact SET digest = NULL WHERE key LIKE '%11__"]';
SET SESSION AUTHORIZATION regress_scan_shop;
SELECT * FROM contactsync_import('customers', 'mail', dry_run => true);
-- if contactsync_upsert() sent the contact since, the provider's value is unknown
RESET SESSION AUTHORIZATION;
UPDATE contactsync.contact SET direct = true, watch = 0, key = NULL, digest = gen_random_uuid() WHERE key LIKE '%1999"]';
SET SESSION AUTHORIZATION regress_scan_shop;
SELECT * FROM contactsync_import('customers', 'mail', dry_run => true);
RESET SESSION AUTHORIZATION;
UPDATE contactsync.contact c SET direct = false, watch = s.watch, key = s.key, digest = s.digest
FROM contactsync.source_row s WHERE s.endpoint = c.endpoint AND s.upsert_key = c.upsert_key AND c.direct;
INSERT INTO contactsync.failure (endpoint, watch, key, reason, message, attempts, first_at, last_at, digest)
SELECT endpoint, id, format('["eu", "%s"]', n), f.reason, 'no', 1, now(), now(),
	(contactsync_preview('mail', jsonb_build_object('email', 'eu' || n || '@example.com', 'attributes', '{"ratio": 10}'::jsonb))).digest[1]
FROM contactsync.watch, (VALUES (2001, 'rejected'), (2002, 'rejected'), (2003, 'conflict'), (2004, 'unavailable')) f (n, reason);
UPDATE contactsync.failure SET digest = gen_random_uuid() WHERE key LIKE '%2002%';
-- two rows are unchanged since they were refused; a third was refused before, and one failed because of the provider
SET SESSION AUTHORIZATION regress_scan_shop;
SELECT * FROM contactsync_import('customers', 'mail', dry_run => true);
-- deleted rows are handled according to on_delete, which is 'ignore'
DELETE FROM customers WHERE region = 'eu' AND id BETWEEN 1900 AND 1949;
SELECT * FROM contactsync_reconcile('customers', 'mail', dry_run => true);
RESET SESSION AUTHORIZATION;
UPDATE contactsync.watch SET on_delete = 'delete';
SET SESSION AUTHORIZATION regress_scan_shop;
SELECT * FROM contactsync_reconcile('customers', 'mail', dry_run => true);
SELECT * FROM contactsync_reconcile('customers', 'mail', filter => 'id > 10', dry_run => true);
UPDATE customers SET verified = false WHERE region = 'eu' AND id BETWEEN 1950 AND 1952;
SELECT * FROM contactsync_reconcile('customers', 'mail', dry_run => true);
SELECT * FROM contactsync_import('customers', 'mail', dry_run => true);
-- a dry run leaves nothing behind
SELECT * FROM walks;
RESET SESSION AUTHORIZATION;
DELETE FROM contactsync.contact;
DELETE FROM contactsync.failure;
SET SESSION AUTHORIZATION regress_scan_shop;
SELECT clear();
RESET SESSION AUTHORIZATION;
UPDATE contactsync.watch SET on_delete = 'ignore';

--
-- Starting and cancelling
--

SET SESSION AUTHORIZATION regress_scan_shop;
SELECT * FROM contactsync_import('customers', 'mail', filter => $$region = 'us'$$);
SELECT * FROM walks \gx
SELECT * FROM contactsync_import('customers', 'mail');
SELECT * FROM contactsync_reconcile('customers', 'mail');
SELECT contactsync_cancel('customers', 'mail');
SELECT contactsync_cancel('customers', 'mail');
SELECT kind, state, finished FROM walks;
-- one that is rolled back does not count
BEGIN;
SELECT * FROM contactsync_reconcile('customers', 'mail');
ROLLBACK;
SELECT kind, state FROM walks;

-- invalid calls
SELECT contactsync_import(NULL, 'mail');
SELECT contactsync_import('customers', NULL);
SELECT contactsync_import('customers', 'nobody');
SELECT contactsync_import('pg_class', 'mail');
SELECT contactsync_import('customers', 'mail', filter => 'nothing');
SELECT contactsync_import('customers', 'mail', filter => 'id');
SELECT contactsync_import('customers', 'mail', filter => 'true) UNION SELECT (true');
SELECT contactsync_import('customers', 'mail', filter => 'count(*) > 1');
SELECT contactsync_import('customers', 'mail', rate => 0);
SELECT contactsync_import('customers', 'mail', rate => 'NaN');
SELECT contactsync_import('customers', 'mail', automations => 'off');
SELECT contactsync_cancel('pg_class', 'mail');
RESET SESSION AUTHORIZATION;
SET ROLE pg_monitor;
SELECT contactsync_import('customers', 'mail');
SELECT contactsync_cancel('customers', 'mail');
SELECT count(*) FROM contactsync.progress;
SELECT count(*) FROM contactsync.scan;
RESET ROLE;
SET SESSION AUTHORIZATION regress_scan_shop;

--
-- Scanning in the foreground
--

-- none of these rows can be sent: each is a failure, once
DELETE FROM customers WHERE region = 'eu';
SELECT clear();
INSERT INTO customers SELECT g, 'xx', 'nobody' || g FROM generate_series(1, 1500) g;
SELECT clear();
SELECT * FROM contactsync_import('customers', 'mail', dry_run => true);
DELETE FROM customers WHERE email = 'new@example.com';
SELECT clear();
SELECT * FROM contactsync_import('customers', 'mail');
\set VERBOSITY terse
CALL contactsync_run();
\set VERBOSITY default
SELECT kind, state, phase, done, total, percent, new, changed, unchanged, refused, invalid, filtered FROM walks WHERE kind = 'import';
SELECT reason, attempts, count(*) FROM contactsync.failures GROUP BY 1, 2 ORDER BY 1;
SELECT * FROM contactsync_reconcile('customers', 'mail');
CALL contactsync_run();
SELECT kind, state, phase, done, total, new, changed, unchanged, refused, invalid, filtered, gone FROM walks WHERE kind = 'reconcile';
SELECT reason, attempts, count(*) FROM contactsync.failures GROUP BY 1, 2 ORDER BY 1;
SELECT count(*) FROM contactsync.changes;
-- the failure of a row that was deleted unnoticed disappears
RESET SESSION AUTHORIZATION;
ALTER TABLE customers DISABLE TRIGGER USER;
SET SESSION AUTHORIZATION regress_scan_shop;
DELETE FROM customers WHERE region = 'xx' AND id <= 1490;
UPDATE customers SET verified = false WHERE region = 'xx' AND id > 1495;
RESET SESSION AUTHORIZATION;
ALTER TABLE customers ENABLE TRIGGER USER;
SET SESSION AUTHORIZATION regress_scan_shop;
SELECT * FROM contactsync_reconcile('customers', 'mail');
CALL contactsync_run();
SELECT kind, state, phase, new, changed, unchanged, refused, invalid, filtered, gone FROM walks WHERE kind = 'reconcile';
SELECT reason, attempts, count(*) FROM contactsync.failures GROUP BY 1, 2 ORDER BY 1;
-- a filter that fails ends its own scan, not the watch
SELECT * FROM contactsync_import('customers', 'mail', filter => '10 / length(email) > 5');
SELECT * FROM contactsync_import('customers', 'mail', filter => '10 / id > 5');
INSERT INTO customers VALUES (0, 'us', 'zero');
SELECT clear();
CALL contactsync_run();
SELECT kind, state, reason FROM walks WHERE kind = 'import';
SELECT state, reason FROM contactsync.watches;
-- a table that no longer matches the watch breaks it, as with live changes
SELECT * FROM contactsync_reconcile('customers', 'mail');
DELETE FROM customers WHERE email = 'zero@example.com';
SELECT clear();
RESET SESSION AUTHORIZATION;
ALTER TABLE customers DROP COLUMN divisor;
SET SESSION AUTHORIZATION regress_scan_shop;
\set VERBOSITY terse
CALL contactsync_run();
\set VERBOSITY default
SELECT kind, state, done FROM walks WHERE kind = 'reconcile';
SELECT state, reason FROM contactsync.watches;
SELECT * FROM contactsync_import('customers', 'mail', dry_run => true);
RESET SESSION AUTHORIZATION;
ALTER TABLE customers ADD COLUMN divisor integer DEFAULT 1;
SET SESSION AUTHORIZATION regress_scan_shop;
CALL contactsync_run();
SELECT kind, state, invalid FROM walks WHERE kind = 'reconcile';
SELECT state, reason FROM contactsync.watches;

--
-- The bulk guard
--

CREATE SERVER caramel FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'b', base_url 'http://127.0.0.1:9');
CREATE SERVER caramel_form FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'b', base_url 'http://127.0.0.1:9', route 'form', form_id 'f', form_sets_consent 'false');
CREATE SERVER owlat FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat', base_url 'http://127.0.0.1:9');
CREATE SERVER owlat_topic FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat', base_url 'http://127.0.0.1:9', topic_id 't');
CREATE SERVER lark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', base_url 'http://127.0.0.1:9', check_fields 'false', new_contacts 'subscribed');
CREATE SERVER lark_pending FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', base_url 'http://127.0.0.1:9', check_fields 'false', new_contacts 'unconfirmed');
CREATE SERVER spotzee FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS (access_token 'secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER caramel_form OPTIONS (access_token 'secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER owlat OPTIONS (api_key 'lm_live_secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER owlat_topic OPTIONS (api_key 'lm_live_secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER lark OPTIONS (api_key 'secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER lark_pending OPTIONS (api_key 'secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER spotzee OPTIONS (api_key 'sk_secret');
SELECT count(contactsync_watch('people', s, '{"email": "email"}'))
FROM unnest('{caramel,caramel_form,owlat,owlat_topic,lark,lark_pending}'::name[]) s;
SELECT contactsync_watch('people', 'spotzee', '{"email": "email", "external_id": "id"}') > 0 AS watched;
RESET client_min_messages;
-- an import reports what could happen, and does not start
SELECT contactsync_import('people', 'caramel');
\set VERBOSITY terse
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM contactsync.scan WHERE state = 'running';
SET SESSION AUTHORIZATION regress_scan_shop;
\set VERBOSITY default
SELECT contactsync_import('people', 'caramel_form');
SELECT contactsync_import('people', 'owlat');
SELECT contactsync_import('people', 'owlat_topic');
SELECT contactsync_import('people', 'lark_pending');
-- where nothing could happen, it starts
SELECT contactsync_import('people', 'lark'), contactsync_cancel('people', 'lark');
SELECT contactsync_import('people', 'spotzee'), contactsync_cancel('people', 'spotzee');
SELECT contactsync_unwatch('people', 'lark');
SELECT contactsync_watch('people', 'lark', '{"email": "email", "first_name": "name"}') > 0 AS watched;
SELECT contactsync_import('people', 'lark');
-- a dry run can do no harm
SELECT * FROM contactsync_import('people', 'owlat', dry_run => true);
-- it starts if automations are stated
SELECT contactsync_import('people', 'caramel', automations => 'paused'), contactsync_cancel('people', 'caramel');
SELECT contactsync_import('people', 'caramel', automations => 'accepted'), contactsync_cancel('people', 'caramel');
ALTER SERVER caramel_form OPTIONS (ADD bulk_guard '0');
SELECT contactsync_import('people', 'caramel_form'), contactsync_cancel('people', 'caramel_form');
ALTER SERVER caramel_form OPTIONS (SET bulk_guard '-1');
ALTER SERVER caramel_form OPTIONS (SET bulk_guard 'many');

SET client_min_messages = warning;
-- a transaction that changes too much holds the watch, before the first call
ALTER SERVER owlat OPTIONS (ADD bulk_guard '10');
UPDATE people SET email = 'x' || email;
\set VERBOSITY terse
CALL contactsync_run('owlat');
\set VERBOSITY default
SELECT state, reason, backlog FROM contactsync.status WHERE server = 'owlat';
SELECT count(*) FROM contactsync.calls;
CALL contactsync_run('owlat');
CALL contactsync_wait('owlat');
-- so do smaller ones later: they wait
UPDATE people SET email = 'y' || email WHERE id = 1;
SELECT state, backlog FROM contactsync.status WHERE server = 'owlat';
-- it continues after contactsync_resume()
SELECT contactsync_resume('people', 'owlat');
SELECT contactsync_resume('people', 'owlat', automations => 'yes');
SELECT contactsync_pause('people', 'owlat');
BEGIN;
SELECT contactsync_resume('people', 'owlat', automations => 'paused');
SELECT state, reason, backlog FROM contactsync.status WHERE server = 'owlat';
ROLLBACK;
UPDATE people SET email = 'nobody';
SELECT contactsync_resume('people', 'owlat', automations => 'paused');
CALL contactsync_run('owlat');
SELECT state, reason, backlog, failures FROM contactsync.status WHERE server = 'owlat';
RESET client_min_messages;
SELECT contactsync_resume('people', 'owlat', automations => 'paused');
SET client_min_messages = warning;
-- released changes are not counted again, and new ones are
UPDATE people SET email = 'nobody else' WHERE id <= 9;
CALL contactsync_run('owlat');
SELECT state, backlog, failures FROM contactsync.status WHERE server = 'owlat';
UPDATE people SET email = 'nobody at all';
\set VERBOSITY terse
CALL contactsync_run('owlat');
\set VERBOSITY default
SELECT state, backlog FROM contactsync.status WHERE server = 'owlat';
SELECT contactsync_resume('people', 'owlat', automations => 'accepted');
CALL contactsync_run('owlat');
SELECT state, backlog FROM contactsync.status WHERE server = 'owlat';

-- a reconciliation that finds too much holds the watch as well
RESET SESSION AUTHORIZATION;
ALTER TABLE people DISABLE TRIGGER USER;
SET SESSION AUTHORIZATION regress_scan_shop;
UPDATE people SET email = 'p' || id || '@example.com' WHERE id > 9;
SELECT * FROM contactsync_reconcile('people', 'owlat');
\set VERBOSITY terse
CALL contactsync_run('owlat');
\set VERBOSITY default
SELECT state, reason, backlog FROM contactsync.status WHERE server = 'owlat';
SELECT kind, state, phase, new, changed, invalid FROM walks WHERE server = 'owlat';
SELECT count(*) FROM contactsync.calls;
-- one that does not continues
UPDATE people SET email = 'somebody';
SELECT contactsync_cancel('people', 'owlat');
SELECT contactsync_resume('people', 'owlat', automations => 'paused');
SELECT * FROM contactsync_reconcile('people', 'owlat');
CALL contactsync_run('owlat');
SELECT state, backlog, failures FROM contactsync.status WHERE server = 'owlat';
SELECT kind, state, phase, done, total, new, changed, invalid FROM walks WHERE server = 'owlat';
RESET SESSION AUTHORIZATION;
ALTER TABLE people ENABLE TRIGGER USER;

--
-- Dropping a watch ends its scans
--

SET SESSION AUTHORIZATION regress_scan_shop;
SELECT outcome, rows FROM contactsync_import('people', 'spotzee');
SELECT contactsync_unwatch('people', 'spotzee');
RESET SESSION AUTHORIZATION;
DROP TABLE people;
DROP TABLE customers CASCADE;
SELECT count(*) FROM contactsync.scan;
DROP OWNED BY regress_scan_shop CASCADE;
DROP ROLE regress_scan_shop;
