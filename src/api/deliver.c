/*-------------------------------------------------------------------------
 *
 * deliver.c
 *		SQL functions that queue a contact, deliver, and wait for delivery.
 *
 * contactsync_run() and contactsync_wait() commit as they go, so they cannot be called in a transaction block, and
 * hold no snapshot while they wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "delivery/delivery.h"
#include "provider/endpoint.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/queue.h"

/* Progress is reported this often, and looked for this often (ms). */
#define REPORT_MS	1000
#define POLL_MS		100

/* What cannot go on is believed after this long (ms). */
#define TROUBLE_MS	1000

CS_FUNCTION(contactsync_upsert);
CS_FUNCTION(contactsync_run);
CS_FUNCTION(contactsync_wait);

/*
 * contactsync_upsert()
 */

/* Effect: an error unless the provider can be expected to take the contact. */
static void
check_contact(const CsEndpoint *endpoint, Jsonb *jsonb)
{
	CsContact  *contact = cs_contact_from_jsonb(jsonb);
	uint32		unknown = contact->present & ~endpoint->provider->fields;
	CsRefusal  *refusal;

	if (unknown)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg_plural("%s does not support the field %s", "%s does not support the fields %s",
							   pg_popcount32(unknown), endpoint->provider->title,
							   cs_contact_field_list(unknown)),
				 errhint("It can carry: %s.", cs_contact_field_list(endpoint->provider->fields))));
	refusal = cs_provider_prepare(endpoint, contact);
	if (refusal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the contact cannot be sent: %s", refusal->message)));
}

/* contactsync_upsert(server, contact): queued with the caller's transaction. */
Datum
contactsync_upsert(PG_FUNCTION_ARGS)
{
	Oid			serverid = cs_server_find(NameStr(*PG_GETARG_NAME(0)), GetUserId());
	CsEndpoint *endpoint = cs_server_read(serverid, GetUserId());
	Jsonb	   *contact = PG_GETARG_JSONB_P(1);
	Oid			roleid = GetUserId();
	CsQueueWriter *writer;
	CsSqlScope	scope;
	int			endpoint_id;
	int64		id;

	check_contact(endpoint, contact);
	cs_sql_enter(&scope);
	endpoint_id = cs_endpoint_state_id(serverid, endpoint->server_name, roleid);
	cs_sql_leave(&scope);
	writer = cs_queue_begin_write(NULL);
	if (writer == NULL)
		elog(ERROR, "table contactsync.queue does not exist");
	id = cs_queue_write(writer, endpoint_id, 0, 1, NULL, contact);
	cs_queue_end_write(writer);
	cs_shmem_wake_at_commit();
	PG_RETURN_INT64(id);
}

/*
 * What contactsync_run() and contactsync_wait() share
 */

/* What is left of what was queued, and how it went so far. */
typedef struct CsProgress
{
	Oid			serverid;		/* InvalidOid: all servers */
	char	   *snapshot;		/* only what this one sees; NULL: all */
	TimestampTz started_at;
	TimestampTz reported_at;
	int64		total;			/* the most that was ever left */
	int64		left;
	int64		scans;			/* that are running, whose rows are among them */
	char	   *server;			/* of trouble[]: the first that cannot go on */
	char	   *trouble;
	TimestampTz trouble_at;		/* since when it is seen */
} CsProgress;

static void
begin(void)
{
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	SPI_commit();
}

static const CsTransactions transactions = {begin, commit};

/* Effect: an error where we could not commit. */
static void
require_no_transaction(FunctionCallInfo fcinfo, const char *name)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s() cannot run inside a transaction block", name),
				 errhint("Use CALL outside of BEGIN ... COMMIT and of functions.")));
}

/* The server of that name, which the caller may use. */
static Oid
server_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		return InvalidOid;
	return cs_server_find(NameStr(*PG_GETARG_NAME(0)), GetUserId());
}

/* Effect: counts what is left, and looks for what cannot go on by itself. */
static void
look(CsProgress *progress)
{
	static CsStatement statement = {
		"SELECT COALESCE(sum(q.n), 0)::int8, (min(ARRAY[e.server::text, t.trouble]) FILTER (WHERE t.trouble IS NOT NULL))[1],"
		" (min(ARRAY[e.server::text, t.trouble]) FILTER (WHERE t.trouble IS NOT NULL))[2],"
		" COALESCE(sum(q.scans), 0)::int8"
		" FROM contactsync.endpoint e JOIN LATERAL (SELECT watch, sum(n) AS n, sum(scans) AS scans FROM ("
		"SELECT watch, greatest(n, 1) AS n, 0 AS scans FROM contactsync.queue"
		" WHERE endpoint = e.id AND ($3 IS NULL OR pg_visible_in_snapshot(xact, $3::pg_snapshot))"
		" UNION ALL SELECT watch, GREATEST(total - done, 1), 1 FROM contactsync.scan"
		" WHERE endpoint = e.id AND state = 'running' AND kind <> 'poll' AND started_at <= $4) p"
		" GROUP BY watch) q ON true LEFT JOIN contactsync.watch w ON w.id = q.watch"
		" LEFT JOIN contactsync.pause p ON p.endpoint = e.id AND p.watch = 0"
		" LEFT JOIN contactsync.pause wp ON wp.endpoint = e.id AND wp.watch = q.watch AND q.watch <> 0,"
		" LATERAL (SELECT CASE WHEN e.database <> contactsync.database_identity() THEN 'this database was restored or copied'"
		" WHEN p.paused_at IS NOT NULL THEN concat_ws(': ', 'paused by ' || p.paused_by, p.reason)"
		" WHEN wp.paused_at IS NOT NULL THEN format('the watch on %s: %s', w.source,"
		" concat_ws(': ', 'paused by ' || wp.paused_by, wp.reason))"
		" WHEN e.state = 'halted' THEN e.reason"
		" WHEN w.state IN ('broken', 'guarded') THEN format('the watch on %s: %s', w.source, w.reason) END AS trouble) t"
		" WHERE ($1 = 0 OR e.server = (SELECT srvname FROM pg_foreign_server WHERE oid = $1)) AND pg_has_role($2, e.role, 'USAGE')",
		4, {OIDOID, OIDOID, TEXTOID, TIMESTAMPTZOID}
	};
	Datum		args[4];
	char		nulls[5] = "    ";
	CsSqlScope	scope;
	MemoryContext context = CurrentMemoryContext;
	bool		isnull;

	args[0] = ObjectIdGetDatum(progress->serverid);
	args[1] = ObjectIdGetDatum(GetUserId());
	args[2] = progress->snapshot ? CStringGetTextDatum(progress->snapshot) : (Datum) 0;
	nulls[2] = progress->snapshot ? ' ' : 'n';
	args[3] = TimestampTzGetDatum(progress->snapshot ? progress->started_at : DT_NOEND);
	begin();
	cs_sql_enter(&scope);
	cs_sql_execute(&statement, args, nulls);
	progress->left = DatumGetInt64(cs_sql_value(0, 1, &isnull));
	progress->total = Max(progress->total, progress->left);
	progress->scans = DatumGetInt64(cs_sql_value(0, 4, &isnull));
	MemoryContextSwitchTo(context);
	progress->server = cs_sql_text(0, 2);
	progress->trouble = cs_sql_text(0, 3);
	cs_sql_leave(&scope);
	commit();
}

/* "1 h 05 min", "16:00" and the like are all too long: minutes and seconds. */
static char *
duration_text(double seconds)
{
	int64		s = (int64) (seconds + 0.5);

	if (s >= 3600)
		return psprintf(INT64_FORMAT ":%02d:%02d", s / 3600, (int) (s / 60 % 60), (int) (s % 60));
	return psprintf("%02d:%02d", (int) (s / 60), (int) (s % 60));
}

/* Effect: "5300/10000  53 %  4.9/s  ETA 16:00", once a second, to who wants notices. */
static void
report(CsProgress *progress)
{
	TimestampTz now = GetCurrentTimestamp();
	double		seconds = (now - progress->started_at) / (double) USECS_PER_SEC;
	int64		done = progress->total - progress->left;
	double		rate = seconds > 0 ? done / seconds : 0;

	if (!TimestampDifferenceExceeds(progress->reported_at, now, REPORT_MS))
		return;
	progress->reported_at = now;
	ereport(NOTICE,
			(errmsg(INT64_FORMAT "/" INT64_FORMAT "  %.0f %%  %.1f/s  ETA %s", done, progress->total,
					progress->total > 0 ? 100.0 * done / progress->total : 100.0, rate,
					rate > 0 ? duration_text(progress->left / rate) : "unknown")));
}

static void
begin_progress(CsProgress *progress, Oid serverid, char *snapshot)
{
	memset(progress, 0, sizeof(CsProgress));
	progress->serverid = serverid;
	progress->snapshot = snapshot;
	progress->started_at = progress->reported_at = GetCurrentTimestamp();
	look(progress);
}

/*
 * contactsync_run()
 */

static void
deliver(Oid serverid, Oid roleid)
{
	CsDelivery *delivery = cs_delivery_open(&transactions, serverid, roleid, NULL);
	CsProgress	progress;
	int			done = 0;

	PG_TRY();
	{
		begin_progress(&progress, serverid, NULL);
		for (;;)
		{
			CHECK_FOR_INTERRUPTS();
			cs_delivery_run(delivery);
			/* once more: something may have come while that was read */
			done = cs_delivery_is_done(delivery) ? done + 1 : 0;
			if (done == 1)
				continue;
			if (done == 2)
				break;
			if (TimestampDifferenceExceeds(progress.reported_at, GetCurrentTimestamp(), REPORT_MS))
				look(&progress);
			report(&progress);
			cs_delivery_wait(delivery, REPORT_MS);
		}
		cs_delivery_drain(delivery, 0);
		look(&progress);
	}
	PG_FINALLY();
	{
		cs_delivery_close(delivery);
	}
	PG_END_TRY();
	if (progress.trouble)
		ereport(WARNING,
				(errmsg("server \"%s\" cannot go on: %s", progress.server, progress.trouble),
				 errdetail_plural(INT64_FORMAT " contact stays queued.",
								  INT64_FORMAT " contacts stay queued.",
								  progress.left, progress.left)));
}

/*
 * contactsync_run(server): delivers what is queued for the roles that the
 * caller is, until nothing is left that can go on.
 */
Datum
contactsync_run(PG_FUNCTION_ARGS)
{
	Oid			serverid;

	require_no_transaction(fcinfo, "contactsync_run");
	serverid = server_argument(fcinfo);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	begin();
	if (!cs_queue_lock())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the background worker or another session delivers already"),
				 errhint("Use CALL contactsync_wait('...') to wait for it.")));
	commit();
	PG_TRY();
	{
		deliver(serverid, GetUserId());
	}
	PG_FINALLY();
	{
		cs_queue_unlock();
	}
	PG_END_TRY();
	SPI_finish();
	return (Datum) 0;
}

/*
 * contactsync_wait()
 */

/* The snapshot of now, as text; palloc'd. */
static char *
current_snapshot(void)
{
	static CsStatement statement = {"SELECT pg_current_snapshot()::text"};
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	char	   *snapshot;

	begin();
	cs_sql_enter(&scope);
	cs_sql_execute(&statement, NULL, NULL);
	MemoryContextSwitchTo(context);
	snapshot = cs_sql_text(0, 1);
	cs_sql_leave(&scope);
	commit();
	return snapshot;
}

/*
 * Effect: an error if waiting is of no use.  What halts a server may have been
 * mended a moment ago, so it is given one to try.
 */
static void
check_hope(CsProgress *progress, TimestampTz end)
{
	if (progress->trouble == NULL)
		progress->trouble_at = 0;
	else if (progress->trouble_at == 0)
		progress->trouble_at = GetCurrentTimestamp();
	else if (TimestampDifferenceExceeds(progress->trouble_at, GetCurrentTimestamp(), TROUBLE_MS))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server \"%s\" cannot go on: %s", progress->server, progress->trouble),
				 errdetail_plural(INT64_FORMAT " contact stays queued.",
								  INT64_FORMAT " contacts stay queued.",
								  progress->left, progress->left)));
	if (!cs_shmem_ready())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing delivers the queue, for the library was not preloaded"),
				 errhint("Use CALL contactsync_run() or set shared_preload_libraries = 'contactsync'.")));
	if (GetCurrentTimestamp() >= end)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_plural("timed out with " INT64_FORMAT " contact still queued",
							   "timed out with " INT64_FORMAT " contacts still queued",
							   progress->left, progress->left),
				 errhint("SELECT * FROM contactsync.status tells how it goes.")));
}

/*
 * Effect: looks; and when a scan has ended that was under way, what it queued is
 * waited for as well.
 */
static void
look_and_follow(CsProgress *progress)
{
	int64		scans = progress->scans;

	look(progress);
	if (progress->scans >= scans)
		return;
	progress->snapshot = current_snapshot();
	look(progress);
}

static TimestampTz
end_of(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		return DT_NOEND;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(GetCurrentTimestamp()),
												   PG_GETARG_DATUM(1)));
}

/* contactsync_wait(server, timeout) */
Datum
contactsync_wait(PG_FUNCTION_ARGS)
{
	CsProgress	progress;
	TimestampTz end;
	Oid			serverid;
	char	   *snapshot;

	require_no_transaction(fcinfo, "contactsync_wait");
	serverid = server_argument(fcinfo);
	end = end_of(fcinfo);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	snapshot = current_snapshot();
	begin_progress(&progress, serverid, snapshot);
	for (;;)
	{
		TimestampTz looked_at = GetCurrentTimestamp();
		long		took;

		CHECK_FOR_INTERRUPTS();
		look_and_follow(&progress);
		if (progress.left == 0)
			break;
		check_hope(&progress, end);
		report(&progress);
		/* a long queue takes long to look at: leave the time to the worker */
		took = TimestampDifferenceMilliseconds(looked_at, GetCurrentTimestamp());
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(POLL_MS, took * 20), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	SPI_finish();
	return (Datum) 0;
}
