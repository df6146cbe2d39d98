-- Effects on a watch of changes of its table, its server and its owner.

CREATE ROLE regress_owner;
GRANT ALL ON SCHEMA public TO regress_owner;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clx_sandbox', base_url 'http://127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER mail TO regress_owner;
CREATE USER MAPPING FOR regress_owner SERVER mail OPTIONS (api_key 'mc_test_sandbox');
SET SESSION AUTHORIZATION regress_owner;
SET client_min_messages = warning;

CREATE TABLE other (id int, plan text);
CREATE TABLE customers (gone int, id int PRIMARY KEY, email text, plan text, "Odd "" name" text, active boolean);
ALTER TABLE customers DROP COLUMN gone;
SELECT contactsync_watch('customers', 'mail', $${"email": "email", "external_id": "customers.id", "attributes": {
	"plan": "plan", "upper": "upper ( customers . plan )||'plan'  || \"plan\" -- plan", "odd": "\"Odd \"\" name\" || 'x'",
	"other": "(SELECT plan FROM other o WHERE o.id = 1) || plan", "row": "to_jsonb(customers)"}}$$,
	filter => 'active AND plan <> $a$plan$a$ OR email IS NULL') IS NOT NULL AS watched;
CREATE VIEW definition AS SELECT key, filter, mapping FROM contactsync.watches;
CREATE VIEW triggers AS SELECT tgrelid::regclass AS "table", replace(encode(tgargs, 'escape'), E'\\000', ' ') AS arguments
FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc AND tgtype & 32 = 0 ORDER BY 1::text;

-- renamed columns are followed: the key, names alone and after that of the table, but not other objects with the same name
ALTER TABLE customers RENAME COLUMN plan TO "My plan";
SELECT key, filter FROM definition;
SELECT jsonb_pretty(mapping) FROM definition;
ALTER TABLE customers RENAME "Odd "" name" TO odd;
ALTER TABLE customers RENAME active TO "user";
ALTER TABLE customers RENAME id TO number;
SELECT key, filter FROM definition;
SELECT jsonb_pretty(mapping) FROM definition;
SELECT * FROM triggers;
INSERT INTO customers VALUES (1, 'nobody', 'a', 'b', true), (2, 'nobody', 'a', 'b', false);
SELECT key FROM contactsync.changes ORDER BY key;
CALL contactsync_run();
SELECT key, reason FROM contactsync.failures;
-- two columns exchange their names, also with event triggers turned off: the delivering process notices later
BEGIN;
ALTER TABLE customers RENAME email TO tmp;
ALTER TABLE customers RENAME odd TO email;
ALTER TABLE customers RENAME tmp TO odd;
SELECT mapping->>'email' AS email, mapping #>> '{attributes,odd}' AS odd FROM definition;
ROLLBACK;
SELECT mapping->>'email' AS email, mapping #>> '{attributes,odd}' AS odd FROM definition;
RESET SESSION AUTHORIZATION;
SET session_replication_role = replica;
ALTER TABLE customers RENAME email TO tmp;
ALTER TABLE customers RENAME odd TO email;
ALTER TABLE customers RENAME tmp TO odd;
RESET session_replication_role;
CALL contactsync_run();
SELECT mapping->>'email' AS email, mapping #>> '{attributes,odd}' AS odd FROM definition;
SET SESSION AUTHORIZATION regress_owner;
ALTER TABLE customers RENAME email TO tmp;
ALTER TABLE customers RENAME odd TO email;
ALTER TABLE customers RENAME tmp TO odd;

-- names inside a subquery are ambiguous: the watch breaks, and continues when the column has its name again
SELECT contactsync_unwatch('customers', 'mail');
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "attributes": {"a": "(SELECT odd FROM other o WHERE o.id = customers.number)"}}') IS NOT NULL AS watched;
ALTER TABLE customers RENAME odd TO strange;
CALL contactsync_run();
SELECT source, state, reason FROM contactsync.watches;
UPDATE customers SET email = 'somebody' WHERE number = 1;
SELECT source, state, reason, backlog FROM contactsync.status;
ALTER TABLE customers RENAME strange TO odd;
CALL contactsync_run();
SELECT source, state, reason, backlog FROM contactsync.status;
SELECT key, message FROM contactsync.failures;

-- a dropped column breaks the watch before the next change; when it is added again, in any position, captured changes are sent
ALTER TABLE customers DROP COLUMN odd;
CALL contactsync_run();
SELECT source, state, reason FROM contactsync.watches;
UPDATE customers SET email = 'somebody else' WHERE number = 2;
DELETE FROM customers WHERE number = 1;
ALTER TABLE customers ADD COLUMN odd text;
CALL contactsync_run();
SELECT source, state, reason, backlog FROM contactsync.status;
SELECT key, message FROM contactsync.failures ORDER BY key;

-- the key column: renamed, altered, dropped
UPDATE customers SET email = 'third' WHERE number = 2;
ALTER TABLE customers RENAME number TO id;
ALTER TABLE customers ALTER id TYPE text;
UPDATE customers SET email = 'fourth' WHERE id = '2';
SELECT contactsync_unwatch('customers', 'mail');
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}') IS NOT NULL AS watched;
ALTER TABLE customers RENAME id TO key;
INSERT INTO customers (key, email) VALUES ('x', 'nobody');
SELECT key FROM contactsync.changes;
CALL contactsync_run();
SELECT key, message FROM contactsync.failures ORDER BY key;
ALTER TABLE customers DROP COLUMN key;
UPDATE customers SET email = 'fifth';
CALL contactsync_run();
SELECT source, state, reason FROM contactsync.watches;
SELECT contactsync_unwatch('customers', 'mail');
DROP VIEW triggers;
DROP TABLE customers;

-- partitions and children
CREATE TABLE customers (id int, email text, plan text, PRIMARY KEY (id)) PARTITION BY LIST (id);
CREATE TABLE customers_1 (plan text, dropped int, id int NOT NULL, email text);
ALTER TABLE customers_1 DROP COLUMN dropped;
ALTER TABLE customers ATTACH PARTITION customers_1 FOR VALUES IN (1);
CREATE TABLE parent (id int PRIMARY KEY, email text);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "attributes": {"plan": "plan"}}') IS NOT NULL AS watched;
SELECT contactsync_watch('parent', 'mail', '{"email": "email"}') IS NOT NULL AS watched;
BEGIN;
INSERT INTO customers VALUES (1, 'nobody', 'a');
INSERT INTO child VALUES (2, 'nobody');
ALTER TABLE customers RENAME id TO number;
ALTER TABLE customers RENAME plan TO tier;
ALTER TABLE parent RENAME email TO address;
UPDATE customers_1 SET tier = 'b';
UPDATE child SET address = 'none';
COMMIT;
SELECT DISTINCT source, key FROM contactsync.changes ORDER BY 1, 2;
CALL contactsync_run();
SELECT source, key, message FROM contactsync.failures ORDER BY key;

-- the column by which a view is polled
CREATE TABLE base (id int PRIMARY KEY, email text, changed timestamptz);
CREATE VIEW polled AS SELECT * FROM base;
SELECT contactsync_watch('polled', 'mail', '{"email": "email"}', key => '{id}', capture => 'poll', poll_column => 'changed') IS NOT NULL AS watched;
ALTER VIEW polled RENAME COLUMN changed TO updated;
ALTER VIEW polled RENAME COLUMN email TO address;
SELECT key, mapping, poll_column FROM contactsync.watches WHERE source = 'polled'::regclass;
SELECT contactsync_unwatch('polled', 'mail');
DROP VIEW polled;

-- tables and schemas are known by their OIDs
RESET SESSION AUTHORIZATION;
CREATE SCHEMA AUTHORIZATION regress_owner;
GRANT ALL ON DATABASE :"DBNAME" TO regress_owner;
SET SESSION AUTHORIZATION regress_owner;
ALTER TABLE parent RENAME TO clients;
ALTER TABLE clients SET SCHEMA regress_owner;
ALTER SCHEMA regress_owner RENAME TO shop;
SELECT source, state FROM contactsync.watches ORDER BY 1;
UPDATE child SET address = 'x';
CALL contactsync_run();
SELECT source, key, message FROM contactsync.failures ORDER BY key;

-- the new name of a server applies at once; privileges that are revoked, and granted again
RESET SESSION AUTHORIZATION;
ALTER SERVER mail RENAME TO post;
SELECT DISTINCT server FROM contactsync.status;
GRANT SELECT, TRIGGER ON customers TO CURRENT_USER;
ALTER TABLE customers OWNER TO CURRENT_USER;
ALTER TABLE customers_1 OWNER TO CURRENT_USER;
UPDATE customers SET email = 'y';
CALL contactsync_run('post');
SELECT source, state, reason FROM contactsync.watches ORDER BY 1;
GRANT SELECT ON customers TO regress_owner;
CALL contactsync_run('post');
SELECT source, state, reason FROM contactsync.watches ORDER BY 1;
SELECT source, key, message FROM contactsync.failures ORDER BY key;

-- the owner is renamed; its objects are reassigned; it is dropped
ALTER ROLE regress_owner RENAME TO regress_holder;
SELECT DISTINCT owner FROM contactsync.watches;
CREATE ROLE regress_heir;
REASSIGN OWNED BY regress_holder TO regress_heir;
CALL contactsync_run();
SELECT source, owner, state, reason FROM contactsync.watches ORDER BY 1;
GRANT USAGE ON SCHEMA shop TO regress_holder;
GRANT SELECT ON shop.clients TO regress_holder;
GRANT regress_heir TO regress_holder;
CALL contactsync_run();
SELECT source, owner, state, reason FROM contactsync.watches ORDER BY 1;
DROP OWNED BY regress_holder;
CALL contactsync_run();
SELECT source, state, reason FROM contactsync.status ORDER BY 1;
DROP ROLE regress_holder;
UPDATE customers SET email = 'z';
CALL contactsync_run();
SELECT count(*) FROM contactsync.status;
SELECT count(*) FROM contactsync.queue;
SELECT count(*) FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc;

DROP OWNED BY regress_heir CASCADE;
DROP ROLE regress_heir;

-- a table is replaced by another one of its name: the watch stays with the one that it was made for, and status says so
CREATE SERVER again FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1');
CREATE USER MAPPING FOR CURRENT_USER SERVER again OPTIONS (api_key 'mc_live_secret');
CREATE TABLE swapped (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('swapped', 'again', '{"email": "email", "external_id": "id"}', filter => 'email IS NOT NULL', on_delete => 'delete') > 0 AS watched;
ALTER TABLE swapped RENAME TO elsewhere;
SELECT source, reason FROM contactsync.status WHERE source = 'elsewhere'::regclass;
ALTER TABLE elsewhere RENAME TO swapped;
CREATE TABLE swapped_new (LIKE swapped INCLUDING ALL);
BEGIN;
ALTER TABLE swapped RENAME TO swapped_old;
ALTER TABLE swapped_new RENAME TO swapped;
COMMIT;
INSERT INTO swapped VALUES (1, 'x');
SELECT source, state, reason FROM contactsync.status WHERE source = 'swapped_old'::regclass;
SELECT (regexp_match(contactsync.hint(state, reason, server::text, source::text, owner, 'running', 0), 'instead: (.*; )To go on with the other: (.*;)'))[1] AS instead,
	(regexp_match(contactsync.hint(state, reason, server::text, source::text, owner, 'running', 0), 'instead: (.*; )To go on with the other: (.*;)'))[2] AS other
FROM contactsync.status WHERE source = 'swapped_old'::regclass \gset
\echo :instead
\echo :other
BEGIN;
:other
SELECT source, reason FROM contactsync.status WHERE source = 'swapped_old'::regclass;
ROLLBACK;
:instead
SELECT source, reason FROM contactsync.status WHERE source::text LIKE 'swapped%';
SELECT source, mapping, filter, on_delete FROM contactsync.watches WHERE source::text LIKE 'swapped%';
DROP TABLE swapped, swapped_old;

-- expressions go on calling a table by the name that it had, until they are written anew
CREATE TABLE called (id integer PRIMARY KEY, email text, b text);
INSERT INTO called VALUES (1, 'a@example.com', 'x'), (2, 'b@example.com', NULL);
SELECT contactsync_watch('called', 'again', '{"email": "called.email", "external_id": "id", "attributes": {"b": "called.b || ''!''", "row": "(called).id", "columns": "to_json(called.*) ->> ''b''"}}',
	filter => 'called.b IS NOT NULL') > 0 AS watched;
SELECT email, attributes FROM contactsync_export('called', 'again');
ALTER TABLE called RENAME TO renamed;
CREATE TABLE called (other text);
SELECT email, attributes FROM contactsync_export('renamed', 'again');
INSERT INTO renamed VALUES (3, 'nobody', 'y');
CALL contactsync_run();
SELECT source, key, message FROM contactsync.failures;
SELECT source, state FROM contactsync.status WHERE source = 'renamed'::regclass;
-- renamed columns are followed there, too
ALTER TABLE renamed RENAME b TO c;
SELECT mapping, filter FROM contactsync.watches WHERE source = 'renamed'::regclass;
SELECT email, attributes FROM contactsync_export('renamed', 'again');
-- also if only something else is altered
SELECT contactsync_alter_watch('renamed', 'again', on_delete => 'delete');
SELECT email, attributes FROM contactsync_export('renamed', 'again');
-- the new name is that of a new mapping
SELECT contactsync_alter_watch('renamed', 'again', mapping => '{"email": "renamed.email", "external_id": "id"}');
SELECT contactsync_alter_watch('renamed', 'again', mapping => '{"email": "renamed.email", "external_id": "id"}', filter => 'renamed.id < 3');
SELECT email, attributes FROM contactsync_export('renamed', 'again');
DROP TABLE called, renamed;
