-- the requests that Owlat's documentation requires
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_preview_owlat;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_preview_owlat;
GRANT CREATE ON SCHEMA public TO regress_preview_owlat;
SET SESSION AUTHORIZATION regress_preview_owlat;
CREATE SERVER owl FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat');
CREATE FUNCTION mira() RETURNS jsonb LANGUAGE sql RETURN jsonb '{"email": "mira@acme.io", "first_name": "Mira", "last_name": "Chen"}';

-- create; if it exists, update by address, with only the data; if it was deleted, create it again
SELECT method, url, headers, body FROM contactsync_preview('owl', mira());
SELECT method, url, headers, body FROM contactsync_preview('owl', mira(), 2);
SELECT method, url, body FROM contactsync_preview('owl', mira(), 3);
SELECT upsert_key FROM contactsync_preview('owl', '{"email": " Mira@Acme.io=20"}');
SELECT url FROM contactsync_preview('owl', '{"email": "o''hara+a/b%c@example.com", "first_name": "x"}', 2);
SELECT url FROM contactsync_preview('owl', '{"email": "jürgen@müller.example", "first_name": "x"}', 2);
-- a contact that is known to exist is updated directly, unless there is nothing to update
SELECT method, url, body FROM contactsync_preview('owl', mira(), state => '{"remote_id": "k1"}');
SELECT method, url, body FROM contactsync_preview('owl', '{"email": "mira@acme.io"}', state => '{"remote_id": "k1"}');

-- only strings: null is omitted, or clears in an update
SELECT method, body FROM contactsync_preview('owl', '{"email": "a@example.com", "first_name": null, "last_name": ""}', 0);
SELECT method, body FROM contactsync_preview('owl', '{"email": "a@example.com", "first_name": null, "last_name": ""}', 2);
ALTER SERVER owl OPTIONS (ADD nulls 'clear');
SELECT method, body FROM contactsync_preview('owl', '{"email": "a@example.com", "first_name": null, "last_name": "B"}', 0);
SELECT method, body FROM contactsync_preview('owl', '{"email": "a@example.com", "first_name": null, "last_name": "B"}', 2);
SELECT method, body FROM contactsync_preview('owl', '{"email": "a@example.com", "first_name": null}', state => '{"remote_id": "k1"}');
ALTER SERVER owl OPTIONS (DROP nulls);

-- at most 200 characters
SELECT length(replace(body, 'é', '.')) AS length FROM contactsync_preview('owl', jsonb_build_object('email', 'a@example.com', 'first_name', repeat('é', 200)));
SELECT body FROM contactsync_preview('owl', jsonb_build_object('email', 'a@example.com', 'first_name', repeat('é', 201)));
SELECT body FROM contactsync_preview('owl', jsonb_build_object('email', 'a@' || repeat('abcdefghi.', 20) || 'com'));

-- fields that Owlat does not support
SELECT body FROM contactsync_preview('owl', '{"email": "a@example.com", "phone": "1"}');
SELECT body FROM contactsync_preview('owl', '{"email": "a@example.com", "attributes": {"plan": "pro"}}');
SELECT body FROM contactsync_preview('owl', '{"email": "a@example.com", "opt_in": true}');
SELECT body FROM contactsync_preview('owl', '[{"email": "a@example.com"}, {"email": "b@example.com"}]');

-- the topic, after the contact; opt_in joins and leaves
ALTER SERVER owl OPTIONS (ADD topic_id 'top/1');
SELECT method, url, headers, body FROM contactsync_preview('owl', mira(), 4);
SELECT method, url, body FROM contactsync_preview('owl', mira() || '{"opt_in": true}', 4);
SELECT method, url, headers, body FROM contactsync_preview('owl', mira() || '{"opt_in": false}', 4);
SELECT method, url, body FROM contactsync_preview('owl', mira() || '{"opt_in": true}', 0);
-- a contact that is not to be created, whether it was known or not; one that may exist by a call whose answer was lost
SELECT method, url, body FROM contactsync_preview('owl', mira() || '{"opt_in": false}', state => '{"withheld": true}');
SELECT method, url, body FROM contactsync_preview('owl', '{"email": "mira@acme.io", "opt_in": false}', state => '{"known": true, "claim": "no"}');
SELECT method, url, headers, body FROM contactsync_preview('owl', mira() || '{"opt_in": true}', 5);
ALTER SERVER owl OPTIONS (ADD topic_path '/api/v1/lists/{topic}/contacts');
SELECT url FROM contactsync_preview('owl', mira(), 4);
ALTER SERVER owl OPTIONS (SET topic_path '/api/v1/topics');
ALTER SERVER owl OPTIONS (SET topic_path 'topics/{topic}');
ALTER SERVER owl OPTIONS (DROP topic_path);

-- deletions
SELECT method, url, headers, body FROM contactsync_preview('owl', '{}', action => 'delete', state => '{"upsert_key": "mira@acme.io"}');
SELECT method, url FROM contactsync_preview('owl', '{}', action => 'unsubscribe', state => '{"upsert_key": "mira@acme.io"}');
ALTER SERVER owl OPTIONS (DROP topic_id);
SELECT method, url FROM contactsync_preview('owl', '{}', action => 'unsubscribe', state => '{"upsert_key": "mira@acme.io"}');
SELECT method, url FROM contactsync_preview('owl', '{}', action => 'delete');

-- another address: another contact, or the same one, depending on an option
SELECT method, url, body FROM contactsync_preview('owl', mira(), state => '{"previous_key": "old@acme.io", "remote_id": "k1"}');
ALTER SERVER owl OPTIONS (ADD on_email_change 'follow');
SELECT method, url, body FROM contactsync_preview('owl', mira(), state => '{"previous_key": "old@acme.io", "remote_id": "k1"}');
SELECT method, url, body FROM contactsync_preview('owl', mira(), 1, state => '{"previous_key": "old@acme.io"}');
-- a contact that also belongs to another row stays as it is
SELECT method, url, body FROM contactsync_preview('owl', mira(), state => '{"previous_key": "old@acme.io", "remote_id": "k1", "previous_shared": true}');
-- one that may have been moved away from the address of its row is known by its ID, and one that may have been moved there is looked up
SELECT method, url, body FROM contactsync_preview('owl', mira(), state => '{"remote_id": "k1", "in_doubt": true}');
SELECT method, url, body FROM contactsync_preview('owl', mira(), state => '{"in_doubt": true}');
SELECT method, url FROM contactsync_preview('owl', mira(), action => 'delete', state => '{"remote_id": "k1", "in_doubt": true}');
-- whoever is known is updated, also with nothing, since creating does not find a contact that was moved
SELECT method, url, body FROM contactsync_preview('owl', '{"email": "mira@acme.io"}', state => '{"known": true}');
ALTER SERVER owl OPTIONS (DROP on_email_change);

-- your own deployment
ALTER SERVER owl OPTIONS (ADD base_url 'https://happy-otter-1.convex.site/', ADD contacts_path '/v2/contacts');
SELECT url FROM contactsync_preview('owl', mira());
SELECT url FROM contactsync_preview('owl', mira(), 2);

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_preview_owlat CASCADE;
DROP ROLE regress_preview_owlat;
