-- Creating and dropping watches: what is stored, and which errors are raised.
\set SHOW_CONTEXT never
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1');
CREATE SERVER lark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', new_contacts 'unconfirmed', check_fields 'false');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER lark OPTIONS (api_key 'eo_secret');

CREATE TABLE customers (
	id				bigint	PRIMARY KEY,
	email_address	text	NOT NULL,
	first_name		text,
	surname			varchar(40),
	language		char(2),
	newsletter		boolean,
	plan			text,
	age				integer,
	labels			text[],
	extra			jsonb,
	verified		boolean	NOT NULL DEFAULT false,
	created_at		timestamptz
);

-- Without the preloaded library, there is a notice.
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}') > 0 AS watched;
SET client_min_messages = warning;

SELECT source, server, owner = CURRENT_USER::regrole AS mine, key, mapping, filter, on_delete, state, reason
FROM contactsync.watches;
SELECT server, source, state, reason, backlog, synced, failed, failures FROM contactsync.status;

-- The triggers, whose names end with the id of the watch.
CREATE VIEW triggers AS
SELECT tgrelid::regclass AS "table", replace(tgname, w.id::text, 'N') AS name, tgenabled,
	replace(pg_get_triggerdef(t.oid), '''' || w.endpoint || ''', ''' || w.id || '''', 'E, N') AS definition
FROM pg_trigger t JOIN contactsync.watch w ON tgname IN ('contactsync_' || w.id, 'contactsync_' || w.id || '_truncate')
WHERE tgfoid = 'contactsync.capture'::regproc
ORDER BY w.id, 1, 2;
SELECT name, tgenabled, regexp_replace(definition, 'contactsync_\d+', 'contactsync_N') AS definition FROM triggers;

-- A second watch on the same server is rejected.
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}');
-- Another server is another watch.
SELECT contactsync_watch('customers', 'lark', '{"email": "email_address", "first_name": "first_name"}') > 0 AS watched;
SELECT source, server, mapping FROM contactsync.watches ORDER BY server;
SELECT contactsync_unwatch('customers', 'lark');
SELECT source, server FROM contactsync.watches;
SELECT count(*) FROM triggers;
SELECT contactsync_unwatch('customers', 'lark');
SELECT contactsync_unwatch('customers', 'mail');
SELECT count(*) FROM contactsync.watches;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'customers'::regclass;

--
-- Mappings
--

-- All fields.
SELECT contactsync_watch('customers', 'mail', mapping => '{
	"email": "email_address", "external_id": "id", "first_name": "first_name", "last_name": "surname",
	"phone": "NULL::text", "locale": "language", "timezone": "''Europe/Berlin''", "opt_in": "newsletter",
	"attributes": {"plan": "plan", "isAdult": "age >= 18", "labels": "labels", "nächstes": "age + 1", "": "42"}}',
	filter => 'verified AND age IS DISTINCT FROM 17') > 0 AS watched;
SELECT jsonb_pretty(mapping), filter FROM contactsync.watches;
SELECT definition ~ 'capture\(E, N, ''1'', ''id'', ''id'', ''email_address'', ''first_name'', ''surname'', ''language'', ''newsletter'', ''plan'', ''age'', ''labels'', ''verified''\)'
FROM triggers WHERE name = 'contactsync_N';
SELECT contactsync_unwatch('customers', 'mail');

-- "*" means the columns that exist now, and that are not used elsewhere.
ALTER TABLE customers DROP COLUMN age;
SELECT contactsync_watch('customers', 'mail',
	mapping => '{"email": "lower(email_address)", "locale": "COALESCE(language, ''en'')", "attributes": "*"}') > 0 AS watched;
SELECT mapping FROM contactsync.watches;
ALTER TABLE customers ADD COLUMN age integer, ADD COLUMN secret text;
SELECT mapping FROM contactsync.watches;
SELECT contactsync_unwatch('customers', 'mail');
ALTER TABLE customers DROP COLUMN secret;

-- Without a mapping, only columns with the name of a field are used.
CREATE TABLE subscribers (
	id			uuid	PRIMARY KEY,
	email		text,
	first_name	text,
	"Last_Name"	text,
	opt_in		boolean,
	password	text,
	attributes	jsonb
);
SELECT contactsync_watch('subscribers', 'mail') > 0 AS watched;
SELECT mapping, key FROM contactsync.watches;
SELECT contactsync_unwatch('subscribers', 'mail');
SELECT contactsync_watch('customers', 'mail');
ALTER TABLE subscribers ALTER COLUMN opt_in TYPE text;
SELECT contactsync_watch('subscribers', 'mail');
DROP TABLE subscribers;

-- Fields that do not exist, that the provider does not support, or that it requires.
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "firstname": "first_name"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "tags": "labels", "status": "plan"}');
SELECT contactsync_watch('customers', 'mail', '{"external_id": "id"}');
SELECT contactsync_watch('customers', 'mail', '{}');

-- Invalid mappings.
SELECT contactsync_watch('customers', 'mail', '[]');
SELECT contactsync_watch('customers', 'mail', '"*"');
SELECT contactsync_watch('customers', 'mail', 'null');
SELECT contactsync_watch('customers', 'mail', '{"email": null}');
SELECT contactsync_watch('customers', 'mail', '{"email": ""}');
SELECT contactsync_watch('customers', 'mail', '{"email": 1}');
SELECT contactsync_watch('customers', 'mail', '{"email": {"a": "b"}}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "attributes": "plan"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "attributes": ["plan"]}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "attributes": {"plan": {"a": "b"}}}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "attributes": {"plan": ["a"]}}');

-- Types.
SELECT contactsync_watch('customers', 'mail', '{"email": "age"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "opt_in": "plan"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "extra"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "external_id": "extra"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "external_id": "customers"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', filter => 'plan');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', filter => '1');
SELECT contactsync_watch('customers', 'lark', '{"email": "email_address", "tags": "plan"}');
SELECT contactsync_watch('customers', 'lark', '{"email": "email_address", "opt_in": "newsletter", "tags": "ARRAY[1, 2]", "attributes": {"Plan": "plan"}}') > 0 AS watched;
SELECT contactsync_unwatch('customers', 'lark');
CREATE DOMAIN yes_or_no AS boolean;
CREATE DOMAIN address AS text CHECK (VALUE LIKE '%@%');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address::address", "opt_in": "newsletter::yes_or_no"}',
	filter => 'verified::yes_or_no') > 0 AS watched;
SELECT contactsync_unwatch('customers', 'mail');
DROP DOMAIN yes_or_no, address;

CREATE TABLE orders (customer bigint, total numeric, remark text);
-- Not a single expression over one row.
SELECT contactsync_watch('customers', 'mail', '{"email": "email_addres"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "upper(first_name"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "uper(first_name)"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "first_name ="}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": " "}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "''"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "/*"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "first_name, plan"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "attributes": {"x": "first_name, plan"}}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "first_name), (plan"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "first_name) FROM customers --"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "1) FROM customers; DROP TABLE customers; --"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', filter => 'verified) WHERE (true');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', filter => 'verified); DELETE FROM customers; SELECT (true');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "first_name AS a"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "DISTINCT first_name"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "*"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "max(first_name)"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "(SELECT max(customers.first_name))"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "first_value(plan) OVER ()"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "unnest(labels)"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', filter => 'bool_or(verified)');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', filter => 'generate_series(1, 2) > 1');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "$1"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "(SELECT first_name, plan)"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "(WITH d AS (DELETE FROM customers RETURNING 1) SELECT plan)"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "attributes": {"n": "(SELECT total FROM orders FOR UPDATE)"}}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "SELECT plan"}');
-- Names used internally in the query of a watch.
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "first_name": "k0"}');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "attributes": {"n": "contactsync_keys.n"}}');
SELECT count(*) FROM contactsync.watches;

-- Subqueries, comments, whole rows, system columns and names qualified by the table are accepted.
SELECT contactsync_watch('customers', 'mail', '{"email": "customers.email_address -- the address", "first_name": "/* his */ first_name",
	"last_name": "(SELECT max(remark) FROM orders o WHERE o.customer = customers.id)",
	"attributes": {"total": "(SELECT sum(total) FROM orders WHERE customer = id)", "last": "(SELECT now())",
		"series": "ARRAY(SELECT generate_series(1, age))", "row": "ROW(plan, age)"}}',
	filter => 'EXISTS (SELECT FROM orders WHERE customer = customers.id AND plan IS NOT NULL) -- who ordered') > 0 AS watched;
SELECT definition ~ 'capture\(E, N, ''1'', ''id'', ''id'', ''email_address'', ''first_name'', ''plan'', ''age''\)' FROM triggers WHERE name = 'contactsync_N';
SELECT contactsync_unwatch('customers', 'mail');
DROP TABLE orders;
-- All columns count when the whole row does: the arguments name none.
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "attributes": {"row": "customers"}}') > 0 AS watched;
SELECT definition ~ 'capture\(E, N, ''1'', ''id''\)' FROM triggers WHERE name = 'contactsync_N';
SELECT contactsync_unwatch('customers', 'mail');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address", "attributes": {"table": "tableoid::regclass"}}') > 0 AS watched;
SELECT definition ~ 'capture\(E, N, ''1'', ''id''\)' FROM triggers WHERE name = 'contactsync_N';
SELECT contactsync_unwatch('customers', 'mail');

--
-- Keys
--

CREATE TABLE keyed (a integer NOT NULL, b text NOT NULL, c integer, d integer NOT NULL, e text NOT NULL, email text);
SELECT contactsync_watch('keyed', 'mail');
CREATE UNIQUE INDEX keyed_ab ON keyed (a, b) INCLUDE (d);
SELECT contactsync_watch('keyed', 'mail');
SELECT contactsync_watch('keyed', 'mail', key => '{b,a}') > 0 AS watched;
SELECT key FROM contactsync.watches;
SELECT contactsync_unwatch('keyed', 'mail');
SELECT contactsync_watch('keyed', 'mail', key => '{a}');
SELECT contactsync_watch('keyed', 'mail', key => '{a,a}');
SELECT contactsync_watch('keyed', 'mail', key => '{a,b,d}');
SELECT contactsync_watch('keyed', 'mail', key => '{a,nobody}');
SELECT contactsync_watch('keyed', 'mail', key => '{a,NULL}');
SELECT contactsync_watch('keyed', 'mail', key => '{ctid}');
SELECT contactsync_watch('keyed', 'mail', key => '{}');
-- nullable
CREATE UNIQUE INDEX keyed_c ON keyed (c);
SELECT contactsync_watch('keyed', 'mail', key => '{c}');
-- partial
CREATE UNIQUE INDEX keyed_d ON keyed (d) WHERE a > 0;
SELECT contactsync_watch('keyed', 'mail', key => '{d}');
DROP INDEX keyed_d;
-- on an expression
CREATE UNIQUE INDEX keyed_e ON keyed (lower(e));
SELECT contactsync_watch('keyed', 'mail', key => '{e}');
-- deferrable
ALTER TABLE keyed ADD CONSTRAINT keyed_d UNIQUE (d) DEFERRABLE;
SELECT contactsync_watch('keyed', 'mail', key => '{d}');
ALTER TABLE keyed DROP CONSTRAINT keyed_d;
ALTER TABLE keyed ADD CONSTRAINT keyed_pkey PRIMARY KEY (d) DEFERRABLE;
SELECT contactsync_watch('keyed', 'mail');
ALTER TABLE keyed DROP CONSTRAINT keyed_pkey;
ALTER TABLE keyed ADD CONSTRAINT keyed_pkey PRIMARY KEY (d, e);
SELECT contactsync_watch('keyed', 'mail') > 0 AS watched;
SELECT key FROM contactsync.watches;
SELECT contactsync_unwatch('keyed', 'mail');
-- another column of the table, although it has a primary key
SELECT contactsync_watch('keyed', 'mail', key => '{a,b}') > 0 AS watched;
SELECT key FROM contactsync.watches;
SELECT contactsync_unwatch('keyed', 'mail');
DROP TABLE keyed;

--
-- Sources
--

CREATE VIEW customer_view AS SELECT * FROM customers;
CREATE MATERIALIZED VIEW customer_matview AS SELECT * FROM customers;
CREATE SEQUENCE customer_sequence;
CREATE TYPE customer_type AS (id integer, email text);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE customer_foreign (id integer, email text) SERVER elsewhere;
CREATE TEMPORARY TABLE customer_temp (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('customer_view', 'mail', '{"email": "email_address"}');
SELECT contactsync_watch('customer_matview', 'mail', '{"email": "email_address"}');
SELECT contactsync_watch('customer_sequence', 'mail');
SELECT contactsync_watch('customer_type', 'mail');
SELECT contactsync_watch('customer_foreign', 'mail');
SELECT contactsync_watch('customer_temp', 'mail');
SELECT contactsync_watch('customers_pkey', 'mail');
SELECT contactsync_watch('pg_class', 'mail', '{"email": "relname"}');
SELECT contactsync_watch('information_schema.sql_features', 'mail', '{"email": "feature_name"}');
SELECT contactsync_watch('contactsync.watch', 'mail', '{"email": "filter"}');
SELECT contactsync_watch('nobody', 'mail');
SELECT contactsync_watch(0, 'mail');
SELECT contactsync_watch(NULL, 'mail');
SELECT contactsync_watch('customers', NULL);
SELECT contactsync_watch('customers', 'nobody');
SELECT contactsync_watch('customers', 'elsewhere', '{"email": "email_address"}');
SELECT contactsync_unwatch('customers', 'mail');
SELECT contactsync_unwatch('customers', 'nobody');
SELECT contactsync_unwatch(NULL, 'mail') IS NULL;
DROP VIEW customer_view;
DROP MATERIALIZED VIEW customer_matview;
DROP SEQUENCE customer_sequence;
DROP TYPE customer_type;
DROP FOREIGN DATA WRAPPER nothing CASCADE;
DROP TABLE customer_temp;

--
-- on_delete, always
--

SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', on_delete => 'forget');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', on_delete => 'Delete');
SELECT contactsync_watch('customers', 'lark', '{"email": "email_address"}', on_delete => 'delete');
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', on_delete => 'delete') > 0 AS watched;
SELECT contactsync_watch('customers', 'lark', '{"email": "email_address"}', on_delete => 'unsubscribe', always => true) > 0 AS watched;
SELECT server, on_delete FROM contactsync.watches ORDER BY server;
SELECT name, tgenabled FROM triggers;
SELECT contactsync_unwatch('customers', 'mail'), contactsync_unwatch('customers', 'lark');
-- null is the default
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}', NULL, NULL, NULL, NULL) > 0 AS watched;
SELECT filter, key, on_delete FROM contactsync.watches;
SELECT contactsync_unwatch('customers', 'mail');

--
-- Names that need quotes, and tables with names of the extension
--

CREATE SCHEMA "Odd 'schema'";
CREATE TABLE "Odd 'schema'"."The ""Table""" ("the 'Key'" integer PRIMARY KEY, "E-Mail" text, "select" text, "back\slash" text);
SELECT contactsync_watch('"Odd ''schema''"."The ""Table"""', 'mail', '{"email": "\"E-Mail\"", "attributes": "*"}',
	filter => '"The ""Table"""."select" IS NOT NULL') > 0 AS watched;
SELECT source, key, mapping, filter FROM contactsync.watches;
INSERT INTO "Odd 'schema'"."The ""Table""" VALUES (1, 'a');
SELECT source, key FROM contactsync.changes;
SELECT contactsync_unwatch('"Odd ''schema''"."The ""Table"""', 'mail');
DROP SCHEMA "Odd 'schema'" CASCADE;

CREATE TABLE contactsync_keys (n integer PRIMARY KEY, email text, k0 text);
SELECT contactsync_watch('contactsync_keys', 'mail', '{"email": "contactsync_keys.email", "attributes": {"n": "n", "k": "k0"}}', 'contactsync_keys.n > 5') > 0 AS watched;
INSERT INTO contactsync_keys VALUES (1, 'a', 'b');
CALL contactsync_run('mail');
SELECT source, state, reason, backlog, failed, unchanged FROM contactsync.status WHERE source IS NOT NULL;
SELECT contactsync_unwatch('contactsync_keys', 'mail');
DROP TABLE contactsync_keys;

--
-- A watch that is rolled back, and one that is dropped with its queued changes
--

BEGIN;
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}') > 0 AS watched;
INSERT INTO customers (id, email_address) VALUES (1, 'a@example.com');
ROLLBACK;
SELECT (SELECT count(*) FROM contactsync.watches), (SELECT count(*) FROM contactsync.queue),
	(SELECT count(*) FROM pg_trigger WHERE tgrelid = 'customers'::regclass);
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}') > 0 AS watched;
INSERT INTO customers (id, email_address) VALUES (1, 'a@example.com');
SELECT source, key FROM contactsync.changes;
BEGIN;
SELECT contactsync_unwatch('customers', 'mail');
ROLLBACK;
SELECT source, key FROM contactsync.changes;
INSERT INTO customers (id, email_address) VALUES (2, 'b@example.com');
SELECT source, key FROM contactsync.changes;
SELECT contactsync_unwatch('customers', 'mail');
SELECT (SELECT count(*) FROM contactsync.watch), (SELECT count(*) FROM contactsync.queue), (SELECT count(*) FROM contactsync.changes);
-- in the transaction that changed rows
SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}') > 0 AS watched;
SELECT contactsync_watch('customers', 'lark', '{"email": "email_address", "first_name": "first_name"}') > 0 AS watched;
BEGIN;
INSERT INTO customers (id, email_address) VALUES (3, 'c@example.com');
SELECT contactsync_unwatch('customers', 'mail');
INSERT INTO customers (id, email_address) VALUES (4, 'd@example.com');
COMMIT;
SELECT server, source, key FROM contactsync.changes ORDER BY key;
-- and when that is rolled back
BEGIN;
INSERT INTO customers (id, email_address) VALUES (5, 'e@example.com');
SAVEPOINT s;
SELECT contactsync_unwatch('customers', 'lark');
ROLLBACK TO s;
INSERT INTO customers (id, email_address) VALUES (6, 'f@example.com');
COMMIT;
SELECT server, source, key FROM contactsync.changes ORDER BY key;
SELECT contactsync_unwatch('customers', 'lark');

--
-- Objects that are dropped, renamed or detached
--

SELECT contactsync_watch('customers', 'mail', '{"email": "email_address"}') > 0 AS watched;
INSERT INTO customers (id, email_address) VALUES (11, 'd@example.com');
ALTER TABLE customers RENAME TO clients;
CREATE SCHEMA shop;
ALTER TABLE clients SET SCHEMA shop;
INSERT INTO shop.clients (id, email_address) VALUES (12, 'e@example.com');
SELECT source, key FROM contactsync.changes ORDER BY key;
BEGIN;
DROP TABLE shop.clients;
SELECT (SELECT count(*) FROM contactsync.watch), (SELECT count(*) FROM contactsync.queue);
ROLLBACK;
SELECT source, key FROM contactsync.changes ORDER BY key;
-- changed and dropped in one transaction
BEGIN;
INSERT INTO shop.clients (id, email_address) VALUES (13, 'f@example.com');
DROP SCHEMA shop CASCADE;
COMMIT;
SELECT (SELECT count(*) FROM contactsync.watch), (SELECT count(*) FROM contactsync.queue), (SELECT count(*) FROM contactsync.endpoint);

-- a trigger that was renamed, one that was left on a partition, and one for a dropped column
CREATE TABLE parted (id integer PRIMARY KEY, email text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
SELECT contactsync_watch('parted', 'mail') AS watch \gset
SELECT tgrelid::regclass, replace(tgname, :'watch', 'N') FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc ORDER BY 1, 2;
ALTER TRIGGER contactsync_:watch ON parted RENAME TO mine;
ALTER TABLE parted DETACH PARTITION parted_1;
SELECT tgrelid::regclass, replace(tgname, :'watch', 'N') FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc ORDER BY 1, 2;
SELECT contactsync_unwatch('parted', 'mail');
SELECT tgrelid::regclass, replace(tgname, :'watch', 'N') FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc ORDER BY 1, 2;
DROP TABLE parted_1;

-- Where whoever is created can be mailed, a mapping without opt_in is told so, with what to type.
CREATE SERVER owl FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat');
CREATE SERVER zee FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee');
CREATE USER MAPPING FOR CURRENT_USER SERVER owl OPTIONS (api_key 'secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER zee OPTIONS (api_key 'secret');
CREATE TABLE "it's" (id integer PRIMARY KEY, email text, wants_mail boolean);
-- the hint is captured and typed, with the column in the place of the dots
CREATE PROCEDURE type_hint(hint text, topic text) LANGUAGE plpgsql AS $$
BEGIN
	hint := regexp_replace(hint, '.*who does: ', '');
	IF hint LIKE 'ALTER SERVER %' THEN
		EXECUTE replace(split_part(hint, '; ', 1), '...', topic);
		hint := split_part(hint, '; ', 2);
	END IF;
	EXECUTE replace(hint, '"..."', '"wants_mail"');
END $$;
RESET client_min_messages;
SELECT contactsync_watch('"it''s"', 'owl', '{"email": "email"}') > 0 AS watched;
SELECT contactsync_watch('"it''s"', 'zee', '{"email": "email", "external_id": "id", "attributes": {"a": "''x''"}}') > 0 AS watched;
SELECT contactsync_alter_watch('"it''s"', 'zee', mapping => '{"email": "lower(email)", "external_id": "id"}');
SELECT contactsync_alter_watch('"it''s"', 'zee', delete_delay => '1 h');
SELECT contactsync_watch('"it''s"', 'mail', '{"email": "email"}') > 0 AS watched;
CALL type_hint($$If not all of them want mail, name the column that says who does: ALTER SERVER owl OPTIONS (ADD topic_id '...'); SELECT contactsync_alter_watch('"it''s"', 'owl', mapping => '{"email": "email", "opt_in": "..."}');$$, 't1');
CALL type_hint($$If not all of them want mail, name the column that says who does: SELECT contactsync_alter_watch('"it''s"', 'zee', mapping => '{"email": "lower(email)", "opt_in": "...", "external_id": "id"}');$$, NULL);
SELECT server, mapping FROM contactsync.watches WHERE source = '"it''s"'::regclass ORDER BY server;
SELECT contactsync_unwatch('"it''s"', 'owl');
SELECT contactsync_watch('"it''s"', 'owl', '{"email": "email"}') > 0 AS watched;
SELECT contactsync_unwatch('"it''s"', 'owl');
SELECT contactsync_watch('"it''s"', 'owl', '{"email": "email", "opt_in": "wants_mail"}') > 0 AS watched;
SET client_min_messages = warning;
DROP PROCEDURE type_hint;
DROP SERVER owl, zee CASCADE;
DROP TABLE "it's";

-- a server that tables are watched for is not dropped unless CASCADE says so, even where nothing else depends on it
CREATE SERVER plain FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1');
CREATE USER MAPPING FOR CURRENT_USER SERVER plain OPTIONS (api_key 'mc_live_secret');
CREATE TABLE visitors (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('visitors', 'plain') > 0 AS watched;
DROP USER MAPPING FOR CURRENT_USER SERVER plain;
DROP SERVER plain;
SELECT source, owner = current_user::regrole AS own FROM contactsync.watches WHERE server = 'plain';
DROP SERVER IF EXISTS plain, nonexistent RESTRICT;
SELECT contactsync_unwatch('visitors', 'plain');
DROP SERVER plain;
DROP TABLE visitors;

-- with its server
CREATE TABLE people (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('people', 'mail') > 0 AS watched;
INSERT INTO people VALUES (1, 'a@example.com');
SELECT contactsync_upsert('mail', '{"email": "b@example.com"}') > 0 AS queued;
SELECT server, source, key, contact FROM contactsync.changes ORDER BY key;
DROP SERVER mail;
DROP SERVER mail CASCADE;
SELECT (SELECT count(*) FROM contactsync.watch), (SELECT count(*) FROM contactsync.queue), (SELECT count(*) FROM contactsync.endpoint),
	(SELECT count(*) FROM pg_trigger WHERE tgrelid = 'people'::regclass);
INSERT INTO people VALUES (2, 'b@example.com');

-- with the extension: the triggers on tables depend on it
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
SELECT contactsync_watch('people', 'mail') > 0 AS watched;
DROP VIEW triggers;
\set VERBOSITY terse
DROP EXTENSION contactsync;
BEGIN;
INSERT INTO people VALUES (3, 'c@example.com');
DROP EXTENSION contactsync CASCADE;
INSERT INTO people VALUES (4, 'd@example.com');
COMMIT;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'people'::regclass;
INSERT INTO people VALUES (5, 'e@example.com');
DROP TABLE parted;
-- and again, in the same session, in another schema
CREATE SCHEMA "Functions";
CREATE EXTENSION contactsync SCHEMA "Functions";
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
SELECT "Functions".contactsync_watch('people', 'mail');
INSERT INTO people VALUES (6, 'f@example.com');
SELECT server, source, key FROM contactsync.changes;
SELECT server, source, state, backlog FROM contactsync.status;
SELECT "Functions".contactsync_unwatch('people', 'mail');
SELECT count(*) FROM contactsync.queue;
