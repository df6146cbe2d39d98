-- the requests that MailingCore's documentation requires
\set SHOW_CONTEXT never
\pset format unaligned
CREATE ROLE regress_preview_mailingcore;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_preview_mailingcore;
GRANT CREATE ON SCHEMA public TO regress_preview_mailingcore;
SET SESSION AUTHORIZATION regress_preview_mailingcore;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 'clxxxxxxxx');

-- the example of the page
SELECT method, url, headers, body FROM contactsync_preview('mail', '[
	{"email": "alice@example.com", "external_id": "crm-1", "locale": "en", "opt_in": true, "attributes": {"firstName": "Alice"}},
	{"email": "bob@example.com", "external_id": "crm-2", "locale": "es", "opt_in": true}]');

-- keyed by externalId if present, otherwise by email
SELECT upsert_key FROM contactsync_preview('mail', '[
	{"email": "a@example.com", "external_id": "crm-1"}, {"email": "B@example.com"},
	{"email": "c@example.com", "external_id": null}, {"email": "d@example.com", "external_id": ""}]');
SELECT body FROM contactsync_preview('mail', '[{"email": "c@example.com", "external_id": null}, {"email": "d@example.com", "external_id": ""}]');
SELECT length(replace(body, 'é', '.')) AS length FROM contactsync_preview('mail', jsonb_build_object('email', 'a@example.com', 'external_id', repeat('é', 128)));
SELECT body FROM contactsync_preview('mail', jsonb_build_object('email', 'a@example.com', 'external_id', repeat('é', 129)));

-- optIn is a boolean, and is sent only if it is mapped and known
SELECT body FROM contactsync_preview('mail', '[{"email": "a@example.com"}, {"email": "b@example.com", "opt_in": null},
	{"email": "c@example.com", "opt_in": false}, {"email": "d@example.com", "opt_in": true}]');
-- a known opt-out is not overwritten
SELECT body FROM contactsync_preview('mail', '[{"email": "c@example.com", "opt_in": false}, {"email": "d@example.com", "opt_in": true}]',
	state => '{"opted_out": true}');
-- a consent that was claimed already is not repeated: the person may have opted out since
SELECT body FROM contactsync_preview('mail', '[{"email": "c@example.com", "opt_in": false}, {"email": "d@example.com", "opt_in": true}]',
	state => '{"claimed": true}');
SELECT body FROM contactsync_preview('mail', '{"email": "d@example.com", "opt_in": true}', state => '{"claimed": true, "previous_key": "old@example.com"}');
-- true is sent with a claim only; the answer does not say who was new before it is too late
SELECT claim, opt_in, body::jsonb #>> '{contacts,0,optIn}' AS sent FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim), (VALUES (true), (false), (NULL)) AS o (opt_in),
	contactsync_preview('mail', jsonb_build_object('email', 'd@example.com', 'opt_in', opt_in), state => jsonb_build_object('claim', claim));

-- locales: the six, the base of others, otherwise none
SELECT body FROM contactsync_preview('mail', (SELECT jsonb_agg(jsonb_build_object('email', n || '@example.com', 'locale', l) ORDER BY n)
	FROM unnest(ARRAY['es', 'CA', 'de', 'en-GB', 'fr_CA.UTF-8', 'DE_at', 'pt', 'pt-BR', 'eng', '', 'e', '-en', NULL]) WITH ORDINALITY AS t (l, n)));
ALTER SERVER mail OPTIONS (ADD unsupported_locale 'omit');
SELECT body FROM contactsync_preview('mail', '[{"email": "a@example.com", "locale": "en-GB"}, {"email": "b@example.com", "locale": "EN"}]');
ALTER SERVER mail OPTIONS (SET unsupported_locale 'send');
SELECT body FROM contactsync_preview('mail', '[{"email": "a@example.com", "locale": "en-GB"}, {"email": "b@example.com", "locale": "pt"}]');
ALTER SERVER mail OPTIONS (SET unsupported_locale 'reject');
SELECT body FROM contactsync_preview('mail', '{"email": "a@example.com", "locale": "it"}');
SELECT body FROM contactsync_preview('mail', '{"email": "a@example.com", "locale": "en-GB"}');
ALTER SERVER mail OPTIONS (SET unsupported_locale 'what');
ALTER SERVER mail OPTIONS (DROP unsupported_locale);

-- fields without a name at MailingCore are sent as attributes
SELECT body FROM contactsync_preview('mail', '{"email": "a@example.com", "first_name": "Ann", "last_name": "O''Hara", "phone": "+49 1",
	"timezone": "Europe/Berlin", "attributes": {"plan": "pro", "age": 42, "vip": true}}');
SELECT body FROM contactsync_preview('mail', '{"email": "a@example.com", "first_name": "Ann", "attributes": {"firstName": "Anna"}}');
ALTER SERVER mail OPTIONS (ADD first_name_attribute 'vorname');
SELECT body FROM contactsync_preview('mail', '{"email": "a@example.com", "first_name": "Ann", "attributes": {"firstName": "Anna"}}');
ALTER SERVER mail OPTIONS (DROP first_name_attribute);

-- null: omitted, or cleared
SELECT body FROM contactsync_preview('mail', '{"email": "a@example.com", "locale": null, "first_name": null, "opt_in": null,
	"attributes": {"plan": null, "age": 42, "list": [null]}}');
ALTER SERVER mail OPTIONS (ADD nulls 'clear');
SELECT body FROM contactsync_preview('mail', '{"email": "a@example.com", "locale": null, "first_name": null, "opt_in": null, "external_id": null,
	"attributes": {"plan": null, "age": 42, "list": [null]}}');
-- but a locale that is omitted is not cleared
SELECT body FROM contactsync_preview('mail', '{"email": "a@example.com", "locale": "pt"}');
ALTER SERVER mail OPTIONS (DROP nulls);

-- values sent with every contact; the version of a consent only with a consent
ALTER SERVER mail OPTIONS (ADD project_id 'prj_1', ADD source 'import', ADD consent_version '2024-01');
SELECT body FROM contactsync_preview('mail', '[{"email": "a@example.com", "opt_in": true}, {"email": "b@example.com", "opt_in": false}, {"email": "c@example.com"}]');
ALTER SERVER mail OPTIONS (SET source 'a source whose name is longer than the sixty-four characters it may have');
ALTER SERVER mail OPTIONS (DROP project_id, DROP source, DROP consent_version);

-- one to a thousand contacts
SELECT jsonb_array_length(body::jsonb -> 'contacts') FROM contactsync_preview('mail',
	(SELECT jsonb_agg(jsonb_build_object('email', n || '@example.com')) FROM generate_series(1, 1000) n));
SELECT body FROM contactsync_preview('mail',
	(SELECT jsonb_agg(jsonb_build_object('email', n || '@example.com')) FROM generate_series(1, 1001) n));
SELECT body FROM contactsync_preview('mail', '[]');
ALTER SERVER mail OPTIONS (ADD batch_size '2');
SELECT body FROM contactsync_preview('mail', '[{"email": "a@example.com"}, {"email": "b@example.com"}, {"email": "c@example.com"}]');
ALTER SERVER mail OPTIONS (DROP batch_size);

-- step 1: a single contact by PUT, to learn its error
SELECT method, url, headers, body FROM contactsync_preview('mail', '{"email": "a@example.com", "external_id": "crm-1", "opt_in": true}', 1);
SELECT method FROM contactsync_preview('mail', '[{"email": "a@example.com"}, {"email": "b@example.com"}]', 1);

-- deleted contacts
SELECT method, url, headers, body FROM contactsync_preview('mail', '{"external_id": "crm/1 é?#%"}', action => 'delete');
SELECT method, url FROM contactsync_preview('mail', '{}', action => 'delete', state => '{"upsert_key": "crm-1"}');
SELECT method, url FROM contactsync_preview('mail', '{"email": "a@example.com"}', action => 'delete');
SELECT method FROM contactsync_preview('mail', '{}', action => 'delete');
SELECT method FROM contactsync_preview('mail', '{"external_id": ".."}', action => 'delete');
SELECT method, url, body FROM contactsync_preview('mail', '[{"email": "a@example.com", "external_id": "crm-1", "opt_in": true, "locale": "en"},
	{"email": "b@example.com"}]', action => 'unsubscribe');
SELECT method, body FROM contactsync_preview('mail', '{}', action => 'unsubscribe', state => '{"upsert_key": "b@example.com"}');
SELECT method FROM contactsync_preview('mail', '{}', action => 'unsubscribe', state => '{"upsert_key": "crm-1"}');
SELECT method FROM contactsync_preview('mail', '{}', action => 'forget');

-- another base URL, with or without a slash
ALTER SERVER mail OPTIONS (ADD base_url 'https://eu.example.com/mc/');
SELECT url FROM contactsync_preview('mail', '{"email": "a@example.com"}');
ALTER SERVER mail OPTIONS (DROP base_url);

-- the tenant is required, unless an option says otherwise
ALTER SERVER mail OPTIONS (DROP tenant_id);
SELECT headers FROM contactsync_preview('mail', '{"email": "a@example.com"}');
ALTER SERVER mail OPTIONS (ADD require_tenant 'false');
SELECT headers FROM contactsync_preview('mail', '{"email": "a@example.com"}');

-- a command for the shell, with the key from its environment
SELECT curl FROM contactsync_preview('mail', '{"email": "o''hara@example.com", "attributes": {"a": "$HOME `id` \\ \" ''"}}');
SELECT curl FROM contactsync_preview('mail', '{"external_id": "1"}', action => 'delete');

-- the function requires USAGE on the server
RESET SESSION AUTHORIZATION;
CREATE ROLE regress_preview_other;
SET SESSION AUTHORIZATION regress_preview_other;
SELECT body FROM contactsync_preview('mail', '{"email": "a@example.com"}');
SELECT * FROM contactsync_judge('mail', 200, NULL, '{}');
SET SESSION AUTHORIZATION regress_preview_mailingcore;
SELECT body FROM contactsync_preview('nosuch', '{"email": "a@example.com"}');

-- a contact counts as changed when an option changes what is sent, but not when the option is set to its default
CREATE FUNCTION digest() RETURNS uuid LANGUAGE sql
BEGIN ATOMIC
	SELECT digest[1] FROM contactsync_preview('mail', '{"email": "a@example.com", "external_id": "1", "first_name": null}');
END;
SELECT digest() AS before \gset
ALTER SERVER mail OPTIONS (ADD nulls 'omit', ADD first_name_attribute 'firstName', ADD pace '1', ADD campaign_id 'c');
SELECT digest() = :'before' AS same;
ALTER SERVER mail OPTIONS (SET nulls 'clear', ADD source 'import');
SELECT digest() = :'before' AS same, digest() AS cleared \gset
\echo :same
ALTER SERVER mail OPTIONS (DROP nulls, DROP source);
SELECT digest() = :'before' AS same;
ALTER SERVER mail OPTIONS (ADD source 'import', ADD nulls 'clear');
SELECT digest() = :'cleared' AS same_in_another_order;
ALTER SERVER mail OPTIONS (SET source 'clear', SET nulls 'omit');
SELECT digest() IN (:'before', :'cleared') AS same;

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_preview_mailingcore CASCADE;
DROP ROLE regress_preview_mailingcore, regress_preview_other;
