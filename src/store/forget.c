/*-------------------------------------------------------------------------
 *
 * forget.c
 *		Showing and erasing everything that is stored of a person.
 *
 * A person is identified by the address that was sent, and by the source rows that
 * it was sent for.  What such a row contains now is not considered: it belongs to
 * the application.
 *
 * When a person is forgotten, a call in flight may store its outcome afterwards.  So
 * what was forgotten is noted, definitions are reloaded, and it is forgotten again
 * then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/invalidation.h"
#include "base/sql.h"
#include "store/forget.h"

const char *const cs_forget_kinds[CS_FORGET_KINDS] = {
	[CS_FORGET_CONTACT] = "contact",
	[CS_FORGET_FAILURE] = "failure",
	[CS_FORGET_CHANGE] = "change",
	[CS_FORGET_REMOTE_CONTACT] = "remote_contact",
	[CS_FORGET_TRACE] = "trace",
	[CS_FORGET_CALL] = "call"
};

/* The rows of a role's endpoints that were sent as $1, failed, or are traced. */
#define ROWS_OF_PERSON \
	"SELECT c.endpoint, c.watch, c.key FROM contactsync.contact c JOIN contactsync.endpoint e ON e.id = c.endpoint" \
	" WHERE (c.upsert_key = $1 OR c.email = $1) AND pg_has_role($2, e.role, 'USAGE')" \
	" UNION SELECT f.endpoint, f.watch, f.key FROM contactsync.failure f JOIN contactsync.endpoint e ON e.id = f.endpoint" \
	" WHERE (f.upsert_key = $1 OR lower(btrim(f.contact ->> 'email')) = $1) AND pg_has_role($2, e.role, 'USAGE')" \
	" UNION SELECT t.endpoint, t.watch, t.key FROM contactsync.trace t JOIN contactsync.endpoint e ON e.id = t.endpoint" \
	" WHERE (t.upsert_key = $1 OR t.email = $1) AND pg_has_role($2, e.role, 'USAGE')"

static uint64
run(CsStatement *statement, const Datum *args)
{
	return cs_sql_execute(statement, unconstify(Datum *, args), NULL);
}

/*
 * Forget rows, and an address, at some endpoints.  args: int4[] endpoints, int4[]
 * watches and text[] keys of the rows; int4[] endpoints at which to forget the
 * address; text, the address, or ''.
 */
static void
forget(const Datum *args, int64 *rows)
{
#define TYPES 5, {INT4ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTOID}
#define ROWS "unnest($1, $2, $3) AS p (endpoint, watch, key)"
#define OF_ROW(t) t ".endpoint = p.endpoint AND " t ".watch = p.watch AND " t ".key = p.key"
	static CsStatement contact = {"DELETE FROM contactsync.contact c USING " ROWS " WHERE " OF_ROW("c"), TYPES};
	static CsStatement failure = {"DELETE FROM contactsync.failure f USING " ROWS " WHERE " OF_ROW("f"), TYPES};
	static CsStatement trace = {
		"DELETE FROM contactsync.trace t WHERE EXISTS (SELECT FROM " ROWS " WHERE " OF_ROW("t") ")"
		" OR t.endpoint = ANY ($4) AND $5 <> '' AND (t.upsert_key = $5 OR t.email = $5)",
		TYPES
	};
	static CsStatement traced = {
		"DELETE FROM contactsync.traced t WHERE EXISTS (SELECT FROM " ROWS
		" WHERE t.endpoint = p.endpoint AND t.watch = p.watch AND t.contact = p.key)"
		" OR t.endpoint = ANY ($4) AND t.watch = 0 AND t.contact = $5",
		TYPES
	};
	static CsStatement direct = {
		"DELETE FROM contactsync.queue q WHERE q.endpoint = ANY ($4) AND q.watch = 0 AND $5 <> ''"
		" AND lower(btrim(q.contact ->> 'email')) = $5",
		TYPES
	};
	static CsStatement keys = {
		"WITH gone AS (SELECT q.ctid AS place, array_agg(p.key) AS keys FROM contactsync.queue q JOIN " ROWS
		" ON q.endpoint = p.endpoint AND q.watch = p.watch AND p.watch <> 0 AND q.keys @> ARRAY[p.key] GROUP BY q.ctid),"
		" deleted AS (DELETE FROM contactsync.queue q USING gone WHERE q.ctid = gone.place AND gone.keys @> q.keys"
		" RETURNING q.n), updated AS (UPDATE contactsync.queue q SET keys = left_over.keys, n = cardinality(left_over.keys)"
		" FROM gone, LATERAL (SELECT array_agg(k ORDER BY i) AS keys FROM contactsync.queue o,"
		" unnest(o.keys) WITH ORDINALITY AS u (k, i) WHERE o.ctid = gone.place AND k <> ALL (gone.keys)) left_over"
		" WHERE q.ctid = gone.place AND NOT gone.keys @> q.keys RETURNING cardinality(gone.keys) AS n)"
		" SELECT n FROM deleted UNION ALL SELECT n FROM updated",
		TYPES
	};
	static CsStatement remote = {
		"DELETE FROM contactsync.remote_contact r WHERE r.endpoint = ANY ($4) AND r.email = $5", TYPES
	};

	/* the address, as it is or as part of a URL */
	static CsStatement call = {
		"UPDATE contactsync.call c SET path = replace(replace(path, $5, '***'), replace($5, '@', '%40'), '***'),"
		" error = replace(error, $5, '***') WHERE c.endpoint = ANY ($4) AND $5 <> ''"
		" AND (strpos(path, $5) > 0 OR strpos(path, replace($5, '@', '%40')) > 0 OR strpos(error, $5) > 0)",
		TYPES
	};
	static CsStatement counter = {
		"UPDATE contactsync.counter c SET last_error = replace(last_error, $5, '***')"
		" WHERE c.endpoint = ANY ($4) AND $5 <> '' AND strpos(last_error, $5) > 0",
		TYPES
	};
	static CsStatement reason = {
		"UPDATE contactsync.endpoint e SET reason = replace(reason, $5, '***')"
		" WHERE e.id = ANY ($4) AND $5 <> '' AND strpos(reason, $5) > 0",
		TYPES
	};
	static CsStatement note = {
		"INSERT INTO contactsync.forgotten (endpoint, watch, key) SELECT p.endpoint, p.watch, p.key FROM " ROWS
		" UNION SELECT e, 0, $5 FROM unnest($4) AS e WHERE $5 <> '' ON CONFLICT DO NOTHING",
		TYPES
	};
	uint64		n;

	rows[CS_FORGET_CONTACT] += run(&contact, args);
	rows[CS_FORGET_FAILURE] += run(&failure, args);
	rows[CS_FORGET_TRACE] += run(&trace, args);
	(void) run(&traced, args);
	rows[CS_FORGET_CHANGE] += run(&direct, args);
	n = run(&keys, args);
	for (uint64 i = 0; i < n; i++)
		rows[CS_FORGET_CHANGE] += cs_sql_int(i, 1);
	rows[CS_FORGET_REMOTE_CONTACT] += run(&remote, args);
	rows[CS_FORGET_CALL] += run(&call, args);
	(void) run(&counter, args);
	(void) run(&reason, args);
	if (run(&note, args) > 0)
		cs_invalidation_send(CS_DEFINITIONS);
}

static Datum
int_array(int n, Datum *elements)
{
	return PointerGetDatum(construct_array(elements, n, INT4OID, 4, true, TYPALIGN_INT));
}

/* Fill args with the rows that the last statement found, as forget() takes them. */
static void
rows_of_result(uint64 n, Datum *args)
{
	Datum	   *endpoints = palloc((n + 1) * sizeof(Datum));
	Datum	   *watches = palloc((n + 1) * sizeof(Datum));
	Datum	   *keys = palloc((n + 1) * sizeof(Datum));
	bool		isnull;

	for (uint64 i = 0; i < n; i++)
	{
		endpoints[i] = cs_sql_value(i, 1, &isnull);
		watches[i] = cs_sql_value(i, 2, &isnull);
		keys[i] = cs_sql_value(i, 3, &isnull);
	}
	args[0] = int_array(n, endpoints);
	args[1] = int_array(n, watches);
	args[2] = PointerGetDatum(construct_array(keys, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Return the first column of the last statement as an int4[]. */
static Datum
ids_of_result(uint64 n)
{
	Datum	   *ids = palloc((n + 1) * sizeof(Datum));
	bool		isnull;

	for (uint64 i = 0; i < n; i++)
		ids[i] = cs_sql_value(i, 1, &isnull);
	return int_array(n, ids);
}

void
cs_forget_email(const char *email, Oid roleid, CsForgotten *forgotten)
{
	static CsStatement rows = {ROWS_OF_PERSON, 2, {TEXTOID, OIDOID}};
	static CsStatement endpoints = {
		"SELECT id FROM contactsync.endpoint WHERE pg_has_role($1, role, 'USAGE')", 1, {OIDOID}
	};
	Datum		args[5];
	Datum		person[2] = {CStringGetTextDatum(email), ObjectIdGetDatum(roleid)};
	MemoryContext context = CurrentMemoryContext;
	uint64		n = run(&rows, person);

	rows_of_result(n, args);
	/* the caller uses these after the scope has ended */
	MemoryContextSwitchTo(context);
	memset(forgotten, 0, sizeof(CsForgotten));
	forgotten->watches = palloc((n + 1) * sizeof(int));
	forgotten->keys = palloc((n + 1) * sizeof(char *));
	for (uint64 i = 0; i < n; i++)
	{
		if (cs_sql_int(i, 2) == 0)
			continue;
		forgotten->watches[forgotten->nrows] = cs_sql_int(i, 2);
		forgotten->keys[forgotten->nrows++] = cs_sql_text(i, 3);
	}
	args[3] = ids_of_result(run(&endpoints, &person[1]));
	args[4] = person[0];
	forget(args, forgotten->rows);
	MemoryContextSwitchTo(context);
}

void
cs_forget_row(int endpoint, int watch, const char *key, CsForgotten *forgotten)
{
	static CsStatement address = {
		"SELECT COALESCE(email, upsert_key) FROM contactsync.contact WHERE endpoint = $1 AND watch = $2 AND key = $3"
		" AND strpos(COALESCE(email, upsert_key), '@') > 0",
		3, {INT4OID, INT4OID, TEXTOID}
	};
	Datum		row[3] = {Int32GetDatum(endpoint), Int32GetDatum(watch), CStringGetTextDatum(key)};
	Datum		args[5];
	uint64		n = run(&address, row);

	memset(forgotten, 0, sizeof(CsForgotten));
	args[0] = args[3] = int_array(1, &row[0]);
	args[1] = int_array(1, &row[1]);
	args[2] = PointerGetDatum(construct_array(&row[2], 1, TEXTOID, -1, false, TYPALIGN_INT));
	args[4] = CStringGetTextDatum(n > 0 ? cs_sql_text(0, 1) : "");
	forget(args, forgotten->rows);
}

void
cs_forget_sweep(void)
{
	static CsStatement statement = {
		"WITH p AS (DELETE FROM contactsync.forgotten RETURNING endpoint, watch, key),"
		" c AS (DELETE FROM contactsync.contact c USING p WHERE " OF_ROW("c") "),"
		" f AS (DELETE FROM contactsync.failure f USING p WHERE " OF_ROW("f") ")"
		" DELETE FROM contactsync.trace t USING p WHERE " OF_ROW("t")
	};

	cs_sql_execute(&statement, NULL, NULL);
}

uint64
cs_forget_list(const char *email, Oid roleid)
{
	static CsStatement statement = {
		"WITH p AS MATERIALIZED (" ROWS_OF_PERSON "),"
		" mine AS MATERIALIZED (SELECT id FROM contactsync.endpoint WHERE pg_has_role($2, role, 'USAGE')),"
		" event AS (SELECT q.queued_at AS at, q.endpoint, q.watch, p.key, 'queued' AS event, NULL::jsonb AS detail"
		" FROM p JOIN contactsync.queue q ON q.endpoint = p.endpoint AND q.watch = p.watch AND q.keys @> ARRAY[p.key]"
		" UNION ALL SELECT q.queued_at, q.endpoint, 0, NULL, 'queued', q.contact FROM mine JOIN contactsync.queue q"
		" ON q.endpoint = mine.id AND q.watch = 0 WHERE lower(btrim(q.contact ->> 'email')) = $1"
		" UNION ALL SELECT c.synced_at, c.endpoint, c.watch, c.key, CASE c.action WHEN 'u' THEN 'synced'"
		" WHEN 'n' THEN 'unsubscribed' ELSE 'deleted' END, jsonb_strip_nulls(to_jsonb(c) - '{endpoint,watch,key,action,synced_at,digest}'::text[])"
		" FROM p JOIN contactsync.contact c ON " OF_ROW("c")
		" UNION ALL SELECT f.last_at, f.endpoint, f.watch, f.key, 'failed',"
		" jsonb_strip_nulls(to_jsonb(f) - '{endpoint,watch,key,last_at}'::text[])"
		" FROM p JOIN contactsync.failure f ON " OF_ROW("f")
		" UNION ALL SELECT t.started_at, t.endpoint, t.watch, t.key, 'called',"
		" jsonb_strip_nulls(to_jsonb(t) - '{endpoint,watch,key,started_at}'::text[])"
		" FROM p JOIN contactsync.trace t ON " OF_ROW("t")
		" UNION ALL SELECT r.pulled_at, r.endpoint, 0, NULL, 'pulled',"
		" jsonb_strip_nulls(to_jsonb(r) - '{endpoint,email,pulled_at}'::text[])"
		" FROM mine JOIN contactsync.remote_contact r ON r.endpoint = mine.id AND r.email = $1)"
		" SELECT v.at, e.server, w.source, v.key, v.event, v.detail FROM event v"
		" JOIN contactsync.endpoint e ON e.id = v.endpoint LEFT JOIN contactsync.watch w ON w.id = v.watch"
		" ORDER BY v.at NULLS FIRST, e.server, v.key",
		2, {TEXTOID, OIDOID}
	};
	Datum		args[2] = {CStringGetTextDatum(email), ObjectIdGetDatum(roleid)};

	return run(&statement, args);
}
