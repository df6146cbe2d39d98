-- A role that makes triggers and tables of its own harms nobody else's watches and DDL. The concurrent part is in
-- specs/hostile_locks.

\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_shop;
CREATE ROLE regress_mallory;
GRANT ALL ON SCHEMA public TO regress_shop, regress_mallory;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
GRANT USAGE ON FOREIGN SERVER mail TO regress_shop, regress_mallory;
CREATE USER MAPPING FOR regress_shop SERVER mail OPTIONS (api_key 'shops');
CREATE USER MAPPING FOR regress_mallory SERVER mail OPTIONS (api_key 'mallorys');
CREATE VIEW triggers AS SELECT tgrelid::regclass AS "table", tgname AS name, tgenabled AS enabled, replace(encode(tgargs, 'escape'), E'\\000', ' ') AS arguments
FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc ORDER BY tgrelid::regclass::text COLLATE "C", tgname;
GRANT SELECT ON triggers TO PUBLIC;
-- create a trigger of our function, with any name and arguments
CREATE FUNCTION forge(source regclass, name text, events text, VARIADIC arguments text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER %I AFTER %s EXECUTE FUNCTION contactsync.capture(%s)', name, replace(events, '$', source::text),
		(SELECT string_agg(quote_literal(a), ', ') FROM unnest(arguments) a));
END $$;

--
-- Names
--

-- the names that triggers of the next watches would have are taken, in the tree of a watch and on the table to be watched
SET SESSION AUTHORIZATION regress_mallory;
CREATE TABLE trap (id int PRIMARY KEY, email text, note text);
CREATE TABLE trap_child (PRIMARY KEY (id)) INHERITS (trap);
SELECT contactsync_watch('trap', 'mail', '{"email": "email"}') AS watch \gset
CREATE TABLE decoy (id int);
SELECT forge('trap_child', format('contactsync_%s', n), 'INSERT ON $ FOR EACH ROW', '1', '2', '1', 'id'),
	forge('trap_child', format('contactsync_%s_truncate', n), 'TRUNCATE ON $', '1', '2', '1', 'id') FROM generate_series(:watch + 1, :watch + 6) AS n;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_shop;
CREATE TABLE customers (id int PRIMARY KEY, email text, plan text);
CREATE TABLE vip (PRIMARY KEY (id)) INHERITS (customers);
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}') - :watch AS more;
CREATE TABLE gold (PRIMARY KEY (id)) INHERITS (vip);
RESET SESSION AUTHORIZATION;
SELECT "table", replace(name, (:watch + 1)::text, 'N') AS name, arguments FROM triggers WHERE "table"::text NOT LIKE 'trap%';
-- a watch on that tree has triggers of other names
SET SESSION AUTHORIZATION regress_mallory;
SELECT contactsync_unwatch('trap', 'mail');
SELECT contactsync_watch('trap', 'mail', '{"email": "email"}') - :watch AS more;
RESET SESSION AUTHORIZATION;
SELECT "table", replace(name, (:watch + 2)::text, 'N') AS name FROM triggers WHERE "table"::text LIKE 'trap%' AND name LIKE format('contactsync_%s%%', :watch + 2);
INSERT INTO trap_child VALUES (1, 'nobody');
SELECT source, key FROM contactsync.changes;
TRUNCATE contactsync.queue;

--
-- Arguments
--

SELECT id AS watch, endpoint FROM contactsync.watch WHERE source = 'customers'::regclass \gset
-- triggers of the arguments of somebody's watch, on one's own table
SET SESSION AUTHORIZATION regress_mallory;
SELECT forge('decoy', 'mine', 'INSERT OR UPDATE OR DELETE ON $ FOR EACH ROW', :'endpoint', :'watch', '1', 'id', 'email'),
	forge('decoy', 'mine too', 'TRUNCATE ON $', :'endpoint', :'watch', '1', 'id', 'email');
CREATE TEMPORARY TABLE volatile (id int);
SELECT forge('volatile', 'mine', 'INSERT OR UPDATE OR DELETE ON $ FOR EACH ROW', :'endpoint', :'watch', '1', 'id', 'email');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_shop;
ALTER TABLE customers RENAME email TO address;
SELECT contactsync_alter_watch('customers', 'mail', mapping => '{"email": "address", "attributes": {"plan": "plan"}}', always => true) IS NOT NULL AS altered;
RESET SESSION AUTHORIZATION;
-- they stay as they are, and the others follow
SELECT "table", replace(name, :'watch', 'N') AS name, enabled, replace(arguments, format('%s %s', :'endpoint', :'watch'), 'E N') AS arguments FROM triggers WHERE "table"::text NOT LIKE 'trap%';
SET SESSION AUTHORIZATION regress_shop;
SELECT contactsync_unwatch('customers', 'mail');
RESET SESSION AUTHORIZATION;
SELECT "table", name, enabled FROM triggers WHERE "table"::text NOT LIKE 'trap%';
INSERT INTO decoy VALUES (1);
TRUNCATE decoy;
SELECT count(*) FROM contactsync.queue;

-- a role that may create triggers on somebody's table, but does not own it, creates those of the next watch before
GRANT TRIGGER ON customers TO regress_mallory;
SET SESSION AUTHORIZATION regress_mallory;
SELECT forge('customers', 'mine', 'INSERT OR UPDATE OR DELETE ON $ FOR EACH ROW', :'endpoint', (:watch + 2)::text, '1', 'id', 'id'),
	forge('customers', 'mine too', 'TRUNCATE ON $', :'endpoint', (:watch + 2)::text, '1', 'plan', 'id');
SELECT forge('customers', 'mine three', 'INSERT OR UPDATE OR DELETE ON $ FOR EACH ROW', :'endpoint', (:watch + 2)::text, '1', 'plan');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_shop;
SELECT contactsync_watch('customers', 'mail', '{"email": "address"}') - :watch AS more;
CREATE TABLE silver (PRIMARY KEY (id)) INHERITS (customers);
RESET SESSION AUTHORIZATION;
SELECT "table", replace(name, (:watch + 2)::text, 'N') AS name, replace(arguments, format('%s %s', :'endpoint', :watch + 2), 'E N') AS arguments FROM triggers
WHERE "table"::text NOT LIKE 'trap%' AND "table"::text <> 'decoy' AND "table"::text NOT LIKE '%volatile';
INSERT INTO silver VALUES (1, 'nobody');
UPDATE silver SET address = 'no body';
SELECT source, key FROM contactsync.changes;
TRUNCATE contactsync.queue;
-- one that does not fire whenever it should, on a table that begins to inherit
SET SESSION AUTHORIZATION regress_shop;
CREATE TABLE bronze (LIKE customers INCLUDING ALL);
SELECT forge('bronze', 'conditional', 'INSERT OR UPDATE OR DELETE ON $ FOR EACH ROW WHEN (false)', :'endpoint', (:watch + 2)::text, '1', 'id', 'address'),
	forge('bronze', 'partial', 'INSERT ON $ FOR EACH ROW', :'endpoint', (:watch + 2)::text, '1', 'id', 'address');
ALTER TABLE bronze INHERIT customers;
UPDATE silver SET address = 'nobody';
INSERT INTO bronze VALUES (2, 'nobody');
UPDATE bronze SET address = 'no body';
RESET SESSION AUTHORIZATION;
SELECT source, key FROM contactsync.changes ORDER BY key;
TRUNCATE contactsync.queue;
-- a table that inherited before, when the columns had other names
SET SESSION AUTHORIZATION regress_shop;
ALTER TABLE bronze NO INHERIT customers;
ALTER TABLE customers RENAME address TO mailbox;
ALTER TABLE bronze RENAME address TO mailbox;
ALTER TABLE bronze INHERIT customers;
RESET SESSION AUTHORIZATION;
SELECT replace(name, (:watch + 2)::text, 'N') AS name, replace(arguments, format('%s %s', :'endpoint', :watch + 2), 'E N') AS arguments FROM triggers WHERE "table" = 'bronze'::regclass;

--
-- Tables
--

-- temporary tables are nobody else's to read
SET SESSION AUTHORIZATION regress_shop;
CREATE TEMPORARY TABLE fleeting () INHERITS (customers);
CREATE TEMPORARY TABLE passing () INHERITS (fleeting);
SELECT contactsync_alter_watch('customers', 'mail', always => true) IS NOT NULL AS altered;
SELECT count(*) FROM triggers WHERE "table" IN ('fleeting'::regclass, 'passing'::regclass);
-- tables that are created together with their schema
RESET SESSION AUTHORIZATION;
GRANT CREATE ON DATABASE :"DBNAME" TO regress_shop;
SET SESSION AUTHORIZATION regress_shop;
CREATE SCHEMA warehouse CREATE TABLE stock (PRIMARY KEY (id)) INHERITS (customers);
SELECT count(*) FROM triggers WHERE "table" = 'warehouse.stock'::regclass;
-- a table of the tree that is given away
ALTER TABLE vip NO INHERIT customers;
ALTER TABLE gold NO INHERIT vip;
ALTER TABLE gold INHERIT customers;
GRANT ALL ON gold TO regress_mallory;
RESET SESSION AUTHORIZATION;
ALTER TABLE gold OWNER TO regress_mallory;
SET SESSION AUTHORIZATION regress_shop;
SELECT contactsync_unwatch('customers', 'mail');
RESET SESSION AUTHORIZATION;
SELECT "table", replace(name, (:watch + 2)::text, 'N') AS name FROM triggers WHERE "table"::text NOT LIKE 'trap%';

-- roles without a watch notice nothing
SET SESSION AUTHORIZATION regress_mallory;
CREATE TABLE own (id int PRIMARY KEY);
CREATE TABLE own_child () INHERITS (own);
ALTER TABLE own RENAME id TO number;
DROP TABLE own CASCADE;
RESET SESSION AUTHORIZATION;
DROP TABLE trap, decoy CASCADE;
SELECT count(*) FROM contactsync.watch;
DROP OWNED BY regress_shop, regress_mallory CASCADE;
DROP ROLE regress_shop, regress_mallory;
