/*-------------------------------------------------------------------------
 *
 * stats.c
 *		What was done, counted: since a reset, and minute by minute.
 *
 * Counters are in tables rather than in shared memory, so that they survive a
 * restart, are right whoever delivers, and can be read with plain SQL.  They are
 * updated once per transaction that stores outcomes, not once per call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"

#include "base/settings.h"
#include "base/sql.h"
#include "store/departure.h"
#include "store/stats.h"

const double cs_latency_bounds[CS_LATENCY_BOUNDS] = {
	0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30
};

/*
 * How many rows of the queue are counted for each watch.  The rest is estimated, so
 * that the cost does not grow with the queue.
 */
#define BACKLOG_ROWS	"20000"

/* What is queued, and what is to be removed and due. */
#define SELECT_BACKLOG \
	"WITH l AS MATERIALIZED (SELECT w.endpoint, w.watch, q.* FROM" \
	" (SELECT endpoint, id AS watch FROM contactsync.watch UNION ALL SELECT id, 0 FROM contactsync.endpoint) w," \
	" LATERAL (SELECT count(*) AS rows, sum(n) AS contacts, min(queued_at) AS oldest FROM" \
	" (SELECT n, queued_at FROM contactsync.queue WHERE endpoint = w.endpoint AND watch = w.watch" \
	" ORDER BY xact, id LIMIT " BACKLOG_ROWS ") q) q WHERE q.rows > 0)," \
	" rest AS (SELECT greatest(pg_stat_get_live_tuples('contactsync.queue'::regclass) - sum(rows), 0)" \
	" / NULLIF(count(*) FILTER (WHERE rows >= " BACKLOG_ROWS "), 0) AS rows FROM l)," \
	" waiting AS (SELECT l.endpoint, l.watch, l.contacts + CASE WHEN l.rows >= " BACKLOG_ROWS \
	" THEN rest.rows * l.contacts / l.rows ELSE 0 END AS contacts, l.oldest FROM l, rest" \
	" UNION ALL SELECT endpoint, watch, count(*), min(departed_at) FROM " CS_DUE_REMOVALS " r" \
	" WHERE NOT waits GROUP BY endpoint, watch)," \
	" backlog AS (SELECT endpoint, watch, sum(contacts)::int8 AS contacts, min(oldest) AS oldest FROM waiting" \
	" GROUP BY endpoint, watch)"

void
cs_stats_add_call(CsStats *stats, const CsCallRecord *record)
{
	int			bucket = 0;

	while (bucket < CS_LATENCY_BOUNDS && record->duration > cs_latency_bounds[bucket])
		bucket++;
	stats->latency[bucket]++;
	stats->calls++;
	stats->retries += record->attempt > 1;
	stats->throttled += strcmp(record->verdict, "throttled") == 0;
	stats->unanswered += record->status == 0;
	stats->sent += record->sent;
	stats->received += record->received;
	stats->seconds += record->duration;
}

/* Add a failure. */
void
cs_stats_add_failure(CsStats *stats, const char *reason)
{
	CsReasonCount *count;
	ListCell   *lc;

	stats->failed++;
	foreach(lc, stats->reasons)
	{
		count = lfirst(lc);
		if (strcmp(count->reason, reason) == 0)
		{
			count->failed++;
			return;
		}
	}
	count = palloc(sizeof(CsReasonCount));
	count->reason = pstrdup(reason);
	count->failed = 1;
	stats->reasons = lappend(stats->reasons, count);
}

static void
store_reason(int endpoint, const CsReasonCount *count)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.minute_failure AS m (endpoint, at, reason, failed)"
		" VALUES ($1, date_trunc('minute', clock_timestamp()), $2, $3)"
		" ON CONFLICT (endpoint, at, reason) DO UPDATE SET failed = m.failed + excluded.failed",
		3, {INT4OID, TEXTOID, INT8OID}
	};
	Datum		args[3];

	args[0] = Int32GetDatum(endpoint);
	args[1] = CStringGetTextDatum(count->reason);
	args[2] = Int64GetDatum(count->failed);
	cs_sql_execute(&statement, args, NULL);
}

static Datum
latency_array(const CsStats *stats)
{
	Datum		elements[CS_LATENCY_BOUNDS + 1];

	for (int i = 0; i <= CS_LATENCY_BOUNDS; i++)
		elements[i] = Int64GetDatum(stats->latency[i]);
	return PointerGetDatum(construct_array(elements, CS_LATENCY_BOUNDS + 1, INT8OID, 8,
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

#define ADD \
	" DO UPDATE SET calls = s.calls + excluded.calls, retries = s.retries + excluded.retries," \
	" throttled = s.throttled + excluded.throttled, unanswered = s.unanswered + excluded.unanswered," \
	" synced = s.synced + excluded.synced, unchanged = s.unchanged + excluded.unchanged," \
	" failed = s.failed + excluded.failed, sent = s.sent + excluded.sent, received = s.received + excluded.received," \
	" seconds = s.seconds + excluded.seconds, latency = (SELECT array_agg(a + b ORDER BY i)" \
	" FROM unnest(s.latency, excluded.latency) WITH ORDINALITY AS u (a, b, i))"
#define COUNTERS \
	"calls, retries, throttled, unanswered, synced, unchanged, failed, sent, received, seconds, latency"

int64
cs_stats_store(const CsStats *stats)
{
	static CsStatement statement = {
		"WITH total AS (INSERT INTO contactsync.stat AS s (endpoint, base, since, " COUNTERS ")"
		" VALUES ($1, false, clock_timestamp(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
		" ON CONFLICT (endpoint, base)" ADD "),"
		" minute AS (INSERT INTO contactsync.minute AS s (endpoint, at, first_at, " COUNTERS ")"
		" VALUES ($1, date_trunc('minute', clock_timestamp()), clock_timestamp(),"
		" $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
		" ON CONFLICT (endpoint, at)" ADD " RETURNING failed) SELECT failed FROM minute",
		12, {INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		FLOAT8OID, INT8ARRAYOID}
	};
	const int64 counts[] = {
		stats->calls, stats->retries, stats->throttled, stats->unanswered, stats->synced,
		stats->unchanged, stats->failed, stats->sent, stats->received
	};
	Datum		args[12];
	ListCell   *lc;
	bool		isnull;
	int64		failed;

	args[0] = Int32GetDatum(stats->endpoint);
	for (int i = 0; i < lengthof(counts); i++)
		args[i + 1] = Int64GetDatum(counts[i]);
	args[10] = Float8GetDatum(stats->seconds);
	args[11] = latency_array(stats);
	cs_sql_execute(&statement, args, NULL);
	failed = DatumGetInt64(cs_sql_value(0, 1, &isnull));
	foreach(lc, stats->reasons)
		store_reason(stats->endpoint, lfirst(lc));
	return failed;
}

/*
 * Endpoints that were restored from another database are left out: pg_restore -j
 * may have yet to restore their minutes, and would fail on a row of the same key.
 */
int
cs_stats_note_backlog(int only, CsBacklogNote **notes)
{
	static CsStatement statement = {
		SELECT_BACKLOG
		" INSERT INTO contactsync.minute AS m (endpoint, at, first_at, backlog, oldest)"
		" SELECT b.endpoint, date_trunc('minute', clock_timestamp()), clock_timestamp(), sum(b.contacts),"
		" clock_timestamp() - min(b.oldest) FILTER (WHERE NOT EXISTS (SELECT FROM contactsync.pause p"
		" WHERE p.endpoint = b.endpoint AND p.watch IN (0, b.watch)))"
		" FROM backlog b JOIN contactsync.endpoint e ON e.id = b.endpoint"
		" WHERE e.database = contactsync.database_identity() AND ($1 = 0 OR e.id = $1)"
		" GROUP BY b.endpoint ON CONFLICT (endpoint, at) DO UPDATE SET backlog = excluded.backlog, oldest = excluded.oldest"
		" RETURNING endpoint, backlog, extract(epoch FROM oldest)::float8",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(only);
	MemoryContext context = CurrentMemoryContext;
	int			n = (int) cs_sql_execute(&statement, &arg, NULL);

	MemoryContextSwitchTo(context);
	*notes = palloc(Max(n, 1) * sizeof(CsBacklogNote));
	for (int i = 0; i < n; i++)
	{
		CsBacklogNote *note = &(*notes)[i];
		bool		isnull;
		Datum		oldest;

		note->endpoint = cs_sql_int(i, 1);
		note->contacts = DatumGetInt64(cs_sql_value(i, 2, &isnull));
		oldest = cs_sql_value(i, 3, &isnull);
		note->oldest = isnull ? 0 : DatumGetFloat8(oldest);
	}
	return n;
}

void
cs_stats_prune(void)
{
	static CsStatement minutes = {
		"DELETE FROM contactsync.minute WHERE at < clock_timestamp() - make_interval(mins => $1)",
		1, {INT4OID}
	};
	static CsStatement failures = {
		"DELETE FROM contactsync.minute_failure WHERE at < clock_timestamp() - make_interval(mins => $1)",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(cs_history_age);

	cs_sql_execute(&minutes, &arg, NULL);
	cs_sql_execute(&failures, &arg, NULL);
}

/* Add to the counters of a lane; last_error may be NULL. */
void
cs_stats_count(int endpoint, int watch, int64 synced, int64 unchanged, int64 failed,
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
	args[5] = cs_sql_message_or_null(last_error, &nulls[5]);
	cs_sql_execute(&statement, args, nulls);
}

/*
 * Reading
 */

/* Add all but the backlog, which has no sum. */
void
cs_stats_add_period(CsPeriodStats *sum, const CsPeriodStats *span)
{
	sum->calls += span->calls;
	sum->retries += span->retries;
	sum->throttled += span->throttled;
	sum->unanswered += span->unanswered;
	sum->synced += span->synced;
	sum->unchanged += span->unchanged;
	sum->failed += span->failed;
	for (int i = 0; i <= CS_LATENCY_BOUNDS; i++)
		sum->latency[i] += span->latency[i];
}

/*
 * Estimate how long calls take: return the time that this part of them took at
 * most, in seconds, interpolated between the bounds of the histogram; NaN if there
 * were none.
 */
double
cs_stats_latency(const CsPeriodStats *span, double part)
{
	double		total = 0;
	double		below = 0;

	for (int i = 0; i <= CS_LATENCY_BOUNDS; i++)
		total += span->latency[i];
	for (int i = 0; i < CS_LATENCY_BOUNDS && total > 0; i++)
	{
		double		from = i > 0 ? cs_latency_bounds[i - 1] : 0;

		if (span->latency[i] > 0 && below + span->latency[i] >= part * total)
			return from + (cs_latency_bounds[i] - from) * (part * total - below) / span->latency[i];
		below += span->latency[i];
	}
	return total > 0 ? cs_latency_bounds[CS_LATENCY_BOUNDS - 1] : get_float8_nan();
}

/*
 * Store the counters as they are now in rows of their own, which the worker does
 * not touch: it must not wait for whoever resets them.
 */
void
cs_stats_reset(Name server, Oid roleid)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.stat (endpoint, base, since, " COUNTERS ")"
		" SELECT e.id, true, clock_timestamp(), COALESCE(s.calls, 0), COALESCE(s.retries, 0),"
		" COALESCE(s.throttled, 0), COALESCE(s.unanswered, 0), COALESCE(s.synced, 0), COALESCE(s.unchanged, 0),"
		" COALESCE(s.failed, 0), COALESCE(s.sent, 0), COALESCE(s.received, 0), COALESCE(s.seconds, 0),"
		" COALESCE(s.latency, array_fill(0::bigint, ARRAY[$3]))"
		" FROM contactsync.endpoint e LEFT JOIN contactsync.stat s ON s.endpoint = e.id AND NOT s.base"
		" WHERE ($1 IS NULL OR e.server = $1) AND pg_has_role($2, e.role, 'USAGE')"
		" ON CONFLICT (endpoint, base) DO UPDATE SET (since, " COUNTERS ") = (excluded.since, excluded.calls,"
		" excluded.retries, excluded.throttled, excluded.unanswered, excluded.synced, excluded.unchanged,"
		" excluded.failed, excluded.sent, excluded.received, excluded.seconds, excluded.latency)",
		3, {NAMEOID, OIDOID, INT4OID}
	};
	Datum		args[3];

	args[0] = server ? NameGetDatum(server) : (Datum) 0;
	args[1] = ObjectIdGetDatum(roleid);
	args[2] = Int32GetDatum(CS_LATENCY_BOUNDS + 1);
	cs_sql_execute(&statement, args, server ? NULL : "n  ");
}

uint64
cs_stats_backlog(Oid roleid)
{
	static CsStatement statement = {
		SELECT_BACKLOG
		" SELECT b.endpoint, b.watch, b.contacts, b.oldest FROM backlog b"
		" JOIN contactsync.endpoint e ON e.id = b.endpoint"
		" WHERE pg_has_role($1, e.role, 'USAGE') OR pg_has_role($1, 'pg_monitor', 'USAGE')",
		1, {OIDOID}
	};
	Datum		arg = ObjectIdGetDatum(roleid);

	return cs_sql_execute(&statement, &arg, NULL);
}
