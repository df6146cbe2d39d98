-- contactsync_alter_watch(): the given arguments are changed in place, and checked as when the watch is created.

SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_owner;
CREATE ROLE regress_member IN ROLE regress_owner;
CREATE ROLE regress_stranger;
GRANT ALL ON SCHEMA public TO regress_owner;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clx_sandbox', base_url 'http://127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER mail TO regress_owner;
CREATE USER MAPPING FOR regress_owner SERVER mail OPTIONS (api_key 'mc_test_sandbox');
CREATE VIEW triggers AS SELECT tgrelid::regclass AS "table", tgenabled AS enabled, replace(encode(tgargs, 'escape'), E'\\000', ' ') AS arguments
FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc ORDER BY 1::text, tgtype;
GRANT SELECT ON triggers TO PUBLIC;
SET SESSION AUTHORIZATION regress_owner;

CREATE TABLE customers (id int PRIMARY KEY, email text, plan text, city text, active boolean) PARTITION BY RANGE (id);
CREATE TABLE customers_1 PARTITION OF customers FOR VALUES FROM (0) TO (100);
INSERT INTO customers VALUES (1, 'one@example.com', 'a', 'x', true), (2, 'two@example.com', 'a', 'x', false), (3, 'nobody', 'a', 'x', true);
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}', filter => 'active') IS NOT NULL AS watched;
SELECT mapping, filter, on_delete FROM contactsync.watches;
SELECT * FROM triggers;

-- one change at a time; each returns the number of contacts that a reconciliation would send
SELECT contactsync_alter_watch('customers', 'mail', filter => 'active OR id = 2');
SELECT mapping, filter, on_delete FROM contactsync.watches;
SELECT contactsync_alter_watch('customers', 'mail', mapping => '{"email": "email", "external_id": "id", "attributes": {"city": "upper(city)"}}');
SELECT mapping, filter, on_delete FROM contactsync.watches;
SELECT * FROM triggers;
SELECT contactsync_alter_watch('customers', 'mail', filter => '', always => true);
SELECT mapping, filter, on_delete FROM contactsync.watches;
SELECT * FROM triggers;
SELECT contactsync_alter_watch('customers', 'mail', always => false);
SELECT DISTINCT enabled FROM triggers;
SELECT contactsync_alter_watch('customers', 'mail');
SET client_min_messages = notice;
SELECT contactsync_alter_watch('customers', 'mail', filter => 'id < 3');
SET client_min_messages = warning;

-- the triggers compare the columns that are used now
UPDATE customers SET plan = 'b';
SELECT key FROM contactsync.changes;
UPDATE customers SET city = 'y' WHERE id = 1;
SELECT key FROM contactsync.changes;
BEGIN;
INSERT INTO customers VALUES (4, 'four', 'a', 'x', true);
UPDATE customers_1 SET city = 'z' WHERE id = 2;
SELECT contactsync_alter_watch('customers', 'mail', mapping => '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}');
UPDATE customers_1 SET plan = 'c' WHERE id = 3;
COMMIT;
SELECT key FROM contactsync.changes ORDER BY key;

-- the schedule of reconciliations: omitted arguments keep their value, an interval of zero removes it
CREATE VIEW schedules AS SELECT reconcile_every AS every, reconcile_at AS at, reconcile_next > now() AS later, reconcile_next::time = reconcile_at AS at_it
FROM contactsync.watches WHERE source = 'customers'::regclass;
SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '1 day', reconcile_at => '03:00') IS NOT NULL AS altered;
SELECT * FROM schedules;
SELECT contactsync_alter_watch('customers', 'mail', reconcile_at => '04:30') IS NOT NULL AS altered;
SELECT * FROM schedules;
SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '7 days') IS NOT NULL AS altered;
SELECT * FROM schedules;
SELECT reconcile_next AS before FROM contactsync.watches WHERE source = 'customers'::regclass \gset
SELECT contactsync_alter_watch('customers', 'mail', on_delete => 'ignore') IS NOT NULL AS altered;
SELECT reconcile_next = :'before' AS same FROM contactsync.watches WHERE source = 'customers'::regclass;
SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '6 hours');
SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '0.5 s');
SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '-1 day');
SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '0') IS NOT NULL AS altered;
SELECT * FROM schedules;
SELECT contactsync_alter_watch('customers', 'mail', reconcile_at => '03:00');
SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '0', reconcile_at => '03:00');
SELECT contactsync_alter_watch('customers', 'mail', reconcile_every => '6 hours') IS NOT NULL AS altered;
SELECT * FROM schedules;
DROP VIEW schedules;

-- polling, if the source is polled
SELECT contactsync_alter_watch('customers', 'mail', poll_every => '1 min');
SELECT contactsync_alter_watch('customers', 'mail', poll_overlap => '1 min');
SELECT contactsync_alter_watch('customers', 'mail', poll_column => 'city');
CREATE TABLE polled (id int PRIMARY KEY, email text, made timestamptz, changed timestamp);
INSERT INTO polled VALUES (1, 'one@example.com', '2001-01-01 00:00Z', '2002-02-02'), (2, 'two@example.com', '2001-01-02 00:00Z', '2002-02-03');
SELECT contactsync_watch('polled', 'mail', '{"email": "email"}', capture => 'poll', poll_column => 'made', poll_every => '1 hour') IS NOT NULL AS watched;
SELECT contactsync_alter_watch('polled', 'mail', poll_every => '2 min') IS NOT NULL AS altered;
SELECT poll_column, poll_every FROM contactsync.watches WHERE source = 'polled'::regclass;
SELECT contactsync_alter_watch('polled', 'mail', poll_column => 'changed', poll_overlap => '0') IS NOT NULL AS altered;
SELECT poll_column, poll_every FROM contactsync.watches WHERE source = 'polled'::regclass;
SELECT contactsync_alter_watch('polled', 'mail', poll_column => 'missing');
SELECT contactsync_alter_watch('polled', 'mail', poll_column => 'email');
SELECT contactsync_alter_watch('polled', 'mail', poll_every => '0');
SELECT contactsync_alter_watch('polled', 'mail', poll_overlap => '-1 s');
SELECT poll_column, poll_every FROM contactsync.watches WHERE source = 'polled'::regclass;
RESET SESSION AUTHORIZATION;
SELECT kind, s.state, value, watermark, s.since, poll_overlap FROM contactsync.scan s JOIN contactsync.watch w ON w.id = s.watch WHERE w.source = 'polled'::regclass;
SET SESSION AUTHORIZATION regress_owner;
SELECT contactsync_unwatch('polled', 'mail');
DROP TABLE polled;

-- invalid arguments are rejected, and nothing changes
SELECT contactsync_alter_watch('customers', 'mail', mapping => '{"email": "mail"}');
SELECT contactsync_alter_watch('customers', 'mail', mapping => '{"first_name": "city"}');
SELECT contactsync_alter_watch('customers', 'mail', filter => 'city');
SELECT contactsync_alter_watch('customers', 'mail', filter => '; DELETE');
SELECT contactsync_alter_watch('customers', 'mail', on_delete => 'forget');
SELECT contactsync_alter_watch('customers', 'post');
SELECT contactsync_alter_watch('triggers', 'mail');
SELECT contactsync_alter_watch(NULL, 'mail');
SELECT contactsync_alter_watch('customers', NULL);
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_stranger;
SELECT contactsync_alter_watch('customers', 'mail', filter => 'false');
RESET SESSION AUTHORIZATION;
SELECT mapping, filter, on_delete FROM contactsync.watches;

-- the owner may alter a watch; it is checked as the owner, who needs the privileges that the expressions require
SET SESSION AUTHORIZATION regress_member;
SELECT contactsync_alter_watch('customers', 'mail', filter => '');
RESET SESSION AUTHORIZATION;
CREATE TABLE secret AS SELECT 1 AS id;
SELECT contactsync_alter_watch('customers', 'mail', filter => 'id IN (SELECT id FROM secret)');
SELECT owner, filter FROM contactsync.watches;

-- a broken watch can be repaired
ALTER TABLE customers DROP COLUMN plan;
CALL contactsync_run();
SELECT state, reason, backlog FROM contactsync.status;
SELECT contactsync_alter_watch('customers', 'mail', filter => 'id > 2');
SELECT contactsync_alter_watch('customers', 'mail', mapping => '{"email": "email", "external_id": "id"}', filter => 'id > 2');
CALL contactsync_run();
SELECT state, reason, backlog FROM contactsync.status;
SELECT key, message FROM contactsync.failures ORDER BY key;

DROP TABLE secret;
DROP VIEW triggers;
DROP OWNED BY regress_owner CASCADE;
DROP ROLE regress_owner, regress_member, regress_stranger;
