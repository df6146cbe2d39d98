-- the requests that Spotzee's documentation requires
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_preview_spotzee;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_preview_spotzee;
GRANT CREATE ON SCHEMA public TO regress_preview_spotzee;
SET SESSION AUTHORIZATION regress_preview_spotzee;
CREATE SERVER spot FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee');

-- the example in the source of the page; the key is that of another test
SELECT method, url, headers - 'Idempotency-Key' AS headers, headers ? 'Idempotency-Key' AS has_key, body FROM contactsync_preview('spot',
	'[{"external_id": "cust_001", "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "attributes": {"lifetime_value": 4250}}]');
-- the first-class fields, and everything else in data with its type
SELECT body FROM contactsync_preview('spot', '{"external_id": 7, "email": "a@example.com", "phone": "+34600000000", "locale": "es", "timezone": "Europe/Madrid",
	"attributes": {"plan": "pro", "vip": true, "score": 1.5, "tags": ["a", {"b": null}], "gone": null}}');
-- the current API: a bare array, names in data
ALTER SERVER spot OPTIONS (ADD api 'users');
SELECT method, url, body FROM contactsync_preview('spot',
	'[{"external_id": "1", "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "attributes": {"lifetime_value": 4250}}, {"external_id": "2", "first_name": "Bob", "attributes": {"first_name": "Robert"}}]');
SELECT method, url, body FROM contactsync_preview('spot', '{"external_id": "1"}', action => 'delete');
ALTER SERVER spot OPTIONS (SET api 'people');
ALTER SERVER spot OPTIONS (DROP api);

-- external_id is the key, and must not be the address
SELECT upsert_key FROM contactsync_preview('spot', '[{"external_id": "1", "email": "a@example.com"}, {"external_id": "A@B", "email": null}]');
SELECT body FROM contactsync_preview('spot', '{"email": "a@example.com"}');
SELECT body FROM contactsync_preview('spot', '{"email": "a@example.com", "external_id": null}');
SELECT body FROM contactsync_preview('spot', '{"email": "a@example.com", "external_id": ""}');
SELECT body FROM contactsync_preview('spot', '{"email": "a@example.com", "external_id": "A@Example.com"}');
ALTER SERVER spot OPTIONS (ADD email_as_id 'true');
SELECT body FROM contactsync_preview('spot', '{"email": "a@example.com", "external_id": "A@Example.com"}');
ALTER SERVER spot OPTIONS (DROP email_as_id);

-- limits, and fields that Spotzee does not support
SELECT body FROM contactsync_preview('spot', jsonb_build_object('external_id', '1', 'timezone', repeat('x', 51)));
SELECT body FROM contactsync_preview('spot', jsonb_build_object('external_id', '1', 'locale', repeat('x', 256)));
SELECT body FROM contactsync_preview('spot', '{"external_id": "1", "opt_in": true}');
SELECT jsonb_array_length(body::jsonb -> 'contacts') FROM contactsync_preview('spot', (SELECT jsonb_agg(jsonb_build_object('external_id', n)) FROM generate_series(1, 100) n));
SELECT body FROM contactsync_preview('spot', (SELECT jsonb_agg(jsonb_build_object('external_id', n)) FROM generate_series(1, 101) n));

-- opt_in is not sent with the contact; with subscription_id, an opt-out is recorded after it, and a claim towards a known contact
SELECT opt_in, url, body FROM (VALUES (true), (false), (NULL)) AS o (opt_in), contactsync_preview('spot', jsonb_build_object('external_id', '1', 'opt_in', opt_in));
ALTER SERVER spot OPTIONS (ADD subscription_id '7');
SELECT claim, known, method, url, headers ? 'Idempotency-Key' AS has_key, body FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim), (VALUES (false), (true)) AS k (known),
	contactsync_preview('spot', '[{"external_id": "1", "opt_in": true}, {"external_id": "2", "opt_in": false}, {"external_id": "3", "opt_in": null}]', 1, state => jsonb_build_object('claim', claim, 'known', known));
-- an opt-out is recorded before the address changes
SELECT step, url, body FROM (VALUES (0), (3), (1)) AS s (step), contactsync_preview('spot', '{"external_id": "1", "email": "b@example.com", "opt_in": false}', step, state => '{"known": true, "opts_out_first": true}');
ALTER SERVER spot OPTIONS (SET subscription_id 'news');
SELECT body FROM contactsync_preview('spot', '{"external_id": "1", "opt_in": false}', 1);
ALTER SERVER spot OPTIONS (DROP subscription_id);

-- a contact that is not to be created is looked up, in both APIs if need be, and updated if it exists
SELECT step, method, url, body FROM (VALUES (0), (2), (3)) AS s (step), contactsync_preview('spot', '{"external_id": "1", "email": "a@example.com", "opt_in": false}', step, state => '{"withheld": true}');
-- ... also if another call has found the API meanwhile
SELECT url FROM contactsync_preview('spot', '{"external_id": "1", "email": "a@example.com", "opt_in": false}', 2, state => '{"withheld": true, "limitation": "users: the API has /users, not /contacts"}');
-- null: omitted, or sent
SELECT body FROM contactsync_preview('spot', '{"external_id": "1", "email": null, "first_name": null, "attributes": {"plan": null}}');
ALTER SERVER spot OPTIONS (ADD nulls 'clear');
SELECT body FROM contactsync_preview('spot', '{"external_id": "1", "email": null, "first_name": null, "attributes": {"plan": null}}');
ALTER SERVER spot OPTIONS (DROP nulls);

-- the version header
ALTER SERVER spot OPTIONS (ADD version '2026-05-01');
SELECT headers ->> 'Spotzee-Version' FROM contactsync_preview('spot', '{"external_id": "1"}');
ALTER SERVER spot OPTIONS (SET version 'none');
SELECT headers ? 'Spotzee-Version' FROM contactsync_preview('spot', '{"external_id": "1"}');
ALTER SERVER spot OPTIONS (SET version 'latest');
ALTER SERVER spot OPTIONS (DROP version);

-- the idempotency key is a version 5 UUID, the same for the same batch
CREATE FUNCTION key(contacts jsonb, state jsonb DEFAULT NULL) RETURNS text LANGUAGE sql
RETURN (SELECT headers ->> 'Idempotency-Key' FROM contactsync_preview('spot', contacts, state => state));
SELECT key('[{"external_id": "1"}, {"external_id": "2"}]') ~ '^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' AS is_uuid5,
	key('[{"external_id": "1"}, {"external_id": "2"}]') = key('[{"external_id": "1"}, {"external_id": "2"}]') AS same;
-- and a different one otherwise: other contacts, contents, order or change, a repeated contact, a new key
SELECT count(*), count(DISTINCT k) FROM (VALUES
	(key('[{"external_id": "1"}, {"external_id": "2"}]')), (key('[{"external_id": "1"}]')), (key('[{"external_id": "2"}, {"external_id": "1"}]')),
	(key('[{"external_id": "1"}, {"external_id": "2", "phone": "1"}]')), (key('[{"external_id": "1"}, {"external_id": "2"}]', '{"change_id": 1}')),
	(key('[{"external_id": "1"}, {"external_id": "2"}]', '{"change_id": 2}')), (key('[{"external_id": "1"}, {"external_id": "2"}]', '{"retries": 1}')),
	(key('[{"external_id": "1"}, {"external_id": "2"}]', '{"rekeys": 1}'))) AS t (k);
-- a value that returns is another change
SELECT key('{"external_id": "1", "phone": "A"}', '{"change_id": 1}') = key('{"external_id": "1", "phone": "A"}', '{"change_id": 3}') AS replayed;

-- deletions
SELECT method, url, headers, body FROM contactsync_preview('spot', '{"external_id": "a/b c"}', action => 'delete');
SELECT method, url FROM contactsync_preview('spot', '{}', action => 'delete', state => '{"upsert_key": "cust_001"}');
SELECT method, url FROM contactsync_preview('spot', '{"external_id": ".."}', action => 'delete');
SELECT method, url FROM contactsync_preview('spot', '{}', action => 'delete');
SELECT method, url FROM contactsync_preview('spot', '{"external_id": "1"}', action => 'unsubscribe');

-- a mapping that uses the address as the stable identifier causes a warning when the watch is created
CREATE USER MAPPING FOR CURRENT_USER SERVER spot OPTIONS (api_key 'sk_secret');
CREATE TABLE customers (id int PRIMARY KEY, email text, name text);
SET client_min_messages = warning;
SELECT contactsync_watch('customers', 'spot', '{"external_id": "email", "email": "email"}') > 0 AS watched;
SELECT contactsync_unwatch('customers', 'spot');
SELECT contactsync_watch('customers', 'spot', '{"external_id": "id", "email": "email"}') > 0 AS watched;
SELECT contactsync_unwatch('customers', 'spot');
-- a mapping without an identifier is rejected
SELECT contactsync_watch('customers', 'spot', '{"email": "email"}');

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_preview_spotzee CASCADE;
DROP ROLE regress_preview_spotzee;
