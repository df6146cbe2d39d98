-- contactsync_export(): contacts as rows, for a CSV import at the provider, as a plain role that owns only its
-- servers.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_export_shop;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_export_shop;
CREATE TABLE customers (id int PRIMARY KEY, email text, name text, lang text, news bool, tags int[], amount int, extra jsonb);
CREATE TABLE pairs (a text COLLATE "C", b date, email text, PRIMARY KEY (a, b));
CREATE TABLE parted (id uuid PRIMARY KEY, email text) PARTITION BY HASH (id);
CREATE TABLE parted0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parted1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
GRANT SELECT, INSERT, TRUNCATE, TRIGGER ON customers, pairs, parted TO regress_export_shop;
SET SESSION AUTHORIZATION regress_export_shop;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE SERVER lark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', base_url 'http://127.0.0.1:9', check_fields 'false');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER lark OPTIONS (api_key 'secret');
SELECT contactsync_watch('customers', 'mail', filter => 'id < 100', mapping => '{"email": "email", "external_id": "id",
	"first_name": "name", "locale": "lang", "opt_in": "news", "attributes": {"share": "100 / amount", "extra": "extra"}}') AS mail \gset
SELECT contactsync_watch('customers', 'lark', '{"email": "email", "first_name": "name", "opt_in": "news", "tags": "tags"}') AS lark \gset
RESET client_min_messages;

-- no rows
SELECT * FROM contactsync_export('customers', 'mail');
COPY (SELECT * FROM contactsync_export('customers', 'mail')) TO STDOUT CSV HEADER;

INSERT INTO customers VALUES
	(1, ' Jane@Example.com', 'Jane "J." Doe', 'en-GB', true, '{1,2}', 4, '{"a": [1, null]}'),
	(2, 'ann@example.com=20', 'Änn', NULL, false, '{}', 8, NULL),
	(3, 'bob@example.com', NULL, 'xx', NULL, NULL, NULL, '"x"'),
	(4, 'nobody', 'No', 'en', true, NULL, 1, NULL),
	(5, 'zero@example.com', 'Zero', 'en', true, NULL, 0, NULL),
	(6, 'jane@example.com', 'Jane again', 'es', true, '{3}', 1, NULL),
	(100, 'filtered@example.com', 'Out', 'en', true, NULL, 1, NULL);
COPY (SELECT * FROM contactsync_export('customers', 'mail')) TO STDOUT CSV HEADER;
-- rows with the same upsert key are one contact: the last row in the order of the key
COPY (SELECT * FROM contactsync_export('customers', 'lark')) TO STDOUT CSV HEADER;
-- contacts as they would be sent: a contact that opted out at the provider is exported without consent
RESET SESSION AUTHORIZATION;
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, action, synced_at, opt_in, claimed, opted_out, held, direct)
SELECT w.endpoint, w.id, '6', CASE e.server WHEN 'mail' THEN '6' ELSE 'jane@example.com' END, 'u', now(), 't', true, true, false, false
FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint;
SET SESSION AUTHORIZATION regress_export_shop;
SET client_min_messages = warning;
SELECT external_id, opt_in FROM contactsync_export('customers', 'mail');
SELECT email, opt_in, status FROM contactsync_export('customers', 'lark') ORDER BY email COLLATE "C";
-- nulls are exported where they are sent
ALTER SERVER mail OPTIONS (ADD nulls 'clear');
SELECT external_id, attributes FROM contactsync_export('customers', 'mail');

-- many pages, spilled to disk
SET work_mem = '64kB';
TRUNCATE customers;
INSERT INTO customers SELECT g, format('c%s@example.com', g % 2500), 'n' || g, 'en', true FROM generate_series(-5000, 0) g;
SELECT count(*), count(DISTINCT email), min(first_name COLLATE "C"), sum(external_id::int) FROM contactsync_export('customers', 'mail');
SELECT count(*), count(DISTINCT email), sum(substr(first_name, 2)::int) FROM contactsync_export('customers', 'lark');
RESET work_mem;

-- any kind of key
SELECT contactsync_watch('pairs', 'mail', '{"email": "email"}') AS pairs \gset
INSERT INTO pairs SELECT 'k"' || g % 3, date '2024-02-28' + g, g || '@example.com' FROM generate_series(1, 3010) g;
SET datestyle = 'SQL, DMY';
SELECT count(*), count(DISTINCT email) FROM contactsync_export('pairs', 'mail');
RESET datestyle;
SELECT contactsync_watch('parted', 'mail') AS parted \gset
INSERT INTO parted SELECT md5(g::text)::uuid, g || '@example.com' FROM generate_series(1, 2000) g;
SELECT count(*), count(DISTINCT email) FROM contactsync_export('parted', 'mail');

-- the privileges that are required, and the role that evaluates the mapping
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_export_owner;
CREATE ROLE regress_export_member IN ROLE regress_export_owner;
CREATE ROLE regress_export_other;
GRANT USAGE ON FOREIGN SERVER mail TO regress_export_owner, regress_export_other;
CREATE USER MAPPING FOR regress_export_owner SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE TABLE secrets (id int PRIMARY KEY, email text, seen_by name);
INSERT INTO secrets VALUES (1, 'a@example.com', 'regress_export_owner'), (2, 'b@example.com', 'somebody');
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secrets USING (seen_by = current_user);
GRANT SELECT, TRIGGER ON secrets TO regress_export_owner;
SET SESSION AUTHORIZATION regress_export_owner;
SELECT contactsync_watch('secrets', 'mail', '{"email": "email", "attributes": {"role": "current_user"}}') > 0 AS watched;
SET SESSION AUTHORIZATION regress_export_member;
SELECT email, attributes FROM contactsync_export('secrets', 'mail');
SELECT * FROM contactsync_export('customers', 'mail');
SET SESSION AUTHORIZATION regress_export_other;
SELECT * FROM contactsync_export('secrets', 'mail');
SELECT * FROM contactsync_export('secrets', 'lark');
RESET SESSION AUTHORIZATION;
SELECT current_user = session_user AS still_me, email FROM contactsync_export('secrets', 'mail');
-- the watch of the caller takes precedence
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
SELECT contactsync_watch('secrets', 'mail', '{"email": "email"}') > 0 AS watched;
SELECT email FROM contactsync_export('secrets', 'mail') ORDER BY email;
SET SESSION AUTHORIZATION regress_export_shop;
SELECT * FROM contactsync_export('secrets', 'mail');
SELECT * FROM contactsync_export('secrets', 'nothing');
SELECT * FROM contactsync_export('pg_class', 'mail');
SELECT * FROM contactsync_export(0, 'mail');
SELECT * FROM contactsync_export(NULL, 'mail');
-- errors that do not concern a single row end the export
RESET SESSION AUTHORIZATION;
ALTER TABLE customers DROP COLUMN amount;
SET SESSION AUTHORIZATION regress_export_shop;
SELECT * FROM contactsync_export('customers', 'mail');
RESET SESSION AUTHORIZATION;
REVOKE SELECT ON secrets FROM regress_export_owner;
SET SESSION AUTHORIZATION regress_export_member;
SELECT * FROM contactsync_export('secrets', 'mail');
RESET SESSION AUTHORIZATION;
DROP TABLE secrets;
DROP USER MAPPING FOR regress_export_owner SERVER mail;
REVOKE USAGE ON FOREIGN SERVER mail FROM regress_export_owner, regress_export_other;
DROP OWNED BY regress_export_shop CASCADE;
DROP ROLE regress_export_member, regress_export_owner, regress_export_other, regress_export_shop;
