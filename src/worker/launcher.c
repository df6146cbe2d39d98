/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		One process per cluster that starts a worker per database.
 *
 * It starts a worker in every database that accepts connections and is not a
 * template.  A worker that does not find the extension exits at once, and is not
 * started again until CREATE EXTENSION.  Workers that end otherwise are started
 * again after a pause, which grows while they fail to start.  Where there are fewer
 * processes than databases, these take turns (base/slots.c).
 *
 * A worker is connected to its database, which would make DROP DATABASE, ALTER
 * DATABASE ... RENAME and CREATE DATABASE ... TEMPLATE fail.  So a utility hook
 * asks it to exit first, and PostgreSQL itself waits for that.  The worker is
 * started again when the statement is done.
 *
 * On a standby the launcher starts with the promotion.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/contactsync.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "base/slots.h"
#include "worker/launcher.h"

/* While databases wait for a process, it is looked this often whether one is left. */
#define TURN_SECONDS	1

/* A process that was started and has not been seen to end. */
typedef struct CsChild
{
	Oid			dboid;
	BackgroundWorkerHandle *handle;
} CsChild;

static List *children = NIL;	/* of CsChild */
static ProcessUtility_hook_type prev_ProcessUtility_hook = NULL;

PGDLLEXPORT void contactsync_launcher_main(Datum arg);

/* Have the postmaster start the launcher; only while preloading. */
void
cs_launcher_register(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = CS_RESTART_SECONDS;
	strlcpy(worker.bgw_library_name, CS_EXTENSION, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "contactsync_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "contactsync launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "contactsync launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* Give every database that can have a worker a slot, and no other. */
static void
update_slots(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	Oid		   *dboids = NULL;
	int			n = 0;
	int			max = 0;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database db = (Form_pg_database) GETSTRUCT(tuple);

		if (db->datistemplate || !db->datallowconn)
			continue;
		if (n == max)
		{
			max = Max(max * 2, 64);
			dboids = dboids ? repalloc(dboids, max * sizeof(Oid)) : palloc(max * sizeof(Oid));
		}
		dboids[n++] = db->oid;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	cs_slots_forget_databases(dboids, n);
	for (int i = 0; i < n; i++)
		cs_slots_note_database(dboids[i]);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Release the slots of workers that have ended. */
static void
reap_children(void)
{
	ListCell   *lc;

	foreach(lc, children)
	{
		CsChild    *child = lfirst(lc);
		pid_t		pid;

		if (GetBackgroundWorkerPid(child->handle, &pid) != BGWH_STOPPED)
			continue;
		cs_slots_reap(child->dboid);
		pfree(child->handle);
		pfree(child);
		children = foreach_delete_current(children, lc);
	}
}

/* Return false if no background worker can be registered. */
static bool
start_worker(Oid dboid)
{
	BackgroundWorker worker = {0};
	CsChild    *child;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(dboid);
	strlcpy(worker.bgw_library_name, CS_EXTENSION, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "contactsync_worker_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "contactsync worker for database %u", dboid);
	strlcpy(worker.bgw_type, "contactsync worker", BGW_MAXLEN);

	child = palloc(sizeof(CsChild));
	child->dboid = dboid;
	if (!RegisterDynamicBackgroundWorker(&worker, &child->handle))
	{
		pfree(child);
		MemoryContextSwitchTo(old);
		return false;
	}
	children = lappend(children, child);
	MemoryContextSwitchTo(old);
	return true;
}

/* No process was left for the worker of a database: others take turns with it. */
static void
start_later(Oid dboid, TimestampTz now)
{
	static bool warned = false;

	cs_slots_start_failed(dboid, now, now + cs_launcher_naptime * USECS_PER_SEC);
	cs_slots_make_room(now);
	if (!warned)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("contactsync could not start a worker for database %u", dboid),
				 errhint("Consider increasing the configuration parameter \"max_worker_processes\".")));
	warned = true;
}

/* Start the workers that are due.  Return when to try again. */
static TimestampTz
start_workers(void)
{
	TimestampTz now = cs_clock_steady();
	TimestampTz wake_at = now + cs_launcher_naptime * USECS_PER_SEC;
	Oid			dboid;

	while (cs_slots_next_to_start(now, &dboid, &wake_at))
	{
		if (start_worker(dboid))
			continue;
		start_later(dboid, now);
		return Min(wake_at, now + TURN_SECONDS * USECS_PER_SEC);
	}
	return wake_at;
}

/* The launcher process. */
void
contactsync_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	cs_slots_attach_launcher();

	for (;;)
	{
		TimestampTz wake_at;
		long		timeout;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		reap_children();
		update_slots();
		wake_at = start_workers();
		pgstat_report_activity(STATE_IDLE, NULL);

		timeout = TimestampDifferenceMilliseconds(cs_clock_steady(), wake_at);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(timeout, 10), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/* The database that a statement needs without connections, or InvalidOid. */
static Oid
exclusive_database(Node *stmt)
{
	const char *name = NULL;
	Oid			dboid;

	if (IsA(stmt, DropdbStmt))
		name = castNode(DropdbStmt, stmt)->dbname;
	else if (IsA(stmt, RenameStmt) && castNode(RenameStmt, stmt)->renameType == OBJECT_DATABASE)
		name = castNode(RenameStmt, stmt)->subname;
	else if (IsA(stmt, AlterDatabaseStmt))
	{
		ListCell   *lc;

		foreach(lc, castNode(AlterDatabaseStmt, stmt)->options)
			if (strcmp(lfirst_node(DefElem, lc)->defname, "tablespace") == 0)
			name = castNode(AlterDatabaseStmt, stmt)->dbname;
	}
	else if (IsA(stmt, CreatedbStmt))
	{
		ListCell   *lc;

		foreach(lc, castNode(CreatedbStmt, stmt)->options)
			if (strcmp(lfirst_node(DefElem, lc)->defname, "template") == 0 &&
				lfirst_node(DefElem, lc)->arg != NULL)
			name = defGetString(lfirst_node(DefElem, lc));
	}
	if (name == NULL)
		return InvalidOid;
	dboid = get_database_oid(name, true);
	if (!OidIsValid(dboid) || dboid == MyDatabaseId || !cs_owns_database(dboid, GetUserId()))
		return InvalidOid;
	return dboid;
}

/* Does the statement commit changes that were captured in another session? */
static bool
commits_prepared(Node *stmt)
{
	return IsA(stmt, TransactionStmt) &&
		castNode(TransactionStmt, stmt)->kind == TRANS_STMT_COMMIT_PREPARED;
}

/* The wake-ups that the prepared transaction asked for ended with its session. */
static void
wake_after_prepared(void)
{
	if (cs_shmem_is_absent() && OidIsValid(get_extension_oid(CS_EXTENSION, true)))
		cs_shmem_launch();
	cs_shmem_interrupt();
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	volatile bool commits = commits_prepared(pstmt->utilityStmt);
	volatile bool drops = IsA(pstmt->utilityStmt, DropdbStmt);
	volatile Oid dboid = exclusive_database(pstmt->utilityStmt);
	volatile bool done = false;

	if (OidIsValid(dboid))
		cs_shmem_ask_to_leave(dboid);
	PG_TRY();
	{
		if (prev_ProcessUtility_hook)
			prev_ProcessUtility_hook(pstmt, queryString, readOnlyTree, context, params,
									 queryEnv, dest, qc);
		else
			standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params,
									queryEnv, dest, qc);
		done = true;
	}
	PG_FINALLY();
	{
		if (OidIsValid(dboid) && !(drops && done))
			cs_shmem_let_return(dboid);
	}
	PG_END_TRY();
	if (commits)
		wake_after_prepared();
}

/* Install the hook that has workers exit for statements that need it. */
void
cs_launcher_hook(void)
{
	prev_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
