-- the interpretation of Spotzee's answers
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_judge_spotzee;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_judge_spotzee;
GRANT CREATE ON SCHEMA public TO regress_judge_spotzee;
SET SESSION AUTHORIZATION regress_judge_spotzee;
CREATE SERVER spot FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee');
CREATE FUNCTION three() RETURNS jsonb LANGUAGE sql RETURN jsonb '[{"external_id": "c1"}, {"external_id": "c2"}, {"external_id": "c3", "email": "c@example.com"}]';
CREATE FUNCTION judge(body text, status int DEFAULT 200, contacts jsonb DEFAULT three())
RETURNS TABLE (verdict text, contact int, outcome text, reason text, code text, message text, remote_id text) LANGUAGE sql
BEGIN ATOMIC
	SELECT verdict, contact, outcome, reason, code, message, remote_id FROM contactsync_judge('spot', status, NULL, body, contacts);
END;
CREATE FUNCTION problem(status int, code text, message text DEFAULT 'no', more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql
RETURN jsonb_build_object('status', 'error', 'code', code, 'message', message, 'error', message, 'type', 'about:blank', 'title', 'T', 'request_id', 'req_1') || more;

-- all contacts succeeded, in either form
SELECT verdict, string_agg(outcome, ' ' ORDER BY contact) AS outcomes, string_agg(remote_id, ' ' ORDER BY contact) AS ids, body FROM (VALUES
	('{"errors": []}'), ('{"contacts": [{"id": "s1", "external_id": "c1"}, {"id": "s2", "external_id": "c2"}, {"id": "s3", "external_id": "c3"}], "errors": []}'),
	('{"results": [{"index": 0, "external_id": "c1", "user": {"id": 11}}, {"index": 1, "external_id": "c2", "user": {"id": 12}}, {"index": 2, "external_id": "c3", "user": {"id": 13}}], "succeeded": 3, "failed": 0}'),
	('{"results": [{"index": 0, "external_id": "c1", "contact": {"id": "s1"}}, {"index": 1, "external_id": "c2", "contact": {"id": "s2"}}, {"index": 2, "external_id": "c3", "contact": {"id": "s3"}}]}'),
	('{"succeeded": 3, "failed": 0}'), ('{"failed": 0}')
) AS t (body), judge(body) GROUP BY verdict, body ORDER BY body COLLATE "C";

-- some failed: only these, by external id or position; errors of Spotzee itself are retried
SELECT * FROM judge('{"errors": [{"external_id": "c2", "code": "parameter_invalid_format", "message": "email is invalid"}]}');
SELECT * FROM judge('{"errors": [{"external_id": "c2", "code": "rate_limited"}, {"external_id": "c3", "code": "resource_already_exists"}]}', 207);
SELECT * FROM judge('{"errors": [{"index": 1, "code": "validation_failed"}]}');
SELECT * FROM judge('{"results": [{"index": 0, "external_id": "c1", "user": {"id": 11}}, {"index": 1, "external_id": "c2", "error": {"code": "validation_failed", "message": "phone"}}, {"index": 2, "external_id": "c3", "error": {"code": "internal_error", "message": "x"}}], "succeeded": 1, "failed": 2}');
SELECT code, outcome, reason FROM (VALUES ('rate_limited'), ('service_unavailable'), ('internal_error'), ('idempotency_in_progress'), ('state_conflict'), ('validation_failed'), ('resource_missing'), ('something_new')) AS t (c), judge(format('{"errors": [{"external_id": "c1", "code": "%s"}]}', c), 200, '{"external_id": "c1"}');
-- failures that are counted but not named: never a success
SELECT * FROM judge('{"succeeded": 2, "failed": 1}');
SELECT * FROM judge('{"succeeded": 2}');
SELECT * FROM judge('{"errors": [{"code": "validation_failed", "message": "one of them"}]}');
SELECT * FROM judge('{"errors": [{"external_id": "c9", "code": "validation_failed"}]}');
SELECT * FROM judge('{"errors": [{"code": "validation_failed", "message": "this one"}]}', 200, '{"external_id": "c1"}');
SELECT * FROM judge('{"succeeded": 0, "failed": 1}', 200, '{"external_id": "c1"}');
-- summaries that cannot be true of these contacts, and results of others: never a success
SELECT body, verdict, reason, message FROM (VALUES
	('{"succeeded": 0, "failed": 0}'), ('{"succeeded": 2, "failed": 0}'), ('{"succeeded": 5, "failed": 0}'), ('{"succeeded": -1, "failed": 0}'), ('{"succeeded": 3, "failed": -1}'), ('{"succeeded": 3, "failed": 1}'), ('{"failed": 0, "results": []}'),
	('{"results": [{"external_id": "x1"}, {"external_id": "x2"}, {"external_id": "x3"}], "succeeded": 3, "failed": 0}'), ('{"results": [{"index": 0, "external_id": "x1"}, {"index": 1, "external_id": "x2"}, {"index": 2, "external_id": "x3"}]}'), ('{"users": [{"user": {"email": "x@example.com"}}], "errors": []}')
) AS t (body), judge(body) WHERE contact IS NULL OR contact = 1 ORDER BY body COLLATE "C";
SELECT verdict, outcome, reason, message FROM (VALUES ('{"succeeded": 0, "failed": 0}'), ('{"failed": 1, "succeeded": 1}')) AS t (body), judge(body, 200, '{"external_id": "c1"}');
-- what says that it failed is no success, whatever else it says; errors of an entry may have any form
SELECT body, verdict, reason, message FROM (VALUES ('{"errors": [], "error": {"code": "x"}}'), ('{"status": "error", "succeeded": 3, "failed": 0}'), ('{"success": false, "failed": 0}')) AS t (body), judge(body) ORDER BY body COLLATE "C";
SELECT verdict, contact, outcome, reason FROM judge('{"results": [{"external_id": "c1", "errors": {"email": ["is invalid"]}}, {"external_id": "c2", "errors": {}, "user": {"id": 1}}, {"external_id": "c3", "errors": "no"}]}');
-- answers that are not understood
SELECT verdict, reason, body FROM (VALUES (''), ('{}'), ('[]'), ('{"status": "ok"}'), ('{"results": []}'), ('{"contacts": [{"external_id": "c1"}]}'), ('{"errors": null}')) AS t (body), judge(body);
ALTER SERVER spot OPTIONS (ADD unreadable_answer 'accept');
SELECT verdict, outcome FROM judge('{"status": "ok"}');
ALTER SERVER spot OPTIONS (DROP unreadable_answer);

-- idempotency: a new key, or the same key later
SELECT status, code, verdict, retry_after, throttled, reason, message FROM (VALUES (409, 'idempotency_key_mismatch', NULL::jsonb), (409, 'idempotency_in_progress', '{"Retry-After": "2"}'), (409, 'state_conflict', NULL), (409, 'resource_already_exists', NULL), (409, NULL, NULL)) AS t (status, c, headers),
	contactsync_judge('spot', status, headers, problem(status, c), three());
-- the batch is refused as a whole: bisect; errors[] then describes fields, not contacts
SELECT status, c, verdict, reason, field, message, request_id FROM (VALUES (400, 'parameter_invalid_format'), (422, 'validation_failed'), (413, NULL)) AS t (status, c),
	contactsync_judge('spot', status, NULL, problem(status, c, 'Validation failed', '{"errors": [{"param": "contacts[1].email", "code": "parameter_invalid_format", "message": "bad"}]}'), three());
SELECT verdict, reason, code, field, message FROM contactsync_judge('spot', 422, NULL, problem(422, 'validation_failed', 'bad', '{"param": "email"}'), '{"external_id": "c1"}');
SELECT verdict, reason, code, message FROM contactsync_judge('spot', 400, NULL, '{"status": "error", "code": 1002, "error": "legacy"}', '{"external_id": "c1"}');

-- errors that concern all contacts
SELECT status, c, verdict, at_fault, reason, message FROM (VALUES (401, 'authentication_required'), (403, 'permission_denied'), (402, 'quota_exceeded'), (404, 'resource_missing'), (404, NULL), (400, 'version_unsupported'), (400, 'version_required')) AS t (status, c),
	contactsync_judge('spot', status, NULL, problem(status, c), three());
-- a path that does not exist: the other one, once, and from then on
SELECT state, verdict, at_fault, reason, message, limitation FROM (VALUES ('{"limitation": "users: the API has /users, not /contacts"}'::jsonb), ('{"rekeys": 1}'), ('{"rekeys": 1, "limitation": "users: the API has /users, not /contacts"}')) AS s (state),
	contactsync_judge('spot', 404, NULL, problem(404, NULL), three(), state => state);
SELECT verdict, limitation FROM contactsync_judge('spot', 404, NULL, problem(404, NULL), three());
ALTER SERVER spot OPTIONS (ADD api 'contacts');
SELECT verdict, at_fault, reason, message FROM contactsync_judge('spot', 404, NULL, problem(404, NULL), three());
ALTER SERVER spot OPTIONS (SET api 'users');
SELECT verdict, at_fault, reason, message FROM contactsync_judge('spot', 404, NULL, problem(404, NULL), three());
ALTER SERVER spot OPTIONS (DROP api);
SELECT verdict, reason FROM contactsync_judge('spot', 400, NULL, problem(400, 'parameter_invalid_format', 'bad', '{"param": "Spotzee-Version"}'), three());
-- temporary errors: Retry-After in seconds or as a date, otherwise the remaining seconds
SELECT status, headers, verdict, retry_after, throttled FROM (VALUES (429, '{"Retry-After": "10"}'::jsonb), (429, '{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 1994 08:49:47 GMT"}'), (429, '{"X-RateLimit-Reset": "4"}'), (429, NULL), (500, NULL), (503, '{"Retry-After": "1"}'), (0, NULL)) AS t (status, headers),
	contactsync_judge('spot', status, headers, problem(status, 'rate_limited'), three());

-- deletions
SELECT rekeys, status, verdict, outcome, reason, note FROM (VALUES (0), (1)) AS r (rekeys), (VALUES (204, ''), (200, '{}'), (200, 'gone'), (200, '{"errors": [{"external_id": "c1", "code": "x"}]}'), (404, problem(404, 'resource_missing')), (404, problem(404, NULL)), (409, problem(409, 'state_conflict')), (403, '')) AS t (status, body), contactsync_judge('spot', status, NULL, body, '{"external_id": "c1"}', action => 'delete', state => jsonb_build_object('rekeys', rekeys));

-- a contact that is not to be created: looked up in the API that was found, or in both, and updated if it exists
SELECT step, limitation, status, verdict, next_step, outcome, reason, learnt FROM (VALUES (0), (2)) AS s (step), (VALUES (NULL), ('users: the API has /users, not /contacts')) AS l (limitation),
	(VALUES (200, '{"id": 1, "external_id": "c1"}'), (200, '{}'), (200, '{"error": "x"}'), (200, '{"external_id": "c2"}'), (200, '[]'), (404, problem(404, 'resource_missing')), (404, ''), (503, '')) AS t (status, body),
	LATERAL (SELECT verdict, next_step, outcome, reason, j.limitation AS learnt FROM contactsync_judge('spot', status, NULL, body, '{"external_id": "c1", "opt_in": false}', step, state => jsonb_strip_nulls(jsonb_build_object('withheld', true, 'limitation', limitation))) AS j) AS j;
SELECT verdict, next_step, outcome FROM contactsync_judge('spot', 200, NULL, '{"succeeded": 1, "failed": 0}', '{"external_id": "c1", "opt_in": false}', 3, state => '{"withheld": true}');
-- undocumented answers: a web page, nothing, a redirect, 418, JSON of another structure
SELECT status, coalesce(nullif(left(body, 24), ''), headers #>> '{}', '-') AS answer, verdict, at_fault, outcome, reason, message FROM (VALUES
	(200, NULL::jsonb, '<html><title>Hotel WLAN</title>'), (502, NULL, '<html><title>Bad gateway</title>'), (403, NULL, '<html><title>Blocked</title>'), (404, NULL, '<!DOCTYPE html>'), (200, NULL, ''), (204, NULL, ''), (202, NULL, '{}'), (200, NULL, 'OK'), (200, NULL, 'null'), (200, NULL, '"x"'), (200, NULL, '[[]]'),
	(200, NULL, '{"ok": true}'), (200, NULL, '{"data": [1, {"id": {}}]}'), (200, NULL, '{"result": [], "contacts": 7, "errors": "x", "results": {}}'), (301, '{"Location": "https://elsewhere.example/"}', ''), (302, NULL, ''), (304, NULL, ''), (307, '{"Location": "/login"}', '<html>'),
	(418, NULL, ''), (418, NULL, '<html>'), (418, NULL, '{"error": "teapot"}'), (400, NULL, '[]'), (400, NULL, '{"error": {"message": {"text": 1}}}'), (405, NULL, ''), (407, NULL, ''), (408, NULL, ''), (410, NULL, ''), (415, NULL, '{}'), (425, NULL, ''), (451, NULL, ''), (499, NULL, ''), (520, NULL, ''), (599, NULL, 'null'), (100, NULL, ''), (0, NULL, 'Connection refused')
) AS t (status, headers, body), contactsync_judge('spot', status, headers, body, '{"external_id": "c1"}');

-- consent: a claim holds by the creation; with subscription_id an opt-out is recorded next, and a claim towards a known contact
CREATE FUNCTION two(opt_in bool) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_array(jsonb_build_object('external_id', 'c1', 'opt_in', opt_in), jsonb_build_object('external_id', 'c2', 'opt_in', opt_in));
SELECT opt_in, state, verdict, next_step, contact, claimed, opted_out FROM (VALUES (true), (false), (NULL)) AS o (opt_in), (VALUES ('{"claim": "yes"}'::jsonb), ('{"claim": "if_new"}'), ('{"claim": "no"}'), ('{"claimed": true}')) AS s (state),
	contactsync_judge('spot', 200, NULL, '{"errors": []}', two(opt_in), state => state) WHERE contact = 1;
ALTER SERVER spot OPTIONS (ADD subscription_id '7');
SELECT opt_in, state, verdict, next_step, claimed, opted_out FROM (VALUES (true), (false), (NULL)) AS o (opt_in), (VALUES ('{"claim": "yes"}'::jsonb), ('{"claim": "yes", "known": true}'), ('{"claim": "if_new"}'), ('{"claim": "no"}'), ('{"claimed": true}')) AS s (state),
	contactsync_judge('spot', 200, NULL, '{"errors": []}', two(opt_in), state => state) WHERE contact = 1;
SELECT verdict, contact, outcome, claimed FROM contactsync_judge('spot', 200, NULL, '{"succeeded": 2, "failed": 0}', two(false), 1, state => '{"claimed": true}');
SELECT verdict, contact, outcome, reason FROM contactsync_judge('spot', 200, NULL, '{"results": [{"index": 0, "external_id": "c1"}, {"index": 1, "external_id": "c2", "error": {"code": "validation_failed"}}], "succeeded": 1, "failed": 1}', two(false), 1, state => '{"claimed": true}');
-- an opt-out that is recorded before the address changes, whether or not the contact is still there
SELECT body, verdict, next_step FROM (VALUES ('{"succeeded": 1, "failed": 0}'), ('{"results": [{"index": 0, "external_id": "c1", "error": {"code": "resource_missing"}}], "succeeded": 0, "failed": 1}')) AS t (body),
	contactsync_judge('spot', 200, NULL, body, '{"external_id": "c1", "opt_in": false}', 0, state => '{"known": true, "opts_out_first": true}');
-- positions count the contacts of this request only
SELECT verdict, contact, outcome, code, remote_id FROM contactsync_judge('spot', 200, NULL, '{"results": [{"index": 0, "error": {"code": "validation_failed"}}, {"index": 1, "id": "s3"}]}', '[{"external_id": "c1"}, {"external_id": "c2", "opt_in": false}, {"external_id": "c3", "opt_in": false}]', 1, state => '{"claimed": true}');
SELECT verdict, contact, outcome, code FROM contactsync_judge('spot', 200, NULL, '{"succeeded": 0, "failed": 1}', '[{"external_id": "c1"}, {"external_id": "c2", "opt_in": false}]', 1, state => '{"claimed": true}');
SELECT verdict, reason, message FROM contactsync_judge('spot', 404, NULL, problem(404, NULL), two(false), 1, state => '{"claimed": true}');

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_judge_spotzee CASCADE;
DROP ROLE regress_judge_spotzee;
