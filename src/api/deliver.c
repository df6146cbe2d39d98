/*-------------------------------------------------------------------------
 *
 * deliver.c
 *		SQL functions that deliver, and wait for delivery.
 *
 * contactsync_run() and contactsync_wait() commit as they go, so they cannot run
 * in a transaction block, and hold no snapshot while they wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/obstacle.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "base/wakeup.h"
#include "delivery/delivery.h"
#include "delivery/upkeep.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/progress.h"
#include "store/queue_owner.h"

/* How long to wait before what is left is counted again: so many times as long as that
 * took, within these bounds (ms).  Counting a long queue takes long. */
#define POLL_TIMES	20
#define POLL_MS		100
#define LONGEST_POLL_MS	5000

/* How often it is looked at what keeps it (ms). */
#define OBSTACLE_MS	1000

/* How long to wait before each report of the progress; the last time for all others (ms). */
static const int report_ms[] = {1000, 2000, 5000, 10000, 30000};

/* How long delivery may wait for something before there is a report (ms). */
#define REPORT_MS	1000

/* How long delivery must be unable to continue before waiting is given up (ms). */
#define TROUBLE_MS	1000

CS_FUNCTION(contactsync_run);
CS_FUNCTION(contactsync_wait);

/*
 * What contactsync_run() and contactsync_wait() share
 */

/* The delivery that is reported on. */
typedef struct CsTarget
{
	Oid			serverid;		/* InvalidOid: all servers */
	char	   *snapshot;		/* of the changes; NULL: all changes */
	bool		closed;			/* scans that wait for the send_window are
								 * waited for, too */
	TimestampTz started_at;
	TimestampTz begun_at;		/* the same, and what follows it, by
								 * cs_clock_steady() */
	TimestampTz left_until;		/* removals of contacts that were left later
								 * are not waited for */
	TimestampTz reported_at;
	int			nreports;
	int64		total;			/* the most that was ever left */
	CsProgress	now;
	TimestampTz looked_at;		/* when "obstacle" was read; 0: never */
	CsObstacle	obstacle;
	char	   *said;			/* what was said of it last, or NULL */
	TimestampTz trouble_at;		/* when now.trouble was first seen */
} CsTarget;

/* Begin a transaction, which writes even if the session's do not by default. */
static void
begin(void)
{
	XactReadOnly = RecoveryInProgress();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	SPI_commit();
}

static const CsTransactions transactions = {begin, commit, NULL};

/* Raise an error unless the procedure can commit. */
static void
require_no_transaction(FunctionCallInfo fcinfo, const char *name)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s() cannot run inside a transaction block", name),
				 errhint("Use CALL outside of transaction blocks and functions.")));
}

/* Return the server that the first argument names, or InvalidOid for all servers. */
static Oid
server_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		return InvalidOid;
	return cs_server_find(NameStr(*PG_GETARG_NAME(0)), GetUserId());
}

/* Read what is left of the caller's changes. */
static void
read_progress(CsTarget *target)
{
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	Oid			roleid;

	begin();
	roleid = cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);

	/*
	 * a scan or a TRUNCATE has rows queued that are left as before, whatever
	 * the snapshot says
	 */
	cs_progress_read(target->serverid, roleid, target->now.scans > 0 ? NULL : target->snapshot,
					 target->snapshot ? target->started_at : DT_NOEND, target->left_until, target->closed, &target->now);
	target->total = Max(target->total, target->now.left);
	cs_sql_leave(&scope);
	commit();
}

static void
begin_target(CsTarget *target, Oid serverid, bool closed)
{
	memset(target, 0, sizeof(CsTarget));
	target->serverid = serverid;
	target->closed = closed;
	target->left_until = DT_NOEND;
	target->started_at = GetCurrentTimestamp();
	target->begun_at = target->reported_at = cs_clock_steady();
	read_progress(target);
}

/* Return a duration as minutes and seconds, such as 16:00. */
static char *
duration_text(double seconds)
{
	int64		s = (int64) (seconds + 0.5);

	if (s >= 3600)
		return psprintf(INT64_FORMAT ":%02d:%02d", s / 3600, (int) (s / 60 % 60), (int) (s % 60));
	return psprintf("%02d:%02d", (int) (s / 60), (int) (s % 60));
}

static bool
is_report_due(const CsTarget *target)
{
	return TimestampDifferenceExceeds(target->reported_at, cs_clock_steady(),
									  report_ms[Min(target->nreports, lengthof(report_ms) - 1)]);
}

/* Return when all will be delivered, or why that is not known. */
static char *
expectation(const CsTarget *target, double rate)
{
	if (rate > 0)
		return psprintf("ETA %s", duration_text(target->now.left / rate));
	if (target->obstacle.text && target->obstacle.certain)
		return target->obstacle.state;
	return "ETA unknown";
}

/* Report the progress, as in "5300/10000  53 %  4.9/s  ETA 16:00", less and less often. */
static void
report_progress(CsTarget *target)
{
	TimestampTz now = cs_clock_steady();
	double		seconds = (now - target->begun_at) / (double) USECS_PER_SEC;
	int64		done = target->total - target->now.left;
	double		rate = seconds > 0 ? done / seconds : 0;

	if (!is_report_due(target))
		return;
	target->reported_at = now;
	target->nreports++;
	ereport(NOTICE,
			(errmsg(INT64_FORMAT "/" INT64_FORMAT "  %.0f %%  %.1f/s  %s", done, target->total,
					target->total > 0 ? 100.0 * done / target->total : 100.0, rate,
					expectation(target, rate))));
}

/* Read what keeps delivery to a server, or with InvalidOid to any, from going on. */
static void
read_obstacle(Oid serverid, CsObstacle *obstacle)
{
	begin();
	cs_obstacle_read(serverid, obstacle);
	commit();
}

static void
free_obstacle(CsObstacle *obstacle)
{
	char	   *texts[] = {obstacle->state, obstacle->text, obstacle->hint};

	for (int i = 0; i < lengthof(texts); i++)
		if (texts[i])
			pfree(texts[i]);
}

/*
 * Say at once what keeps all from being delivered, but only once.  What may be no
 * obstacle is said only if nothing was delivered until the first report.
 */
static void
say_obstacle(CsTarget *target)
{
	TimestampTz now = cs_clock_steady();
	const CsObstacle *obstacle = &target->obstacle;

	if (target->looked_at != 0 && !is_report_due(target) &&
		!TimestampDifferenceExceeds(target->looked_at, now, OBSTACLE_MS))
		return;
	target->looked_at = now;
	free_obstacle(&target->obstacle);
	read_obstacle(target->serverid, &target->obstacle);
	if (obstacle->text == NULL || (target->said && strcmp(target->said, obstacle->text) == 0))
		return;
	if (!obstacle->certain && (target->now.left < target->total || !is_report_due(target)))
		return;
	target->said = pstrdup(obstacle->text);
	ereport(NOTICE,
			(errmsg("%s", obstacle->text),
			 errdetail_plural(INT64_FORMAT " contact is queued.", INT64_FORMAT " contacts are queued.",
							  target->now.left, target->now.left),
			 obstacle->hint ? errhint("%s", obstacle->hint) : 0));
}

/* Report that delivery cannot continue, as an error or a warning. */
static void
report_trouble(int elevel, const CsProgress *progress)
{
	ForeignServer *server = GetForeignServerByName(progress->server, true);
	CsObstacle	obstacle = {0};

	if (server)
		read_obstacle(server->serverid, &obstacle);
	ereport(elevel,
			(errcode(elevel == WARNING ? ERRCODE_WARNING : ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("delivery to server \"%s\" cannot continue: %s", progress->server, progress->trouble),
			 errdetail_plural(INT64_FORMAT " contact stays queued.",
							  INT64_FORMAT " contacts stay queued.",
							  progress->left, progress->left),
			 obstacle.certain && obstacle.hint ? errhint("%s", obstacle.hint) : 0));
}

/* Return the present snapshot as text, palloc'd. */
static char *
current_snapshot(void)
{
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	char	   *snapshot;

	begin();
	cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	snapshot = cs_progress_snapshot();
	cs_sql_leave(&scope);
	commit();
	return snapshot;
}

/*
 * Read what is left; when a scan has ended, also wait for what it queued, and when
 * nothing is queued, for the removals that are due by then.
 */
static void
read_progress_and_extend(CsTarget *target)
{
	int64		scans = target->now.scans;

	read_progress(target);
	if (target->now.scans < scans)
	{
		target->snapshot = current_snapshot();
		read_progress(target);
	}
	if (target->now.left == target->now.removals)
		target->left_until = Min(target->left_until, GetCurrentTimestamp());
}

/* Does this database have no worker, and nothing to start one with? */
static bool
lacks_worker(void)
{
	const char *worker = cs_shmem_worker_state();

	return strcmp(worker, "too many databases") == 0 || strcmp(worker, "too few processes") == 0;
}

/*
 * Is waiting of no use?  The user may just have fixed what keeps a server from
 * delivering, so give it the time for one attempt.
 */
static bool
is_in_trouble(CsTarget *target)
{
	if (target->now.trouble == NULL && !lacks_worker())
		target->trouble_at = 0;
	else if (target->trouble_at == 0)
		target->trouble_at = cs_clock_steady();
	return target->trouble_at != 0 &&
		TimestampDifferenceExceeds(target->trouble_at, cs_clock_steady(), TROUBLE_MS);
}

/* Wait for a while, or until somebody wakes us. */
static void
pause_for(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/*
 * contactsync_run()
 */

/* The endpoints at a server, or with InvalidOid at all, that the caller delivers to. */
static List *
endpoints_to_run(Oid serverid)
{
	MemoryContext context = CurrentMemoryContext;
	ForeignServer *server = OidIsValid(serverid) ? GetForeignServer(serverid) : NULL;
	NameData	name;
	CsSqlScope	scope;
	Oid			roleid;
	List	   *ids;

	if (server)
		namestrcpy(&name, server->servername);
	roleid = cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	ids = cs_endpoint_state_ids(server ? &name : NULL, roleid);
	cs_sql_leave(&scope);
	return ids;
}

/*
 * Deliver what is queued for an endpoint, until nothing is left but what cannot be
 * delivered now.
 */
static void
deliver(CsTarget *target, int endpoint)
{
	CsDelivery *delivery = cs_delivery_open(&transactions, endpoint);
	bool		checked = false;
	int			done = 0;

	PG_TRY();
	{
		cs_delivery_load(delivery);
		for (;;)
		{
			CHECK_FOR_INTERRUPTS();
			cs_delivery_run(delivery);

			/*
			 * look twice: a change may have been committed while the queue
			 * was read
			 */
			done = cs_delivery_is_done(delivery) ? done + 1 : 0;
			if (done == 1)
				continue;
			if (done == 2 && checked)
				break;
			if (done == 2)
			{
				/* tell what is over now, or has become too much */
				cs_upkeep_check_now(delivery);
				checked = true;
				done = 0;
				continue;
			}
			if (is_report_due(target))
				read_progress(target);
			report_progress(target);
			cs_delivery_wait(delivery, REPORT_MS);
		}
		cs_delivery_drain(delivery, 0);
	}
	PG_FINALLY();
	{
		cs_delivery_close(delivery);
	}
	PG_END_TRY();
}

/*
 * The worker delivers: have it look at once, and wait for the caller's changes.  Return
 * false if it does not deliver any more.
 */
static bool
leave_to_worker(CsTarget *target, int endpoint)
{
	target->snapshot = current_snapshot();
	begin();
	cs_wakeup_at_commit();
	commit();
	for (;;)
	{
		CsQueueOwner owner;

		CHECK_FOR_INTERRUPTS();
		read_progress_and_extend(target);
		if (target->now.left == 0 || is_in_trouble(target))
			return true;
		report_progress(target);
		pause_for(POLL_MS);
		begin();
		owner = cs_queue_lock_endpoint(endpoint);
		if (owner == CS_QUEUE_OURS)
			cs_queue_unlock();
		commit();
		if (owner != CS_QUEUE_WORKERS)
			return false;
	}
}

/* Deliver to an endpoint, unless the worker does.  Return false if that has delivered
 * all. */
static bool
run_endpoint(CsTarget *target, int endpoint)
{
	CsQueueOwner owner;

	do
	{
		begin();
		owner = cs_queue_lock_endpoint(endpoint);
		commit();
		if (owner == CS_QUEUE_WORKERS && leave_to_worker(target, endpoint))
			return false;
	} while (owner == CS_QUEUE_WORKERS);
	if (owner == CS_QUEUE_OTHERS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another session is already delivering"),
				 errhint("Use CALL contactsync_wait('...') to wait for it.")));
	PG_TRY();
	{
		deliver(target, endpoint);
	}
	PG_FINALLY();
	{
		cs_queue_unlock();
	}
	PG_END_TRY();
	return true;
}

/*
 * contactsync_run(server): deliver in the caller's session, to one of its endpoints
 * after the other; or, where there is a worker, have that deliver.
 */
Datum
contactsync_run(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	CsTarget	target;
	Oid			serverid;
	List	   *endpoints;
	ListCell   *lc;

	require_no_transaction(fcinfo, "contactsync_run");
	serverid = server_argument(fcinfo);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	begin_target(&target, serverid, false);
	begin();
	MemoryContextSwitchTo(context);
	endpoints = endpoints_to_run(serverid);
	commit();
	foreach(lc, endpoints)
		if (!run_endpoint(&target, lfirst_int(lc)))
		break;
	target.snapshot = NULL;
	read_progress(&target);
	if (target.now.trouble)
		report_trouble(WARNING, &target.now);
	SPI_finish();
	return (Datum) 0;
}

/*
 * contactsync_wait()
 */

/* Raise an error if waiting is of no use. */
static void
check_trouble(CsTarget *target)
{
	bool		in_trouble = is_in_trouble(target);

	if (in_trouble && target->now.trouble)
		report_trouble(ERROR, &target->now);
	if (in_trouble)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the queue is not being delivered because no background worker can be started for this database"),
				 errhint("Use CALL contactsync_run(). SELECT hint FROM contactsync.status shows how to have a background worker.")));
	if (!cs_shmem_ready())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the queue is not being delivered because the library of contactsync is not preloaded"),
				 errhint("Use CALL contactsync_run(), or set shared_preload_libraries = 'contactsync' and restart the server.")));
}

/* Raise an error if the time is up. */
static void
check_timeout(const CsTarget *target, TimestampTz end)
{
	if (GetCurrentTimestamp() >= end)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg_plural("timed out with " INT64_FORMAT " contact still queued",
							   "timed out with " INT64_FORMAT " contacts still queued",
							   target->now.left, target->now.left),
				 errhint("SELECT * FROM contactsync.status shows the state of each server.")));
}

/* Return when the second argument, an interval, has passed. */
static TimestampTz
timeout_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		return DT_NOEND;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(GetCurrentTimestamp()),
												   PG_GETARG_DATUM(1)));
}

/* contactsync_wait(server, timeout): wait until what is queued now is delivered. */
Datum
contactsync_wait(PG_FUNCTION_ARGS)
{
	CsTarget	target;
	TimestampTz end;
	Oid			serverid;
	bool		waited = false;

	require_no_transaction(fcinfo, "contactsync_wait");
	serverid = server_argument(fcinfo);
	end = timeout_argument(fcinfo);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	/* what a scan queues that ends from here on is either seen or waited for */
	begin_target(&target, serverid, true);
	target.snapshot = current_snapshot();
	for (;;)
	{
		TimestampTz read_at;
		long		took;

		CHECK_FOR_INTERRUPTS();
		read_at = cs_clock_steady();
		read_progress_and_extend(&target);
		took = TimestampDifferenceMilliseconds(read_at, cs_clock_steady());
		if (target.now.left == 0)
			break;
		check_trouble(&target);
		check_timeout(&target, end);
		if (waited && target.now.trouble == NULL)
			say_obstacle(&target);
		report_progress(&target);
		waited = true;

		/*
		 * leave most of the time to the worker, but notice soon that it is
		 * done
		 */
		pause_for(Max(POLL_MS, Min(took * POLL_TIMES, LONGEST_POLL_MS)));
	}
	SPI_finish();
	return (Datum) 0;
}
