/*-------------------------------------------------------------------------
 *
 * worker.c
 *		One process per database that delivers what is queued there.
 *
 * It is started by the launcher, and leaves when the extension is not there,
 * when the database is wanted for something else, at a shutdown, and at any
 * error: all that it knows is in the queue, and the next one begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "contactsync.h"
#include "delivery.h"
#include "queue.h"
#include "shmem.h"
#include "sql.h"
#include "state.h"

/* A wake-up that was lost is made up for after this long (ms). */
#define FALLBACK_MS		10000

/* Calls in flight at a shutdown or change of definitions may take so long (ms). */
#define DRAIN_MS		1000

/* The call log is pruned this often (ms). */
#define PRUNE_MS		60000

PGDLLEXPORT void contactsync_worker_main(Datum arg);

static bool extension_absent = false;

static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

static const CsTransactions transactions = {begin, commit};

static void
detach(int code, Datum arg)
{
	cs_shmem_detach_worker(extension_absent);
}

static bool
extension_exists(void)
{
	bool		exists;

	begin();
	exists = OidIsValid(get_extension_oid(CS_EXTENSION, true));
	commit();
	return exists;
}

/* Effect: owns the queue, or ends the process after a while without it. */
static void
own_queue(void)
{
	bool		owned;

	pgstat_report_activity(STATE_RUNNING, "contactsync: waiting for contactsync_run() to end");
	begin();
	owned = cs_queue_lock(true);
	commit();
	if (!owned)
		proc_exit(1);
}

static void
prune(void)
{
	static TimestampTz pruned_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	CsSqlScope	scope;

	if (!TimestampDifferenceExceeds(pruned_at, now, PRUNE_MS))
		return;
	pruned_at = now;
	begin();
	cs_sql_enter(&scope);
	cs_state_prune_calls();
	cs_sql_leave(&scope);
	commit();
}

/*
 * Effect: calls in flight are given a moment to end; what fetches a token, all
 * its time, for the old one is void when the answer is under way.
 */
static void
drain(CsDelivery *delivery)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DRAIN_MS);

	while (!cs_delivery_drain(delivery, 100) &&
		   (GetCurrentTimestamp() < end || cs_delivery_is_refreshing(delivery)))
		;
	cs_delivery_close(delivery);
}

/* Effect: delivers until definitions change, or the process is to end. */
static void
deliver(void)
{
	CsDelivery *delivery = cs_delivery_open(&transactions, InvalidOid, InvalidOid);

	while (!ShutdownRequestPending && !cs_shmem_asked_to_leave() && !cs_shmem_take_reload())
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		cs_delivery_turn(delivery);
		prune();
		cs_delivery_wait(delivery, FALLBACK_MS);
	}
	if (!extension_exists())
		return;
	drain(delivery);
}

/* The worker process of a database. */
void
contactsync_worker_main(Datum arg)
{
	Oid			dboid = DatumGetObjectId(arg);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	cs_shmem_attach_worker(dboid);
	before_shmem_exit(detach, (Datum) 0);
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);

	extension_absent = !extension_exists();
	if (extension_absent)
		proc_exit(0);
	own_queue();
	while (!ShutdownRequestPending && !cs_shmem_asked_to_leave())
	{
		deliver();
		extension_absent = !extension_exists();
		if (extension_absent)
			proc_exit(0);
	}
	proc_exit(1);
}
