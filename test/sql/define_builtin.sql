-- needs UTF-8
-- two built-in providers as definitions: the same requests and the same conclusions as those of their C
\set SHOW_CONTEXT never
\pset format unaligned
\getenv srcdir PG_ABS_SRCDIR
\set file :srcdir '/definitions/mailingcore.json'
\set mailingcore `cat :'file'`
\set file :srcdir '/definitions/campaignlark.json'
\set campaignlark `cat :'file'`
CREATE ROLE regress_define_builtin;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_define_builtin;
GRANT CREATE ON SCHEMA public TO regress_define_builtin;
SET SESSION AUTHORIZATION regress_define_builtin;
SET client_min_messages = warning;
SELECT contactsync_define('mc', :'mailingcore'), contactsync_define('lark', :'campaignlark');
CREATE SERVER mc FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mc', tenant_id 'clxxxxxxxx');
CREATE SERVER mc_c FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clxxxxxxxx');
CREATE SERVER lark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'lark');
CREATE SERVER lark_c FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', new_contacts 'unsubscribed');

-- what is sent, or why not; bodies are compared as JSON, since jsonb orders the members of a definition
CREATE FUNCTION sent(server name, contact jsonb, step int, action text, state jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE message text; detail text;
BEGIN
	RETURN (SELECT concat_ws(' ', method, url, headers, body::jsonb, upsert_key) FROM contactsync_preview(server, contact, step, action, state));
EXCEPTION WHEN invalid_parameter_value THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN regexp_replace(detail, 'field is .*', '') || CASE WHEN message LIKE 'cannot send % contacts%' THEN message ELSE '' END;
END
$$;
CREATE FUNCTION concluded(server name, status int, headers jsonb, body text, contacts jsonb, step int, action text, state jsonb) RETURNS text LANGUAGE sql
BEGIN ATOMIC
	SELECT string_agg(concat_ws(' ', verdict, retry_after, throttled, at_fault, contact, outcome, reason, remote_id, remote_status, opted_out, claimed), '; ')
	FROM contactsync_judge(server, status, headers, body, contacts, step, action, state);
END;

-- all that is known of a contact, in every combination
CREATE VIEW states AS
SELECT jsonb_strip_nulls(jsonb_build_object('claim', claim, 'known', known, 'opted_out', opted_out, 'claimed', claimed)) AS state
FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim), (VALUES (true), (false)) AS k (known),
	(VALUES (true), (false)) AS o (opted_out), (VALUES (true), (false)) AS d (claimed)
-- a claim if_new is for who is not known to have said anything
WHERE NOT (claim = 'if_new' AND (opted_out OR claimed OR known)) AND NOT ((opted_out OR claimed) AND NOT known);
SELECT count(*) FROM states;

-- MailingCore: requests
CREATE VIEW people AS SELECT * FROM (VALUES
	('[{"email": "alice@example.com", "external_id": "crm-1", "locale": "en", "opt_in": true, "attributes": {"firstName": "Alice"}},
	   {"email": "bob@example.com", "external_id": "crm-2", "locale": "es", "opt_in": true}]'::jsonb),
	('[{"email": "a@example.com", "external_id": "crm-1"}, {"email": "B@example.com"}, {"email": "c@example.com", "external_id": null}, {"email": "d@example.com", "external_id": ""}]'),
	('[{"email": "a@example.com"}, {"email": "b@example.com", "opt_in": null}, {"email": "c@example.com", "opt_in": false}, {"email": "d@example.com", "opt_in": true}]'),
	('[{"email": "a@example.com", "locale": "fr_CA.UTF-8"}, {"email": "b@example.com", "locale": "pt-BR"}, {"email": "c@example.com", "locale": "DE"}, {"email": "d@example.com", "locale": ""}]'),
	('{"email": "a@example.com", "first_name": "Ann", "last_name": "O''Hara", "phone": "+49 1", "timezone": "Europe/Berlin", "attributes": {"plan": "pro", "age": 42, "vip": true}}'),
	('{"email": "a@example.com", "first_name": "Ann", "attributes": {"firstName": "Anna"}}'),
	('{"email": "a@example.com", "locale": null, "first_name": null, "opt_in": null, "external_id": null, "attributes": {"plan": null, "age": 42, "list": [null]}}'),
	('{"email": "a@example.com", "first_name": "quote \" backslash \\ tab \t é 漢", "attributes": {"a\"b": "c\nd"}}'),
	('{"email": "not an address"}'), ('{"external_id": "1"}'), ('{"email": "a@example.com", "tags": [1]}'),
	('{"email": "a@example.com", "opt_in": true}'), ('[]')
) AS p (contacts);
SELECT count(*) FROM people, states;
SELECT contacts, state, sent('mc', contacts, 0, 'upsert', state), sent('mc_c', contacts, 0, 'upsert', state) FROM people, states
WHERE sent('mc', contacts, 0, 'upsert', state) IS DISTINCT FROM sent('mc_c', contacts, 0, 'upsert', state);
SELECT sent('mc', jsonb_build_object('email', 'a@example.com', 'external_id', repeat('x', 129)), 0, 'upsert', NULL);
-- nulls that are cleared
ALTER SERVER mc OPTIONS (ADD nulls 'clear');
ALTER SERVER mc_c OPTIONS (ADD nulls 'clear');
SELECT contacts, sent('mc', contacts, 0, 'upsert', NULL), sent('mc_c', contacts, 0, 'upsert', NULL) FROM people
WHERE sent('mc', contacts, 0, 'upsert', NULL) IS DISTINCT FROM sent('mc_c', contacts, 0, 'upsert', NULL);
ALTER SERVER mc OPTIONS (DROP nulls, ADD source 'import', ADD consent_version '2024-01', ADD project_id 'prj_1');
ALTER SERVER mc_c OPTIONS (DROP nulls, ADD source 'import', ADD consent_version '2024-01', ADD project_id 'prj_1');
SELECT contacts, state, sent('mc', contacts, 0, 'upsert', state), sent('mc_c', contacts, 0, 'upsert', state) FROM people, states
WHERE sent('mc', contacts, 0, 'upsert', state) IS DISTINCT FROM sent('mc_c', contacts, 0, 'upsert', state);
ALTER SERVER mc OPTIONS (DROP source, DROP consent_version, DROP project_id);
ALTER SERVER mc_c OPTIONS (DROP source, DROP consent_version, DROP project_id);
-- removals, of which only the key may be known
CREATE VIEW removals AS SELECT * FROM
	(VALUES ('unsubscribe'), ('delete')) AS a (action),
	(VALUES ('{"external_id": "crm/1 é?#%"}'::jsonb, NULL::jsonb), ('{}', '{"upsert_key": "crm-1"}'), ('{}', '{"upsert_key": "b@example.com"}'),
		('{"email": "a@example.com", "external_id": "crm-1"}', NULL), ('{"external_id": ".."}', NULL), ('{"email": "a@example.com"}', NULL), ('{}', NULL)) AS c (contact, state);
SELECT action, contact, state, sent('mc', contact, 0, action, state), sent('mc_c', contact, 0, action, state) FROM removals
WHERE sent('mc', contact, 0, action, state) IS DISTINCT FROM sent('mc_c', contact, 0, action, state);

-- MailingCore: answers
CREATE FUNCTION three() RETURNS jsonb LANGUAGE sql RETURN jsonb '[
	{"email": "a@example.com", "external_id": "crm-1", "opt_in": true}, {"email": "b@example.com", "external_id": "crm-2"}, {"email": "c@example.com", "opt_in": false}]';
CREATE VIEW answers AS SELECT * FROM (VALUES
	(200, NULL::jsonb, '{"created": 2, "updated": 1, "failed": 0}'), (200, NULL, '{"created": "2", "updated": "1", "failed": "0"}'),
	(200, NULL, '{"created": ["crm-1", "crm-2"], "updated": ["c@example.com"], "failed": []}'),
	(200, NULL, '{"created": 1, "updated": 1, "failed": [{"externalId": "crm-2", "error": "email must be an email"}]}'),
	(200, NULL, '{"created": 1, "updated": 1, "failed": 1, "errors": [{"email": "B@example.com", "message": ["bad", "worse"], "code": "E1"}]}'),
	(200, NULL, '{"created": 1, "updated": 1, "failed": 1, "errors": [{"index": 1, "reason": "suppressed"}]}'),
	(200, NULL, '{"created": 7, "updated": 0, "failed": 0}'), (200, NULL, '{"created": -1, "updated": 4, "failed": 0}'),
	(200, NULL, ''), (200, NULL, '{}'), (200, NULL, '[]'), (200, NULL, 'null'), (200, NULL, 'ok'), (200, NULL, '<html><title>Parked</title>'),
	(400, NULL, '{"statusCode": 400, "message": ["contacts.1.email must be an email"]}'), (400, NULL, ''), (422, NULL, '{"message": "no"}'),
	(401, NULL, '{"message": "Unauthorized"}'), (403, NULL, '{"message": "Missing required scope: contacts:write"}'), (403, NULL, '{"message": "API key does not belong to tenant"}'),
	(404, NULL, '{"message": "Cannot POST /contacts/bulk"}'), (402, NULL, ''), (405, NULL, ''), (409, NULL, '{"message": "externalId conflict"}'), (413, NULL, ''),
	(301, NULL, ''), (408, NULL, ''), (429, NULL, ''), (429, '{"Retry-After": "7"}', ''), (429, '{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "X-RateLimit-Reset": "784111780"}', ''),
	(429, NULL, '{"message": "Monthly quota exceeded"}'), (429, NULL, '{"message": "no", "quota": {"limit": 1}}'), (500, NULL, '{"message": "Internal"}'), (503, '{"Retry-After": "9"}', ''), (0, NULL, 'Connection timed out')
) AS t (status, headers, body);
SELECT count(*) FROM answers;
SELECT c.one, status, headers, body, concluded('mc', status, headers, body, c.contacts, 0, 'upsert', NULL) AS found, concluded('mc_c', status, headers, body, c.contacts, 0, 'upsert', NULL) AS c
FROM answers, (VALUES (false, three()), (true, three() -> 0)) AS c (one, contacts)
WHERE concluded('mc', status, headers, body, c.contacts, 0, 'upsert', NULL) IS DISTINCT FROM concluded('mc_c', status, headers, body, c.contacts, 0, 'upsert', NULL);
SELECT status, body, concluded('mc', status, NULL, body, '{"external_id": "crm-1"}', 0, 'delete', NULL) AS found, concluded('mc_c', status, NULL, body, '{"external_id": "crm-1"}', 0, 'delete', NULL) AS c
FROM (VALUES (200, '{"deleted": true, "externalId": "crm-1"}'), (200, ''), (204, ''), (200, '{"ok": false}'), (404, '{"message": "Contact not found"}'), (404, '{"message": "Cannot DELETE /contacts/crm-1"}'), (404, ''), (500, ''), (401, '')) AS t (status, body)
WHERE concluded('mc', status, NULL, body, '{"external_id": "crm-1"}', 0, 'delete', NULL) IS DISTINCT FROM concluded('mc_c', status, NULL, body, '{"external_id": "crm-1"}', 0, 'delete', NULL);

-- CampaignLark: requests of the first step; only who wants mail has a claim
CREATE FUNCTION is_possible(contact jsonb, state jsonb) RETURNS boolean LANGUAGE sql RETURN state ->> 'claim' = 'no' OR contact @> '{"opt_in": true}';
CREATE VIEW members AS SELECT jsonb_build_object('email', ' Jane@Example.com=20') || c AS contact FROM (VALUES
	('{"opt_in": true, "first_name": "Ann", "last_name": "B", "tags": [1, 2], "attributes": {"plan": "pro", "points": 1.5, "active": true}}'::jsonb),
	('{"opt_in": false, "first_name": "Ann"}'), ('{"opt_in": null, "first_name": null}'), ('{"first_name": "Ann", "attributes": {"first_name": "Anna"}}')) AS t (c);
SELECT contact, state, sent('lark', contact, 0, 'upsert', state), sent('lark_c', contact, 0, 'upsert', state) FROM members, states WHERE is_possible(contact, state)
AND sent('lark', contact, 0, 'upsert', state) IS DISTINCT FROM sent('lark_c', contact, 0, 'upsert', state);
-- and of the others, whose numbers differ: keep is 3 and 1, create is 4 and 2
SELECT contact, state, d, sent('lark', contact, d, 'upsert', state), sent('lark_c', contact, c, 'upsert', state) FROM members, states, (VALUES (3, 1), (4, 2)) AS s (d, c)
WHERE is_possible(contact, state) AND sent('lark', contact, d, 'upsert', state) IS DISTINCT FROM sent('lark_c', contact, c, 'upsert', state);
SELECT d, sent('lark', '{}', d, 'unsubscribe', '{"upsert_key": "b@example.com"}'), sent('lark_c', '{}', c, 'unsubscribe', '{"upsert_key": "b@example.com"}') FROM (VALUES (0, 0), (1, 2)) AS s (d, c)
WHERE sent('lark', '{}', d, 'unsubscribe', '{"upsert_key": "b@example.com"}') IS DISTINCT FROM sent('lark_c', '{}', c, 'unsubscribe', '{"upsert_key": "b@example.com"}');

-- CampaignLark: answers
CREATE FUNCTION answer(status text, email text DEFAULT 'jane@example.com') RETURNS text LANGUAGE sql
RETURN jsonb_build_object('data', jsonb_build_object('id', '0123', 'status', status, 'updated_at', '2026-01-01T00:00:00Z', 'data', jsonb_build_object('email_address', email)), 'error', NULL)::text;
CREATE FUNCTION refusal(message text) RETURNS text LANGUAGE sql RETURN jsonb_build_object('error', jsonb_build_object('message', message))::text;
CREATE VIEW lark_answers AS SELECT * FROM (VALUES
	(200, answer('SUBSCRIBED')), (200, answer('UNSUBSCRIBED')), (200, answer('UNCONFIRMED')), (200, answer('COMPLAINED')), (200, answer('CLEANED')), (200, answer('SUBSCRIBED', 'jaime@example.com')),
	(200, ''), (200, '{}'), (200, '{"data": null}'), (200, '{"data": {"id": ""}}'), (200, '{"success": false, "data": {"id": "1"}}'), (200, 'ok'), (200, '<html>'),
	(400, refusal('Email address is required for upsert operation.')), (400, refusal('The status you provided is not valid.')), (400, refusal('Field ''First name'' is required.')),
	(400, refusal('Tag ID 9 does not exist in this workspace')), (400, refusal('The email address you provided is not valid.')), (400, refusal('Something else.')), (400, ''),
	(400, refusal('We were unable to find a field with the merge_tag colour')), (400, refusal('An import or export is currently in progress.')), (422, '{"message": "no"}'),
	(401, refusal('Please provide a valid API key in the Authorization header.')), (403, refusal('Your IP address is not authorized to use this API key.')), (403, ''), (404, ''), (404, refusal('We couldn''t find a contact with that email address.')),
	(405, ''), (402, ''), (301, ''), (0, 'Connection timed out'), (500, refusal('Something went wrong')), (503, ''), (429, ''), (429, refusal('You have exceeded your event usage limit.'))
) AS t (status, body);
-- one difference is meant: a claim that is answered by an opt-out is noted as an opt-out
CREATE FUNCTION is_contradicted(contact jsonb, state jsonb, body text) RETURNS boolean LANGUAGE sql
RETURN contact @> '{"opt_in": true}' AND state ->> 'claim' = 'yes' AND body IN (answer('UNSUBSCRIBED'), answer('COMPLAINED'));
SELECT DISTINCT concluded('lark', 200, NULL, body, contact, 0, 'upsert', state) AS found, concluded('lark_c', 200, NULL, body, contact, 0, 'upsert', state) AS c
FROM members, states, lark_answers WHERE is_contradicted(contact, state, body) AND status = 200;
SELECT contact, state, status, body, concluded('lark', status, NULL, body, contact, 0, 'upsert', state) AS found, concluded('lark_c', status, NULL, body, contact, 0, 'upsert', state) AS c
FROM members, states, lark_answers WHERE is_possible(contact, state) AND NOT is_contradicted(contact, state, body) AND concluded('lark', status, NULL, body, contact, 0, 'upsert', state) IS DISTINCT FROM concluded('lark_c', status, NULL, body, contact, 0, 'upsert', state);

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_define_builtin CASCADE;
DELETE FROM contactsync.provider;
DROP ROLE regress_define_builtin;
