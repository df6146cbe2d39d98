/*-------------------------------------------------------------------------
 *
 * deliver.c
 *		SQL functions that queue a contact, deliver, and wait for delivery.
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
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "base/text.h"
#include "delivery/delivery.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/progress.h"
#include "store/queue.h"

/* How often the progress is reported and checked (ms). */
#define REPORT_MS	1000
#define POLL_MS		100

/* How long delivery must be unable to continue before waiting is given up (ms). */
#define TROUBLE_MS	1000

CS_FUNCTION(contactsync_upsert);
CS_FUNCTION(contactsync_run);
CS_FUNCTION(contactsync_wait);

/*
 * contactsync_upsert()
 */

/* Raise an error if the provider is known to refuse the contact. */
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
				 errhint("It supports: %s.", cs_contact_field_list(endpoint->provider->fields))));
	refusal = cs_provider_prepare(endpoint, contact);
	if (refusal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("contact cannot be sent: %s", cs_text_from_utf8(refusal->message))));
}

/* contactsync_upsert(server, contact): queue a contact in the caller's transaction. */
Datum
contactsync_upsert(PG_FUNCTION_ARGS)
{
	Oid			serverid = cs_server_find(NameStr(*PG_GETARG_NAME(0)), GetUserId());
	CsEndpoint *endpoint = cs_server_read(serverid, GetUserId());
	Jsonb	   *contact = PG_GETARG_JSONB_P(1);
	CsQueueWriter *writer;
	CsSqlScope	scope;
	Oid			roleid;
	int			endpoint_id;
	int64		id;

	check_contact(endpoint, contact);
	roleid = cs_sql_enter(&scope);
	endpoint_id = cs_endpoint_state_id(serverid, endpoint->server_name, roleid);
	cs_sql_leave(&scope);
	writer = cs_queue_begin_write(NULL);
	if (writer == NULL)
		elog(ERROR, "table contactsync.queue does not exist");
	id = cs_queue_write(writer, endpoint_id, 0, 1, NULL, contact, CS_QUEUE_CHANGE);
	cs_queue_end_write(writer);
	cs_shmem_wake_at_commit();
	PG_RETURN_INT64(id);
}

/*
 * What contactsync_run() and contactsync_wait() share
 */

/* The delivery that is reported on. */
typedef struct CsTarget
{
	Oid			serverid;		/* InvalidOid: all servers */
	char	   *snapshot;		/* of the changes; NULL: all changes */
	TimestampTz started_at;
	TimestampTz left_until;		/* removals of contacts that were left later
								 * are not waited for */
	TimestampTz reported_at;
	int64		total;			/* the most that was ever left */
	CsProgress	now;
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

static const CsTransactions transactions = {begin, commit};

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
	/* a scan queues rows that are left as before, whatever the snapshot says */
	cs_progress_read(target->serverid, roleid, target->now.scans > 0 ? NULL : target->snapshot,
					 target->snapshot ? target->started_at : DT_NOEND, target->left_until, &target->now);
	target->total = Max(target->total, target->now.left);
	cs_sql_leave(&scope);
	commit();
}

static void
begin_target(CsTarget *target, Oid serverid, char *snapshot)
{
	memset(target, 0, sizeof(CsTarget));
	target->serverid = serverid;
	target->snapshot = snapshot;
	target->left_until = DT_NOEND;
	target->started_at = target->reported_at = GetCurrentTimestamp();
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

/* Report the progress once a second, as in "5300/10000  53 %  4.9/s  ETA 16:00". */
static void
report_progress(CsTarget *target)
{
	TimestampTz now = GetCurrentTimestamp();
	double		seconds = (now - target->started_at) / (double) USECS_PER_SEC;
	int64		done = target->total - target->now.left;
	double		rate = seconds > 0 ? done / seconds : 0;

	if (!TimestampDifferenceExceeds(target->reported_at, now, REPORT_MS))
		return;
	target->reported_at = now;
	ereport(NOTICE,
			(errmsg(INT64_FORMAT "/" INT64_FORMAT "  %.0f %%  %.1f/s  ETA %s", done, target->total,
					target->total > 0 ? 100.0 * done / target->total : 100.0, rate,
					rate > 0 ? duration_text(target->now.left / rate) : "unknown")));
}

/* Report that delivery cannot continue, as an error or a warning. */
static void
report_trouble(int elevel, const CsProgress *progress)
{
	ereport(elevel,
			(errcode(elevel == WARNING ? ERRCODE_WARNING : ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("delivery to server \"%s\" cannot continue: %s", progress->server, progress->trouble),
			 errdetail_plural(INT64_FORMAT " contact stays queued.",
							  INT64_FORMAT " contacts stay queued.",
							  progress->left, progress->left)));
}

/*
 * contactsync_run()
 */

/* Deliver what is queued, until nothing is left but what cannot be delivered now. */
static void
deliver(Oid serverid, Oid roleid)
{
	CsDelivery *delivery = cs_delivery_open(&transactions, serverid, roleid);
	CsTarget	target;
	int			done = 0;

	PG_TRY();
	{
		begin_target(&target, serverid, NULL);
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
			if (done == 2)
				break;
			if (TimestampDifferenceExceeds(target.reported_at, GetCurrentTimestamp(), REPORT_MS))
				read_progress(&target);
			report_progress(&target);
			cs_delivery_wait(delivery, REPORT_MS);
		}
		cs_delivery_drain(delivery, 0);
		read_progress(&target);
	}
	PG_FINALLY();
	{
		cs_delivery_close(delivery);
	}
	PG_END_TRY();
	if (target.now.trouble)
		report_trouble(WARNING, &target.now);
}

/* contactsync_run(server): deliver in the caller's session, for the caller. */
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
				 errmsg("the background worker or another session is already delivering"),
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
 * Raise an error if waiting is of no use.  The user may just have fixed what keeps
 * a server from delivering, so give it the time for one attempt.
 */
static void
check_trouble(CsTarget *target)
{
	if (target->now.trouble == NULL)
		target->trouble_at = 0;
	else if (target->trouble_at == 0)
		target->trouble_at = GetCurrentTimestamp();
	else if (TimestampDifferenceExceeds(target->trouble_at, GetCurrentTimestamp(), TROUBLE_MS))
		report_trouble(ERROR, &target->now);
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

	require_no_transaction(fcinfo, "contactsync_wait");
	serverid = server_argument(fcinfo);
	end = timeout_argument(fcinfo);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	/* what a scan queues that ends from here on is either seen or waited for */
	begin_target(&target, serverid, NULL);
	target.snapshot = current_snapshot();
	for (;;)
	{
		TimestampTz read_at = GetCurrentTimestamp();
		long		took;

		CHECK_FOR_INTERRUPTS();
		read_progress_and_extend(&target);
		if (target.now.left == 0)
			break;
		check_trouble(&target);
		check_timeout(&target, end);
		report_progress(&target);

		/*
		 * counting a long queue takes long; leave most of the time to the
		 * worker
		 */
		took = TimestampDifferenceMilliseconds(read_at, GetCurrentTimestamp());
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(POLL_MS, took * 20), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	SPI_finish();
	return (Datum) 0;
}
