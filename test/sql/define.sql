-- needs UTF-8
-- definitions of providers: what is wrong with them, whose they are, and what servers make of them
\set SHOW_CONTEXT never
\pset format unaligned
\pset null -
CREATE ROLE regress_define_alice;
CREATE ROLE regress_define_bob;
CREATE ROLE regress_define_mallory;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_define_alice, regress_define_bob;
GRANT CREATE ON SCHEMA public TO regress_define_alice, regress_define_bob;
SET SESSION AUTHORIZATION regress_define_alice;

-- a small definition, and others that differ from it
CREATE FUNCTION small() RETURNS jsonb LANGUAGE sql RETURN jsonb '{
	"title": "Pelikan", "base_url": "https://api.pelikan.example/v2", "auth": {"type": "header", "header": "X-Api-Key"},
	"options": {"list": {"help": "the list", "required": true}, "kind": {"type": "word", "words": ["a", "b"], "default": "a", "help": "the kind"}},
	"fields": ["email", "first_name", "tags", "opt_in", "attributes"], "identity": "email", "limits": {"pace": 10, "burst": 10, "concurrency": 4},
	"consent": {"creating": "nothing"},
	"upsert": {"method": "PATCH", "path": "/lists/{option.list}/people", "batch": 50, "query": {"kind": "{option.kind}"},
		"body": {"people": {"$each": {"mail": {"$": "email"}, "name": {"$": "first_name"}, "tags": {"$": "tags"}, "wants": {"$consent": {"yes": true, "no": false}}, "more": {"$attributes": true}}}},
		"results": {"at": "/refused", "contact": {"email": "/mail"}, "only_failures": true, "code": "/fault/id", "message": "/fault/text"}},
	"delete": {"method": "DELETE", "path": "/lists/{option.list}/people/{email|md5}", "may_be_empty": true, "answers": [{"status": 404, "then": "done", "note": "it was not there"}]}
}';
CREATE FUNCTION changed(path text[], value jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_set(small(), path, value);
SELECT contactsync_define('pelikan', small());
SELECT name, title, origin, owner, fields, batch_size, pace, problem FROM contactsync_providers() WHERE origin IN ('own', 'shared');

-- what is wrong, and where
CREATE FUNCTION fault(path text[], value jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
	PERFORM contactsync_define('pelikan', changed(path, value));
	RETURN 'accepted';
EXCEPTION WHEN invalid_parameter_value THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN detail;
END
$$;
SELECT path, fault(path, value) FROM (VALUES
	('{title}'::text[], '7'::jsonb), ('{tilte}', '"x"'), ('{base_url}', '"http://api.example"'), ('{base_url}', '"https://user:pw@host"'), ('{base_url}', '"https://{option.list}.example"'), ('{base_url}', '"https://{email}.example"'), ('{base_url}', '"https://host/?a=b"'),
	('{auth,type}', '"magic"'), ('{auth,header}', '"X Y"'), ('{auth,header}', '"A:b\r\nC"'), ('{auth}', '{"type": "oauth"}'), ('{auth}', '{"type": "bearer", "header": "X"}'),
	('{options,api_key}', '{"help": "x"}'), ('{options,base_url}', '{"help": "x"}'), ('{options,Bad}', '{"help": "x"}'), ('{options,kind,default}', '"c"'), ('{options,kind,words}', '[]'), ('{options,list,type}', '"number"'),
	('{fields}', '["mail"]'), ('{fields}', '["email", "status"]'), ('{fields}', '{"email": {"max": 3}}'), ('{fields}', '["email", "first_name", "tags", "attributes"]'), ('{fields}', '["email"]'),
	('{identity}', '"phone"'), ('{identity}', '"external_id"'), ('{required}', '["phone"]'),
	('{limits,pace}', '0'), ('{limits,concurrency}', '1.5'), ('{limits,timeout}', '"soon"'),
	('{consent,creating}', '"maybe"'), ('{consent,on_opt_out}', '"delete"'),
	('{upsert,method}', '"HEAD"'), ('{upsert,path}', '"people"'), ('{upsert,path}', '"//evil.example/x"'), ('{upsert,path}', '"/a/../b"'), ('{upsert,path}', '"/a@evil.example"'), ('{upsert,path}', '"/a?b=c"'), ('{upsert,path}', '"/a#b"'), ('{upsert,path}', '"/{email}"'),
	('{upsert,path}', '"/{api_key}"'), ('{upsert,path}', '"/{option.api_key}"'), ('{upsert,path}', '"/{option.base_url}"'), ('{upsert,path}', '"/{"'), ('{upsert,path}', '"/{}"'), ('{upsert,path}', '"/}"'), ('{upsert,path}', '"/{option.list|rot13}"'), ('{upsert,path}', '"/é"'), ('{upsert,path}', '"/{idempotency_key}"'), ('{upsert,path}', '"/{cursor}"'),
	('{upsert,headers}', '{"Authorization": "x"}'), ('{upsert,headers}', '{"Host": "evil.example"}'), ('{upsert,headers}', '{"content-length": "0"}'), ('{upsert,headers}', '{"A b": "x"}'), ('{upsert,headers}', '{"A\r\nB": "x"}'), ('{upsert,headers}', '{"A": "x\r\ny"}'), ('{upsert,headers}', '{"A": "{email}"}'),
	('{upsert,batch}', '1001'), ('{upsert,body}', '{"mail": {"$": "email"}}'), ('{upsert,body,people,$each,mail}', '{"$": "mail"}'), ('{upsert,body,people,$each,mail}', '{"$": "opt_in"}'), ('{upsert,body,people,$each,mail}', '{"$": "phone"}'), ('{upsert,body,people,$each,mail}', '{"$": "email", "as": "int"}'), ('{upsert,body,people,$each,mail}', '{"$loop": 1}'),
	('{upsert,body,people,$each,tags}', '{"$for": "tags", "do": {"$for": "tags", "do": {"$": "value"}}}'), ('{upsert,body,people,$each,tags}', '{"$for": "email", "do": 1}'), ('{upsert,body,people,$each,tags}', '{"$": "value"}'), ('{upsert,body,people,$each,tags}', '{"$each": 1}'), ('{upsert,body,people,$each,tags}', '{"$if": "maybe", "then": 1}'), ('{upsert,body,people,$each,tags}', '{"$if": {"has": "email", "option": "list"}, "then": 1}'),
	('{upsert,body,people,$each,wants}', '{"$consent": {"yes": true}}'), ('{upsert,body,people,$each,wants}', '{"$consent": {"no": false}}'), ('{upsert,body,people,$each,wants}', 'true'), ('{upsert,body,people,$each,more}', '{"$attributes": 1}'),
	('{upsert,form}', '{"a": "b"}'), ('{upsert,content_type}', '"a\r\nb"'), ('{upsert,poll}', '{"every": 0, "times": 1}'), ('{upsert,if}', '"known"'), ('{upsert,next}', '"there"'), ('{upsert,opt_in}', '{"at": "/x", "is": 1}'),
	('{upsert,answers}', '{}'), ('{upsert,answers}', '[{"then": "done"}]'), ('{upsert,answers}', '[{"status": 500, "then": "done"}]'), ('{upsert,answers}', '[{"status": "4xx", "then": "done"}]'), ('{upsert,answers}', '[{"text": "ok", "then": "done"}]'), ('{upsert,answers}', '[{"status": 999, "then": "halt"}]'),
	('{upsert,answers}', '[{"status": 400, "then": "explode"}]'), ('{upsert,answers}', '[{"status": 400, "then": "step", "step": "there"}]'), ('{upsert,answers}', '[{"status": 400, "then": "step", "step": "1"}]'), ('{upsert,answers}', '[{"status": 400, "then": "reject", "reason": "ugly"}]'), ('{upsert,answers}', '[{"status": 400, "then": "retry", "poll": true}]'), ('{upsert,answers}', '[{"status": 400, "then": "reject", "restart": true}]'), ('{upsert,answers}', '[{"status": 503, "then": "retry", "restart": true}]'), ('{upsert,answers}', '[{"status": 400, "then": "halt", "if": {"at": "x", "is": 1}}]'), ('{upsert,answers}', '[{"status": 400, "then": "halt", "if": {"at": "/x", "matches": ".*"}}]'), ('{upsert,answers}', '[{"status": 400, "then": "halt", "if": {"at": "/x", "is": {}}}]'),
	('{upsert,results,contact}', '"anybody"'), ('{upsert,results,at}', '"refused"'), ('{upsert,counts}', '{"succeeded": []}'), ('{upsert}', '[]'), ('{upsert}', '7'),
	('{upsert,query}', '{"q": {"$each": "{email}", "before": "any(", "until": ")"}}'), ('{upsert,query}', '{"q": {"$each": "{opt_in}"}}'), ('{delete,query}', '{"q": {"$each": "{email}"}}'), ('{upsert,headers}', '{"A": {"$each": "x"}}'),
	('{upsert,if}', '{"not": "new"}'), ('{upsert,name}', '"done"'), ('{upsert,results,new}', '"all"'), ('{upsert,results,new}', '{"at": "/a/*/b/*", "is": 1}'), ('{upsert,results,done}', '{"at": "/a", "is": 1, "is_not": 2}'),
	('{consent,unless}', '{"option": "kind", "is": "a"}'), ('{consent}', '{"creating": "mailable", "unless": "known"}'), ('{consent}', '{"creating": "mailable", "unless": {"any": [{"option": "kind"}, {"has": "email"}]}}'), ('{consent}', '{"creating": "mailable", "unless": {"option": "secret"}}'),
	('{pull}', '{"request": {"path": "/x"}, "items": "/x", "page_size": 1, "cursor_parameter": "c"}'),
	('{sign}', '{"header": "X", "over": "timestamp.body", "encoding": "hex"}'), ('{lookup}', '{"path": "/x"}'), ('{contact}', '{"fields": {"phone": "/x"}}'), ('{contact}', '{"fields": {"email": "/x"}}'), ('{wait}', '{"header": "X", "unit": "days"}'), ('{account_option}', '"nosuch"')
) AS t (path, value);
SELECT contactsync_define('pelikan', '[]');
SELECT contactsync_define('pelikan', jsonb_set(small(), '{notes}', to_jsonb(repeat('x', 4001))));
SELECT contactsync_define('pelikan', jsonb_set(small(), '{examples}', to_jsonb(repeat('x', 131072))));
SELECT contactsync_define('pelikan', jsonb_set(small(), '{upsert,body,people,$each,mail}', (repeat('[', 40) || repeat(']', 40))::jsonb));
SELECT contactsync_define('pelikan', jsonb_set(small(), '{upsert,body,people,$each,mail}', (SELECT jsonb_agg(jsonb '{"$": "email"}') FROM generate_series(1, 200))));
SELECT contactsync_define('pelikan', jsonb_set(small(), '{upsert,body,people,$each,mail}', (SELECT jsonb_agg(n) FROM generate_series(1, 3000) n)));
-- names
SELECT contactsync_define('mailingcore', small());
SELECT contactsync_define('../evil', small());
SELECT contactsync_define('Pelikan', small());
SELECT contactsync_define(NULL, small());
SELECT contactsync_define('pelikan', NULL);
SELECT contactsync_define('pelikan', small());

-- options that the definition declares are checked like all others
CREATE SERVER peli FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelican');
CREATE SERVER peli FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelikan', lst 'x');
CREATE SERVER peli FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelikan', list 'x', kind 'c');
CREATE SERVER peli FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelikan', list E'x\ny');
CREATE SERVER peli FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelikan', list 'x', batch_size '51');
CREATE SERVER peli FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelikan', list 'x', api_key 'k');
CREATE SERVER peli FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelikan');
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');
ALTER SERVER peli OPTIONS (ADD list '..');
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');
ALTER SERVER peli OPTIONS (SET list 'a/b?c#d%e&f');
CREATE USER MAPPING FOR CURRENT_USER SERVER peli OPTIONS (api_key 'k', list 'x');
CREATE USER MAPPING FOR CURRENT_USER SERVER peli OPTIONS (api_key 'k');

-- requests: the values are escaped by their place
SELECT method, url, headers, body, upsert_key FROM contactsync_preview('peli', '[{"email": "A@Example.com", "first_name": "\"},{\"x\":\"\\\n", "tags": ["a\"b", 1], "opt_in": true, "attributes": {"k\"": "v", "n": {"a": [1]}}}, {"email": "b@example.com", "opt_in": false}]');
SELECT body FROM contactsync_preview('peli', '{"email": "a@example.com", "first_name": null, "tags": null, "attributes": {"x": null}}');
ALTER SERVER peli OPTIONS (ADD nulls 'clear', ADD kind 'b');
SELECT url, body FROM contactsync_preview('peli', '{"email": "a@example.com", "first_name": null, "tags": null, "attributes": {"x": null}}');
SELECT method, url, body FROM contactsync_preview('peli', '{}', action => 'delete', state => '{"upsert_key": "jane@example.com"}');
SELECT md5('jane@example.com');
SELECT method FROM contactsync_preview('peli', '{"email": "a@example.com"}', action => 'unsubscribe');
SELECT body FROM contactsync_preview('peli', (SELECT jsonb_agg(jsonb_build_object('email', n || '@example.com')) FROM generate_series(1, 51) n));
-- consent: true with a claim only
SELECT claim, opt_in, body::jsonb #>> '{people,0,wants}' AS sent FROM (VALUES ('yes'), ('if_new'), ('no')) AS c (claim), (VALUES (true), (false), (NULL)) AS o (opt_in),
	contactsync_preview('peli', jsonb_build_object('email', 'd@example.com', 'opt_in', opt_in), state => jsonb_build_object('claim', claim));
-- answers
SELECT verdict, contact, outcome, reason, code, message FROM contactsync_judge('peli', 207, NULL, '{"refused": [{"mail": "B@example.com", "fault": {"id": "E7", "text": "no such domain"}}]}', '[{"email": "a@example.com"}, {"email": "b@example.com"}]');
SELECT verdict, reason, message FROM contactsync_judge('peli', 200, NULL, '{"refused": [{"fault": {"text": "somebody is wrong"}}]}', '[{"email": "a@example.com"}, {"email": "b@example.com"}]');
SELECT status, body, verdict, at_fault, reason, message, outcome FROM (VALUES (200, '{}'), (200, ''), (204, ''), (200, '{"success": false}'), (200, 'nonsense'), (200, '<html><title>x</title>'), (400, '{"error": "bad"}'), (401, ''), (403, ''), (429, ''), (500, ''), (0, 'no route')) AS t (status, body),
	contactsync_judge('peli', status, NULL, body, '{"email": "a@example.com"}');
SELECT status, verdict, outcome, note FROM (VALUES (200), (204), (404), (410)) AS s (status), contactsync_judge('peli', status, NULL, '', '{"email": "a@example.com"}', action => 'delete');

-- without a server
SELECT method, url, headers FROM contactsync_preview(small(), '{"email": "a@example.com"}', options => '{"list": "l"}');
SELECT url FROM contactsync_preview('"pelikan"'::jsonb, '{"email": "a@example.com"}', options => '{"list": 7, "base_url": "https://other.example"}');
SELECT url FROM contactsync_preview('"pelikan"'::jsonb, '{"email": "a@example.com"}');
SELECT url FROM contactsync_preview('"pelican"'::jsonb, '{"email": "a@example.com"}');
SELECT url FROM contactsync_preview('{"title": "x"}'::jsonb, '{"email": "a@example.com"}');
SELECT url FROM contactsync_preview('"mailingcore"'::jsonb, '{"email": "a@example.com"}', options => '{"tenant_id": "t"}');
SELECT verdict, outcome FROM contactsync_judge(small(), 200, NULL, '{}', options => '{"list": "l"}');
CREATE TABLE people (id int PRIMARY KEY, email text, first_name text);
INSERT INTO people VALUES (1, 'a@example.com', 'Ann'), (2, 'nonsense', 'Bob');
SELECT key, outcome, reason, method, url, body FROM contactsync_try('people', small(), '{"email": "email", "first_name": "first_name"}', options => '{"list": "l"}');

-- examples
SELECT example, part, ok, CASE WHEN NOT ok THEN found END AS found FROM contactsync_check_definition('pelikan', '[
	{"name": "one", "contact": {"email": "a@example.com"}, "options": {"list": "l"}, "request": {"method": "PATCH", "body": {"people": [{"mail": "a@example.com"}]}}},
	{"name": "wrong", "contact": {"email": "a@example.com"}, "options": {"list": "l"}, "request": {"method": "PUT"}},
	{"name": "an answer", "contacts": [{"email": "a@example.com"}], "options": {"list": "l"}, "answer": {"status": 200, "body": {"refused": [{"mail": "a@example.com", "fault": {"id": 5}}]}}, "then": {"verdict": "done", "outcomes": [{"outcome": "rejected", "code": "5"}]}},
	{"name": "refused", "contact": {"email": "nonsense"}, "options": {"list": "l"}, "refused": {"detail": "The reason is invalid_email, and the field is email."}},
	{"name": "refused for nothing", "contact": {"email": "nonsense"}, "options": {"list": "l"}, "request": {"method": "PATCH"}},
	{"name": "deleted", "contact": {"email": "a@example.com"}, "options": {"list": "l"}, "action": "delete", "answer": {"status": 404}, "then": {"verdict": "done", "outcomes": [{"note": "it was not there"}]}},
	{"contact": {"email": "a@example.com"}, "options": {"list": "l"}, "answer": {"status": 429, "headers": {"Retry-After": "3"}}, "then": {"verdict": "retry", "throttled": true, "retry_after": 3}}]');
SELECT * FROM contactsync_check_definition('pelikan');
SELECT * FROM contactsync_check_definition('nosuch', '[]');
SELECT example, ok FROM contactsync_check_definition(jsonb_set(small(), '{examples}', '[{"contact": {"email": "a@example.com"}, "options": {"list": "l"}, "request": {"method": "PATCH"}}]'));

-- a contact that the results leave out was not accepted, and numbers that do not add up say nothing
SELECT body, verdict, contact, outcome, message FROM (VALUES ('{"refused": []}'), ('{"refused": [{"mail": "a@example.com"}]}'), ('{"refused": [{"mail": "a@example.com"}, {"mail": "b@example.com"}]}')) AS t (body),
	contactsync_judge(changed('{upsert,results}', '{"at": "/refused", "contact": {"email": "/mail"}, "every": true}'), 200, NULL, body, '[{"email": "a@example.com"}, {"email": "b@example.com"}]', options => '{"list": "l"}');
SELECT body, verdict, contact, outcome, message FROM (VALUES ('{"ok": 2, "bad": 0}'), ('{"ok": 1, "bad": [{}]}'), ('{"ok": 1, "bad": 0}'), ('{"ok": 2, "bad": 1}'), ('{"ok": 1, "bad": 2}'), ('{"ok": 2}'), ('{"ok": 3}'), ('{"bad": 0}')) AS t (body),
	contactsync_judge(changed('{upsert,counts}', '{"succeeded": ["/ok"], "failed": ["/bad"]}') #- '{upsert,results}', 200, NULL, body, '[{"email": "a@example.com"}, {"email": "b@example.com"}]', options => '{"list": "l"}');

-- steps: a job that is asked for, and a contact that is looked up first
CREATE FUNCTION job() RETURNS jsonb LANGUAGE sql RETURN small() || '{"upsert": [
	{"name": "import", "method": "POST", "path": "/import", "batch": 50, "body": {"people": {"$each": {"mail": {"$": "email"}, "wants": {"$consent": {"yes": true, "no": false}}}}}, "success": {"at": "/job", "exists": true}, "remote": {"job": "/job"}, "next": "ask"},
	{"name": "ask", "method": "GET", "path": "/jobs/{job}", "batch": 50, "poll": {"every": 5, "times": 3},
		"answers": [{"status": 200, "if": {"at": "/state", "is": ["queued", "running"]}, "then": "retry", "poll": true}, {"status": 200, "if": {"at": "/state", "is": "failed"}, "then": "split", "reason": "rejected"}],
		"success": {"at": "/state", "is": "done"}, "results": {"at": "/refused", "contact": {"index": "/n"}, "only_failures": true}}]}';
SELECT verdict, next_step, outcome, message FROM contactsync_judge(job(), 202, NULL, '{"job": "j/7"}', '[{"email": "a@example.com"}, {"email": "b@example.com"}]', options => '{"list": "l"}');
SELECT verdict, reason, message FROM contactsync_judge(job(), 202, NULL, '{"job": ".."}', '[{"email": "a@example.com"}, {"email": "b@example.com"}]', options => '{"list": "l"}');
SELECT verdict, reason, message FROM contactsync_judge(job(), 202, NULL, '{}', options => '{"list": "l"}');
SELECT method, url FROM contactsync_preview(job(), '[{"email": "a@example.com"}, {"email": "b@example.com"}]', 1, state => '{"job": "j/7"}', options => '{"list": "l"}');
SELECT body, state, verdict, retry_after, throttled, contact, outcome, message FROM (VALUES ('{"state": "queued"}', NULL::jsonb), ('{"state": "queued"}', '{"polls": 3}'), ('{"state": "done", "refused": [{"n": 1, "error": "bad"}]}', NULL), ('{"state": "failed"}', NULL), ('{"state": "odd"}', NULL)) AS t (body, state),
	contactsync_judge(job(), 200, NULL, body, '[{"email": "a@example.com"}, {"email": "b@example.com"}]', 1, state => state, options => '{"list": "l"}');

-- contacts go different ways: who is looked up first, who is new, and of whom nothing more is to be sent
CREATE FUNCTION ways() RETURNS jsonb LANGUAGE sql RETURN small() || '{"upsert": [
	{"name": "look", "if": {"all": ["claims_if_new", {"not": "known"}]}, "else": "write", "method": "GET", "path": "/people", "batch": 3, "query": {"filter": {"$each": "\"{email|json}\"", "before": "any(mail,[", "between": ",", "after": "])"}},
		"results": {"at": "/found", "contact": {"email": "/mail"}, "new": "unlisted", "done": {"at": "/tags/*/name", "is": "closed"}, "opt_out": {"at": "/left", "is": true}}, "next": "write"},
	{"name": "write", "method": "POST", "path": "/people", "batch": 5, "query": {"where": "{option.list|sql}"}, "body": {"people": {"$each": {"mail": {"$": "email"}}}}, "next": "say"},
	{"name": "say", "if": {"any": ["claims", "withdraws", {"all": ["claims_if_new", "new"]}]}, "else": "done", "method": "POST", "path": "/words", "batch": 2,
		"body": {"words": {"$each": {"mail": {"$": "email"}, "wants": {"$consent": {"yes": true, "if_new": true, "no": false}}}}}}]}';
SELECT url FROM contactsync_preview(ways(), '[{"email": "a@example.com", "opt_in": true}, {"email": "o''b@example.com", "opt_in": true}]', state => '{"claim": "if_new"}', options => '{"list": "l"}');
SELECT method, url FROM contactsync_preview(ways(), '[{"email": "a@example.com"}, {"email": "b@example.com", "opt_in": false}]', options => '{"list": "o''l"}');
SELECT method, url FROM contactsync_preview(ways(), '[{"email": "a@example.com", "opt_in": true}, {"email": "b@example.com"}]', state => '{"claim": "if_new"}', options => '{"list": "l"}');
SELECT count(*) FROM contactsync_preview(ways(), '[{"email": "a@example.com", "opt_in": true}, {"email": "b@example.com", "opt_in": true}, {"email": "c@example.com", "opt_in": true}, {"email": "d@example.com", "opt_in": true}]', state => '{"claim": "if_new"}', options => '{"list": "l"}');
SELECT verdict, next_step, contact, outcome, opted_out, claimed FROM contactsync_judge(ways(), 200, NULL, '{"found": [{"mail": "a@example.com", "tags": [{"name": "x"}, {"name": "closed"}]}, {"mail": "b@example.com", "left": true}]}', '[{"email": "a@example.com", "opt_in": true}, {"email": "b@example.com", "opt_in": true}]', state => '{"claim": "if_new"}', options => '{"list": "l"}');
SELECT verdict, next_step, contact, outcome FROM contactsync_judge(ways(), 200, NULL, '{"found": [{"mail": "a@example.com", "tags": [{"name": "closed"}]}]}', '{"email": "a@example.com", "opt_in": true}', state => '{"claim": "if_new"}', options => '{"list": "l"}');
SELECT body, verdict, message FROM (VALUES ('{}'), ('{"found": {}}'), ('{"found": [{"mail": "other@example.com"}]}')) AS t (body), contactsync_judge(ways(), 200, NULL, body, '{"email": "a@example.com", "opt_in": true}', state => '{"claim": "if_new"}', options => '{"list": "l"}');
SELECT claim, new, opt_in, verdict, next_step, claimed FROM (VALUES ('yes', false), ('if_new', false), ('if_new', true), ('no', true)) AS s (claim, new), (VALUES (true), (false), (NULL)) AS o (opt_in),
	contactsync_judge(ways(), 200, NULL, '{}', jsonb_build_object('email', 'a@example.com', 'opt_in', opt_in), 1, state => jsonb_build_object('claim', claim, 'new', new), options => '{"list": "l"}');
SELECT contactsync_define('ways', jsonb_set(ways(), '{upsert,0,else}', '"done"'));
SELECT contactsync_define('ways', jsonb_set(ways(), '{upsert,2,else}', '"write"'));
SELECT contactsync_define('ways', jsonb_set(ways(), '{upsert,2,if}', '"newer"'));
SELECT contactsync_define('ways', ways());
SELECT batch_size FROM contactsync_providers() WHERE name = 'ways';
SELECT contactsync_undefine('ways');
-- whoever did not consent is not created, unless the user says that this subscribes nobody
SELECT contactsync_define('cautious', small() || '{"consent": {"creating": "mailable", "why": "Pelikan mails whoever exists.", "unless": {"option": "kind", "is": "b"}}}');
CREATE SERVER cautious FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'cautious', list 'l');
SELECT key, outcome, message, consent FROM contactsync_try('people', 'cautious', '{"email": "email", "opt_in": "false"}');
ALTER SERVER cautious OPTIONS (ADD kind 'b');
SELECT key, outcome, message, consent FROM contactsync_try('people', 'cautious', '{"email": "email", "opt_in": "false"}');
DROP SERVER cautious;
SELECT contactsync_undefine('cautious');

-- what a definition does not say, it does not do: whoever did not consent is not created, and everybody else consents by that
SELECT contactsync_define('silent', small() - 'consent' - 'delete' || '{"fields": ["email"], "upsert": {"method": "POST", "path": "/x", "body": {"mail": {"$": "email"}}}}');
CREATE SERVER silent FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'silent', list 'l');
SELECT key, outcome, message, consent, method FROM contactsync_try('people', 'silent', '{"email": "email"}');
SELECT method FROM contactsync_preview('silent', '{"email": "a@example.com"}', action => 'delete');
SELECT contactsync_upsert('silent', '{"email": "a@example.com", "first_name": "Ann"}');
-- a definition reaches no other network than an option could
SELECT contactsync_define('inside', small() || '{"base_url": "https://169.254.169.254/latest"}');
CREATE SERVER inside FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'inside', list 'l');
CREATE USER MAPPING FOR CURRENT_USER SERVER inside OPTIONS (api_key 'k');
SELECT contactsync_upsert('inside', '{"email": "a@example.com"}');
DROP SERVER inside CASCADE;
SELECT contactsync_undefine('inside');
-- secrets have fixed places, and a basic authorization has two
SELECT contactsync_define('basic', small() || '{"auth": {"type": "basic"}, "sign": {"header": "X-Signature", "over": "timestamp.body", "encoding": "hex", "timestamp_header": "X-Time"}}');
CREATE SERVER basic FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'basic', list 'l');
SELECT headers FROM contactsync_preview('basic', '{"email": "a@example.com"}');
SELECT contactsync_upsert('basic', '{"email": "a@example.com"}');
CREATE USER MAPPING FOR CURRENT_USER SERVER basic OPTIONS (username 'a:b', password 'c');
CREATE USER MAPPING FOR CURRENT_USER SERVER basic OPTIONS (username 'ab', password 'c');
SELECT contactsync_upsert('basic', '{"email": "a@example.com"}');
ALTER USER MAPPING FOR CURRENT_USER SERVER basic OPTIONS (ADD signing_secret E'x\ny');
ALTER USER MAPPING FOR CURRENT_USER SERVER basic OPTIONS (ADD signing_secret 'x y');
SELECT contactsync_upsert('basic', '{"email": "a@example.com"}') > 0 AS queued;
DROP SERVER basic CASCADE;
SELECT contactsync_define('query', small() || '{"auth": {"type": "query", "parameter": "key"}}');
SELECT url, headers, curl FROM contactsync_preview('"query"'::jsonb, '{"email": "a@example.com"}', options => '{"list": "l"}');
SELECT contactsync_undefine('query'), contactsync_undefine('basic');
-- an attribute does not take the place of what says what the person wants, or whose contact it is
SELECT contactsync_preview(small() || '{"upsert": {"method": "POST", "path": "/x", "body": {"mail": {"$": "email"}, "name": {"$": "first_name"}, "wants": {"$consent": {"yes": true, "no": false}}, "$attributes": true}}}', jsonb_build_object('email', 'a@example.com', 'attributes', jsonb_build_object(name, true)), options => '{"list": "l"}')
FROM (VALUES ('wants')) AS n (name);
SELECT body FROM contactsync_preview(small() || '{"upsert": {"method": "POST", "path": "/x", "body": {"mail": {"$": "email"}, "name": {"$": "first_name"}, "wants": {"$consent": {"yes": true, "no": false}}, "$attributes": true}}}', '{"email": "a@example.com", "first_name": "Ann", "attributes": {"name": "Anna", "other": 1}}', options => '{"list": "l"}');

-- another role has its own, and sees nobody else's
SET SESSION AUTHORIZATION regress_define_bob;
SELECT count(*) FROM contactsync.provider;
SELECT name FROM contactsync_providers() WHERE origin IN ('own', 'shared');
CREATE SERVER bobs FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelikan');
SELECT contactsync_undefine('pelikan');
SELECT url FROM contactsync_preview('"pelikan"'::jsonb, '{"email": "a@example.com"}');
SELECT contactsync_define('pelikan', jsonb_set(small(), '{base_url}', '"https://bob.example"'));
CREATE SERVER bobs FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelikan', list 'l');
SELECT url FROM contactsync_preview('bobs', '{"email": "a@example.com"}');
SET SESSION AUTHORIZATION regress_define_mallory;
SELECT contactsync_define('pelikan', '{}');
SELECT contactsync_define('pelikan', public.small());
SELECT contactsync_undefine('pelikan');
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');
SET SESSION AUTHORIZATION regress_define_alice;
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');

-- a definition in use is replaced only by one with which its servers can go on
SELECT contactsync_define('pelikan', small() #- '{options,list}' || '{"upsert": {"method": "POST", "path": "/x", "body": {"wants": {"$consent": {"yes": true, "no": false}}}}}');
SELECT contactsync_define('pelikan', small() || '{"options": {"list": {"help": "x", "required": true}, "kind": {"help": "x"}, "region": {"help": "x", "required": true}}}');
SELECT contactsync_undefine('pelikan');
SELECT contactsync_watch('people', 'peli', '{"email": "email", "first_name": "first_name"}');
SELECT contactsync_define('pelikan', small() || '{"fields": ["email", "tags", "opt_in", "attributes"]}' #- '{upsert,body,people,$each,name}');
SELECT contactsync_define('pelikan', jsonb_set(small(), '{title}', '"Pelikan 2"'));
SELECT title FROM contactsync_providers() WHERE name = 'pelikan';
-- a changed body changes what is sent of a contact, a changed title does not
SELECT digest AS before FROM contactsync_preview('peli', '{"email": "a@example.com"}') \gset
SELECT contactsync_define('pelikan', jsonb_set(small(), '{title}', '"Pelikan 3"'));
SELECT digest = :'before' AS same FROM contactsync_preview('peli', '{"email": "a@example.com"}');
SELECT contactsync_define('pelikan', jsonb_set(small(), '{upsert,body,version}', '2'));
SELECT digest = :'before' AS same FROM contactsync_preview('peli', '{"email": "a@example.com"}');
-- what is taken back is not used any more
BEGIN;
SELECT contactsync_define('pelikan', jsonb_set(small(), '{upsert,path}', '"/first"'));
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');
SAVEPOINT s;
SELECT contactsync_define('pelikan', jsonb_set(small(), '{upsert,path}', '"/second"'));
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');
ROLLBACK TO s;
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');
ROLLBACK;
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');

-- those of the extension's owner are for all, behind their own
RESET SESSION AUTHORIZATION;
SELECT contactsync_define('pelikan', jsonb_set(public.small(), '{base_url}', '"https://shared.example"'));
SET SESSION AUTHORIZATION regress_define_alice;
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');
DROP SERVER peli CASCADE;
SELECT contactsync_undefine('pelikan');
SELECT name, origin, owner FROM contactsync_providers() WHERE name = 'pelikan';
CREATE SERVER peli FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'pelikan', list 'l');
SELECT url FROM contactsync_preview('peli', '{"email": "a@example.com"}');
SELECT contactsync_undefine('pelikan');
RESET SESSION AUTHORIZATION;
SELECT contactsync_undefine('pelikan');
-- the owner of the extension alters a server of a role whose definition it has not itself
ALTER SERVER bobs OPTIONS (ADD kind 'b');
ALTER SERVER silent OPTIONS (ADD kind 'c');
-- a role has at most 100
SET SESSION AUTHORIZATION regress_define_bob;
SELECT count(contactsync_define('d' || n, small())) FROM generate_series(1, 99) n;
SELECT contactsync_define('e', small());
SELECT contactsync_define('d1', small());

-- a dump creates servers before it fills the table of definitions
RESET SESSION AUTHORIZATION;
SET check_function_bodies = off;
CREATE SERVER later FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'notyet', anything 'x');
RESET check_function_bodies;
SELECT url FROM contactsync_preview('later', '{"email": "a@example.com"}');
SELECT contactsync_define('notyet', jsonb_set(public.small(), '{options,anything}', '{"help": "x"}'));
SELECT contactsync_define('notyet', jsonb_set(public.small(), '{options}', '{"anything": {"help": "x"}, "list": {"help": "x", "default": "l"}, "kind": {"help": "x"}}'));
SELECT url FROM contactsync_preview('later', '{"email": "a@example.com"}');

DROP SERVER later;
DROP OWNED BY regress_define_alice, regress_define_bob CASCADE;
DELETE FROM contactsync.provider;
DROP ROLE regress_define_alice, regress_define_bob, regress_define_mallory;
