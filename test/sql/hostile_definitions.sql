-- definitions that would have the worker busy for minutes with one answer, as a role without privileges
\pset format unaligned
SET client_min_messages = warning;
CREATE ROLE regress_hostile_definer;
GRANT USAGE ON FOREIGN DATA WRAPPER contactsync TO regress_hostile_definer;
SET SESSION AUTHORIZATION regress_hostile_definer;
CREATE FUNCTION pg_temp.defined(results jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb '{"title": "Pelikan", "base_url": "https://api.pelikan.example", "auth": {"type": "bearer"}, "fields": ["email", "external_id"], "identity": "email", "consent": {"creating": "nothing"}}'
		|| jsonb_build_object('upsert', jsonb '{"method": "POST", "path": "/people", "batch": 1000, "body": {"people": {"$each": {"mail": {"$": "email"}, "id": {"$": "external_id"}}}}}'
			|| jsonb_build_object('results', results))
$$;
CREATE FUNCTION pg_temp.people(n int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_build_object('email', format('customer%s@example.com', i), 'external_id', i::text)) FROM generate_series(1, n) i
$$;
-- each of very many results, in four lists, would be compared with each contact
SELECT verdict, message FROM contactsync_judge(
	pg_temp.defined((SELECT jsonb_agg(jsonb '{"at": "/failed", "contact": {"email": "", "external_id": ""}, "only_failures": true}') FROM generate_series(1, 4))),
	200, NULL, (SELECT json_build_object('failed', json_agg('nobody' || i))::text FROM generate_series(1, 250000) i), contacts => pg_temp.people(1000));
-- several for each contact are not too many
SELECT verdict, count(*) FROM contactsync_judge(
	pg_temp.defined('[{"at": "/failed", "contact": {"external_id": ""}, "only_failures": true}]'),
	200, NULL, (SELECT json_build_object('failed', json_agg((i % 1000 + 1)::text))::text FROM generate_series(1, 4000) i), contacts => pg_temp.people(1000)) GROUP BY 1;
-- each would be searched for very many phrases
SELECT verdict, message FROM contactsync_judge(
	pg_temp.defined((SELECT jsonb_agg(jsonb '{"at": "/all", "contact": {"index": "/i"}}' || jsonb_build_object('failed',
		(SELECT jsonb_agg(jsonb_build_object('at', '/text', 'contains', (SELECT jsonb_agg('aab' || k) || '["b"]' FROM generate_series(1, 63) k))) FROM generate_series(1, 16))))
		FROM generate_series(1, 4))),
	200, NULL, (SELECT json_build_object('all', json_agg(json_build_object('i', i, 'text', repeat('a', 2000) || 'b')))::text FROM generate_series(0, 999) i), contacts => pg_temp.people(1000));
-- steps do not go round in circles
SELECT contactsync_define('circle', pg_temp.defined('[]') || '{"upsert": [{"name": "a", "method": "POST", "path": "/a", "body": {"mail": {"$": "email"}, "id": {"$": "external_id"}}, "next": "b"}, {"name": "b", "method": "GET", "path": "/b", "next": "a"}]}');
SELECT contactsync_define('circle', pg_temp.defined('[]') || '{"upsert": [{"name": "a", "if": "known", "else": "b", "method": "POST", "path": "/a", "body": {"mail": {"$": "email"}, "id": {"$": "external_id"}}}, {"name": "b", "if": "known", "else": "a", "method": "POST", "path": "/b"}]}');
RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_hostile_definer;
DROP ROLE regress_hostile_definer;
