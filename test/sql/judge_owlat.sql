-- the interpretation of Owlat's answers
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_judge_owlat;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_judge_owlat;
GRANT CREATE ON SCHEMA public TO regress_judge_owlat;
SET SESSION AUTHORIZATION regress_judge_owlat;
CREATE SERVER owl FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat');
CREATE FUNCTION mira() RETURNS jsonb LANGUAGE sql RETURN jsonb '{"email": "mira@acme.io", "first_name": "Mira", "last_name": "Chen"}';
CREATE FUNCTION contact() RETURNS text LANGUAGE sql RETURN '{"data": {"id": "k1", "email": "mira@acme.io", "firstName": "Mira", "source": "api", "createdAt": 1, "updatedAt": 1718000000000}}';
CREATE FUNCTION refusal(category text, message text DEFAULT 'no', data jsonb DEFAULT NULL) RETURNS text LANGUAGE sql
RETURN jsonb_build_object('error', jsonb_strip_nulls(jsonb_build_object('category', category, 'message', message, 'data', data)));

-- created; exists already; updated
SELECT verdict, outcome, remote_id, note FROM contactsync_judge('owl', 201, NULL, contact(), mira());
SELECT verdict, next_step, code, message FROM contactsync_judge('owl', 409, NULL, refusal('already_exists', 'A contact with this email already exists'), mira());
SELECT verdict, next_step FROM contactsync_judge('owl', 409, NULL, '', mira());
SELECT verdict, outcome, remote_id FROM contactsync_judge('owl', 200, NULL, contact(), mira(), 2);
-- somebody else, an error, or no ID
SELECT body, verdict, reason, message FROM (VALUES ('{"data": {"id": "k1", "email": "other@acme.io"}}'), ('{"error": {"category": "internal"}, "data": {"id": "k1"}}'), ('{"data": {"id": ""}}'), ('{"data": {"id": true}}')) AS t (body), contactsync_judge('owl', 201, NULL, body, mira());
-- a step that needs a topic, where there is none
SELECT method, url, body FROM contactsync_preview('owl', mira(), 4);
SELECT verdict, outcome FROM contactsync_judge('owl', 200, NULL, contact(), mira(), 4);
-- nothing to update
SELECT verdict, next_step, outcome FROM contactsync_judge('owl', 409, NULL, refusal('already_exists'), '{"email": "mira@acme.io"}');
-- updated, but deleted meanwhile: create it again, once
SELECT verdict, next_step, message FROM contactsync_judge('owl', 404, NULL, refusal('not_found', 'Contact not found'), mira(), 2);
SELECT verdict, reason, message FROM contactsync_judge('owl', 409, NULL, refusal('already_exists'), mira(), 3);
-- a contact that is known to exist
SELECT verdict, next_step FROM contactsync_judge('owl', 404, NULL, refusal('not_found'), mira(), state => '{"remote_id": "k1"}');
SELECT verdict, outcome FROM contactsync_judge('owl', 200, NULL, contact(), mira(), state => '{"remote_id": "k1"}');
-- a conflict of an update is permanent
SELECT verdict, reason, code, message FROM contactsync_judge('owl', 409, NULL, refusal('conflict', 'email is taken'), mira(), 2);
-- a 404 that does not concern the contact means a wrong URL
SELECT verdict, reason, message FROM contactsync_judge('owl', 404, '{"Content-Type": "text/plain"}', 'No matching routes found', mira(), 2);
SELECT verdict, reason, message FROM contactsync_judge('owl', 404, NULL, refusal('not_found'), mira());

-- errors of one contact
SELECT status, verdict, reason, code, message FROM (VALUES (400, refusal('invalid_input', 'Invalid email format')), (400, '{"error": {"message": "old style", "code": "bad"}}'), (400, ''), (422, refusal('invalid_state', 'no'))) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, mira());
-- errors of all contacts
SELECT status, verdict, at_fault, reason, code, message FROM (VALUES (401, refusal('unauthenticated', 'Invalid API key')), (401, refusal('unauthenticated', 'Invalid API key format')), (402, refusal('limit_reached', 'Contact limit reached')),
	(403, refusal('forbidden', 'This API key is missing the required scope: contacts:write')), (403, refusal('forbidden')), (405, '{"error": {"message": "Method not allowed"}}')) AS t (status, body), contactsync_judge('owl', status, NULL, body, mira());
-- temporary errors
SELECT status, verdict, retry_after, throttled, reason, message FROM (VALUES
	(429, refusal('rate_limited', 'Rate limit exceeded. Maximum 10 requests per second.'), '{"Retry-After": "1"}'::jsonb), (429, refusal('rate_limited', 'x', '{"retryAfter": 3}'), '{"Retry-After": "1"}'), (429, refusal('rate_limited', 'x', '{"retryAfter": 0}'), NULL),
	(429, refusal('rate_limited', 'x', '{"retryAfter": -1}'), NULL), (429, '', NULL), (500, refusal('internal'), NULL), (503, '<html>', NULL), (0, 'timeout', NULL)
) AS t (status, body, headers), contactsync_judge('owl', status, headers, body, mira());
-- answers that are not understood
SELECT verdict, reason, body FROM (VALUES (''), ('{}'), ('{"data": null}'), ('{"data": {}}'), ('[]'), ('ok')) AS t (body), contactsync_judge('owl', 201, NULL, body, mira());

-- an answer that cannot be true: about the contact of another address
SELECT step, verdict, reason, message FROM (VALUES (0), (2), (3)) AS t (step), contactsync_judge('owl', 200, NULL, contact(), '{"email": "noa@acme.io", "first_name": "Noa"}', step);
SELECT verdict FROM contactsync_judge('owl', 201, NULL, contact(), '{"email": " MIRA@acme.io"}');
SELECT body, verdict, message FROM (VALUES ('{"data": {"id": "k1", "deleted": true}}'), ('{"data": {"id": "k1", "deleted": false}}')) AS t (body), contactsync_judge('owl', 200, NULL, body, mira(), action => 'delete');

-- the topic follows after a success, whether created or updated
ALTER SERVER owl OPTIONS (ADD topic_id 'top1');
SELECT step, status, verdict, next_step, remote_id FROM (VALUES (0, 201), (2, 200), (3, 201)) AS t (step, status), contactsync_judge('owl', status, NULL, contact(), mira(), step);
SELECT verdict, next_step FROM contactsync_judge('owl', 409, NULL, refusal('already_exists'), '{"email": "mira@acme.io"}');
-- once for each contact; not again, not for a contact that opted out, nor without a consent
SELECT opt_in, state, verdict, next_step, topics
FROM (VALUES (NULL::text), ('null'), ('true'), ('false')) AS o (opt_in), (VALUES ('{}'::jsonb), ('{"topics": "top1", "claimed": true}'), ('{"opted_out": true}'), ('{"topics": "top1", "claimed": true, "previous_key": "old@acme.io"}')) AS s (state),
	contactsync_judge('owl', 201, NULL, contact(), CASE WHEN opt_in IS NULL THEN mira() ELSE mira() || jsonb_build_object('opt_in', opt_in::jsonb) END, state => state);
SELECT verdict, outcome, topics, note FROM contactsync_judge('owl', 201, NULL, '{"data": {"success": true, "contactId": "k1", "topicId": "top1", "doiStatus": "not_required"}}', mira(), 4);
SELECT verdict, outcome, note FROM contactsync_judge('owl', 201, NULL, '{"data": {"success": true, "doiStatus": "pending"}}', mira(), 4);
SELECT verdict, outcome, topics, note FROM contactsync_judge('owl', 200, NULL, '{"data": {"success": true, "removed": true}}', mira() || '{"opt_in": false}', 4, state => '{"topics": "top1"}');
-- an answer about another topic, or that says that nothing was done, or says nothing
SELECT opt_in, body, verdict, reason, message FROM (VALUES (true), (false)) AS o (opt_in), (VALUES
	('{"data": {"success": true, "contactId": "k1", "topicId": "top1"}}'), ('{"data": {"success": true, "contactId": "k1", "topicId": "top9"}}'), ('{"data": {"success": false, "removed": false}}'), ('{"data": {}}'), ('')) AS t (body),
	contactsync_judge('owl', 201, NULL, body, mira() || jsonb_build_object('opt_in', opt_in), 4, state => '{"topics": "top1", "remote_id": "k1"}');
-- nobody joins or leaves by an answer that does not say so
SELECT opt_in, status, body, verdict, outcome, reason FROM (VALUES (true), (false)) AS o (opt_in), (VALUES (200, ''), (200, '{}'), (200, '[[]]'), (200, 'OK'), (204, ''), (200, '{"data": {"success": false}}'), (200, '{"error": {"category": "internal"}, "data": {}}')) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, mira() || jsonb_build_object('opt_in', opt_in), 4, state => '{"topics": "top1"}');
-- another topic needs a word as well
ALTER SERVER owl OPTIONS (SET topic_id 'top2');
SELECT claim, before, verdict, next_step, topics FROM (VALUES ('yes'), ('no')) AS c (claim), (VALUES ('top1'), ('top1 top2'), ('top2 top1'), ('top22 top')) AS t (before),
	contactsync_judge('owl', 200, NULL, contact(), mira(), 2, state => jsonb_build_object('topics', before, 'claimed', true, 'claim', claim));
SELECT opt_in, before, topics FROM (VALUES (true), (false)) AS o (opt_in), (VALUES (NULL), ('top1'), ('top2'), ('top1 top2'), ('top2 top1'), ('top1 top2 top3')) AS t (before),
	contactsync_judge('owl', 200, NULL, '{"data": {"success": true}}', mira() || jsonb_build_object('opt_in', opt_in), 4, state => jsonb_build_object('topics', before));
ALTER SERVER owl OPTIONS (SET topic_id 'top1');
-- a failure to join does not undo the contact, unless it concerns all contacts
SELECT status, body, verdict, outcome, reason, message, note FROM (VALUES (404, refusal('not_found', 'Contact not found')), (422, refusal('invalid_state', 'blocked')), (409, refusal('conflict')), (400, ''),
	(404, refusal('not_found', 'Topic not found')), (400, refusal('invalid_input', 'Invalid topic id')), (404, 'No matching routes found'), (403, refusal('forbidden', 'This API key is missing the required scope: topics:write')), (429, ''), (500, '')) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, mira(), 4);
-- but an opt-out that was not applied is a failure, unless the contact does not exist
SELECT status, body, verdict, outcome, reason, message, note FROM (VALUES (404, refusal('not_found', 'Contact not found')), (422, refusal('invalid_state', 'blocked')), (400, ''), (404, refusal('not_found', 'Topic not found'))) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, mira() || '{"opt_in": false}', 4);
-- what is said of a contact repeats its address, which can have any word in it
SELECT opt_in, verdict, outcome, reason, note FROM (VALUES (true), (false)) AS o (opt_in),
	contactsync_judge('owl', 404, NULL, refusal('not_found', 'Contact with email "topic.not.found@acme.io" not found'), jsonb_build_object('email', 'topic.not.found@acme.io', 'opt_in', opt_in), 4);
-- whether somebody joins depends on the claim, and on whether the contact turned out to be new
SELECT claim, step, status, verdict, next_step, claimed FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim), (VALUES (0, 201), (0, 409), (2, 200), (3, 201)) AS t (step, status),
	contactsync_judge('owl', status, NULL, CASE WHEN status = 409 THEN refusal('already_exists') ELSE contact() END, mira() || '{"opt_in": true}', step, state => jsonb_build_object('claim', claim));
SELECT claim, verdict, next_step, claimed FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim),
	contactsync_judge('owl', 409, NULL, refusal('already_exists'), '{"email": "mira@acme.io", "opt_in": true}', state => jsonb_build_object('claim', claim));
-- a new word joins once more, also after an opt-out; a failure to join claims nothing
SELECT verdict, next_step FROM contactsync_judge('owl', 200, NULL, contact(), mira(), 2, state => '{"topics": "top1", "claimed": true, "claim": "yes"}');
SELECT verdict, next_step FROM contactsync_judge('owl', 200, NULL, contact(), mira(), 2, state => '{"topics": "top1", "opted_out": true, "claim": "yes"}');
SELECT status, verdict, claimed, opted_out, topics, note FROM (VALUES (201, '{"data": {"success": true}}'), (422, refusal('invalid_state', 'blocked'))) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, mira() || '{"opt_in": true}', 4, state => '{"claim": "yes"}');
-- who is not in the topic any more, after we added them, has left
SELECT t.topics AS before, removed, j.verdict, j.opted_out, j.claimed, j.topics FROM (VALUES ('top1'), (NULL)) AS t (topics), (VALUES (true), (false)) AS r (removed),
	contactsync_judge('owl', 200, NULL, jsonb_build_object('data', jsonb_build_object('success', true, 'removed', removed))::text, mira() || '{"opt_in": false}', 4, state => jsonb_build_object('topics', t.topics, 'claimed', t.topics IS NOT NULL)) j;
-- an ID that is no topic's
SELECT status, body, verdict, reason, message FROM (VALUES (500, refusal('internal', 'Internal error')), (500, ''), (503, refusal('internal'))) AS t (status, body), contactsync_judge('owl', status, NULL, body, mira(), 4);

-- a contact that is not created: where it exists, it is updated and leaves the topic, but does not join
SELECT opt_in, status, verdict, next_step, outcome, claimed FROM (VALUES ('null'::jsonb), ('false'), ('true')) AS o (opt_in), (VALUES (200), (404)) AS s (status),
	contactsync_judge('owl', status, NULL, CASE status WHEN 200 THEN contact() ELSE refusal('not_found') END, mira() || jsonb_build_object('opt_in', opt_in), state => '{"withheld": true, "claim": "no", "claimed": true}');
-- one that was deleted there is created again by a word only
SELECT claim, opt_in, verdict, next_step, outcome FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim), (VALUES ('true'::jsonb), ('false')) AS o (opt_in),
	contactsync_judge('owl', 404, NULL, refusal('not_found'), mira() || jsonb_build_object('opt_in', opt_in), state => jsonb_build_object('remote_id', 'k1', 'claim', CASE opt_in WHEN 'true' THEN claim ELSE 'no' END));
-- one that exists may have been created by a call whose answer was lost: it has not changed since, and was created after its change was queued
SELECT maybe, claim, verdict, next_step FROM (VALUES (true), (false)) AS m (maybe), (VALUES ('yes'), ('if_new'), ('no')) AS c (claim),
	contactsync_judge('owl', 409, NULL, refusal('already_exists'), mira() || '{"opt_in": true}', state => jsonb_build_object('claim', claim, 'maybe_ours', maybe));
SELECT status, updated, verdict, next_step FROM (VALUES (200, '2026-01-01T10:00:00.123Z'), (200, '2026-01-01T10:00:00.124Z'), (200, NULL), (403, NULL), (404, NULL)) AS t (status, updated),
	contactsync_judge('owl', status, NULL, CASE status WHEN 200 THEN jsonb_build_object('data', jsonb_build_object('id', 'k1', 'createdAt', '2026-01-01T10:00:00.123Z', 'updatedAt', updated))::text ELSE refusal(CASE status WHEN 403 THEN 'forbidden' ELSE 'not_found' END) END,
		mira() || '{"opt_in": true}', 5, state => '{"claim": "if_new", "maybe_ours": true}');
SELECT untouched, ago, verdict, next_step, claimed FROM (VALUES (true), (false)) AS u (untouched), (VALUES (10), (3600)) AS a (ago),
	contactsync_judge('owl', 200, NULL, jsonb_build_object('data', jsonb_build_object('id', 'k1', 'createdAt', 1767261600000, 'updatedAt', 1767261600000 + 60000))::text, mira() || '{"opt_in": true}', 2,
		state => jsonb_build_object('claim', 'if_new', 'untouched', untouched, 'queued_at', extract(epoch FROM clock_timestamp()) - ago));
ALTER SERVER owl OPTIONS (DROP topic_id);

-- another address
ALTER SERVER owl OPTIONS (ADD on_email_change 'follow');
SELECT status, verdict, next_step, reason, message FROM (VALUES (200, contact()), (404, refusal('not_found')), (409, refusal('conflict', 'email is taken')), (404, 'No matching routes found')) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, mira(), state => '{"previous_key": "old@acme.io"}');
-- so it is without names, since creating does not find a contact that was moved
SELECT status, verdict, next_step FROM (VALUES (404, refusal('not_found')), (409, refusal('conflict', 'email is taken'))) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, '{"email": "mira@acme.io"}', state => '{"previous_key": "old@acme.io"}');
-- a contact that may have been moved to the address is looked up first
SELECT status, verdict, next_step, message FROM (VALUES (200, contact()), (403, refusal('forbidden')), (404, refusal('not_found'))) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, '{"email": "mira@acme.io"}', state => '{"in_doubt": true}');
ALTER SERVER owl OPTIONS (DROP on_email_change);

-- deletions
SELECT status, verdict, outcome, reason, note FROM (VALUES (200, '{"data": {"id": "k1", "deleted": true}}'), (200, '{"data": {"deleted": false}}'), (200, '{"ok": true}'), (200, 'gone'), (204, ''), (404, refusal('not_found')), (404, 'No matching routes found'), (403, '')) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, mira(), action => 'delete');
ALTER SERVER owl OPTIONS (ADD topic_id 'top1');
SELECT status, verdict, outcome, reason, note FROM (VALUES (200, '{"data": {"success": true, "removed": false}}'), (404, refusal('not_found', 'Contact not found')), (404, 'No matching routes found')) AS t (status, body),
	contactsync_judge('owl', status, NULL, body, '{"email": "mira@acme.io"}', action => 'unsubscribe');
-- a step in the state cannot do harm
SELECT verdict, outcome FROM contactsync_judge('owl', 201, NULL, contact(), mira(), 99);
SELECT verdict, outcome FROM contactsync_judge('owl', 201, NULL, contact(), mira(), -1);

-- undocumented answers: a web page, nothing, a redirect, 418, JSON of another structure
SELECT status, coalesce(nullif(left(body, 24), ''), headers #>> '{}', '-') AS answer, verdict, at_fault, outcome, reason, message FROM (VALUES
	(200, NULL::jsonb, '<html><title>Hotel WLAN</title>'), (502, NULL, '<html><title>Bad gateway</title>'), (403, NULL, '<html><title>Blocked</title>'), (404, NULL, '<!DOCTYPE html>'), (200, NULL, ''), (204, NULL, ''), (202, NULL, '{}'), (200, NULL, 'OK'), (200, NULL, 'null'), (200, NULL, '"x"'), (200, NULL, '[[]]'),
	(200, NULL, '{"ok": true}'), (200, NULL, '{"data": [1, {"id": {}}]}'), (200, NULL, '{"result": [], "contacts": 7, "errors": "x", "results": {}}'), (301, '{"Location": "https://elsewhere.example/"}', ''), (302, NULL, ''), (304, NULL, ''), (307, '{"Location": "/login"}', '<html>'),
	(418, NULL, ''), (418, NULL, '<html>'), (418, NULL, '{"error": "teapot"}'), (400, NULL, '[]'), (400, NULL, '{"error": {"message": {"text": 1}}}'), (405, NULL, ''), (407, NULL, ''), (408, NULL, ''), (410, NULL, ''), (415, NULL, '{}'), (425, NULL, ''), (451, NULL, ''), (499, NULL, ''), (520, NULL, ''), (599, NULL, 'null'), (100, NULL, ''), (0, NULL, 'Connection refused')
) AS t (status, headers, body), contactsync_judge('owl', status, headers, body, '{"email": "mira@acme.io", "first_name": "Mira"}');

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_judge_owlat CASCADE;
DROP ROLE regress_judge_owlat;
