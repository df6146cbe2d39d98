-- ALTER EXTENSION UPDATE: what was made by version 0.1 becomes what CREATE EXTENSION makes, with its data, and works on.
-- Whoever changes the script of the newest version changes the update script with it: this test tells what it lacks.

CREATE TABLE version AS SELECT extversion AS newest FROM pg_extension WHERE extname = 'contactsync';

-- everything that the extension owns, in words: the order of columns is left out, for new ones come last in an update
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
	SELECT object, concat_ws(' | ', relkind, relpersistence, reloptions, rights(relacl), relowner::regrole, relrowsecurity)
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
DROP EXTENSION contactsync;
CREATE EXTENSION contactsync VERSION '0.1';

-- what a user of 0.1 has: the library, which is new already, does not make it any more
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clx_sandbox');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_test_sandbox');
CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
INSERT INTO customers VALUES (1, 'one@example.com', 'A'), (2, 'two@example.com', 'A');
INSERT INTO contactsync.endpoint (server_oid, server, role)
SELECT oid, srvname, current_user::regrole FROM pg_foreign_server WHERE srvname = 'mail';
INSERT INTO contactsync.watch (source, endpoint, key, mapping, search_path)
VALUES ('customers', 1, '{id}', '{"email": "email", "external_id": "id", "attributes": {"plan": "plan"}}', 'public');
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, email, action, digest, synced_at)
VALUES (1, 1, '1', '1', 'one@example.com', 'u', 'c0ffee00-0000-0000-0000-000000000000', '2026-01-01');
INSERT INTO contactsync.failure (endpoint, watch, key, reason, attempts, first_at, last_at) VALUES (1, 1, '2', 'invalid_email', 1, '2026-01-01', '2026-01-02');
INSERT INTO contactsync.counter (endpoint, watch, synced, failed) VALUES (1, 1, 1, 1);
INSERT INTO contactsync.call (endpoint, started_at, duration, method, path, status, verdict, contacts, failed, attempt, sent, received)
VALUES (1, '2026-01-01', '1s', 'POST', '/contacts', 200, 'DONE', 1, 0, 1, 10, 10);
INSERT INTO contactsync.remote_contact (endpoint, email, pulled_at) VALUES (1, 'one@example.com', '2026-01-01');
CREATE TRIGGER contactsync_1 AFTER INSERT OR UPDATE OR DELETE ON customers
FOR EACH ROW EXECUTE FUNCTION contactsync.capture('1', '1', '1', 'id', 'id', 'email', 'plan');
CREATE TRIGGER contactsync_1_truncate AFTER TRUNCATE ON customers
FOR EACH STATEMENT EXECUTE FUNCTION contactsync.capture('1', '1', '1', 'id', 'id', 'email', 'plan');

-- before the update changes are captured, nobody's statement fails, and all else says what to type
UPDATE customers SET plan = 'B' WHERE id = 1;
SELECT source, key FROM contactsync.changes;
CREATE TABLE more (id int PRIMARY KEY) INHERITS (customers);
ALTER TABLE more ADD COLUMN extra text;
DROP TABLE more;
SELECT server, source, state, backlog, synced, failures, worker FROM contactsync.status;
CALL contactsync_run();
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}');
SELECT contactsync_upsert('mail', '{"email": "jane@example.com"}');

ALTER EXTENSION contactsync UPDATE;
SELECT extversion = newest AS is_newest FROM pg_extension, version WHERE extname = 'contactsync';

-- what differs from what CREATE EXTENSION makes: nothing
CREATE VIEW difference AS
SELECT 'missing' AS after_update, * FROM (SELECT * FROM fresh EXCEPT SELECT * FROM described()) d
UNION ALL
SELECT 'unexpected', * FROM (SELECT * FROM described() EXCEPT SELECT * FROM fresh) d;
SELECT * FROM difference ORDER BY object COLLATE "C", after_update;

-- and it would be found
BEGIN;
ALTER TABLE contactsync.counter ALTER COLUMN failed DROP DEFAULT;
COMMENT ON VIEW contactsync.calls IS 'something else';
REVOKE SELECT ON contactsync.contacts FROM PUBLIC;
ALTER EXTENSION contactsync DROP TABLE contactsync.call;
SELECT bool_or(object ~ 'counter column failed') AS default_value, bool_or(object ~ 'view .*calls') AS comment,
	bool_or(object ~ 'view .*contacts') AS rights, bool_or(object ~ 'table contactsync.call ') AS member
FROM difference;
ROLLBACK;

-- and the data is there, and works on
SELECT server, source, state, backlog, synced, failures FROM contactsync.status;
SELECT source, key FROM contactsync.changes;
SELECT key, upsert_key, action, synced_at IS NOT NULL AS synced FROM contactsync.contacts;
SELECT key, reason, attempts FROM contactsync.failures;
SELECT method, path, verdict FROM contactsync.calls;
SELECT email FROM contactsync.remote_contacts;
UPDATE customers SET plan = 'C' WHERE id = 2;
SELECT source, key FROM contactsync.changes ORDER BY key;
SELECT contactsync_retry('mail');
SELECT contactsync_unwatch('customers', 'mail');
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "external_id": "id"}');
INSERT INTO customers VALUES (3, 'three@example.com', 'A');
SELECT source, key FROM contactsync.changes;
