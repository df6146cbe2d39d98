/* contactsync 0.3 */

-- Complain if the script is sourced in psql rather than run by CREATE EXTENSION.
\echo Use "CREATE EXTENSION contactsync" to load this file. \quit

-- Names are resolved in pg_catalog alone. Without this, CREATE EXTENSION looks for operators in the extension's schema too,
-- where somebody else may have created one.
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
BEGIN
	IF pg_catalog.to_regnamespace('contactsync') IS NOT NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'duplicate_schema',
			MESSAGE = 'schema "contactsync" already exists',
			DETAIL = 'The extension creates this schema for its tables and views.',
			HINT = 'Rename the schema with ALTER SCHEMA contactsync RENAME TO ..., or drop it, and run CREATE EXTENSION again.';
	END IF;
END
$$;

-- ---------------------------------------------------------------------------
-- Public: the foreign data wrapper and the functions that users call.  They are
-- created in the schema of the extension.
-- ---------------------------------------------------------------------------

CREATE FUNCTION @extschema@.contactsync_fdw_validator(options text[], catalog oid)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_fdw_validator';
COMMENT ON FUNCTION @extschema@.contactsync_fdw_validator(text[], oid)
IS 'checks the options of contactsync servers and user mappings';

CREATE FOREIGN DATA WRAPPER contactsync NO HANDLER VALIDATOR @extschema@.contactsync_fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER contactsync IS 'accounts at e-mail marketing providers';

CREATE FUNCTION @extschema@.contactsync_watch(
	source		regclass,
	server		name,
	mapping		jsonb	DEFAULT NULL,
	filter		text	DEFAULT NULL,
	key			name[]	DEFAULT NULL,
	on_delete	text	DEFAULT 'ignore',
	always		"any"	DEFAULT false,
	capture		text	DEFAULT 'trigger',
	poll_column	name	DEFAULT NULL,
	poll_every	interval DEFAULT '5 min',
	poll_overlap interval DEFAULT '1 min',
	reconcile_every interval DEFAULT NULL,
	reconcile_at time	DEFAULT NULL,
	claims		text	DEFAULT 'new',
	delete_delay interval DEFAULT '1 min',
	delete_guard text	DEFAULT NULL,
	related		jsonb	DEFAULT NULL
)
RETURNS integer LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_watch';
COMMENT ON FUNCTION @extschema@.contactsync_watch(regclass, name, jsonb, text, name[], text, "any", text, name, interval, interval, interval, time, text, interval, text, jsonb)
IS 'mirrors a table into a server: from here on every committed change reaches the provider';

CREATE FUNCTION @extschema@.contactsync_suggest(source regclass, server name)
RETURNS TABLE (field text, expression text, reason text) LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_suggest';
COMMENT ON FUNCTION @extschema@.contactsync_suggest(regclass, name)
IS 'suggests a mapping by the names and types of columns: one row per field with its expression and why, then fields that are missing (without an expression), then columns that are left out (without a field); a NOTICE has the statement to paste';

CREATE FUNCTION @extschema@.contactsync_suggest_mapping(source regclass, server name, opt_in text DEFAULT NULL)
RETURNS jsonb LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_suggest_mapping';
COMMENT ON FUNCTION @extschema@.contactsync_suggest_mapping(regclass, name, text)
IS 'returns the mapping that contactsync_suggest() suggests, for contactsync_watch(); with opt_in, an expression that says who wants mail; raises an error if something is missing';

CREATE FUNCTION @extschema@.contactsync_alter_watch(
	source		regclass,
	server		name,
	mapping		jsonb	DEFAULT NULL,
	filter		text	DEFAULT NULL,
	on_delete	text	DEFAULT NULL,
	always		"any"	DEFAULT NULL,
	poll_column	name	DEFAULT NULL,
	poll_every	interval DEFAULT NULL,
	poll_overlap interval DEFAULT NULL,
	reconcile_every interval DEFAULT NULL,
	reconcile_at time	DEFAULT NULL,
	claims		text	DEFAULT NULL,
	delete_delay interval DEFAULT NULL,
	delete_guard text	DEFAULT NULL,
	related		jsonb	DEFAULT NULL
)
RETURNS bigint LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_alter_watch';
COMMENT ON FUNCTION @extschema@.contactsync_alter_watch(regclass, name, jsonb, text, text, "any", name, interval, interval, interval, time, text, interval, text, jsonb)
IS 'changes what is given of a watch in place, a filter of '''', reconcile_every of 0 or related of {} to none, and returns how many contacts differ now from what was sent; null: not counted';

CREATE FUNCTION @extschema@.contactsync_unwatch(source regclass, server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_unwatch';
COMMENT ON FUNCTION @extschema@.contactsync_unwatch(regclass, name)
IS 'stops mirroring a table and deletes what was queued and stored for it, but keeps what the provider has; of several roles'' watches, drops that of the caller';

CREATE FUNCTION @extschema@.contactsync_upsert(server name, contact jsonb)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_upsert';
COMMENT ON FUNCTION @extschema@.contactsync_upsert(name, jsonb)
IS 'queues one contact for a server and returns the ID of the change';

CREATE PROCEDURE @extschema@.contactsync_run(server name DEFAULT NULL)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_run';
COMMENT ON PROCEDURE @extschema@.contactsync_run(name)
IS 'delivers what the caller has queued, in this session, until nothing is left; where a worker runs, has that deliver and waits';

CREATE PROCEDURE @extschema@.contactsync_wait(server name, timeout interval DEFAULT NULL)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_wait';
COMMENT ON PROCEDURE @extschema@.contactsync_wait(name, interval)
IS 'waits until everything that is queued for a server now has an outcome; says at once what keeps it, and fails if that does not pass by itself';

CREATE FUNCTION @extschema@.contactsync_import(
	source		regclass,
	server		name,
	filter		text	DEFAULT NULL,
	rate		float8	DEFAULT NULL,
	automations	text	DEFAULT NULL,
	dry_run		boolean	DEFAULT false,
	claims		text	DEFAULT NULL
)
RETURNS TABLE (outcome text, reason text, rows bigint, contacts bigint, keys text[], message text) LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_import';
COMMENT ON FUNCTION @extschema@.contactsync_import(regclass, name, text, float8, text, boolean, text)
IS 'sends the rows of a watched table that were not sent yet, in the background; dry_run counts them instead: per outcome and reason the rows, the contacts that these are, some of their keys, and a message';

CREATE FUNCTION @extschema@.contactsync_reconcile(
	source		regclass,
	server		name,
	filter		text	DEFAULT NULL,
	rate		float8	DEFAULT NULL,
	automations	text	DEFAULT NULL,
	dry_run		boolean	DEFAULT false,
	claims		text	DEFAULT NULL
)
RETURNS TABLE (outcome text, reason text, rows bigint, contacts bigint, keys text[], message text) LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_reconcile';
COMMENT ON FUNCTION @extschema@.contactsync_reconcile(regclass, name, text, float8, text, boolean, text)
IS 'compares all rows of a watched table with what was last sent, and sends those that differ, in the background; rows that have gone follow on_delete; dry_run counts instead: per outcome and reason the rows, the contacts that these are, some of their keys, and a message';

CREATE FUNCTION @extschema@.contactsync_cancel(source regclass, server name)
RETURNS boolean LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_cancel';
COMMENT ON FUNCTION @extschema@.contactsync_cancel(regclass, name)
IS 'ends an import or reconciliation of a watched table; returns false if none was running';

CREATE FUNCTION @extschema@.contactsync_pause(server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_pause_server';
COMMENT ON FUNCTION @extschema@.contactsync_pause(name)
IS 'stops sending to a server until contactsync_resume(); changes are still queued, and calls in flight complete';

CREATE FUNCTION @extschema@.contactsync_pause(source regclass, server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_pause_watch';
COMMENT ON FUNCTION @extschema@.contactsync_pause(regclass, name)
IS 'stops sending rows of a watched table until contactsync_resume(); changes are still queued, and calls in flight complete';

CREATE FUNCTION @extschema@.contactsync_resume(server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_resume_server';
COMMENT ON FUNCTION @extschema@.contactsync_resume(name)
IS 'ends contactsync_pause() of a server; watches that were paused individually stay paused; in a database that was restored or copied, starts sending from that database';

CREATE FUNCTION @extschema@.contactsync_resume(source regclass, server name, automations text DEFAULT NULL, removals text DEFAULT NULL)
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_resume_watch';
COMMENT ON FUNCTION @extschema@.contactsync_resume(regclass, name, text, text)
IS 'ends a contactsync_pause() of a watched table; with automations, paused or accepted, also that it is held by the bulk guard; with removals, accepted or kept, also that it is held by its delete_guard';

CREATE FUNCTION @extschema@.contactsync_stats_reset()
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_stats_reset_all';
COMMENT ON FUNCTION @extschema@.contactsync_stats_reset()
IS 'resets the counters in contactsync.stats to zero';

CREATE FUNCTION @extschema@.contactsync_stats_reset(server name)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_stats_reset';
COMMENT ON FUNCTION @extschema@.contactsync_stats_reset(name)
IS 'resets the counters of a server in contactsync.stats to zero';

CREATE FUNCTION @extschema@.contactsync_report(period interval DEFAULT '24 hours', personal boolean DEFAULT false)
RETURNS text LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'contactsync_report';
COMMENT ON FUNCTION @extschema@.contactsync_report(interval, boolean)
IS 'returns an HTML page about the caller''s servers during a period; it contains addresses and messages about contacts only if personal is true';

CREATE FUNCTION @extschema@.contactsync_retry(server name)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_retry';
COMMENT ON FUNCTION @extschema@.contactsync_retry(name)
IS 'queues the failures of a server again and returns their number';

CREATE FUNCTION @extschema@.contactsync_retry(source regclass, server name)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_retry_watch';
COMMENT ON FUNCTION @extschema@.contactsync_retry(regclass, name)
IS 'queues the failures of a watched table again and returns their number';

CREATE FUNCTION @extschema@.contactsync_retry(failures bigint[])
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_retry_failures';
COMMENT ON FUNCTION @extschema@.contactsync_retry(bigint[])
IS 'queues the given failures again, including ignored ones, and returns their number';

CREATE FUNCTION @extschema@.contactsync_retry_reason(server name, reason text)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_retry_reason';
COMMENT ON FUNCTION @extschema@.contactsync_retry_reason(name, text)
IS 'queues the failures of a server with the given reason again and returns their number';

CREATE FUNCTION @extschema@.contactsync_ignore(failures bigint[])
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_ignore';
COMMENT ON FUNCTION @extschema@.contactsync_ignore(bigint[])
IS 'hides the given failures and stops counting them until the contact fails differently, or erases what was kept of persons who are forgotten and whose removal the provider refused; returns their number';

CREATE FUNCTION @extschema@.contactsync_touch(source regclass, server name, VARIADIC keys "any")
RETURNS bigint LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_touch';
COMMENT ON FUNCTION @extschema@.contactsync_touch(regclass, name, "any")
IS 'queues the rows of a watched table with the given keys, even if they did not change, and returns their number';

CREATE FUNCTION @extschema@.contactsync_trace(server name, contact text, "on" boolean DEFAULT true)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_trace';
COMMENT ON FUNCTION @extschema@.contactsync_trace(name, text, boolean)
IS 'records complete calls about the contact with an address or upsert key in contactsync.traces, without secrets, for a week at most';

CREATE FUNCTION @extschema@.contactsync_trace_row(source regclass, server name, key "any", "on" boolean DEFAULT true)
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_trace_row';
COMMENT ON FUNCTION @extschema@.contactsync_trace_row(regclass, name, "any", boolean)
IS 'records complete calls about a row of a watched table in contactsync.traces, without secrets, for a week at most';

CREATE FUNCTION @extschema@.contactsync_find(email text)
RETURNS TABLE (at timestamptz, server name, source regclass, key text, event text, detail jsonb)
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_find';
COMMENT ON FUNCTION @extschema@.contactsync_find(text)
IS 'returns everything that contactsync stores about a person, in chronological order';

CREATE FUNCTION @extschema@.contactsync_forget(email text, suppression boolean DEFAULT true)
RETURNS TABLE (what text, rows bigint)
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_forget_email';
COMMENT ON FUNCTION @extschema@.contactsync_forget(text, boolean)
IS 'erases everything that contactsync stores about a person, except, unless suppression is false, a keyed hash of the address with which nobody is subscribed again by a row that is still there, and with which the contact is not removed until that row has been read again; completes removals at the provider of contacts whose rows have gone, and erases nothing else there; returns the number of rows by kind';

CREATE FUNCTION @extschema@.contactsync_forget(source regclass, server name, key "any", suppression boolean DEFAULT true)
RETURNS TABLE (what text, rows bigint)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_forget_row';
COMMENT ON FUNCTION @extschema@.contactsync_forget(regclass, name, "any", boolean)
IS 'erases everything that contactsync stores about a row of a watched table, and about the contact if no other row stands for it, except, unless suppression is false, a keyed hash of the address, and of the contact if the row is still there; completes the removal at the provider if the row has gone, and erases nothing else there; returns the number of rows by kind';

CREATE FUNCTION @extschema@.contactsync_mark_stale(server name, before timestamptz DEFAULT pg_catalog.clock_timestamp(),
	claims text DEFAULT 'keep')
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_mark_stale';
COMMENT ON FUNCTION @extschema@.contactsync_mark_stale(name, timestamptz, text)
IS 'stops trusting what was sent to a server before a time, so that a reconciliation sends all of it again; with claims => ''again'', consent that was claimed before is claimed again, except of people who are known to have opted out; -infinity trusts all of it, as after a failover without loss';

CREATE FUNCTION @extschema@.contactsync_export(source regclass, server name)
RETURNS TABLE (
	email text, external_id text, first_name text, last_name text, phone text, locale text, timezone text,
	opt_in boolean, opt_in_at timestamptz, status text, tags jsonb, topics jsonb, attributes jsonb
)
LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_export';
COMMENT ON FUNCTION @extschema@.contactsync_export(regclass, name)
IS 'returns the contacts of a watched table as they would be sent, for a CSV import at the provider; of several rows for one contact, the last in key order';

CREATE FUNCTION @extschema@.contactsync_verify(
	server name, samples integer DEFAULT 5,
	OUT check_name text, OUT ours text, OUT theirs text, OUT result text, OUT detail text
)
RETURNS SETOF record LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_verify';
COMMENT ON FUNCTION @extschema@.contactsync_verify(name, integer)
IS 'compares the provider''s counts and a few of its contacts, field by field, with what was sent; the transaction stays open during the calls';

CREATE FUNCTION @extschema@.contactsync_pull(server name)
RETURNS bigint LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_pull';
COMMENT ON FUNCTION @extschema@.contactsync_pull(name)
IS 'fetches the contacts that changed at the provider since the last time into contactsync.remote_contacts, stores their opt-outs, and returns their number; the transaction stays open during the calls';

CREATE FUNCTION @extschema@.contactsync_preview(
	server name, contact jsonb, step integer DEFAULT 0, action text DEFAULT 'upsert', state jsonb DEFAULT NULL,
	OUT method text, OUT url text, OUT headers jsonb, OUT body text, OUT curl text,
	OUT upsert_key text[], OUT digest uuid[]
)
RETURNS record LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_preview';
COMMENT ON FUNCTION @extschema@.contactsync_preview(name, jsonb, integer, text, jsonb)
IS 'returns the request that would be sent for a contact or an array of contacts, with secrets redacted';

CREATE FUNCTION @extschema@.contactsync_preview(source regclass, server name, keys anyarray)
RETURNS TABLE (
	key text, outcome text, reason text, message text, contact jsonb, consent text, difference text,
	sent_at timestamptz, upsert_key text, method text, url text, body text, curl text
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_preview_rows';
COMMENT ON FUNCTION @extschema@.contactsync_preview(regclass, name, anyarray)
IS 'returns what would be sent of the rows of a watched table with the given keys: the contact, the request that it would go in alone, or why it would not be sent, and how it differs from what was sent last';

CREATE FUNCTION @extschema@.contactsync_try(
	source		regclass,
	server		name,
	mapping		jsonb	DEFAULT NULL,
	filter		text	DEFAULT NULL,
	key_columns	name[]	DEFAULT NULL,
	keys		anyarray DEFAULT NULL::text[],
	rows		integer	DEFAULT 10
)
RETURNS TABLE (
	key text, outcome text, reason text, message text, contact jsonb, consent text, difference text,
	sent_at timestamptz, upsert_key text, method text, url text, body text, curl text
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_try';
COMMENT ON FUNCTION @extschema@.contactsync_try(regclass, name, jsonb, text, name[], anyarray, integer)
IS 'returns the same as contactsync_preview() for rows of a table that is not watched, with a mapping and a filter as contactsync_watch() takes them: of the first rows in the order of the key, or of those with the given keys';

CREATE FUNCTION @extschema@.contactsync_judge(
	server name, status integer, headers jsonb, body text,
	contacts jsonb DEFAULT NULL, step integer DEFAULT 0, action text DEFAULT 'upsert', state jsonb DEFAULT NULL
)
RETURNS TABLE (
	verdict text, retry_after float8, throttled boolean, next_step integer, at_fault text,
	contact integer, outcome text, reason text, code text, field text,
	message text, remote_id text, remote_status text, note text, opted_out boolean,
	claimed boolean, topics text, limitation text, request_id text
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_judge';
COMMENT ON FUNCTION @extschema@.contactsync_judge(name, integer, jsonb, text, jsonb, integer, text, jsonb)
IS 'returns the conclusions that would be drawn from an answer of the provider';

CREATE FUNCTION @extschema@.contactsync_define(name text, definition jsonb)
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_define';
COMMENT ON FUNCTION @extschema@.contactsync_define(text, jsonb)
IS 'defines a provider, or replaces the caller''s definition of it, for the servers of the caller; definitions of the owner of the extension are for all roles';

CREATE FUNCTION @extschema@.contactsync_undefine(name text)
RETURNS void LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_undefine';
COMMENT ON FUNCTION @extschema@.contactsync_undefine(text)
IS 'deletes the caller''s definition of a provider, unless a server uses it';

CREATE FUNCTION @extschema@.contactsync_providers()
RETURNS TABLE (
	name text, title text, origin text, owner regrole, fields text[], batch_size integer, pace float8, problem text, definition jsonb
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_providers';
COMMENT ON FUNCTION @extschema@.contactsync_providers()
IS 'returns the providers that the caller''s servers can have: built-in, own, shared by the owner of the extension, and shipped ones; the latter with their definition, or with what is wrong with it';

CREATE FUNCTION @extschema@.contactsync_check_definition(name text, examples jsonb DEFAULT NULL)
RETURNS TABLE (example text, part text, ok boolean, expected jsonb, found jsonb)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_check_definition';
COMMENT ON FUNCTION @extschema@.contactsync_check_definition(text, jsonb)
IS 'runs examples through the definition of a provider, by default those that it contains, and returns for each what is expected and found; nothing is sent';

CREATE FUNCTION @extschema@.contactsync_check_definition(definition jsonb, examples jsonb DEFAULT NULL)
RETURNS TABLE (example text, part text, ok boolean, expected jsonb, found jsonb)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_check_definition';
COMMENT ON FUNCTION @extschema@.contactsync_check_definition(jsonb, jsonb)
IS 'does the same with a definition that is not stored';

CREATE FUNCTION @extschema@.contactsync_preview(
	definition jsonb, contact jsonb, step integer DEFAULT 0, action text DEFAULT 'upsert', state jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL,
	OUT method text, OUT url text, OUT headers jsonb, OUT body text, OUT curl text,
	OUT upsert_key text[], OUT digest uuid[]
)
RETURNS record LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_preview_definition';
COMMENT ON FUNCTION @extschema@.contactsync_preview(jsonb, jsonb, integer, text, jsonb, jsonb)
IS 'returns the request that a server with the definition, or with the provider that the JSON string names, and with the options would send';

CREATE FUNCTION @extschema@.contactsync_judge(
	definition jsonb, status integer, headers jsonb, body text,
	contacts jsonb DEFAULT NULL, step integer DEFAULT 0, action text DEFAULT 'upsert', state jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL
)
RETURNS TABLE (
	verdict text, retry_after float8, throttled boolean, next_step integer, at_fault text,
	contact integer, outcome text, reason text, code text, field text,
	message text, remote_id text, remote_status text, note text, opted_out boolean,
	claimed boolean, topics text, limitation text, request_id text
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_judge_definition';
COMMENT ON FUNCTION @extschema@.contactsync_judge(jsonb, integer, jsonb, text, jsonb, integer, text, jsonb, jsonb)
IS 'returns the conclusions that a server with the definition, or with the provider that the JSON string names, and with the options would draw from an answer';

CREATE FUNCTION @extschema@.contactsync_try(
	source		regclass,
	definition	jsonb,
	mapping		jsonb	DEFAULT NULL,
	filter		text	DEFAULT NULL,
	key_columns	name[]	DEFAULT NULL,
	keys		anyarray DEFAULT NULL::text[],
	rows		integer	DEFAULT 10,
	options		jsonb	DEFAULT NULL
)
RETURNS TABLE (
	key text, outcome text, reason text, message text, contact jsonb, consent text, difference text,
	sent_at timestamptz, upsert_key text, method text, url text, body text, curl text
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_try_definition';
COMMENT ON FUNCTION @extschema@.contactsync_try(regclass, jsonb, jsonb, text, name[], anyarray, integer, jsonb)
IS 'returns the same for a server that does not exist: with the definition, or the provider that the JSON string names, and the options';

CREATE FUNCTION @extschema@.contactsync_normalize_email(email text)
RETURNS text LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'contactsync_normalize_email';
COMMENT ON FUNCTION @extschema@.contactsync_normalize_email(text)
IS 'returns an e-mail address as it would be sent: in lower case, without white space and artefacts such as =20 at either end';

-- ---------------------------------------------------------------------------
-- Tables.  Only the owner of the extension may read and write them.
-- ---------------------------------------------------------------------------

CREATE SCHEMA contactsync;
COMMENT ON SCHEMA contactsync IS 'data of contactsync, and views of it';
GRANT USAGE ON SCHEMA contactsync TO PUBLIC;

CREATE TABLE contactsync.endpoint (
	id			integer	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	server_oid	oid		NOT NULL,
	server		name	NOT NULL,
	role		regrole	NOT NULL,
	account		integer,
	state		text	NOT NULL DEFAULT 'running'
				CHECK (state IN ('running', 'throttled', 'unavailable', 'halted')),
	reason		text,
	since		timestamptz,
	until		timestamptz,
	pace		float8,
	busy		boolean	NOT NULL DEFAULT false,
	limitation			jsonb,
	pulled_until timestamptz,
	learned_at	timestamptz,
	unlearnable	text,
	pull_error	text,
	database		text	NOT NULL DEFAULT '',
	timeline	integer	NOT NULL DEFAULT 0,
	stale_before	timestamptz,
	reclaim_before	timestamptz,
	halt_notified		boolean	NOT NULL DEFAULT false,
	breaker		text	CHECK (breaker IN ('open', 'released')),
	UNIQUE (server_oid, role, database)
);
COMMENT ON TABLE contactsync.endpoint
IS 'one row per server and role that sends through it: its state, and the reason if it is not well';
COMMENT ON COLUMN contactsync.endpoint.pace
IS 'calls per second that the provider allows, as learned from its answers; null: as configured';
COMMENT ON COLUMN contactsync.endpoint.busy
IS 'calls may be in flight; if this is still set after a crash, what is queued may have been sent';
COMMENT ON COLUMN contactsync.endpoint.pulled_until
IS 'time of the newest change that contactsync_pull() fetched, on the provider''s clock';
COMMENT ON COLUMN contactsync.endpoint.learned_at IS 'when all contacts at the provider were last listed completely';
COMMENT ON COLUMN contactsync.endpoint.unlearnable IS 'why they cannot be listed: claims decides then';
COMMENT ON COLUMN contactsync.endpoint.pull_error IS 'why the last request for a page of them failed; null: it did not';
COMMENT ON COLUMN contactsync.endpoint.database
IS 'database that sends to the server, as named by contactsync.database_identity(); in any other database the server is paused';
COMMENT ON COLUMN contactsync.endpoint.timeline
IS 'timeline of the cluster when the worker last looked';
COMMENT ON COLUMN contactsync.endpoint.stale_before
IS 'what was sent before this time is not trusted to be what the provider has';
COMMENT ON COLUMN contactsync.endpoint.reclaim_before
IS 'consent of contacts that were sent before that time is claimed again, where the row still says yes; null: of none';
COMMENT ON COLUMN contactsync.endpoint.halt_notified
IS 'NOTIFY reported that the server halted, and has not yet reported that it recovered';
COMMENT ON COLUMN contactsync.endpoint.breaker
IS 'open: halted because contacts were refused one like another; released: they are to fail, until one does not; null: neither';
COMMENT ON COLUMN contactsync.endpoint.limitation
IS 'what the account does not allow, as the provider''s answers show; the reason in contactsync.status';

CREATE TABLE contactsync.provider (
	role		regrole	NOT NULL,
	name		text	NOT NULL,
	definition	jsonb	NOT NULL,
	changed_at	timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (role, name)
);
COMMENT ON TABLE contactsync.provider
IS 'one row per provider that a role has defined: for the servers of that role, or of all if it is the owner of the extension';

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
	claims		text	NOT NULL DEFAULT 'new' CHECK (claims IN ('new', 'all')),
	delete_delay interval NOT NULL DEFAULT '1 min',
	delete_guard text,
	complete	boolean	NOT NULL DEFAULT false,
	removals_until timestamptz,
	mapped_at	timestamptz,
	removed		integer	NOT NULL DEFAULT 0,
	removed_since timestamptz,
	types		regtype[],
	known_as	name[],
	value_types	jsonb,
	alias		name,
	UNIQUE (source, endpoint)
);
COMMENT ON TABLE contactsync.watch IS 'a source table mirrored to an endpoint';
COMMENT ON COLUMN contactsync.watch.columns IS 'of the table, by number, with the names that key, mapping and filter know them by';
COMMENT ON COLUMN contactsync.watch.types IS 'of these columns, as far as the watch uses them, when it was made: it breaks when one changes';
COMMENT ON COLUMN contactsync.watch.value_types IS 'of fields and attributes at the provider, when the mapping was checked there: values are converted to them';
COMMENT ON COLUMN contactsync.watch.alias IS 'name by which mapping and filter call the source: the one that it had when they were written';
COMMENT ON COLUMN contactsync.watch.search_path IS 'of the session that made the watch; mapping and filter are read with it';

COMMENT ON COLUMN contactsync.watch.state IS 'broken: cannot be read; guarded: held by the bulk guard or by delete_guard until contactsync_resume()';
COMMENT ON COLUMN contactsync.watch.reason IS 'why it is broken or guarded; running: what keeps rows from being read for now';
COMMENT ON COLUMN contactsync.watch.released IS 'the transaction of the last contactsync_resume() of a held watch: the guard does not count what was queued before';
COMMENT ON COLUMN contactsync.watch.poll_column IS 'tells when a row of the source changed, which is polled; null: it has triggers';
COMMENT ON COLUMN contactsync.watch.claims IS 'new: consent is claimed of contacts that the provider does not know, and by words of the person; all: of every contact without an opt-out';
COMMENT ON COLUMN contactsync.watch.delete_delay IS 'how long a contact without a row is left at the provider';
COMMENT ON COLUMN contactsync.watch.delete_guard IS 'more removals within a minute or a scan are held: a number, or a share such as 5%; off: never; null: as preset';
COMMENT ON COLUMN contactsync.watch.complete IS 'all rows of the source were read once, so that it is known whose contact has no row';
COMMENT ON COLUMN contactsync.watch.removals_until IS 'contactsync_resume() let go on the removals of contacts that were left until then';
COMMENT ON COLUMN contactsync.watch.mapped_at IS 'when it was altered: digests that were stored before are of another mapping';
COMMENT ON COLUMN contactsync.watch.known_as IS 'schema and name of the source when the watch was made or altered: another table may have them since';
COMMENT ON COLUMN contactsync.watch.removed IS 'contacts that were removed since removed_since, for the guard';
COMMENT ON COLUMN contactsync.watch.reconcile_next IS 'when the next reconciliation begins by itself';

CREATE TABLE contactsync.related (
	id			integer	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	relation	regclass NOT NULL,
	name		text	NOT NULL,
	columns		name[]	NOT NULL,
	related_columns name[] NOT NULL,
	numbers		int2[]	NOT NULL,
	column_numbers int2[] NOT NULL,
	kind		"char"	NOT NULL DEFAULT 's' CHECK (kind IN ('s', 'b', 'j')),
	derived		boolean	NOT NULL DEFAULT false
);
CREATE INDEX related_relation ON contactsync.related (relation);
CREATE INDEX related_watch ON contactsync.related (watch);
COMMENT ON TABLE contactsync.related
IS 'a table that the mapping or filter of a watch uses, and the columns by which rows of the source refer to its rows';
COMMENT ON COLUMN contactsync.related.name IS 'of the table when the watch was made or altered, for messages';
COMMENT ON COLUMN contactsync.related.columns IS 'of the source, or of the base, each of which equals one of related_columns';
COMMENT ON COLUMN contactsync.related.numbers IS 'of related_columns, by which columns that were renamed are recognized';
COMMENT ON COLUMN contactsync.related.column_numbers IS 'of columns, likewise';
COMMENT ON COLUMN contactsync.related.kind IS 's: rows of the source refer to it; b: the source is a view, and it is the table that the key is of, its base; j: rows of the base refer to it';
COMMENT ON COLUMN contactsync.related.derived IS 'it was found by taking the view apart, rather than named by the user';

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
	claims		text	CHECK (claims IN ('new', 'all')),
	total		bigint	NOT NULL DEFAULT 0,
	done		bigint	NOT NULL DEFAULT 0,
	changes		bigint	NOT NULL DEFAULT 0,
	new			bigint	NOT NULL DEFAULT 0,
	changed		bigint	NOT NULL DEFAULT 0,
	unchanged	bigint	NOT NULL DEFAULT 0,
	refused		bigint	NOT NULL DEFAULT 0,
	withheld	bigint	NOT NULL DEFAULT 0,
	invalid		bigint	NOT NULL DEFAULT 0,
	filtered	bigint	NOT NULL DEFAULT 0,
	gone		bigint	NOT NULL DEFAULT 0,
	started_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	updated_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at	timestamptz
) WITH (fillfactor = 50);
-- At most one import or reconciliation of a watch runs at a time, beside polling.
CREATE UNIQUE INDEX scan_running ON contactsync.scan (watch) WHERE state = 'running' AND kind <> 'poll';
CREATE INDEX scan_watch ON contactsync.scan (watch);
COMMENT ON TABLE contactsync.scan
IS 'progress of scans of whole sources; the last scan of each kind is kept per watch';
COMMENT ON COLUMN contactsync.scan.cursor IS 'key of the last row that was read in this phase';
COMMENT ON COLUMN contactsync.scan.value IS 'value of poll_column in the last row that was read';
COMMENT ON COLUMN contactsync.scan.watermark
IS 'value of poll_column at which this round of polling started';
COMMENT ON COLUMN contactsync.scan.since
IS 'value of poll_column when the watch was created; older rows are not polled';
COMMENT ON COLUMN contactsync.scan.next_at IS 'time at which the next round of polling starts';
COMMENT ON COLUMN contactsync.scan.automations
IS 'whether automations that could send mail are paused, or their mail is accepted; null: not specified';
COMMENT ON COLUMN contactsync.scan.total IS 'estimated number of rows in this phase';
COMMENT ON COLUMN contactsync.scan.done IS 'number of rows read in this phase';
COMMENT ON COLUMN contactsync.scan.changes
IS 'number of rows that differ, counted before anything is sent';
COMMENT ON COLUMN contactsync.scan.refused
IS 'number of rows that the provider rejected before and that have not changed since; they are not sent again';

CREATE TABLE contactsync.pause (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	paused_by	text	NOT NULL,
	paused_at	timestamptz NOT NULL,
	reason		text,
	PRIMARY KEY (endpoint, watch)
);
COMMENT ON TABLE contactsync.pause
IS 'endpoints and watches that were paused by contactsync_pause()';
COMMENT ON COLUMN contactsync.pause.watch IS '0: everything that is sent to the endpoint';

CREATE SEQUENCE contactsync.queue_id;
CREATE TABLE contactsync.queue (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	xact		xid8	NOT NULL,
	id			bigint	NOT NULL,
	queued_at	timestamptz NOT NULL,
	n			integer	NOT NULL,
	keys		text[],
	contact		jsonb,
	origin		"char",
	related		integer,
	cursor		text
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000);
ALTER TABLE contactsync.queue ALTER COLUMN keys SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX queue_position ON contactsync.queue (endpoint, watch, xact, id);
-- Otherwise no row could leave the queue once it is in a publication. With wal_level logical this adds 32 bytes of WAL to
-- each row that is deleted.
ALTER TABLE contactsync.queue REPLICA IDENTITY USING INDEX queue_position;
COMMENT ON TABLE contactsync.queue
IS 'changes that have no outcome yet: many keys a row, or one contact; neither means that every known contact of the watch is to be looked at';
COMMENT ON COLUMN contactsync.queue.contact IS 'beside keys: they are to be sent whatever was sent before';
COMMENT ON COLUMN contactsync.queue.origin IS 'null: a change; s: a scan; r: contactsync_retry(); t: contactsync_touch(); p: a row that is to speak for its contact';
COMMENT ON COLUMN contactsync.queue.related
IS 'contactsync.related.id: the keys are those of rows of the related table, and all rows that refer to these are to be looked at; without keys, all that refer to any';
COMMENT ON COLUMN contactsync.queue.cursor IS 'of a related change: key of the last row that was found to refer to it and has been queued';
COMMENT ON COLUMN contactsync.queue.watch IS '0 for contactsync_upsert()';
COMMENT ON COLUMN contactsync.queue.xact
IS 'transaction that wrote the row; IDs alone are not in commit order';

CREATE TABLE contactsync.contact (
	endpoint	integer	NOT NULL,
	upsert_key	text	COLLATE "C" NOT NULL,
	email		text	COLLATE "C",
	action		"char"	NOT NULL,
	digest		uuid,
	synced_at	timestamptz,
	spoke_at	timestamptz,
	changed_at	timestamptz,
	watch		integer,
	key			text	COLLATE "C",
	opt_in		"char"	NOT NULL,
	left_opt_in	"char",
	opt_in_at	timestamptz,
	claimed		boolean	NOT NULL,
	opted_out	boolean	NOT NULL,
	opted_out_at timestamptz,
	held		boolean	NOT NULL,
	inherited	boolean	NOT NULL DEFAULT false,
	direct		boolean	NOT NULL,
	direct_no	boolean	NOT NULL DEFAULT false,
	yes_left	xid8,
	remote_id	text,
	remote_status text,
	remote_updated_at text,
	topics		text,
	error		text,
	refused		bigint,
	twin		text	COLLATE "C",
	fields		bytea,
	PRIMARY KEY (endpoint, upsert_key)
) WITH (fillfactor = 50);
CREATE INDEX contact_email ON contactsync.contact (email, endpoint) WHERE email IS NOT NULL;
CREATE INDEX contact_refused ON contactsync.contact (endpoint, refused) WHERE refused IS NOT NULL;
CREATE INDEX contact_twin ON contactsync.contact (twin, endpoint) WHERE twin IS NOT NULL;
CREATE INDEX contact_held ON contactsync.contact (endpoint, watch) WHERE held;
COMMENT ON TABLE contactsync.contact
IS 'what the provider has of every contact, one row per contact';
COMMENT ON COLUMN contactsync.contact.email IS 'null: it is the upsert key';
COMMENT ON COLUMN contactsync.contact.action IS 'u upserted, n unsubscribed, d perhaps deleted';
COMMENT ON COLUMN contactsync.contact.digest IS 'of the mapped contact that the provider has; null: what it has is not known';
COMMENT ON COLUMN contactsync.contact.synced_at IS 'null: a first call may be under way';
COMMENT ON COLUMN contactsync.contact.spoke_at IS 'when the source row said so that was sent last, if it was sent again since';
COMMENT ON COLUMN contactsync.contact.changed_at IS 'when the source row changed that was sent last, if others may stand for the contact';
COMMENT ON COLUMN contactsync.contact.watch IS 'with key, the source row that was sent last; 0: contactsync_upsert(). The watch may have been dropped since; no other one gets its id';
COMMENT ON COLUMN contactsync.contact.opt_in IS 'that it was last sent with: t, f, n for null, N for null after t, - for none';
COMMENT ON COLUMN contactsync.contact.left_opt_in IS 'while a call that gives it another address has no answer: the same of the address that it has, since opt_in is of the other one';
COMMENT ON COLUMN contactsync.contact.opt_in_at IS 'when the person gave or withdrew consent last, if opt_in_at is mapped';
COMMENT ON COLUMN contactsync.contact.claimed IS 'consent was claimed, and stands as far as is known';
COMMENT ON COLUMN contactsync.contact.opted_out IS 'the person opted out at the provider';
COMMENT ON COLUMN contactsync.contact.opted_out_at IS 'when an answer to a call told so';
COMMENT ON COLUMN contactsync.contact.held IS 'opt_in is true and was not claimed: it is not known whether the person opted out there before';
COMMENT ON COLUMN contactsync.contact.inherited IS 'the claim was made for another contact with the address, before this one was created without it';
COMMENT ON COLUMN contactsync.contact.direct IS 'contactsync_upsert() made it';
COMMENT ON COLUMN contactsync.contact.direct_no IS '... and said false or null last';
COMMENT ON COLUMN contactsync.contact.yes_left IS 'the transaction that stored that a source row which said true has gone since the contact was sent without consent: what that has become, under another key, is no word after a crash';
COMMENT ON COLUMN contactsync.contact.remote_updated_at IS 'as the provider writes it';
COMMENT ON COLUMN contactsync.contact.topics IS 'ids of topics that the contact was added to, separated by spaces';
COMMENT ON COLUMN contactsync.contact.refused IS 'hash of the address that its row has, if the contact keeps another one because nobody consented to that';
COMMENT ON COLUMN contactsync.contact.fields IS 'a keyed hash of 15 bits of each field that it was last sent with, if log_contacts of the server is on: which one changes, not what it is';
COMMENT ON COLUMN contactsync.contact.twin IS 'the contact that it may have become, or that may have become it, by a call that was not answered';

CREATE TABLE contactsync.source_row (
	watch		integer	NOT NULL,
	key			text	COLLATE "C" NOT NULL,
	endpoint	integer	NOT NULL,
	upsert_key	text	COLLATE "C" NOT NULL,
	digest		uuid,
	opt_in		"char"	NOT NULL,
	withheld	boolean	NOT NULL,
	spoke_at	timestamptz,
	no_xact		xid8,
	PRIMARY KEY (watch, key)
) WITH (fillfactor = 90);
CREATE INDEX source_row_withheld ON contactsync.source_row (watch) WHERE withheld;
CREATE INDEX source_row_contact ON contactsync.source_row (upsert_key, endpoint);
COMMENT ON TABLE contactsync.source_row
IS 'which contact a source row stands for, one row per source row; several can stand for one contact';
COMMENT ON COLUMN contactsync.source_row.digest IS 'of the contact that the row was mapped to, if another row speaks for it; null: not known, or that of the contact; zero: the row may have been sent since; a zero half: a word of the row has no answer, and the other half is a hash of its address';
COMMENT ON COLUMN contactsync.source_row.spoke_at IS 'when the row was last sent, if another row speaks for the contact now';
COMMENT ON COLUMN contactsync.source_row.no_xact IS 'of a row that says false: the transaction that had it say so, unless that was before it was first seen';
COMMENT ON COLUMN contactsync.source_row.withheld IS 'the contact is not created, since the provider would mail a person who did not consent';
COMMENT ON COLUMN contactsync.source_row.opt_in IS 'as it was last seen: t, f, n for null, N for null after t, - for none';

CREATE TABLE contactsync.departure (
	endpoint	integer	NOT NULL,
	upsert_key	text	COLLATE "C" NOT NULL,
	watch		integer	NOT NULL,
	key			text	COLLATE "C" NOT NULL,
	departed_at	timestamptz NOT NULL,
	action		"char",
	erase		boolean	NOT NULL DEFAULT false,
	failed		boolean	NOT NULL DEFAULT false,
	PRIMARY KEY (endpoint, upsert_key)
);
COMMENT ON TABLE contactsync.departure
IS 'contacts that a source row has left, until it is decided whether they are to be removed';
COMMENT ON COLUMN contactsync.departure.action IS 'n unsubscribe, d delete, whatever on_delete says; null: as that says';
COMMENT ON COLUMN contactsync.departure.watch IS 'watch of that row; 0: dropped since';
COMMENT ON COLUMN contactsync.departure.erase IS 'contactsync_forget() has erased the person: it is removed without delay, and then the contact is erased';
COMMENT ON COLUMN contactsync.departure.failed IS 'the provider refused that: see contactsync.failures';

CREATE TABLE contactsync.remaining_row (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	key			text	COLLATE "C" NOT NULL,
	contact		bytea	NOT NULL,
	address		bytea,
	PRIMARY KEY (watch, key, contact)
);
CREATE INDEX remaining_row_contact ON contactsync.remaining_row (endpoint, contact);
COMMENT ON TABLE contactsync.remaining_row
IS 'source rows that contactsync_forget() left in their tables, until they are read again: their contacts are not removed before';
COMMENT ON COLUMN contactsync.remaining_row.contact IS 'hash of the upsert key that the row stood for, as contactsync.consent_hash() makes it';
COMMENT ON COLUMN contactsync.remaining_row.address IS 'the same of the address, if the contact was known by another key; null: not known';

CREATE TABLE contactsync.account (
	id			integer	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	provider	text	NOT NULL,
	base_url	text	NOT NULL,
	name		text	NOT NULL,
	role		regrole	NOT NULL,
	UNIQUE (provider, base_url, name, role)
);
COMMENT ON TABLE contactsync.account IS 'accounts at providers, which outlive their servers';
COMMENT ON COLUMN contactsync.account.name IS 'tenant or business, or else the server option account';

CREATE TABLE contactsync.consent (
	account		integer	NOT NULL,
	hash		bytea	NOT NULL,
	state		"char"	NOT NULL,
	said		"char"	NOT NULL DEFAULT '-',
	opt_in_at	timestamptz,
	yes_left	xid8,
	PRIMARY KEY (account, hash)
);
COMMENT ON TABLE contactsync.consent
IS 'what is remembered of the consent of persons whose contact row has gone';
COMMENT ON COLUMN contactsync.consent.hash IS 'of the address, as contactsync.consent_hash() makes it';
COMMENT ON COLUMN contactsync.consent.state IS 'c claimed, h said yes and not claimed, n withdrawn, o opted out, unsubscribed or forgotten';
COMMENT ON COLUMN contactsync.consent.said IS 'opt_in as it was said last: t, f, n for null, N for null after t, - for not known';
COMMENT ON COLUMN contactsync.consent.yes_left IS 'as in contactsync.contact, of a contact that is not created because a row said no';

CREATE TABLE contactsync.consent_key (
	one			boolean	PRIMARY KEY DEFAULT true CHECK (one),
	key			bytea	NOT NULL
);
COMMENT ON TABLE contactsync.consent_key IS 'the key of contactsync.consent.hash, one per database';

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
	recreated	boolean	NOT NULL DEFAULT false,
	PRIMARY KEY (endpoint, email)
);
CREATE INDEX remote_contact_external_id ON contactsync.remote_contact (endpoint, external_id);
CREATE INDEX remote_contact_remote_id ON contactsync.remote_contact (endpoint, remote_id);
COMMENT ON TABLE contactsync.remote_contact
IS 'contacts as the provider had them when contactsync_pull() fetched them';
COMMENT ON COLUMN contactsync.remote_contact.recreated IS 'the provider has it under another ID than before: that it is not opted in may be because it was created anew';
COMMENT ON COLUMN contactsync.remote_contact.updated_at
IS 'time of the last change of the contact, on the provider''s clock';

CREATE TABLE contactsync.failure (
	id			bigint	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	key			text	COLLATE "C" NOT NULL,
	upsert_key	text	COLLATE "C",
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
	conflict	bigint,
	removal		boolean	NOT NULL DEFAULT false,
	retried_at	timestamptz,
	UNIQUE (watch, key, endpoint)
);
COMMENT ON TABLE contactsync.failure
IS 'one row per contact that was given up on, with the reason; contactsync_retry() queues them again';
CREATE INDEX failure_contact ON contactsync.failure (upsert_key, endpoint);
CREATE INDEX failure_email ON contactsync.failure (lower(btrim(contact ->> 'email'))) WHERE contact IS NOT NULL;
CREATE INDEX failure_conflict ON contactsync.failure (endpoint, conflict) WHERE conflict IS NOT NULL;
COMMENT ON COLUMN contactsync.failure.removal IS 'the contact was to be removed; the failure ends when a row stands for it again';
COMMENT ON COLUMN contactsync.failure.conflict IS 'hash of the address that another contact has; the row is sent again when a contact leaves the address';
COMMENT ON COLUMN contactsync.failure.retried_at IS 'when it was last queued again by retry_failures_every';
COMMENT ON COLUMN contactsync.failure.ignored
IS 'hidden by contactsync_ignore() until the contact fails differently';

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
COMMENT ON TABLE contactsync.call
IS 'one row per HTTP request; retention is limited by age and number';
COMMENT ON COLUMN contactsync.call.status IS 'HTTP status; 0: no answer';
COMMENT ON COLUMN contactsync.call.created
IS 'number of contacts that the provider reported as new; null: not reported';
COMMENT ON COLUMN contactsync.call.sent IS 'size of the request body in bytes';

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
COMMENT ON TABLE contactsync.counter IS 'number of contacts of a watch by outcome';

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
COMMENT ON TABLE contactsync.stat IS 'totals per endpoint';
COMMENT ON COLUMN contactsync.stat.base
IS 'the totals at the last reset; the worker does not touch this row';

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
	oldest		interval,
	PRIMARY KEY (endpoint, at)
) WITH (fillfactor = 50);
COMMENT ON TABLE contactsync.minute
IS 'totals per endpoint and minute; retention is limited by age';
COMMENT ON COLUMN contactsync.minute.first_at IS 'time at which counting started in this minute';
COMMENT ON COLUMN contactsync.minute.oldest IS 'age of the oldest change that was queued and not paused';

CREATE TABLE contactsync.minute_failure (
	endpoint	integer	NOT NULL,
	at			timestamptz NOT NULL,
	reason		text	NOT NULL,
	failed		bigint	NOT NULL,
	PRIMARY KEY (endpoint, at, reason)
);
COMMENT ON TABLE contactsync.minute_failure
IS 'number of contacts that were given up on per minute and reason';

CREATE TABLE contactsync.run (
	id			bigint	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	kind		text	NOT NULL CHECK (kind IN ('import', 'reconcile', 'poll', 'pull', 'guard')),
	state		text	NOT NULL
				CHECK (state IN ('running', 'done', 'canceled', 'failed', 'held', 'accepted', 'paused', 'kept')),
	scan		integer,
	started_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	started_by	name,
	finished_at	timestamptz,
	finished_by	name,
	outcomes	jsonb,
	reason		text
);
-- What has not ended is found by its scan, or as what holds a watch.
CREATE INDEX run_open ON contactsync.run (watch, scan) WHERE finished_at IS NULL;
CREATE INDEX run_kind ON contactsync.run (endpoint, watch, kind, id);
COMMENT ON TABLE contactsync.run
IS 'what was done with many contacts at once: one row per import, reconciliation, round of polling, pull, and hold of a guard; retention is limited by age and number';
COMMENT ON COLUMN contactsync.run.watch IS '0: of the whole server. The watch may have been dropped since; no other one gets its id';
COMMENT ON COLUMN contactsync.run.scan IS 'the row of contactsync.scan, which counts until the run ends; null: it is no scan';
COMMENT ON COLUMN contactsync.run.started_by IS 'null: the worker began it by itself';
COMMENT ON COLUMN contactsync.run.outcomes IS 'number of rows or contacts by outcome; null: not counted yet';

CREATE TABLE contactsync.alert (
	id			bigint	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	event		text	NOT NULL CHECK (event IN ('halted', 'breaker', 'broken', 'guarded', 'failures', 'backlog')),
	reason		text,
	contacts	bigint,
	key			uuid	NOT NULL DEFAULT gen_random_uuid(),
	began_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	ended_at	timestamptz,
	told_at		timestamptz,
	end_told_at	timestamptz,
	attempts	integer	NOT NULL DEFAULT 0,
	next_at		timestamptz DEFAULT clock_timestamp(),
	error		text
);
-- What goes on is there once.
CREATE UNIQUE INDEX alert_open ON contactsync.alert (endpoint, watch, event) WHERE ended_at IS NULL;
CREATE INDEX alert_due ON contactsync.alert (endpoint, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX alert_endpoint ON contactsync.alert (endpoint, id);
COMMENT ON TABLE contactsync.alert
IS 'trouble of servers and watches, from its beginning to its end, and whether alert_url was told of both; retention is limited by age and number';
COMMENT ON COLUMN contactsync.alert.watch IS '0: of the whole server. The watch may have been dropped since';
COMMENT ON COLUMN contactsync.alert.reason IS 'only the class of the reason, which has nothing of a contact';
COMMENT ON COLUMN contactsync.alert.key IS 'part of the key by which the receiver knows messages of the same trouble';
COMMENT ON COLUMN contactsync.alert.ended_at IS 'null: it goes on';
COMMENT ON COLUMN contactsync.alert.attempts IS 'calls that were begun to tell of its beginning, or after its end of that';
COMMENT ON COLUMN contactsync.alert.next_at IS 'when alert_url is called, if there is one; null: there is nothing to tell, or it was given up';

CREATE TABLE contactsync.outcome (
	id			bigint	GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	at			timestamptz NOT NULL,
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	key			text	COLLATE "C",
	person		bytea,
	outcome		text	NOT NULL,
	reason		text,
	cause		text	NOT NULL,
	again		text,
	fields		text[],
	attempts	integer	NOT NULL,
	queued_at	timestamptz,
	run			bigint
);
CREATE INDEX outcome_row ON contactsync.outcome (watch, key);
CREATE INDEX outcome_person ON contactsync.outcome (person, endpoint);
COMMENT ON TABLE contactsync.outcome
IS 'what became of contacts, and why, of servers with the option log_contacts; retention is limited by age and number';
COMMENT ON COLUMN contactsync.outcome.key IS 'null: contactsync_upsert()';
COMMENT ON COLUMN contactsync.outcome.person IS 'hash of the address, or of the upsert key of a contact without one, as contactsync.consent_hash() makes it; null: not known';
COMMENT ON COLUMN contactsync.outcome.run IS 'the row of contactsync.run that queued it; null: none did';

CREATE TABLE contactsync.traced (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	contact		text	COLLATE "C" NOT NULL,
	until		timestamptz NOT NULL,
	PRIMARY KEY (endpoint, watch, contact)
);
COMMENT ON TABLE contactsync.traced IS 'contacts whose calls are recorded completely';
COMMENT ON COLUMN contactsync.traced.contact
IS 'an address or upsert key if watch is 0, otherwise the key of a row';

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
COMMENT ON TABLE contactsync.trace
IS 'one row per recorded call about a traced contact; retention is limited by age and number';

CREATE TABLE contactsync.forgotten (
	endpoint	integer	NOT NULL,
	watch		integer	NOT NULL,
	key			text	COLLATE "C" NOT NULL,
	notes		boolean	NOT NULL DEFAULT true,
	PRIMARY KEY (endpoint, watch, key)
);
COMMENT ON TABLE contactsync.forgotten
IS 'rows that were erased by contactsync_forget() while calls about them may have been in flight; emptied when these calls have ended';
COMMENT ON COLUMN contactsync.forgotten.notes IS 'what such a call tells of a row that is still there is noted in contactsync.remaining_row';

-- These are separate statements because each updates the same row of pg_extension.
SELECT pg_catalog.pg_extension_config_dump('contactsync.endpoint', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.endpoint_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.provider', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.watch', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.watch_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.related', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.related_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.scan', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.scan_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.pause', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.queue', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.queue_id', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.contact', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.source_row', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.departure', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.remaining_row', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.account', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.account_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.consent', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.consent_key', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.remote_contact', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.failure', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.failure_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.call', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.call_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.run', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.run_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.alert', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.alert_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.outcome', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.outcome_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.counter', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.traced', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.trace', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.trace_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.forgotten', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.stat', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.minute', '');
SELECT pg_catalog.pg_extension_config_dump('contactsync.minute_failure', '');

-- ---------------------------------------------------------------------------
-- Views.  Their names are plural, as in pg_user_mapping and pg_user_mappings;
-- each role sees its own rows.
-- ---------------------------------------------------------------------------

CREATE FUNCTION contactsync.runtime(OUT endpoint integer, OUT in_flight integer, OUT waiting bigint, OUT pace float8, OUT configured_pace float8, OUT locked boolean)
RETURNS SETOF record LANGUAGE c ROWS 20
AS 'MODULE_PATHNAME', 'contactsync_runtime';
COMMENT ON FUNCTION contactsync.runtime()
IS 'returns what the background worker of this database is doing now, per endpoint';

CREATE FUNCTION contactsync.worker_state()
RETURNS text LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_worker_state';
COMMENT ON FUNCTION contactsync.worker_state()
IS 'returns the state of the background worker of this database, such as running, starting or not preloaded';

CREATE FUNCTION contactsync.consent_hash(address text)
RETURNS bytea LANGUAGE c STRICT
AS 'MODULE_PATHNAME', 'contactsync_consent_hash';
COMMENT ON FUNCTION contactsync.consent_hash(text)
IS 'the keyed hash of an address, as contactsync.consent has it';
REVOKE ALL ON FUNCTION contactsync.consent_hash(text) FROM PUBLIC;

CREATE FUNCTION contactsync.database_identity()
RETURNS text LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'contactsync_database_identity';
COMMENT ON FUNCTION contactsync.database_identity()
IS 'returns an identifier of this database that is different in each database into which it is restored or copied';

CREATE FUNCTION contactsync.backlog(OUT endpoint integer, OUT watch integer, OUT contacts bigint, OUT oldest timestamptz)
RETURNS SETOF record LANGUAGE c ROWS 20
AS 'MODULE_PATHNAME', 'contactsync_backlog';
COMMENT ON FUNCTION contactsync.backlog()
IS 'returns the number of contacts that are queued, or to be removed and due; for a long queue an estimate, so that the call is cheap';

CREATE FUNCTION contactsync.due_removals(OUT endpoint integer, OUT watch integer, OUT key text, OUT departed_at timestamptz, OUT action text, OUT waits boolean)
RETURNS SETOF record LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_due_removals';
COMMENT ON FUNCTION contactsync.due_removals()
IS 'returns the contacts that are to be removed and whose delete_delay has passed, and whether that waits until all rows of all watches of the endpoint have been read once';

CREATE FUNCTION contactsync.hint(state text, reason text, server text, source text, owner regrole, worker text, failures bigint)
RETURNS text LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_hint';
COMMENT ON FUNCTION contactsync.hint(text, text, text, text, regrole, text, bigint)
IS 'returns the command to run in a state, or null if all is well';

CREATE FUNCTION contactsync.window_opens_at(options text[])
RETURNS timestamptz LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'contactsync_window_opens_at';
COMMENT ON FUNCTION contactsync.window_opens_at(text[])
IS 'returns when the send_window among the options of a server opens; null: it is open, or there is none';

CREATE FUNCTION contactsync.latency_bounds()
RETURNS float8[] LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'contactsync_latency_bounds';
COMMENT ON FUNCTION contactsync.latency_bounds()
IS 'returns the upper bounds, in seconds, of all elements of the latency columns except the last';

CREATE FUNCTION contactsync.capture()
RETURNS trigger LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_capture';
COMMENT ON FUNCTION contactsync.capture()
IS 'trigger function that records which rows of a watched table changed; created by contactsync_watch()';
-- Roles that create partitions need EXECUTE; a trigger that belongs to no watch does nothing.
GRANT EXECUTE ON FUNCTION contactsync.capture() TO PUBLIC;

CREATE FUNCTION contactsync.capture_related()
RETURNS trigger LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_capture_related';
COMMENT ON FUNCTION contactsync.capture_related()
IS 'trigger function that records which rows of a related table changed; created by contactsync_watch()';
GRANT EXECUTE ON FUNCTION contactsync.capture_related() TO PUBLIC;

CREATE VIEW contactsync.watches WITH (security_barrier) AS
SELECT e.server, w.source, w.state, w.key, w.on_delete, w.claims,
	CASE WHEN w.poll_column IS NULL THEN 'trigger' ELSE 'poll' END AS capture,
	(SELECT CASE WHEN pg_catalog.bool_or(t.tgenabled = 'A') THEN 'true' WHEN pg_catalog.bool_or(t.tgenabled = 'R') THEN 'replica' ELSE 'false' END
		FROM pg_catalog.pg_trigger t
		WHERE t.tgrelid IN (SELECT w.source UNION ALL SELECT r.relation FROM contactsync.related r WHERE r.watch = w.id)
			AND t.tgfoid IN ('contactsync.capture'::pg_catalog.regproc, 'contactsync.capture_related'::pg_catalog.regproc)
			AND pg_catalog.substr(t.tgargs, 1, pg_catalog.length(n.args)) = n.args) AS always,
	w.filter, w.mapping, w.reason, w.delete_delay, w.delete_guard,
	w.poll_column, CASE WHEN w.poll_column IS NOT NULL THEN w.poll_every END AS poll_every,
	CASE WHEN w.poll_column IS NOT NULL THEN w.poll_overlap END AS poll_overlap,
	w.reconcile_every, w.reconcile_at, pg_catalog.date_trunc('second', w.reconcile_next) AS reconcile_next,
	(SELECT pg_catalog.jsonb_object_agg(t.name, t.refs)
		FROM (SELECT COALESCE((SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c WHERE c.oid = r.relation), r.name) AS name, CASE WHEN pg_catalog.count(*) = 1 THEN (pg_catalog.array_agg(p.pairs))[1]
				ELSE pg_catalog.jsonb_agg(p.pairs ORDER BY r.id) END AS refs
			FROM contactsync.related r, LATERAL (SELECT pg_catalog.jsonb_object_agg(pg_catalog.quote_ident(u.c::text), pg_catalog.quote_ident(u.r::text)) AS pairs
				FROM ROWS FROM (pg_catalog.unnest(r.columns), pg_catalog.unnest(r.related_columns)) AS u (c, r)) p
			WHERE r.watch = w.id GROUP BY r.relation, r.name) t) AS related,
	pg_catalog.date_trunc('second', w.created_at) AS created_at, e.role AS owner
FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint,
	LATERAL (SELECT pg_catalog.convert_to(e.id::pg_catalog.text, 'UTF8') || '\x00'::pg_catalog.bytea
		|| pg_catalog.convert_to(w.id::pg_catalog.text, 'UTF8') || '\x00'::pg_catalog.bytea AS args) n
WHERE pg_catalog.pg_has_role(e.role, 'USAGE')
ORDER BY e.server, w.source::pg_catalog.text, e.role;
COMMENT ON VIEW contactsync.watches IS 'watches of the current role';
COMMENT ON COLUMN contactsync.watches.server IS 'server that it is sent to';
COMMENT ON COLUMN contactsync.watches.source IS 'watched table, view or foreign table';
COMMENT ON COLUMN contactsync.watches.on_delete IS 'what becomes of a contact without a row: ignore, unsubscribe or delete';
COMMENT ON COLUMN contactsync.watches.capture IS 'how changes are noticed: trigger or poll';
COMMENT ON COLUMN contactsync.watches.always IS 'whether the triggers fire for rows that replication applies: true, false, or replica: for those only';
COMMENT ON COLUMN contactsync.watches.filter IS 'condition that a row must meet; null: all do';
COMMENT ON COLUMN contactsync.watches.mapping IS 'fields of the contact, with an expression for each';
COMMENT ON COLUMN contactsync.watches.poll_every IS 'how often it is polled';
COMMENT ON COLUMN contactsync.watches.poll_overlap IS 'how far back each round of polling looks';
COMMENT ON COLUMN contactsync.watches.reconcile_every IS 'how often it is reconciled; null: never by itself';
COMMENT ON COLUMN contactsync.watches.reconcile_at IS 'time of day of that';
COMMENT ON COLUMN contactsync.watches.created_at IS 'when it was made';
COMMENT ON COLUMN contactsync.watches.owner IS 'role that it belongs to';
COMMENT ON COLUMN contactsync.watches.key IS 'columns that identify a row';
COMMENT ON COLUMN contactsync.watches.state IS 'running, broken (the source cannot be read) or guarded (held by the bulk guard or by delete_guard until contactsync_resume())';
COMMENT ON COLUMN contactsync.watches.reason IS 'why the watch is not running';
COMMENT ON COLUMN contactsync.watches.poll_column IS 'column that shows when a row changed; null: the source has triggers';
COMMENT ON COLUMN contactsync.watches.reconcile_next IS 'time of the next scheduled reconciliation';
COMMENT ON COLUMN contactsync.watches.claims IS 'whose consent is claimed: new (of new contacts, and words of persons) or all';
COMMENT ON COLUMN contactsync.watches.delete_delay IS 'how long a contact without a row is left at the provider';
COMMENT ON COLUMN contactsync.watches.related IS 'tables whose changes queue the rows that refer to them: for each, the columns of the source with those of the table that they equal';
COMMENT ON COLUMN contactsync.watches.delete_guard IS 'number or share of contacts above which removals are held; null: more than 100 and more than 10 percent, or all of more than 10';

CREATE VIEW contactsync.changes WITH (security_barrier) AS
SELECT e.server, w.source, c.key, c.id, pg_catalog.date_trunc('second', c.queued_at) AS queued_at, c.removal,
	(SELECT r.relation FROM contactsync.related r WHERE r.id = c.related) AS related, c.contact
FROM (SELECT q.endpoint, q.watch, CASE WHEN q.related IS NULL OR EXISTS (SELECT FROM contactsync.related r WHERE r.id = q.related) THEN k.key END AS key,
			CASE WHEN q.watch = 0 THEN q.id END AS id, CASE WHEN q.keys IS NULL THEN q.contact END AS contact,
			q.queued_at, NULL::text AS removal, q.related
		FROM contactsync.queue q LEFT JOIN LATERAL pg_catalog.unnest(q.keys) AS k (key) ON true
		UNION ALL
		SELECT r.endpoint, r.watch, r.key, NULL, NULL, r.departed_at, r.action, NULL FROM contactsync.due_removals() r WHERE NOT r.waits) c
	JOIN contactsync.endpoint e ON e.id = c.endpoint
	LEFT JOIN contactsync.watch w ON w.id = c.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.changes
IS 'the queue: one row per key, or per contact with the ID that contactsync_upsert() returned; a row with neither stands for all known contacts of the source; and the contacts that are to be removed, and due';
COMMENT ON COLUMN contactsync.changes.server IS 'server that the change is for';
COMMENT ON COLUMN contactsync.changes.source IS 'watched table; null: contactsync_upsert()';
COMMENT ON COLUMN contactsync.changes.queued_at IS 'when it was queued';
COMMENT ON COLUMN contactsync.changes.removal IS 'unsubscribe or delete: no row stands for the contact any more, and it is to be removed; null: a change';
COMMENT ON COLUMN contactsync.changes.related IS 'table whose row with that key was changed: the rows of the source that refer to it are yet to be looked for; null: a row of the source was';
COMMENT ON COLUMN contactsync.changes.key IS 'key of a changed row; null for contactsync_upsert()';
COMMENT ON COLUMN contactsync.changes.id IS 'ID that contactsync_upsert() returned';
COMMENT ON COLUMN contactsync.changes.contact IS 'contact given to contactsync_upsert()';

CREATE VIEW contactsync.contacts WITH (security_barrier) AS
SELECT e.server, w.source, c.key, c.upsert_key,
	CASE c.action WHEN 'u' THEN 'upsert' WHEN 'n' THEN 'unsubscribe' WHEN 'd' THEN 'delete' END AS action,
	pg_catalog.date_trunc('second', c.synced_at) AS synced_at,
	CASE WHEN c.opted_out THEN 'opted out' WHEN c.held THEN 'held' WHEN c.claimed THEN 'claimed' END AS consent,
	c.remote_status, c.error, c.remote_id, c.remote_updated_at, pg_catalog.string_to_array(c.topics, ' ') AS topics
FROM contactsync.contact c
	JOIN contactsync.endpoint e ON e.id = c.endpoint
	LEFT JOIN contactsync.watch w ON w.id = c.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE') AND c.synced_at IS NOT NULL;
COMMENT ON VIEW contactsync.contacts IS 'contacts as the provider has them, one row per contact, with the source row that was sent last';
COMMENT ON COLUMN contactsync.contacts.server IS 'server that has the contact';
COMMENT ON COLUMN contactsync.contacts.source IS 'watched table whose row was sent last; null: contactsync_upsert()';
COMMENT ON COLUMN contactsync.contacts.key IS 'key of that row';
COMMENT ON COLUMN contactsync.contacts.upsert_key IS 'what the provider identifies the contact by';
COMMENT ON COLUMN contactsync.contacts.action IS 'what was sent last: upsert, unsubscribe or delete';
COMMENT ON COLUMN contactsync.contacts.synced_at IS 'when the provider accepted that';
COMMENT ON COLUMN contactsync.contacts.remote_status IS 'status of the contact at the provider, as it said';
COMMENT ON COLUMN contactsync.contacts.error IS 'what the provider refused of the contact that it accepted; null: nothing';
COMMENT ON COLUMN contactsync.contacts.remote_id IS 'ID of the contact at the provider';
COMMENT ON COLUMN contactsync.contacts.remote_updated_at IS 'time of its last change there, on the provider''s clock';
COMMENT ON COLUMN contactsync.contacts.topics IS 'topics that it was subscribed to';
COMMENT ON COLUMN contactsync.contacts.consent IS 'claimed: the provider was told that the person wants mail, perhaps for another contact that had the address before; held: opt_in is true and that was not told; opted out: the person opted out at the provider';

CREATE VIEW contactsync.duplicates WITH (security_barrier) AS
SELECT e.server, s.upsert_key, pg_catalog.sum(s.rows)::bigint AS rows,
	pg_catalog.jsonb_object_agg(s.source::pg_catalog.text, s.keys) AS keys, e.role AS owner
FROM (SELECT c.endpoint, w.source, c.upsert_key, pg_catalog.count(*) AS rows,
			pg_catalog.array_agg(c.key ORDER BY c.key) AS keys
		FROM contactsync.source_row c JOIN contactsync.watch w ON w.id = c.watch AND w.endpoint = c.endpoint
		GROUP BY c.endpoint, w.source, c.upsert_key) s
	JOIN contactsync.endpoint e ON e.id = s.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE')
GROUP BY e.id, e.server, e.role, s.upsert_key
HAVING pg_catalog.sum(s.rows) > 1
ORDER BY e.server, s.upsert_key, e.role;
COMMENT ON VIEW contactsync.duplicates
IS 'source rows that are the same contact at the provider, as of when they were sent; the last change of any of them wins';
COMMENT ON COLUMN contactsync.duplicates.server IS 'server that has the contact';
COMMENT ON COLUMN contactsync.duplicates.owner IS 'role that sends through the server';
COMMENT ON COLUMN contactsync.duplicates.upsert_key IS 'what the provider identifies the contact by';
COMMENT ON COLUMN contactsync.duplicates.rows IS 'number of rows';
COMMENT ON COLUMN contactsync.duplicates.keys IS 'keys of the rows, by table';

CREATE VIEW contactsync.opt_outs WITH (security_barrier) AS
SELECT e.server, w.source, s.key, COALESCE(c.email, c.upsert_key) AS email, e.role AS owner
FROM contactsync.contact c
	JOIN contactsync.source_row s ON s.upsert_key = c.upsert_key AND s.endpoint = c.endpoint
	JOIN contactsync.watch w ON w.id = s.watch
	JOIN contactsync.endpoint e ON e.id = c.endpoint
WHERE c.opted_out AND pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.opt_outs
IS 'source rows whose contacts are known to have opted out at the provider, to be joined with their tables';
COMMENT ON COLUMN contactsync.opt_outs.server IS 'server where the person opted out';
COMMENT ON COLUMN contactsync.opt_outs.source IS 'watched table';
COMMENT ON COLUMN contactsync.opt_outs.owner IS 'role that sends through the server';
COMMENT ON COLUMN contactsync.opt_outs.key IS 'key of the source row';
COMMENT ON COLUMN contactsync.opt_outs.email IS 'address of the contact, or its upsert key if the provider identifies it otherwise';

CREATE VIEW contactsync.remote_contacts WITH (security_barrier) AS
SELECT e.server, r.email, r.opt_in, r.external_id, pg_catalog.date_trunc('second', r.updated_at) AS updated_at,
	pg_catalog.date_trunc('second', r.pulled_at) AS pulled_at, r.locale, r.remote_id, r.attributes, e.role AS owner
FROM contactsync.remote_contact r JOIN contactsync.endpoint e ON e.id = r.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.remote_contacts
IS 'contacts as the provider had them when contactsync_pull() fetched them';
COMMENT ON COLUMN contactsync.remote_contacts.server IS 'server that the contacts were fetched from';
COMMENT ON COLUMN contactsync.remote_contacts.email IS 'address';
COMMENT ON COLUMN contactsync.remote_contacts.external_id IS 'ID of ours';
COMMENT ON COLUMN contactsync.remote_contacts.locale IS 'language';
COMMENT ON COLUMN contactsync.remote_contacts.remote_id IS 'ID of the provider';
COMMENT ON COLUMN contactsync.remote_contacts.attributes IS 'further fields';
COMMENT ON COLUMN contactsync.remote_contacts.owner IS 'role that sends through the server';
COMMENT ON COLUMN contactsync.remote_contacts.opt_in IS 'consent as the provider has it';
COMMENT ON COLUMN contactsync.remote_contacts.updated_at IS 'time of the last change of the contact, on the provider''s clock';
COMMENT ON COLUMN contactsync.remote_contacts.pulled_at IS 'time of the pull';

CREATE VIEW contactsync.failures WITH (security_barrier) AS
SELECT f.id, e.server, w.source, f.key, f.reason, f.code, f.field, f.attempts, pg_catalog.date_trunc('second', f.last_at) AS last_at,
	f.message, f.upsert_key, pg_catalog.date_trunc('second', f.first_at) AS first_at, f.request_id
FROM contactsync.failure f
	JOIN contactsync.endpoint e ON e.id = f.endpoint
	LEFT JOIN contactsync.watch w ON w.id = f.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE') AND NOT f.ignored
ORDER BY f.id DESC;
COMMENT ON VIEW contactsync.failures IS 'contacts that were given up on, with the reason';
COMMENT ON COLUMN contactsync.failures.server IS 'server that the contact was for';
COMMENT ON COLUMN contactsync.failures.source IS 'watched table; null: contactsync_upsert()';
COMMENT ON COLUMN contactsync.failures.last_at IS 'when the contact failed last';
COMMENT ON COLUMN contactsync.failures.upsert_key IS 'what the provider identifies the contact by';
COMMENT ON COLUMN contactsync.failures.first_at IS 'when it failed first';
COMMENT ON COLUMN contactsync.failures.id IS 'argument of contactsync_retry() and contactsync_ignore()';
COMMENT ON COLUMN contactsync.failures.key IS 'key of the source row';
COMMENT ON COLUMN contactsync.failures.reason IS 'kind of failure, the same words for all providers';
COMMENT ON COLUMN contactsync.failures.code IS 'the provider''s own code';
COMMENT ON COLUMN contactsync.failures.message IS 'the provider''s message, or that of the check that failed';
COMMENT ON COLUMN contactsync.failures.field IS 'field of the contact that was rejected';
COMMENT ON COLUMN contactsync.failures.attempts IS 'number of times that the contact was sent';
COMMENT ON COLUMN contactsync.failures.request_id IS 'the provider''s ID of the request, for its support';

CREATE VIEW contactsync.calls WITH (security_barrier) AS
SELECT c.id, e.server, pg_catalog.date_trunc('milliseconds', c.started_at) AS started_at,
	pg_catalog.date_trunc('milliseconds', c.duration) AS duration, c.status, c.verdict, c.contacts, c.failed, c.attempt, c.method, c.path, c.error,
	c.created, c.updated, c.sent, c.received, c.request_id, c.idempotency_key
FROM contactsync.call c JOIN contactsync.endpoint e ON e.id = c.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE')
ORDER BY c.id DESC;
COMMENT ON VIEW contactsync.calls IS 'recent HTTP requests, one row each';
COMMENT ON COLUMN contactsync.calls.id IS 'grows with time';
COMMENT ON COLUMN contactsync.calls.server IS 'server that was called';
COMMENT ON COLUMN contactsync.calls.started_at IS 'when the call began';
COMMENT ON COLUMN contactsync.calls.duration IS 'how long it took';
COMMENT ON COLUMN contactsync.calls.method IS 'HTTP method';
COMMENT ON COLUMN contactsync.calls.path IS 'path of the URL';
COMMENT ON COLUMN contactsync.calls.error IS 'why there was no answer, or the beginning of what the provider says of the error; null: there was none';
COMMENT ON COLUMN contactsync.calls.idempotency_key IS 'key by which the provider knows a repeated call';
COMMENT ON COLUMN contactsync.calls.status IS 'HTTP status; 0: no answer';
COMMENT ON COLUMN contactsync.calls.verdict IS 'conclusion that was drawn from the answer';
COMMENT ON COLUMN contactsync.calls.contacts IS 'number of contacts in the request';
COMMENT ON COLUMN contactsync.calls.failed IS 'number of contacts that were rejected';
COMMENT ON COLUMN contactsync.calls.attempt IS '1 for the first call about these contacts';
COMMENT ON COLUMN contactsync.calls.sent IS 'size of the request body in bytes';
COMMENT ON COLUMN contactsync.calls.received IS 'size of the response body in bytes';
COMMENT ON COLUMN contactsync.calls.request_id IS 'the provider''s ID of the request, for its support';
COMMENT ON COLUMN contactsync.calls.created IS 'number of contacts that the provider reported as new; null: not reported';
COMMENT ON COLUMN contactsync.calls.updated IS 'number of contacts that the provider reported as known; null: not reported';

CREATE VIEW contactsync.runs WITH (security_barrier) AS
SELECT r.id, e.server, w.source, r.kind, r.state,
	pg_catalog.date_trunc('second', r.started_at) AS started_at, pg_catalog.date_trunc('second', r.finished_at) AS finished_at,
	r.started_by, r.finished_by,
	COALESCE(r.outcomes, (SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('new', NULLIF(s.new, 0), 'changed', NULLIF(s.changed, 0),
			'unchanged', NULLIF(s.unchanged, 0), 'refused', NULLIF(s.refused, 0), 'withheld', NULLIF(s.withheld, 0),
			'invalid', NULLIF(s.invalid, 0), 'filtered', NULLIF(s.filtered, 0), 'gone', NULLIF(s.gone, 0)))
		FROM contactsync.scan s WHERE s.id = r.scan AND r.finished_at IS NULL)) AS outcomes,
	r.reason
FROM contactsync.run r
	JOIN contactsync.endpoint e ON e.id = r.endpoint
	LEFT JOIN contactsync.watch w ON w.id = r.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE')
ORDER BY r.id DESC;
COMMENT ON VIEW contactsync.runs
IS 'imports, reconciliations, rounds of polling, pulls, and what guards held, the newest first: who began and ended them, when, and what they found';
COMMENT ON COLUMN contactsync.runs.id IS 'run in contactsync.outcomes';
COMMENT ON COLUMN contactsync.runs.server IS 'server that the run concerns';
COMMENT ON COLUMN contactsync.runs.source IS 'watched table; null: the whole server, or a watch that was dropped since';
COMMENT ON COLUMN contactsync.runs.kind IS 'import, reconcile, poll (one round), pull, or guard (a watch was held)';
COMMENT ON COLUMN contactsync.runs.state IS 'running, done, canceled or failed; of a guard: held, then what contactsync_resume() was given, accepted, paused or kept';
COMMENT ON COLUMN contactsync.runs.started_at IS 'when it began';
COMMENT ON COLUMN contactsync.runs.finished_at IS 'when it ended; null: it has not';
COMMENT ON COLUMN contactsync.runs.started_by IS 'role that began it; null: the worker, by its schedule or a guard';
COMMENT ON COLUMN contactsync.runs.finished_by IS 'role that canceled it, or released what was held; null: nobody did';
COMMENT ON COLUMN contactsync.runs.outcomes IS 'number of rows by what was found, as in contactsync.progress; of a pull: contacts listed, and opt-outs learned; of a guard: contacts held';
COMMENT ON COLUMN contactsync.runs.reason IS 'why it failed; of a guard: automations (many could get mail) or removals (many would be removed)';

CREATE VIEW contactsync.alerts WITH (security_barrier) AS
SELECT e.server, w.source, a.event, a.reason, a.contacts,
	pg_catalog.date_trunc('second', a.began_at) AS began_at, pg_catalog.date_trunc('second', a.ended_at) AS ended_at,
	pg_catalog.date_trunc('second', a.told_at) AS told_at, pg_catalog.date_trunc('second', a.end_told_at) AS end_told_at,
	a.attempts, CASE WHEN pg_catalog.pg_has_role(e.role, 'USAGE') THEN a.error END AS error, e.role AS owner, a.id
FROM contactsync.alert a
	JOIN contactsync.endpoint e ON e.id = a.endpoint
	LEFT JOIN contactsync.watch w ON w.id = a.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
ORDER BY a.id DESC;
COMMENT ON VIEW contactsync.alerts
IS 'trouble of servers and watches, the newest first: from when to when, and whether alert_url was told of it';
COMMENT ON COLUMN contactsync.alerts.server IS 'server that the trouble concerns';
COMMENT ON COLUMN contactsync.alerts.source IS 'watched table; null: the whole server, or a watch that was dropped since';
COMMENT ON COLUMN contactsync.alerts.event IS 'halted, breaker (halted since contacts are refused one like another), broken, guarded, failures (many within an hour) or backlog (a change waits for long)';
COMMENT ON COLUMN contactsync.alerts.reason IS 'class of the reason, such as unauthorized; of a guard: automations or removals';
COMMENT ON COLUMN contactsync.alerts.contacts IS 'number of contacts that are held, failed or wait; null: it is not about a number';
COMMENT ON COLUMN contactsync.alerts.began_at IS 'when it began';
COMMENT ON COLUMN contactsync.alerts.ended_at IS 'when it ended; null: it goes on';
COMMENT ON COLUMN contactsync.alerts.told_at IS 'when alert_url took the message that it began; null: it has not';
COMMENT ON COLUMN contactsync.alerts.end_told_at IS 'when alert_url took the message that it ended; null: it has not';
COMMENT ON COLUMN contactsync.alerts.attempts IS 'number of calls of alert_url with the last message that was not taken; at most 8';
COMMENT ON COLUMN contactsync.alerts.error IS 'why the last call of alert_url failed; null: it did not';
COMMENT ON COLUMN contactsync.alerts.owner IS 'role that sends through the server';
COMMENT ON COLUMN contactsync.alerts.id IS 'number of the alert';

CREATE VIEW contactsync.outcomes WITH (security_barrier) AS
SELECT pg_catalog.date_trunc('second', o.at) AS at, e.server, w.source, o.key, o.outcome, COALESCE(r.kind, o.cause) AS cause, o.fields, o.again,
	o.reason, o.attempts, pg_catalog.date_trunc('second', o.queued_at) AS queued_at, o.run, r.started_by, o.id
FROM contactsync.outcome o
	JOIN contactsync.endpoint e ON e.id = o.endpoint
	LEFT JOIN contactsync.watch w ON w.id = o.watch
	LEFT JOIN contactsync.run r ON r.id = o.run
WHERE pg_catalog.pg_has_role(e.role, 'USAGE');
COMMENT ON VIEW contactsync.outcomes
IS 'what became of contacts, and why they were sent, of servers with the option log_contacts: one row per contact and outcome, in no order; ORDER BY id is that of time';
COMMENT ON COLUMN contactsync.outcomes.at IS 'when the outcome was stored';
COMMENT ON COLUMN contactsync.outcomes.server IS 'server that it was sent to';
COMMENT ON COLUMN contactsync.outcomes.source IS 'watched table; null: contactsync_upsert(), or a watch that was dropped since';
COMMENT ON COLUMN contactsync.outcomes.key IS 'key of the row; null: contactsync_upsert()';
COMMENT ON COLUMN contactsync.outcomes.outcome IS 'synced, unsubscribed, deleted, failed, withheld (not created without a consent), unchanged (no call was needed) or gone (the row left its contact)';
COMMENT ON COLUMN contactsync.outcomes.cause IS 'what had it sent: change (of the row), upsert, import, reconcile, touch, retry, shared (another row of the contact has gone or spoken), removal, or scan (of a run that is not kept any more)';
COMMENT ON COLUMN contactsync.outcomes.fields IS 'names of the fields that differ from what was sent last, attributes by their own names; {}: none; null: not known, since that was not logged';
COMMENT ON COLUMN contactsync.outcomes.again IS 'why it was sent whatever was sent before: unconfirmed (a call had no answer, or the worker ended), forced (touch) or stale (contactsync_mark_stale(), a restore); null: it was not';
COMMENT ON COLUMN contactsync.outcomes.reason IS 'of a failure, as in contactsync.failures';
COMMENT ON COLUMN contactsync.outcomes.attempts IS 'number of times that it was tried in vain before';
COMMENT ON COLUMN contactsync.outcomes.queued_at IS 'when the first change that this is the outcome of was queued';
COMMENT ON COLUMN contactsync.outcomes.run IS 'import or reconciliation that queued it, in contactsync.runs';
COMMENT ON COLUMN contactsync.outcomes.started_by IS 'role that began the run; null: the worker';
COMMENT ON COLUMN contactsync.outcomes.id IS 'grows with time';

CREATE VIEW contactsync.traces WITH (security_barrier) AS
SELECT t.id, e.server, w.source, t.key, pg_catalog.date_trunc('milliseconds', t.started_at) AS started_at,
	pg_catalog.date_trunc('milliseconds', t.duration) AS duration, t.status, t.verdict, t.method, t.url, t.request, t.response,
	t.request_headers, t.response_headers, t.upsert_key, t.email
FROM contactsync.trace t JOIN contactsync.endpoint e ON e.id = t.endpoint LEFT JOIN contactsync.watch w ON w.id = t.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE')
ORDER BY t.id DESC;
COMMENT ON VIEW contactsync.traces
IS 'complete calls about contacts for which contactsync_trace() was called, without secrets';
COMMENT ON COLUMN contactsync.traces.id IS 'grows with time';
COMMENT ON COLUMN contactsync.traces.server IS 'server that was called';
COMMENT ON COLUMN contactsync.traces.source IS 'watched table; null: contactsync_upsert()';
COMMENT ON COLUMN contactsync.traces.key IS 'key of the row';
COMMENT ON COLUMN contactsync.traces.started_at IS 'when the call began';
COMMENT ON COLUMN contactsync.traces.duration IS 'how long it took';
COMMENT ON COLUMN contactsync.traces.method IS 'HTTP method';
COMMENT ON COLUMN contactsync.traces.url IS 'URL, without secrets';
COMMENT ON COLUMN contactsync.traces.request IS 'body of the request';
COMMENT ON COLUMN contactsync.traces.response IS 'body of the answer';
COMMENT ON COLUMN contactsync.traces.request_headers IS 'headers of the request, without secrets';
COMMENT ON COLUMN contactsync.traces.response_headers IS 'headers of the answer';
COMMENT ON COLUMN contactsync.traces.upsert_key IS 'what the provider identifies the contact by';
COMMENT ON COLUMN contactsync.traces.email IS 'address of the contact';
COMMENT ON COLUMN contactsync.traces.status IS 'HTTP status; 0: no answer';
COMMENT ON COLUMN contactsync.traces.verdict IS 'conclusion that was drawn from the answer';

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
), walk AS (
	SELECT s.watch, s.kind,
		pg_catalog.format('%s: %s %% of %s rows %s', s.kind, pg_catalog.floor(100.0 * s.done / GREATEST(s.total, s.done, 1)), GREATEST(s.total, s.done),
			CASE s.phase WHEN 'counting' THEN 'counted' WHEN 'missing' THEN 'looked for that were sent' ELSE 'read' END)
			|| COALESCE('; waits for send_window until ' || pg_catalog.to_char(o.opens_at, 'YYYY-MM-DD HH24:MI'), '') AS progress,
		CASE WHEN s.done > 0 AND o.opens_at IS NULL THEN pg_catalog.date_trunc('second', pg_catalog.now() + LEAST(GREATEST(s.total - s.done, 0)
				* pg_catalog.date_part('epoch', s.updated_at - s.started_at) / s.done, 1e9) * interval '1 second') END AS eta
	FROM contactsync.scan s LEFT JOIN LATERAL (SELECT contactsync.window_opens_at(f.srvoptions) AS opens_at
			FROM contactsync.endpoint e JOIN pg_catalog.pg_foreign_server f ON f.oid = e.server_oid WHERE e.id = s.endpoint) o ON true
	WHERE s.state = 'running' AND s.kind <> 'poll'
), session AS (
	SELECT k.objid::int8 AS endpoint, pg_catalog.min(k.pid) AS pid
	FROM pg_catalog.pg_lock_status() k
	WHERE k.locktype = 'object' AND k.objsubid = 3 AND k.granted AND k.mode = 'ExclusiveLock'
		AND k.classid = (SELECT x.oid FROM pg_catalog.pg_extension x WHERE x.extname = 'contactsync')
		AND k.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
	GROUP BY k.objid
), health AS (
	SELECT e.id AS endpoint, l.watch, e.server, l.source, e.role, pg_catalog.pg_has_role(e.role, 'USAGE') AS mine,
		CASE WHEN e.database <> contactsync.database_identity() OR p.paused_at IS NOT NULL THEN 'paused'
			 WHEN w.state <> 'running' THEN w.state
			 WHEN e.state <> 'running' THEN e.state
			 WHEN q.contacts > 0 OR s.kind IS NOT NULL THEN 'running'
			 ELSE 'idle' END AS state,
		CASE WHEN e.database <> contactsync.database_identity()
			 THEN pg_catalog.format('this database was restored or copied; if no other sends to the server: SELECT contactsync_resume(%L)', e.server)
			 WHEN p.paused_at IS NOT NULL THEN pg_catalog.concat_ws(': ', 'by ' || p.paused_by, p.reason)
			 WHEN w.state <> 'running' THEN w.reason
			 ELSE COALESCE(CASE WHEN e.state <> 'running' THEN e.reason END,
				'contactsync_run() delivers, in the session with pid ' || i.pid,
				CASE WHEN r.locked THEN 'an open transaction has locked what is stored of the server or the watch' END, e.reason, CASE WHEN q.contacts > 0 THEN w.reason END,
				NULLIF(pg_catalog.concat_ws('; ', s.progress,
					'learning: ' || NULLIF(r.waiting, 0) || ' contacts wait until all contacts at the provider are listed'
					|| COALESCE('; the last request failed: ' || e.pull_error, '')), ''),
				(SELECT pg_catalog.format('replaced: another table is called %s now; what was watched by that name is %s', x.oid::pg_catalog.regclass, w.source)
					FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace xn ON xn.oid = x.relnamespace
					WHERE xn.nspname = w.known_as[1] AND x.relname = w.known_as[2] AND x.oid <> w.source),
				CASE WHEN w.poll_column IS NULL AND EXISTS (SELECT FROM pg_catalog.pg_subscription_rel u WHERE u.srrelid = w.source)
						AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = w.source AND t.tgenabled IN ('A', 'R')
							AND t.tgfoid = 'contactsync.capture'::pg_catalog.regproc)
					THEN 'subscriber: rows that a subscription applies to the table are not captured' END,
				CASE WHEN NOT w.complete AND EXISTS (SELECT FROM contactsync.due_removals() d WHERE d.endpoint = e.id AND d.waits)
					THEN 'removals wait until all rows were read once, by an import or a reconciliation' END,
				e.limitation OPERATOR(pg_catalog.#>>) '{}',
				'pulling: the last request failed: ' || e.pull_error,
				'alerts: alert_url did not take the last one: ' || (SELECT CASE WHEN a.attempts > 0 THEN a.error END FROM contactsync.alert a
					WHERE a.endpoint = e.id AND (a.attempts > 0 OR a.told_at IS NOT NULL) ORDER BY a.id DESC LIMIT 1),
				'learning is off: the contacts at the provider cannot be listed: ' || e.unlearnable) END AS reason,
		COALESCE(p.paused_at, CASE WHEN w.state <> 'running' THEN w.since END, e.since, w.created_at) AS since,
		e.until, CASE WHEN e.database <> contactsync.database_identity() THEN 0 ELSE p.watch END AS paused, COALESCE(q.contacts, 0) AS backlog, q.oldest, COALESCE(r.in_flight, 0) AS in_flight, r.pace, r.configured_pace,
		s.eta
	FROM lane l
		JOIN contactsync.endpoint e ON e.id = l.endpoint
		LEFT JOIN contactsync.watch w ON w.id = l.watch
		LEFT JOIN LATERAL (SELECT p.watch, p.paused_by, p.paused_at, p.reason FROM contactsync.pause p
						   WHERE p.endpoint = l.endpoint AND p.watch IN (0, l.watch) ORDER BY p.watch LIMIT 1) p ON true
		LEFT JOIN walk s ON s.watch = l.watch
		LEFT JOIN contactsync.backlog() q ON q.endpoint = l.endpoint AND q.watch = l.watch
		LEFT JOIN contactsync.runtime() r ON r.endpoint = l.endpoint
		LEFT JOIN session i ON i.endpoint = l.endpoint
	WHERE pg_catalog.pg_has_role(e.role, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
)
SELECT h.server, h.source, h.state, pg_catalog.date_trunc('second', h.since) AS since, h.backlog,
	pg_catalog.date_trunc('second', pg_catalog.now() - h.oldest) AS oldest,
	(SELECT pg_catalog.count(*) FROM contactsync.failure f
		WHERE f.endpoint = h.endpoint AND f.watch = h.watch AND NOT f.ignored) AS failures,
	CASE WHEN h.state = 'running' THEN GREATEST(h.eta, CASE WHEN h.backlog > 0 AND n.contacts > 0 THEN
		pg_catalog.date_trunc('second', pg_catalog.now() + LEAST(pg_catalog.sum(h.backlog) OVER (PARTITION BY h.endpoint)::float8 / n.contacts, 1e9)
			* interval '1 second') END) END AS eta,
	CASE WHEN h.mine THEN h.reason WHEN h.state IN ('halted', 'paused') THEN pg_catalog.split_part(h.reason, ':', 1) END AS reason,
	contactsync.hint(h.state, h.reason, h.server::text, CASE WHEN h.paused = 0 THEN NULL ELSE h.source::text END, h.role, k.worker,
		(SELECT pg_catalog.count(*) FROM (SELECT FROM contactsync.failure f WHERE f.endpoint = h.endpoint AND f.watch = h.watch AND NOT f.ignored
			LIMIT 1) f)) AS hint,
	pg_catalog.date_trunc('second', h.until + interval '0.999999 s') AS until, k.worker,
	COALESCE(c.synced, 0) AS synced,
	COALESCE(c.unchanged, 0) AS unchanged,
	COALESCE(c.failed, 0) AS failed,
	(SELECT pg_catalog.count(*) FROM contactsync.contact t
		WHERE t.endpoint = h.endpoint AND t.watch = h.watch AND t.held) AS held,
	(SELECT pg_catalog.count(*) FROM contactsync.source_row s WHERE s.watch = h.watch AND s.withheld) AS withheld,
	h.in_flight,
	pg_catalog.round(COALESCE(n.calls, 0)::numeric, 2)::float8 AS rate,
	pg_catalog.round(h.pace::numeric, 2)::float8 AS pace, h.configured_pace,
	pg_catalog.date_trunc('second', c.last_success) AS last_success,
	pg_catalog.date_trunc('second', c.last_error_at) AS last_error_at,
	CASE WHEN h.mine THEN c.last_error END AS last_error, h.role AS owner
FROM health h
	LEFT JOIN contactsync.counter c ON c.endpoint = h.endpoint AND c.watch = h.watch
	LEFT JOIN lately n ON n.endpoint = h.endpoint,
	contactsync.worker_state() AS k (worker)
ORDER BY pg_catalog.array_position('{halted,broken,guarded,unavailable,paused,throttled,running,idle}'::text[], h.state), h.server, h.source::text NULLS FIRST, h.role;
COMMENT ON VIEW contactsync.status
IS 'one row per server and watch: its state, the reason, since when, until when, and the command to run';
COMMENT ON COLUMN contactsync.status.server IS 'server that is sent to';
COMMENT ON COLUMN contactsync.status.last_success IS 'when the provider last accepted a contact';
COMMENT ON COLUMN contactsync.status.last_error_at IS 'when a contact was last given up on';
COMMENT ON COLUMN contactsync.status.last_error IS 'why';
COMMENT ON COLUMN contactsync.status.source IS 'watched table; null: contacts of contactsync_upsert()';
COMMENT ON COLUMN contactsync.status.owner IS 'role that sends through the server';
COMMENT ON COLUMN contactsync.status.reason IS 'why it is in this state, what an import or reconciliation has done so far, or what waits';
COMMENT ON COLUMN contactsync.status.state IS 'idle, running, throttled, unavailable, halted, paused, broken or guarded';
COMMENT ON COLUMN contactsync.status.since IS 'time at which the state began';
COMMENT ON COLUMN contactsync.status.until IS 'time at which the next call is made, if the server has to wait';
COMMENT ON COLUMN contactsync.status.oldest IS 'age of the oldest queued change';
COMMENT ON COLUMN contactsync.status.in_flight IS 'number of calls in flight to the server';
COMMENT ON COLUMN contactsync.status.eta IS 'estimated time at which the queue will be empty, and an import or reconciliation complete';
COMMENT ON COLUMN contactsync.status.synced IS 'number of contacts that the provider accepted';
COMMENT ON COLUMN contactsync.status.unchanged IS 'number of changes that made no call, because the provider had the same contact';
COMMENT ON COLUMN contactsync.status.failed IS 'number of times that a contact was given up on';
COMMENT ON COLUMN contactsync.status.failures IS 'number of rows in contactsync.failures';
COMMENT ON COLUMN contactsync.status.held IS 'number of contacts whose opt_in is true and whose consent was not claimed; claims => ''all'' of contactsync_reconcile() claims it';
COMMENT ON COLUMN contactsync.status.withheld IS 'number of rows whose contact is not created, because the provider would mail a person who did not consent';
COMMENT ON COLUMN contactsync.status.worker IS 'state of the background worker of this database';
COMMENT ON COLUMN contactsync.status.backlog
IS 'number of contacts that are queued, or to be removed and due; an estimate if the queue has more than 20000 rows';
COMMENT ON COLUMN contactsync.status.rate IS 'recent calls per second to the server';
COMMENT ON COLUMN contactsync.status.pace IS 'calls per second that are allowed to the server now';
COMMENT ON COLUMN contactsync.status.configured_pace IS 'option pace of the server; the pace is lower while the provider says that calls come too fast';
COMMENT ON COLUMN contactsync.status.hint IS 'command to run; null: all is well';

CREATE VIEW contactsync.stats WITH (security_barrier) AS
SELECT e.server, pg_catalog.date_trunc('second', COALESCE(b.since, s.since)) AS since,
	s.calls - COALESCE(b.calls, 0) AS calls, s.synced - COALESCE(b.synced, 0) AS synced, s.unchanged - COALESCE(b.unchanged, 0) AS unchanged,
	s.failed - COALESCE(b.failed, 0) AS failed,
	s.throttled - COALESCE(b.throttled, 0) AS throttled, s.retries - COALESCE(b.retries, 0) AS retries,
	s.unanswered - COALESCE(b.unanswered, 0) AS unanswered,
	pg_catalog.round(GREATEST(s.seconds - COALESCE(b.seconds, 0), 0)::numeric, 3)::float8 AS seconds,
	s.sent - COALESCE(b.sent, 0) AS sent, s.received - COALESCE(b.received, 0) AS received, e.role AS owner,
	(SELECT pg_catalog.array_agg(u.a - COALESCE(u.b, 0) ORDER BY u.i)
		FROM ROWS FROM (pg_catalog.unnest(s.latency), pg_catalog.unnest(b.latency)) WITH ORDINALITY AS u (a, b, i)) AS latency
FROM contactsync.stat s JOIN contactsync.endpoint e ON e.id = s.endpoint
	LEFT JOIN contactsync.stat b ON b.endpoint = s.endpoint AND b.base
WHERE NOT s.base AND (pg_catalog.pg_has_role(e.role, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE'))
ORDER BY e.server, e.role;
COMMENT ON VIEW contactsync.stats IS 'totals since contactsync_stats_reset(), one row per server';
COMMENT ON COLUMN contactsync.stats.server IS 'server that was called';
COMMENT ON COLUMN contactsync.stats.calls IS 'calls';
COMMENT ON COLUMN contactsync.stats.owner IS 'role that sends through the server';
COMMENT ON COLUMN contactsync.stats.since IS 'time of the last reset';
COMMENT ON COLUMN contactsync.stats.unchanged IS 'changes that made no call, because the provider had the same contact';
COMMENT ON COLUMN contactsync.stats.failed IS 'contacts that were given up on';
COMMENT ON COLUMN contactsync.stats.received IS 'total size of response bodies in bytes';
COMMENT ON COLUMN contactsync.stats.retries IS 'calls that repeated an earlier call';
COMMENT ON COLUMN contactsync.stats.throttled
IS 'calls that the provider refused because there were too many';
COMMENT ON COLUMN contactsync.stats.unanswered IS 'calls without an answer';
COMMENT ON COLUMN contactsync.stats.synced IS 'contacts that the provider accepted';
COMMENT ON COLUMN contactsync.stats.sent IS 'total size of request bodies in bytes';
COMMENT ON COLUMN contactsync.stats.seconds IS 'total duration of all calls';
COMMENT ON COLUMN contactsync.stats.latency
IS 'number of calls by duration; see contactsync.latencies';

CREATE VIEW contactsync.latencies WITH (security_barrier) AS
SELECT s.server, COALESCE(b.seconds, 'Infinity') AS seconds,
	pg_catalog.sum(u.calls) OVER (PARTITION BY s.server, s.owner ORDER BY u.i)::bigint AS calls, s.owner
FROM contactsync.stats s, pg_catalog.unnest(s.latency) WITH ORDINALITY AS u (calls, i)
	LEFT JOIN pg_catalog.unnest(contactsync.latency_bounds()) WITH ORDINALITY AS b (seconds, i) ON b.i = u.i
ORDER BY s.server, s.owner, u.i;
COMMENT ON VIEW contactsync.latencies
IS 'number of calls since contactsync_stats_reset() that took at most the given time, one row per server and bound';
COMMENT ON COLUMN contactsync.latencies.server IS 'server that was called';
COMMENT ON COLUMN contactsync.latencies.calls IS 'number of calls that took no longer';
COMMENT ON COLUMN contactsync.latencies.owner IS 'role that sends through the server';
COMMENT ON COLUMN contactsync.latencies.seconds IS 'upper bound; Infinity includes all calls';

CREATE VIEW contactsync.history WITH (security_barrier) AS
SELECT e.server, m.at, m.calls, m.synced, m.unchanged, m.failed, m.throttled, m.retries, m.unanswered,
	m.backlog, pg_catalog.date_trunc('second', m.oldest) AS oldest,
	pg_catalog.round(m.seconds::numeric, 3)::float8 AS seconds, m.sent, m.received,
	(SELECT pg_catalog.jsonb_object_agg(f.reason, f.failed) FROM contactsync.minute_failure f
		WHERE f.endpoint = m.endpoint AND f.at = m.at) AS reasons,
	m.latency, e.role AS owner
FROM contactsync.minute m JOIN contactsync.endpoint e ON e.id = m.endpoint
WHERE pg_catalog.pg_has_role(e.role, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
ORDER BY m.at DESC, e.server, e.role;
COMMENT ON VIEW contactsync.history
IS 'the columns of contactsync.stats per minute; minutes without calls and backlog are missing';
COMMENT ON COLUMN contactsync.history.server IS 'server that was called';
COMMENT ON COLUMN contactsync.history.calls IS 'calls';
COMMENT ON COLUMN contactsync.history.synced IS 'contacts that the provider accepted';
COMMENT ON COLUMN contactsync.history.unchanged IS 'changes that made no call, because the provider had the same contact';
COMMENT ON COLUMN contactsync.history.failed IS 'contacts that were given up on';
COMMENT ON COLUMN contactsync.history.throttled IS 'calls that the provider refused because there were too many';
COMMENT ON COLUMN contactsync.history.retries IS 'calls that repeated an earlier call';
COMMENT ON COLUMN contactsync.history.unanswered IS 'calls without an answer';
COMMENT ON COLUMN contactsync.history.seconds IS 'total duration of the calls';
COMMENT ON COLUMN contactsync.history.sent IS 'total size of request bodies in bytes';
COMMENT ON COLUMN contactsync.history.received IS 'total size of response bodies in bytes';
COMMENT ON COLUMN contactsync.history.latency IS 'number of calls by duration, with the bounds of contactsync.latencies';
COMMENT ON COLUMN contactsync.history.owner IS 'role that sends through the server';
COMMENT ON COLUMN contactsync.history.at IS 'beginning of the minute';
COMMENT ON COLUMN contactsync.history.reasons
IS 'number of contacts that were given up on, by reason';
COMMENT ON COLUMN contactsync.history.backlog
IS 'number of contacts that were queued at some time in the minute; null: none, or not counted';
COMMENT ON COLUMN contactsync.history.oldest
IS 'age of the oldest change that was queued then, and not paused; null: none, or not looked at';

CREATE VIEW contactsync.progress WITH (security_barrier) AS
WITH walk AS (
	SELECT s.endpoint, s.watch, s.kind, s.state, s.reason, s.phase, s.done, GREATEST(s.total, s.done) AS total,
		s.new, s.changed, s.unchanged, s.refused, s.withheld, s.invalid, s.filtered, s.gone, s.started_at, s.finished_at,
		s.done / NULLIF(pg_catalog.date_part('epoch', s.updated_at - s.started_at), 0) AS rate,
		CASE WHEN s.state = 'running' THEN (SELECT contactsync.window_opens_at(f.srvoptions)
			FROM contactsync.endpoint e JOIN pg_catalog.pg_foreign_server f ON f.oid = e.server_oid WHERE e.id = s.endpoint) END AS opens_at
	FROM contactsync.scan s WHERE s.kind <> 'poll'
	UNION ALL
	SELECT b.endpoint, b.watch, 'backlog', 'running', NULL, 'sending', NULL, b.contacts,
		NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, b.oldest, NULL,
		(SELECT pg_catalog.sum(m.synced + m.unchanged + m.failed)
				/ GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(m.first_at)), 1)::float8
			FROM contactsync.minute m WHERE m.endpoint = b.endpoint
				AND m.at >= pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() - interval '1 min')), NULL
	FROM contactsync.backlog() b WHERE b.contacts > 0
)
SELECT e.server, w.source, p.kind, p.state, p.phase,
	CASE WHEN p.total > 0 THEN pg_catalog.round(100.0 * p.done / p.total, 1) END AS percent, p.done, p.total,
	pg_catalog.round(p.rate::numeric, 1)::float8 AS rate,
	CASE WHEN p.state = 'running' AND p.rate > 0 AND p.opens_at IS NULL
		THEN pg_catalog.date_trunc('second', pg_catalog.now()
			+ LEAST((p.total - COALESCE(p.done, 0)) / p.rate, 1e9) * interval '1 second') END AS eta,
	COALESCE(p.reason, 'waits for send_window until ' || pg_catalog.to_char(p.opens_at, 'YYYY-MM-DD HH24:MI')) AS reason,
	p.new, p.changed, p.unchanged, p.refused, p.withheld, p.invalid, p.filtered, p.gone,
	pg_catalog.date_trunc('second', p.started_at) AS started_at, pg_catalog.date_trunc('second', p.finished_at) AS finished_at, e.role AS owner
FROM walk p
	JOIN contactsync.endpoint e ON e.id = p.endpoint
	LEFT JOIN contactsync.watch w ON w.id = p.watch
WHERE pg_catalog.pg_has_role(e.role, 'USAGE')
ORDER BY p.state <> 'running', p.started_at DESC, e.server, w.source::text;
COMMENT ON VIEW contactsync.progress
IS 'imports and reconciliations, running and last ones, and the queue: how far they are, how fast, and how long they will take';
COMMENT ON COLUMN contactsync.progress.server IS 'server that is sent to';
COMMENT ON COLUMN contactsync.progress.source IS 'watched table; null: contactsync_upsert()';
COMMENT ON COLUMN contactsync.progress.state IS 'running, done, canceled or failed';
COMMENT ON COLUMN contactsync.progress.percent IS 'share of the rows of this phase that were read';
COMMENT ON COLUMN contactsync.progress.reason IS 'why it failed, or what it waits for';
COMMENT ON COLUMN contactsync.progress.withheld IS 'rows whose contact is not created, because the provider would mail a person who did not consent';
COMMENT ON COLUMN contactsync.progress.started_at IS 'when it began; of the backlog: when its oldest change was queued';
COMMENT ON COLUMN contactsync.progress.finished_at IS 'when it ended; null: it has not';
COMMENT ON COLUMN contactsync.progress.owner IS 'role that sends through the server';
COMMENT ON COLUMN contactsync.progress.kind IS 'import, reconcile or backlog';
COMMENT ON COLUMN contactsync.progress.done IS 'number of rows read in this phase';
COMMENT ON COLUMN contactsync.progress.new IS 'rows that were never sent';
COMMENT ON COLUMN contactsync.progress.changed IS 'rows that differ from what was last sent';
COMMENT ON COLUMN contactsync.progress.unchanged IS 'rows that are as they were last sent';
COMMENT ON COLUMN contactsync.progress.refused IS 'rows that the provider rejected before and that have not changed since';
COMMENT ON COLUMN contactsync.progress.invalid IS 'rows that cannot be sent as they are';
COMMENT ON COLUMN contactsync.progress.filtered IS 'rows that the filter excludes';
COMMENT ON COLUMN contactsync.progress.gone IS 'contacts whose row no longer exists';
COMMENT ON COLUMN contactsync.progress.eta IS 'estimated time at which the phase ends';
COMMENT ON COLUMN contactsync.progress.phase
IS 'counting: what would be sent, where many contacts at once could trigger mail; comparing: reading rows and queueing those that differ; missing: finding contacts whose row no longer exists; sending';
COMMENT ON COLUMN contactsync.progress.total IS 'estimated number of rows in this phase';
COMMENT ON COLUMN contactsync.progress.rate
IS 'rows per second in this phase; for the backlog, recent contacts per second';

GRANT SELECT ON contactsync.progress, contactsync.watches, contactsync.changes, contactsync.contacts, contactsync.failures,
	contactsync.calls, contactsync.duplicates, contactsync.opt_outs, contactsync.remote_contacts, contactsync.status, contactsync.stats,
	contactsync.latencies, contactsync.history, contactsync.traces, contactsync.runs, contactsync.alerts,
	contactsync.outcomes TO PUBLIC;

-- ---------------------------------------------------------------------------
-- Private.
-- ---------------------------------------------------------------------------

CREATE FUNCTION contactsync.note_ddl()
RETURNS event_trigger LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_note_ddl';
COMMENT ON FUNCTION contactsync.note_ddl()
IS 'event trigger function that lets watches follow renamed columns and servers, and new tables that inherit from watched ones';
REVOKE ALL ON FUNCTION contactsync.note_ddl() FROM PUBLIC;

CREATE FUNCTION contactsync.note_drop()
RETURNS event_trigger LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_note_drop';
COMMENT ON FUNCTION contactsync.note_drop()
IS 'event trigger function that ends the watches of dropped tables and servers';
REVOKE ALL ON FUNCTION contactsync.note_drop() FROM PUBLIC;

CREATE EVENT TRIGGER contactsync_ddl ON ddl_command_end
WHEN TAG IN ('CREATE SCHEMA', 'CREATE TABLE', 'ALTER TABLE', 'CREATE VIEW', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE', 'ALTER SERVER')
EXECUTE FUNCTION contactsync.note_ddl();
COMMENT ON EVENT TRIGGER contactsync_ddl IS 'lets watches follow their tables and servers';

CREATE EVENT TRIGGER contactsync_drop ON sql_drop EXECUTE FUNCTION contactsync.note_drop();
COMMENT ON EVENT TRIGGER contactsync_drop IS 'ends watches together with their tables and servers';

CREATE FUNCTION contactsync.launch()
RETURNS void LANGUAGE c
AS 'MODULE_PATHNAME', 'contactsync_launch';
COMMENT ON FUNCTION contactsync.launch()
IS 'starts the background worker of this database when the transaction commits';
REVOKE ALL ON FUNCTION contactsync.launch() FROM PUBLIC;

SELECT contactsync.launch();
