/* contactsync 0.3 */

-- complain if the script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION contactsync" to load this file. \quit

-- ---------------------------------------------------------------------------
-- Public: the foreign data wrapper and what is called by name.  These live in
-- the schema that the extension is created in.
-- ---------------------------------------------------------------------------

CREATE FUNCTION contactsync_fdw_validator(options text[], catalog oid)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_fdw_validator';
COMMENT ON FUNCTION contactsync_fdw_validator(text[], oid)
IS 'checks the options of contactsync servers and user mappings';

CREATE FOREIGN DATA WRAPPER contactsync NO HANDLER VALIDATOR contactsync_fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER contactsync
IS 'accounts at e-mail marketing providers';

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

CREATE FUNCTION contactsync_unwatch(source regclass, server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_unwatch';
COMMENT ON FUNCTION contactsync_unwatch(regclass, name)
IS 'ends the mirroring of a table and forgets what was queued and known for it';

CREATE FUNCTION contactsync_upsert(server name, contact jsonb)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_upsert';
COMMENT ON FUNCTION contactsync_upsert(name, jsonb)
IS 'queues one contact for a server and returns the id of the change';

CREATE PROCEDURE contactsync_run(server name DEFAULT NULL)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_run';
COMMENT ON PROCEDURE contactsync_run(name)
IS 'delivers what is queued in this session, until the queue is empty';

CREATE PROCEDURE contactsync_wait(server name, timeout interval DEFAULT NULL)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_wait';
COMMENT ON PROCEDURE contactsync_wait(name, interval)
IS 'waits until everything queued for a server so far has an outcome';

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

CREATE FUNCTION contactsync_report(period interval DEFAULT '24 hours', personal boolean DEFAULT false)
RETURNS text LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'contactsync_report';
COMMENT ON FUNCTION contactsync_report(interval, boolean)
IS 'how your servers did in a period, as a page of HTML; addresses and messages about contacts only if personal';

CREATE FUNCTION contactsync_retry(server name)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_retry';
COMMENT ON FUNCTION contactsync_retry(name)
IS 'queues the failures of a server again and returns how many';

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

CREATE FUNCTION contactsync_mark_stale(server name, before timestamptz DEFAULT pg_catalog.clock_timestamp())
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_mark_stale';
COMMENT ON FUNCTION contactsync_mark_stale(name, timestamptz)
IS 'trusts nothing that was sent to a server before: a reconciliation sends all of it again; -infinity trusts all of it, as after a failover that lost nothing';

CREATE FUNCTION contactsync_export(source regclass, server name)
RETURNS TABLE (
	email text, external_id text, first_name text, last_name text, phone text, locale text, timezone text,
	opt_in boolean, status text, tags jsonb, topics jsonb, attributes jsonb
)
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_export';
COMMENT ON FUNCTION contactsync_export(regclass, name)
IS 'the contacts of a watched table as they would be sent, for an import of CSV at the provider; of rows that are one contact the last in the order of the key';

CREATE FUNCTION contactsync_verify(
	server name, samples integer DEFAULT 5,
	OUT check_name text, OUT ours text, OUT theirs text, OUT result text, OUT detail text
)
RETURNS SETOF record LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_verify';
COMMENT ON FUNCTION contactsync_verify(name, integer)
IS 'asks the provider what it has, counts and a few contacts field by field, and sets ours beside it; the transaction is open meanwhile';

CREATE FUNCTION contactsync_pull(server name)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_pull';
COMMENT ON FUNCTION contactsync_pull(name)
IS 'brings contacts that changed at the provider since the last time into contactsync.remote_contacts, learns opt-outs from them, and returns how many; the transaction is open meanwhile';

CREATE FUNCTION contactsync_preview(
	server name, contact jsonb, step integer DEFAULT 0, action text DEFAULT 'upsert', state jsonb DEFAULT NULL,
	OUT method text, OUT url text, OUT headers jsonb, OUT body text, OUT curl text,
	OUT upsert_key text[], OUT digest uuid[]
)
RETURNS record LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_preview';
COMMENT ON FUNCTION contactsync_preview(name, jsonb, integer, text, jsonb)
IS 'the request that a contact, or an array of them, would be sent with, secrets redacted';

CREATE FUNCTION contactsync_judge(
	server name, status integer, headers jsonb, body text,
	contacts jsonb DEFAULT NULL, step integer DEFAULT 0, action text DEFAULT 'upsert', state jsonb DEFAULT NULL
)
RETURNS TABLE (
	verdict text, retry_after float8, throttled boolean, next_step integer, at_fault text,
	contact integer, outcome text, reason text, code text, field text,
	message text, remote_id text, remote_status text, note text, opted_out boolean,
	consent_sent boolean, topics text, limitation text, request_id text
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_judge';
COMMENT ON FUNCTION contactsync_judge(name, integer, jsonb, text, jsonb, integer, text, jsonb)
IS 'what would be concluded from such an answer of the provider';

CREATE FUNCTION contactsync_normalize_email(email text)
RETURNS text LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'contactsync_normalize_email';
COMMENT ON FUNCTION contactsync_normalize_email(text)
IS 'an e-mail address as it is sent: trimmed, lower-cased, freed of =20-like artefacts at the ends';

-- ---------------------------------------------------------------------------
-- Tables.  They belong to the extension; nobody else may read or write them.
-- ---------------------------------------------------------------------------

CREATE SCHEMA contactsync;
COMMENT ON SCHEMA contactsync IS 'what contactsync keeps, and views on it';
GRANT USAGE ON SCHEMA contactsync TO PUBLIC;

CREATE TABLE contactsync.endpoint (
	id			integer	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	server_oid	oid		NOT NULL,
	server		name	NOT NULL,
	role		regrole	NOT NULL,
	state		text	NOT NULL DEFAULT 'running'
				CHECK (state IN ('running', 'throttled', 'unavailable', 'halted')),
	reason		text,
	since		timestamptz,
	until		timestamptz,
	pace		float8,
	busy		boolean	NOT NULL DEFAULT false,
	limitation			jsonb,
	pulled_until timestamptz,
	database		text	NOT NULL DEFAULT '',
	timeline	integer	NOT NULL DEFAULT 0,
	stale_before	timestamptz,
	halt_notified		boolean	NOT NULL DEFAULT false,
	UNIQUE (server_oid, role, database)
);
COMMENT ON TABLE contactsync.endpoint
IS 'one row per server and role that sends through it: is it well, and if not, why';
COMMENT ON COLUMN contactsync.endpoint.pace IS 'calls per second that the provider has taught us; null: as configured';
COMMENT ON COLUMN contactsync.endpoint.busy IS 'calls may be under way; still set after a crash, which says that what is queued may have been sent';
COMMENT ON COLUMN contactsync.endpoint.pulled_until IS 'the newest change at the provider that contactsync_pull() has brought, on its clock';
COMMENT ON COLUMN contactsync.endpoint.database IS 'the database that sends to it, as contactsync.database_identity() names it; in any other it is paused';
COMMENT ON COLUMN contactsync.endpoint.timeline IS 'of the cluster, when it was last seen';
COMMENT ON COLUMN contactsync.endpoint.stale_before IS 'what was synced before is not trusted to be what the provider has';
COMMENT ON COLUMN contactsync.endpoint.halt_notified IS 'that it is halted was told by NOTIFY, and that it goes on again was not';
COMMENT ON COLUMN contactsync.endpoint.limitation IS 'what the account does not allow, as its answers show; shown as the reason in status';

CREATE TABLE contactsync.watch (
	id			integer	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	source		regclass NOT NULL,
	endpoint	integer	NOT NULL,
	key			name[]	NOT NULL,
	mapping		jsonb	NOT NULL,
	filter		text,
	search_path	text	NOT NULL,
	on_delete	text	NOT NULL DEFAULT 'ignore'
				CHECK (on_delete IN ('ignore', 'unsubscribe', 'delete')),
	state		text	NOT NULL DEFAULT 'running'
				CHECK (state IN ('running', 'broken', 'guarded')),
	reason		text,
	since		timestamptz,
	released	xid8,
	poll_column	name,
	poll_every	interval NOT NULL DEFAULT '5 min',
	poll_overlap interval NOT NULL DEFAULT '1 min',
	reconcile_every interval,
	reconcile_at time,
	reconcile_next timestamptz,
	created_at	timestamptz NOT NULL DEFAULT now(),
	columns		name[],
	UNIQUE (source, endpoint)
);
COMMENT ON TABLE contactsync.watch IS 'a source table mirrored to an endpoint';
COMMENT ON COLUMN contactsync.watch.columns IS 'of the table, by number, with the names that key, mapping and filter know them by';
COMMENT ON COLUMN contactsync.watch.search_path IS 'of the session that made the watch; mapping and filter are read with it';

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

CREATE SEQUENCE contactsync.queue_id;
CREATE TABLE contactsync.queue (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	xact		xid8	NOT NULL,
	id			bigint	NOT NULL,
	queued_at	timestamptz NOT NULL,
	n			integer	NOT NULL,
	keys		text[],
	contact		jsonb
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000);
ALTER TABLE contactsync.queue ALTER COLUMN keys SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX queue_position ON contactsync.queue (endpoint, watch, xact, id);
COMMENT ON TABLE contactsync.queue
IS 'changes that have no outcome yet: many keys a row, or one contact; neither means that every known contact of the watch is to be looked at';
COMMENT ON COLUMN contactsync.queue.contact IS 'beside keys: they are to be sent whatever was sent before';
COMMENT ON COLUMN contactsync.queue.watch IS '0 for contactsync_upsert()';
COMMENT ON COLUMN contactsync.queue.xact IS 'the transaction that wrote the row: ids alone are not in the order of commits';

CREATE TABLE contactsync.contact (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	key			text	COLLATE "C" NOT NULL,
	upsert_key	text	COLLATE "C",
	email		text,
	action		"char"	NOT NULL,
	digest		uuid,
	synced_at	timestamptz,
	remote_id	text,
	consent_sent boolean NOT NULL DEFAULT false,
	opted_out	boolean NOT NULL DEFAULT false,
	topics		text,
	error		text,
	remote_status text,
	remote_updated_at text,
	PRIMARY KEY (watch, key, endpoint)
) WITH (fillfactor = 70);
-- of those that go by their address, which several rows may have
CREATE INDEX contact_address ON contactsync.contact (upsert_key, endpoint) WHERE email IS NULL AND action = 'u';
COMMENT ON TABLE contactsync.contact
IS 'what was last synced of every source row: one row per watch and key';
COMMENT ON COLUMN contactsync.contact.remote_updated_at IS 'as the provider writes it';
COMMENT ON COLUMN contactsync.contact.email IS 'null: it is the upsert key';
COMMENT ON COLUMN contactsync.contact.action IS 'u upsert, n unsubscribe, d delete';
COMMENT ON COLUMN contactsync.contact.consent_sent IS 'what was last synced claimed consent';
COMMENT ON COLUMN contactsync.contact.opted_out IS 'the provider told us of an opt-out that is not ours';
COMMENT ON COLUMN contactsync.contact.topics IS 'ids of topics that the contact was added to once, and is not again, parted by spaces';
COMMENT ON COLUMN contactsync.contact.digest IS 'of the mapped contact that the provider has; null: not known to have it; zero: another row with this address was sent since';

CREATE TABLE contactsync.remote_contact (
	endpoint	integer	NOT NULL,
	email		text	COLLATE "C" NOT NULL,
	remote_id	text	COLLATE "C",
	external_id	text	COLLATE "C",
	opt_in		boolean,
	locale		text,
	attributes	jsonb,
	updated_at	timestamptz,
	pulled_at	timestamptz NOT NULL,
	PRIMARY KEY (endpoint, email)
);
CREATE INDEX remote_contact_external_id ON contactsync.remote_contact (endpoint, external_id);
CREATE INDEX remote_contact_remote_id ON contactsync.remote_contact (endpoint, remote_id);
COMMENT ON TABLE contactsync.remote_contact IS 'contacts as the provider had them when they were pulled';
COMMENT ON COLUMN contactsync.remote_contact.updated_at IS 'when the contact changed, on the clock of the provider';

CREATE TABLE contactsync.failure (
	id			bigint	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	key			text	COLLATE "C" NOT NULL,
	upsert_key	text,
	reason		text	NOT NULL,
	code		text,
	message		text,
	field		text,
	attempts	integer	NOT NULL,
	first_at	timestamptz NOT NULL,
	last_at		timestamptz NOT NULL,
	request_id	text,
	contact		jsonb,
	ignored		boolean	NOT NULL DEFAULT false,
	digest		uuid,
	UNIQUE (watch, key, endpoint)
);
COMMENT ON TABLE contactsync.failure
IS 'one row per contact that was given up on, with the reason; contactsync_retry() queues them again';
COMMENT ON COLUMN contactsync.failure.ignored IS 'by contactsync_ignore(): hidden until it fails in another way';

CREATE TABLE contactsync.call (
	id			bigint	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	endpoint	integer	NOT NULL,
	started_at	timestamptz NOT NULL,
	duration	interval NOT NULL,
	method		text	NOT NULL,
	path		text	NOT NULL,
	status		integer	NOT NULL,
	verdict		text	NOT NULL,
	contacts	integer	NOT NULL,
	failed		integer	NOT NULL,
	attempt		integer	NOT NULL,
	sent		integer	NOT NULL,
	received	integer	NOT NULL,
	idempotency_key text,
	request_id	text,
	error		text,
	created		integer,
	updated		integer
);
COMMENT ON TABLE contactsync.call IS 'one row per HTTP request, kept by age and count';
COMMENT ON COLUMN contactsync.call.status IS 'HTTP status; 0: no answer';
COMMENT ON COLUMN contactsync.call.created IS 'contacts that were new to the provider, as it counts; null: it did not say';
COMMENT ON COLUMN contactsync.call.sent IS 'bytes of the request body';

CREATE TABLE contactsync.counter (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	synced		bigint	NOT NULL DEFAULT 0,
	unchanged	bigint	NOT NULL DEFAULT 0,
	failed		bigint	NOT NULL DEFAULT 0,
	last_success timestamptz,
	last_error	text,
	last_error_at timestamptz,
	PRIMARY KEY (endpoint, watch)
) WITH (fillfactor = 50);
COMMENT ON TABLE contactsync.counter IS 'how many contacts of a watch had which outcome so far';

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

-- one statement each, for each updates the same row of pg_extension
SELECT pg_catalog.pg_extension_config_dump('contactsync.endpoint', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.endpoint_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.watch', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.watch_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.scan', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.scan_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.pause', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.queue', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.queue_id', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.contact', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.remote_contact', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.failure', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.failure_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.call', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.call_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.counter', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.traced', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.trace', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.trace_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.forgotten', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.stat', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.minute', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.minute_failure', '');

-- ---------------------------------------------------------------------------
-- Views: plural, as with pg_user_mapping and pg_user_mappings; every role sees
-- its own there.
-- ---------------------------------------------------------------------------

CREATE FUNCTION contactsync.runtime(OUT endpoint integer, OUT in_flight integer, OUT pace float8)
RETURNS SETOF record LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_runtime';
COMMENT ON FUNCTION contactsync.runtime()
IS 'what the background worker of this database is doing now, per endpoint';

CREATE FUNCTION contactsync.worker_state()
RETURNS text LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_worker_state';
COMMENT ON FUNCTION contactsync.worker_state()
IS 'of the background worker of this database: running, starting, or not preloaded';

CREATE FUNCTION contactsync.database_identity()
RETURNS text LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'contactsync_database_identity';
COMMENT ON FUNCTION contactsync.database_identity()
IS 'the name of this database, another one in each that it is restored or copied into';

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

CREATE VIEW contactsync.watches WITH (security_barrier) AS
SELECT w.source, e.server, e.role AS owner, w.key, w.mapping, w.filter, w.on_delete, w.state, w.reason, w.created_at,
	w.poll_column, CASE WHEN w.poll_column IS NOT NULL THEN w.poll_every END AS poll_every,
	w.reconcile_every, w.reconcile_at, w.reconcile_next
FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.watches IS 'the watches of the roles that you are';

CREATE VIEW contactsync.changes WITH (security_barrier) AS
SELECT e.server, w.source, k.key, CASE WHEN q.watch = 0 THEN q.id END AS id, CASE WHEN q.keys IS NULL THEN q.contact END AS contact, q.queued_at
FROM contactsync.queue q
	JOIN contactsync.endpoint e ON e.id = q.endpoint
	LEFT JOIN contactsync.watch w ON w.id = q.watch
	LEFT JOIN LATERAL pg_catalog.unnest(q.keys) AS k (key) ON true
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.changes
IS 'the queue, one row per key, or per contact with the id that contactsync_upsert() returned; neither: all that is known of the source is to be looked at';

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

CREATE VIEW contactsync.duplicates WITH (security_barrier) AS
SELECT e.server, e.role AS owner, s.upsert_key, pg_catalog.sum(s.rows)::bigint AS rows,
	pg_catalog.jsonb_object_agg(s.source::pg_catalog.text, s.keys) AS keys
FROM (SELECT c.endpoint, w.source, c.upsert_key, pg_catalog.count(*) AS rows,
			pg_catalog.array_agg(c.key ORDER BY c.key) AS keys
		FROM contactsync.contact c JOIN contactsync.watch w ON w.id = c.watch AND w.endpoint = c.endpoint
		WHERE c.action = 'u' AND c.upsert_key IS NOT NULL
		GROUP BY c.endpoint, w.source, c.upsert_key) s
	JOIN contactsync.endpoint e ON e.id = s.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE')
GROUP BY e.id, e.server, e.role, s.upsert_key
HAVING pg_catalog.sum(s.rows) > 1;
COMMENT ON VIEW contactsync.duplicates
IS 'source rows that are one contact at the provider, as of when they were sent: of these the last change wins';
COMMENT ON COLUMN contactsync.duplicates.keys IS 'the keys of the rows, by the table that they are in';

CREATE VIEW contactsync.remote_contacts WITH (security_barrier) AS
SELECT e.server, e.role AS owner, r.email, r.external_id, r.remote_id, r.opt_in, r.locale, r.attributes, r.updated_at, r.pulled_at
FROM contactsync.remote_contact r JOIN contactsync.endpoint e ON e.id = r.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.remote_contacts IS 'contacts as the provider had them when contactsync_pull() brought them';

CREATE VIEW contactsync.failures WITH (security_barrier) AS
SELECT f.id, e.server, w.source, f.key, f.upsert_key, f.reason, f.code, f.message, f.field,
	f.attempts, f.first_at, f.last_at, f.request_id
FROM contactsync.failure f
	JOIN contactsync.endpoint e ON e.id = f.endpoint
	LEFT JOIN contactsync.watch w ON w.id = f.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE') AND NOT f.ignored;
COMMENT ON VIEW contactsync.failures IS 'contacts that were given up on, with the reason';

CREATE VIEW contactsync.calls WITH (security_barrier) AS
SELECT c.id, e.server, c.started_at, c.duration, c.method, c.path, c.status, c.verdict, c.contacts, c.failed,
	c.attempt, c.sent, c.received, c.idempotency_key, c.request_id, c.error, c.created, c.updated
FROM contactsync.call c JOIN contactsync.endpoint e ON e.id = c.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.calls IS 'the HTTP requests of late, one row each';

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
		CASE WHEN e.database <> contactsync.database_identity() OR p.paused_at IS NOT NULL THEN 'paused'
			 WHEN w.state <> 'running' THEN w.state
			 WHEN e.state <> 'running' THEN e.state
			 WHEN q.contacts > 0 THEN 'running'
			 ELSE 'idle' END AS state,
		CASE WHEN e.database <> contactsync.database_identity()
			 THEN pg_catalog.format('this database was restored or copied; if no other sends to the server: SELECT contactsync_resume(%L)', e.server)
			 WHEN p.paused_at IS NOT NULL THEN pg_catalog.concat_ws(': ', 'by ' || p.paused_by, p.reason)
			 WHEN w.state <> 'running' THEN w.reason
			 ELSE COALESCE(e.reason, e.limitation OPERATOR(pg_catalog.#>>) '{}') END AS reason,
		COALESCE(p.paused_at, CASE WHEN w.state <> 'running' THEN w.since END, e.since, w.created_at) AS since,
		e.until, CASE WHEN e.database <> contactsync.database_identity() THEN 0 ELSE p.watch END AS paused, COALESCE(q.contacts, 0) AS backlog, q.oldest
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

GRANT SELECT ON contactsync.progress, contactsync.watches, contactsync.changes, contactsync.contacts, contactsync.failures,
	contactsync.calls, contactsync.duplicates, contactsync.remote_contacts, contactsync.status, contactsync.stats,
	contactsync.latencies, contactsync.history, contactsync.traces TO PUBLIC;

-- ---------------------------------------------------------------------------
-- Private.
-- ---------------------------------------------------------------------------

CREATE FUNCTION contactsync.capture()
RETURNS trigger LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_capture';
COMMENT ON FUNCTION contactsync.capture()
IS 'trigger that notes which rows of a watched table changed; made by contactsync_watch()';
-- whoever makes a partition needs EXECUTE; a trigger that belongs to no watch does nothing
GRANT EXECUTE ON FUNCTION contactsync.capture() TO PUBLIC;

CREATE FUNCTION contactsync.note_ddl()
RETURNS event_trigger LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_note_ddl';
COMMENT ON FUNCTION contactsync.note_ddl()
IS 'event trigger by which watches follow columns and servers that are renamed, and tables that come to inherit from theirs';
REVOKE ALL ON FUNCTION contactsync.note_ddl() FROM PUBLIC;

CREATE FUNCTION contactsync.note_drop()
RETURNS event_trigger LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_note_drop';
COMMENT ON FUNCTION contactsync.note_drop()
IS 'event trigger that ends watches with their tables and servers';
REVOKE ALL ON FUNCTION contactsync.note_drop() FROM PUBLIC;

CREATE EVENT TRIGGER contactsync_ddl ON ddl_command_end
WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE', 'ALTER SERVER')
EXECUTE FUNCTION contactsync.note_ddl();
COMMENT ON EVENT TRIGGER contactsync_ddl IS 'watches follow their tables and servers';

CREATE EVENT TRIGGER contactsync_drop ON sql_drop EXECUTE FUNCTION contactsync.note_drop();
COMMENT ON EVENT TRIGGER contactsync_drop IS 'watches end with their tables and servers';

CREATE FUNCTION contactsync.launch()
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_launch';
COMMENT ON FUNCTION contactsync.launch()
IS 'has the background worker of this database started when the transaction commits';
REVOKE ALL ON FUNCTION contactsync.launch() FROM PUBLIC;

SELECT contactsync.launch();
