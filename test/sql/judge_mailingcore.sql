-- the interpretation of MailingCore's answers: documented and undocumented ones
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_judge_mailingcore;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_judge_mailingcore;
GRANT CREATE ON SCHEMA public TO regress_judge_mailingcore;
SET SESSION AUTHORIZATION regress_judge_mailingcore;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't');
SET client_min_messages = warning;

-- three contacts: two by external id, one by e-mail address
CREATE FUNCTION three() RETURNS jsonb LANGUAGE sql RETURN jsonb '[
	{"email": "a@example.com", "external_id": "crm-1"}, {"email": "b@example.com", "external_id": "crm-2"}, {"email": "c@example.com"}]';
CREATE FUNCTION judge(body text, status int DEFAULT 200, headers jsonb DEFAULT NULL, contacts jsonb DEFAULT three(), step int DEFAULT 0)
RETURNS TABLE (verdict text, next_step int, contact int, outcome text, reason text, code text, message text, remote_id text) LANGUAGE sql
BEGIN ATOMIC
	SELECT verdict, next_step, contact, outcome, reason, code, message, remote_id
	FROM contactsync_judge('mail', status, headers, body, contacts, step);
END;
CREATE FUNCTION verdict(body text, status int DEFAULT 200, headers jsonb DEFAULT NULL, contacts jsonb DEFAULT three(), step int DEFAULT 0)
RETURNS TABLE (verdict text, retry_after float8, throttled boolean, at_fault text, reason text, field text, message text) LANGUAGE sql
BEGIN ATOMIC
	SELECT DISTINCT verdict, retry_after, throttled, at_fault, reason, field, message
	FROM contactsync_judge('mail', status, headers, body, contacts, step);
END;

-- all contacts succeeded: numbers or lists, at the top or below
SELECT verdict, string_agg(outcome, ' ') AS outcomes, body
FROM (VALUES
	('{"created": 2, "updated": 1, "failed": 0}'),
	('{"created": "2", "updated": "1", "failed": "0"}'),
	('{"summary": {"created": 3, "updated": 0, "failed": 0}}'),
	('{"data": {"created": 0, "updated": 3, "failed": []}}'),
	('{"data": {"summary": {"created": 1, "updated": 2}}}'),
	('{"data": [], "meta": {"created": 1, "updated": 2, "failed": 0}}'),
	('{"created": ["crm-1", "crm-2"], "updated": ["c@example.com"], "failed": []}'),
	('{"created": 1, "updated": 1, "unchanged": 1}'),
	('{"created": 1, "updated": 1, "skipped": 1, "failed": 0}'),
	('{"imported": 3}'),
	('{"results": [{"index": 0, "status": "created"}, {"index": 1, "status": "updated"}, {"index": 2, "status": "updated"}]}'),
	('[{"externalId": "crm-1", "id": "x1"}, {"externalId": "crm-2", "id": "x2"}, {"email": "C@Example.com", "id": "x3"}]')
) AS t (body), judge(body)
GROUP BY verdict, body ORDER BY body COLLATE "C";

-- ids of the provider
SELECT * FROM judge('{"created": [{"id": "x1", "externalId": "crm-1"}], "updated": [{"id": "x3", "email": "c@example.com"}, {"id": 2, "externalId": "crm-2"}], "failed": 0}');

-- failures by external id, e-mail address or position
SELECT * FROM judge('{"created": 1, "updated": 1, "failed": [{"externalId": "crm-2", "error": "email must be an email"}]}');
SELECT * FROM judge('{"created": 1, "updated": 1, "failed": 1, "errors": [{"email": "B@example.com", "message": ["bad", "worse"], "code": "E1"}]}');
SELECT * FROM judge('{"created": 1, "updated": 1, "failed": 1, "errors": [{"index": 1, "reason": "suppressed"}]}');
SELECT * FROM judge('{"summary": {"created": 1, "updated": 1, "failed": 1}, "errors": {"crm-2": "invalid"}}');
SELECT * FROM judge('{"summary": {"created": 1, "updated": 1, "failed": 1}, "errors": {"1": {"message": "invalid"}}}');
SELECT * FROM judge('{"created": 2, "failed": ["crm-2"]}');
SELECT * FROM judge('{"results": [{"externalId": "crm-1", "status": "created"}, {"externalId": "crm-2", "status": "failed", "error": {"code": "invalid_email", "message": "no"}}, {"email": "c@example.com", "status": "updated"}]}');
SELECT * FROM judge('{"failed": 2, "errors": [{"contact": {"externalId": "crm-1"}, "statusCode": 409, "message": "externalId conflict with another contact"}, {"index": 2, "statusCode": 503, "message": "try later"}]}');
-- an external id takes precedence over a position
SELECT * FROM judge('{"failed": 1, "errors": [{"index": 0, "externalId": "crm-2", "message": "x"}]}');
-- two errors of one contact are one failure
SELECT * FROM judge('{"created": 2, "updated": 0, "failed": 1, "errors": [{"index": 1, "message": "x"}, {"index": 1, "message": "y"}]}');

-- a success that says that it failed, what is not quite JSON, and errors of an entry in another form: never a success
SELECT verdict, contact, outcome, reason, message, body FROM (VALUES ('{"created": 3, "updated": 0, "success": false}'), ('{"created": 3, "failed": 0, "error": "quota"}'), ('{"failed": 0, "error": "quota"}'), ('{"statusCode": 500, "created": 3}'), ('{"created": 3., "failed": 0}'), ('{"created": 3, "failed": NaN}'),
	('{"results": [{"externalId": "crm-1", "errors": {"email": ["bad"]}}, {"externalId": "crm-2"}, {"email": "c@example.com"}]}')) AS t (body), judge(body) WHERE contact IS NULL OR contact = 1 ORDER BY body COLLATE "C";
-- failures that are counted but not named: never a success
SELECT * FROM judge('{"created": 1, "updated": 1, "failed": 1}');
SELECT * FROM judge('{"created": 1, "updated": 1}');
SELECT * FROM judge('{"created": 1, "failed": 2, "errors": [{"index": 1, "message": "x"}]}');
SELECT * FROM judge('{"created": 2, "failed": [{"row": 2, "message": "x"}]}');
SELECT * FROM judge('{"created": 2, "failed": [{"index": 7, "message": "x"}]}');
SELECT * FROM judge('{"created": 2, "failed": [{"index": -1}]}');
SELECT * FROM judge('{"created": 2, "failed": ["somebody: invalid"]}');
SELECT * FROM judge('{"created": 0, "updated": 0, "failed": 99}');
-- a few of many: bisect, which is cheaper than one by one
SELECT verdict, next_step, message FROM judge('{"created": 990, "failed": 2}', contacts =>
	(SELECT jsonb_agg(jsonb_build_object('email', n || '@example.com')) FROM generate_series(1, 992) n));
SELECT DISTINCT verdict, next_step, message FROM judge('{"created": 492, "failed": 500}', contacts =>
	(SELECT jsonb_agg(jsonb_build_object('email', n || '@example.com')) FROM generate_series(1, 992) n));
-- for a single contact it is clear which one failed, and perhaps why
SELECT * FROM judge('{"created": 0, "updated": 0, "failed": 1}', contacts => '{"email": "a@example.com"}');
SELECT * FROM judge('{"failed": 1, "errors": ["the address bounced"]}', contacts => '{"email": "a@example.com"}');
ALTER SERVER mail OPTIONS (ADD on_unattributed_failure 'reject');
SELECT * FROM judge('{"created": 1, "failed": 2, "errors": [{"index": 1, "message": "x"}]}');
SELECT * FROM judge('{"failed": 1}', contacts => '{"email": "a@example.com"}');
ALTER SERVER mail OPTIONS (DROP on_unattributed_failure);

-- summaries that cannot be true of these contacts, that leave some out, and results of others: never a success
SELECT body, verdict, next_step, reason, message FROM (VALUES
	('{"created": 50, "updated": 0, "failed": 0}'), ('{"created": 2, "updated": 2, "failed": 0}'), ('{"imported": 50}'), ('{"created": -1, "updated": 3, "failed": 0}'), ('{"created": 3, "failed": -1}'), ('{"failed": -1}'),
	('{"created": 0, "updated": 0, "failed": 0}'), ('{"created": 1, "updated": 1, "failed": 0}'), ('{"created": 3, "updated": 0, "failed": 3}'),
	('{"created": [{"externalId": "x1"}, {"externalId": "x2"}, {"email": "x@example.com"}], "failed": 0}'), ('{"results": [{"index": 0, "externalId": "x1", "status": "created"}], "created": 3, "failed": 0}')
) AS t (body), judge(body) WHERE contact IS NULL OR contact = 1 ORDER BY body COLLATE "C";
SELECT * FROM judge('{"created": 0, "updated": 0, "failed": 0}', contacts => '{"email": "a@example.com"}');
SELECT verdict, reason, message FROM judge('{"id": "x1", "externalId": "crm-2"}', contacts => '{"email": "a@example.com", "external_id": "crm-1"}', step => 1);

-- answers without results: never a success
SELECT verdict, reason, message, left(body, 30) AS body
FROM (VALUES (''), ('{}'), ('[]'), ('null'), ('true'), ('42'), ('"ok"'), ('OK'), ('{"ok": true}'), ('{"success": true}'), ('{"created": 1'), ('{"created": -1}'),
	('{"created": null, "failed": null}'), ('{"created": {"a": 1}}'), ('{"message": "queued"}'), ('{"data": "x"}'), ('[[[]]]'), ('[1, 2, 3]'),
	('{"created": 3, "failed": 0}x'), (E'{"created": "\\u0000", "failed": 0}'), (repeat('[', 100) || repeat(']', 100)), ('[' || repeat('{},', 40000) || '{}]')) AS t (body), verdict(body);
ALTER SERVER mail OPTIONS (ADD unreadable_answer 'accept');
SELECT verdict, contact, outcome, note FROM contactsync_judge('mail', 202, NULL, '', three());
ALTER SERVER mail OPTIONS (DROP unreadable_answer);
-- a refusal in a 2xx
SELECT * FROM judge('{"statusCode": 400, "message": ["contacts.1.email must be an email"], "error": "Bad Request"}');
SELECT * FROM judge('{"success": false, "message": "no"}', contacts => '{"email": "a@example.com"}');
-- a web page instead of the API
SELECT * FROM verdict('<!DOCTYPE html><html><head><title>Sign in to Wi-Fi</title>', 200);
SELECT * FROM verdict('nothing', 200, '{"Content-Type": "text/html; charset=utf-8"}');

-- 400: the batch is refused as a whole; find the contact at fault
SELECT * FROM verdict('{"statusCode": 400, "message": ["contacts.1.email must be an email", "contacts.2.locale must be one of es, en"], "path": "/contacts/bulk", "timestamp": "2024-01-01"}', 400);
SELECT * FROM verdict('{"statusCode": 400, "message": "contacts must contain no more than 1000 elements"}', 400);
SELECT * FROM verdict('', 400);
SELECT * FROM verdict('{"type": "about:blank", "title": "Unprocessable", "detail": "a suppressed recipient", "status": 422}', 422);
SELECT * FROM verdict('', 413);
-- a single contact is rejected
SELECT * FROM verdict('{"statusCode": 400, "message": ["contacts.0.email must be an email"]}', 400, contacts => '{"email": "a@example.com"}');
SELECT * FROM verdict('{"statusCode": 400, "message": "attributes must be an object"}', 400, contacts => '{"email": "a@example.com"}', step => 1);
SELECT * FROM verdict('{"statusCode": 409, "message": "externalId conflict with another contact"}', 409, contacts => '{"email": "a@example.com"}', step => 1);
SELECT * FROM verdict('', 418, contacts => '{"email": "a@example.com"}');

-- errors that concern all contacts
SELECT * FROM verdict('{"statusCode": 401, "message": "Invalid API key"}', 401);
SELECT * FROM verdict('', 401);
SELECT * FROM verdict('{"statusCode": 403, "message": "Missing required API key scope: contacts:write"}', 403);
SELECT * FROM verdict('{"statusCode": 403, "message": "API key is not allowed for this tenant"}', 403);
SELECT * FROM verdict('{"statusCode": 403, "message": "Forbidden resource"}', 403);
SELECT * FROM verdict('<html><title>Attention Required! | Cloudflare</title>', 403);
SELECT * FROM verdict('{"statusCode": 400, "message": "X-Tenant-Id header is required"}', 400);
SELECT * FROM verdict('{"statusCode": 404, "message": "Cannot POST /contact/bulk"}', 404);
SELECT * FROM verdict('<h1>Not Found</h1>', 404);
SELECT * FROM verdict('', 405);
SELECT * FROM verdict('', 415);
SELECT * FROM verdict('', 301, '{"Location": "https://www.mailingcore.com/"}');
SELECT * FROM verdict('', 304);
SELECT * FROM verdict('', 407);
SELECT * FROM verdict('', 402);

-- temporary errors
SELECT * FROM verdict('Could not resolve host', 0);
SELECT * FROM verdict('{"statusCode": 500, "message": "Internal server error"}', 500);
SELECT * FROM verdict('<html><title>502 Bad Gateway</title>', 502);
SELECT * FROM verdict('', 503, '{"Retry-After": "120"}');
SELECT * FROM verdict('', 408);
SELECT * FROM verdict('', 425);

-- 429: Retry-After, otherwise X-RateLimit-Reset, otherwise increasing pauses
SELECT headers, retry_after, throttled, verdict, message FROM (VALUES
	(NULL::jsonb),
	('{"Retry-After": "7"}'), ('{"Retry-After": 7}'), ('{"retry-after": "0"}'), ('{"Retry-After": "1.5"}'), ('{"Retry-After": "  30  "}'),
	('{"Retry-After": "99999999999999999999"}'), ('{"Retry-After": "1e999"}'), ('{"Retry-After": "-5"}'), ('{"Retry-After": ""}'),
	('{"Retry-After": "soon"}'), ('{"Retry-After": "5 minutes"}'),
	('{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 1994 08:50:07 GMT"}'),
	('{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sunday, 06-Nov-94 08:50:07 GMT"}'),
	('{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sun Nov  6 08:50:07 1994"}'),
	('{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 1994 08:49:07 GMT"}'),
	('{"Date": "Wed, 28 Feb 2024 23:59:59 GMT", "Retry-After": "Thu, 29 Feb 2024 00:00:29 GMT"}'),
	('{"Retry-After": "Sun, 06 Foo 1994 08:49:37 GMT"}'), ('{"Retry-After": "Sun, 06 Nov 1994"}'),
	('{"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}'),
	('{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "X-RateLimit-Reset": "784111800"}'),
	('{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "X-RateLimit-Reset": "784111800000"}'),
	('{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "X-RateLimit-Reset": "784111000"}'),
	('{"X-RateLimit-Reset": "12"}'), ('{"X-RateLimit-Reset": "x"}'),
	('{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "X-RateLimit-Reset": "784111800", "Retry-After": "3"}')
) AS t (headers), verdict('{"statusCode": 429, "message": "ThrottlerException: Too Many Requests"}', 429, headers);
-- an exhausted monthly quota is not a throttle
SELECT * FROM verdict('{"statusCode": 429, "message": "Monthly email quota exceeded", "quota": {"limit": 1000, "used": 1100, "percentage": 110}}', 429);

-- PUT of one contact
SELECT * FROM judge('{"id": "x1", "email": "a@example.com"}', contacts => '{"email": "a@example.com"}', step => 1);
SELECT * FROM judge('{"data": {"id": "x1"}}', 201, contacts => '{"email": "a@example.com"}', step => 1);
SELECT * FROM judge('{}', contacts => '{"email": "a@example.com"}', step => 1);
-- ... of somebody else, and with an error
SELECT * FROM judge('{"id": "x1", "email": "b@example.com"}', contacts => '{"email": "a@example.com"}', step => 1);
SELECT * FROM judge('{"id": "x1", "error": "email is suppressed"}', contacts => '{"email": "a@example.com"}', step => 1);
SELECT verdict, outcome, body FROM (VALUES ('{"id": "x1", "email": " A@Example.com"}'), ('{"id": "x1", "email": "a@xn--bcher-kva.example"}'), ('{"id": ""}'), ('{"id": true}')) AS t (body), judge(body, contacts => jsonb_build_object('email', CASE WHEN body LIKE '%xn--%' THEN 'a@bücher.example' ELSE 'a@example.com' END), step => 1);

-- DELETE: a missing contact counts as deleted, a missing route does not
SELECT status, body, verdict, outcome, reason, note FROM (VALUES
	(200, '{"deleted": true, "externalId": "crm-1"}'), (200, '{"deleted": false}'), (200, '{"deleted": true, "error": "x"}'), (200, '{"ok": true}'), (200, 'gone'), (204, ''), (404, '{"statusCode": 404, "message": "Contact not found"}'),
	(404, '{"statusCode": 404, "message": "Cannot DELETE /contacts/crm-1"}'), (404, ''), (403, '{"message": "Missing required API key scope: contacts:write"}'), (500, '')
) AS t (status, body), contactsync_judge('mail', status, NULL, body, '{"external_id": "crm-1"}', action => 'delete');
-- ... but one of which only the address is known need not have that as its external ID
SELECT status, verdict, outcome, reason, message, note FROM (VALUES (200, '{"deleted": true, "externalId": "a@example.com"}'), (404, '{"statusCode": 404, "message": "Contact not found"}')
) AS t (status, body), contactsync_judge('mail', status, NULL, body, '{"email": "a@example.com"}', action => 'delete');

-- the answer to an opt-out by bulk is interpreted like any other
SELECT verdict, contact, outcome FROM contactsync_judge('mail', 200, NULL, '{"created": 0, "updated": 1, "failed": 0}', '{"email": "a@example.com"}', action => 'unsubscribe');

-- texts of the provider are shortened and made printable; an id is stored completely or not at all
SELECT length(replace(message, 'é', '.')) AS length, message ~ '[[:cntrl:]]' AS control, request_id FROM contactsync_judge('mail', 400, '{"X-Request-Id": "req_1"}',
	jsonb_build_object('message', E'line\nline\ttab ' || repeat('é', 5000))::text);
SELECT request_id FROM contactsync_judge('mail', 400, jsonb_build_object('X-Request-Id', repeat('x', 5000)), '{"message": "x"}');

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_judge_mailingcore CASCADE;
DROP ROLE regress_judge_mailingcore;
