-- Pausing and resuming, as a plain role that owns only its servers.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_control_shop;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_control_shop;
CREATE TABLE customers (id integer PRIMARY KEY, email text);
CREATE TABLE leads (id integer PRIMARY KEY, email text);
GRANT SELECT, INSERT, TRIGGER ON customers, leads TO regress_control_shop;
CREATE VIEW how AS SELECT server, source, state, reason LIKE 'by %' AS by, since IS NOT NULL AS since, backlog
FROM contactsync.status ORDER BY server, source::text;
GRANT SELECT ON how TO regress_control_shop;
SET SESSION AUTHORIZATION regress_control_shop;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE SERVER other FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (api_key 'mc_live_secret');
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}') > 0 AS watched;
SELECT contactsync_watch('leads', 'mail', '{"email": "email"}') > 0 AS watched;
RESET client_min_messages;

--
-- A watch
--

SELECT contactsync_pause('customers', 'mail');
SELECT contactsync_pause('customers', 'mail');
-- changes are captured but not sent, as contactsync_run() reports; watches that are not paused continue
INSERT INTO customers VALUES (1, 'nobody');
INSERT INTO leads VALUES (1, 'nobody');
\set VERBOSITY terse
CALL contactsync_run();
SELECT * FROM how;
SELECT server, source, key, reason FROM contactsync.failures;
-- a pause persists whatever else happens to a watch
RESET SESSION AUTHORIZATION;
UPDATE contactsync.watch SET state = 'broken', reason = 'moved' WHERE source = 'customers'::regclass;
SET SESSION AUTHORIZATION regress_control_shop;
SELECT * FROM how;
RESET SESSION AUTHORIZATION;
UPDATE contactsync.watch SET state = 'running', reason = NULL WHERE source = 'customers'::regclass;
SET SESSION AUTHORIZATION regress_control_shop;
SELECT contactsync_resume('customers', 'mail');
SELECT contactsync_resume('customers', 'mail');
CALL contactsync_run();
SELECT * FROM how;
SELECT server, source, key, reason FROM contactsync.failures ORDER BY source::text;

--
-- A server
--

SELECT contactsync_pause('mail');
SELECT contactsync_pause('mail');
INSERT INTO customers VALUES (2, 'nobody');
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}') > 0 AS queued;
CALL contactsync_run('mail');
SELECT * FROM how;
-- a watch that was paused separately stays paused
SELECT contactsync_pause('leads', 'mail');
RESET SESSION AUTHORIZATION;
DELETE FROM contactsync.queue WHERE watch = 0;
SET SESSION AUTHORIZATION regress_control_shop;
SELECT contactsync_resume('mail');
SELECT contactsync_resume('mail');
CALL contactsync_run('mail');
SELECT * FROM how;
-- before anything is sent to the server
SELECT contactsync_pause('other');
SELECT * FROM how WHERE server = 'other';
-- rolled back with its transaction
BEGIN;
SELECT contactsync_resume('other');
ROLLBACK;
SELECT state FROM contactsync.status WHERE server = 'other';

--
-- Missing objects, and objects of other roles
--

SELECT contactsync_pause('nobody');
SELECT contactsync_resume('nobody');
SELECT contactsync_pause('customers', 'other');
SELECT contactsync_resume('customers', 'other');
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_control;
SET SESSION AUTHORIZATION regress_control;
SELECT contactsync_pause('mail');
SELECT contactsync_resume('leads', 'mail');
SELECT contactsync_mark_stale('mail', now());
SELECT contactsync_stats_reset('mail');
RESET SESSION AUTHORIZATION;
GRANT USAGE ON FOREIGN SERVER mail TO regress_control;
UPDATE contactsync.endpoint SET stale_before = NULL;
SET SESSION AUTHORIZATION regress_control;
-- a role with USAGE on the server affects only what is sent for its own roles, which is nothing yet
SELECT contactsync_pause('mail');
SELECT contactsync_mark_stale('mail', now());
SELECT contactsync_stats_reset('mail'), contactsync_stats_reset();
RESET SESSION AUTHORIZATION;
SELECT server, source, owner, state, reason FROM contactsync.status
WHERE server = 'mail' AND owner = 'regress_control'::regrole OR source = 'customers'::regclass ORDER BY 3;
SELECT server, role, stale_before IS NOT NULL AS stale FROM contactsync.endpoint ORDER BY 1, 2::text;
SELECT e.server, e.role FROM contactsync.stat s JOIN contactsync.endpoint e ON e.id = s.endpoint WHERE s.base;

-- deleted with the watch, and with the server
SET SESSION AUTHORIZATION regress_control_shop;
SELECT contactsync_unwatch('leads', 'mail');
--
-- What a hint says can be typed, whatever the table is called
--

RESET SESSION AUTHORIZATION;
CREATE SCHEMA regress_control;
CREATE TABLE regress_control."it's ""odd""" (id integer PRIMARY KEY, email text);
GRANT USAGE ON SCHEMA regress_control TO regress_control_shop;
GRANT SELECT, TRIGGER ON regress_control."it's ""odd""" TO regress_control_shop;
CREATE PROCEDURE type_hint() LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	PERFORM contactsync_resume(source, server) FROM contactsync.watches WHERE state = 'guarded';
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RAISE INFO '%', hint;
	EXECUTE 'SELECT ' || substring(hint FROM 'Use (.*?\)) (?:to|if)');
END $$;
SET SESSION AUTHORIZATION regress_control_shop;
SET client_min_messages = warning;
SELECT contactsync_watch('regress_control."it''s ""odd"""', 'mail', '{"email": "email"}') > 0 AS watched;
RESET client_min_messages;
RESET SESSION AUTHORIZATION;
UPDATE contactsync.watch SET state = 'guarded', reason = 'removals: 20 contacts' WHERE source = 'regress_control."it''s ""odd"""'::regclass;
SET SESSION AUTHORIZATION regress_control_shop;
CALL type_hint();
SELECT state FROM contactsync.watches WHERE source = 'regress_control."it''s ""odd"""'::regclass;
RESET SESSION AUTHORIZATION;
UPDATE contactsync.watch SET state = 'guarded', reason = '20 contacts' WHERE source = 'regress_control."it''s ""odd"""'::regclass;
SET SESSION AUTHORIZATION regress_control_shop;
CALL type_hint();
SELECT state FROM contactsync.watches WHERE source = 'regress_control."it''s ""odd"""'::regclass;
SELECT contactsync_unwatch('regress_control."it''s ""odd"""', 'mail');
RESET SESSION AUTHORIZATION;
DROP PROCEDURE type_hint;
DROP SCHEMA regress_control CASCADE;

--
-- Contacts outlive their watch, and belong to no other one
--

SET SESSION AUTHORIZATION regress_control_shop;
SET client_min_messages = warning;
SELECT contactsync_watch('leads', 'mail', '{"email": "email"}') AS watch \gset
RESET SESSION AUTHORIZATION;
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, action, synced_at, opt_in, claimed, opted_out, held, direct)
	SELECT endpoint, id, '1', 'a@example.com', 'u', now(), 't', true, false, false, false FROM contactsync.watch WHERE id = :watch;
SET SESSION AUTHORIZATION regress_control_shop;
SELECT server, source, key, upsert_key, consent FROM contactsync.contacts;
SELECT contactsync_unwatch('leads', 'mail');
SELECT server, source, key, upsert_key, consent FROM contactsync.contacts;
SELECT contactsync_watch('leads', 'mail', '{"email": "email"}') > :watch AS watched;
SELECT server, source, key, upsert_key, consent FROM contactsync.contacts;
SELECT contactsync_unwatch('leads', 'mail');

RESET client_min_messages;
DROP SERVER other CASCADE;
DROP SERVER mail CASCADE;
RESET SESSION AUTHORIZATION;
SELECT * FROM contactsync.pause;
DROP OWNED BY regress_control_shop;
DROP ROLE regress_control, regress_control_shop;
