-- needs UTF-8
-- characters that not every encoding has; test/sql/email.sql has more
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't');
CREATE SERVER owl FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat');
CREATE SERVER spot FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee');
CREATE SERVER car FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'bus_1');

-- a contact arrives unchanged
SELECT body::jsonb -> 'contacts' -> 0 -> 'attributes' AS attributes FROM contactsync_preview('mail', '{"email": "a@example.com", "attributes": {
	"text": "é ł Ж 用 \u7528 😀", "用": "\ud83d\ude00", "list": ["😀"]}}');

-- answers that begin with a byte order mark, and a message
SELECT server, verdict, reason, message FROM (VALUES ('owl', '{"email": "mira@acme.io"}'::jsonb), ('spot', '{"external_id": "c1"}'), ('car', '{"email": "jane@example.com"}')) AS s (server, contact),
	contactsync_judge(server, 200, NULL, E'\xEF\xBB\xBF{}', contact) ORDER BY server;
SELECT verdict, outcome FROM contactsync_judge('mail', 200, NULL, E'\xEF\xBB\xBF{"created": 1, "failed": 0}', '{"email": "a@example.com"}');
SELECT verdict, outcome FROM contactsync_judge('car', 200, NULL, E'\xEF\xBB\xBFevent: message\ndata: {"jsonrpc": "2.0", "id": 1, "result": {"id": "c1"}}\n\n', '{"email": "a@example.com"}');
SELECT verdict, reason, message FROM contactsync_judge('car', 200, NULL, '{"jsonrpc": "2.0", "id": 1, "error": {"code": -32001, "message": "Unauthorized — access token expired or invalid"}}');
SELECT verdict, reason, message FROM contactsync_judge('mail', 400, NULL, '{"message": "ł \u7528 😀"}');
