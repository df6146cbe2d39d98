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

-- views, made anew
DROP VIEW contactsync.contacts, contactsync.status;

CREATE VIEW contactsync.contacts WITH (security_barrier) AS
SELECT e.server, w.source, c.key, c.upsert_key,
	CASE c.action WHEN 'u' THEN 'upsert' WHEN 'n' THEN 'unsubscribe' WHEN 'd' THEN 'delete' END AS action,
	c.synced_at, c.remote_id, c.error, pg_catalog.string_to_array(c.topics, ' ') AS topics
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
CREATE FUNCTION contactsync_resume(source regclass, server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_resume_watch';
COMMENT ON FUNCTION contactsync_resume(regclass, name)
IS 'ends a contactsync_pause() of a watched table';
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
SELECT pg_catalog.pg_extension_config_dump('contactsync.pause', '');
CREATE VIEW contactsync.status WITH (security_barrier) AS
WITH lane AS (
	SELECT e.id AS endpoint, w.id AS watch, w.source FROM contactsync.endpoint e JOIN contactsync.watch w ON w.endpoint = e.id
	UNION ALL
	SELECT e.id, 0, NULL FROM contactsync.endpoint e
	WHERE EXISTS (SELECT FROM contactsync.counter c WHERE c.endpoint = e.id AND c.watch = 0)
		OR EXISTS (SELECT FROM contactsync.queue q WHERE q.endpoint = e.id AND q.watch = 0)
		OR NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.endpoint = e.id)
)
SELECT e.server, l.source, e.role AS owner,
	CASE WHEN e.home <> contactsync.home() OR p.paused_at IS NOT NULL THEN 'paused'
		 WHEN w.state = 'broken' THEN 'broken'
		 WHEN e.state <> 'running' THEN e.state
		 WHEN q.backlog > 0 THEN 'running'
		 ELSE 'idle' END AS state,
	CASE WHEN e.home <> contactsync.home()
		 THEN pg_catalog.format('this database was restored or copied; if no other sends to the server: SELECT contactsync_resume(%L)', e.server)
		 WHEN p.paused_at IS NOT NULL THEN pg_catalog.concat_ws(': ', 'by ' || p.paused_by, p.reason)
		 ELSE COALESCE(w.reason, e.reason, e.memo OPERATOR(pg_catalog.#>>) '{}') END AS reason,
	COALESCE(p.paused_at, w.since, e.since) AS since,
	e.until,
	COALESCE(q.backlog, 0) AS backlog,
	now() - q.oldest AS oldest,
	COALESCE(r.in_flight, 0) AS in_flight,
	r.pace,
	COALESCE(c.synced, 0) AS synced,
	COALESCE(c.unchanged, 0) AS unchanged,
	COALESCE(c.failed, 0) AS failed,
	(SELECT count(*) FROM contactsync.failure f WHERE f.endpoint = e.id AND f.watch = l.watch) AS failures,
	c.last_success, c.last_error, c.last_error_at,
	contactsync.worker_state() AS worker
FROM lane l
	JOIN contactsync.endpoint e ON e.id = l.endpoint
	LEFT JOIN contactsync.watch w ON w.id = l.watch
	LEFT JOIN LATERAL (SELECT paused_by, paused_at, reason FROM contactsync.pause p
					   WHERE p.endpoint = l.endpoint AND p.watch IN (0, l.watch) ORDER BY p.watch LIMIT 1) p ON true
	LEFT JOIN contactsync.counter c ON c.endpoint = l.endpoint AND c.watch = l.watch
	LEFT JOIN contactsync.runtime() r ON r.endpoint = l.endpoint
	LEFT JOIN LATERAL (SELECT sum(n) AS backlog, min(queued_at) AS oldest FROM contactsync.queue q
					   WHERE q.endpoint = l.endpoint AND q.watch = l.watch) q ON true
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.status IS 'one row per server and watch: is it well, and if not, why';
GRANT SELECT ON contactsync.watches, contactsync.changes, contactsync.contacts, contactsync.failures,
	contactsync.calls, contactsync.duplicate, contactsync.remote_contacts, contactsync.status TO PUBLIC;
-- end of pauses, health, failures, calls
