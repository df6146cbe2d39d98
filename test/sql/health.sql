-- The state of servers and watches with hints, and the counters.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SERVER mail FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER mail OPTIONS (api_key 'mc_live_secret');
CREATE TABLE customers (id integer PRIMARY KEY, email text);
SELECT contactsync_watch('customers', 'mail', '{"email": "email"}') AS watch \gset
SELECT id AS endpoint FROM contactsync.endpoint \gset

--
-- Every state has a hint
--

SELECT state, hint FROM contactsync.status;
CREATE FUNCTION hint(state text, reason text, worker text DEFAULT 'running', failures bigint DEFAULT 0, server text DEFAULT 'my mail', source text DEFAULT 'public.customers')
RETURNS text LANGUAGE sql AS 'SELECT contactsync.hint(state, reason, server, source, current_user::regrole, worker, failures)';
SELECT hint('idle', NULL) IS NULL AS well, hint('running', NULL) IS NULL AS well;
SELECT hint('idle', NULL, failures => 2);
SELECT hint('paused', 'by joe'), hint('paused', 'by joe', source => NULL);
SELECT hint('broken', 'column "email" does not exist');
SELECT hint('guarded', 'an import of 5000 contacts may set off mail');
SELECT hint('throttled', 'slow down');
SELECT hint('unavailable', 'HTTP status 503');
SELECT hint('running', NULL, worker) FROM unnest(ARRAY['not preloaded', 'starting', 'too many databases', 'waiting for ALTER EXTENSION contactsync UPDATE']) AS worker;
SELECT reason, hint('halted', reason || ': says the provider')
FROM unnest(ARRAY['unauthorized', 'forbidden', 'missing_scope', 'wrong_tenant', 'address_not_allowed', 'plan_too_low', 'quota_exceeded', 'wrong_url',
	'redirected', 'not_the_api', 'request_refused', 'unknown_field', 'unknown_topic', 'unknown_form', 'configuration', 'else']) AS reason;
SELECT hint('halted', NULL);
-- a hint of a server that is halted names the options of its provider, and says whether they are set
CREATE SERVER carl FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'caramel', business_id 'bus_1', base_url 'http://127.0.0.1:9', form_id 'f');
CREATE SERVER "my owl" FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'owlat');
CREATE SERVER zee FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee');
CREATE SERVER zee_old FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'spotzee', api 'users');
CREATE SERVER core FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'mailingcore', tenant_id 't1');
CREATE SERVER lark FOREIGN DATA WRAPPER contactsync OPTIONS (provider 'campaignlark', pace '3');
CREATE USER MAPPING FOR CURRENT_USER SERVER carl OPTIONS (access_token 'a');
CREATE USER MAPPING FOR CURRENT_USER SERVER "my owl" OPTIONS (api_key 'a');
CREATE USER MAPPING FOR PUBLIC SERVER zee OPTIONS (api_key 'a');
CREATE USER MAPPING FOR CURRENT_USER SERVER core OPTIONS (api_key 'a');
CREATE USER MAPPING FOR CURRENT_USER SERVER lark OPTIONS (api_key 'a');
SELECT server, hint('halted', reason || ': says the provider', server => server)
FROM unnest(ARRAY['carl', 'my owl', 'zee', 'zee_old', 'core', 'lark']) WITH ORDINALITY AS s (server, i),
	unnest(ARRAY['unauthorized', 'missing_scope', 'wrong_tenant', 'wrong_url', 'unknown_topic', 'unknown_form']) WITH ORDINALITY AS r (reason, j)
WHERE CASE reason WHEN 'unknown_topic' THEN server = 'my owl' WHEN 'unknown_form' THEN server = 'carl' ELSE true END
ORDER BY j, i;
SELECT hint('throttled', 'too many', server => server) FROM unnest(ARRAY['core', 'lark']) AS server;
SELECT hint('halted', 'request_refused: ' || reason, server => server)
FROM (VALUES ('zee', 'Spotzee does not accept the value of the option version: no source, no version'),
	('carl', 'Caramel does not understand the call (check upsert_tool and form_tool): nulls'), ('core', 'MailingCore refused the request: HTTP status 406')) v (server, reason);
-- each statement can be run
CREATE FUNCTION type_hint(server text, reason text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	statement text;
BEGIN
	FOR statement IN SELECT m[1] FROM regexp_matches(hint('halted', reason || ': says the provider', server => server), '((?:ALTER|CREATE) [^(]*OPTIONS \([^)]*\))', 'g') m LOOP
		EXECUTE replace(statement, '...', value);
	END LOOP;
	RETURN statement;
END $$;
SELECT server, type_hint(server, reason, value)
FROM (VALUES ('carl', 'unauthorized', 'new'), ('carl', 'unauthorized', 'newer'), ('carl', 'wrong_tenant', 'bus_2'), ('carl', 'wrong_url', 'https://localhost/x'), ('carl', 'unknown_form', 'g'),
	('my owl', 'unauthorized', 'new'), ('my owl', 'unknown_topic', 'new'), ('zee', 'unauthorized', 'new'), ('zee_old', 'unauthorized', 'new'),
	('core', 'missing_scope', 'new'), ('core', 'wrong_tenant', 't2'), ('lark', 'wrong_url', 'https://localhost/x')) v (server, reason, value);
SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname <> 'mail' ORDER BY srvname;
SELECT srvname, umuser = 0 AS public, umoptions FROM pg_user_mappings WHERE srvname <> 'mail' ORDER BY srvname;
-- the role that sends is named if it is another one
CREATE ROLE "regress health";
SELECT contactsync.hint('halted', 'unauthorized: no', 'core', NULL, '"regress health"'::regrole, 'running', 0);
DROP ROLE "regress health";
DROP SERVER carl, "my owl", zee, zee_old, core, lark CASCADE;

-- the hint of a server is a statement that can be run
SELECT contactsync_pause('mail');
SELECT hint AS resume FROM contactsync.status \gset
:resume
SELECT contactsync_pause('customers', 'mail');
SELECT hint AS resume FROM contactsync.status \gset
:resume
SELECT state FROM contactsync.status;

--
-- Counters
--

SELECT count(*) FROM contactsync.stats;
INSERT INTO customers VALUES (1, 'nobody'), (2, 'no body'), (3, NULL), (4, 'four@example.com');
DELETE FROM customers WHERE id = 4;
CALL contactsync_run('mail');
SELECT server, calls, synced, unchanged, failed, latency FROM contactsync.stats;
SELECT sum(failed) AS failed, bool_and(at = date_trunc('minute', at)) AS minutes FROM contactsync.history;
SELECT key, sum(value::int) FROM contactsync.history, jsonb_each_text(reasons) GROUP BY key ORDER BY key;
SELECT state, backlog, failures, hint FROM contactsync.status;
SELECT seconds, calls FROM contactsync.latencies ORDER BY seconds;
SELECT latency_bounds FROM contactsync.latency_bounds();
SELECT cardinality(latency) - cardinality(contactsync.latency_bounds()) AS one_more FROM contactsync.stats;

-- a reset does not change the row of the worker
UPDATE contactsync.stat SET calls = 5, latency = '{1,2,0,0,0,0,0,0,0,0,0,0,2}', seconds = 1.5;
SELECT calls, seconds, latency FROM contactsync.stats;
SELECT seconds, calls FROM contactsync.latencies WHERE seconds IN (0.005, 0.01, 'Infinity') ORDER BY seconds;
SELECT contactsync_stats_reset();
SELECT calls, synced, unchanged, failed, seconds, latency, since > now() - interval '1 min' AS since FROM contactsync.stats;
SELECT calls FROM contactsync.stat ORDER BY base;
UPDATE customers SET email = 'nobody at all' WHERE id = 1;
CALL contactsync_run('mail');
SELECT calls, synced, unchanged, failed FROM contactsync.stats;
SELECT contactsync_stats_reset('mail');
SELECT calls, synced, unchanged, failed FROM contactsync.stats;
SELECT contactsync_stats_reset('nobody');

--
-- A long queue is estimated
--

INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys)
SELECT :endpoint, :watch, pg_current_xact_id(), g, now() - interval '1 h 5 s', 2, ARRAY[g::text, 'x' || g] FROM generate_series(1, 19999) g;
SELECT backlog, oldest > interval '1 h' AS oldest FROM contactsync.status;
INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys)
SELECT :endpoint, :watch, pg_current_xact_id(), g, now() - interval '1 min', 2, ARRAY[g::text, 'x' || g] FROM generate_series(20000, 50000) g;
SELECT pg_stat_force_next_flush();
SELECT backlog BETWEEN 90000 AND 110000 AS about, oldest > interval '1 h' AS oldest FROM contactsync.status;
TRUNCATE contactsync.queue;

-- the recent rate, and the expected end
DELETE FROM contactsync.minute;
-- the two recent minutes that count still belong to one server
INSERT INTO contactsync.minute (endpoint, at, first_at) SELECT :endpoint, date_trunc('minute', clock_timestamp()) - n * interval '1 min', clock_timestamp() - interval '100 s' FROM generate_series(0, 1) n;
SELECT count(*) = count(DISTINCT (server, source)) AS once FROM contactsync.status;
DELETE FROM contactsync.minute;
INSERT INTO contactsync.minute (endpoint, at, first_at, calls, synced) VALUES (:endpoint, date_trunc('minute', clock_timestamp()), clock_timestamp() - interval '10 s', 100, 1000);
INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys) VALUES (:endpoint, :watch, pg_current_xact_id(), 1, now(), 60000, '{a}');
SELECT state, rate BETWEEN 5 AND 10 AS rate, eta - now() BETWEEN interval '9 min' AND interval '20 min' AS eta FROM contactsync.status;
DELETE FROM contactsync.queue;
SELECT state, eta FROM contactsync.status;

--
-- A monitor sees the state of all servers, but no contacts
--

UPDATE contactsync.counter SET last_error = 'jane@example.com is refused';
UPDATE contactsync.endpoint SET state = 'halted', reason = 'unauthorized: jane@example.com is refused';
CREATE ROLE regress_monitor;
GRANT pg_monitor TO regress_monitor;
CREATE ROLE regress_stranger;
SET ROLE regress_monitor;
SELECT server, source, owner = 'regress_monitor'::regrole AS mine, state, reason, failures, last_error, hint IS NOT NULL AS hint FROM contactsync.status;
SELECT server, calls FROM contactsync.stats;
SELECT count(*) FROM contactsync.latencies;
SELECT count(*) > 0 AS history FROM contactsync.history;
SELECT count(*) FROM contactsync.failures;
SELECT count(*) FROM contactsync.contacts;
SELECT count(*) FROM contactsync.changes;
SELECT count(*) FROM contactsync.calls;
SELECT contactsync_pause('mail');
SELECT contactsync_stats_reset('mail');
SELECT contactsync_stats_reset();
RESET ROLE;
SELECT calls FROM contactsync.stat ORDER BY base;
SET ROLE regress_stranger;
SELECT count(*) FROM contactsync.status;
SELECT count(*) FROM contactsync.stats;
SELECT count(*) FROM contactsync.latencies;
SELECT count(*) FROM contactsync.history;
SELECT count(*) FROM contactsync.backlog();
SELECT * FROM contactsync.minute;
RESET ROLE;
DROP ROLE regress_monitor, regress_stranger;

-- nothing remains of a dropped server
DROP SERVER mail CASCADE;
SELECT count(*) FROM contactsync.minute;
SELECT count(*) FROM contactsync.minute_failure;
SELECT count(*) FROM contactsync.stat;
