/* contactsync 0.1 to 0.2 */

-- complain if the script is sourced in psql rather than by ALTER EXTENSION
\echo Use "ALTER EXTENSION contactsync UPDATE" to load this file. \quit

CREATE FUNCTION contactsync.home()
RETURNS text LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'contactsync_home';
COMMENT ON FUNCTION contactsync.home()
IS 'the name of this database, another one in each that it is restored or copied into';

-- whoever updates sends from here
ALTER TABLE contactsync.endpoint
	ADD COLUMN home text NOT NULL DEFAULT '', ADD COLUMN timeline integer NOT NULL DEFAULT 0, ADD COLUMN doubted_at timestamptz,
	DROP CONSTRAINT endpoint_server_oid_role_key, ADD UNIQUE (server_oid, role, home);
UPDATE contactsync.endpoint SET home = contactsync.home();
COMMENT ON COLUMN contactsync.endpoint.home IS 'the database that sends to it, as contactsync.home() names it; in any other it is paused';
COMMENT ON COLUMN contactsync.endpoint.timeline IS 'of the cluster, when it was last seen';
COMMENT ON COLUMN contactsync.endpoint.doubted_at IS 'what was synced before is not trusted to be what the provider has';

CREATE FUNCTION contactsync_alter_watch(
	source		regclass,
	server		name,
	mapping		jsonb	DEFAULT NULL,
	filter		text	DEFAULT NULL,
	on_delete	text	DEFAULT NULL,
	always		boolean	DEFAULT NULL,
	poll_column	name	DEFAULT NULL,
	poll_every	interval DEFAULT NULL,
	poll_overlap interval DEFAULT NULL,
	reconcile_every interval DEFAULT NULL,
	reconcile_at time	DEFAULT NULL
)
RETURNS bigint LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_alter_watch';
COMMENT ON FUNCTION contactsync_alter_watch(regclass, name, jsonb, text, text, boolean, name, interval, interval, interval, time)
IS 'changes what is given of a watch in place, a filter of '''' or reconcile_every of 0 to none, and returns how many contacts differ now from what was sent; null: not counted';

CREATE FUNCTION contactsync_doubt(server name, before timestamptz DEFAULT pg_catalog.clock_timestamp())
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_doubt';
COMMENT ON FUNCTION contactsync_doubt(name, timestamptz)
IS 'trusts nothing that was sent to a server before: a reconciliation sends all of it again; -infinity trusts all of it, as after a failover that lost nothing';

-- columns are followed from here on
ALTER TABLE contactsync.watch ADD COLUMN columns name[];
COMMENT ON COLUMN contactsync.watch.columns IS 'of the table, by number, with the names that key, mapping and filter know them by';
UPDATE contactsync.watch w SET columns =
	(SELECT pg_catalog.array_agg(a.attname ORDER BY n) FROM pg_catalog.pg_class c, pg_catalog.generate_series(1, c.relnatts) n
		LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = w.source AND a.attnum = n AND NOT a.attisdropped
	 WHERE c.oid = w.source);
DROP EVENT TRIGGER contactsync_ddl;
CREATE EVENT TRIGGER contactsync_ddl ON ddl_command_end
WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE', 'ALTER SERVER')
EXECUTE FUNCTION contactsync.note_ddl();
COMMENT ON EVENT TRIGGER contactsync_ddl IS 'watches follow their tables and servers';
COMMENT ON FUNCTION contactsync.note_ddl()
IS 'event trigger by which watches follow columns and servers that are renamed, and tables that come to inherit from theirs';

-- membership was remembered of whichever topic the server named
ALTER TABLE contactsync.contact RENAME COLUMN topic_added TO topics;
ALTER TABLE contactsync.contact ALTER COLUMN topics DROP DEFAULT, ALTER COLUMN topics DROP NOT NULL;
ALTER TABLE contactsync.contact ALTER COLUMN topics TYPE text USING CASE WHEN topics THEN '' END;
UPDATE contactsync.contact c SET topics =
	(SELECT o.option_value FROM contactsync.endpoint e JOIN pg_catalog.pg_foreign_server s ON s.oid = e.server_oid,
			pg_catalog.pg_options_to_table(s.srvoptions) o
	 WHERE e.id = c.endpoint AND o.option_name = 'topic_id')
WHERE topics = '';
COMMENT ON COLUMN contactsync.contact.topics IS 'ids of topics that the contact was added to once, and is not again, parted by spaces';

-- what providers tell of a contact and of a call
ALTER TABLE contactsync.contact ADD COLUMN remote_status text, ADD COLUMN remote_updated_at text;
COMMENT ON COLUMN contactsync.contact.remote_updated_at IS 'as the provider writes it';
ALTER TABLE contactsync.call ADD COLUMN created integer, ADD COLUMN updated integer;
COMMENT ON COLUMN contactsync.call.created IS 'contacts that were new to the provider, as it counts; null: it did not say';

-- views, made anew
DROP VIEW contactsync.calls, contactsync.contacts, contactsync.status;

CREATE VIEW contactsync.calls WITH (security_barrier) AS
SELECT c.id, e.server, c.started_at, c.duration, c.method, c.path, c.status, c.verdict, c.contacts, c.failed,
	c.attempt, c.sent, c.received, c.idempotency_key, c.request_id, c.error, c.created, c.updated
FROM contactsync.call c JOIN contactsync.endpoint e ON e.id = c.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.calls IS 'the HTTP requests of late, one row each';

CREATE VIEW contactsync.contacts WITH (security_barrier) AS
SELECT e.server, w.source, c.key, c.upsert_key,
	CASE c.action WHEN 'u' THEN 'upsert' WHEN 'n' THEN 'unsubscribe' WHEN 'd' THEN 'delete' END AS action,
	c.synced_at, c.remote_id, c.error, pg_catalog.string_to_array(c.topics, ' ') AS topics,
	c.remote_status, c.remote_updated_at
FROM contactsync.contact c
	JOIN contactsync.endpoint e ON e.id = c.endpoint
	LEFT JOIN contactsync.watch w ON w.id = c.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.contacts IS 'what was last synced, one row per source row';

DROP FUNCTION contactsync_judge(name, integer, jsonb, text, jsonb, integer, text, jsonb);
CREATE FUNCTION contactsync_judge(
	server name, status integer, headers jsonb, body text,
	contacts jsonb DEFAULT NULL, step integer DEFAULT 0, action text DEFAULT 'upsert', state jsonb DEFAULT NULL
)
RETURNS TABLE (
	verdict text, retry_after float8, throttled boolean, next_step integer, blame text,
	contact integer, outcome text, reason text, code text, field text,
	message text, remote_id text, remote_status text, note text, opted_out boolean,
	consent_sent boolean, topics text, memo text, request_id text
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_judge';
COMMENT ON FUNCTION contactsync_judge(name, integer, jsonb, text, jsonb, integer, text, jsonb)
IS 'what would be concluded from such an answer of the provider';

-- pauses, health, failures, calls
ALTER TABLE contactsync.endpoint ADD COLUMN alarmed boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN contactsync.endpoint.alarmed IS 'that it is halted was told by NOTIFY, and that it goes on again was not';
ALTER TABLE contactsync.failure ADD COLUMN ignored boolean NOT NULL DEFAULT false;
DROP VIEW contactsync.failures, contactsync.changes;
CREATE FUNCTION contactsync_pause(server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_pause_server';
COMMENT ON FUNCTION contactsync_pause(name)
IS 'sends nothing to a server until contactsync_resume(); changes are queued meanwhile, calls in flight end';
CREATE FUNCTION contactsync_pause(source regclass, server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_pause_watch';
COMMENT ON FUNCTION contactsync_pause(regclass, name)
IS 'sends nothing of a watched table until contactsync_resume(); changes are queued meanwhile, calls in flight end';
CREATE FUNCTION contactsync_resume(server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_resume_server';
COMMENT ON FUNCTION contactsync_resume(name)
IS 'ends a contactsync_pause() of a server; watches of it that were paused by themselves stay so; in a database that was restored or copied, has this one send from now on';
CREATE FUNCTION contactsync_resume(source regclass, server name, automations text DEFAULT NULL)
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_resume_watch';
COMMENT ON FUNCTION contactsync_resume(regclass, name, text)
IS 'ends a contactsync_pause() of a watched table; with automations, paused or accepted, also that it is held by the bulk guard';
CREATE FUNCTION contactsync_stats_reset()
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_stats_reset_all';
COMMENT ON FUNCTION contactsync_stats_reset()
IS 'sets the counters of contactsync.stats to zero';
CREATE FUNCTION contactsync_stats_reset(server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_stats_reset';
COMMENT ON FUNCTION contactsync_stats_reset(name)
IS 'sets the counters of a server in contactsync.stats to zero';
CREATE FUNCTION contactsync_retry(source regclass, server name)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_retry_watch';
COMMENT ON FUNCTION contactsync_retry(regclass, name)
IS 'queues the failures of a watched table again and returns how many';
CREATE FUNCTION contactsync_retry(failures bigint[])
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_retry_failures';
COMMENT ON FUNCTION contactsync_retry(bigint[])
IS 'queues these failures again, also those that are ignored, and returns how many';
CREATE FUNCTION contactsync_retry_reason(server name, reason text)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_retry_reason';
COMMENT ON FUNCTION contactsync_retry_reason(name, text)
IS 'queues the failures of a server that have this reason again and returns how many';
CREATE FUNCTION contactsync_ignore(failures bigint[])
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_ignore';
COMMENT ON FUNCTION contactsync_ignore(bigint[])
IS 'hides these failures, and does not count them, until they fail in another way; returns how many';
CREATE FUNCTION contactsync_touch(source regclass, server name, VARIADIC keys "any")
RETURNS bigint LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_touch';
COMMENT ON FUNCTION contactsync_touch(regclass, name, "any")
IS 'sends rows of a watched table again, by their keys, also if nothing changed; returns how many';
CREATE FUNCTION contactsync_trace(server name, contact text, "on" boolean DEFAULT true)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_trace';
COMMENT ON FUNCTION contactsync_trace(name, text, boolean)
IS 'keeps the next calls about the contact of an address or upsert key in contactsync.traces, in full but for secrets, for a week at most';
CREATE FUNCTION contactsync_trace_row(source regclass, server name, key "any", "on" boolean DEFAULT true)
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_trace_row';
COMMENT ON FUNCTION contactsync_trace_row(regclass, name, "any", boolean)
IS 'keeps the next calls about a row of a watched table, by its key, in contactsync.traces, in full but for secrets, for a week at most';
CREATE FUNCTION contactsync_find(email text)
RETURNS TABLE (at timestamptz, server name, source regclass, key text, event text, detail jsonb)
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_find';
COMMENT ON FUNCTION contactsync_find(text)
IS 'all that is held on a person by contactsync, and what happened to it, in the order of time';
CREATE FUNCTION contactsync_forget(email text)
RETURNS TABLE (what text, rows bigint)
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_forget_email';
COMMENT ON FUNCTION contactsync_forget(text)
IS 'erases all that is held on a person by contactsync, at the provider nothing, and returns how many rows of what';
CREATE FUNCTION contactsync_forget(source regclass, server name, key "any")
RETURNS TABLE (what text, rows bigint)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_forget_row';
COMMENT ON FUNCTION contactsync_forget(regclass, name, "any")
IS 'erases all that is held by contactsync on a row of a watched table, by its key, at the provider nothing, and returns how many rows of what';
CREATE TABLE contactsync.pause (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	paused_by	text	NOT NULL,
	paused_at	timestamptz NOT NULL,
	reason		text,
	PRIMARY KEY (endpoint, watch)
);
COMMENT ON TABLE contactsync.pause IS 'what somebody told to wait: nothing of it is sent';
COMMENT ON COLUMN contactsync.pause.watch IS '0: all that goes to the endpoint';
COMMENT ON COLUMN contactsync.queue.contact IS 'beside keys: they are to be sent whatever was sent before';
COMMENT ON COLUMN contactsync.failure.ignored IS 'by contactsync_ignore(): hidden until it fails in another way';
CREATE TABLE contactsync.stat (
	endpoint	integer	NOT NULL,
	base		boolean	NOT NULL,
	since		timestamptz NOT NULL,
	calls		bigint	NOT NULL DEFAULT 0,
	retries		bigint	NOT NULL DEFAULT 0,
	throttled	bigint	NOT NULL DEFAULT 0,
	unanswered	bigint	NOT NULL DEFAULT 0,
	synced		bigint	NOT NULL DEFAULT 0,
	unchanged	bigint	NOT NULL DEFAULT 0,
	failed		bigint	NOT NULL DEFAULT 0,
	sent		bigint	NOT NULL DEFAULT 0,
	received	bigint	NOT NULL DEFAULT 0,
	seconds		float8	NOT NULL DEFAULT 0,
	latency		bigint[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0,0,0,0,0,0}',
	PRIMARY KEY (endpoint, base)
) WITH (fillfactor = 50);
COMMENT ON TABLE contactsync.stat IS 'what was done for an endpoint, counted';
COMMENT ON COLUMN contactsync.stat.base IS 'what it was at the last reset: the worker does not touch that row';
CREATE TABLE contactsync.minute (
	endpoint	integer	NOT NULL,
	at			timestamptz NOT NULL,
	first_at	timestamptz NOT NULL,
	calls		bigint	NOT NULL DEFAULT 0,
	retries		bigint	NOT NULL DEFAULT 0,
	throttled	bigint	NOT NULL DEFAULT 0,
	unanswered	bigint	NOT NULL DEFAULT 0,
	synced		bigint	NOT NULL DEFAULT 0,
	unchanged	bigint	NOT NULL DEFAULT 0,
	failed		bigint	NOT NULL DEFAULT 0,
	sent		bigint	NOT NULL DEFAULT 0,
	received	bigint	NOT NULL DEFAULT 0,
	seconds		float8	NOT NULL DEFAULT 0,
	latency		bigint[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0,0,0,0,0,0}',
	backlog		bigint,
	PRIMARY KEY (endpoint, at)
) WITH (fillfactor = 50);
COMMENT ON TABLE contactsync.minute IS 'what was done for an endpoint in a minute, kept by age';
COMMENT ON COLUMN contactsync.minute.first_at IS 'when the first of it was counted';
CREATE TABLE contactsync.minute_failure (
	endpoint	integer	NOT NULL,
	at			timestamptz NOT NULL,
	reason		text	NOT NULL,
	failed		bigint	NOT NULL,
	PRIMARY KEY (endpoint, at, reason)
);
COMMENT ON TABLE contactsync.minute_failure IS 'contacts that were given up on in a minute, by reason';
CREATE TABLE contactsync.traced (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	contact		text	COLLATE "C" NOT NULL,
	until		timestamptz NOT NULL,
	PRIMARY KEY (endpoint, watch, contact)
);
COMMENT ON TABLE contactsync.traced IS 'contacts whose calls are kept in full';
COMMENT ON COLUMN contactsync.traced.contact IS 'with watch 0 an address or upsert key, else the key of a row';
CREATE TABLE contactsync.trace (
	id			bigint	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	key			text	NOT NULL,
	upsert_key	text,
	email		text,
	started_at	timestamptz NOT NULL,
	duration	interval NOT NULL,
	method		text	NOT NULL,
	url			text	NOT NULL,
	request_headers text,
	request		text,
	status		integer	NOT NULL,
	response_headers text,
	response	text,
	verdict		text	NOT NULL
);
COMMENT ON TABLE contactsync.trace IS 'one row per call about a contact that was traced then, kept by age and count';
CREATE TABLE contactsync.forgotten (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	key			text	COLLATE "C" NOT NULL,
	PRIMARY KEY (endpoint, watch, key)
);
COMMENT ON TABLE contactsync.forgotten IS 'rows that were forgotten while calls about them may have been in flight; emptied when those have ended';
SELECT pg_catalog.pg_extension_config_dump('contactsync.pause', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.traced', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.trace', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.trace_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.forgotten', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.stat', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.minute', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.minute_failure', '');
CREATE FUNCTION contactsync.backlog(OUT endpoint integer, OUT watch integer, OUT contacts bigint, OUT oldest timestamptz)
RETURNS SETOF record LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_backlog';
COMMENT ON FUNCTION contactsync.backlog()
IS 'how many contacts are queued; of a long queue an estimate, so that it is cheap to look';
CREATE FUNCTION contactsync.hint(state text, reason text, server text, source text, worker text, failures bigint)
RETURNS text LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_hint';
COMMENT ON FUNCTION contactsync.hint(text, text, text, text, text, bigint)
IS 'what to type about a state, or null where all is well';
CREATE FUNCTION contactsync.latency_bounds()
RETURNS float8[] LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'contactsync_latency_bounds';
COMMENT ON FUNCTION contactsync.latency_bounds()
IS 'the upper bounds, in seconds, of the columns "latency", but for the last';
CREATE VIEW contactsync.changes WITH (security_barrier) AS
SELECT e.server, w.source, k.key, CASE WHEN q.watch = 0 THEN q.id END AS id, CASE WHEN q.keys IS NULL THEN q.contact END AS contact, q.queued_at
FROM contactsync.queue q
	JOIN contactsync.endpoint e ON e.id = q.endpoint
	LEFT JOIN contactsync.watch w ON w.id = q.watch
	LEFT JOIN LATERAL pg_catalog.unnest(q.keys) AS k (key) ON true
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.changes
IS 'the queue, one row per key, or per contact with the id that contactsync_upsert() returned; neither: all that is known of the source is to be looked at';
CREATE VIEW contactsync.failures WITH (security_barrier) AS
SELECT f.id, e.server, w.source, f.key, f.upsert_key, f.reason, f.code, f.message, f.field,
	f.attempts, f.first_at, f.last_at, f.request_id
FROM contactsync.failure f
	JOIN contactsync.endpoint e ON e.id = f.endpoint
	LEFT JOIN contactsync.watch w ON w.id = f.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE') AND NOT f.ignored;
COMMENT ON VIEW contactsync.failures IS 'contacts that were given up on, with the reason';
CREATE VIEW contactsync.traces WITH (security_barrier) AS
SELECT t.id, e.server, w.source, t.key, t.upsert_key, t.email, t.started_at, t.duration, t.method, t.url, t.request_headers, t.request,
	t.status, t.response_headers, t.response, t.verdict
FROM contactsync.trace t JOIN contactsync.endpoint e ON e.id = t.endpoint LEFT JOIN contactsync.watch w ON w.id = t.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.traces IS 'calls about contacts that contactsync_trace() was told of, in full but for secrets';
CREATE VIEW contactsync.status WITH (security_barrier) AS
WITH lane AS (
	SELECT e.id AS endpoint, w.id AS watch, w.source FROM contactsync.endpoint e JOIN contactsync.watch w ON w.endpoint = e.id
	UNION ALL
	SELECT e.id, 0, NULL FROM contactsync.endpoint e
	WHERE EXISTS (SELECT FROM contactsync.counter c WHERE c.endpoint = e.id AND c.watch = 0)
		OR EXISTS (SELECT FROM contactsync.queue q WHERE q.endpoint = e.id AND q.watch = 0)
		OR NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.endpoint = e.id)
), lately AS (
	SELECT m.endpoint, m.calls / m.seconds AS calls, m.contacts / m.seconds AS contacts
	FROM (SELECT o.endpoint, pg_catalog.sum(o.calls) AS calls, pg_catalog.sum(o.synced + o.unchanged + o.failed)::float8 AS contacts,
			GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(o.first_at)), 1)::float8 AS seconds
		FROM contactsync.minute o
		WHERE o.at >= pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() - interval '1 min')
		GROUP BY o.endpoint) m
), health AS (
	SELECT e.id AS endpoint, l.watch, e.server, l.source, e.role, pg_catalog.pg_has_role(e.role, 'USAGE') AS mine,
		CASE WHEN e.home <> contactsync.home() OR p.paused_at IS NOT NULL THEN 'paused'
			 WHEN w.state <> 'running' THEN w.state
			 WHEN e.state <> 'running' THEN e.state
			 WHEN q.contacts > 0 THEN 'running'
			 ELSE 'idle' END AS state,
		CASE WHEN e.home <> contactsync.home()
			 THEN pg_catalog.format('this database was restored or copied; if no other sends to the server: SELECT contactsync_resume(%L)', e.server)
			 WHEN p.paused_at IS NOT NULL THEN pg_catalog.concat_ws(': ', 'by ' || p.paused_by, p.reason)
			 WHEN w.state <> 'running' THEN w.reason
			 ELSE COALESCE(e.reason, e.memo OPERATOR(pg_catalog.#>>) '{}') END AS reason,
		COALESCE(p.paused_at, CASE WHEN w.state <> 'running' THEN w.since END, e.since, w.created_at) AS since,
		e.until, CASE WHEN e.home <> contactsync.home() THEN 0 ELSE p.watch END AS paused, COALESCE(q.contacts, 0) AS backlog, q.oldest
	FROM lane l
		JOIN contactsync.endpoint e ON e.id = l.endpoint
		LEFT JOIN contactsync.watch w ON w.id = l.watch
		LEFT JOIN LATERAL (SELECT p.watch, p.paused_by, p.paused_at, p.reason FROM contactsync.pause p
						   WHERE p.endpoint = l.endpoint AND p.watch IN (0, l.watch) ORDER BY p.watch LIMIT 1) p ON true
		LEFT JOIN contactsync.backlog() q ON q.endpoint = l.endpoint AND q.watch = l.watch
	WHERE pg_catalog.pg_has_role(e.role, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
)
SELECT h.server, h.source, h.role AS owner, h.state,
	CASE WHEN h.mine THEN h.reason WHEN h.state IN ('halted', 'paused') THEN pg_catalog.split_part(h.reason, ':', 1) END AS reason,
	h.since, h.until, h.backlog,
	pg_catalog.now() - h.oldest AS oldest,
	COALESCE(r.in_flight, 0) AS in_flight,
	COALESCE(n.calls, 0) AS rate,
	r.pace,
	CASE WHEN h.backlog > 0 AND n.contacts > 0 AND h.state = 'running' THEN
		pg_catalog.date_trunc('second', pg_catalog.now() + LEAST(pg_catalog.sum(h.backlog) OVER (PARTITION BY h.endpoint)::float8 / n.contacts, 1e9)
			* interval '1 second') END AS eta,
	COALESCE(c.synced, 0) AS synced,
	COALESCE(c.unchanged, 0) AS unchanged,
	COALESCE(c.failed, 0) AS failed,
	(SELECT pg_catalog.count(*) FROM contactsync.failure f
		WHERE f.endpoint = h.endpoint AND f.watch = h.watch AND NOT f.ignored) AS failures,
	c.last_success,
	CASE WHEN h.mine THEN c.last_error END AS last_error, c.last_error_at,
	k.worker,
	contactsync.hint(h.state, h.reason, h.server::text, CASE WHEN h.paused = 0 THEN NULL ELSE h.source::text END, k.worker,
		(SELECT pg_catalog.count(*) FROM (SELECT FROM contactsync.failure f WHERE f.endpoint = h.endpoint AND f.watch = h.watch AND NOT f.ignored
			LIMIT 1) f)) AS hint
FROM health h
	LEFT JOIN contactsync.counter c ON c.endpoint = h.endpoint AND c.watch = h.watch
	LEFT JOIN contactsync.runtime() r ON r.endpoint = h.endpoint
	LEFT JOIN lately n ON n.endpoint = h.endpoint,
	contactsync.worker_state() AS k (worker);
COMMENT ON VIEW contactsync.status
IS 'one row per server and watch: is it well, and if not, why, since when, until when, and what to do';
COMMENT ON COLUMN contactsync.status.backlog IS 'contacts that are queued; more than 20000 rows of the queue are estimated';
COMMENT ON COLUMN contactsync.status.rate IS 'calls a second lately, of the server';
COMMENT ON COLUMN contactsync.status.pace IS 'calls a second that are allowed, of the server';
COMMENT ON COLUMN contactsync.status.hint IS 'what to type; null: all is well';
CREATE VIEW contactsync.stats WITH (security_barrier) AS
SELECT e.server, e.role AS owner, COALESCE(b.since, s.since) AS since,
	s.calls - COALESCE(b.calls, 0) AS calls, s.retries - COALESCE(b.retries, 0) AS retries,
	s.throttled - COALESCE(b.throttled, 0) AS throttled, s.unanswered - COALESCE(b.unanswered, 0) AS unanswered,
	s.synced - COALESCE(b.synced, 0) AS synced, s.unchanged - COALESCE(b.unchanged, 0) AS unchanged,
	s.failed - COALESCE(b.failed, 0) AS failed,
	s.sent - COALESCE(b.sent, 0) AS sent, s.received - COALESCE(b.received, 0) AS received,
	GREATEST(s.seconds - COALESCE(b.seconds, 0), 0) AS seconds,
	(SELECT pg_catalog.array_agg(u.a - COALESCE(u.b, 0) ORDER BY u.i)
		FROM ROWS FROM (pg_catalog.unnest(s.latency), pg_catalog.unnest(b.latency)) WITH ORDINALITY AS u (a, b, i)) AS latency
FROM contactsync.stat s JOIN contactsync.endpoint e ON e.id = s.endpoint
	LEFT JOIN contactsync.stat b ON b.endpoint = s.endpoint AND b.base
WHERE NOT s.base AND (pg_catalog.pg_has_role(e.role, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE'));
COMMENT ON VIEW contactsync.stats IS 'what was done since contactsync_stats_reset(), one row per server';
COMMENT ON COLUMN contactsync.stats.retries IS 'calls that were not the first about their contacts';
COMMENT ON COLUMN contactsync.stats.throttled IS 'calls that were told to come later';
COMMENT ON COLUMN contactsync.stats.unanswered IS 'calls that had no answer';
COMMENT ON COLUMN contactsync.stats.synced IS 'contacts that the provider took';
COMMENT ON COLUMN contactsync.stats.sent IS 'bytes of the bodies of requests';
COMMENT ON COLUMN contactsync.stats.seconds IS 'that all calls took together';
COMMENT ON COLUMN contactsync.stats.latency IS 'calls by duration; contactsync.latencies says which';
CREATE VIEW contactsync.latencies WITH (security_barrier) AS
SELECT s.server, s.owner, COALESCE(b.seconds, 'Infinity') AS seconds,
	pg_catalog.sum(u.calls) OVER (PARTITION BY s.server, s.owner ORDER BY u.i)::bigint AS calls
FROM contactsync.stats s, pg_catalog.unnest(s.latency) WITH ORDINALITY AS u (calls, i)
	LEFT JOIN pg_catalog.unnest(contactsync.latency_bounds()) WITH ORDINALITY AS b (seconds, i) ON b.i = u.i;
COMMENT ON VIEW contactsync.latencies IS 'how many calls since contactsync_stats_reset() took so long at most, one row per server and bound';
CREATE VIEW contactsync.history WITH (security_barrier) AS
SELECT e.server, e.role AS owner, m.at, m.calls, m.retries, m.throttled, m.unanswered, m.synced, m.unchanged, m.failed,
	(SELECT pg_catalog.jsonb_object_agg(f.reason, f.failed) FROM contactsync.minute_failure f
		WHERE f.endpoint = m.endpoint AND f.at = m.at) AS reasons,
	m.sent, m.received, m.seconds, m.latency, m.backlog
FROM contactsync.minute m JOIN contactsync.endpoint e ON e.id = m.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW contactsync.history IS 'the same as stats, minute by minute; none where nothing was done or queued';
COMMENT ON COLUMN contactsync.history.reasons IS 'how many contacts were given up on for which reason';
COMMENT ON COLUMN contactsync.history.backlog IS 'contacts that were queued at some time in that minute; null: none, or it was not looked at';
GRANT SELECT ON contactsync.calls, contactsync.contacts, contactsync.changes, contactsync.failures, contactsync.status, contactsync.stats, contactsync.latencies,
	contactsync.history, contactsync.traces TO PUBLIC;
CREATE FUNCTION contactsync_report(period interval DEFAULT '24 hours', personal boolean DEFAULT false)
RETURNS text LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'contactsync_report';
COMMENT ON FUNCTION contactsync_report(interval, boolean)
IS 'how your servers did in a period, as a page of HTML; addresses and messages about contacts only if personal';

-- end of pauses, health, failures, calls

-- scans, polling, the bulk guard
DROP FUNCTION contactsync_watch(regclass, name, jsonb, text, name[], text, boolean);
CREATE FUNCTION contactsync_watch(
	source		regclass,
	server		name,
	mapping		jsonb	DEFAULT NULL,
	filter		text	DEFAULT NULL,
	key			name[]	DEFAULT NULL,
	on_delete	text	DEFAULT 'ignore',
	always		boolean	DEFAULT false,
	capture		text	DEFAULT 'trigger',
	poll_column	name	DEFAULT NULL,
	poll_every	interval DEFAULT '5 min',
	poll_overlap interval DEFAULT '1 min',
	reconcile_every interval DEFAULT NULL,
	reconcile_at time	DEFAULT NULL
)
RETURNS integer LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_watch';
COMMENT ON FUNCTION contactsync_watch(regclass, name, jsonb, text, name[], text, boolean, text, name, interval, interval, interval, time)
IS 'mirrors a table into a server: from here on every committed change reaches the provider';
CREATE FUNCTION contactsync_import(
	source		regclass,
	server		name,
	filter		text	DEFAULT NULL,
	rate		float8	DEFAULT NULL,
	automations	text	DEFAULT NULL,
	dry_run		boolean	DEFAULT false
)
RETURNS TABLE (outcome text, reason text, rows bigint) LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_import';
COMMENT ON FUNCTION contactsync_import(regclass, name, text, float8, text, boolean)
IS 'sends the rows of a watched table that were not sent yet, in the background; dry_run counts them instead';
CREATE FUNCTION contactsync_reconcile(
	source		regclass,
	server		name,
	filter		text	DEFAULT NULL,
	rate		float8	DEFAULT NULL,
	automations	text	DEFAULT NULL,
	dry_run		boolean	DEFAULT false
)
RETURNS TABLE (outcome text, reason text, rows bigint) LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_reconcile';
COMMENT ON FUNCTION contactsync_reconcile(regclass, name, text, float8, text, boolean)
IS 'compares all rows of a watched table with what was last sent, and sends those that differ, in the background; rows that have gone follow on_delete; dry_run counts instead';
CREATE FUNCTION contactsync_cancel(source regclass, server name)
RETURNS boolean LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_cancel';
COMMENT ON FUNCTION contactsync_cancel(regclass, name)
IS 'ends an import or a reconciliation of a watched table; false if none was running';
ALTER TABLE contactsync.watch DROP CONSTRAINT watch_state_check;
ALTER TABLE contactsync.watch ADD CONSTRAINT watch_state_check CHECK (state IN ('running', 'broken', 'guarded')),
	ADD COLUMN released xid8, ADD COLUMN poll_column name,
	ADD COLUMN poll_every interval NOT NULL DEFAULT '5 min', ADD COLUMN poll_overlap interval NOT NULL DEFAULT '1 min',
	ADD COLUMN reconcile_every interval, ADD COLUMN reconcile_at time, ADD COLUMN reconcile_next timestamptz;
COMMENT ON COLUMN contactsync.watch.state IS 'broken: cannot be read; guarded: held by the bulk guard until contactsync_resume()';
COMMENT ON COLUMN contactsync.watch.released IS 'the transaction of the last contactsync_resume() of a held watch: the guard does not count what was queued before';
COMMENT ON COLUMN contactsync.watch.poll_column IS 'tells when a row of the source changed, which is polled; null: it has triggers';
COMMENT ON COLUMN contactsync.watch.reconcile_next IS 'when the next reconciliation begins by itself';

CREATE TABLE contactsync.scan (
	id			integer	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	kind		text	NOT NULL CHECK (kind IN ('import', 'reconcile', 'poll')),
	state		text	NOT NULL DEFAULT 'running'
				CHECK (state IN ('running', 'done', 'canceled', 'failed')),
	reason		text,
	phase		text	NOT NULL CHECK (phase IN ('counting', 'comparing', 'missing')),
	value		text,
	cursor		text,
	watermark	text,
	since		text,
	next_at		timestamptz,
	filter		text,
	rate		float8,
	automations	text	CHECK (automations IN ('paused', 'accepted')),
	total		bigint	NOT NULL DEFAULT 0,
	done		bigint	NOT NULL DEFAULT 0,
	changes		bigint	NOT NULL DEFAULT 0,
	new			bigint	NOT NULL DEFAULT 0,
	changed		bigint	NOT NULL DEFAULT 0,
	unchanged	bigint	NOT NULL DEFAULT 0,
	refused		bigint	NOT NULL DEFAULT 0,
	invalid		bigint	NOT NULL DEFAULT 0,
	filtered	bigint	NOT NULL DEFAULT 0,
	gone		bigint	NOT NULL DEFAULT 0,
	started_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	updated_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at	timestamptz
) WITH (fillfactor = 50);
-- a watch is polled and, at one time, imported or reconciled
CREATE UNIQUE INDEX scan_running ON contactsync.scan (watch) WHERE state = 'running' AND kind <> 'poll';
CREATE INDEX scan_watch ON contactsync.scan (watch);
COMMENT ON TABLE contactsync.scan IS 'walks over whole sources, and how far they are; of each kind the last of a watch is kept';
COMMENT ON COLUMN contactsync.scan.cursor IS 'the key of the last row that was walked in this phase';
COMMENT ON COLUMN contactsync.scan.value IS 'of poll_column, in that row';
COMMENT ON COLUMN contactsync.scan.watermark IS 'of poll_column, where this round of polling began';
COMMENT ON COLUMN contactsync.scan.since IS 'of poll_column, when the watch was made: what was there then is not polled';
COMMENT ON COLUMN contactsync.scan.next_at IS 'when the next round of polling begins';
COMMENT ON COLUMN contactsync.scan.automations IS 'what could send mail is paused, or accepted; null: nobody said so';
COMMENT ON COLUMN contactsync.scan.total IS 'rows of this phase, as estimated';
COMMENT ON COLUMN contactsync.scan.done IS 'rows of this phase that were walked';
COMMENT ON COLUMN contactsync.scan.changes IS 'rows that differ, as far as they are counted before anything is sent';
COMMENT ON COLUMN contactsync.scan.refused IS 'rows that the provider refused before as they are: they are not tried again';
SELECT pg_catalog.pg_extension_config_dump('contactsync.scan', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.scan_id_seq', '');
ALTER TABLE contactsync.failure ADD COLUMN digest uuid;
DROP VIEW contactsync.watches;
CREATE VIEW contactsync.watches WITH (security_barrier) AS
SELECT w.source, e.server, e.role AS owner, w.key, w.mapping, w.filter, w.on_delete, w.state, w.reason, w.created_at,
	w.poll_column, CASE WHEN w.poll_column IS NOT NULL THEN w.poll_every END AS poll_every,
	w.reconcile_every, w.reconcile_at, w.reconcile_next
FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.watches IS 'the watches of the roles that you are';
CREATE VIEW contactsync.progress WITH (security_barrier) AS
WITH walk AS (
	SELECT s.endpoint, s.watch, s.kind, s.state, s.reason, s.phase, s.done, GREATEST(s.total, s.done) AS total,
		s.new, s.changed, s.unchanged, s.refused, s.invalid, s.filtered, s.gone, s.started_at, s.finished_at,
		s.done / NULLIF(pg_catalog.date_part('epoch', s.updated_at - s.started_at), 0) AS rate
	FROM contactsync.scan s WHERE s.kind <> 'poll'
	UNION ALL
	SELECT b.endpoint, b.watch, 'backlog', 'running', NULL, 'sending', NULL, b.contacts,
		NULL, NULL, NULL, NULL, NULL, NULL, NULL, b.oldest, NULL,
		(SELECT pg_catalog.sum(m.synced + m.unchanged + m.failed)
				/ GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(m.first_at)), 1)::float8
			FROM contactsync.minute m WHERE m.endpoint = b.endpoint
				AND m.at >= pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() - interval '1 min'))
	FROM contactsync.backlog() b WHERE b.contacts > 0
)
SELECT e.server, w.source, e.role AS owner, p.kind, p.state, p.reason, p.phase, p.done, p.total,
	CASE WHEN p.total > 0 THEN pg_catalog.round(100.0 * p.done / p.total, 1) END AS percent,
	p.rate,
	CASE WHEN p.state = 'running' AND p.rate > 0
		THEN pg_catalog.date_trunc('second', pg_catalog.now()
			+ LEAST((p.total - COALESCE(p.done, 0)) / p.rate, 1e9) * interval '1 second') END AS eta,
	p.new, p.changed, p.unchanged, p.refused, p.invalid, p.filtered, p.gone, p.started_at, p.finished_at
FROM walk p
	JOIN contactsync.endpoint e ON e.id = p.endpoint
	LEFT JOIN contactsync.watch w ON w.id = p.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.progress
IS 'imports and reconciliations, running and the last ones, and what waits in the queue: how far, how fast, how long';
COMMENT ON COLUMN contactsync.progress.phase
IS 'counting what would be sent, where many contacts at once could set off mail; comparing rows, and queueing those that differ; missing: looking for contacts whose row has gone; sending';
COMMENT ON COLUMN contactsync.progress.total IS 'of this phase, as estimated';
COMMENT ON COLUMN contactsync.progress.rate IS 'rows a second in this phase; contacts a second lately, of a backlog';
GRANT SELECT ON contactsync.progress, contactsync.watches TO PUBLIC;
-- end of scans, polling, the bulk guard
