-- Related tables: what is accepted, which triggers they get, and what their changes queue.

\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_shop;
CREATE ROLE regress_app;
CREATE ROLE regress_stranger;
GRANT ALL ON SCHEMA public TO regress_shop, regress_stranger;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clx_sandbox', base_url 'http://127.0.0.1:1');
CREATE SERVER other FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clx_other', base_url 'http://127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER mail, other TO regress_shop;
CREATE USER MAPPING FOR regress_shop SERVER mail OPTIONS (api_key 'mc_test_sandbox');
CREATE USER MAPPING FOR regress_shop SERVER other OPTIONS (api_key 'mc_test_sandbox');

-- what was queued since the last call: related table or null, queue rows, keys
CREATE FUNCTION queued(OUT related regclass, OUT rows bigint, OUT keys text[], OUT everything boolean)
RETURNS SETOF record LANGUAGE sql SECURITY DEFINER AS $$
	WITH q AS (DELETE FROM contactsync.queue RETURNING *)
	SELECT r.relation, count(DISTINCT (q.xact, q.id)), array_agg(k.key ORDER BY length(k.key), k.key COLLATE "C") FILTER (WHERE k.key IS NOT NULL),
		bool_or(q.keys IS NULL)
	FROM q LEFT JOIN unnest(q.keys) AS k (key) ON true LEFT JOIN contactsync.related r ON r.id = q.related
	GROUP BY r.relation ORDER BY r.relation::text NULLS FIRST
$$;
CREATE VIEW triggers AS SELECT tgrelid::regclass AS "table", tgenabled AS enabled, tgtype & 1 = 1 AS for_row,
	(string_to_array(replace(encode(tgargs, 'escape'), E'\\000', ' '), ' '))[4:] AS arguments
FROM pg_trigger WHERE tgfoid = 'contactsync.capture_related'::regproc ORDER BY tgrelid::regclass::text COLLATE "C", 2, 3, 4;
GRANT SELECT ON triggers TO PUBLIC;

SET SESSION AUTHORIZATION regress_shop;
CREATE TABLE address (id bigint PRIMARY KEY, city text, street text, note text);
CREATE TABLE "Plan" ("PlanId" text PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, member int, total numeric, note text);
CREATE TABLE region (country text, code int, name text, PRIMARY KEY (country, code));
CREATE TABLE nokey (id int, x text);
CREATE TABLE customers (
	id int PRIMARY KEY, email text, address_id int, billing_id int, "PlanId" text, country text, region int, manager int
);
CREATE INDEX ON customers (address_id);
CREATE INDEX ON customers (billing_id);
CREATE INDEX ON customers ("PlanId");
CREATE INDEX ON customers (country, region);
CREATE INDEX ON customers (manager);
CREATE VIEW v AS SELECT * FROM address;
CREATE TEMP TABLE temporary (id int PRIMARY KEY);
INSERT INTO address SELECT g, 'city ' || g, 'street' FROM generate_series(1, 5) g;
INSERT INTO "Plan" VALUES ('basic', 'Basic'), ('pro', 'Pro');
INSERT INTO region VALUES ('de', 1, 'Bayern'), ('de', 2, 'Hessen');
INSERT INTO customers SELECT g, format('c%s@example.com', g), g, NULL, 'basic', 'de', 1, NULL FROM generate_series(1, 5) g;

--
-- What is accepted
--

\set m '''{"email": "email", "external_id": "id", "attributes": {"city": "(SELECT a.city FROM address a WHERE a.id = address_id)"}}'''
SELECT contactsync_watch('customers', 'mail', :m, related => '[]');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"nothing": "address_id"}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"address": "adress_id"}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"address": {"address_id": "idd"}}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"address": 1}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"address": []}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"address": {}}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"address": [["address_id"]]}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"address": {"address_id": null}}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"address": "\"PlanId\""}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"region": "country"}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"nokey": "id"}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"v": "address_id"}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"temporary": "address_id"}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"pg_class": {"id": "oid"}}');
SELECT contactsync_watch('customers', 'mail', :m, related => '{"contactsync.watch": {"id": "id"}}');
SELECT count(*) FROM contactsync.watches;
SELECT * FROM triggers;

-- whom it belongs to, and who may create triggers on it
RESET SESSION AUTHORIZATION;
CREATE TABLE private (id int PRIMARY KEY, x text);
ALTER TABLE private OWNER TO regress_stranger;
SET SESSION AUTHORIZATION regress_shop;
SELECT contactsync_watch('customers', 'mail', :m, related => '{"private": "id"}');
RESET SESSION AUTHORIZATION;
GRANT SELECT ON private TO regress_shop;
SET SESSION AUTHORIZATION regress_shop;
SELECT contactsync_watch('customers', 'mail', :m, related => '{"private": "id"}');
RESET SESSION AUTHORIZATION;
GRANT TRIGGER ON private TO regress_shop;
SET SESSION AUTHORIZATION regress_shop;
SELECT contactsync_watch('customers', 'mail', :m, related => '{"private": "id"}');

-- an index is missing
SET client_min_messages = notice;
ALTER TABLE customers ADD referrer int;
SELECT contactsync_watch('customers', 'mail', :m, related => '{"address": ["address_id", "referrer"]}') > 0 AS watched;
SET client_min_messages = warning;
SELECT related FROM contactsync.watches;
SELECT contactsync_unwatch('customers', 'mail');
SELECT * FROM triggers;
SELECT count(*) FROM contactsync.changes;

--
-- What is queued
--

SELECT contactsync_watch('customers', 'mail',
	'{"email": "email", "external_id": "id", "attributes": {
		"city": "(SELECT a.city FROM address a WHERE a.id = address_id)",
		"billing": "(SELECT a.street FROM address a WHERE a.id = billing_id)",
		"plan": "(SELECT p.name FROM \"Plan\" p WHERE p.\"PlanId\" = customers.\"PlanId\")",
		"orders": "(SELECT count(*) FROM orders o WHERE o.member = customers.id)",
		"spent": "(SELECT sum(total) FROM orders o WHERE o.member = customers.id)",
		"region": "(SELECT r.name FROM region r WHERE (r.country, r.code) = (customers.country, customers.region))",
		"manager": "(SELECT m.email FROM customers m WHERE m.id = customers.manager)"}}',
	related => '{"address": ["address_id", "billing_id"], "public.\"Plan\"": "PlanId", "orders": {"id": "MEMBER"},
		"region": {"country": "country", "region": "code"}, "customers": "manager"}') > 0 AS watched;
SELECT jsonb_pretty(related) FROM contactsync.watches;
SELECT "table", for_row, arguments FROM triggers;
SELECT * FROM queued();

-- as a role that has no right on anything of contactsync, nor on the source
RESET SESSION AUTHORIZATION;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON address, orders, "Plan", region TO regress_app;
SET SESSION AUTHORIZATION regress_app;
UPDATE address SET city = 'x' WHERE id = 1;
SELECT * FROM queued();
UPDATE address SET note = 'x';
SELECT * FROM queued();
UPDATE address SET city = city;
SELECT * FROM queued();
UPDATE address SET id = 50 WHERE id = 5;
SELECT * FROM queued();
INSERT INTO address VALUES (7, 'seven');
DELETE FROM address WHERE id = 7;
SELECT * FROM queued();
INSERT INTO orders SELECT g, g % 3, 1 FROM generate_series(1, 9) g;
INSERT INTO orders VALUES (10, NULL, 1);
SELECT * FROM queued();
UPDATE orders SET member = 3 WHERE id = 1;
SELECT * FROM queued();
UPDATE orders SET note = 'x', id = id + 100;
SELECT * FROM queued();
TRUNCATE orders;
SELECT * FROM queued();
UPDATE "Plan" SET name = 'Plus' WHERE "PlanId" = 'pro';
UPDATE region SET name = 'Bavaria' WHERE code = 1;
SELECT * FROM queued();
MERGE INTO address a USING (VALUES (1), (8)) AS n (id) ON a.id = n.id
	WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (n.id, 'new');
SELECT * FROM queued();

-- savepoints
BEGIN;
UPDATE address SET city = 'y' WHERE id = 2;
SAVEPOINT a;
UPDATE address SET city = 'y' WHERE id = 3;
TRUNCATE orders;
ROLLBACK TO a;
UPDATE address SET street = 'y' WHERE id = 4;
COMMIT;
SELECT * FROM queued();
BEGIN;
UPDATE address SET city = 'z';
ROLLBACK;
SELECT * FROM queued();

-- many rows of a related table are many keys in a row of the queue
INSERT INTO orders SELECT g, g, 1 FROM generate_series(1, 1000) g;
SELECT related, rows, cardinality(keys) FROM queued();
DELETE FROM orders;
SELECT related, rows, cardinality(keys) FROM queued();
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_shop;

-- a table that is its own related table
UPDATE customers SET email = 'boss@example.com' WHERE id = 1;
SELECT * FROM queued();

-- a row of the queue for the related change alone, however many rows use it
INSERT INTO customers SELECT g, format('c%s@example.com', g), 2 FROM generate_series(1001, 3000) g;
SELECT related, rows > 1 FROM queued();
UPDATE address SET city = 'crowd' WHERE id = 2;
SELECT related, key FROM contactsync.changes ORDER BY 1, 2;
SELECT * FROM queued();

-- in the transaction in which the watch ends, nothing is queued
BEGIN;
UPDATE address SET city = 'end' WHERE id = 2;
SELECT contactsync_unwatch('customers', 'mail');
COMMIT;
SELECT * FROM queued();
SELECT * FROM triggers;
UPDATE address SET city = 'after' WHERE id = 2;
SELECT * FROM queued();
DELETE FROM customers WHERE id > 1000;

-- columns that count: all, if a function may read them or the table is not seen
CREATE FUNCTION city_of(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT city FROM public.address WHERE id = $1';
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "external_id": "id", "attributes": {"city": "city_of(address_id)"}}',
	related => '{"address": "address_id"}') > 0 AS watched;
SELECT for_row, arguments FROM triggers;
-- and those that a view reads
SELECT contactsync_alter_watch('customers', 'mail', '{"email": "email", "external_id": "id", "attributes": {"city": "(SELECT city FROM v WHERE v.id = address_id)"}}');
SELECT for_row, arguments FROM triggers;
SELECT contactsync_alter_watch('customers', 'mail', '{"email": "email", "external_id": "id", "attributes": {"a": "(SELECT a::text FROM address a WHERE a.id = address_id)"}}');
SELECT for_row, arguments FROM triggers;
-- and those that the filter does
SELECT contactsync_alter_watch('customers', 'mail', '{"email": "email", "external_id": "id"}', filter => 'EXISTS (SELECT FROM address a WHERE a.id = address_id AND a.note IS NULL)');
SELECT for_row, arguments FROM triggers;

--
-- Altering
--

SELECT contactsync_alter_watch('customers', 'mail', related => '{"address": ["billing_id", "address_id"]}');
SELECT related FROM contactsync.watches;
SELECT for_row, arguments FROM triggers;
SELECT contactsync_alter_watch('customers', 'mail', always => true);
SELECT enabled, for_row, arguments FROM triggers;
-- what is new is like what was there
SELECT contactsync_alter_watch('customers', 'mail', related => '{"address": "address_id", "\"Plan\"": "PlanId"}');
SELECT * FROM triggers;
SELECT contactsync_alter_watch('customers', 'mail', always => false, filter => '');
SELECT DISTINCT enabled FROM triggers;
SELECT contactsync_alter_watch('customers', 'mail', related => '{"nothing": "x"}');
SELECT contactsync_alter_watch('customers', 'mail', related => '{}');
SELECT related FROM contactsync.watches;
SELECT * FROM triggers;

--
-- DDL
--

SELECT contactsync_alter_watch('customers', 'mail', '{"email": "email", "external_id": "id"}',
	related => '{"address": "address_id", "region": {"country": "country", "region": "code"}}');
ALTER TABLE address RENAME TO place;
ALTER TABLE place RENAME id TO place_id;
ALTER TABLE customers RENAME address_id TO place_id;
ALTER TABLE region RENAME country TO land;
ALTER TABLE region RENAME name TO country;
SELECT related FROM contactsync.watches;
SELECT "table", for_row, arguments FROM triggers;
UPDATE place SET city = 'renamed' WHERE place_id = 3;
UPDATE region SET country = 'renamed' WHERE code = 2;
SELECT * FROM queued();
-- a column that only the mapping uses
DROP VIEW v;
ALTER TABLE place DROP note;
UPDATE place SET city = 'dropped' WHERE place_id = 3;
SELECT * FROM queued();
-- partitions, and tables that inherit
CREATE TABLE part (id int PRIMARY KEY, x text) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE parent (id int PRIMARY KEY, x text);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
SELECT contactsync_alter_watch('customers', 'mail', always => true, related => '{"part": "billing_id", "parent": "billing_id"}');
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
CREATE TABLE part_3 (x text, id int NOT NULL);
ALTER TABLE part ATTACH PARTITION part_3 FOR VALUES FROM (200) TO (300);
CREATE TABLE grandchild () INHERITS (child);
CREATE TABLE adopted (id int NOT NULL, x text);
ALTER TABLE adopted INHERIT parent;
SELECT "table", enabled, count(*) FROM triggers GROUP BY 1, 2 ORDER BY "table"::text;
INSERT INTO part_3 VALUES ('x', 200);
INSERT INTO part VALUES (150, 'x');
UPDATE part SET id = 210 WHERE id = 150;
INSERT INTO grandchild VALUES (1, 'x');
INSERT INTO adopted VALUES (2, 'x');
SELECT * FROM queued();
TRUNCATE ONLY part_2;
TRUNCATE adopted;
SELECT * FROM queued();
SELECT contactsync_unwatch('customers', 'mail');
SELECT * FROM triggers;

-- two watches related to one table, and a trigger that somebody made
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "external_id": "id"}', related => '{"place": "place_id"}') > 0 AS watched;
SELECT contactsync_watch('customers', 'other', '{"email": "email", "external_id": "id"}', related => '{"place": "place_id"}') > 0 AS watched;
UPDATE place SET city = 'both' WHERE place_id = 3;
SELECT * FROM queued();
SELECT contactsync_unwatch('customers', 'other');
UPDATE place SET city = 'one' WHERE place_id = 3;
SELECT * FROM queued();
RESET SESSION AUTHORIZATION;
SELECT format($$CREATE TRIGGER forged AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION contactsync.capture_related(%L, %L, %L, '1', 'id')$$,
	'private', endpoint, watch, id) AS forge FROM contactsync.related \gset
SET SESSION AUTHORIZATION regress_stranger;
:forge;
INSERT INTO private VALUES (1);
SELECT * FROM queued();
CREATE TRIGGER wrong AFTER INSERT ON private FOR EACH ROW EXECUTE FUNCTION contactsync.capture_related('1', '1', '1');
INSERT INTO private VALUES (2);
DROP TRIGGER wrong ON private;
CREATE TRIGGER wrong BEFORE INSERT ON private FOR EACH ROW EXECUTE FUNCTION contactsync.capture_related('1', '1', '1', '1', 'id');
INSERT INTO private VALUES (2);
DROP TRIGGER wrong ON private;

-- the related table goes, and with it the extension
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_shop;
DROP TABLE place CASCADE;
SELECT related IS NOT NULL AS still FROM contactsync.watches;
SELECT contactsync_alter_watch('customers', 'mail');
SELECT contactsync_alter_watch('customers', 'mail', related => '{}');
SELECT related FROM contactsync.watches;
SELECT contactsync_alter_watch('customers', 'mail', related => '{"region": {"country": "land", "region": "code"}}');
RESET SESSION AUTHORIZATION;
DROP EXTENSION contactsync CASCADE;
UPDATE region SET country = 'x';
DROP TABLE customers, part, parent, region, private, "Plan", orders, nokey CASCADE;
DROP FUNCTION queued;
DROP OWNED BY regress_shop, regress_app, regress_stranger;
DROP ROLE regress_shop, regress_app, regress_stranger;
