-- contactsync.duplicates: source rows that are the same contact at the provider.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE TABLE customers (id int PRIMARY KEY, email text);
CREATE TABLE leads (id int PRIMARY KEY, email text);
SELECT contactsync_watch('customers', 'mail') AS customers \gset
SELECT contactsync_watch('leads', 'mail') AS leads \gset
SELECT id AS endpoint FROM contactsync.endpoint \gset
INSERT INTO contactsync.source_row (endpoint, watch, key, upsert_key, opt_in, withheld)
VALUES (:endpoint, :customers, '1', 'jane@example.com', '-', false), (:endpoint, :customers, '2', 'jane@example.com', '-', false),
	(:endpoint, :leads, '7', 'jane@example.com', '-', false),
	-- a single row
	(:endpoint, :customers, '3', 'ann@example.com', '-', false),
	(:endpoint, :leads, '8', 'bob@example.com', '-', false), (:endpoint, :leads, '9', 'bob@example.com', '-', false);
-- a contact without a source row
INSERT INTO contactsync.contact (endpoint, watch, key, upsert_key, action, opt_in, claimed, opted_out, held, direct)
VALUES (:endpoint, 0, 'ann@example.com', 'ann@example.com', 'u', '-', false, false, false, true);
SELECT server, owner = current_user::regrole AS own, upsert_key, rows, keys FROM contactsync.duplicates ORDER BY upsert_key;

-- the same address at another account is another contact
CREATE ROLE regress_duplicate;
GRANT USAGE ON FOREIGN SERVER mail TO regress_duplicate;
INSERT INTO contactsync.endpoint (server_oid, server, role)
SELECT server_oid, server, 'regress_duplicate' FROM contactsync.endpoint RETURNING id AS other \gset
INSERT INTO contactsync.watch (source, endpoint, key, mapping, search_path)
VALUES ('customers', :other, '{id}', '{"email": "email"}', 'public') RETURNING id AS others \gset
INSERT INTO contactsync.source_row (endpoint, watch, key, upsert_key, opt_in, withheld)
VALUES (:other, :others, '3', 'ann@example.com', '-', false);
SELECT upsert_key, rows FROM contactsync.duplicates ORDER BY upsert_key;

-- other roles see nothing
INSERT INTO contactsync.source_row (endpoint, watch, key, upsert_key, opt_in, withheld)
VALUES (:other, :others, '4', 'ann@example.com', '-', false);
SET ROLE regress_duplicate;
SELECT upsert_key, rows, keys FROM contactsync.duplicates ORDER BY upsert_key;
RESET ROLE;
DELETE FROM contactsync.endpoint WHERE id = :other;
REVOKE USAGE ON FOREIGN SERVER mail FROM regress_duplicate;
DROP ROLE regress_duplicate;
