/*-------------------------------------------------------------------------
 *
 * schedule.c
 *		The schedule of a watch: polling and reconciliation.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "base/sql.h"
#include "store/run_log.h"
#include "store/schedule.h"
#include "store/source.h"

static double
seconds_of(const Interval *interval)
{
	return DatumGetFloat8(DirectFunctionCall2(interval_part, CStringGetTextDatum("epoch"),
											  IntervalPGetDatum(interval)));
}

/* Return the argument, checked, or "otherwise" if it is not given. */
static Interval *
interval_argument(FunctionCallInfo fcinfo, int arg, const char *name, bool zero, Interval *otherwise)
{
	Interval   *interval;
	double		seconds;

	if (PG_ARGISNULL(arg))
		return otherwise;
	interval = PG_GETARG_INTERVAL_P(arg);
	seconds = seconds_of(interval);
	if (seconds < 0 || (seconds < 1 && !zero))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 zero ? errmsg("\"%s\" must not be negative", name) :
				 errmsg("\"%s\" must be at least a second", name)));
	return interval;
}

/* Raise an error unless a time of day makes sense with the interval. */
static void
check_reconcile_at(const CsSchedule *schedule)
{
	const Interval *every = schedule->reconcile_every;

	if (schedule->reconcile_at == NULL || (every && every->time == 0 && every->day + every->month != 0))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"reconcile_at\" needs \"reconcile_every\" in whole days"),
			 errhint("Use reconcile_every => '1 day'.")));
}

/* Read reconcile_every and reconcile_at; an interval of zero turns both off. */
static void
read_reconcile(FunctionCallInfo fcinfo, int arg, CsSchedule *schedule)
{
	if (!PG_ARGISNULL(arg) && seconds_of(PG_GETARG_INTERVAL_P(arg)) == 0)
	{
		schedule->reconcile_every = NULL;
		schedule->reconcile_at = NULL;
	}
	else
		schedule->reconcile_every = interval_argument(fcinfo, arg, "reconcile_every", false, schedule->reconcile_every);
	if (!PG_ARGISNULL(arg + 1))
	{
		TimeADT    *at = palloc(sizeof(TimeADT));

		*at = PG_GETARG_TIMEADT(arg + 1);
		schedule->reconcile_at = at;
	}
	check_reconcile_at(schedule);
}

/*
 * Read those of poll_column, poll_every, poll_overlap, reconcile_every and
 * reconcile_at that are given into the schedule.
 */
static void
read_options(FunctionCallInfo fcinfo, int arg, CsSchedule *schedule)
{
	if (!PG_ARGISNULL(arg))
		schedule->poll_column = NameStr(*PG_GETARG_NAME(arg));
	schedule->poll_every = interval_argument(fcinfo, arg + 1, "poll_every", false, schedule->poll_every);
	schedule->poll_overlap = interval_argument(fcinfo, arg + 2, "poll_overlap", true, schedule->poll_overlap);
	read_reconcile(fcinfo, arg + 3, schedule);
}

/* capture, poll_column, poll_every, poll_overlap, reconcile_every, reconcile_at */
void
cs_schedule_read(FunctionCallInfo fcinfo, int arg, CsSchedule *schedule)
{
	char	   *capture;
	CsSqlScope	scope;

	/* tables of another version have functions with other arguments: an error */
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
	if (!PG_ARGISNULL(arg + 1) && !schedule->poll)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"poll_column\" is for a source that is polled"),
				 errhint("Use capture => 'poll' as well.")));
	read_options(fcinfo, arg + 1, schedule);
}

/* Copy an interval of the result into the context; NULL for null. */
static Interval *
copy_interval(int column, MemoryContext context)
{
	Interval   *copy = MemoryContextAlloc(context, sizeof(Interval));
	bool		isnull;
	Datum		value = cs_sql_value(0, column, &isnull);

	if (isnull)
		return NULL;
	*copy = *DatumGetIntervalP(value);
	return copy;
}

/* Load the schedule that is stored with the watch, palloc'd. */
static void
load(const CsWatch *watch, CsSchedule *schedule)
{
	static CsStatement statement = {
		"SELECT poll_every, poll_overlap, reconcile_every, reconcile_at FROM contactsync.watch WHERE id = $1",
		1, {INT4OID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		arg = Int32GetDatum(watch->id);
	TimeADT    *at = palloc(sizeof(TimeADT));
	bool		isnull;
	CsSqlScope	scope;

	memset(schedule, 0, sizeof(CsSchedule));
	schedule->poll = watch->poll_column != NULL;
	schedule->poll_column = watch->poll_column;
	cs_sql_enter(&scope);
	cs_sql_execute(&statement, &arg, NULL);
	schedule->poll_every = copy_interval(1, context);
	schedule->poll_overlap = copy_interval(2, context);
	schedule->reconcile_every = copy_interval(3, context);
	*at = DatumGetTimeADT(cs_sql_value(0, 4, &isnull));
	schedule->reconcile_at = isnull ? NULL : at;
	cs_sql_leave(&scope);
}

/* poll_column, poll_every, poll_overlap, reconcile_every, reconcile_at */
void
cs_schedule_alter(FunctionCallInfo fcinfo, int arg, const CsWatch *watch, CsSchedule *schedule)
{
	static const char *const names[] = {"poll_column", "poll_every", "poll_overlap"};

	load(watch, schedule);
	for (int i = 0; i < lengthof(names); i++)
	{
		if (PG_ARGISNULL(arg + i))
			continue;
		if (!schedule->poll)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" is for a source that is polled", names[i]),
					 errhint("To have it polled end the watch by contactsync_unwatch(), and make it again with capture => 'poll'.")));
		schedule->poll_changed = true;
	}
	read_options(fcinfo, arg, schedule);
	schedule->other_column = schedule->poll && strcmp(watch->poll_column, schedule->poll_column) != 0;
}

/* Return the newest value that there is now, to be compared with later; NULL: none. */
static char *
newest_value(const CsWatch *watch)
{
	MemoryContext context = CurrentMemoryContext;
	CsOwnerScope scope;
	char	   *query;
	char	   *newest;
	char	   *column;

	cs_source_enter(watch, &scope);
	column = psprintf("%s.%s", quote_identifier(cs_source_alias(watch)),
					  quote_identifier(watch->poll_column));
	/* a value in the future would hide changes until then */
	query = psprintf("SELECT CASE WHEN pg_catalog.count(%s) OPERATOR(pg_catalog.>) 0 THEN LEAST(pg_catalog.max(%s)::pg_catalog.timestamp,"
					 " (pg_catalog.now() AT TIME ZONE 'UTC'))::pg_catalog.text END FROM %s",
					 column, column, cs_source_from(watch));
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
		" reconcile_next = CASE WHEN reconcile_every IS NOT DISTINCT FROM $5 AND reconcile_at IS NOT DISTINCT FROM $6 THEN reconcile_next"
		" WHEN $6 IS NULL THEN now() + $5"
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

/*
 * Have a polled source polled at once, by a new scan, for a page of the old one
 * may be in progress.  With another column, begin at the last round that is
 * stored, or at the time when the watch was made: so no change is missed, and
 * nothing older is sent.
 */
static void
restart_poll(const CsWatch *watch, bool other_column)
{
	static CsStatement statement = {
		"WITH before AS (DELETE FROM contactsync.scan WHERE endpoint = $1 AND watch = $2 AND kind = 'poll' RETURNING *),"
		" at AS (SELECT b.*,"
		" LEAST($4::timestamp, COALESCE(b.next_at - w.poll_every, b.started_at) AT TIME ZONE 'UTC') AS last_round,"
		" LEAST($4::timestamp, b.started_at AT TIME ZONE 'UTC') AS made"
		" FROM before b JOIN contactsync.watch w ON w.id = b.watch)"
		" INSERT INTO contactsync.scan (endpoint, watch, kind, phase, value, watermark, since, started_at)"
		" SELECT endpoint, watch, kind, 'counting', f.value, f.value, f.since, started_at FROM at, LATERAL"
		" (SELECT CASE WHEN $3 THEN to_char(last_round, $5) ELSE watermark END AS value,"
		" CASE WHEN $3 THEN to_char(made, $5) ELSE at.since END AS since) f",
		5, {INT4OID, INT4OID, BOOLOID, TEXTOID, TEXTOID}
	};
	char	   *newest = other_column ? newest_value(watch) : NULL;
	Datum		args[5] = {Int32GetDatum(watch->endpoint), Int32GetDatum(watch->id)};
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	args[2] = BoolGetDatum(other_column);
	args[3] = newest ? CStringGetTextDatum(newest) : (Datum) 0;
	args[4] = CStringGetTextDatum("YYYY-MM-DD HH24:MI:SS.US");
	cs_run_log_abandon(watch->id, "poll", "altered");
	cs_sql_execute(&statement, args, newest ? NULL : "   n ");
	cs_sql_leave(&scope);
}

void
cs_schedule_store_altered(const CsWatch *watch, const CsSchedule *schedule)
{
	CsSqlScope	scope;

	if (schedule->poll_changed)
		restart_poll(watch, schedule->other_column);
	cs_sql_enter(&scope);
	store_options(watch, schedule);
	cs_sql_leave(&scope);
}
