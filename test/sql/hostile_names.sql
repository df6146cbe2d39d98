-- Names are data: whoever chose the name of anything, no part of it is ever run.

\set SHOW_CONTEXT never
\set VERBOSITY terse
SET client_min_messages = error;
CREATE ROLE regress_m;
CREATE SCHEMA m AUTHORIZATION regress_m;
CREATE FUNCTION m.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE canary (alive boolean);
INSERT INTO canary VALUES (true);

-- Each name is that of a table, and with another first letter that of one object of each other kind.
CREATE TABLE hostile (n int GENERATED ALWAYS AS IDENTITY, name text);
INSERT INTO hostile (name) VALUES
	('EXECUTE FUNCTION m.f();ALTER ROLE regress_m SUPERUSER;--'),
	('"; ALTER ROLE regress_m SUPERUSER; --'),
	('''; ALTER ROLE regress_m SUPERUSER; --'),
	(E'\\''; DELETE FROM public.canary; --\\000'),
	(E'\n; DELETE FROM public.canary;\n--'),
	(E'x\n); DELETE FROM public.canary; --'),
	('$$; DELETE FROM public.canary; $$ $1'),
	('*/ DELETE FROM public.canary; /*'),
	('%s%n%I%L%1$I {"a": [1]}'),
	('one.two.three'),
	('Select'),
	('contactsync_keys'),
	(repeat('"''; ', 20));

CREATE FUNCTION named(kind text, name text) RETURNS text LANGUAGE sql
AS $$ SELECT CASE kind WHEN 'table' THEN left(name, 63) WHEN 'role' THEN left('regress_' || name, 63) ELSE left(kind || ' ' || name, 63) END $$;
-- Put names into a statement: {kind} is an identifier, {schema.kind} a qualified one, and with a colon after it a literal.
CREATE FUNCTION fill(statement text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	kind text;
	identifier text;
	place text;
BEGIN
	FOR kind IN SELECT DISTINCT m[1] FROM regexp_matches(statement, '\{(?:schema\.)?([a-z]+):?\}', 'g') AS m LOOP
		FOREACH place IN ARRAY '{"",schema.}'::text[] LOOP
			identifier := CASE WHEN place <> '' THEN quote_ident(named('schema', name)) || '.' ELSE '' END || quote_ident(named(kind, name));
			statement := replace(statement, '{' || place || kind || '}', identifier);
			statement := replace(statement, '{' || place || kind || ':}',
				quote_literal(CASE WHEN place <> '' THEN identifier ELSE named(kind, name) END));
		END LOOP;
	END LOOP;
	RETURN statement;
END $$;
-- the mapping as a literal: the columns are named in expressions
CREATE FUNCTION mapping(name text, address text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('email', quote_ident(named(address, name)), 'external_id', quote_ident(named('kind', name)) || '::text || id',
		'attributes', jsonb_build_object(name, quote_ident(named('table', name)) || '.' || quote_ident(named(address, name)), 'label', quote_literal(name)))
$$;
CREATE FUNCTION rename_triggers(source regclass, name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	t record;
BEGIN
	FOR t IN SELECT tgname, tgtype & 32 AS kind FROM pg_trigger WHERE tgrelid = source AND tgfoid = 'contactsync.capture'::regproc ORDER BY 2 LOOP
		EXECUTE format('ALTER TRIGGER %I ON %s RENAME TO %I', t.tgname, source, left(CASE t.kind WHEN 0 THEN name ELSE 'x' || name END, 63));
	END LOOP;
END $$;

-- Everything that the extension does, in this order, as a superuser (t) or as the role.
CREATE TABLE walk (n int GENERATED ALWAYS AS IDENTITY, super boolean, statement text);
COPY walk (super, statement) FROM stdin;
t	CREATE ROLE {role}
t	CREATE SCHEMA {schema} AUTHORIZATION {role}
t	CREATE SERVER {server} FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9')
t	GRANT USAGE ON FOREIGN SERVER {server} TO {role}
t	CREATE USER MAPPING FOR {role} SERVER {server} OPTIONS (api_key 'secret')
f	CREATE TYPE {schema.type} AS ENUM ('a', 'b', {label:})
f	CREATE SEQUENCE {schema.sequence}
f	CREATE TABLE {schema.table} ({kind} {schema.type}, id int DEFAULT nextval({schema.sequence:}), {email} text, CONSTRAINT {constraint} PRIMARY KEY ({kind}, id)) PARTITION BY LIST ({kind})
f	CREATE TABLE {schema.part} PARTITION OF {schema.table} DEFAULT PARTITION BY LIST ({kind})
f	CREATE TABLE {schema.subpart} PARTITION OF {schema.part} DEFAULT
f	CREATE TABLE {schema.parent} (LIKE {schema.table} INCLUDING ALL)
f	CREATE TABLE {schema.child} (PRIMARY KEY ({kind}, id)) INHERITS ({schema.parent})
f	SELECT contactsync_watch({schema.table:}, {server:}, mapping({table:}, 'email'), filter => quote_ident({email:}) || ' IS DISTINCT FROM ' || quote_literal({table:}), on_delete => 'delete')
f	SELECT contactsync_watch({schema.parent:}, {server:}, key => ARRAY[{kind:}, 'id'], mapping => jsonb_build_object('email', quote_ident({email:})), always => true)
f	SELECT rename_triggers({schema.table:}, {table:}), rename_triggers({schema.parent:}, {table:})
f	CREATE TABLE {schema.grandchild} (PRIMARY KEY ({kind}, id)) INHERITS ({schema.child})
f	CREATE TABLE {schema.stray} (LIKE {schema.parent} INCLUDING ALL)
f	ALTER TABLE {schema.stray} INHERIT {schema.parent}
f	CREATE TABLE {schema.other} PARTITION OF {schema.table} FOR VALUES IN ('b')
f	CREATE TABLE {schema.loose} (LIKE {schema.table})
f	ALTER TABLE {schema.table} ATTACH PARTITION {schema.loose} FOR VALUES IN ({label:})
t	INSERT INTO seen SELECT {table:}, count(DISTINCT tgrelid), count(*), count(DISTINCT tgargs) FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc
f	INSERT INTO {schema.table} ({kind}, {email}) VALUES ('a', 'nobody'), ('b', {table:}), ({label:}, 'nobody')
f	INSERT INTO {schema.grandchild} ({kind}, {email}) VALUES ({label:}, {table:})
f	CALL contactsync_run({server:})
t	UPDATE seen SET failures = (SELECT count(*) FROM contactsync.failures) WHERE name = {table:}
f	ALTER TABLE {schema.table} RENAME COLUMN {email} TO {address}
f	ALTER TABLE {schema.parent} RENAME COLUMN {email} TO {address}
f	ALTER TABLE {schema.parent} RENAME COLUMN {kind} TO {sort}
f	TRUNCATE {schema.other}, {schema.grandchild}
f	UPDATE {schema.table} SET {address} = 'no body'
f	CALL contactsync_run({server:})
f	SET search_path = {schema}, "$user", public; SELECT contactsync_alter_watch(quote_ident({table:})::regclass, {server:}, mapping({table:}, 'address'), filter => quote_ident({address:}) || ' <> ' || quote_literal({label:}), always => true); RESET search_path
f	SELECT contactsync_alter_watch({schema.parent:}, {server:}, always => false)
f	SELECT contactsync_import({schema.table:}, {server:}, filter => quote_ident({address:}) || ' <> ' || quote_literal({table:}))
f	CALL contactsync_run({server:})
f	SELECT contactsync_reconcile({schema.parent:}, {server:}, dry_run => true)
f	SELECT contactsync_touch({schema.table:}, {server:}, ARRAY[{label:}, '1'], ARRAY['a', '2'])
f	SELECT contactsync_trace({server:}, {email:})
f	SELECT contactsync_trace_row({schema.table:}, {server:}, ARRAY[{label:}, '1'])
f	SELECT contactsync_preview({server:}, jsonb_build_object('email', 'jane@example.com', 'external_id', {label:}))
f	SELECT contactsync_preview({schema.table:}, {server:}, ARRAY[ARRAY[{label:}, '1'], ARRAY['a', '2']])
f	SELECT contactsync_suggest({schema.table:}, {server:})
f	SELECT contactsync_suggest({schema.parent:}, {server:})
f	SET search_path = {schema}, "$user", public; SELECT contactsync_try(quote_ident({table:})::regclass, {server:}, mapping({table:}, 'address'), filter => quote_ident({address:}) || ' <> ' || quote_literal({label:})); RESET search_path
f	SELECT contactsync_judge({server:}, 422, jsonb_build_object('x-header', {label:}), {label:}, jsonb_build_object('email', 'jane@example.com', 'external_id', {label:}))
f	SELECT contactsync_retry({schema.table:}, {server:}), contactsync_retry({server:}), contactsync_retry_reason({server:}, {label:})
f	SELECT contactsync_ignore(array_agg(id)) FROM contactsync.failures
f	SELECT contactsync_pause({server:}), contactsync_pause({schema.table:}, {server:})
f	SELECT contactsync_upsert({server:}, jsonb_build_object('email', 'jane@example.com', 'external_id', {label:}, 'attributes', jsonb_build_object({label:}, {label:})))
f	SELECT contactsync_find('jane@example.com'), contactsync_forget('jane@example.com')
f	SELECT contactsync_resume({server:}), contactsync_resume({schema.table:}, {server:})
f	SELECT contactsync_mark_stale({server:})
f	SELECT contactsync_stats_reset({server:})
f	SELECT contactsync_export({schema.table:}, {server:})
f	SELECT contactsync_find({label:})
f	SELECT contactsync_report(personal => true)
f	SELECT contactsync_cancel({schema.table:}, {server:})
f	SELECT contactsync_forget({schema.table:}, {server:}, ARRAY[{label:}, '1'])
f	SELECT contactsync_forget(format('%s@example.com', quote_ident('x')))
f	ALTER TABLE {schema.part} DETACH PARTITION {schema.subpart}
f	ALTER TABLE {schema.grandchild} NO INHERIT {schema.child}
f	CREATE VIEW {schema.view} AS SELECT id, {address}, now() AS {changed} FROM {schema.parent}
f	SELECT contactsync_watch({schema.view:}, {server:}, jsonb_build_object('email', quote_ident({address:})), key => ARRAY['id'], capture => 'poll', poll_column => {changed:}, reconcile_every => '1 h')
f	CALL contactsync_run({server:})
f	ALTER VIEW {schema.view} RENAME COLUMN {changed} TO {altered}
f	ALTER VIEW {schema.view} RENAME COLUMN {address} TO {mailbox}
f	SELECT contactsync_alter_watch({schema.view:}, {server:}, poll_column => {altered:}, poll_every => '1 min')
f	CALL contactsync_run({server:})
t	SELECT to_jsonb(v) FROM contactsync.status v
t	SELECT format('SELECT jsonb_agg(v) FROM contactsync.%I v', relname) FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace AND relkind = 'v'
t	ALTER SERVER {server} RENAME TO {provider}
t	ALTER ROLE {role} RENAME TO {person}
t	CALL contactsync_run({provider:})
t	SELECT contactsync_reconcile({schema.table:}, {provider:}, dry_run => true)
t	SELECT contactsync_alter_watch({schema.table:}, {provider:}, filter => '', on_delete => 'ignore')
t	CREATE TABLE {schema.fresh} PARTITION OF {schema.table} FOR VALUES IN ('a')
t	CREATE TABLE {schema.infant} (PRIMARY KEY ({sort}, id)) INHERITS ({schema.parent})
t	SELECT contactsync_find({label:})
t	SELECT contactsync_unwatch({schema.parent:}, {provider:})
t	DROP TABLE {schema.table} CASCADE
t	DROP SERVER {provider} CASCADE
t	ALTER ROLE {person} RENAME TO {role}
t	DROP OWNED BY {role} CASCADE
t	DROP ROLE {role}
\.

CREATE TABLE seen (name text, tables bigint, triggers bigint, arguments bigint, failures bigint);

-- By plain roles, each with a name of its own; what only a superuser may do is done by one.
\set ECHO none
\o /dev/null
SELECT CASE WHEN NOT super THEN fill('SET SESSION AUTHORIZATION {role}', name) END, fill(statement, name), 'RESET SESSION AUTHORIZATION'
FROM hostile, walk ORDER BY hostile.n, walk.n \gexec
\o
\set ECHO all
SELECT n, tables, triggers, arguments, failures FROM hostile LEFT JOIN seen ON seen.name = left(hostile.name, 63) ORDER BY n;
SELECT rolname, rolsuper FROM pg_roles WHERE rolname LIKE 'regress%' ORDER BY rolname;
SELECT * FROM canary;

-- Then all of it by a superuser.
TRUNCATE seen;
\set ECHO none
\o /dev/null
SELECT replace(fill(statement, name), 'CREATE USER MAPPING FOR ' || quote_ident(named('role', name)), 'CREATE USER MAPPING FOR CURRENT_USER')
FROM hostile, walk ORDER BY hostile.n, walk.n \gexec
\o
\set ECHO all
SELECT n, tables, triggers, arguments, failures FROM hostile LEFT JOIN seen ON seen.name = left(hostile.name, 63) ORDER BY n;
SELECT rolname, rolsuper FROM pg_roles WHERE rolname LIKE 'regress%' ORDER BY rolname;
SELECT * FROM canary;
SELECT count(*) FROM contactsync.watch;
DROP SCHEMA m CASCADE;
DROP ROLE regress_m;
