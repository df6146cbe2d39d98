-- the requests that Caramel's documentation requires
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_preview_caramel;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_preview_caramel;
GRANT CREATE ON SCHEMA public TO regress_preview_caramel;
SET SESSION AUTHORIZATION regress_preview_caramel;
CREATE SERVER car FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'bus_01h7m9k0aabcdefghj1234567');

-- the example of the page
SELECT method, url, headers, body FROM contactsync_preview('car', '{"email": "jane@example.com", "first_name": "Jane", "last_name": "Adamson"}');
SELECT upsert_key, body::jsonb #>> '{params,arguments,email}' AS email FROM contactsync_preview('car', '{"email": " Jane@Example.com=20"}');
SELECT body FROM contactsync_preview('car', '[{"email": "a@example.com"}, {"email": "b@example.com"}]');
SELECT body FROM contactsync_preview('car', '{"email": ""}');

-- null: omitted, or sent
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com", "first_name": null, "last_name": ""}');
ALTER SERVER car OPTIONS (ADD nulls 'clear');
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com", "first_name": null, "last_name": ""}');
ALTER SERVER car OPTIONS (DROP nulls);

-- fields that the tool does not support, in particular consent
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com", "phone": "1"}');
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com", "opt_in": true}');
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com"}', action => 'unsubscribe');
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com"}', action => 'delete');

-- the form: the fallback for contacts with consent
ALTER SERVER car OPTIONS (ADD form_id 'frm_import');
CREATE FUNCTION tool(contact jsonb, step int DEFAULT 0, state jsonb DEFAULT NULL) RETURNS text LANGUAGE sql
RETURN (SELECT body::jsonb #>> '{params,name}' FROM contactsync_preview('car', contact, step, state => state));
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com", "first_name": "Ann", "opt_in": true}', 1);
SELECT opt_in, state, tool(jsonb_build_object('email', 'a@example.com', 'opt_in', opt_in), 0, state)
FROM (VALUES (true), (false), (NULL)) AS o (opt_in), (VALUES ('{}'::jsonb), ('{"limitation": "tier_required"}'), ('{"limitation": "tier_required", "opted_out": true}'), ('{"limitation": "tier_required", "claimed": true}')) AS s (state);
-- the form as the only way
ALTER SERVER car OPTIONS (ADD route 'form');
SELECT opt_in, state, tool(jsonb_build_object('email', 'a@example.com', 'opt_in', opt_in), 0, state)
FROM (VALUES (true), (false), (NULL)) AS o (opt_in), (VALUES ('{}'::jsonb), ('{"opted_out": true}'), ('{"claimed": true}'), ('{"claimed": true, "previous_key": "old@example.com"}')) AS s (state);
-- only a word of the person is submitted: the tool does not say whether a contact is new
SELECT claim, known, tool('{"email": "a@example.com", "opt_in": true}', 0, jsonb_build_object('claim', claim, 'known', known))
FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim), (VALUES (false), (true)) AS k (known);
SELECT tool('{"email": "a@example.com", "opt_in": true}', 0, '{"claim": "maybe"}');
ALTER SERVER car OPTIONS (ADD form_sets_consent 'false');
SELECT opt_in, tool(jsonb_build_object('email', 'a@example.com', 'opt_in', opt_in)) FROM (VALUES (true), (false), (NULL)) AS o (opt_in);
ALTER SERVER car OPTIONS (DROP form_sets_consent);
-- undocumented names
ALTER SERVER car OPTIONS (ADD form_tool 'submit', ADD form_id_argument 'formId', ADD form_data_argument 'fields', ADD form_email_field 'Email', ADD form_first_name_field 'Vorname');
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com", "first_name": "Ann", "last_name": "B", "opt_in": true}');
ALTER SERVER car OPTIONS (SET form_data_argument 'none');
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com", "first_name": "Ann", "last_name": "B", "opt_in": true}');
ALTER SERVER car OPTIONS (DROP form_id);
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com"}');

-- the business is required
ALTER SERVER car OPTIONS (DROP route, DROP business_id);
SELECT body FROM contactsync_preview('car', '{"email": "a@example.com"}');

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_preview_caramel CASCADE;
DROP ROLE regress_preview_caramel;
