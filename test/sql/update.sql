-- Updates. The result of ALTER EXTENSION UPDATE from an older version is compared with that of CREATE EXTENSION. Until the
-- first release there is no older version, so the list of versions below is empty; lint requires an update script from each
-- version that CHANGELOG.md calls released, and with the first script the expected output of this test changes.

-- a description of everything that the extension owns, except for the order of columns, because an update adds them at the end
CREATE FUNCTION rights(acl aclitem[]) RETURNS text LANGUAGE sql
AS $$ SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest(acl) a $$;

CREATE FUNCTION described() RETURNS TABLE (object text, detail text) LANGUAGE sql AS $$
	WITH member AS (
		SELECT d.classid, d.objid, i.type || ' ' || i.identity AS object
		FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) i
		WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
			AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'contactsync')),
	relation AS (
		SELECT m.object, c.* FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid)
	SELECT object, concat_ws(' | ', obj_description(objid, classid::regclass::name),
		'initially ' || (SELECT string_agg(concat_ws(' ', p.objsubid, p.privtype, rights(p.initprivs)), ', ' ORDER BY p.objsubid)
			FROM pg_init_privs p WHERE p.classoid = classid AND p.objoid = objid))
	FROM member
	UNION ALL
	SELECT object, concat_ws(' | ', pg_get_functiondef(p.oid), rights(proacl), proowner::regrole)
	FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
	UNION ALL
	SELECT object, concat_ws(' | ', relkind, relpersistence, reloptions, rights(relacl), relowner::regrole, relrowsecurity, relreplident)
	FROM relation
	UNION ALL
	SELECT object || ' column ' || attname, concat_ws(' | ', format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
		attstorage, attcompression, attcollation::regcollation, attstattarget, rights(attacl), col_description(r.oid, attnum),
		pg_get_expr(adbin, adrelid), attislocal)
	FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
	UNION ALL
	SELECT object || ' definition', pg_get_viewdef(oid) FROM relation WHERE relkind IN ('v', 'm')
	UNION ALL
	SELECT object || ' constraint ' || conname, concat_ws(' | ', pg_get_constraintdef(c.oid), obj_description(c.oid, 'pg_constraint'))
	FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
	UNION ALL
	SELECT object || ' index ' || i.indexrelid::regclass, concat_ws(' | ', pg_get_indexdef(i.indexrelid), indisclustered, indisreplident)
	FROM relation r JOIN pg_index i ON i.indrelid = r.oid
	UNION ALL
	SELECT object || ' trigger ' || tgname, concat_ws(' | ', pg_get_triggerdef(t.oid), tgenabled)
	FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
	UNION ALL
	SELECT object || ' policy ' || polname, concat_ws(' | ', polcmd, polpermissive, polroles, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
	FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
	UNION ALL
	SELECT object || ' dumped', (SELECT string_agg('where ' || COALESCE(e.extcondition[n], ''), ', ')
		FROM pg_extension e, generate_subscripts(e.extconfig, 1) n WHERE e.extname = 'contactsync' AND e.extconfig[n] = r.oid)
	FROM relation r
	UNION ALL
	SELECT object || ' sequence', concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle)
	FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
	UNION ALL
	SELECT object, concat_ws(' | ', evtevent, evtfoid::regproc, evtenabled, evttags, evtowner::regrole)
	FROM member m JOIN pg_event_trigger e ON m.classid = 'pg_event_trigger'::regclass AND m.objid = e.oid
	UNION ALL
	SELECT object, concat_ws(' | ', fdwhandler::regproc, fdwvalidator::regproc, rights(fdwacl), fdwoptions, fdwowner::regrole)
	FROM member m JOIN pg_foreign_data_wrapper f ON m.classid = 'pg_foreign_data_wrapper'::regclass AND m.objid = f.oid
	UNION ALL
	SELECT object, concat_ws(' | ', rights(nspacl), nspowner::regrole)
	FROM member m JOIN pg_namespace n ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid
	UNION ALL
	SELECT object, concat_ws(' | ', typtype, typnotnull, typbasetype::regtype, typdefault, rights(typacl),
		(SELECT string_agg(enumlabel, ' ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid),
		(SELECT string_agg(pg_get_constraintdef(c.oid), ' ') FROM pg_constraint c WHERE c.contypid = t.oid))
	FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
$$;

CREATE TABLE fresh AS SELECT object, detail FROM described();
CREATE VIEW difference AS
SELECT 'missing' AS after_update, * FROM (SELECT * FROM fresh EXCEPT SELECT * FROM described()) d
UNION ALL
SELECT 'unexpected', * FROM (SELECT * FROM described() EXCEPT SELECT * FROM fresh) d;
CREATE TABLE found (version text, after_update text, object text, detail text);

-- any difference is found
BEGIN;
ALTER TABLE contactsync.counter ALTER COLUMN failed DROP DEFAULT;
COMMENT ON VIEW contactsync.calls IS 'something else';
REVOKE SELECT ON contactsync.contacts FROM PUBLIC;
ALTER TABLE contactsync.queue REPLICA IDENTITY FULL;
ALTER EXTENSION contactsync DROP TABLE contactsync.call;
SELECT bool_or(object ~ 'counter column failed') AS default_value, bool_or(object ~ 'view .*calls') AS comment,
	bool_or(object ~ 'view .*contacts') AS rights, bool_or(object ~ 'table contactsync.queue') AS replica_identity,
	bool_or(object ~ 'table contactsync.call ') AS member
FROM difference;
ROLLBACK;
SELECT * FROM difference;

-- the extension created again is the same
DROP EXTENSION contactsync;
CREATE EXTENSION contactsync;
SELECT * FROM difference;

-- so is the result of an update from each older version
CREATE TABLE version AS
SELECT p.source AS older, p.target AS newest
FROM pg_extension_update_paths('contactsync') p JOIN pg_available_extensions a ON a.default_version = p.target
WHERE a.name = 'contactsync' AND p.path IS NOT NULL;
SELECT older FROM version ORDER BY older;
SELECT unnest(ARRAY['DROP EXTENSION contactsync', format('CREATE EXTENSION contactsync VERSION %L', older),
	'ALTER EXTENSION contactsync UPDATE', format('INSERT INTO found SELECT %L, * FROM difference', older)])
FROM version ORDER BY older \gexec
SELECT * FROM found ORDER BY version, object COLLATE "C", after_update;

-- A library that is newer than the tables, as between the installation of a new version and ALTER EXTENSION UPDATE: changes
-- are captured, no statement of an application fails, and all other functions name the command to run. The tables are labelled as older.
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clx_sandbox');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_test_sandbox');
CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}');
CREATE TABLE label AS SELECT extversion FROM pg_extension WHERE extname = 'contactsync';
UPDATE pg_extension SET extversion = 'older' WHERE extname = 'contactsync';

INSERT INTO customers VALUES (1, 'one@example.com', 'A');
SELECT source, key FROM contactsync.changes;
CREATE TABLE more (id int PRIMARY KEY) INHERITS (customers);
ALTER TABLE more ADD COLUMN extra text;
DROP TABLE more;
SELECT server, source, state, backlog, worker FROM contactsync.status;
\set VERBOSITY sqlstate
CALL contactsync_run();
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}');
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}');
\set VERBOSITY default

-- after the update everything is there, and works
UPDATE pg_extension SET extversion = (SELECT extversion FROM label) WHERE extname = 'contactsync';
UPDATE customers SET plan = 'B' WHERE id = 1;
INSERT INTO customers VALUES (2, 'two@example.com', 'A');
SELECT source, key FROM contactsync.changes ORDER BY key;
SELECT server, source, state, backlog FROM contactsync.status;
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}');
SELECT contactsync_unwatch('customers', 'mail');
