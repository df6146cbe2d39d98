/*-------------------------------------------------------------------------
 *
 * state.c
 *		What is stored of endpoints, contacts, failures and calls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/encoding.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "store/state.h"

/*
 * Arguments
 */

static Datum
text_or_null(const char *utf8, char *isnull)
{
	*isnull = utf8 ? ' ' : 'n';
	return utf8 ? CStringGetTextDatum(cs_encoding_from_utf8(utf8)) : (Datum) 0;
}

/* A text[] of texts in the database's encoding. */
static Datum
text_array(int n, char **texts)
{
	Datum	   *elements = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
		elements[i] = CStringGetTextDatum(texts[i]);
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Effect: runs a statement about an endpoint, a watch and some keys of it. */
static void
execute_for_keys(CsStatement *statement, int endpoint, int watch, int n, char **keys)
{
	Datum		args[3];

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = text_array(n, keys);
	cs_sql_execute(statement, args, NULL);
}

/*
 * Endpoints and watches
 */

/*
 * Effect: endpoints know their servers by their names, also if they were renamed,
 * or dropped and made again.
 */
void
cs_state_follow_servers(void)
{
	static CsStatement adopt = {
		"UPDATE contactsync.endpoint e SET server_oid = s.oid FROM pg_foreign_server s"
		" WHERE s.srvname = e.server AND s.oid <> e.server_oid"
		" AND NOT EXISTS (SELECT FROM pg_foreign_server o WHERE o.oid = e.server_oid)"
		" AND NOT EXISTS (SELECT FROM contactsync.endpoint o WHERE o.server_oid = s.oid AND o.role = e.role"
		" AND o.database = e.database) AND e.database = contactsync.database_identity()"
	};
	static CsStatement follow = {
		"UPDATE contactsync.endpoint e SET server = s.srvname FROM pg_foreign_server s"
		" WHERE s.oid = e.server_oid AND s.srvname <> e.server AND e.database = contactsync.database_identity()"
	};

	cs_sql_execute(&adopt, NULL, NULL);
	cs_sql_execute(&follow, NULL, NULL);
}

/* Effect: nothing is known of an endpoint any more. */
void
cs_state_drop_endpoint(int endpoint)
{
	static const char *const tables[] = {"queue", "contact", "failure", "counter", "call", "remote_contact", "pause", "stat",
	"minute", "minute_failure", "traced", "trace", "forgotten"};

	for (int i = 0; i < lengthof(tables); i++)
		cs_sql_execute_text("DELETE FROM contactsync.%s WHERE endpoint = %d", tables[i], endpoint);
	cs_sql_execute_text("DELETE FROM contactsync.endpoint WHERE id = %d", endpoint);
}

/* All endpoints that this database sends from, palloc'd in the current context. */
List *
cs_state_load_endpoints(void)
{
	static CsStatement statement = {
		"SELECT e.id, e.server_oid, e.role, e.server, e.busy, e.pace, e.provider_state #>> '{}', e.stale_before,"
		" CASE WHEN e.state = 'throttled' THEN extract(epoch FROM e.until)::float8 END, e.reason, e.halt_notified"
		" FROM contactsync.endpoint e WHERE e.database = contactsync.database_identity() ORDER BY e.id"
	};
	MemoryContext context = CurrentMemoryContext;
	List	   *endpoints = NIL;
	uint64		n;

	cs_state_follow_servers();
	n = cs_sql_execute(&statement, NULL, NULL);
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
	{
		CsEndpointState *endpoint = palloc0(sizeof(CsEndpointState));
		bool		isnull;
		Datum		pace;
		Datum		stale_before;
		Datum		until;

		endpoint->id = cs_sql_int(i, 1);
		endpoint->serverid = DatumGetObjectId(cs_sql_value(i, 2, &isnull));
		endpoint->roleid = DatumGetObjectId(cs_sql_value(i, 3, &isnull));
		endpoint->server_name = cs_sql_text(i, 4);
		endpoint->busy = DatumGetBool(cs_sql_value(i, 5, &isnull));
		pace = cs_sql_value(i, 6, &isnull);
		endpoint->pace = isnull ? 0 : DatumGetFloat8(pace);
		endpoint->provider_state = cs_sql_text(i, 7);
		stale_before = cs_sql_value(i, 8, &isnull);
		endpoint->stale_before = isnull ? 0 : DatumGetTimestampTz(stale_before);
		until = cs_sql_value(i, 9, &isnull);
		endpoint->throttled_until = isnull ? 0 : DatumGetFloat8(until);
		endpoint->reason = cs_sql_text(i, 10);
		endpoint->halt_notified = DatumGetBool(cs_sql_value(i, 11, &isnull));
		endpoints = lappend(endpoints, endpoint);
	}
	return endpoints;
}

/*
 * The id of the endpoint of a server and role, made if there is none.  One that
 * is away is known by the name of its server.
 */
int
cs_state_endpoint_id(Oid serverid, const char *server_name, Oid roleid)
{
	static CsStatement find = {
		"SELECT id FROM contactsync.endpoint WHERE role = $2 AND"
		" CASE WHEN database = contactsync.database_identity() THEN server_oid = $1 ELSE server = $3 END",
		3, {OIDOID, REGROLEOID, NAMEOID}
	};
	static CsStatement make = {
		"INSERT INTO contactsync.endpoint (server_oid, role, server, database, timeline)"
		" VALUES ($1, $2, $3, contactsync.database_identity(), $4)"
		" ON CONFLICT (server_oid, role, database) DO UPDATE SET server = excluded.server RETURNING id",
		4, {OIDOID, REGROLEOID, NAMEOID, INT4OID}
	};
	Datum		args[4];
	NameData	name;

	args[0] = ObjectIdGetDatum(serverid);
	args[1] = ObjectIdGetDatum(roleid);
	namestrcpy(&name, server_name);
	args[2] = NameGetDatum(&name);
	args[3] = Int32GetDatum((int32) GetWALInsertionTimeLine());
	if (cs_sql_execute(&find, args, NULL) == 0)
	{
		cs_sql_execute(&make, args, NULL);
		cs_shmem_reload_at_commit();
	}
	return cs_sql_int(0, 1);
}

/* Effect: remembers that calls are about to be made, or that none is under way. */
void
cs_state_set_busy(int endpoint, bool busy)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET busy = $2 WHERE id = $1", 2, {INT4OID, BOOLOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), BoolGetDatum(busy)};

	cs_sql_execute(&statement, args, NULL);
}

/* Effect: it is remembered whether NOTIFY told last that the endpoint is halted. */
void
cs_state_set_halt_notified(int endpoint, bool halt_notified)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET halt_notified = $2 WHERE id = $1", 2, {INT4OID, BOOLOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), BoolGetDatum(halt_notified)};

	cs_sql_execute(&statement, args, NULL);
}

/* Effect: stores what the provider taught us; 0 and NULL: nothing. */
void
cs_state_remember(int endpoint, double pace, const char *provider_state)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET pace = $2, provider_state = to_jsonb($3) WHERE id = $1",
		3, {INT4OID, FLOAT8OID, TEXTOID}
	};
	Datum		args[3];
	char		nulls[4] = "   ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = Float8GetDatum(pace);
	nulls[1] = pace > 0 ? ' ' : 'n';
	args[2] = text_or_null(provider_state, &nulls[2]);
	cs_sql_execute(&statement, args, nulls);
}

/* Effect: the view status says so; "since" stays while the state does. */
void
cs_state_set_health(int endpoint, const char *state, const char *reason, TimestampTz until)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET since = CASE WHEN state = $2 THEN since ELSE clock_timestamp() END,"
		" state = $2, reason = $3, until = $4 WHERE id = $1",
		4, {INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	Datum		args[4];
	char		nulls[5] = "    ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = CStringGetTextDatum(state);
	args[2] = text_or_null(reason, &nulls[2]);
	args[3] = TimestampTzGetDatum(until);
	nulls[3] = until == 0 ? 'n' : ' ';
	cs_sql_execute(&statement, args, nulls);
}

bool
cs_state_set_watch(int watch, bool broken, const char *reason)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch w SET since = CASE WHEN w.state = $2 THEN w.since ELSE clock_timestamp() END,"
		" state = $2, reason = $3 FROM contactsync.watch b WHERE w.id = $1 AND b.id = w.id AND w.state <> 'guarded'"
		" RETURNING b.state <> $2",
		3, {INT4OID, TEXTOID, TEXTOID}
	};
	Datum		args[3];
	char		nulls[4] = "   ";
	bool		isnull;

	args[0] = Int32GetDatum(watch);
	args[1] = CStringGetTextDatum(broken ? "broken" : "running");
	args[2] = text_or_null(reason, &nulls[2]);
	return cs_sql_execute(&statement, args, nulls) > 0 && DatumGetBool(cs_sql_value(0, 1, &isnull));
}

/* Effect: the watch is held until somebody lets it go on. */
void
cs_state_guard_watch(int watch, const char *reason)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET state = 'guarded', reason = $2, since = clock_timestamp() WHERE id = $1",
		2, {INT4OID, TEXTOID}
	};
	Datum		args[2] = {Int32GetDatum(watch), CStringGetTextDatum(reason)};

	cs_sql_execute(&statement, args, NULL);
}

static bool
exists(CsStatement *statement, int endpoint, int watch)
{
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(watch)};
	bool		isnull;

	cs_sql_execute(statement, args, NULL);
	return DatumGetBool(cs_sql_value(0, 1, &isnull));
}

bool
cs_state_has_contacts(int endpoint, int watch)
{
	static CsStatement statement = {
		"SELECT EXISTS (SELECT FROM contactsync.contact WHERE endpoint = $1 AND watch = $2)",
		2, {INT4OID, INT4OID}
	};

	return exists(&statement, endpoint, watch);
}

bool
cs_state_has_failures(int endpoint, int watch)
{
	static CsStatement statement = {
		"SELECT EXISTS (SELECT FROM contactsync.failure WHERE endpoint = $1 AND watch = $2)",
		2, {INT4OID, INT4OID}
	};

	return exists(&statement, endpoint, watch);
}

/*
 * Contacts
 */

/* Effect: failures of these keys are over. */
void
cs_state_clear_failures(int endpoint, int watch, int n, char **keys)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.failure WHERE ctid = ANY (ARRAY(SELECT f.ctid FROM unnest($3) AS k (key),"
		" LATERAL (SELECT ctid FROM contactsync.failure WHERE watch = $2 AND key = k.key AND endpoint = $1"
		" OFFSET 0) f))",
		3, {INT4OID, INT4OID, TEXTARRAYOID}
	};

	execute_for_keys(&statement, endpoint, watch, n, keys);
}

/*
 * Effect: what these keys sent last is not what the provider has, for another
 * row was sent.  That they claimed consent once stays known.
 */
void
cs_state_forget_digests(int endpoint, int watch, int n, char **keys)
{
	static CsStatement statement = {
		"UPDATE contactsync.contact SET digest = '00000000-0000-0000-0000-000000000000'"
		" WHERE ctid = ANY (ARRAY(SELECT c.ctid FROM unnest($3) AS k (key),"
		" LATERAL (SELECT ctid FROM contactsync.contact WHERE watch = $2 AND key = k.key AND endpoint = $1"
		" OFFSET 0) c)) AND digest IS NOT NULL",
		3, {INT4OID, INT4OID, TEXTARRAYOID}
	};

	execute_for_keys(&statement, endpoint, watch, n, keys);
}

/* Effect: nothing is known of these keys. */
void
cs_state_forget_contacts(int endpoint, int watch, int n, char **keys)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.contact WHERE ctid = ANY (ARRAY(SELECT c.ctid FROM unnest($3) AS k (key),"
		" LATERAL (SELECT ctid FROM contactsync.contact WHERE watch = $2 AND key = k.key AND endpoint = $1"
		" OFFSET 0) c))",
		3, {INT4OID, INT4OID, TEXTARRAYOID}
	};

	execute_for_keys(&statement, endpoint, watch, n, keys);
}

/*
 * The key, and the watch, of another row that was sent as the contact of that
 * upsert key, which is an e-mail address: the last one if there are several.
 * One that failed since has another address now.  NULL: none.  palloc'd in SPI's context.
 */
char *
cs_state_find_sharer(int endpoint, const char *upsert_key, int watch, const char *key,
					 int *sharer_watch)
{
	static CsStatement statement = {
		"SELECT c.key, c.watch FROM contactsync.contact c WHERE c.upsert_key = $2 AND c.endpoint = $1"
		" AND c.email IS NULL AND c.action = 'u' AND c.watch <> 0 AND (c.watch, c.key) <> ($3, $4)"
		" AND NOT EXISTS (SELECT FROM contactsync.failure f"
		" WHERE f.watch = c.watch AND f.key = c.key AND f.endpoint = c.endpoint)"
		" ORDER BY c.synced_at DESC LIMIT 1",
		4, {INT4OID, TEXTOID, INT4OID, TEXTOID}
	};
	Datum		args[4];

	args[0] = Int32GetDatum(endpoint);
	args[1] = CStringGetTextDatum(cs_encoding_from_utf8(upsert_key));
	args[2] = Int32GetDatum(watch);
	args[3] = CStringGetTextDatum(key);
	if (cs_sql_execute(&statement, args, NULL) == 0)
		return NULL;
	*sharer_watch = cs_sql_int(0, 2);
	return cs_sql_text(0, 1);
}

/*
 * Effect: what contactsync_upsert() sent of these contacts is not what the
 * provider has any more.
 */
void
cs_state_expire_direct(int endpoint, int n, const CsStored *stored)
{
	static CsStatement statement = {
		"UPDATE contactsync.contact SET digest = NULL WHERE ctid = ANY (ARRAY(SELECT c.ctid FROM unnest($2) AS k (key),"
		" LATERAL (SELECT ctid FROM contactsync.contact WHERE watch = 0 AND key = k.key AND endpoint = $1"
		" AND digest IS NOT NULL OFFSET 0) c))",
		2, {INT4OID, TEXTARRAYOID}
	};
	char	  **keys = palloc(n * sizeof(char *));
	Datum		args[2];

	for (int i = 0; i < n; i++)
		keys[i] = cs_encoding_from_utf8(stored[i].contact->upsert_key);
	args[0] = Int32GetDatum(endpoint);
	args[1] = text_array(n, keys);
	cs_sql_execute(&statement, args, NULL);
}

/*
 * Effect: one contact was given up on.  What the provider has stays known,
 * unless the contact may have reached it.
 */
static void
store_failure(int endpoint, int watch, const CsStored *stored)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.failure AS f (endpoint, watch, key, upsert_key, reason, code, message, field,"
		" attempts, first_at, last_at, request_id, contact, digest)"
		" SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, t, t, $10, $11, $12 FROM clock_timestamp() t"
		" ON CONFLICT (watch, key, endpoint) DO UPDATE SET upsert_key = excluded.upsert_key,"
		" reason = excluded.reason, code = excluded.code, message = excluded.message, field = excluded.field,"
		" attempts = f.attempts + excluded.attempts, last_at = excluded.last_at,"
		" request_id = excluded.request_id, contact = excluded.contact, digest = excluded.digest,"
		" ignored = f.ignored AND (f.upsert_key, f.reason, f.code, f.message, f.contact) IS NOT DISTINCT FROM"
		" (excluded.upsert_key, excluded.reason, excluded.code, excluded.message, excluded.contact)",
		12, {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, JSONBOID,
		UUIDOID}
	};
	static CsStatement doubt = {
		"UPDATE contactsync.contact SET error = $4, digest = CASE WHEN $5 THEN NULL ELSE digest END,"
		" consent_sent = consent_sent AND NOT $6"
		" WHERE watch = $2 AND key = $3 AND endpoint = $1",
		6, {INT4OID, INT4OID, TEXTOID, TEXTOID, BOOLOID, BOOLOID}
	};
	static const pg_uuid_t none = {{0}};
	Datum		args[12];
	char		nulls[13] = "            ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = CStringGetTextDatum(stored->key);
	args[3] = text_or_null(stored->contact ? stored->contact->upsert_key : NULL, &nulls[3]);
	args[4] = CStringGetTextDatum(stored->reason);
	args[5] = text_or_null(stored->code, &nulls[5]);
	args[6] = text_or_null(stored->message, &nulls[6]);
	args[7] = text_or_null(stored->field, &nulls[7]);
	args[8] = Int32GetDatum(stored->attempts);
	args[9] = text_or_null(stored->request_id, &nulls[9]);
	args[10] = PointerGetDatum(stored->direct);
	nulls[10] = stored->direct ? ' ' : 'n';
	args[11] = UUIDPGetDatum(&stored->digest);
	nulls[11] = memcmp(&stored->digest, &none, sizeof(none)) == 0 ? 'n' : ' ';
	cs_sql_execute(&statement, args, nulls);

	args[3] = CStringGetTextDatum(stored->reason);
	args[4] = BoolGetDatum(stored->maybe_sent);
	/* a withdrawal that may have arrived: consent would have to be told anew */
	args[5] = BoolGetDatum(stored->maybe_sent && stored->withdraws);
	cs_sql_execute(&doubt, args, NULL);
}

void
cs_state_store_failed(int endpoint, int watch, int n, const CsStored *stored)
{
	for (int i = 0; i < n; i++)
		store_failure(endpoint, watch, &stored[i]);
}

/*
 * Effect: what is stored of watches that are gone is gone: outcomes of calls
 * that were under way when they were dropped.  A watch that has never been made
 * here is not gone; its row may be about to be restored.
 */
void
cs_state_sweep(void)
{
#define SWEEP(table) { \
	"WITH RECURSIVE w AS (SELECT min(watch) AS id FROM contactsync." table \
	" UNION ALL SELECT (SELECT t.watch FROM contactsync." table " t WHERE t.watch > w.id ORDER BY t.watch LIMIT 1)" \
	" FROM w WHERE w.id IS NOT NULL)" \
	" DELETE FROM contactsync." table " WHERE watch = ANY (ARRAY(SELECT w.id FROM w, contactsync.watch_id_seq s" \
	" WHERE w.id > 0 AND s.is_called AND w.id <= s.last_value" \
	" AND NOT EXISTS (SELECT FROM contactsync.watch x WHERE x.id = w.id)))" \
	" AND endpoint IN (SELECT id FROM contactsync.endpoint WHERE database = contactsync.database_identity())"}
	static CsStatement statements[] = {SWEEP("contact"), SWEEP("failure"), SWEEP("counter"), SWEEP("scan")};

	for (int i = 0; i < lengthof(statements); i++)
		cs_sql_execute(&statements[i], NULL, NULL);
}

/*
 * Counters and calls
 */

/* Effect: adds to the counters of a lane; last_error may be NULL. */
void
cs_state_count(int endpoint, int watch, int64 synced, int64 unchanged, int64 failed,
			   const char *last_error)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.counter AS c (endpoint, watch, synced, unchanged, failed, last_success,"
		" last_error, last_error_at) VALUES ($1, $2, $3, $4, $5,"
		" CASE WHEN $3 > 0 THEN clock_timestamp() END, $6, CASE WHEN $6 IS NOT NULL THEN clock_timestamp() END)"
		" ON CONFLICT (endpoint, watch) DO UPDATE SET synced = c.synced + excluded.synced,"
		" unchanged = c.unchanged + excluded.unchanged, failed = c.failed + excluded.failed,"
		" last_success = COALESCE(excluded.last_success, c.last_success),"
		" last_error = COALESCE(excluded.last_error, c.last_error),"
		" last_error_at = COALESCE(excluded.last_error_at, c.last_error_at)",
		6, {INT4OID, INT4OID, INT8OID, INT8OID, INT8OID, TEXTOID}
	};
	Datum		args[6];
	char		nulls[7] = "      ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = Int64GetDatum(synced);
	args[3] = Int64GetDatum(unchanged);
	args[4] = Int64GetDatum(failed);
	args[5] = text_or_null(last_error, &nulls[5]);
	cs_sql_execute(&statement, args, nulls);
}

void
cs_state_log_call(const CsCallRecord *record)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.call (endpoint, started_at, duration, method, path, status, verdict, contacts,"
		" failed, attempt, sent, received, idempotency_key, request_id, error, created, updated)"
		" VALUES ($1, $2, make_interval(secs => $3), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
		17, {INT4OID, TIMESTAMPTZOID, FLOAT8OID, TEXTOID, TEXTOID, INT4OID, TEXTOID, INT4OID,
		INT4OID, INT4OID, INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID}
	};
	Datum		args[17];
	char		nulls[18] = "                 ";

	args[0] = Int32GetDatum(record->endpoint);
	args[1] = TimestampTzGetDatum(record->started_at);
	args[2] = Float8GetDatum(record->duration);
	args[3] = CStringGetTextDatum(record->method);
	args[4] = CStringGetTextDatum(cs_encoding_from_utf8(record->path));
	args[5] = Int32GetDatum(record->status);
	args[6] = CStringGetTextDatum(record->verdict);
	args[7] = Int32GetDatum(record->contacts);
	args[8] = Int32GetDatum(record->failed);
	args[9] = Int32GetDatum(record->attempt);
	args[10] = Int32GetDatum(record->sent);
	args[11] = Int32GetDatum(record->received);
	args[12] = text_or_null(record->idempotency_key, &nulls[12]);
	args[13] = text_or_null(record->request_id, &nulls[13]);
	args[14] = text_or_null(record->error, &nulls[14]);
	args[15] = Int32GetDatum(record->created);
	nulls[15] = record->created < 0 ? 'n' : ' ';
	args[16] = Int32GetDatum(record->updated);
	nulls[16] = record->updated < 0 ? 'n' : ' ';
	cs_sql_execute(&statement, args, nulls);
}

/* Effect: calls beyond call_log_rows and call_log_age are gone, oldest first. */
void
cs_state_prune_calls(void)
{
	static CsStatement by_count = {
		"DELETE FROM contactsync.call WHERE id <= (SELECT max(id) FROM contactsync.call) - $1",
		1, {INT4OID}
	};
	static CsStatement by_age = {
		"DELETE FROM contactsync.call c USING (SELECT id FROM contactsync.call ORDER BY id LIMIT 10000) o"
		" WHERE c.id = o.id AND c.started_at < clock_timestamp() - make_interval(mins => $1)",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(cs_call_log_rows);

	cs_sql_execute(&by_count, &arg, NULL);
	arg = Int32GetDatum(cs_call_log_age);
	cs_sql_execute(&by_age, &arg, NULL);
}

/* Effect: of the failures of each endpoint those beyond failure_rows and
 * failure_age are gone, those that failed longest ago first. */
void
cs_state_prune_failures(void)
{
	static CsStatement by_count = {
		"DELETE FROM contactsync.failure WHERE id = ANY (ARRAY(SELECT id FROM (SELECT id,"
		" row_number() OVER (PARTITION BY endpoint ORDER BY last_at DESC, id DESC) AS place FROM contactsync.failure) f"
		" WHERE place > $1)) AND (SELECT count(*) FROM contactsync.failure) > $1",
		1, {INT4OID}
	};
	static CsStatement by_age = {
		"DELETE FROM contactsync.failure WHERE last_at < clock_timestamp() - make_interval(mins => $1)",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(cs_failure_rows);

	cs_sql_execute(&by_count, &arg, NULL);
	arg = Int32GetDatum(cs_failure_age);
	cs_sql_execute(&by_age, &arg, NULL);
}
