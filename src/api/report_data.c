/*-------------------------------------------------------------------------
 *
 * report_data.c
 *		What a report shows and contactsync_wait() says, read from the views.
 *
 * The views are read with the rights of the current user, so that a role is shown
 * what the views show it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "api/report_data.h"
#include "store/stats.h"

int
cs_report_data_begin(void)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);

	/*
	 * short queries with high estimates, each of which would be compiled, for
	 * seconds
	 */
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	return level;
}

void
cs_report_data_end(int level)
{
	SPI_finish();
	AtEOXact_GUC(true, level);
}

/* Run a query with the rights of the current user. */
static SPITupleTable *
query(const char *text, int nargs, Oid *types, Datum *args)
{
	int			result = SPI_execute_with_args(text, nargs, types, args, NULL, true, 0);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\": %s", text, SPI_result_code_string(result));
	return SPI_tuptable;
}

char *
cs_report_data_text(SPITupleTable *rows, uint64 row, const char *column)
{
	int			number = SPI_fnumber(rows->tupdesc, column);

	if (number <= 0)
		elog(ERROR, "there is no column \"%s\"", column);
	return SPI_getvalue(rows->vals[row], rows->tupdesc, number);
}

int64
cs_report_data_count(SPITupleTable *rows, uint64 row, const char *column)
{
	char	   *text = cs_report_data_text(rows, row, column);

	return text ? strtoll(text, NULL, 10) : 0;
}

double
cs_report_data_number(SPITupleTable *rows, uint64 row, const char *column)
{
	char	   *text = cs_report_data_text(rows, row, column);

	return text ? strtod(text, NULL) : get_float8_nan();
}

SPITupleTable *
cs_report_data_failures(int limit)
{
	Oid			types[] = {INT4OID};
	Datum		args[] = {Int32GetDatum(limit)};

	return query("SELECT to_char(last_at, 'YYYY-MM-DD HH24:MI') AS at, server::text,"
				 " COALESCE(source::text, 'contactsync_upsert()') AS source,"
				 " key, reason, code, field, attempts, upsert_key, message"
				 " FROM contactsync.failures ORDER BY last_at DESC, id DESC LIMIT $1",
				 lengthof(args), types, args);
}

SPITupleTable *
cs_report_data_status(void)
{
	return query("SELECT server::text, owner::text, source::text, state, reason,"
				 " to_char(since, 'YYYY-MM-DD HH24:MI') AS since,"
				 " to_char(until, 'YYYY-MM-DD HH24:MI') AS until, backlog,"
				 " EXTRACT(epoch FROM oldest)::float8 AS oldest,"
				 " round(rate::numeric, 1) AS rate, round(pace::numeric, 1) AS pace,"
				 " to_char(eta, 'YYYY-MM-DD HH24:MI') AS eta, synced, failed, failures, held, withheld,"
				 " to_char(last_success, 'YYYY-MM-DD HH24:MI') AS last_success, worker, hint"
				 " FROM contactsync.status ORDER BY server, owner, source::text NULLS FIRST",
				 0, NULL, NULL);
}

/* Calls among which the last one of a server is looked for: the log can be long. */
#define RECENT_CALLS	"10000"

SPITupleTable *
cs_report_data_obstacles(Oid serverid)
{
	Oid			types[] = {OIDOID};
	Datum		args[] = {ObjectIdGetDatum(serverid)};

	return query("SELECT server::text, source::text, state, reason, worker, hint, certain::integer AS certain, error"
				 " FROM (SELECT s.*, s.state NOT IN ('idle', 'running') AS certain,"
				 " (SELECT CASE WHEN c.verdict = 'retry' THEN COALESCE(c.error, 'HTTP status ' || c.status) END"
				 " FROM (SELECT * FROM contactsync.calls ORDER BY id DESC LIMIT " RECENT_CALLS ") c"
				 " WHERE c.server = s.server ORDER BY c.id DESC LIMIT 1) AS error"
				 " FROM contactsync.status s"
				 " WHERE ($1 = 0 OR s.server = (SELECT f.srvname FROM pg_foreign_server f WHERE f.oid = $1))"
				 " AND pg_has_role(s.owner, 'USAGE')"
				 " AND EXISTS (SELECT FROM contactsync.progress p WHERE p.server = s.server AND p.owner = s.owner"
				 " AND p.source IS NOT DISTINCT FROM s.source AND p.state = 'running')) o"
				 " WHERE certain OR worker <> 'running' OR reason IS NOT NULL OR error IS NOT NULL"
				 " ORDER BY certain DESC, server, owner, source::text NULLS FIRST LIMIT 1",
				 lengthof(types), types, args);
}

SPITupleTable *
cs_report_data_scans(const char *server, const char *owner)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		args[] = {CStringGetTextDatum(server), CStringGetTextDatum(owner)};

	return query("SELECT source::text, kind, phase, done, total, percent,"
				 " round(rate::numeric) AS rate, to_char(eta, 'YYYY-MM-DD HH24:MI') AS eta"
				 " FROM contactsync.progress WHERE server = $1::name AND owner::text = $2"
				 " AND state = 'running' AND kind <> 'backlog' ORDER BY started_at",
				 lengthof(args), types, args);
}

#define IN_PERIOD \
	" FROM contactsync.history h WHERE h.server = $1::name AND h.owner::text = $2 AND h.at >= $3 AND h.at <= $4"

/* Run a query of history: the server is $1, its owner $2, the period $3 to $4, a bucket's width $5. */
static SPITupleTable *
query_history(const CsReportPeriod *period, const char *text, const char *server, const char *owner)
{
	Oid			types[] = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, FLOAT8OID};
	Datum		args[] = {CStringGetTextDatum(server), CStringGetTextDatum(owner),
		TimestampTzGetDatum(period->start), TimestampTzGetDatum(period->end),
	Float8GetDatum(period->width)};

	return query(text, lengthof(args), types, args);
}

SPITupleTable *
cs_report_data_activity(const CsReportPeriod *period, int parts)
{
	Oid			types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, FLOAT8OID};
	Datum		args[] = {TimestampTzGetDatum(period->start), TimestampTzGetDatum(period->end),
	Float8GetDatum(period->width * period->nbuckets / parts)};

	return query("SELECT h.server::text, h.owner::text, floor(EXTRACT(epoch FROM h.at - $1) / $3)::integer AS part,"
				 " sum(h.calls) AS calls, sum(h.synced) AS synced, sum(h.failed) AS failed"
				 " FROM contactsync.history h WHERE h.at >= $1 AND h.at <= $2 GROUP BY 1, 2, 3",
				 lengthof(args), types, args);
}

SPITupleTable *
cs_report_data_reasons(const CsReportPeriod *period, const char *server, const char *owner)
{
	return query_history(period, "SELECT r.key AS reason, sum(r.value::bigint) AS failed"
						 " FROM (SELECT h.reasons" IN_PERIOD " AND $5 > 0) h, jsonb_each_text(h.reasons) r"
						 " GROUP BY 1 ORDER BY 2 DESC, 1", server, owner);
}

static char *
bucket_query(void)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text,
						   "SELECT floor(EXTRACT(epoch FROM h.at - $3) / $5)::integer AS bucket,"
						   " sum(h.calls) AS calls, sum(h.retries) AS retries, sum(h.throttled) AS throttled,"
						   " sum(h.unanswered) AS unanswered, sum(h.synced) AS synced, sum(h.unchanged) AS unchanged,"
						   " sum(h.failed) AS failed, max(h.backlog) AS backlog");
	for (int i = 0; i <= CS_LATENCY_BOUNDS; i++)
		appendStringInfo(&text, ", sum(h.latency[%d]) AS latency%d", i + 1, i);
	appendStringInfoString(&text, IN_PERIOD " GROUP BY 1");
	return text.data;
}

/* Return what a row of bucket_query() has counted, but for the backlog. */
static CsPeriodStats
counts_of(SPITupleTable *rows, uint64 row)
{
	CsPeriodStats stats = {
		.calls = cs_report_data_count(rows, row, "calls"),
		.retries = cs_report_data_count(rows, row, "retries"),
		.throttled = cs_report_data_count(rows, row, "throttled"),
		.unanswered = cs_report_data_count(rows, row, "unanswered"),
		.synced = cs_report_data_count(rows, row, "synced"),
		.unchanged = cs_report_data_count(rows, row, "unchanged"),
		.failed = cs_report_data_count(rows, row, "failed"),
	};

	for (int i = 0; i <= CS_LATENCY_BOUNDS; i++)
		stats.latency[i] = cs_report_data_count(rows, row, psprintf("latency%d", i));
	return stats;
}

void
cs_report_data_buckets(const CsReportPeriod *period, const char *server, const char *owner,
					   CsPeriodStats *buckets, CsPeriodStats *sum)
{
	SPITupleTable *rows = query_history(period, bucket_query(), server, owner);

	for (int i = 0; i < period->nbuckets; i++)
		buckets[i] = (CsPeriodStats)
	{
		.backlog = get_float8_nan()
	};
	*sum = (CsPeriodStats)
	{
		.backlog = get_float8_nan()
	};
	for (uint64 row = 0; row < rows->numvals; row++)
	{
		int64		number = cs_report_data_count(rows, row, "bucket");
		CsPeriodStats *bucket = &buckets[Min(number, period->nbuckets - 1)];
		CsPeriodStats more = counts_of(rows, row);
		double		backlog = cs_report_data_number(rows, row, "backlog");

		cs_stats_add_period(bucket, &more);
		cs_stats_add_period(sum, &more);
		if (!isnan(backlog) && !(bucket->backlog >= backlog))
			bucket->backlog = backlog;
	}
}
