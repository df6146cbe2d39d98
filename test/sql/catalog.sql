-- Catalog entries of the extension.

CREATE VIEW member AS
SELECT classid, objid, pg_describe_object(classid, objid, 0) AS object
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'contactsync');

-- every object has a comment
SELECT object FROM member
WHERE obj_description(objid, classid::regclass::name) IS NULL
	AND classid NOT IN ('pg_type'::regclass, 'pg_namespace'::regclass) AND object NOT LIKE 'sequence %'
ORDER BY object COLLATE "C";

-- all data is dumped, including the sequences
SELECT c.oid::regclass AS not_dumped
FROM member JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass
WHERE c.relkind IN ('r', 'S') AND NOT EXISTS (SELECT FROM pg_extension WHERE c.oid = ANY (extconfig))
ORDER BY 1::text COLLATE "C";

-- privileges of PUBLIC
SELECT object FROM member JOIN pg_proc p ON p.oid = objid AND classid = 'pg_proc'::regclass
WHERE has_function_privilege('public', p.oid, 'EXECUTE')
ORDER BY object COLLATE "C";

SELECT object, privilege FROM member JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass,
	unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
WHERE c.relkind <> 'S' AND has_table_privilege('public', c.oid, privilege)
ORDER BY object COLLATE "C";

SELECT object, privilege FROM member JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass,
	unnest(ARRAY['SELECT', 'UPDATE', 'USAGE']) AS privilege
WHERE c.relkind = 'S' AND has_sequence_privilege('public', c.oid, privilege)
ORDER BY object COLLATE "C";

SELECT object, privilege FROM member, unnest(ARRAY['CREATE', 'USAGE']) AS privilege
WHERE classid = 'pg_namespace'::regclass AND has_schema_privilege('public', objid, privilege);

-- functions whose names could be resolved in a schema chosen by their caller
SELECT object FROM member JOIN pg_proc p ON p.oid = objid AND classid = 'pg_proc'::regclass
WHERE (p.prosecdef OR p.prolang IN (SELECT oid FROM pg_language WHERE lanname NOT IN ('c', 'internal')))
	AND p.prosqlbody IS NULL AND array_to_string(p.proconfig, ',') NOT LIKE 'search_path=%'
ORDER BY object COLLATE "C";

-- views whose conditions could be evaluated after a cheap function of the reader
SELECT object FROM member JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass
WHERE c.relkind = 'v' AND NOT COALESCE(c.reloptions @> '{security_barrier=true}', false);

-- tables without a replica identity: in a publication, nothing could be updated or deleted there
SELECT object FROM member JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass
WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_index i
	WHERE i.indrelid = c.oid AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident));

-- views whose names are not plural, except for those of what is not counted
SELECT object FROM member JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass
WHERE c.relkind = 'v' AND c.relname NOT LIKE '%s' AND c.relname NOT IN ('progress', 'history');

DROP VIEW member;

-- the extension can be dropped completely, and created again in another schema
DROP EXTENSION contactsync;
SELECT nspname FROM pg_namespace WHERE nspname = 'contactsync';
CREATE SCHEMA elsewhere;
CREATE EXTENSION contactsync SCHEMA elsewhere;
SELECT elsewhere.contactsync_normalize_email(' Jane@Example.com');

-- a schema that has the name of its own is not touched
DROP EXTENSION contactsync;
CREATE SCHEMA contactsync;
\set SHOW_CONTEXT never
CREATE EXTENSION contactsync;
\echo :SQLSTATE
CREATE EXTENSION contactsync SCHEMA contactsync;
DROP SCHEMA contactsync;
CREATE EXTENSION contactsync;
