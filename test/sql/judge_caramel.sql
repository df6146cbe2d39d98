-- the interpretation of Caramel's answers, in their four forms
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_judge_caramel;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_judge_caramel;
GRANT CREATE ON SCHEMA public TO regress_judge_caramel;
SET SESSION AUTHORIZATION regress_judge_caramel;
CREATE SERVER car FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'bus_1');
CREATE FUNCTION rpc(result text) RETURNS text LANGUAGE sql RETURN format('{"jsonrpc": "2.0", "id": 1, "result": %s}', result);
CREATE FUNCTION text_error(text text) RETURNS text LANGUAGE sql
RETURN rpc(jsonb_build_object('content', jsonb_build_array(jsonb_build_object('type', 'text', 'text', text)), 'isError', true)::text);
CREATE FUNCTION rpc_error(code text, message text) RETURNS text LANGUAGE sql
RETURN format('{"jsonrpc": "2.0", "id": 1, "error": {"code": %s, "message": %s}}', code, to_json(message));
CREATE FUNCTION rest(code text, message text DEFAULT 'no', name text DEFAULT 'message') RETURNS text LANGUAGE sql
RETURN jsonb_build_object('error', code, name, message, 'status', 400);

-- the contact can be anywhere in the result; an id is not required
SELECT verdict, outcome, remote_id, claimed, body FROM (VALUES
	(rpc('{"id": "con_1", "email": "jane@example.com", "marketing_consent": false}')), (rpc('{"content": [{"type": "text", "text": "{\"id\": \"con_2\"}"}]}')),
	(rpc('{"structuredContent": {"id": "con_3"}, "content": []}')), (rpc('{"submission_id": "s1", "contact_id": "con_4"}')), (rpc('{"content": [{"type": "text", "text": "Done."}], "isError": false}')),
	(rpc('{}')), ('{"jsonrpc": "2.0", "result": {"id": "con_5"}}'),
	(E'event: message\ndata: {"jsonrpc": "2.0", "id": 1, "result": {"id": "con_6"}}\n\n'), (E': ping\r\n\r\ndata: {"jsonrpc": "2.0", "method": "progress"}\r\ndata: {"jsonrpc": "2.0", "id": 1, "result": {"id": "con_7"}}\r\n')
) AS t (body), contactsync_judge('car', 200, NULL, body);
-- an answer to another request, or to none
SELECT verdict, reason, body FROM (VALUES ('{"jsonrpc": "2.0", "id": 2, "result": {"id": "con_1"}}'), ('{"jsonrpc": "2.0", "id": "x", "result": {}}'), ('{"jsonrpc": "2.0", "id": 1}'), (rpc('null')), (rpc('"ok"')), (''), ('{}'), ('[]'), ('data: x'), (E'data: \n')) AS t (body), contactsync_judge('car', 200, NULL, body);

-- an answer that cannot be true: about the contact of another address, or of another business
SELECT verdict, reason, message, body FROM (VALUES (rpc('{"id": "con_1", "email": "john@example.com"}')), (rpc('{"content": [{"type": "text", "text": "{\"id\": \"con_2\", \"email\": \"john@example.com\"}"}]}')),
	(rpc('{"id": "con_1", "email": "Jane@Example.com"}')), (rpc('{"id": "con_1", "business_id": "bus_2", "email": "jane@example.com"}')), (rpc('{"id": "con_1", "business_id": "bus_1"}'))) AS t (body),
	contactsync_judge('car', 200, NULL, body, '{"email": "jane@example.com"}');

-- the table of the page, by HTTP status
SELECT status, verdict, at_fault, reason, code, field, message FROM (VALUES
	(400, rest('email_required', 'Email is required.')), (401, rest('unauthorized')), (403, rest('tier_required', 'Business tier or above.')), (429, rest('rate_limited')), (500, rest('internal_error')),
	(403, rest('scope_required', 'audience:write', 'messsage')), (404, rest('business_not_found')), (402, rest('insufficient_credits')), (400, rest('invalid_request', 'bad', 'messsage')), (422, ''), (403, ''), (404, ''), (400, '')
) AS t (status, body), contactsync_judge('car', status, NULL, body);
-- by JSON-RPC error in a 200
SELECT verdict, at_fault, reason, code, message FROM (VALUES
	(rpc_error('-32001', 'Unauthorized - access token expired or invalid')), (rpc_error('-32700', 'Parse error')), (rpc_error('-32600', 'Invalid Request')), (rpc_error('-32601', 'Method not found')),
	(rpc_error('-32602', 'Invalid params')), (rpc_error('-32602', 'Unknown tool: x')), (rpc_error('-32603', 'Internal error')), (rpc_error('-32000', 'Per-token rate cap exceeded.')), (rpc_error('"tier_required"', 'x')), (rpc_error('7', 'Something else')), ('{"error": {}}'), ('{"error": true}')
) AS t (body), contactsync_judge('car', 200, NULL, body);
-- by what is true in JavaScript, as in the page's samples
SELECT error, verdict, outcome, reason FROM (VALUES ('1'), ('"true"'), ('{}'), ('[]'), ('0'), ('""'), ('false'), ('null')) AS e (error), contactsync_judge('car', 200, NULL, rpc(format('{"id": "con_1", "isError": %s}', error)));
-- the contact of somebody else
SELECT verdict, outcome, reason, message FROM (VALUES ('{"id": "con_1", "email": "b@example.com"}'), ('{"structuredContent": {"email": "b@example.com"}}'), ('{"id": "con_1", "email": " A@Example.com"}')) AS t (result), contactsync_judge('car', 200, NULL, rpc(result), '{"email": "a@example.com"}');
-- by isError and a text
SELECT verdict, at_fault, reason, code, message FROM (VALUES
	(text_error('Per-token rate cap exceeded.')), (text_error('email_required')), (text_error('Access token expired')), (text_error('contact.upsert requires the Business tier')), (text_error('Missing scope: audience:write')), (text_error('Missing required scope: audience:write')),
	(text_error('{"error": "tier_required", "messsage": "too low"}')), (text_error('{"error": {"code": "rate_limited", "message": "slow"}}')), (text_error('Moderation failed for this separate entry')), (rpc('{"isError": true}')), (rpc('{"isError": true, "content": [{"type": "image"}]}')),
	(E'data: ' || text_error('Per-token rate cap exceeded.') || E'\n\n')
) AS t (body), contactsync_judge('car', 200, NULL, body);

-- a plan that is too low: the form, for contacts with consent
ALTER SERVER car OPTIONS (ADD form_id 'frm_import');
SELECT opt_in, state, verdict, next_step, limitation, reason, code, message FROM (VALUES (true), (false), (NULL)) AS o (opt_in), (VALUES ('{}'::jsonb), ('{"claimed": true}'), ('{"claim": "if_new"}')) AS s (state),
	contactsync_judge('car', 403, NULL, rest('tier_required', 'Business tier or above'), jsonb_build_object('email', 'a@example.com', 'opt_in', opt_in), state => state);
SELECT verdict, outcome, claimed, note FROM contactsync_judge('car', 200, NULL, rpc('{"submission_id": "s1"}'), '{"email": "a@example.com", "opt_in": true}', 1);
SELECT verdict, reason, message FROM contactsync_judge('car', 403, NULL, rest('tier_required', 'no forms either'), '{"email": "a@example.com", "opt_in": true}', 1);
-- a form, or arguments of it, that do not match the options
SELECT status, verdict, at_fault, reason, message FROM (VALUES (404, rest('form_not_found', 'Form not found or not active.')), (200, text_error('Form not found or not active.')), (200, rpc_error('-32602', 'data is required')), (400, rest('invalid_request', 'email must be a string'))) AS t (status, body),
	contactsync_judge('car', status, NULL, body, '{"email": "a@example.com", "opt_in": true}', 1);
-- when the tool answers, the plan allows it, which is stored too
SELECT verdict, outcome, limitation = '' AS forgotten FROM contactsync_judge('car', 200, NULL, rpc('{"id": "con_1"}'), '{"email": "a@example.com"}', state => '{"limitation": "tier_required"}');
-- the tool claims no consent, whatever opt_in is
SELECT verdict, outcome, claimed, note FROM contactsync_judge('car', 200, NULL, rpc('{"id": "con_1"}'), '{"email": "a@example.com", "opt_in": true}');
SELECT verdict, outcome, claimed FROM contactsync_judge('car', 200, NULL, rpc('{"id": "con_1"}'), '{"email": "a@example.com", "opt_in": true}', state => '{"claimed": true}');
-- but says what there is of it
SELECT state, consents, verdict, next_step, claimed, opted_out FROM (VALUES ('{}'::jsonb), ('{"claimed": true}'), ('{"opted_out": true}'), ('{"claim": "if_new"}')) AS s (state), (VALUES (true), (false)) AS c (consents),
	contactsync_judge('car', 200, NULL, rpc(jsonb_build_object('id', 'con_1', 'marketing_consent', consents)::text), '{"email": "a@example.com", "opt_in": true}', state => state);
-- with the form as the only way, a contact that turned out to be new is submitted next; no other is, without a claim
ALTER SERVER car OPTIONS (ADD route 'form');
SELECT claim, created_at, verdict, next_step, claimed, outcome FROM (VALUES ('if_new'), ('no')) AS c (claim), (VALUES ('1994-11-06T08:49:36Z'), ('1994-11-06T10:49:36.5+02:00'), ('1994-11-06T08:49:35Z'), ('1994-11-06T08:49:30Z'), ('1994-11-06T09:49:36+02:00'), ('yesterday'), (NULL)) AS t (created_at),
	contactsync_judge('car', 200, '{"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}', rpc(jsonb_build_object('id', 'con_1', 'created_at', created_at, 'marketing_consent', false)::text), '{"email": "a@example.com", "opt_in": true}', state => jsonb_build_object('claim', claim));
-- nor is one that came by a form, however short ago: somebody signed up
SELECT source, verdict, next_step FROM (VALUES ('api'), ('form_submit')) AS s (source),
	contactsync_judge('car', 200, '{"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}', rpc(jsonb_build_object('id', 'con_1', 'created_at', '1994-11-06T08:49:37Z', 'source', source, 'marketing_consent', false)::text), '{"email": "a@example.com", "opt_in": true}', state => '{"claim": "if_new"}');
SELECT opt_in, verdict, next_step, claimed FROM (VALUES (false), (NULL)) AS o (opt_in),
	contactsync_judge('car', 200, '{"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}', rpc('{"id": "con_1", "created_at": "1994-11-06T08:49:36Z"}'), jsonb_build_object('email', 'a@example.com', 'opt_in', opt_in), state => '{"claim": "if_new"}');
ALTER SERVER car OPTIONS (DROP route);
-- the tool cannot withdraw consent either, which must be reported
SELECT verdict, outcome, reason, code, message FROM contactsync_judge('car', 200, NULL, rpc('{"id": "con_1"}'), '{"email": "a@example.com", "opt_in": false}', state => '{"claimed": true}');
SELECT verdict, outcome FROM contactsync_judge('car', 200, NULL, rpc('{"id": "con_1"}'), '{"email": "a@example.com", "opt_in": false}');
ALTER SERVER car OPTIONS (ADD form_sets_consent 'false');
SELECT verdict, next_step FROM contactsync_judge('car', 403, NULL, rest('tier_required'), '{"email": "a@example.com"}');
SELECT verdict, outcome, claimed, note FROM contactsync_judge('car', 200, NULL, rpc('{"submission_id": "s1"}'), '{"email": "a@example.com", "opt_in": true}', 1);
ALTER SERVER car OPTIONS (DROP form_sets_consent, DROP form_id);

-- throttled: Retry-After, even 0, otherwise the reset
SELECT status, headers, verdict, retry_after, throttled, request_id FROM (VALUES (429, '{"Retry-After": "0", "x-caramel-request-id": "r1"}'::jsonb, ''), (429, '{"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "x-ratelimit-reset": "784111800"}', ''), (200, '{"Retry-After": "9"}', text_error('rate_limited')), (200, NULL, text_error('rate_limited')), (503, NULL, '<html>')) AS t (status, headers, body),
	contactsync_judge('car', status, headers, body);
SELECT verdict, reason FROM contactsync_judge('car', 200, NULL, '<html><title>Welcome</title>');

-- undocumented answers: a web page, nothing, a redirect, 418, JSON of another structure
SELECT status, coalesce(nullif(left(body, 24), ''), headers #>> '{}', '-') AS answer, verdict, at_fault, outcome, reason, message FROM (VALUES
	(200, NULL::jsonb, '<html><title>Hotel WLAN</title>'), (502, NULL, '<html><title>Bad gateway</title>'), (403, NULL, '<html><title>Blocked</title>'), (404, NULL, '<!DOCTYPE html>'), (200, NULL, ''), (204, NULL, ''), (202, NULL, '{}'), (200, NULL, 'OK'), (200, NULL, 'null'), (200, NULL, '"x"'), (200, NULL, '[[]]'),
	(200, NULL, '{"ok": true}'), (200, NULL, '{"data": [1, {"id": {}}]}'), (200, NULL, '{"result": [], "contacts": 7, "errors": "x", "results": {}}'), (301, '{"Location": "https://elsewhere.example/"}', ''), (302, NULL, ''), (304, NULL, ''), (307, '{"Location": "/login"}', '<html>'),
	(418, NULL, ''), (418, NULL, '<html>'), (418, NULL, '{"error": "teapot"}'), (400, NULL, '[]'), (400, NULL, '{"error": {"message": {"text": 1}}}'), (405, NULL, ''), (407, NULL, ''), (408, NULL, ''), (410, NULL, ''), (415, NULL, '{}'), (425, NULL, ''), (451, NULL, ''), (499, NULL, ''), (520, NULL, ''), (599, NULL, 'null'), (100, NULL, ''), (0, NULL, 'Connection refused')
) AS t (status, headers, body), contactsync_judge('car', status, headers, body, '{"email": "jane@example.com"}');

RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_judge_caramel CASCADE;
DROP ROLE regress_judge_caramel;
