-- contacts from JSON: what is accepted, what is rejected, and when two contacts are the same
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't');
CREATE FUNCTION body(contact jsonb) RETURNS text LANGUAGE sql
RETURN (SELECT body FROM contactsync_preview('mail', contact));
CREATE FUNCTION digest(contact jsonb, action text DEFAULT 'upsert') RETURNS uuid LANGUAGE sql
RETURN (SELECT digest[1] FROM contactsync_preview('mail', contact, action => action));

SELECT body('{"email": "a@example.com"}');
SELECT body('{"email": "a@example.com", "external_id": 42, "phone": 491701234567}');
SELECT body('{"email": "a@example.com", "external_id": 12345678901234567890.50}');
SELECT body('{"email": "a@example.com", "attributes": {}}');
SELECT body('{"email": "a@example.com", "attributes": null, "locale": null, "external_id": null}');

-- all JSON values are kept unchanged
SELECT body($${"email": "a@example.com", "attributes": {
	"text": "quote \" backslash \\ slash / tab \t newline \n bell \u0007 é",
	"number": 1.50, "big": 123456789012345678901234567890, "tiny": 1e-7, "yes": true, "no": false,
	"list": [1, "two", null, {"three": 3}], "object": {"b": {"c": [{}]}, "a": []}, "empty": "",
	"": "no name", "na\"me": 1, "null": null}}$$);
SELECT body($${"email": "a@example.com", "attributes": {
	"text": "quote \" backslash \\ slash / tab \t newline \n bell \u0007 é"}}$$)::jsonb
	-> 'contacts' -> 0 -> 'attributes' ->> 'text';

-- rejected, with the name of the invalid field
\set SHOW_CONTEXT never
SELECT body('{"email": "a@example.com", "firstname": "Jane"}');
SELECT body('{"email": "a@example.com", "Email": "b@example.com"}');
SELECT body('[]');
SELECT body('["a@example.com"]');
SELECT body('"a@example.com"');
SELECT body('{"email": 1}');
SELECT body('{"email": ["a@example.com"]}');
SELECT body('{"email": "a@example.com", "first_name": {"a": 1}}');
SELECT body('{"email": "a@example.com", "external_id": true}');
SELECT body('{"email": "a@example.com", "opt_in": "true"}');
SELECT body('{"email": "a@example.com", "opt_in": 1}');
SELECT body('{"email": "a@example.com", "tags": "vip"}');
SELECT body('{"email": "a@example.com", "attributes": ["plan"]}');
SELECT body('{"email": "a@example.com", "attributes": "plan"}');
SELECT body('{"email": "a@example.com", "tags": [1], "topics": []}');
SELECT body('{}');
SELECT body('{"external_id": "1"}');
SELECT body(jsonb_build_object('email', 'a@example.com', 'attributes', jsonb_build_object('big', repeat('x', 65536))));

-- the order of fields and the spelling of the address make no difference
SELECT count(DISTINCT d) FROM (VALUES
	(digest('{"email": "a@example.com", "external_id": "1", "attributes": {"a": 1, "b": 2, "c": 3}}')),
	(digest('{"attributes": {"c": 3, "b": 2, "a": 1}, "external_id": "1", "email": "a@example.com"}')),
	(digest('{"email": " A@Example.com=20", "external_id": 1, "attributes": {"b": 2, "a": 1, "c": 3}}'))
) AS t (d);

-- all different: absent, null, empty; text that moved from one field to the next; types
SELECT count(*) AS contacts, count(DISTINCT d) AS digests FROM (VALUES
	(digest('{"email": "a@example.com"}')),
	(digest('{"email": "b@example.com"}')),
	(digest('{"email": "a@example.com"}', 'unsubscribe')),
	(digest('{"email": "a@example.com", "first_name": null}')),
	(digest('{"email": "a@example.com", "first_name": ""}')),
	(digest('{"email": "a@example.com", "first_name": "x"}')),
	(digest('{"email": "a@example.com", "last_name": "x"}')),
	(digest('{"email": "a@example.com", "first_name": "xy", "last_name": "z"}')),
	(digest('{"email": "a@example.com", "first_name": "x", "last_name": "yz"}')),
	(digest('{"email": "a@example.com", "opt_in": true}')),
	(digest('{"email": "a@example.com", "opt_in": false}')),
	(digest('{"email": "a@example.com", "opt_in": null}')),
	(digest('{"email": "a@example.com", "attributes": {}}')),
	(digest('{"email": "a@example.com", "attributes": {"first_name": "x"}}')),
	(digest('{"email": "a@example.com", "attributes": {"a": null}}')),
	(digest('{"email": "a@example.com", "attributes": {"a": ""}}')),
	(digest('{"email": "a@example.com", "attributes": {"a": 1}}')),
	(digest('{"email": "a@example.com", "attributes": {"a": "1"}}')),
	(digest('{"email": "a@example.com", "attributes": {"a": 1, "b": 2}}')),
	(digest('{"email": "a@example.com", "attributes": {"a": 2, "b": 1}}'))
) AS t (d);

-- times: in ISO 8601, and none that does not exist
SELECT digest(jsonb_build_object('email', 'a@example.com', 'opt_in', true, 'opt_in_at', at)) IS NOT NULL AS accepted FROM (VALUES ('2024-02-29 23:59:59.1234567+0530'), ('2024-02-29T23:59:60Z'), ('2024-01-01T00:00:00-15')) AS t (at);
SELECT digest('{"email": "a@example.com", "opt_in": true, "opt_in_at": "2025-02-29T00:00:00Z"}');
SELECT digest('{"email": "a@example.com", "opt_in": true, "opt_in_at": "2024-01-01T-5:00:00Z"}');
SELECT digest('{"email": "a@example.com", "opt_in": true, "opt_in_at": "2024-01- 1T00:00:00Z"}');
SELECT digest('{"email": "a@example.com", "opt_in": true, "opt_in_at": "2024-01-01T00:00:00+-5:00"}');
SELECT digest('{"email": "a@example.com", "opt_in": true, "opt_in_at": "0000-01-01T00:00:00Z"}');
