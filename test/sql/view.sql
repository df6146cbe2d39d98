-- Views as sources: which are plain enough for the triggers of their tables to tell of changes, and what these queue.

\set SHOW_CONTEXT never
\set VERBOSITY default
SET client_min_messages = warning;
CREATE ROLE regress_shop;
CREATE ROLE regress_other;
GRANT ALL ON SCHEMA public TO regress_shop, regress_other;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clx_sandbox', base_url 'http://127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER mail TO regress_shop;
CREATE USER MAPPING FOR regress_shop SERVER mail OPTIONS (api_key 'mc_test_sandbox');

-- what was queued since the last call: related table or null, queue rows, keys
CREATE FUNCTION queued(OUT related regclass, OUT rows bigint, OUT keys text[], OUT everything boolean)
RETURNS SETOF record LANGUAGE sql SECURITY DEFINER AS $$
	WITH q AS (DELETE FROM contactsync.queue RETURNING *)
	SELECT r.relation, count(DISTINCT (q.xact, q.id)), array_agg(k.key ORDER BY length(k.key), k.key COLLATE "C") FILTER (WHERE k.key IS NOT NULL),
		bool_or(q.keys IS NULL)
	FROM q LEFT JOIN unnest(q.keys) AS k (key) ON true LEFT JOIN contactsync.related r ON r.id = q.related
	GROUP BY r.relation ORDER BY r.relation::text NULLS FIRST
$$;
CREATE VIEW triggers AS SELECT tgrelid::regclass AS "table", tgname LIKE '%truncate' AS truncate,
	(string_to_array(replace(encode(tgargs, 'escape'), E'\\000', ' '), ' '))[4:] AS arguments
FROM pg_trigger WHERE tgfoid = 'contactsync.capture_related'::regproc ORDER BY tgrelid::regclass::text COLLATE "C", 2, 3;
GRANT SELECT ON triggers TO PUBLIC;

SET SESSION AUTHORIZATION regress_shop;
CREATE TABLE person (id int PRIMARY KEY, mail text, firm int, home bigint, note text, region text, code int);
CREATE TABLE firm (id int PRIMARY KEY, name text, active boolean, boss int, note text);
CREATE TABLE address (id int PRIMARY KEY, city text);
CREATE TABLE boss (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, person int, total numeric);
CREATE TABLE area (region text, code int, name text, PRIMARY KEY (region, code));
CREATE INDEX ON person (firm);
CREATE INDEX ON person (home);
CREATE INDEX ON person (region, code);
INSERT INTO firm VALUES (1, 'one', true, 1), (2, 'two', false, 1);
INSERT INTO person SELECT g, format('p%s@example.com', g), 1 + g % 2, g, NULL, 'de', 1 FROM generate_series(1, 4) g;

-- Try to watch a view, and say which tables tell of its changes.
CREATE FUNCTION try(definition text, key name[] DEFAULT '{id}', related jsonb DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	tables text;
BEGIN
	EXECUTE 'CREATE VIEW tried AS ' || definition;
	PERFORM contactsync_watch('tried', 'mail', '{"email": "mail"}', key => key, related => related);
	SELECT w.related INTO tables FROM contactsync.watches w;
	PERFORM contactsync_unwatch('tried', 'mail');
	DROP VIEW tried;
	RETURN tables;
EXCEPTION WHEN others THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(': ', CASE WHEN SQLERRM LIKE '%not plain%' THEN 'not plain' ELSE SQLERRM END, detail);
END $$;

--
-- Plain ones
--

SELECT try('SELECT * FROM person');
SELECT try('SELECT id AS key, upper(mail) AS mail FROM person WHERE firm > 1', '{key}');
SELECT try('SELECT p.id, p.mail FROM person p JOIN firm f ON f.id = p.firm WHERE f.active');
SELECT try('SELECT p.id, p.mail FROM person p, firm f WHERE p.firm = f.id AND (f.active OR p.note IS NULL)');
SELECT try('SELECT id, mail FROM person LEFT JOIN (SELECT 1 AS x) s ON true');
SELECT try('SELECT p.id, p.mail FROM person p LEFT JOIN address a ON a.id = p.home LEFT JOIN firm f ON f.id = p.firm AND f.active');
SELECT try('SELECT p.id, p.mail FROM address a RIGHT JOIN person p ON a.id = p.home');
SELECT try('SELECT p.id, p.mail FROM person p JOIN area USING (region, code)');
SELECT try('SELECT p.id, p.mail FROM person p NATURAL JOIN area r');
SELECT try('SELECT p.id, p.mail, count(o.*), sum(o.total) FROM person p LEFT JOIN orders o ON o.person = p.id GROUP BY p.id HAVING count(*) < 10');
SELECT try('SELECT DISTINCT p.id, p.mail FROM person p JOIN orders o ON o.person = p.id ORDER BY p.mail');
SELECT try('SELECT p.id, p.mail FROM person p JOIN person q ON q.id = p.firm');
SELECT try('SELECT p.id, p.mail, x.city FROM (person p JOIN firm f ON f.id = p.firm) LEFT JOIN address x ON x.id = p.home');
SELECT try('SELECT region, code, name AS mail FROM area', '{code,region}');
SELECT try('SELECT p.id, p.mail, (SELECT count(*) FROM orders o WHERE o.person = p.id) AS n FROM person p', related => '{"orders": {"id": "person"}}');
SELECT try('SELECT p.id, p.mail, p.firm + 0 AS f, (SELECT count(*) FROM orders o WHERE o.person = p.firm + 0) AS n FROM person p', related => '{"orders": {"f": "person"}}');
SELECT try('SELECT p.id, p.mail FROM person p JOIN firm f ON f.id = p.firm JOIN boss b ON b.id = f.boss', related => '{"boss": {"id": "id"}}');

--
-- Others
--

SELECT try('SELECT id, mail FROM person UNION ALL SELECT id, name FROM boss');
SELECT try('SELECT id, mail, row_number() OVER (ORDER BY id) FROM person');
SELECT try('SELECT id, mail FROM person LIMIT 3');
SELECT try('SELECT id, mail FROM person OFFSET 3');
SELECT try('SELECT DISTINCT ON (firm) id, mail FROM person');
SELECT try('WITH x AS (SELECT * FROM person) SELECT id, mail FROM x');
SELECT try('SELECT id, mail FROM (SELECT * FROM person OFFSET 0) s');
SELECT try('SELECT p.id, mail FROM person p, LATERAL (SELECT * FROM orders WHERE person = p.id) s');
SELECT try('SELECT g AS id, g::text AS mail FROM generate_series(1, 3) g');
SELECT try('SELECT id, mail, generate_series(1, 3) FROM person');
SELECT try('SELECT id, mail FROM person GROUP BY GROUPING SETS ((id, mail), (id))');
SELECT try('SELECT p.id, p.mail FROM person p FULL JOIN firm f ON f.id = p.firm');
SELECT try('SELECT p.id, p.mail FROM firm f LEFT JOIN person p ON f.id = p.firm');
SELECT try('SELECT p.id, p.mail FROM person p RIGHT JOIN firm f ON f.id = p.firm');
SELECT try('SELECT id + 0 AS id, mail FROM person');
SELECT try('SELECT firm AS id, mail FROM person');
SELECT try('SELECT max(id) AS id, max(mail) AS mail FROM person');
SELECT try('SELECT p.id, f.id AS f, p.mail FROM person p JOIN firm f ON f.id = p.firm', '{id,f}');
SELECT try('SELECT p.id, p.mail FROM person p, firm f');
SELECT try('SELECT p.id, p.mail FROM person p JOIN firm f ON f.id > p.firm');
SELECT try('SELECT p.id, p.mail FROM person p JOIN firm f ON f.id = p.firm OR f.id = 1');
SELECT try('SELECT p.id, p.mail FROM person p JOIN firm f ON f.id = p.firm + 1');
SELECT try('SELECT p.id, p.mail FROM person p JOIN firm f ON f.name = p.mail COLLATE "C"');
SELECT try('SELECT p.id, p.mail FROM person p JOIN firm f ON f.id = p.firm JOIN boss b ON b.id = f.boss');
-- a condition that does not hold for all rows in which the table is joined
SELECT try('SELECT p.id, p.mail FROM person p LEFT JOIN firm f ON f.active LEFT JOIN boss b ON b.id = p.firm AND f.id = p.firm');
SELECT try('SELECT p.id, p.mail FROM person p LEFT JOIN (firm f JOIN boss b ON b.id = f.boss) ON f.id = p.firm');
SELECT try('SELECT p.id, p.mail FROM person p LEFT JOIN (firm f JOIN boss b ON b.id = f.boss) ON f.id = p.firm AND b.id = p.home');
SELECT try('SELECT p.id, p.mail FROM person p WHERE EXISTS (SELECT FROM orders o WHERE o.person = p.id)');
SELECT try('SELECT p.id, p.mail, p.firm, (SELECT name FROM firm f WHERE f.id = p.firm AND EXISTS (SELECT FROM boss)) FROM person p', related => '{"firm": "firm"}');
CREATE VIEW inner_view AS SELECT * FROM person;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM person;
SELECT try('SELECT id, mail FROM inner_view');
SELECT try('SELECT p.id, p.mail FROM person p JOIN kept k ON k.id = p.id');
SELECT try('SELECT oid::int4 AS id, relname AS mail FROM pg_class');
SELECT try('SELECT id, mail FROM person', NULL);
SELECT try('SELECT id, mail FROM person', '{nothing}');
ALTER TABLE firm ENABLE ROW LEVEL SECURITY;
SELECT try('SELECT p.id, p.mail FROM person p JOIN firm f ON f.id = p.firm');
ALTER TABLE firm DISABLE ROW LEVEL SECURITY;
SELECT contactsync_watch('kept', 'mail', '{"email": "mail"}', key => '{id}');
-- tables of somebody else
RESET SESSION AUTHORIZATION;
CREATE TABLE private (id int PRIMARY KEY, x text);
ALTER TABLE private OWNER TO regress_other;
GRANT SELECT ON private TO regress_shop;
SET SESSION AUTHORIZATION regress_shop;
SELECT try('SELECT p.id, p.mail FROM person p JOIN private x ON x.id = p.firm');
RESET SESSION AUTHORIZATION;
GRANT TRIGGER ON private TO regress_shop;
SET SESSION AUTHORIZATION regress_shop;
SELECT try('SELECT p.id, p.mail FROM person p JOIN private x ON x.id = p.firm');
SELECT * FROM triggers;

--
-- What is queued
--

CREATE VIEW people AS
	SELECT p.id AS key, p.mail, a.city, sum(o.total) AS spent FROM person p JOIN firm f ON f.id = p.firm
		LEFT JOIN address a ON a.id = p.home LEFT JOIN orders o ON o.person = p.id
	WHERE f.active GROUP BY p.id, a.city;
SELECT contactsync_watch('people', 'mail', '{"email": "mail", "external_id": "key", "attributes": {"city": "city", "spent": "spent"}}');
SET client_min_messages = notice;
SELECT contactsync_watch('people', 'mail', '{"email": "mail", "external_id": "key", "attributes": {"city": "city", "spent": "spent"}}', key => '{key}') > 0 AS watched;
SET client_min_messages = warning;
SELECT jsonb_pretty(related) FROM contactsync.watches;
SELECT * FROM triggers;
INSERT INTO person VALUES (5, 'p5@example.com', 1, 5);
UPDATE person SET note = 'x';
UPDATE person SET id = 50 WHERE id = 5;
DELETE FROM person WHERE id = 50;
SELECT * FROM queued();
UPDATE firm SET active = NOT active;
UPDATE firm SET note = 'x', name = 'y';
SELECT * FROM queued();
INSERT INTO address VALUES (1, 'here');
INSERT INTO orders VALUES (1, 3, 10), (2, 3, 1), (3, 4, 1);
UPDATE orders SET person = 1 WHERE id = 3;
SELECT * FROM queued();
TRUNCATE orders;
SELECT * FROM queued();
TRUNCATE person;
SELECT * FROM queued();

--
-- DDL
--

ALTER TABLE person RENAME id TO person_id;
ALTER TABLE person RENAME home TO address_id;
ALTER TABLE address RENAME id TO address_id;
ALTER TABLE firm RENAME TO company;
ALTER VIEW people RENAME COLUMN key TO number;
SELECT jsonb_pretty(related) FROM contactsync.watches;
SELECT mapping, key FROM contactsync.watches;
INSERT INTO person VALUES (7, 'p7@example.com', 1, 7);
UPDATE address SET city = 'there';
SELECT * FROM queued();
SELECT contactsync_alter_watch('people', 'mail', filter => 'spent IS NULL');
SELECT * FROM queued();
-- another definition
CREATE OR REPLACE VIEW people AS
	SELECT p.person_id AS number, p.mail, NULL::text AS city, sum(o.total) AS spent FROM person p LEFT JOIN orders o ON o.person = p.person_id GROUP BY p.person_id;
SELECT contactsync_alter_watch('people', 'mail', related => '{"boss": {"number": "id"}}');
SELECT related FROM contactsync.watches;
SELECT DISTINCT "table"::text FROM triggers ORDER BY 1;
SELECT contactsync_alter_watch('people', 'mail');
SELECT related FROM contactsync.watches;
CREATE OR REPLACE VIEW people AS
	SELECT p.person_id AS number, p.mail, NULL::text AS city, sum(o.total) OVER () AS spent FROM person p LEFT JOIN orders o ON o.person = p.person_id;
SELECT contactsync_alter_watch('people', 'mail');
SELECT contactsync_unwatch('people', 'mail');
SELECT * FROM triggers;
-- the view goes with its table
CREATE OR REPLACE VIEW people AS SELECT person_id AS number, mail, NULL::text AS city, NULL::numeric AS spent FROM person;
SELECT contactsync_watch('people', 'mail', '{"email": "mail"}', key => '{number}') > 0 AS watched;
DROP TABLE person CASCADE;
SELECT count(*) FROM contactsync.watches;
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM contactsync.related;
DROP TABLE company, address, boss, orders, area, private CASCADE;
DROP FUNCTION queued;
DROP VIEW triggers;
DROP OWNED BY regress_shop, regress_other CASCADE;
DROP ROLE regress_shop, regress_other;
