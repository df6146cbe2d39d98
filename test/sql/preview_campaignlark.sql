-- the requests that CampaignLark's documentation requires
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_preview_campaignlark;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_preview_campaignlark;
GRANT CREATE ON SCHEMA public TO regress_preview_campaignlark;
SET SESSION AUTHORIZATION regress_preview_campaignlark;
CREATE SERVER lark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark');

-- the example of the page
SELECT method, url, headers, body FROM contactsync_preview('lark', '{"email": "tywin@example.com", "first_name": "Tywin", "last_name": "Lannister",
	"tags": [1, 2], "status": "SUBSCRIBED"}');
SELECT upsert_key FROM contactsync_preview('lark', '{"email": " Tywin@Example.com=20", "status": "SUBSCRIBED"}');

-- one contact per call
SELECT body FROM contactsync_preview('lark', '[{"email": "a@example.com", "opt_in": true}]');
SELECT body FROM contactsync_preview('lark', '[{"email": "a@example.com", "opt_in": true}, {"email": "b@example.com", "opt_in": true}]');

-- fields by merge tag, with their types; the key is never among them
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "phone": "+49 1", "locale": "de-AT", "timezone": "Europe/Vienna",
	"external_id": 7, "attributes": {"plan": "pro", "points": 1.5, "active": true, "born": "1990-01-31T00:00:00Z", "email_address": "x@example.com"}}');
ALTER SERVER lark OPTIONS (ADD first_name_field 'fname', ADD phone_field 'mobile');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "first_name": "Ann", "phone": "+49 1"}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "first_name": "Ann", "attributes": {"fname": "Anna"}}');
ALTER SERVER lark OPTIONS (DROP first_name_field, DROP phone_field);

-- tags are integers; an empty list differs from null
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "tags": [1, "2", 3.0]}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "tags": []}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "tags": null}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "tags": [1, "vip"]}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "tags": [1.5]}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "tags": [null]}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "tags": [true]}');

-- status and opt_in: one of five, and the one that claims less
SELECT status, opt_in, body::jsonb ->> 'status' AS sent
FROM (VALUES ('SUBSCRIBED'), ('Unsubscribed'), ('unconfirmed'), ('CLEANED'), ('COMPLAINED'), (NULL)) AS s (status),
	(VALUES (true), (false), (NULL)) AS o (opt_in),
	contactsync_preview('lark', jsonb_build_object('email', 'a@example.com', 'status', status, 'opt_in', opt_in))
WHERE status IS NOT NULL OR opt_in IS NOT NULL;
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "status": "ACTIVE"}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "status": ""}');

-- a consent that was claimed already is not repeated: the person may have unsubscribed since
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}', state => '{"claimed": true}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": false}', state => '{"claimed": true}');
-- a known opt-out is not overwritten, nor is the contact created again as subscribed
SELECT method, url, body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}', state => '{"opted_out": true}');
SELECT method, body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}', 1, state => '{"opted_out": true}');
SELECT method, body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}', 2, state => '{"opted_out": true}');
SELECT method, body FROM contactsync_preview('lark', '{"email": "a@example.com", "status": "COMPLAINED"}', state => '{"opted_out": true}');

-- no status: rejected, because CampaignLark would subscribe a new contact
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com"}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": null}');
ALTER SERVER lark OPTIONS (ADD new_contacts 'subscribed');
SELECT method, body FROM contactsync_preview('lark', '{"email": "a@example.com"}');
SELECT method, body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": false}');
-- new_contacts applies only to contacts that are new
ALTER SERVER lark OPTIONS (SET new_contacts 'unsubscribed');
SELECT method, url, headers, body FROM contactsync_preview('lark', '{"email": "a+b/c@example.com", "first_name": "Ann"}');
SELECT method, body FROM contactsync_preview('lark', '{"email": "a@example.com", "first_name": "Ann"}', 1);
SELECT method, body FROM contactsync_preview('lark', '{"email": "a@example.com", "first_name": "Ann"}', 2);
SELECT method, body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}');
ALTER SERVER lark OPTIONS (SET new_contacts 'unconfirmed');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com"}', 2);
ALTER SERVER lark OPTIONS (SET new_contacts 'yes');
ALTER SERVER lark OPTIONS (DROP new_contacts);

-- a status that allows mail needs a claim.  What may be claimed of a new contact only is merged without a status, which
-- subscribes a contact that is new and no other; without a claim, an unknown contact is looked up
SELECT claim, known, wanted, method, body FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim), (VALUES (false), (true)) AS k (known), (VALUES ('SUBSCRIBED'), ('UNCONFIRMED'), ('UNSUBSCRIBED')) AS w (wanted),
	contactsync_preview('lark', jsonb_build_object('email', 'a@example.com', 'status', wanted), state => jsonb_build_object('claim', claim, 'known', known));
-- after the lookup: an existing contact keeps its status, a new one gets what may be claimed
SELECT claim, step, body FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim), (VALUES (1), (2)) AS s (step),
	contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}', step, state => jsonb_build_object('claim', claim));
SELECT method, body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}', state => '{"claimed": true}');

-- a full replacement requires a status
ALTER SERVER lark OPTIONS (ADD partial_update 'false');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "first_name": "Ann"}', state => '{"claimed": true}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}', state => '{"opted_out": true}');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "first_name": "Ann"}');
ALTER SERVER lark OPTIONS (ADD new_contacts 'subscribed');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}');
ALTER SERVER lark OPTIONS (DROP new_contacts);
SELECT claim, method, body FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim),
	contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}', state => jsonb_build_object('claim', claim));
-- and an existing contact gets the status that it has
SELECT claim, step, there, body FROM (VALUES ('if_new'), ('no')) AS c (claim), (VALUES (1, 'UNSUBSCRIBED'), (1, 'SUBSCRIBED'), (1, 'COMPLAINED'), (2, NULL)) AS s (step, there),
	contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true}', step, state => jsonb_build_object('claim', claim, 'remote_status', there));
ALTER SERVER lark OPTIONS (DROP partial_update);

-- null: omitted, or cleared
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "first_name": null, "attributes": {"plan": null}}');
ALTER SERVER lark OPTIONS (ADD nulls 'clear');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "first_name": null, "attributes": {"plan": null}}');
ALTER SERVER lark OPTIONS (DROP nulls);

-- fields that CampaignLark did not know are omitted: first_name is field 2, the nth attribute 12 + n, counted from 1
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "first_name": "Ann", "attributes": {"plan": "pro", "points": 1}}', (1 << 2) << 2);
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "first_name": "Ann", "attributes": {"plan": "pro", "points": 1}}', (1 << 13) << 2);
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "first_name": "Ann", "attributes": {"plan": "pro", "points": 1}}', ((1 << 2) + (1 << 13) + (1 << 14)) << 2);

-- another address is another contact
SELECT method, body FROM contactsync_preview('lark', '{"email": "new@example.com", "opt_in": true, "first_name": "Ann"}', state => '{"previous_key": "old@example.com"}');

-- deletions: looked up, because a complaint stays, and unsubscribed; nothing else is changed; there is no delete
SELECT step, method, url, body FROM (VALUES (0), (2)) AS s (step), contactsync_preview('lark', '{"email": "a@example.com", "opt_in": true, "first_name": "Ann"}', step, action => 'unsubscribe');
SELECT step, url, body FROM (VALUES (0), (2)) AS s (step), contactsync_preview('lark', '{}', step, action => 'unsubscribe', state => '{"upsert_key": "a@example.com"}');
SELECT body FROM contactsync_preview('lark', '{}', action => 'unsubscribe');
SELECT body FROM contactsync_preview('lark', '{"email": "a@example.com"}', action => 'delete');

-- letter case
ALTER SERVER lark OPTIONS (ADD keep_email_case 'true');
SELECT upsert_key, body FROM contactsync_preview('lark', '{"email": " Jane@Example.com=20", "opt_in": true}');

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_preview_campaignlark CASCADE;
DROP ROLE regress_preview_campaignlark;
