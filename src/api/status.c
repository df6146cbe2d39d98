/*-------------------------------------------------------------------------
 *
 * status.c
 *		SQL functions that the view status calls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/activity.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "provider/window.h"
#include "store/departure.h"
#include "store/endpoint_state.h"
#include "store/stats.h"

CS_FUNCTION(contactsync_runtime);
CS_FUNCTION(contactsync_worker_state);
CS_FUNCTION(contactsync_backlog);
CS_FUNCTION(contactsync_due_removals);
CS_FUNCTION(contactsync_latency_bounds);
CS_FUNCTION(contactsync_window_opens_at);

/*
 * Everybody may call these, as the view does.
 */

/* What put_runtime() needs. */
typedef struct CsRuntime
{
	ReturnSetInfo *result;
	List	   *endpoints;		/* the ids that the caller may see */
} CsRuntime;

static void
put_runtime(const CsActivity *activity, void *arg)
{
	CsRuntime  *runtime = arg;
	Datum		values[6] = {Int32GetDatum(activity->endpoint), Int32GetDatum(activity->in_flight),
		Int64GetDatum(activity->waiting), Float8GetDatum(activity->pace),
	Float8GetDatum(activity->configured_pace), BoolGetDatum(activity->locked)};
	bool		nulls[6] = {0};

	if (list_member_int(runtime->endpoints, activity->endpoint))
		tuplestore_putvalues(runtime->result->setResult, runtime->result->setDesc, values, nulls);
}

/* Return the endpoints that the caller may see, palloc'd. */
static List *
visible_endpoints(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *endpoints;
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);

	MemoryContextSwitchTo(context);
	endpoints = cs_endpoint_state_visible_ids(roleid);
	cs_sql_leave(&scope);
	return endpoints;
}

/* contactsync.runtime() */
Datum
contactsync_runtime(PG_FUNCTION_ARGS)
{
	CsRuntime	runtime;

	InitMaterializedSRF(fcinfo, 0);
	runtime.result = (ReturnSetInfo *) fcinfo->resultinfo;
	runtime.endpoints = cs_shmem_ready() && cs_sql_is_ready() ? visible_endpoints() : NIL;
	cs_activity_visit(put_runtime, &runtime);
	return (Datum) 0;
}

/* contactsync.worker_state() */
Datum
contactsync_worker_state(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(RecoveryInProgress() ? "none on a standby" :
									 cs_sql_is_ready() ? cs_shmem_worker_state() :
									 "waiting for ALTER EXTENSION contactsync UPDATE"));
}

/* Return the rows that "list" reads; contactsync.status must work with tables of any version. */
static Datum
put_list(FunctionCallInfo fcinfo, uint64 (*list) (Oid roleid))
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CsSqlScope	scope;
	Oid			roleid;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	roleid = cs_sql_enter_any_version(&scope);
	n = list(roleid);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	cs_sql_leave(&scope);
	return (Datum) 0;
}

/* contactsync.backlog() */
Datum
contactsync_backlog(PG_FUNCTION_ARGS)
{
	return put_list(fcinfo, cs_stats_backlog);
}

/* contactsync.due_removals() */
Datum
contactsync_due_removals(PG_FUNCTION_ARGS)
{
	return put_list(fcinfo, cs_departure_list_due);
}

/* contactsync.latency_bounds(), without the last, which is infinite */
Datum
contactsync_latency_bounds(PG_FUNCTION_ARGS)
{
	Datum		elements[CS_LATENCY_BOUNDS];

	for (int i = 0; i < CS_LATENCY_BOUNDS; i++)
		elements[i] = Float8GetDatum(cs_latency_bounds[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(elements, CS_LATENCY_BOUNDS, FLOAT8OID, 8, FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}

/* contactsync.window_opens_at(options) */
Datum
contactsync_window_opens_at(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	CsWindow	window = {0};
	ListCell   *lc;
	int			wait;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	foreach(lc, untransformRelOptions(PG_GETARG_DATUM(0)))
	{
		DefElem    *def = lfirst(lc);

		if (strcmp(def->defname, "send_window") == 0)
			(void) cs_window_read(defGetString(def), &window);
	}
	wait = cs_window_opens_in(&window, (pg_time_t) cs_clock_unix(now));
	if (wait == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(now + wait * USECS_PER_SEC);
}
