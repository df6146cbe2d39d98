/*-------------------------------------------------------------------------
 *
 * failure.c
 *		contactsync.failure: contacts that were given up on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/invalidation.h"
#include "base/settings.h"
#include "base/sql.h"
#include "provider/contact.h"
#include "store/failure.h"

bool
cs_failure_exists(int endpoint, int watch)
{
	static CsStatement statement = {
		"SELECT EXISTS (SELECT FROM contactsync.failure WHERE endpoint = $1 AND watch = $2)",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(watch)};
	bool		isnull;

	cs_sql_execute(&statement, args, NULL);
	return DatumGetBool(cs_sql_value(0, 1, &isnull));
}

/*
 * Read the failures that are stored of keys; failed[i], zeroed by the caller, is for
 * keys[i].
 */
void
cs_failure_read(int endpoint, int watch, int n, char **keys, CsFailed *failed)
{
	static CsStatement statement = {
		"SELECT k.n::int4, f.reason, f.message, f.digest, f.last_at, f.conflict IS NOT NULL FROM unnest($3) WITH ORDINALITY AS k (key, n),"
		" LATERAL (SELECT reason, message, digest, last_at, conflict FROM contactsync.failure WHERE watch = $2 AND key = k.key"
		" AND endpoint = $1 OFFSET 0) f",
		3, {INT4OID, INT4OID, TEXTARRAYOID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), Int32GetDatum(watch), cs_sql_make_text_array(n, keys)};
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	uint64		found;

	cs_sql_enter(&scope);
	found = cs_sql_execute(&statement, args, NULL);
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < found; i++)
	{
		CsFailed   *one = &failed[cs_sql_int(i, 1) - 1];
		bool		isnull;
		Datum		digest = cs_sql_value(i, 4, &isnull);

		one->found = true;
		one->reason = cs_sql_text(i, 2);
		one->message = cs_sql_text(i, 3);
		one->has_digest = !isnull;
		if (!isnull)
			one->digest = *DatumGetUUIDP(digest);
		one->last_at = DatumGetTimestampTz(cs_sql_value(i, 5, &isnull));
		one->conflicts = DatumGetBool(cs_sql_value(i, 6, &isnull));
	}
	cs_sql_leave(&scope);
}

/* Delete the failures of these keys. */
void
cs_failure_clear(int endpoint, int watch, int n, char **keys)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.failure WHERE ctid = ANY (ARRAY(SELECT f.ctid FROM unnest($3) AS k (key),"
		" LATERAL (SELECT ctid FROM contactsync.failure WHERE watch = $2 AND key = k.key AND endpoint = $1"
		" OFFSET 0) f))",
		3, {INT4OID, INT4OID, TEXTARRAYOID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), Int32GetDatum(watch)};

	args[2] = cs_sql_make_text_array(n, keys);
	cs_sql_execute(&statement, args, NULL);
}

/*
 * Store that one contact was given up on.  What the provider has stays known unless
 * the contact may have reached it.
 */
static void
store_failure(int endpoint, const CsFailureStored *stored)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.failure AS f (endpoint, watch, key, upsert_key, reason, code, message, field,"
		" attempts, first_at, last_at, request_id, contact, digest, conflict, removal)"
		" SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, t, t, $10, $11, $12, hashtextextended($13, 0), $14 FROM clock_timestamp() t"
		" ON CONFLICT (watch, key, endpoint) DO UPDATE SET upsert_key = excluded.upsert_key,"
		" reason = excluded.reason, code = excluded.code, message = excluded.message, field = excluded.field,"
		" attempts = f.attempts + excluded.attempts, last_at = excluded.last_at,"
		" request_id = excluded.request_id, contact = excluded.contact, digest = excluded.digest,"
		" conflict = excluded.conflict, removal = excluded.removal,"
		" ignored = f.ignored AND (f.upsert_key, f.reason, f.code, f.message, f.contact) IS NOT DISTINCT FROM"
		" (excluded.upsert_key, excluded.reason, excluded.code, excluded.message, excluded.contact)",
		14, {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, JSONBOID,
		UUIDOID, TEXTOID, BOOLOID}
	};
	static const pg_uuid_t none = {{0}};
	Datum		args[14];
	char		nulls[15] = "              ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(stored->watch);
	args[2] = CStringGetTextDatum(stored->key);
	args[3] = stored->upsert_key ? CStringGetTextDatum(stored->upsert_key) : (Datum) 0;
	nulls[3] = stored->upsert_key ? ' ' : 'n';
	args[4] = CStringGetTextDatum(stored->reason);
	args[5] = cs_sql_message_or_null(stored->code, &nulls[5]);
	args[6] = cs_sql_message_or_null(stored->message, &nulls[6]);
	args[7] = cs_sql_message_or_null(stored->field, &nulls[7]);
	args[8] = Int32GetDatum(stored->attempts);
	args[9] = cs_sql_utf8_or_null(stored->request_id, &nulls[9]);
	args[10] = PointerGetDatum(stored->direct);
	nulls[10] = stored->direct ? ' ' : 'n';
	args[11] = UUIDPGetDatum(&stored->digest);
	nulls[11] = memcmp(&stored->digest, &none, sizeof(none)) == 0 ? 'n' : ' ';
	args[12] = stored->conflict ? CStringGetTextDatum(stored->conflict) : (Datum) 0;
	nulls[12] = stored->conflict ? ' ' : 'n';
	args[13] = BoolGetDatum(stored->removal);
	cs_sql_execute(&statement, args, nulls);
}

void
cs_failure_store(int endpoint, int n, const CsFailureStored *stored)
{
	for (int i = 0; i < n; i++)
		store_failure(endpoint, &stored[i]);
}

void
cs_failure_clear_removals(int endpoint, int n, char **upsert_keys)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.failure WHERE removal AND endpoint = $1 AND upsert_key = ANY ($2)",
		2, {INT4OID, TEXTARRAYOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), cs_sql_make_text_array(n, upsert_keys)};

	cs_sql_execute(&statement, args, NULL);
}

bool
cs_failure_retry_conflicts(int endpoint, int n, char **addresses)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys, contact, origin)"
		" SELECT f.endpoint, f.watch, pg_current_xact_id(),"
		" nextval('contactsync.queue_id') * CASE WHEN f.watch <> 0 THEN -1 ELSE 1 END, clock_timestamp(), 1,"
		" CASE WHEN f.watch <> 0 THEN ARRAY[f.key] END, f.contact, 'r' FROM contactsync.failure f"
		" WHERE f.endpoint = $1 AND f.conflict IN (SELECT hashtextextended(a, 0) FROM unnest($2) a)"
		" AND (f.watch <> 0 OR f.contact IS NOT NULL)",
		2, {INT4OID, TEXTARRAYOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), cs_sql_make_text_array(n, addresses)};

	return cs_sql_execute(&statement, args, NULL) > 0;
}

bool
cs_failure_has_row(int endpoint, const char *upsert_key)
{
	static CsStatement statement = {
		/* what was refused before a call, or was a removal, has no digest */
		"SELECT FROM contactsync.failure WHERE upsert_key = $2 AND endpoint = $1 AND watch <> 0 AND digest IS NOT NULL LIMIT 1",
		2, {INT4OID, TEXTOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), CStringGetTextDatum(upsert_key)};
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	bool		found;

	cs_sql_enter(&scope);
	found = cs_sql_execute(&statement, args, NULL) > 0;
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	return found;
}

char *
cs_failure_upsert_key(int endpoint, int watch, const char *key)
{
	static CsStatement statement = {
		"SELECT upsert_key FROM contactsync.failure WHERE watch = $2 AND key = $3 AND endpoint = $1",
		3, {INT4OID, INT4OID, TEXTOID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), Int32GetDatum(watch), CStringGetTextDatum(key)};
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	char	   *upsert_key = NULL;

	cs_sql_enter(&scope);
	if (cs_sql_execute(&statement, args, NULL) > 0)
		upsert_key = cs_sql_text(0, 1);
	if (upsert_key)
		upsert_key = MemoryContextStrdup(context, upsert_key);
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	return upsert_key;
}

/*
 * Delete failures that are older than failure_age, and the oldest ones of an
 * endpoint that has more than failure_rows.
 */
void
cs_failure_prune(void)
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

	/* nobody has an erasure that failed tried again without its failure */
	static CsStatement erase = {
		"WITH d AS (DELETE FROM contactsync.departure d WHERE d.erase AND d.failed AND NOT EXISTS"
		" (SELECT FROM contactsync.failure f WHERE f.endpoint = d.endpoint AND f.upsert_key = d.upsert_key)"
		" RETURNING d.endpoint, d.upsert_key)"
		" DELETE FROM contactsync.contact c USING d WHERE c.endpoint = d.endpoint AND c.upsert_key = d.upsert_key"
	};
	Datum		arg = Int32GetDatum(cs_failure_rows);

	cs_sql_execute(&by_count, &arg, NULL);
	arg = Int32GetDatum(cs_failure_age);
	cs_sql_execute(&by_age, &arg, NULL);
	cs_sql_execute(&erase, NULL, NULL);
}

/* A removal that is to erase a person, and failed as "f". */
#define ERASURE "d.endpoint = f.endpoint AND d.upsert_key = f.upsert_key AND d.erase AND d.failed"

/*
 * Queue the failures "f": those that are to be erased have no row to be queued.  Return
 * how many were queued, and how many erased.
 */
#define QUEUE_FAILURES \
	" erased AS (UPDATE contactsync.departure d SET failed = false, departed_at = clock_timestamp() FROM f" \
	" WHERE " ERASURE " RETURNING 1)," \
	" queued AS (INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys, contact, origin)" \
	" SELECT endpoint, watch, pg_current_xact_id()," \
	" nextval('contactsync.queue_id') * CASE WHEN watch <> 0 THEN -1 ELSE 1 END, clock_timestamp(), 1," \
	" CASE WHEN watch <> 0 THEN ARRAY[key] END, contact, 'r' FROM f WHERE (watch <> 0 OR contact IS NOT NULL)" \
	" AND NOT EXISTS (SELECT FROM contactsync.departure d WHERE " ERASURE ")" \
	" RETURNING 1) SELECT (SELECT count(*) FROM queued), (SELECT count(*) FROM erased)"

/* Return how many failures the last statement has queued or erased. */
static int64
count_queued(void)
{
	bool		isnull;
	int64		erased = DatumGetInt64(cs_sql_value(0, 2, &isnull));

	if (erased > 0)
		cs_invalidation_send(CS_DEFINITIONS);
	return DatumGetInt64(cs_sql_value(0, 1, &isnull)) + erased;
}

/*
 * Queue failed contacts again and return how many; they stay failures until they
 * have another outcome.
 */
int64
cs_failure_retry(const CsFailureFilter *filter)
{
	static CsStatement statement = {
		"WITH f AS (SELECT f.endpoint, f.watch, f.key, f.upsert_key, f.contact FROM contactsync.failure f"
		" JOIN contactsync.endpoint e ON e.id = f.endpoint"
		" WHERE pg_has_role($1, e.role, 'USAGE') AND ($2 IS NULL OR e.server = $2) AND ($3 = 0 OR f.watch = $3)"
		" AND ($4 IS NULL OR f.reason = $4) AND ($5 IS NULL AND NOT f.ignored OR f.id = ANY ($5)))," QUEUE_FAILURES,
		5, {OIDOID, NAMEOID, INT4OID, TEXTOID, INT8ARRAYOID}
	};
	Datum		args[5];
	char		nulls[6] = "     ";

	args[0] = ObjectIdGetDatum(filter->roleid);
	args[1] = filter->server ? NameGetDatum(filter->server) : (Datum) 0;
	nulls[1] = filter->server ? ' ' : 'n';
	args[2] = Int32GetDatum(filter->watch);
	args[3] = PointerGetDatum(filter->reason);
	nulls[3] = filter->reason ? ' ' : 'n';
	args[4] = PointerGetDatum(filter->ids);
	nulls[4] = filter->ids ? ' ' : 'n';
	cs_sql_execute(&statement, args, nulls);
	return count_queued();
}

bool
cs_failure_is_passing(const CsFailed *failed)
{
	return failed->conflicts || strcmp(failed->reason, CS_REASON_UNAVAILABLE) == 0 ||
		strcmp(failed->reason, CS_REASON_UNREADABLE) == 0;
}

int64
cs_failure_retry_passing(int endpoint, int seconds, int limit)
{
	static CsStatement statement = {
		"WITH p AS (SELECT f.id FROM contactsync.failure f LEFT JOIN contactsync.watch w ON w.id = f.watch"
		" WHERE f.endpoint = $1 AND NOT f.ignored"
		" AND (f.conflict IS NOT NULL OR f.reason IN ('" CS_REASON_UNAVAILABLE "', '" CS_REASON_UNREADABLE "'))"
		" AND greatest(f.last_at, f.retried_at) < clock_timestamp() - make_interval(secs => $2)"
		" AND (f.watch = 0 OR w.state = 'running')"
		" AND NOT EXISTS (SELECT FROM contactsync.pause p WHERE p.endpoint = $1 AND p.watch IN (0, f.watch))"
		" ORDER BY f.id LIMIT $3),"
		" f AS (UPDATE contactsync.failure f SET retried_at = clock_timestamp() FROM p WHERE f.id = p.id"
		" RETURNING f.endpoint, f.watch, f.key, f.upsert_key, f.contact)," QUEUE_FAILURES,
		3, {INT4OID, INT4OID, INT4OID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), Int32GetDatum(seconds), Int32GetDatum(limit)};

	cs_sql_execute(&statement, args, NULL);
	return count_queued();
}

/*
 * Hide failures until they change, and return how many were not hidden before.
 * What was kept of a person who is to be erased, only because the provider refused
 * that, is erased here.
 */
int64
cs_failure_ignore(Oid roleid, ArrayType *ids)
{
	static CsStatement erase = {
		"WITH d AS (DELETE FROM contactsync.departure d USING contactsync.failure f, contactsync.endpoint e"
		" WHERE " ERASURE " AND e.id = f.endpoint AND pg_has_role($1, e.role, 'USAGE') AND f.id = ANY ($2)"
		" RETURNING d.endpoint, d.upsert_key, f.id),"
		" c AS (DELETE FROM contactsync.contact c USING d WHERE c.endpoint = d.endpoint AND c.upsert_key = d.upsert_key)"
		" DELETE FROM contactsync.failure f USING d WHERE f.id = d.id",
		2, {OIDOID, INT8ARRAYOID}
	};
	static CsStatement hide = {
		"UPDATE contactsync.failure f SET ignored = true FROM contactsync.endpoint e"
		" WHERE e.id = f.endpoint AND pg_has_role($1, e.role, 'USAGE') AND f.id = ANY ($2) AND NOT f.ignored",
		2, {OIDOID, INT8ARRAYOID}
	};
	Datum		args[2] = {ObjectIdGetDatum(roleid), PointerGetDatum(ids)};
	int64		n = (int64) cs_sql_execute(&erase, args, NULL);

	return n + (int64) cs_sql_execute(&hide, args, NULL);
}
