-- needs UTF-8
-- Suggested mappings, what is left out and why, and hints that name the nearest column.
\set SHOW_CONTEXT never
\pset format unaligned
CREATE SERVER mailingcore FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't');
CREATE SERVER campaignlark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', check_fields 'false');
CREATE SERVER caramel FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'b');
CREATE SERVER owlat FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat', topic_id 't');
CREATE SERVER spotzee FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee');
CREATE USER MAPPING FOR CURRENT_USER SERVER mailingcore OPTIONS (api_key 'k');
CREATE USER MAPPING FOR CURRENT_USER SERVER campaignlark OPTIONS (api_key 'k');
CREATE USER MAPPING FOR CURRENT_USER SERVER caramel OPTIONS (access_token 'a');
CREATE USER MAPPING FOR CURRENT_USER SERVER owlat OPTIONS (api_key 'k');
CREATE USER MAPPING FOR CURRENT_USER SERVER spotzee OPTIONS (api_key 'k');

-- Names in any case, and common words for the fields. The statement of the HINT is typed below.
CREATE TABLE customers (
	"CustomerId"	integer PRIMARY KEY,
	"E-Mail"		text,
	"Vorname"		varchar(40),
	surname			text,
	mobile			bigint,
	language		char(2),
	"timeZone"		text,
	newsletter		boolean,
	unsubscribed	boolean NOT NULL DEFAULT false,
	mail_old		text,
	customer_email	text,
	plan			text,
	password_hash	text,
	born			date,
	full_name		text
);
SELECT * FROM contactsync_suggest('customers', 'mailingcore');
SELECT contactsync_watch('customers', 'mailingcore', mapping => E'{"email": "\\"E-Mail\\"", "phone": "mobile::text", "locale": "language", "timezone": "\\"timeZone\\"", "last_name": "surname", "first_name": "\\"Vorname\\"", "external_id": "\\"CustomerId\\""}') > 0 AS watched;
SELECT contactsync_unwatch('customers', 'mailingcore');
SELECT contactsync_watch('customers', 'mailingcore', mapping => contactsync_suggest_mapping('customers', 'mailingcore', opt_in => 'newsletter')
	|| '{"attributes": {"plan": "plan", "born": "born"}}') > 0 AS watched;
SELECT mapping FROM contactsync.watches;
SELECT contactsync_unwatch('customers', 'mailingcore');

-- Where people could be mailed who said nothing, a mapping without opt_in is not complete.
CREATE TABLE shop (id integer PRIMARY KEY, mail text, newsletter boolean, marketing_consent boolean);
SELECT server, (SELECT string_agg(format('%s=%s', field, COALESCE(expression, '?')), ' ') FROM contactsync_suggest('shop', server) WHERE field IS NOT NULL) AS fields
FROM unnest('{mailingcore,campaignlark,caramel,owlat,spotzee}'::name[]) AS server;
SELECT contactsync_suggest_mapping('shop', 'mailingcore');
SELECT contactsync_suggest_mapping('shop', 'campaignlark');
SELECT contactsync_suggest_mapping('shop', 'caramel');
SELECT contactsync_suggest_mapping('shop', 'owlat');
SELECT contactsync_suggest_mapping('shop', 'spotzee');
-- The user says who wants mail.
SELECT contactsync_suggest_mapping('shop', 'campaignlark', opt_in => 'newsletter');
SELECT contactsync_suggest_mapping('shop', 'owlat', opt_in => 'newsletter');
SELECT contactsync_suggest_mapping('shop', 'spotzee', opt_in => 'newsletter AND marketing_consent');
SELECT contactsync_suggest_mapping('shop', 'caramel', opt_in => 'newsletter');
SELECT contactsync_suggest_mapping('shop', 'mailingcore', opt_in => 'newsleter');
SELECT contactsync_suggest_mapping('shop', 'mailingcore', opt_in => 'mail');
-- What is returned can be watched.
SET client_min_messages = warning;
SELECT server, contactsync_watch('shop', server, mapping => contactsync_suggest_mapping('shop', server, opt_in => CASE server WHEN 'caramel' THEN NULL ELSE 'newsletter' END)) > 0 AS watched
FROM unnest('{mailingcore,campaignlark,caramel,owlat,spotzee}'::name[]) AS server;
SELECT server, mapping FROM contactsync.watches ORDER BY server;
RESET client_min_messages;
DROP TABLE shop;

-- Nothing is taken for consent but a boolean column opt_in that nobody has true unless a row says so.
CREATE FUNCTION opt_in_of(column_definition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('CREATE TABLE consents (id integer PRIMARY KEY, email text, %s)', column_definition);
	SELECT string_agg(concat_ws(': ', field || '=' || expression, reason), '; ') INTO result FROM contactsync_suggest('consents', 'mailingcore')
	WHERE field IS NULL OR field LIKE 'opt_in%';
	DROP TABLE consents;
	RETURN result;
END $$;
SET client_min_messages = warning;
SELECT d AS definition, opt_in_of(d) FROM unnest(ARRAY[
	'opt_in boolean', '"optIn" boolean DEFAULT false', 'opt_in boolean DEFAULT NULL', 'opt_in boolean NOT NULL DEFAULT true',
	'opt_in boolean DEFAULT (1 = 1)', 'opt_in boolean GENERATED ALWAYS AS (id > 0) STORED', 'opt_in text', 'opt_in integer',
	'opted_in boolean', 'email_opt_in boolean', 'newsletter boolean DEFAULT true', 'is_subscribed boolean', 'subscribed_at timestamptz',
	'gdpr_consent text', 'opt_out boolean', 'unsubscribed boolean', 'do_not_email boolean', 'bounced_at timestamptz', 'verified boolean',
	'mailing_address text', 'active boolean', 'status text', 'customer_opt_in boolean',
	'opt_in_at timestamptz', 'opt_in boolean, opt_in_at timestamptz', 'opt_in boolean, opt_in_at timestamptz DEFAULT now()',
	'opt_in boolean DEFAULT true, opt_in_at timestamptz']) AS d;
RESET client_min_messages;

-- Tables of three well-known sample databases: Chinook, Pagila and Northwind, which has no addresses.
CREATE TABLE "Customer" ("CustomerId" integer PRIMARY KEY, "FirstName" varchar(40) NOT NULL, "LastName" varchar(20) NOT NULL, "Company" varchar(80),
	"Country" varchar(40), "Phone" varchar(24), "Fax" varchar(24), "Email" varchar(60) NOT NULL, "SupportRepId" integer);
CREATE TABLE customer (customer_id serial PRIMARY KEY, store_id smallint, first_name text NOT NULL, last_name text NOT NULL, email text, address_id integer,
	activebool boolean NOT NULL DEFAULT true, create_date date DEFAULT CURRENT_DATE, last_update timestamptz DEFAULT now(), active integer);
CREATE TABLE northwind (customer_id varchar(5) PRIMARY KEY, company_name varchar(40), contact_name varchar(30), contact_title varchar(30), phone varchar(24));
SELECT * FROM contactsync_suggest('"Customer"', 'mailingcore');
SELECT * FROM contactsync_suggest('customer', 'mailingcore');
SELECT * FROM contactsync_suggest('northwind', 'mailingcore');
SELECT contactsync_watch('"Customer"', 'mailingcore', mapping => E'{"email": "\\"Email\\"", "phone": "\\"Phone\\"", "last_name": "\\"LastName\\"", "first_name": "\\"FirstName\\"", "external_id": "\\"CustomerId\\""}') > 0 AS watched;
SELECT contactsync_watch('customer', 'mailingcore', mapping => '{"email": "email", "last_name": "last_name", "first_name": "first_name", "external_id": "customer_id"}') > 0 AS watched;
DROP TABLE "Customer", customer, northwind;

-- The primary key: of several columns, the address, none.
CREATE TABLE keys (tenant integer, id integer, email text, PRIMARY KEY (tenant, id));
SELECT * FROM contactsync_suggest('keys', 'mailingcore');
SELECT * FROM contactsync_suggest('keys', 'spotzee');
DROP TABLE keys;
CREATE TABLE keys (email text PRIMARY KEY, external_id boolean);
SELECT * FROM contactsync_suggest('keys', 'mailingcore');
DROP TABLE keys;
CREATE TABLE keys (email text, note text);
SELECT * FROM contactsync_suggest('keys', 'mailingcore');
SELECT contactsync_suggest_mapping('keys', 'mailingcore');
DROP TABLE keys;
CREATE TABLE keys (id jsonb PRIMARY KEY, name text);
SELECT * FROM contactsync_suggest('keys', 'mailingcore');
SELECT contactsync_suggest_mapping('keys', 'mailingcore');
DROP TABLE keys;
CREATE VIEW people AS SELECT "CustomerId" AS id, "E-Mail" AS email FROM customers;
SELECT * FROM contactsync_suggest('people', 'mailingcore');
SELECT contactsync_suggest_mapping('people', 'mailingcore');

-- Attributes: those of CampaignLark have their own rules, Caramel has none.
CREATE TABLE attributes (id integer PRIMARY KEY, email text, opt_in boolean, "Größe" text, plan text, "tags" text[], "Loyalty Points" integer);
SELECT * FROM contactsync_suggest('attributes', 'campaignlark') WHERE field IS NULL OR field = 'tags';
SELECT * FROM contactsync_suggest('attributes', 'caramel') WHERE field IS NULL;
DROP TABLE attributes;

-- Rights: of the server, of the table, and of columns.
CREATE ROLE regress_suggest;
SET ROLE regress_suggest;
SELECT * FROM contactsync_suggest('customers', 'mailingcore');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER mailingcore TO regress_suggest;
GRANT SELECT ("CustomerId", "E-Mail") ON customers TO regress_suggest;
SET ROLE regress_suggest;
SELECT * FROM contactsync_suggest('customers', 'mailingcore') WHERE field IS NOT NULL OR expression IN ('plan', 'surname');
SELECT contactsync_suggest_mapping('customers', 'mailingcore');
RESET ROLE;

-- Invalid calls.
SELECT * FROM contactsync_suggest('customers', 'nobody');
SELECT * FROM contactsync_suggest(0, 'mailingcore');
SELECT contactsync_suggest_mapping(NULL, 'mailingcore');

-- Without a mapping, a NOTICE says what was chosen, and a WARNING doubts consent that a default gives.
CREATE TABLE plain (id integer PRIMARY KEY, email text, first_name text, opt_in boolean NOT NULL DEFAULT true, plan text);
SELECT contactsync_watch('plain', 'mailingcore') > 0 AS watched;
SELECT contactsync_unwatch('plain', 'mailingcore');
ALTER TABLE plain ALTER opt_in SET DEFAULT false;
SELECT contactsync_watch('plain', 'mailingcore') > 0 AS watched;

-- Errors about a field or a column name the nearest one.
SET client_min_messages = warning;
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "\"E-Mail\"", "firstname": "surname"}');
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "\"E-Mail\"", "Vorname": "surname"}');
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "\"E-Mail\"", "attribute": {}}');
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "\"E-Mail\"", "wishes": "plan"}');
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "mail"}');
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "\"E-Mail\"", "last_name": "lastname"}');
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "\"E-Mail\"", "last_name": "surnam"}');
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "\"E-Mail\"", "attributes": {"plan": "tariff"}}');
SELECT contactsync_watch('customers', 'mailingcore', '{"last_name": "surname"}');
SELECT contactsync_watch('customers', 'spotzee', '{"email": "\"E-Mail\""}');
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "\"E-Mail\""}', key => '{CustomerID}');
SELECT contactsync_watch('customers', 'mailingcore', '{"email": "\"E-Mail\""}', capture => 'poll', poll_column => 'Born');
SELECT contactsync_upsert('mailingcore', '{"email": "jane@example.com", "firstname": "Jane"}');

DROP OWNED BY regress_suggest;
DROP ROLE regress_suggest;
