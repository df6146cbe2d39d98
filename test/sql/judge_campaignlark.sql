-- the interpretation of CampaignLark's answers: documented and undocumented ones
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_judge_campaignlark;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_judge_campaignlark;
GRANT CREATE ON SCHEMA public TO regress_judge_campaignlark;
SET SESSION AUTHORIZATION regress_judge_campaignlark;
CREATE SERVER lark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark');
CREATE FUNCTION answer(status text, error text DEFAULT '') RETURNS text LANGUAGE sql
RETURN format('{%s"data": {"id": "64f1a2b3c4d5e6f7a8b9c0d1", "status": "%s", "tags": [{"id": 1, "name": "newsletter"}], "data": {"email_address": "jane@example.com"}, "created_at": "2024-02-15T10:30:00Z", "updated_at": "2024-02-15T10:30:00Z"}}', error, status);
CREATE FUNCTION refusal(message text) RETURNS text LANGUAGE sql
RETURN jsonb_build_object('error', jsonb_build_object('message', message));

-- 200, for create and update alike
SELECT verdict, outcome, remote_id, remote_status, opted_out, note FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'));
SELECT verdict, outcome, remote_id FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED', '"error": null, '));
SELECT verdict, outcome, remote_id FROM contactsync_judge('lark', 201, NULL, '{"data": {"id": 7}}');

-- an opt-out at CampaignLark after we sent a consent was not made by us
SELECT status, opt_in, state, outcome, opted_out, claimed
FROM (VALUES ('SUBSCRIBED'), ('UNSUBSCRIBED'), ('COMPLAINED'), ('CLEANED')) AS s (status), (VALUES (true), (false)) AS o (opt_in),
	(VALUES ('{}'::jsonb), ('{"claimed": true}')) AS t (state),
	contactsync_judge('lark', 200, NULL, answer(status), jsonb_build_object('email', 'jane@example.com', 'opt_in', opt_in), state => state);

-- it stays known until there is a new word
SELECT opt_in, wanted, opted_out, claimed FROM (VALUES (true, NULL), (NULL, NULL), (false, NULL), (NULL, 'SUBSCRIBED'), (NULL, 'UNSUBSCRIBED')) AS t (opt_in, wanted),
	contactsync_judge('lark', 200, NULL, answer('UNSUBSCRIBED'), jsonb_build_object('email', 'jane@example.com', 'opt_in', opt_in, 'status', wanted), 1, state => '{"opted_out": true}');
SELECT verdict, opted_out, claimed FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), '{"email": "jane@example.com", "opt_in": true}', state => '{"opted_out": true, "claim": "yes"}');
-- the status that was sent matters, not opt_in alone
SELECT wanted, opt_in, claimed FROM (VALUES ('SUBSCRIBED', NULL), ('UNCONFIRMED', NULL), ('UNSUBSCRIBED', true), ('SUBSCRIBED', false)) AS t (wanted, opt_in),
	contactsync_judge('lark', 200, NULL, answer(wanted), jsonb_build_object('email', 'jane@example.com', 'opt_in', opt_in, 'status', wanted));

-- an answer that cannot be true: about another address, or with a status that was withdrawn
SELECT verdict, reason, message FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), '{"email": "jaime@example.com", "opt_in": true}');
SELECT verdict FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), '{"email": "JANE@example.com ", "opt_in": true}');
SELECT wanted, status, verdict, message, claimed FROM (VALUES ('UNSUBSCRIBED'), ('COMPLAINED'), ('CLEANED')) AS w (wanted), (VALUES ('SUBSCRIBED'), ('UNCONFIRMED'), ('UNSUBSCRIBED'), ('COMPLAINED'), ('CLEANED')) AS s (status),
	contactsync_judge('lark', 200, NULL, answer(status), jsonb_build_object('email', 'jane@example.com', 'status', wanted), state => '{"claimed": true}');
SELECT action, verdict, message FROM (VALUES ('unsubscribe'), ('upsert')) AS a (action), contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), '{"email": "jane@example.com", "status": "UNSUBSCRIBED"}', 2, action);
-- nor is the contact of another address what was looked up
SELECT verdict, message FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), '{"email": "jaime@example.com", "opt_in": true}', state => '{"claim": "no"}');

-- an answer without an ID, or that says that it failed
SELECT verdict, outcome, reason, message, body FROM (VALUES ('{"data": {"id": ""}}'), ('{"data": {"id": false, "status": ""}}'), ('{"success": false, "data": {"id": "1"}}'), ('{"status": "error", "data": {"id": "1"}}'), ('{"error": false, "data": {"id": "1"}}')) AS t (body),
	contactsync_judge('lark', 200, NULL, body, '{"email": "a@example.com", "opt_in": true}');

-- the errors on the page
SELECT verdict, at_fault, reason, field, message FROM (VALUES
	('Email address is required for upsert operation.'), ('The status you provided is not valid.'), ('Field ''First name'' is required.'),
	('Tag ID 9 does not exist in this workspace'), ('The email address you provided is not valid.'), ('Something else.')
) AS t (m), contactsync_judge('lark', 400, NULL, refusal(m));
SELECT verdict, reason, message FROM contactsync_judge('lark', 400, NULL, '');
SELECT verdict, reason, message FROM contactsync_judge('lark', 422, NULL, '{"message": "no"}');

-- an unknown field: the error of the mapping, or of a contact without a mapping
SELECT verdict, at_fault, reason, field, message FROM contactsync_judge('lark', 400, NULL, refusal('We were unable to find a field with the merge_tag colour'));
SELECT verdict, at_fault, reason, field FROM contactsync_judge('lark', 400, NULL, refusal('We were unable to find a field with the merge_tag "colour".'));
SELECT verdict, at_fault, reason, field FROM contactsync_judge('lark', 400, NULL, refusal('We were unable to find a field with the merge_tag'));
SELECT verdict, at_fault, reason, field FROM contactsync_judge('lark', 400, NULL, refusal('We were unable to find a field with the merge_tag colour'), state => '{"direct": true}');
-- with drop_unknown_fields they are omitted one by one
ALTER SERVER lark OPTIONS (ADD drop_unknown_fields 'true');
CREATE FUNCTION ann() RETURNS jsonb LANGUAGE sql
RETURN jsonb '{"email": "jane@example.com", "opt_in": true, "first_name": "Ann", "attributes": {"plan": "pro", "colour": "red"}}';
SELECT verdict, next_step, message FROM contactsync_judge('lark', 400, NULL, refusal('We were unable to find a field with the merge_tag colour'), ann());
SELECT body FROM contactsync_preview('lark', ann(), 65536);
SELECT verdict, next_step, message FROM contactsync_judge('lark', 400, NULL, refusal('We were unable to find a field with the merge_tag first_name'), ann(), 65536);
SELECT body FROM contactsync_preview('lark', ann(), 65552);
SELECT verdict, outcome, note FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), ann(), 65552);
-- a field that was omitted already, or was not sent, cannot be omitted
SELECT verdict, at_fault, reason, field FROM contactsync_judge('lark', 400, NULL, refusal('We were unable to find a field with the merge_tag colour'), ann(), 65536);
SELECT verdict, at_fault, reason, field FROM contactsync_judge('lark', 400, NULL, refusal('We were unable to find a field with the merge_tag last_name'), ann());
-- a step in the state cannot do harm
SELECT verdict, outcome, note FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), ann(), 2147483640);
SELECT verdict, outcome, note FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), ann(), -1);
ALTER SERVER lark OPTIONS (DROP drop_unknown_fields);

-- the lookup: new, existing, or existing and opted out
ALTER SERVER lark OPTIONS (ADD new_contacts 'unsubscribed');
CREATE FUNCTION nobody() RETURNS text LANGUAGE sql RETURN refusal('We couldn''t find a contact with that email address.');
SELECT status, opt_in, verdict, next_step, message, outcome, remote_id
FROM (VALUES (404, nobody()), (200, answer('SUBSCRIBED')), (200, answer('UNSUBSCRIBED')), (200, answer('COMPLAINED')), (200, '{"data": {"id": "1"}}'), (200, ''), (404, ''), (404, refusal('Not found'))) AS s (status, body),
	(VALUES (NULL::bool), (true)) AS o (opt_in),
	contactsync_judge('lark', status, NULL, body, jsonb_build_object('email', 'jane@example.com', 'opt_in', opt_in), state => '{"claim": "no"}');
-- after the lookup: a contact that opted out there is not subscribed, and the opt-out is stored
SELECT claim, verdict, outcome, remote_status, opted_out, claimed FROM (VALUES ('if_new'), ('no')) AS c (claim), (VALUES ('SUBSCRIBED'), ('UNSUBSCRIBED'), ('COMPLAINED')) AS s (there),
	contactsync_judge('lark', 200, NULL, answer(there), '{"email": "jane@example.com", "opt_in": true}', 1, state => jsonb_build_object('claim', claim));
-- a contact that was merged without a status: CampaignLark subscribes it if it is new
SELECT there, verdict, outcome, opted_out, claimed FROM (VALUES ('SUBSCRIBED'), ('UNSUBSCRIBED'), ('COMPLAINED'), ('CLEANED')) AS s (there),
	contactsync_judge('lark', 200, NULL, answer(there), '{"email": "jane@example.com", "opt_in": true}', state => '{"claim": "if_new"}');
SELECT verdict, outcome, remote_status, opted_out FROM contactsync_judge('lark', 200, NULL, answer('UNSUBSCRIBED'), '{"email": "jane@example.com"}', 1);
SELECT verdict, outcome, remote_status, opted_out FROM contactsync_judge('lark', 200, NULL, answer('UNSUBSCRIBED'), '{"email": "jane@example.com"}', 2);
-- a 404 of the upsert itself means a wrong URL
SELECT verdict, reason FROM contactsync_judge('lark', 404, NULL, nobody(), '{"email": "jane@example.com"}', 2);
ALTER SERVER lark OPTIONS (DROP new_contacts);

-- another address: with on_email_change the old contact is unsubscribed, by another call
SELECT verdict, next_step, outcome FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), state => '{"previous_key": "old@example.com"}');
ALTER SERVER lark OPTIONS (ADD on_email_change 'unsubscribe');
SELECT verdict, next_step, outcome, message, remote_id FROM contactsync_judge('lark', 200, NULL, answer('SUBSCRIBED'), state => '{"previous_key": "old@example.com"}');
ALTER SERVER lark OPTIONS (DROP on_email_change);

-- unsubscribed, unless the person has gone already, in particular with a complaint
SELECT there, verdict, next_step, outcome, remote_status FROM (VALUES ('SUBSCRIBED'), ('UNCONFIRMED'), ('UNSUBSCRIBED'), ('COMPLAINED'), ('CLEANED')) AS s (there),
	contactsync_judge('lark', 200, NULL, answer(there), action => 'unsubscribe');
SELECT verdict, outcome, note FROM contactsync_judge('lark', 404, NULL, refusal('We couldn''t find a contact with that email address.'), action => 'unsubscribe');
SELECT verdict, outcome, remote_status, opted_out FROM contactsync_judge('lark', 200, NULL, answer('UNSUBSCRIBED'), step => 2, action => 'unsubscribe');

-- errors that concern all contacts
SELECT status, verdict, at_fault, reason, message FROM (VALUES
	(401, refusal('Please provide a valid API key in the Authorization header.')), (401, refusal('The API key you provided is invalid or has been revoked.')),
	(403, refusal('Your IP address is not authorized to use this API key.')), (403, ''), (404, ''), (405, ''), (402, ''),
	(200, '<html><title>Parked</title>'), (301, '')
) AS t (status, body), contactsync_judge('lark', status, NULL, body);

-- temporary errors
SELECT status, verdict, retry_after, throttled, reason, message FROM (VALUES
	(0, 'Connection timed out', NULL::jsonb), (500, refusal('Something went wrong'), NULL), (503, '', '{"Retry-After": "9"}'), (429, '', NULL), (429, refusal('Too many requests.'), '{"Retry-After": "2"}'),
	(429, '', '{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "X-RateLimit-Reset": "784111780"}'), (429, refusal('You have exceeded your event usage limit.'), NULL),
	(400, refusal('An import or export is currently in progress.'), NULL), (400, refusal('An import or export is currently in progress.'), '{"Retry-After": "300"}')
) AS t (status, body, headers), contactsync_judge('lark', status, headers, body);

-- answers without content: never a success
SELECT verdict, reason, message, left(body, 30) AS body FROM (VALUES (''), ('{}'), ('[]'), ('null'), ('{"data": null}'), ('{"data": []}'), ('{"data": {"id": {}}}'), ('ok'), ('{"error": null}')) AS t (body), contactsync_judge('lark', 200, NULL, body);
-- a refusal in a 2xx
SELECT verdict, reason, field, message FROM contactsync_judge('lark', 200, NULL, '{"error": {"message": "The status you provided is not valid."}, "data": {"id": "1"}}');
SELECT verdict, reason, field, message FROM contactsync_judge('lark', 200, NULL, '{"error": true, "data": {"id": "1"}}');

-- an invalid call
SELECT * FROM contactsync_judge('lark', 200, '[]', '');
SELECT verdict FROM contactsync_judge('lark', NULL, NULL, NULL);

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_judge_campaignlark CASCADE;
DROP ROLE regress_judge_campaignlark;
