/*-------------------------------------------------------------------------
 *
 * schedule.c
 *		What is done about a watch by itself: polling and reconciliation.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "schedule.h"
#include "source.h"
#include "sql.h"

static Interval *
interval_argument(FunctionCallInfo fcinfo, int arg, const char *name, bool zero)
{
	Interval   *interval;
	double		seconds;

	if (PG_ARGISNULL(arg))
		return NULL;
	interval = PG_GETARG_INTERVAL_P(arg);
	seconds = DatumGetFloat8(DirectFunctionCall2(interval_part, CStringGetTextDatum("epoch"),
												 IntervalPGetDatum(interval)));
	if (seconds < 0 || (seconds < 1 && !zero))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 zero ? errmsg("\"%s\" must not be negative", name) :
				 errmsg("\"%s\" must be at least a second", name)));
	return interval;
}

/* capture, poll_column, poll_every, poll_overlap, reconcile_every, reconcile_at */
void
cs_schedule_read(FunctionCallInfo fcinfo, int arg, CsSchedule *schedule)
{
	char	   *capture;
	TimeADT    *at = palloc(sizeof(TimeADT));
	CsSqlScope	scope;

	/* version 0.1 had not these arguments: an error unless it was updated */
	cs_sql_enter(&scope);
	cs_sql_leave(&scope);
	memset(schedule, 0, sizeof(CsSchedule));
	capture = PG_ARGISNULL(arg) ? "trigger" : text_to_cstring(PG_GETARG_TEXT_PP(arg));
	schedule->poll = strcmp(capture, "poll") == 0;
	if (!schedule->poll && strcmp(capture, "trigger") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"capture\": \"%s\"", capture),
				 errhint("Use 'trigger' or 'poll'.")));
	schedule->poll_column = PG_ARGISNULL(arg + 1) ? NULL : NameStr(*PG_GETARG_NAME(arg + 1));
	if (schedule->poll_column && !schedule->poll)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"poll_column\" is for a source that is polled"),
				 errhint("Use capture => 'poll' as well.")));
	schedule->poll_every = interval_argument(fcinfo, arg + 2, "poll_every", false);
	schedule->poll_overlap = interval_argument(fcinfo, arg + 3, "poll_overlap", true);
	schedule->reconcile_every = interval_argument(fcinfo, arg + 4, "reconcile_every", false);
	if (PG_ARGISNULL(arg + 5))
		return;
	*at = PG_GETARG_TIMEADT(arg + 5);
	schedule->reconcile_at = at;
	if (schedule->reconcile_every == NULL || schedule->reconcile_every->time != 0 ||
		schedule->reconcile_every->day + schedule->reconcile_every->month == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"reconcile_at\" needs \"reconcile_every\" in whole days"),
				 errhint("Use reconcile_every => '1 day'.")));
}

/* The newest that there is now, as it is compared with later; NULL: nothing. */
static char *
newest_value(const CsWatch *watch)
{
	MemoryContext context = CurrentMemoryContext;
	CsOwnerScope scope;
	char	   *query;
	char	   *newest;
	char	   *column;

	cs_source_enter(watch, &scope);
	column = psprintf("%s.%s", quote_identifier(get_rel_name(watch->source)),
					  quote_identifier(watch->poll_column));
	/* what says that it is yet to come would hide what does come */
	query = psprintf("SELECT CASE WHEN pg_catalog.count(%s) OPERATOR(pg_catalog.>) 0 THEN LEAST(pg_catalog.max(%s)::pg_catalog.timestamp,"
					 " (pg_catalog.now() AT TIME ZONE 'UTC'))::pg_catalog.text END FROM %s",
					 column, column, cs_source_from(watch->source));
	if (SPI_execute(query, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", query);
	MemoryContextSwitchTo(context);
	newest = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	cs_source_leave(&scope);
	return newest;
}

static void
store_options(const CsWatch *watch, const CsSchedule *schedule)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET poll_column = $2, poll_every = COALESCE($3, '5 min'),"
		" poll_overlap = COALESCE($4, '1 min'), reconcile_every = $5, reconcile_at = $6,"
		" reconcile_next = CASE WHEN $6 IS NULL THEN now() + $5"
		" ELSE CURRENT_DATE + $6 + CASE WHEN $6 <= LOCALTIME THEN interval '1 day' ELSE interval '0' END END"
		" WHERE id = $1",
		6, {INT4OID, TEXTOID, INTERVALOID, INTERVALOID, INTERVALOID, TIMEOID}
	};
	Datum		args[6] = {Int32GetDatum(watch->id)};
	char		nulls[7] = "      ";

	args[1] = watch->poll_column ? CStringGetTextDatum(watch->poll_column) : (Datum) 0;
	nulls[1] = watch->poll_column ? ' ' : 'n';
	args[2] = IntervalPGetDatum(schedule->poll_every);
	nulls[2] = schedule->poll_every ? ' ' : 'n';
	args[3] = IntervalPGetDatum(schedule->poll_overlap);
	nulls[3] = schedule->poll_overlap ? ' ' : 'n';
	args[4] = IntervalPGetDatum(schedule->reconcile_every);
	nulls[4] = schedule->reconcile_every ? ' ' : 'n';
	args[5] = schedule->reconcile_at ? TimeADTGetDatum(*schedule->reconcile_at) : (Datum) 0;
	nulls[5] = schedule->reconcile_at ? ' ' : 'n';
	cs_sql_execute(&statement, args, nulls);
}

void
cs_schedule_store(const CsWatch *watch, const CsSchedule *schedule)
{
	static CsStatement poll = {
		"INSERT INTO contactsync.scan (endpoint, watch, kind, phase, watermark, value, since)"
		" VALUES ($1, $2, 'poll', 'counting', $3, $3, $3)",
		3, {INT4OID, INT4OID, TEXTOID}
	};
	char	   *newest = watch->poll_column ? newest_value(watch) : NULL;
	Datum		args[3] = {Int32GetDatum(watch->endpoint), Int32GetDatum(watch->id)};
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	store_options(watch, schedule);
	if (watch->poll_column)
	{
		args[2] = newest ? CStringGetTextDatum(newest) : (Datum) 0;
		cs_sql_execute(&poll, args, newest ? NULL : "  n");
	}
	cs_sql_leave(&scope);
}
