-- What roles may see and do because of what they are, as docs/security.md states it.

\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_sec_plain;
CREATE ROLE regress_sec_shop NOINHERIT;
CREATE ROLE regress_sec_owner;
-- who watches a table has to be a member of the role that owns it, but need not have its rights
GRANT regress_sec_owner TO regress_sec_shop;
CREATE ROLE regress_sec_monitor IN ROLE pg_monitor;
CREATE ROLE regress_sec_reader IN ROLE pg_read_all_data;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_sec_shop;
GRANT CREATE ON SCHEMA public TO regress_sec_owner;

--
-- Objects
--

-- nobody but the owner has a right on a table or a sequence, and PUBLIC may only read views, of which each shows a role its own
SELECT DISTINCT c.relkind, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace = 'contactsync'::regnamespace AND a.grantee <> c.relowner;
SELECT relname FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace AND relkind IN ('r', 'S', 'p', 'm', 'f')
	AND (has_table_privilege('regress_sec_plain', oid, 'SELECT') OR has_table_privilege('regress_sec_plain', oid, 'INSERT'));
SELECT relname FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'v'
	AND (NOT 'security_barrier=true' = ANY (reloptions) OR relname <> 'latencies' AND pg_get_viewdef(oid) NOT LIKE '%pg_has_role%');
-- no function runs with the rights of its owner because of its definition
SELECT p.proname FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
	JOIN pg_extension e ON e.oid = d.refobjid AND d.deptype = 'e' WHERE e.extname = 'contactsync' AND p.prosecdef;
-- every table has a replica identity, so that a publication of all tables disturbs nothing
SELECT relname FROM pg_class c WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'r'
	AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND CASE relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END);

--
-- Roles
--

SET SESSION AUTHORIZATION regress_sec_shop;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'the_secret');
SET SESSION AUTHORIZATION regress_sec_owner;
CREATE TABLE customers (id int PRIMARY KEY, email text);
GRANT SELECT, TRIGGER ON customers TO regress_sec_shop;
SET SESSION AUTHORIZATION regress_sec_shop;
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "first_name": "''hidden''"}') > 0 AS watched;
INSERT INTO customers VALUES (1, 'jane@example.com');
SET SESSION AUTHORIZATION regress_sec_owner;
INSERT INTO customers VALUES (1, 'jane@example.com');

-- what a role sees: watches and changes, the state, options of the server, the key; and whether it sees the tables
CREATE TEMP TABLE eye (role text, watches bigint, changes bigint, states bigint, backlog numeric, server boolean, key boolean, tables text);
GRANT ALL ON eye TO PUBLIC;
CREATE FUNCTION pg_temp.look() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	key boolean;
	tables text;
BEGIN
	BEGIN
		SELECT bool_or(umoptions::text LIKE '%the_secret%') INTO key FROM pg_user_mapping;
	EXCEPTION WHEN insufficient_privilege THEN
		SELECT bool_or(umoptions::text LIKE '%the_secret%') INTO key FROM pg_user_mappings;
	END;
	BEGIN
		SELECT string_agg(keys::text, ' ') INTO tables FROM contactsync.queue;
	EXCEPTION WHEN insufficient_privilege THEN
		tables := 'denied';
	END;
	INSERT INTO eye SELECT session_user, (SELECT count(*) FROM contactsync.watches), (SELECT count(*) FROM contactsync.changes), (SELECT count(*) FROM contactsync.status),
		(SELECT sum(backlog) FROM contactsync.status), EXISTS (SELECT FROM pg_foreign_server WHERE srvoptions::text LIKE '%tenant_id=t1%'), COALESCE(key, false), tables;
END $$;
RESET SESSION AUTHORIZATION;
\o /dev/null
SELECT format('SET SESSION AUTHORIZATION regress_sec_%s', r), 'SELECT pg_temp.look()', 'RESET SESSION AUTHORIZATION' FROM unnest('{plain,owner,shop,monitor,reader}'::text[]) r \gexec
\o
SELECT * FROM eye;
-- the owner of the table sees that it is watched, but not by what
SET SESSION AUTHORIZATION regress_sec_owner;
SELECT count(*), bool_or(pg_get_triggerdef(oid) LIKE '%hidden%') AS mapping FROM pg_trigger WHERE tgrelid = 'customers'::regclass;
-- and can end it
DROP TABLE customers;
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM contactsync.watch;

-- who may use a server uses its own key, not that of another role
GRANT USAGE ON FOREIGN SERVER mail TO regress_sec_plain;
SET SESSION AUTHORIZATION regress_sec_plain;
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}');
SELECT * FROM contactsync_preview('mail', '{"email": "jane@example.com"}') \gset preview_
SELECT :'preview_curl' LIKE '%the_secret%' AS key;
ALTER SERVER mail OPTIONS (SET base_url 'https://mallory.example.com');
RESET SESSION AUTHORIZATION;

DROP OWNED BY regress_sec_shop, regress_sec_owner, regress_sec_plain CASCADE;
DROP ROLE regress_sec_shop, regress_sec_owner, regress_sec_plain, regress_sec_monitor, regress_sec_reader;
