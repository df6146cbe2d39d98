-- Required privileges, visible rows, and the role that runs expressions.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_priv_shop;
CREATE ROLE regress_priv_boss IN ROLE regress_priv_shop;
CREATE ROLE regress_priv_temp NOINHERIT IN ROLE regress_priv_shop;
CREATE ROLE regress_priv_rival;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
GRANT CREATE ON SCHEMA public TO regress_priv_shop, regress_priv_rival;

--
-- Privileges required for a watch
--

CREATE TABLE customers (id integer PRIMARY KEY, email text, name text);
SET ROLE regress_priv_shop;
SELECT contactsync_watch('customers', 'mail');
SELECT contactsync_upsert('mail', '{"email": "a@example.com"}');
CALL contactsync_run('mail');
CALL contactsync_wait('mail');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER mail TO regress_priv_shop, regress_priv_rival;
SET ROLE regress_priv_shop;
SELECT contactsync_watch('customers', 'mail');
SELECT contactsync_upsert('mail', '{"email": "a@example.com"}');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'shops');
SELECT contactsync_watch('customers', 'mail');
RESET ROLE;
GRANT SELECT ON customers TO regress_priv_shop;
SET ROLE regress_priv_shop;
SELECT contactsync_watch('customers', 'mail');
RESET ROLE;
GRANT TRIGGER ON customers TO regress_priv_shop;
SET ROLE regress_priv_shop;
SELECT contactsync_watch('customers', 'mail') > 0 AS watched;
RESET ROLE;
-- on the schema, and on tables that an expression reads
CREATE SCHEMA hidden;
CREATE TABLE hidden.customers (id integer PRIMARY KEY, email text);
CREATE TABLE hidden.orders (customer integer, total integer);
GRANT SELECT, TRIGGER ON hidden.customers TO regress_priv_shop;
SELECT 'hidden.customers'::regclass::oid AS hidden \gset
SET ROLE regress_priv_shop;
SELECT contactsync_watch(:hidden, 'mail');
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "attributes": {"total": "(SELECT sum(total) FROM hidden.orders WHERE customer = id)"}}');
RESET ROLE;
DROP SCHEMA hidden CASCADE;

-- functions that are for the owner of the extension alone
SELECT oid::regprocedure AS function FROM pg_proc WHERE pronamespace = 'contactsync'::regnamespace
	AND NOT has_function_privilege('regress_priv_rival', oid, 'EXECUTE') ORDER BY proname COLLATE "C";

--
-- Rows that others see
--

INSERT INTO customers VALUES (1, 'nobody', 'One');
SELECT contactsync_upsert('mail', '{"email": "superuser@example.com"}');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'superusers');
SELECT contactsync_upsert('mail', '{"email": "superuser@example.com"}') > 0 AS queued;
INSERT INTO contactsync.failure (endpoint, watch, key, reason, attempts, first_at, last_at)
	SELECT id, 0, role::text, 'rejected', 1, now(), now() FROM contactsync.endpoint;
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, action, synced_at, opt_in, claimed, opted_out, held, direct)
	SELECT id, 0, role::text, role::text, 'u', now(), '-', false, false, false, false FROM contactsync.endpoint;
INSERT INTO contactsync.call (endpoint, started_at, duration, method, path, status, verdict, contacts, failed, attempt, sent, received)
	SELECT id, now(), '0', 'POST', role::text, 200, 'done', 1, 0, 1, 1, 1 FROM contactsync.endpoint;
CREATE FUNCTION public.visible(OUT view text, OUT rows bigint, OUT roles text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT 'status', count(*), string_agg(DISTINCT CASE WHEN owner::text = 'regress_priv_shop' THEN 'shop' ELSE 'superuser' END, ', ') FROM contactsync.status
	UNION ALL SELECT 'watches', count(*), string_agg(CASE WHEN owner::text = 'regress_priv_shop' THEN 'shop' ELSE 'superuser' END, ', ') FROM contactsync.watches
	UNION ALL SELECT 'changes', count(*), string_agg(CASE WHEN source IS NOT NULL THEN 'shop' ELSE 'superuser' END, ', ') FROM contactsync.changes
	UNION ALL SELECT 'contacts', count(*), string_agg(CASE WHEN key = 'regress_priv_shop' THEN 'shop' ELSE 'superuser' END, ', ') FROM contactsync.contacts
	UNION ALL SELECT 'failures', count(*), string_agg(CASE WHEN key = 'regress_priv_shop' THEN 'shop' ELSE 'superuser' END, ', ') FROM contactsync.failures
	UNION ALL SELECT 'calls', count(*), string_agg(CASE WHEN path = 'regress_priv_shop' THEN 'shop' ELSE 'superuser' END, ', ') FROM contactsync.calls
$$;
SELECT view, rows FROM visible();
SET ROLE regress_priv_shop;
SELECT * FROM visible();
SET ROLE regress_priv_boss;
SELECT * FROM visible();
RESET ROLE;
SET ROLE regress_priv_temp;
SELECT * FROM visible();
RESET ROLE;
SET ROLE regress_priv_rival;
SELECT * FROM visible();
-- not even by a function that is cheaper than the condition
CREATE FUNCTION peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE WARNING 'peeked at %', $1; RETURN true; END $$;
SELECT key FROM contactsync.contacts WHERE peek(key);
SELECT contact FROM contactsync.changes WHERE peek(contact::text);
SELECT path FROM contactsync.calls WHERE peek(path);
DROP FUNCTION peek(text);
-- nor the tables
\set VERBOSITY terse
SELECT count(*) FROM contactsync.endpoint;
SELECT count(*) FROM contactsync.watch;
SELECT count(*) FROM contactsync.queue;
SELECT count(*) FROM contactsync.contact;
SELECT count(*) FROM contactsync.failure;
SELECT count(*) FROM contactsync.call;
SELECT count(*) FROM contactsync.counter;
INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys) VALUES (1, 1, '3', 1, now(), 1, '{1}');
UPDATE contactsync.status SET state = 'running';
DELETE FROM contactsync.failures;
SELECT nextval('contactsync.queue_id');
CREATE TABLE contactsync.mine ();
\set VERBOSITY default
-- nor internal functions
SELECT contactsync.launch();
SELECT contactsync.note_ddl();
SELECT contactsync.note_drop();
SELECT * FROM contactsync.runtime();
-- and a watch of another role does not exist
SELECT contactsync_unwatch('customers', 'mail');
SELECT contactsync_retry('mail');
CALL contactsync_run('mail');
RESET ROLE;
SELECT count(*) FROM contactsync.changes;
-- a member of a role may act for it
SET ROLE regress_priv_boss;
SELECT contactsync_unwatch('customers', 'mail');
RESET ROLE;
SET ROLE regress_priv_shop;
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "first_name": "name"}') AS watch \gset
RESET ROLE;
SELECT endpoint FROM contactsync.watch \gset
DELETE FROM contactsync.queue;

--
-- Captures cannot be forged
--

SET ROLE regress_priv_rival;
CREATE TABLE forged (id integer PRIMARY KEY, email text);
SELECT format('CREATE TRIGGER forged AFTER INSERT ON forged FOR EACH ROW EXECUTE FUNCTION contactsync.capture(%L, %L, ''1'', ''id'')', :endpoint, :watch) \gexec
SELECT format('CREATE TRIGGER forged_truncate AFTER TRUNCATE ON forged EXECUTE FUNCTION contactsync.capture(%L, %L, ''1'', ''id'')', :endpoint, :watch) \gexec
INSERT INTO forged VALUES (1, 'x'), (2, 'y');
TRUNCATE forged;
SELECT format('CREATE TRIGGER contactsync_%s AFTER INSERT ON customers FOR EACH ROW EXECUTE FUNCTION contactsync.capture(%L, %L, ''1'', ''id'')', :watch, :endpoint, :watch) \gexec
DROP TRIGGER contactsync_1 ON customers;
DROP TABLE forged;
RESET ROLE;
SELECT count(*) FROM contactsync.queue;

--
-- Names cannot be hijacked
--

CREATE SCHEMA evil;
CREATE FUNCTION evil.evil(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil % as %', $1, CURRENT_USER; END $$;
CREATE FUNCTION evil.eq(integer, integer) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.evil('int4 =') $$;
CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.evil('int8 =') $$;
CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.evil('text =') $$;
CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.evil('name =') $$;
CREATE FUNCTION evil.eq(oid, oid) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.evil('oid =') $$;
CREATE FUNCTION evil.eq(regclass, oid) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.evil('regclass =') $$;
CREATE FUNCTION evil.eq(xid8, xid8) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.evil('xid8 =') $$;
CREATE OPERATOR evil.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = regclass, RIGHTARG = oid, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = xid8, RIGHTARG = xid8, FUNCTION = evil.eq);
CREATE OPERATOR evil.<> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.eq);
CREATE OPERATOR evil.> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.eq);
-- functions with the signatures of those in pg_catalog
DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', proname, pg_get_function_identity_arguments(oid),
			pg_get_function_result(oid), format('BEGIN PERFORM evil.evil(%L); RETURN%s; END', proname, CASE WHEN NOT proretset THEN ' NULL' END))
		FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND proname IN ('now', 'clock_timestamp',
			'format', 'chr', 'encode', 'split_part', 'unnest', 'nextval', 'pg_current_xact_id', 'pg_current_snapshot', 'pg_has_role',
			'pg_snapshot_xmax', 'to_jsonb', 'pg_get_triggerdef', 'pg_visible_in_snapshot', 'pg_event_trigger_ddl_commands',
			'pg_event_trigger_dropped_objects', 'substring', 'lower', 'make_interval')
	LOOP
		BEGIN
			EXECUTE command;
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
END $$;
SELECT count(*) > 20 AS enough FROM pg_proc WHERE pronamespace = 'evil'::regnamespace;
CREATE TABLE evil.queue AS SELECT * FROM contactsync.queue;
CREATE TABLE evil.watch AS SELECT * FROM contactsync.watch;
CREATE TABLE evil.pg_trigger AS SELECT 1 AS oid;
CREATE TEMPORARY TABLE pg_trigger AS SELECT 1 AS oid;
CREATE TEMPORARY TABLE pg_class AS SELECT 1 AS oid;
CREATE TABLE other (id integer PRIMARY KEY, email text);
GRANT ALL ON SCHEMA evil TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evil TO PUBLIC;
SET search_path = evil, pg_temp, pg_catalog, public;
-- the result of a hijacked name
SELECT 1 = 1;
SELECT now();
-- the actual result
SELECT contactsync_watch('public.other', 'mail', mapping => '{"email": "email"}', on_delete => 'delete');
INSERT INTO public.other VALUES (1, 'nobody'), (2, 'nobody');
INSERT INTO public.customers VALUES (2, 'nobody'), (3, NULL);
SELECT contactsync_upsert('mail', '{"email": "a@example.com"}');
SELECT server, source, key, contact FROM contactsync.changes ORDER BY key;
SELECT server, source, backlog, state FROM contactsync.status ORDER BY source;
DELETE FROM contactsync.queue WHERE contact IS NOT NULL;
CALL contactsync_run();
SELECT key, reason, message FROM contactsync.failures ORDER BY key;
SELECT contactsync_retry('mail');
TRUNCATE public.other;
CREATE TABLE public.other_child () INHERITS (public.other);
BEGIN;
INSERT INTO public.other VALUES (1, 'nobody');
SELECT contactsync_unwatch('public.other', 'mail');
COMMIT;
DELETE FROM contactsync.queue WHERE contact IS NOT NULL;
CALL contactsync_run();
SELECT contactsync_watch('public.other', 'mail', mapping => '{"email": "email"}') OPERATOR(pg_catalog.>) 0 AS watched;
DROP TABLE public.other CASCADE;
RESET search_path;
-- but expressions use the search_path of the role that created the watch
DROP TABLE pg_temp.pg_class, pg_temp.pg_trigger;
SELECT contactsync_unwatch('customers', 'mail');
TRUNCATE contactsync.failure;
SET ROLE regress_priv_shop;
SET search_path = evil, pg_catalog, public;
SELECT contactsync_watch('public.customers', 'mail', mapping => '{"email": "email", "locale": "lower(name)"}') OPERATOR(pg_catalog.>) 0 AS watched;
RESET search_path;
RESET ROLE;
UPDATE customers SET name = 'evil';
CALL contactsync_run();
SELECT key, reason, message FROM contactsync.failures ORDER BY key;
SET ROLE regress_priv_shop;
SELECT contactsync_unwatch('customers', 'mail');
RESET ROLE;
SET client_min_messages = error;
DROP SCHEMA evil CASCADE;
SET client_min_messages = warning;

--
-- Expressions run as the owner of the watch, in whichever session
--

CREATE TABLE log (line text);
GRANT ALL ON log TO PUBLIC;
SET ROLE regress_priv_shop;
CREATE FUNCTION whoami(id integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RAISE WARNING '% read as %, read-only %, path %, sees % customers', id, CURRENT_USER, current_setting('transaction_read_only'),
		current_setting('search_path'), (SELECT count(*) FROM customers);
	RETURN false;
END $$;
SET search_path = public, pg_temp;
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}', filter => 'whoami(id)') > 0 AS watched;
RESET search_path;
RESET ROLE;
UPDATE customers SET email = 'x@example.com' WHERE id = 1;
CALL contactsync_run();
-- another role has nothing to deliver, nor has a role that could only become the owner
UPDATE customers SET email = 'y@example.com' WHERE id = 1;
SET ROLE regress_priv_rival;
CALL contactsync_run();
SET ROLE regress_priv_temp;
CALL contactsync_run();
RESET ROLE;
SET ROLE regress_priv_boss;
CALL contactsync_run();
RESET ROLE;

-- row security applies
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY odd ON customers TO regress_priv_shop USING (id % 2 = 1);
UPDATE customers SET email = 'z@example.com';
SET row_security = off;
CALL contactsync_run();
RESET row_security;
SELECT state, reason FROM contactsync.watches;

-- a revoked privilege breaks the watch, until it is granted again
REVOKE SELECT ON customers FROM regress_priv_shop;
UPDATE customers SET email = 'a@example.com';
CALL contactsync_run();
SELECT state, reason FROM contactsync.watches;
GRANT SELECT ON customers TO regress_priv_shop;
CALL contactsync_run();
SELECT state, reason FROM contactsync.watches;
SELECT key, message FROM contactsync.failures;

-- actions that an expression may not perform
CREATE FUNCTION misbehave(id integer, what text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; RETURN false; END $$;
ALTER TABLE customers DISABLE ROW LEVEL SECURITY;
TRUNCATE customers;
SELECT count(*) FROM contactsync.failures;
SELECT contactsync_unwatch('customers', 'mail');
SET ROLE regress_priv_shop;
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}', filter => 'misbehave(id, name)') > 0 AS watched;
RESET ROLE;
INSERT INTO customers VALUES (1, 'a', 'INSERT INTO log VALUES (CURRENT_USER)'), (2, 'b', 'SET ROLE regress_priv_rival'), (3, 'c', 'RESET ROLE'),
	(4, 'd', 'SET SESSION AUTHORIZATION DEFAULT'), (5, 'e', 'CREATE TEMPORARY TABLE t ()'), (6, 'f', 'COMMIT'), (7, 'g', 'SET transaction_read_only = off'),
	(8, 'h', 'LISTEN x'), (9, 'i', 'SELECT 1/0'), (10, 'j', 'SELECT 1'), (11, 'k', 'SELECT set_config(''transaction_read_only'', ''off'', true)'),
	(12, 'l', 'SELECT pg_notify(''x'', '''')'), (13, 'm', 'SAVEPOINT x'), (14, 'n', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1');
CALL contactsync_run();
SELECT key, reason, message FROM contactsync.failures ORDER BY key::integer;
SELECT * FROM log;
SELECT CURRENT_USER = SESSION_USER AS "still who we are", current_setting('transaction_read_only');
-- errors that look like a broken watch, but concern one row
DELETE FROM customers;
INSERT INTO customers VALUES (15, 'o', 'SELECT * FROM contactsync.queue'), (16, 'p', 'SELECT * FROM nowhere'), (17, 'q', 'SELEKT');
CALL contactsync_run();
SELECT key, reason, message FROM contactsync.failures ORDER BY key::integer;
SELECT state, reason FROM contactsync.watches;

--
-- Several roles watch one table
--

CREATE TABLE shared (id integer PRIMARY KEY, email text);
GRANT SELECT, TRIGGER ON shared TO regress_priv_shop, regress_priv_rival;
CREATE ROLE regress_priv_both IN ROLE regress_priv_shop, regress_priv_rival;
CREATE USER MAPPING IF NOT EXISTS FOR regress_priv_rival SERVER mail OPTIONS (api_key 'rivals');
CREATE VIEW owners AS SELECT w.source, e.role FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint WHERE w.source = 'shared'::regclass ORDER BY e.role::text;
SELECT contactsync_watch('shared', 'mail', '{"email": "email"}') > 0 AS watched;
SET ROLE regress_priv_shop;
SELECT contactsync_watch('shared', 'mail', '{"email": "email"}') > 0 AS watched;
SET ROLE regress_priv_rival;
SELECT contactsync_watch('shared', 'mail', '{"email": "email"}') > 0 AS watched;
RESET ROLE;
-- the caller's own one is dropped, although the caller is a superuser
SELECT contactsync_unwatch('shared', 'mail');
SELECT role FROM owners;
-- whose is meant is not guessed
SELECT contactsync_unwatch('shared', 'mail');
SET ROLE regress_priv_both;
SELECT contactsync_unwatch('shared', 'mail');
RESET ROLE;
SELECT role FROM owners;
SET ROLE regress_priv_rival;
SELECT contactsync_unwatch('shared', 'mail');
RESET ROLE;
SELECT role FROM owners;
-- that of another role, if there is no other
SELECT contactsync_unwatch('shared', 'mail');
SELECT count(*) FROM owners;
DROP TABLE shared CASCADE;
DROP ROLE regress_priv_both;

--
-- A role is dropped
--

\set VERBOSITY terse
DROP ROLE regress_priv_shop;
\set VERBOSITY default
DROP OWNED BY regress_priv_shop CASCADE;
DROP ROLE regress_priv_shop;
CALL contactsync_run();
SELECT source, server, state, reason FROM contactsync.watches;
SELECT source, server, state, reason FROM contactsync.status WHERE source IS NOT NULL;

DROP OWNED BY regress_priv_rival;
DROP ROLE regress_priv_rival, regress_priv_boss, regress_priv_temp;
