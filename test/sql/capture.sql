-- Which changes are queued, by any kind of statement.
\set SHOW_CONTEXT never
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
SET client_min_messages = warning;

-- What was queued since the last call, for each watch: rows of the queue, keys in them, and whether all known contacts
-- of the source are to be examined.
CREATE FUNCTION queued(OUT source regclass, OUT rows bigint, OUT keys text[], OUT everything boolean)
RETURNS SETOF record LANGUAGE sql AS $$
	WITH q AS (DELETE FROM contactsync.queue RETURNING *),
		r AS (SELECT q.watch, count(*) AS n, bool_or(q.keys IS NULL) AS everything FROM q GROUP BY q.watch),
		k AS (SELECT q.watch, k.key FROM q, unnest(q.keys) AS k (key))
	SELECT w.source, r.n, (SELECT array_agg(k.key ORDER BY length(k.key), k.key COLLATE "C") FROM k WHERE k.watch = r.watch), r.everything
	FROM r LEFT JOIN contactsync.watch w ON w.id = r.watch ORDER BY w.source::text
$$;

CREATE TABLE customers (
	id		integer	PRIMARY KEY,
	email	text,
	name	text,
	active	boolean	NOT NULL DEFAULT true,
	note	text,
	visits	integer	NOT NULL DEFAULT 0
);
SELECT contactsync_watch('customers', 'mail', '{"email": "email", "first_name": "upper(name)"}', filter => 'active') > 0 AS watched;

--
-- Statements
--

INSERT INTO customers VALUES (1, 'a@example.com', 'A');
SELECT * FROM queued();
INSERT INTO customers VALUES (2, 'b@example.com', 'B', true), (3, 'c@example.com', 'C', false), (4, NULL, NULL, true);
SELECT * FROM queued();
COPY customers (id, email) FROM STDIN;
5	e@example.com
6	f@example.com
\.
SELECT * FROM queued();

-- columns that mapping or filter use
UPDATE customers SET name = 'AA' WHERE id = 1;
UPDATE customers SET active = NOT active WHERE id IN (1, 3);
UPDATE customers SET email = NULL WHERE id = 2;
UPDATE customers SET email = 'd@example.com' WHERE id = 4;
SELECT * FROM queued();
-- other columns, or the same value
UPDATE customers SET note = 'called', visits = visits + 1;
UPDATE customers SET name = name, email = email, active = active;
UPDATE customers SET id = id;
SELECT * FROM queued();
-- the key: the old one and the new one
UPDATE customers SET id = 50 WHERE id = 5;
SELECT * FROM queued();
UPDATE customers SET id = id + 100 WHERE id < 3;
SELECT * FROM queued();
DELETE FROM customers WHERE id IN (6, 50);
SELECT * FROM queued();
DELETE FROM customers WHERE id = 12345;
SELECT * FROM queued();
TRUNCATE customers;
SELECT * FROM queued();

-- a row that changes often in a transaction is queued once
BEGIN;
INSERT INTO customers SELECT g, format('c%s@example.com', g) FROM generate_series(1, 5) g;
UPDATE customers SET name = 'x';
UPDATE customers SET name = 'y' WHERE id < 3;
DELETE FROM customers WHERE id = 2;
INSERT INTO customers VALUES (2, 'again@example.com');
SELECT count(*) AS before_commit FROM contactsync.queue;
COMMIT;
SELECT * FROM queued();

INSERT INTO customers VALUES (1, 'one@example.com'), (7, 'seven@example.com') ON CONFLICT DO NOTHING;
SELECT * FROM queued();
INSERT INTO customers VALUES (1, 'one@example.com'), (8, 'eight@example.com'), (3, 'c3@example.com')
	ON CONFLICT (id) DO UPDATE SET email = excluded.email;
SELECT * FROM queued();
INSERT INTO customers VALUES (1, 'one@example.com') ON CONFLICT (id) DO UPDATE SET note = 'seen' WHERE customers.email <> excluded.email;
SELECT * FROM queued();

MERGE INTO customers c USING (VALUES (1, 'merged'), (2, NULL), (9, 'new'), (10, NULL)) AS v (id, name) ON v.id = c.id
	WHEN MATCHED AND v.name IS NULL THEN DELETE
	WHEN MATCHED THEN UPDATE SET name = v.name
	WHEN NOT MATCHED AND v.name IS NULL THEN DO NOTHING
	WHEN NOT MATCHED THEN INSERT (id, email, name) VALUES (v.id, 'm@example.com', v.name);
SELECT * FROM queued();

WITH moved AS (DELETE FROM customers WHERE id = 9 RETURNING *) INSERT INTO customers SELECT id + 10, email, name FROM moved;
SELECT * FROM queued();

-- changes made by other triggers, before or after
CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.email := lower(NEW.email);
	IF NEW.note = 'ignore' THEN RETURN NULL; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER tidy BEFORE INSERT OR UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION tidy();
UPDATE customers SET email = upper(email) WHERE id = 1;
SELECT * FROM queued();
UPDATE customers SET name = 'gone', note = 'ignore' WHERE id = 1;
SELECT * FROM queued();
DROP TRIGGER tidy ON customers;
CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE customers SET name = 'followed' WHERE id = NEW.id + 1;
	RETURN NULL;
END $$;
CREATE TRIGGER follow AFTER UPDATE OF note ON customers FOR EACH ROW EXECUTE FUNCTION follow();
UPDATE customers SET note = 'go' WHERE id = 3;
SELECT * FROM queued();
DROP TRIGGER follow ON customers;
-- deferred triggers: they run when the transaction commits
CREATE CONSTRAINT TRIGGER follow AFTER UPDATE ON customers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
	WHEN (NEW.note = 'go on') EXECUTE FUNCTION follow();
UPDATE customers SET note = 'go on' WHERE id = 4;
SELECT * FROM queued();
DROP TRIGGER follow ON customers;

--
-- Transactions
--

BEGIN;
INSERT INTO customers VALUES (20, 'a@example.com');
ROLLBACK;
SELECT * FROM queued();
BEGIN;
TRUNCATE customers;
ROLLBACK;
SELECT * FROM queued();

BEGIN;
UPDATE customers SET name = 'kept' WHERE id = 1;
SAVEPOINT a;
UPDATE customers SET name = 'lost' WHERE id IN (1, 3);
SAVEPOINT b;
UPDATE customers SET name = 'lost' WHERE id = 4;
RELEASE b;
ROLLBACK TO a;
UPDATE customers SET name = 'kept' WHERE id = 5;
SAVEPOINT c;
UPDATE customers SET name = 'kept' WHERE id = 7;
RELEASE c;
SAVEPOINT d;
TRUNCATE customers;
ROLLBACK TO d;
COMMIT;
SELECT * FROM queued();
-- again after a rollback
BEGIN;
SAVEPOINT a;
UPDATE customers SET name = 'first' WHERE id = 1;
ROLLBACK TO a;
UPDATE customers SET name = 'second' WHERE id = 1;
SAVEPOINT a;
ROLLBACK TO a;
ROLLBACK TO a;
COMMIT;
SELECT * FROM queued();
-- so many that they are not looked at one by one any more, in a subtransaction that is rolled back, and then fewer
BEGIN;
INSERT INTO customers SELECT g FROM generate_series(20001, 20010) g;
SAVEPOINT a;
UPDATE customers SET name = 'twice' WHERE id > 20000;
INSERT INTO customers SELECT g FROM generate_series(20011, 20030) g;
UPDATE customers SET name = 'again' WHERE id > 20000;
ROLLBACK TO a;
INSERT INTO customers SELECT g FROM generate_series(20010, 20012) g ON CONFLICT (id) DO UPDATE SET name = 'twice';
UPDATE customers SET name = 'again' WHERE id > 20000;
COMMIT;
SELECT * FROM queued();
BEGIN;
UPDATE customers SET name = 'few' WHERE id IN (20001, 20002);
UPDATE customers SET name = 'few again' WHERE id IN (20001, 20003);
COMMIT;
SELECT * FROM queued();
DELETE FROM customers WHERE id > 20000;
SELECT cardinality(keys) FROM queued();
-- only a subtransaction of a subtransaction
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
UPDATE customers SET name = 'deep' WHERE id = 3;
RELEASE b;
SAVEPOINT c;
UPDATE customers SET name = 'deep' WHERE id = 4;
ROLLBACK TO c;
RELEASE a;
COMMIT;
SELECT * FROM queued();
-- many nested subtransactions
DO $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		EXECUTE format('CREATE FUNCTION nested_%s(fails_at integer) RETURNS void LANGUAGE plpgsql AS $f$ BEGIN
			INSERT INTO customers VALUES (10000 + %s); %s
			IF fails_at = %s THEN RAISE division_by_zero; END IF;
			EXCEPTION WHEN division_by_zero THEN INSERT INTO customers VALUES (20000 + %s); END $f$', i, i,
			CASE WHEN i > 1 THEN format('PERFORM nested_%s(fails_at);', i - 1) END, i, i);
	END LOOP;
END $$;
SELECT nested_20(0);
SELECT * FROM queued();
DELETE FROM customers WHERE id > 10000;
SELECT cardinality(keys) FROM queued();
SELECT nested_20(18);
SELECT * FROM queued();
DELETE FROM customers WHERE id > 10000;
SELECT cardinality(keys) FROM queued();
-- an error in the transaction
BEGIN;
UPDATE customers SET name = 'kept' WHERE id = 1;
SAVEPOINT a;
INSERT INTO customers VALUES (1, 'twice@example.com');
ROLLBACK TO a;
COMMIT;
SELECT * FROM queued();

CREATE FUNCTION try(from_id integer, to_id integer, fails boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO customers SELECT g, format('t%s@example.com', g) FROM generate_series(from_id, to_id) g;
	IF fails THEN RAISE division_by_zero; END IF;
EXCEPTION WHEN division_by_zero THEN NULL;
END $$;
BEGIN;
SELECT try(100, 101, false);
SELECT try(200, 201, true);
DO $$
BEGIN
	PERFORM try(300, 300, false);
	BEGIN
		PERFORM try(301, 301, false);
		PERFORM try(302, 302, true);
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		PERFORM try(303, 303, false);
	END;
	PERFORM try(304, 304, true);
END $$;
COMMIT;
SELECT * FROM queued();

-- Many keys: they are spilled to the queue before the end, and are rolled back with their subtransaction.
BEGIN;
INSERT INTO customers VALUES (1000, 'x@example.com');
SELECT try(10001, 50000, true);
SELECT count(*) > 0 AS spilled FROM contactsync.queue;
SELECT try(60001, 60002, false);
COMMIT;
SELECT * FROM queued();
BEGIN;
INSERT INTO customers VALUES (1001, 'x@example.com');
SELECT try(10001, 50000, false);
SELECT count(*) > 0 AS spilled FROM contactsync.queue;
SAVEPOINT a;
UPDATE customers SET name = 'lost' WHERE id BETWEEN 10001 AND 40000;
ROLLBACK TO a;
UPDATE customers SET name = 'kept' WHERE id = 10001;
COMMIT;
SELECT source, keys[1], cardinality(keys), rows BETWEEN 40 AND 100 AS bounded,
	ARRAY(SELECT DISTINCT k::integer FROM unnest(keys) k ORDER BY 1) = ARRAY[1001] || ARRAY(SELECT generate_series(10001, 50000)) AS complete
FROM queued();

-- A bulk load of 100,000 rows
DELETE FROM customers;
SELECT cardinality(keys), rows < 200 AS bounded FROM queued();
INSERT INTO customers SELECT g, format('c%s@example.com', g) FROM generate_series(1, 100000) g;
SELECT cardinality(keys), rows BETWEEN 100 AND 200 AS bounded,
	(SELECT sum(k::bigint) FROM unnest(keys) k) = 100000::bigint * 100001 / 2 AS complete FROM queued();
TRUNCATE customers;
SELECT * FROM queued();

-- Two-phase commit: queued when it commits, by any session
INSERT INTO customers VALUES (1, 'a@example.com'), (2, 'b@example.com');
SELECT * FROM queued();
BEGIN;
UPDATE customers SET name = 'prepared' WHERE id = 1;
PREPARE TRANSACTION 'regress_capture_1';
BEGIN;
UPDATE customers SET name = 'prepared' WHERE id = 2;
PREPARE TRANSACTION 'regress_capture_2';
SELECT * FROM queued();
\c -
SET client_min_messages = warning;
COMMIT PREPARED 'regress_capture_1';
ROLLBACK PREPARED 'regress_capture_2';
SELECT * FROM queued();

-- Procedures that commit
CREATE PROCEDURE in_steps() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 31 .. 34 LOOP
		INSERT INTO customers VALUES (i, 'p@example.com');
		IF i % 2 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
	END LOOP;
END $$;
CALL in_steps();
SELECT * FROM queued();

--
-- Values
--

-- generated, long and compressed values
CREATE TABLE documents (
	id		integer	PRIMARY KEY,
	first	text,
	last	text,
	email	text	GENERATED ALWAYS AS (lower(first) || '@example.com') STORED,
	body	text,
	history	text
);
SELECT contactsync_watch('documents', 'mail', '{"email": "email", "attributes": {"length": "length(body)"}}') > 0 AS watched;
ALTER TABLE documents ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO documents (id, first, last, body, history) VALUES (1, 'Jane', 'Doe', repeat('x', 100000), repeat('y', 100000)), (2, 'Joe', 'Doe', NULL, NULL);
SELECT * FROM queued();
UPDATE documents SET last = 'Roe';
UPDATE documents SET history = history || 'z';
SELECT * FROM queued();
UPDATE documents SET first = 'Joan' WHERE id = 1;
SELECT * FROM queued();
UPDATE documents SET body = body || 'z' WHERE id = 1;
SELECT * FROM queued();
UPDATE documents SET body = overlay(body placing '!' from 50000) WHERE id = 1;
SELECT * FROM queued();
UPDATE documents SET body = NULL;
SELECT * FROM queued();

-- columns that are added, dropped and renamed
ALTER TABLE documents ADD COLUMN later text DEFAULT 'later';
UPDATE documents SET later = 'now';
SELECT * FROM queued();
ALTER TABLE documents DROP COLUMN last;
UPDATE documents SET later = 'then', history = NULL;
SELECT * FROM queued();
UPDATE documents SET first = 'Jean' WHERE id = 2;
SELECT * FROM queued();
-- a used column is recognized by its new name
ALTER TABLE documents RENAME COLUMN body TO contents;
UPDATE documents SET history = 'x' WHERE id = 2;
SELECT * FROM queued();
UPDATE documents SET contents = 'x' WHERE id = 2;
SELECT * FROM queued();
-- so is the key
ALTER TABLE documents RENAME COLUMN id TO number;
INSERT INTO documents (number, first) SELECT g, 'D' || g FROM generate_series(10, 19) g;
SELECT * FROM queued();
-- without a used column any change counts, and without the key all contacts are examined, once per transaction
ALTER TABLE documents DROP COLUMN contents;
UPDATE documents SET history = 'y' WHERE number = 2;
SELECT * FROM queued();
ALTER TABLE documents DROP COLUMN number;
UPDATE documents SET history = 'z' WHERE first ~ '^D';
SELECT * FROM queued();
BEGIN;
SAVEPOINT a;
DELETE FROM documents WHERE first = 'D10';
ROLLBACK TO a;
DELETE FROM documents WHERE first = 'D11';
COMMIT;
SELECT * FROM queued();
DROP TABLE documents;

-- generated columns without a value of their own, which PostgreSQL 18 introduced: in mapping, filter and a partition
SELECT CASE WHEN current_setting('server_version_num')::int >= 180000 THEN 'VIRTUAL' ELSE 'STORED' END AS kind \gset
CREATE TABLE virtual (
	id		integer	PRIMARY KEY,
	first	text,
	visits	integer	NOT NULL DEFAULT 0,
	email	text	GENERATED ALWAYS AS (lower(first) || '@example.com') :kind,
	regular	boolean	GENERATED ALWAYS AS (visits > 2) :kind
) PARTITION BY RANGE (id);
CREATE TABLE virtual_1 PARTITION OF virtual FOR VALUES FROM (0) TO (10);
SELECT contactsync_watch('virtual', 'mail', '{"email": "email"}', filter => 'regular') > 0 AS watched;
INSERT INTO virtual VALUES (1, 'Jane', 3), (2, 'Joe', 2);
SELECT * FROM queued();
SELECT * FROM contactsync_export('virtual', 'mail');
UPDATE virtual SET first = 'Joan' WHERE id = 1;
SELECT * FROM queued();
UPDATE virtual_1 SET visits = visits + 1 WHERE id = 2;
SELECT * FROM queued();
UPDATE virtual SET visits = visits WHERE id = 2;
SELECT * FROM queued();
SELECT * FROM contactsync_export('virtual', 'mail');
DROP TABLE virtual;

-- the whole row
CREATE TABLE whole (id integer PRIMARY KEY, email text, note text);
SELECT contactsync_watch('whole', 'mail', '{"email": "email", "attributes": {"row": "to_jsonb(whole)"}}') > 0 AS watched;
INSERT INTO whole VALUES (1, 'a@example.com');
SELECT * FROM queued();
UPDATE whole SET note = NULL;
SELECT * FROM queued();
UPDATE whole SET note = 'x';
SELECT * FROM queued();
DROP TABLE whole;

-- a watch that uses no columns, only constants
CREATE TABLE constant (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('constant', 'mail', '{"email": "''all@example.com''"}') > 0 AS watched;
INSERT INTO constant VALUES (1, 'a');
SELECT * FROM queued();
UPDATE constant SET email = 'b';
SELECT * FROM queued();
DROP TABLE constant;

--
-- Foreign keys
--

CREATE TABLE shops (id integer PRIMARY KEY, email text);
CREATE TABLE staff (
	shop	integer	REFERENCES shops ON UPDATE CASCADE ON DELETE CASCADE,
	number	integer,
	email	text,
	deputy	integer	REFERENCES shops ON UPDATE SET NULL ON DELETE SET NULL,
	PRIMARY KEY (shop, number)
);
SELECT contactsync_watch('staff', 'mail', '{"email": "email", "attributes": {"deputy": "deputy"}}') > 0 AS watched;
INSERT INTO shops VALUES (1), (2), (3);
INSERT INTO staff VALUES (1, 1, 'a@example.com', 2), (1, 2, 'b@example.com', 3), (2, 1, 'c@example.com', NULL);
SELECT * FROM queued();
UPDATE shops SET email = 'x';
SELECT * FROM queued();
UPDATE shops SET id = 10 WHERE id = 1;
SELECT * FROM queued();
DELETE FROM shops WHERE id = 3;
SELECT * FROM queued();
DELETE FROM shops WHERE id = 2;
SELECT * FROM queued();
TRUNCATE shops CASCADE;
SELECT * FROM queued();
DROP TABLE staff, shops;

--
-- Partitions and inheritance
--

CREATE TABLE parted (id integer, region text, email text, note text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu') PARTITION BY RANGE (id);
CREATE TABLE parted_eu_1 PARTITION OF parted_eu FOR VALUES FROM (0) TO (100);
-- columns in another order, and a dropped one
CREATE TABLE parted_us (gone integer, note text, email text, region text NOT NULL, also_gone text, id integer NOT NULL);
ALTER TABLE parted_us DROP COLUMN gone, DROP COLUMN also_gone;
ALTER TABLE parted ATTACH PARTITION parted_us FOR VALUES IN ('us');
SELECT contactsync_watch('parted', 'mail', '{"email": "email"}', on_delete => 'delete') > 0 AS watched;
INSERT INTO parted VALUES (1, 'eu', 'a@example.com'), (2, 'us', 'b@example.com');
INSERT INTO parted_eu VALUES (3, 'eu', 'c@example.com');
INSERT INTO parted_eu_1 VALUES (4, 'eu', 'd@example.com');
INSERT INTO parted_us VALUES ('note', 'e@example.com', 'us', 5);
COPY parted_us (id, region, email) FROM STDIN;
6	us	f@example.com
\.
SELECT * FROM queued();
UPDATE parted SET note = 'x';
SELECT * FROM queued();
UPDATE parted_us SET email = 'g@example.com' WHERE id = 2;
UPDATE parted SET email = 'h@example.com' WHERE id = 5;
SELECT * FROM queued();
-- a row moves to another partition
UPDATE parted SET region = 'us' WHERE id = 1;
SELECT * FROM queued();
DELETE FROM parted_eu_1 WHERE id = 4;
DELETE FROM parted WHERE id = 6;
SELECT * FROM queued();
-- partitions that are created later
CREATE TABLE parted_eu_2 PARTITION OF parted_eu FOR VALUES FROM (100) TO (200);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
INSERT INTO parted VALUES (100, 'eu', 'i@example.com'), (101, 'ch', 'j@example.com');
INSERT INTO parted_eu_2 VALUES (102, 'eu', 'k@example.com');
SELECT * FROM queued();
TRUNCATE parted_us;
SELECT * FROM queued();
TRUNCATE parted_eu_2;
SELECT * FROM queued();
TRUNCATE parted_eu;
SELECT everything, keys FROM queued();
TRUNCATE parted;
SELECT everything, keys FROM queued();
-- a detached partition
ALTER TABLE parted DETACH PARTITION parted_us;
INSERT INTO parted_us VALUES ('note', 'e@example.com', 'us', 50);
SELECT * FROM queued();
ALTER TABLE parted ATTACH PARTITION parted_us FOR VALUES IN ('us');
UPDATE parted_us SET email = 'l@example.com';
SELECT * FROM queued();
SELECT tgrelid::regclass, tgtype & 32 <> 0 AS on_truncate FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc
	AND tgrelid::regclass::text LIKE 'parted%' ORDER BY 1, 2;
-- a partition that is watched itself
SELECT contactsync_watch('parted_us', 'mail', '{"email": "email"}') > 0 AS watched;
UPDATE parted SET email = 'm@example.com';
SELECT * FROM queued();
DROP TABLE parted;

CREATE TABLE base (id integer PRIMARY KEY, email text);
CREATE TABLE child (extra text, PRIMARY KEY (id)) INHERITS (base);
SELECT contactsync_watch('base', 'mail', always => true) > 0 AS watched;
INSERT INTO base VALUES (1, 'a@example.com');
INSERT INTO child VALUES (2, 'b@example.com', 'x');
SELECT * FROM queued();
CREATE TABLE grandchild (more text, PRIMARY KEY (id)) INHERITS (child);
CREATE TABLE stray (more text, email text, id integer PRIMARY KEY);
INSERT INTO grandchild VALUES (3, 'c@example.com', 'x', 'y');
INSERT INTO stray VALUES ('y', 'd@example.com', 4);
SELECT * FROM queued();
ALTER TABLE stray INHERIT base;
UPDATE base SET email = upper(email);
SELECT * FROM queued();
TRUNCATE ONLY grandchild;
SELECT * FROM queued();
SELECT tgrelid::regclass, tgtype & 32 <> 0 AS on_truncate, tgenabled FROM pg_trigger WHERE tgfoid = 'contactsync.capture'::regproc
	AND tgrelid IN ('base'::regclass, 'child'::regclass, 'grandchild'::regclass, 'stray'::regclass) ORDER BY 1, 2;
SELECT contactsync_unwatch('base', 'mail');
SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('base'::regclass, 'child'::regclass, 'grandchild'::regclass, 'stray'::regclass);
DROP TABLE base CASCADE;
-- unrelated tables
CREATE TABLE unrelated (id integer PRIMARY KEY);
CREATE TABLE unrelated_child () INHERITS (unrelated);
SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('unrelated'::regclass, 'unrelated_child'::regclass);
DROP TABLE unrelated CASCADE;

--
-- The role and the session that make the change
--

CREATE ROLE regress_capture_app;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON customers TO regress_capture_app;
REVOKE ALL ON SCHEMA contactsync FROM PUBLIC;
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON customers USING (id < 1000);
SET ROLE regress_capture_app;
SELECT has_schema_privilege('contactsync', 'USAGE');
INSERT INTO customers VALUES (500, 'app@example.com');
UPDATE customers SET name = 'app' WHERE id = 500;
INSERT INTO customers VALUES (1000, 'app@example.com');
RESET ROLE;
SELECT * FROM queued();
SET ROLE regress_capture_app;
DELETE FROM customers WHERE id = 500;
TRUNCATE customers;
RESET ROLE;
SELECT * FROM queued();
ALTER TABLE customers DISABLE ROW LEVEL SECURITY;
DROP POLICY few ON customers;
GRANT USAGE ON SCHEMA contactsync TO PUBLIC;
DROP OWNED BY regress_capture_app;
DROP ROLE regress_capture_app;

-- As applied by replication: only if the watch says so.
CREATE TABLE replicated (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('replicated', 'mail', always => true) > 0 AS watched;
SET session_replication_role = replica;
INSERT INTO customers VALUES (40, 'r@example.com');
INSERT INTO replicated VALUES (40, 'r@example.com');
UPDATE replicated SET email = 's@example.com';
TRUNCATE customers, replicated;
RESET session_replication_role;
SELECT * FROM queued();
DROP TABLE replicated;

-- An unlogged table that is not in the search_path
CREATE UNLOGGED TABLE unlogged (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('unlogged', 'mail') > 0 AS watched;
SET search_path = pg_catalog;
INSERT INTO public.unlogged VALUES (1, 'u@example.com');
RESET search_path;
SELECT * FROM queued();
DROP TABLE unlogged;

-- Many subtransactions with a few rows each are written before the end of the transaction, too, and a rolled back one is not.
CREATE TABLE many (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('many', 'mail') > 0 AS watched;
BEGIN;
INSERT INTO many VALUES (0);
SAVEPOINT a;
DO $$
BEGIN
	FOR i IN 1 .. 40000 LOOP
		BEGIN
			INSERT INTO many VALUES (i);
			IF i % 1000 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT sum(n) BETWEEN 16384 AND 39961 AS "some are written" FROM contactsync.queue;
SAVEPOINT b;
DO $$
BEGIN
	FOR i IN 50001 .. 70000 LOOP
		BEGIN
			INSERT INTO many VALUES (i);
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END $$;
ROLLBACK TO b;
RELEASE a;
COMMIT;
SELECT source, cardinality(keys), (SELECT count(*) FROM many m JOIN unnest(keys) k ON k = m.id::text) AS found, (SELECT count(*) FROM many) AS rows FROM queued();
DROP TABLE many;

-- What else is queued in the same transaction, which is numbered by a sequence, has other numbers.
ALTER SEQUENCE contactsync.queue_id RESTART;
BEGIN;
INSERT INTO customers VALUES (60, 't@example.com');
SELECT contactsync_touch('customers', 'mail', 60);
COMMIT;
SELECT * FROM queued();
ALTER SEQUENCE contactsync.queue_id RESTART;
BEGIN;
SELECT contactsync_touch('customers', 'mail', 60), contactsync_touch('customers', 'mail', 61);
SAVEPOINT a;
UPDATE customers SET name = 'T' WHERE id = 60;
TRUNCATE customers;
SELECT contactsync_touch('customers', 'mail', 62);
ROLLBACK TO a;
SELECT contactsync_touch('customers', 'mail', 62);
UPDATE customers SET name = 'U' WHERE id = 60;
INSERT INTO contactsync.failure (endpoint, watch, key, reason, message, attempts, first_at, last_at)
	SELECT endpoint, id, '63', 'rejected', 'no', 1, now(), now() FROM contactsync.watch WHERE source = 'customers'::regclass;
SELECT contactsync_retry('mail');
COMMIT;
SELECT * FROM queued();
DELETE FROM customers WHERE id = 60;
DELETE FROM contactsync.failure;
SELECT * FROM queued();

-- A read-only transaction
BEGIN READ ONLY;
SELECT count(*) FROM customers;
UPDATE customers SET name = 'x';
ROLLBACK;
SELECT * FROM queued();

--
-- Invalid uses of the trigger function
--

SELECT contactsync.capture();
CREATE TABLE wrong (id integer PRIMARY KEY, email text);
CREATE TRIGGER wrong BEFORE INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION contactsync.capture('1', '1', '1', 'id');
INSERT INTO wrong VALUES (1);
DROP TRIGGER wrong ON wrong;
CREATE TRIGGER wrong AFTER INSERT ON wrong FOR EACH STATEMENT EXECUTE FUNCTION contactsync.capture('1', '1', '1', 'id');
INSERT INTO wrong VALUES (1);
DROP TRIGGER wrong ON wrong;
CREATE TRIGGER wrong AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION contactsync.capture();
INSERT INTO wrong VALUES (1);
DROP TRIGGER wrong ON wrong;
CREATE TRIGGER wrong AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION contactsync.capture('1', '1', '2', 'id');
INSERT INTO wrong VALUES (1);
DROP TRIGGER wrong ON wrong;
CREATE TRIGGER wrong AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION contactsync.capture('1', '1', '0', 'id');
INSERT INTO wrong VALUES (1);
DROP TRIGGER wrong ON wrong;
CREATE TRIGGER wrong AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION contactsync.capture('one', '1', '1', 'id');
INSERT INTO wrong VALUES (1);
DROP TABLE wrong;
SELECT * FROM queued();

--
-- Memory
--

-- a transaction does not need more and more of it for rows that are each changed in a savepoint; one that is released has its keys
-- written with those of its parent
CREATE TABLE saved (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('saved', 'mail', '{"email": "email"}') > 0 AS watched;
CREATE FUNCTION memory() RETURNS numeric LANGUAGE sql RETURN (SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name LIKE 'contactsync%');
CREATE PROCEDURE change(low integer, high integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN low .. high LOOP
		BEGIN
			INSERT INTO saved VALUES (i, 'nobody');
		EXCEPTION
			WHEN unique_violation THEN RAISE;
		END;
	END LOOP;
END $$;
BEGIN;
CALL change(1, 20000);
SELECT memory() AS some \gset
CALL change(20001, 60000);
-- three times the rows
SELECT memory() < 2 * :some AS bounded;
COMMIT;
SELECT count(*) > 1 AS several, sum(cardinality(keys)) FROM contactsync.queue;
TRUNCATE contactsync.queue;
-- of savepoints in one another the keys stay in memory, but the server itself needs far more for each
CREATE FUNCTION nest(n integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO saved VALUES (100000 + n, 'nobody');
	IF n = 0 THEN
		RETURN memory() < 0.1 * (SELECT sum(total_bytes) FROM pg_backend_memory_contexts);
	END IF;
	RETURN nest(n - 1);
EXCEPTION
	WHEN unique_violation THEN RAISE;
END $$;
SELECT nest(200) AS little;
DROP FUNCTION nest(integer);
DROP PROCEDURE change(integer, integer);
DROP TABLE saved;
SELECT count(*) FROM contactsync.queue;
