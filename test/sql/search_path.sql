-- Nothing of the extension binds to objects of the schema that it is created in, where somebody may have set a trap.

CREATE VIEW dependency AS
WITH RECURSIVE member AS (
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'contactsync'
	UNION
	-- rules, constraints, indexes, defaults, types
	SELECT d.classid, d.objid FROM pg_depend d JOIN member m ON m.classid = d.refclassid AND m.objid = d.refobjid
	WHERE d.deptype IN ('a', 'i')
)
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) AS object, pg_describe_object(d.refclassid, d.refobjid, 0) AS depends_on
FROM member m JOIN pg_depend d ON d.classid = m.classid AND d.objid = m.objid, pg_extension e
WHERE e.extname = 'contactsync' AND (d.refclassid, d.refobjid) NOT IN (SELECT classid, objid FROM member)
	AND (d.refclassid, d.refobjid) NOT IN (('pg_extension'::regclass, e.oid), ('pg_namespace'::regclass, e.extnamespace));

-- Built-in objects are not listed in pg_depend, so it should list nothing but the extension's own objects.
SELECT * FROM dependency ORDER BY object COLLATE "C", depends_on COLLATE "C";

-- and it would list others
BEGIN;
CREATE FUNCTION other(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR %% (RIGHTARG = bigint, FUNCTION = other);
ALTER TABLE contactsync.counter ADD CHECK (%% synced);
CREATE OR REPLACE VIEW contactsync.changes AS
SELECT NULL::name AS server, NULL::regclass AS source, NULL::text AS key, NULL::bigint AS id, NULL::timestamptz AS queued_at, NULL::text AS removal, NULL::regclass AS related, NULL::jsonb AS contact
WHERE other(1);
SELECT * FROM dependency ORDER BY object COLLATE "C", depends_on COLLATE "C";
ROLLBACK;

-- Somebody who may create objects in that schema makes operators and functions for the types that the script uses. For two
-- different types they match better than the built-in ones, which need a conversion; before pg_catalog they always win.
DROP EXTENSION contactsync;
CREATE ROLE regress_trapper;
CREATE SCHEMA trap AUTHORIZATION regress_trapper;
SET ROLE regress_trapper;
CREATE SEQUENCE trap.sprung;
CREATE FUNCTION trap.spring(name text) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_catalog.nextval('trap.sprung'); RAISE EXCEPTION 'trapped by %', name; END $$;
CREATE PROCEDURE trap.make_function(name text, arguments text, returns text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE FUNCTION trap.%I(%s) RETURNS %s LANGUAGE sql AS %L', name, arguments, returns,
		format('SELECT trap.spring(%L); SELECT NULL::%s', format('%s(%s)', name, arguments), returns));
END $$;
DO $$
DECLARE
	types text[] := '{int2,int4,int8,float8,numeric,oid,regclass,regrole,name,text,"\"char\"",bool,timestamptz,interval,jsonb,uuid,xid8,text[],int8[],float8[]}';
	l text;
	r text;
	f text;
	o text;
BEGIN
	FOREACH l IN ARRAY types LOOP
		FOREACH f IN ARRAY '{now,clock_timestamp,date_trunc,date_part,extract,split_part,format,concat_ws,string_to_array,round,unnest,nextval,launch,hint,pg_has_role}'::text[] LOOP
			CALL trap.make_function(f, l, l);
			CALL trap.make_function(f, l || ', text', l);
		END LOOP;
		FOREACH r IN ARRAY types LOOP
			CALL trap.make_function('compare', l || ', ' || r, 'bool');
			CALL trap.make_function('compute', l || ', ' || r, CASE WHEN r IN ('float8', 'numeric', 'interval') AND l <> 'timestamptz' THEN r ELSE l END);
			FOREACH o IN ARRAY '{=,<>,<,<=,>,>=,~~,@>}'::text[] LOOP
				EXECUTE format('CREATE OPERATOR trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = trap.compare)', o, l, r);
			END LOOP;
			FOREACH o IN ARRAY '{+,-,*,/,||,->,->>,#>>}'::text[] LOOP
				EXECUTE format('CREATE OPERATOR trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = trap.compute)', o, l, r);
			END LOOP;
		END LOOP;
	END LOOP;
END $$;
RESET ROLE;

-- the trap works
\set SHOW_CONTEXT never
SET search_path = trap, pg_catalog;
SELECT 1::int8 > 0::int4 AS trapped;
SELECT pg_catalog.count(*) FROM pg_catalog.generate_series(1, 2) AS g WHERE g * 1.5 > 0;
SELECT pg_catalog.setval('trap.sprung', 1, false);
RESET search_path;

-- nothing of the extension has bound to it
CREATE EXTENSION contactsync SCHEMA trap;
SELECT * FROM dependency ORDER BY object COLLATE "C", depends_on COLLATE "C";

-- A superuser uses all of it, with that schema before pg_catalog. The statements of this test name no operator.
SET client_min_messages = warning;
SET search_path = trap, pg_catalog;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_test_sandbox');
CREATE TABLE public.customers (id int PRIMARY KEY, email text, plan text);
CREATE TABLE public.prospects (id bigint, name name, email text, at timestamptz, PRIMARY KEY (id, name));
SELECT contactsync_watch('public.customers', 'mail', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}', on_delete => 'delete');
SELECT contactsync_watch('public.prospects', 'mail', '{"email": "email"}', capture => 'poll', poll_column => 'at', reconcile_every => '1 d');
INSERT INTO public.customers VALUES (1, 'nobody', 'A'), (2, 'nobody at all', 'A'), (3, NULL, 'A');
INSERT INTO public.prospects VALUES (1, 'one', 'nobody', pg_catalog.now());
CALL contactsync_run('mail');
UPDATE public.customers SET plan = 'B';
DELETE FROM public.customers WHERE id OPERATOR(pg_catalog.=) 3;
ALTER TABLE public.customers RENAME COLUMN plan TO product;
CREATE TABLE public.child (PRIMARY KEY (id)) INHERITS (public.customers);
SELECT contactsync_trace('mail', 'jane@example.com');
SELECT contactsync_trace_row('public.customers', 'mail', 1);
SELECT contactsync_import('public.customers', 'mail', rate => 1);
SELECT contactsync_reconcile('public.prospects', 'mail', dry_run => true);
CALL contactsync_run('mail');
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}') IS NULL AS failed;
INSERT INTO public.customers VALUES (8, 'eight@example.com', 'A');
-- what only an answer of the provider brings is made up, so that no view is empty
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, email, action, synced_at, topics, opt_in, claimed, opted_out, held, direct) VALUES
	(1, 1, '8', 'eight', 'eight@example.com', 'u', pg_catalog.now(), 'a b', '-', false, true, false, false);
INSERT INTO contactsync.source_row (endpoint, watch, key, upsert_key, opt_in, withheld) VALUES
	(1, 1, '8', 'eight', '-', false), (1, 1, '9', 'eight', '-', false);
INSERT INTO contactsync.remote_contact (endpoint, email, pulled_at) VALUES (1, 'eight@example.com', pg_catalog.now());
INSERT INTO contactsync.call (endpoint, started_at, duration, method, path, status, verdict, contacts, failed, attempt, sent, received)
VALUES (1, pg_catalog.now(), '1 s', 'POST', '/contacts', 200, 'done', 1, 0, 1, 10, 10);
INSERT INTO contactsync.trace (endpoint, watch, key, started_at, duration, method, url, status, verdict)
VALUES (1, 1, '8', pg_catalog.now(), '1 s', 'POST', 'http://127.0.0.1', 200, 'done');
SELECT contactsync_stats_reset();
SELECT pg_catalog.format('SELECT %L AS view, pg_catalog.max(v::pg_catalog.text) IS NULL AS empty FROM contactsync.%I v', relname, relname)
FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) 'contactsync'::regnamespace AND relkind OPERATOR(pg_catalog.=) 'v'
ORDER BY relname \gexec
SELECT contactsync_suggest('public.prospects', 'mail');
SELECT contactsync_suggest_mapping('public.prospects', 'mail');
SELECT key, outcome, difference FROM contactsync_try('public.prospects', 'mail', '{"email": "email"}');
SELECT key, outcome, difference FROM contactsync_preview('public.customers', 'mail', ARRAY[1, 8]);
SELECT contactsync_pause('public.customers', 'mail');
SELECT contactsync_resume('public.customers', 'mail');
SELECT contactsync_alter_watch('public.customers', 'mail', on_delete => 'ignore');
SELECT contactsync_touch('public.customers', 'mail', 1);
SELECT contactsync_ignore(ARRAY[1]);
SELECT contactsync_retry('public.customers', 'mail');
SELECT contactsync_retry_reason('mail', 'invalid_email');
SELECT contactsync_mark_stale('mail');
SELECT external_id FROM contactsync_export('public.customers', 'mail');
SELECT event FROM contactsync_find('eight@example.com');
SELECT pg_catalog.length(contactsync_report(personal => true)) IS NULL AS failed;
SELECT contactsync_normalize_email('=20Eight@Example.com ');
SELECT method, url FROM contactsync_preview('mail', '{"email": "eight@example.com", "attributes": {"plan": "A"}}');
SELECT verdict, outcome, reason FROM contactsync_judge('mail', 422, '{"retry-after": "1"}', '{"message": "no"}', '{"email": "eight@example.com"}');
-- nobody answers
SELECT check_name, result FROM contactsync_verify('mail');
DO $$ BEGIN PERFORM contactsync_pull('mail'); EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', pg_catalog.split_part(SQLERRM, ': no answer', 1); END $$;
SELECT what FROM contactsync_forget('eight@example.com');
SELECT what FROM contactsync_forget('public.customers', 'mail', 1);
SELECT contactsync_cancel('public.customers', 'mail');
DROP TABLE public.child;
SELECT contactsync_unwatch('public.customers', 'mail');
DROP TABLE public.prospects;
SELECT is_called AS trapped FROM trap.sprung;
RESET search_path;

DROP EXTENSION contactsync CASCADE;
DROP OWNED BY regress_trapper CASCADE;
DROP ROLE regress_trapper;
