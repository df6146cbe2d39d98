/*-------------------------------------------------------------------------
 *
 * departure.c
 *		contactsync.departure: contacts that a row has left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "store/departure.h"

void
cs_departure_store(int endpoint, int n, const CsDeparture *departures)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.departure AS d (endpoint, upsert_key, watch, key, departed_at, action)"
		" VALUES ($1, $2, $3, $4, clock_timestamp(), $5)"
		" ON CONFLICT (endpoint, upsert_key) DO UPDATE SET watch = excluded.watch, key = excluded.key,"
		" departed_at = excluded.departed_at, action = CASE WHEN d.erase THEN d.action ELSE excluded.action END, failed = false"
		" WHERE NOT d.erase OR d.failed",
		5, {INT4OID, TEXTOID, INT4OID, TEXTOID, CHAROID}
	};

	for (int i = 0; i < n; i++)
	{
		Datum		args[5];

		args[0] = Int32GetDatum(endpoint);
		args[1] = CStringGetTextDatum(departures[i].upsert_key);
		args[2] = Int32GetDatum(departures[i].watch);
		args[3] = CStringGetTextDatum(departures[i].key);
		args[4] = CharGetDatum(departures[i].action);
		cs_sql_execute(&statement, args, departures[i].action ? NULL : "    n");
	}
}

/*
 * Departures that may be decided on, of an endpoint.  A watch that waits for somebody
 * removes nobody: what it has queued may say who stands for the contact.  So may a row that
 * was forgotten, and is not read again yet.
 */
#define DECIDABLE \
	" FROM contactsync.departure d LEFT JOIN contactsync.watch w ON w.id = d.watch" \
	" WHERE d.endpoint = $1 AND NOT d.failed AND (d.erase OR COALESCE(w.state, 'running') NOT IN ('broken', 'guarded')" \
	" AND NOT EXISTS (SELECT FROM contactsync.pause p WHERE p.endpoint = d.endpoint AND p.watch IN (0, d.watch))" \
	" AND NOT " CS_SQL_REMAINS("d", "true") ")"

/* When one of them is due. */
#define DUE_AT \
	"CASE WHEN d.erase THEN d.departed_at ELSE d.departed_at + COALESCE(w.delete_delay, '0')" \
	" / current_setting('contactsync.clock_speed')::float8 END"

double
cs_departure_due_in(int endpoint)
{
	static CsStatement statement = {
		"SELECT extract(epoch FROM min(" DUE_AT ") - clock_timestamp())::float8" DECIDABLE, 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);
	Datum		seconds;
	bool		isnull;

	cs_sql_execute(&statement, &arg, NULL);
	seconds = cs_sql_value(0, 1, &isnull);
	return isnull ? DBL_MAX : Max(DatumGetFloat8(seconds), 0);
}

bool
cs_departure_set_back(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.departure SET departed_at = clock_timestamp()"
		" WHERE endpoint = $1 AND departed_at > clock_timestamp()", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	return cs_sql_execute(&statement, &arg, NULL) > 0;
}

CsDeparture *
cs_departure_read_due(int endpoint, bool only_erased, int limit, int *n)
{
	static CsStatement statement = {
		"SELECT d.upsert_key, d.watch, d.key, d.departed_at, COALESCE(d.action::text,"
		" CASE w.on_delete WHEN 'delete' THEN 'd' WHEN 'unsubscribe' THEN 'n' END), d.erase, NOT d.erase AND (EXISTS (SELECT FROM"
		" contactsync.source_row s WHERE s.upsert_key = d.upsert_key AND s.endpoint = d.endpoint)"
		" OR EXISTS (SELECT FROM contactsync.contact c WHERE c.endpoint = d.endpoint"
		" AND c.upsert_key = d.upsert_key AND c.direct))"
		DECIDABLE " AND (d.erase OR NOT $3) AND " DUE_AT " <= clock_timestamp() ORDER BY d.departed_at, d.upsert_key LIMIT $2",
		3, {INT4OID, INT4OID, BOOLOID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		args[3] = {Int32GetDatum(endpoint), Int32GetDatum(limit), BoolGetDatum(only_erased)};
	CsDeparture *departures;

	*n = (int) cs_sql_execute(&statement, args, NULL);
	MemoryContextSwitchTo(context);
	departures = palloc0(Max(*n, 1) * sizeof(CsDeparture));
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;
		char	   *action;

		departures[i].upsert_key = cs_sql_text(i, 1);
		departures[i].watch = cs_sql_int(i, 2);
		departures[i].key = cs_sql_text(i, 3);
		departures[i].departed_at = DatumGetTimestampTz(cs_sql_value(i, 4, &isnull));
		action = cs_sql_text(i, 5);
		departures[i].action = action ? *action : '\0';
		departures[i].erase = DatumGetBool(cs_sql_value(i, 6, &isnull));
		departures[i].stands = DatumGetBool(cs_sql_value(i, 7, &isnull));
	}
	return departures;
}

/* Execute a statement for each of these contacts of an endpoint. */
static void
execute_for_each(CsStatement *statement, int endpoint, int n, char **upsert_keys)
{
	for (int i = 0; i < n; i++)
	{
		Datum		args[2] = {Int32GetDatum(endpoint), CStringGetTextDatum(upsert_keys[i])};

		cs_sql_execute(statement, args, NULL);
	}
}

void
cs_departure_remove(int endpoint, int n, char **upsert_keys)
{
	/* what was forgotten has been kept until now for the removal */
	static CsStatement statement = {
		"WITH d AS (DELETE FROM contactsync.departure WHERE endpoint = $1 AND upsert_key = $2 RETURNING erase, watch),"
		" f AS (DELETE FROM contactsync.failure f USING d WHERE d.erase AND f.watch = d.watch AND f.key = $2 AND f.endpoint = $1)"
		" DELETE FROM contactsync.contact c USING d WHERE d.erase AND c.endpoint = $1 AND c.upsert_key = $2"
		" AND NOT EXISTS (SELECT FROM contactsync.source_row s WHERE s.endpoint = $1 AND s.upsert_key = $2)",
		2, {INT4OID, TEXTOID}
	};

	execute_for_each(&statement, endpoint, n, upsert_keys);
}

void
cs_departure_refuse(int endpoint, int n, char **upsert_keys)
{
	static CsStatement keep = {
		"UPDATE contactsync.departure SET failed = true WHERE endpoint = $1 AND upsert_key = $2 AND erase",
		2, {INT4OID, TEXTOID}
	};
	static CsStatement remove = {
		"DELETE FROM contactsync.departure WHERE endpoint = $1 AND upsert_key = $2 AND NOT erase",
		2, {INT4OID, TEXTOID}
	};

	execute_for_each(&keep, endpoint, n, upsert_keys);
	execute_for_each(&remove, endpoint, n, upsert_keys);
}

void
cs_departure_leave_watch(int endpoint, int watch)
{
	static CsStatement erase = {
		"UPDATE contactsync.departure SET watch = 0, key = upsert_key, failed = false"
		" WHERE endpoint = $1 AND watch = $2 AND erase", 2, {INT4OID, INT4OID}
	};

	/* nobody is removed because a watch is dropped */
	static CsStatement stand = {
		"DELETE FROM contactsync.departure d USING contactsync.watch w WHERE w.id = d.watch AND d.endpoint = $1 AND NOT d.erase"
		" AND " DUE_AT " <= clock_timestamp() AND " CS_SQL_REMAINS("d", "r.watch = $2"),
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(watch)};

	cs_sql_execute(&erase, args, NULL);
	cs_sql_execute(&stand, args, NULL);
}

int64
cs_departure_count(int endpoint, int watch, int named, int64 *recently, char **first)
{
	static CsStatement statement = {
		"SELECT count(*), COALESCE(max(CASE WHEN w.removed_since > clock_timestamp() - interval '1 min'"
		" THEN w.removed END), 0)::int8, array_to_string((array_agg(d.upsert_key ORDER BY d.departed_at, d.upsert_key))[1:$3], ', ')"
		" FROM contactsync.departure d JOIN contactsync.watch w ON w.id = d.watch"
		" WHERE d.endpoint = $1 AND d.watch = $2 AND NOT d.erase"
		" AND COALESCE(d.action::text, w.on_delete) <> 'ignore'"
		" AND d.departed_at > COALESCE(w.removals_until, '-infinity')"
		" AND NOT EXISTS (SELECT FROM contactsync.source_row s WHERE s.upsert_key = d.upsert_key"
		" AND s.endpoint = d.endpoint)"
		" AND NOT " CS_SQL_REMAINS("d", "true"),
		3, {INT4OID, INT4OID, INT4OID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), Int32GetDatum(watch), Int32GetDatum(named)};
	bool		isnull;

	cs_sql_execute(&statement, args, NULL);
	*recently = DatumGetInt64(cs_sql_value(0, 2, &isnull));
	*first = cs_sql_text(0, 3);
	return DatumGetInt64(cs_sql_value(0, 1, &isnull));
}

uint64
cs_departure_list_due(Oid roleid)
{
	static CsStatement statement = {
		"SELECT r.endpoint, r.watch, r.key, r.departed_at, r.action, r.waits FROM " CS_DUE_REMOVALS " r"
		" JOIN contactsync.endpoint e ON e.id = r.endpoint WHERE pg_has_role($1, e.role, 'USAGE')",
		1, {OIDOID}
	};
	Datum		arg = ObjectIdGetDatum(roleid);

	return cs_sql_execute(&statement, &arg, NULL);
}

void
cs_departure_keep(int endpoint, int watch)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.departure WHERE endpoint = $1 AND watch = $2 AND NOT erase", 2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(watch)};

	cs_sql_execute(&statement, args, NULL);
}

bool
cs_departure_erases(int endpoint, const char *upsert_key)
{
	static CsStatement statement = {
		"SELECT FROM contactsync.departure WHERE endpoint = $1 AND upsert_key = $2 AND erase", 2, {INT4OID, TEXTOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), CStringGetTextDatum(upsert_key)};

	return cs_sql_execute(&statement, args, NULL) > 0;
}
