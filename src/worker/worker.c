/*-------------------------------------------------------------------------
 *
 * worker.c
 *		One process per database that delivers what is queued there.
 *
 * The launcher starts it.  It exits when the extension does not exist, when the
 * launcher's hook asks it to, at a shutdown, and at any error: everything that it
 * knows can be read again by the next one.
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
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/activity.h"
#include "base/clock.h"
#include "base/contactsync.h"
#include "base/interrupt.h"
#include "base/invalidation.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/delivery.h"
#include "store/alert.h"
#include "store/call_log.h"
#include "store/failure.h"
#include "store/outcome_log.h"
#include "store/queue.h"
#include "store/queue_owner.h"
#include "store/run_log.h"
#include "store/stats.h"
#include "store/trace.h"

/* The cycle runs this often even without a wake-up, which can be lost (ms). */
#define FALLBACK_MS		10000

/* How long calls in flight may take when the process ends (ms). */
#define DRAIN_MS		1000

/* While contactsync_run() delivers to an endpoint, the worker tries this often (ms). */
#define OWN_MS			1000

/* After a lock of somebody else has ended the cycle it begins anew (ms). */
#define LOCKED_MS		1000

/* Logs are pruned this often (ms). */
#define PRUNE_MS		60000

/* ... and go on after that time, if there was more than a moment takes (ms). */
#define PRUNE_ON_MS		1000

PGDLLEXPORT void contactsync_worker_main(Datum arg);

static Oid	extension = InvalidOid; /* that the process works for */
static bool extension_absent = false;	/* it exits because of that */

/* The extension as it was last found; InvalidOid: it may have been dropped since. */
static Oid	known_extension = InvalidOid;

/* Dropping the extension drops a schema. */
static void
forget_extension(Datum arg, int cache_id, uint32 hash)
{
	known_extension = InvalidOid;
}

/* Keep the extension from being dropped, or exit if that has happened. */
static void
lock_extension(void)
{
	int			lock_timeout = LockTimeout;

	/* whoever drops it may take as long as they like */
	LockTimeout = 0;
	cs_interrupt_allow_end(true);
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	cs_interrupt_allow_end(false);
	LockTimeout = lock_timeout;
	if (!OidIsValid(known_extension))
		known_extension = get_extension_oid(CS_EXTENSION, true);
	if (known_extension == extension)
		return;
	extension_absent = !OidIsValid(known_extension);
	proc_exit(extension_absent ? 0 : 1);
}

/* Begin a transaction, which waits for a DROP EXTENSION, as that waits for it. */
static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (OidIsValid(extension))
		lock_extension();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

/* After an error outside of all of it; a mapping may have let go of the queue. */
static void
roll_back(void)
{
	AbortCurrentTransaction();
	begin();
	cs_queue_recover();
	commit();
}

static const CsTransactions transactions = {begin, commit, roll_back};

static void
detach(int code, Datum arg)
{
	cs_activity_clear();
	cs_shmem_detach_worker(extension_absent, ShutdownRequestPending || ProcDiePending);
}

/*
 * Become the owner of the queue, unless the process is to end first.  Waiting for
 * the lock would hold a transaction open, so it is tried again and again.
 */
static void
own_queue(void)
{
	bool		owned = false;

	while (!ShutdownRequestPending && !cs_shmem_asked_to_leave())
	{
		begin();
		owned = cs_queue_lock();
		commit();
		if (owned)
			break;
		pgstat_report_activity(STATE_IDLE, "contactsync: waiting for another worker to end");
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, OWN_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static bool
is_ready(void)
{
	bool		ready;

	begin();
	cs_text_init();
	ready = cs_sql_is_ready();
	commit();
	return ready;
}

/*
 * Wait while the tables are not of this library's version.  Changes are captured
 * meanwhile: no version changes how the queue is written.
 */
static void
wait_for_update(void)
{
	bool		warned = false;

	while (!ShutdownRequestPending && !cs_shmem_asked_to_leave() && !is_ready())
	{
		if (!warned)
			ereport(WARNING,
					(errmsg("contactsync sends nothing: its library is of version %s, but its tables are not", CS_VERSION),
					 errhint("%s", CS_UPDATE_HINT)));
		warned = true;
		pgstat_report_activity(STATE_IDLE, "contactsync: waiting for ALTER EXTENSION contactsync UPDATE");
		if (cs_shmem_may_sleep(0))
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, FALLBACK_MS,
							 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		(void) cs_shmem_take_news();
	}
}

/* "arg" is a bool, which is set if nothing is left to be deleted. */
static void
prune_logs(void *arg)
{
	bool	   *done = arg;
	CsSqlScope	scope;

	begin();
	cs_sql_enter(&scope);
	cs_call_log_prune();
	cs_failure_prune();
	cs_run_log_prune();
	*done = cs_outcome_log_prune();
	cs_stats_prune();
	cs_alert_prune();
	cs_trace_prune();
	cs_sql_leave(&scope);
	commit();
}

static void
prune(void)
{
	static TimestampTz pruned_at = 0;
	static bool done = true;
	TimestampTz now = cs_clock_steady();

	if (!TimestampDifferenceExceeds(pruned_at, now, done ? PRUNE_MS : PRUNE_ON_MS))
		return;
	pruned_at = now;
	done = true;
	(void) cs_try_transactions(prune_logs, &done, roll_back);
}

/*
 * Wait for calls in flight, for a moment; but until its end for a token's refresh,
 * because the old token is void when the answer is under way.
 */
static void
drain(CsDelivery *delivery)
{
	TimestampTz end = TimestampTzPlusMilliseconds(cs_clock_steady(), DRAIN_MS);

	while (!cs_delivery_drain(delivery, 100) &&
		   (cs_clock_steady() < end || cs_delivery_is_refreshing(delivery)))
		;
}

/* Return whether settings have been read, which may concern servers. */
static bool
read_settings(void)
{
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}

/* Have definitions or settings changed?  Then load them again.  Return false if the
 * tables are not of this library's version any more. */
static bool
reload_if_changed(CsDelivery *delivery)
{
	bool		reload = read_settings();

	reload |= cs_invalidation_take(CS_DEFINITIONS);
	reload |= cs_delivery_waits_for_session(delivery) && cs_delivery_session_has_ended(delivery);
	if (!reload)
		return true;
	if (!is_ready())
		return false;
	cs_delivery_reload(delivery);
	return true;
}

static bool
is_ending(void)
{
	return ShutdownRequestPending || cs_shmem_asked_to_leave();
}

static void
deliver_until_end(void *arg)
{
	CsDelivery *delivery = arg;

	cs_delivery_load(delivery);
	cs_shmem_show_lock(false);
	while (!is_ending() && reload_if_changed(delivery))
	{
		CHECK_FOR_INTERRUPTS();
		cs_delivery_run(delivery);
		prune();
		/* the turn may have taken the wake-up that came with a change */
		if (!cs_invalidation_pending(CS_DEFINITIONS))
			cs_delivery_wait(delivery, cs_delivery_waits_for_session(delivery) ? OWN_MS : FALLBACK_MS);
	}
	if (is_ready())
		drain(delivery);
}

/*
 * Deliver until the process is to end, or the extension is updated.  If somebody has
 * locked what all of it needs, such as a table, begin anew after a while: what was in
 * flight is sent again then, as after a crash.
 */
static void
deliver(void)
{
	CsDelivery *delivery = cs_delivery_open(&transactions, 0);
	bool		ended = cs_try_transactions(deliver_until_end, delivery, roll_back);
	char		activity[320];

	cs_delivery_close(delivery);
	if (ended || is_ending())
		return;
	cs_shmem_show_lock(cs_try_lack(NULL) == NULL);
	snprintf(activity, sizeof(activity), "contactsync: waiting: %s", cs_try_lack("an open transaction has locked a table of the extension"));
	pgstat_report_activity(STATE_IDLE, activity);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOCKED_MS,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/*
 * Whatever the database or the role presets for its sessions, the worker writes, and
 * takes no part in the conflicts of serializable transactions, which would make those
 * of applications fail.
 */
static void
override_presets(void)
{
	static const char *const settings[][2] = {
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_SESSION);
}

/* The worker process of a database. */
void
contactsync_worker_main(Datum arg)
{
	Oid			dboid = DatumGetObjectId(arg);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	cs_interrupt_init_worker();
	BackgroundWorkerUnblockSignals();
	cs_shmem_attach_worker(dboid);
	before_shmem_exit(detach, (Datum) 0);
	cs_interrupt_allow_end(true);	/* it may wait for a lock on a catalog */
	BackgroundWorkerInitializeConnectionByOid(dboid, InvalidOid, 0);
	cs_interrupt_allow_end(false);
	override_presets();

	/* no statement of ours waits for a lock for longer */
	SetConfigOption("lock_timeout", CS_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_extension, (Datum) 0);
	begin();
	extension = get_extension_oid(CS_EXTENSION, true);
	commit();
	extension_absent = !OidIsValid(extension);
	if (extension_absent)
		proc_exit(0);
	own_queue();
	while (!ShutdownRequestPending && !cs_shmem_asked_to_leave())
	{
		wait_for_update();
		if (is_ready())
			deliver();
	}
	proc_exit(1);
}
