/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		What backends, launcher and workers know of each other.
 *
 * There is one slot per database.  Nothing here outlives a restart.  What is queued
 * is in tables: a wake-up that is lost costs a delay, not a change.
 *
 * shared->lock protects all fields but slot->attention; see attention.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "base/attention.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/contactsync.h"
#include "base/settings.h"
#include "base/shmem.h"

/* How long a database is left alone at most after its worker was asked to leave. */
#define LEAVE_SECONDS	10

/* A worker that lived longer than this had no trouble starting. */
#define LONG_LIFE_SECONDS	60

typedef struct CsSlot
{
	Oid			dboid;
	CsSlotState state;
	pid_t		pid;			/* of the worker, while RUNNING */
	int			procno;			/* its PGPROC's number */
	bool		leave;			/* asked to leave */
	TimestampTz started_at;		/* of the last worker */
	TimestampTz until;			/* end of a BACKOFF */
	int			failures;		/* workers that did not live long, in a row */
	bool		no_process;		/* there was none left for the worker */
	bool		locked_out;		/* somebody has locked what the worker needs */
	Oid			stale_server;	/* the access token of this server and user */
	Oid			stale_role;		/* ... mapping is to be refreshed */
	CsAttention attention;
} CsSlot;

typedef struct CsShared
{
	LWLock	   *lock;
	int			launcher_procno;	/* -1: not running */
	int			nslots;			/* ever used; slots below may be FREE */
	CsSlot		slots[FLEXIBLE_ARRAY_MEMBER];	/* cs_max_databases */
} CsShared;

static CsShared *shared = NULL;
static CsSlot *my_slot = NULL;	/* the worker's own */
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static Size
shared_size(void)
{
	return add_size(offsetof(CsShared, slots), mul_size(cs_max_databases, sizeof(CsSlot)));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(shared_size()));
	RequestNamedLWLockTranche(CS_EXTENSION, 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(CS_EXTENSION, shared_size(), &found);
	if (!found)
	{
		memset(shared, 0, shared_size());
		shared->lock = &GetNamedLWLockTranche(CS_EXTENSION)->lock;
		shared->launcher_procno = -1;
		for (int i = 0; i < cs_max_databases; i++)
			cs_attention_init(&shared->slots[i].attention);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* The slot of a database or NULL; the lock is held. */
static CsSlot *
find_slot(Oid dboid)
{
	for (int i = 0; i < shared->nslots; i++)
		if (shared->slots[i].state != CS_SLOT_FREE && shared->slots[i].dboid == dboid)
			return &shared->slots[i];
	return NULL;
}

static void
set_latch_of(int procno)
{
	if (procno >= 0)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

/*
 * Tell the worker of this database that there are news of these endpoints, and return
 * its slot, or -1 if no worker runs.  A worker that waits for a time, because all its
 * servers are halted or throttled, counts as awake: news in the queue can wait until
 * then.  "interrupt" ends that wait as well.
 */
static int
wake(uint64 endpoints, bool interrupt)
{
	CsSlot	   *slot;
	int			procno;
	int			running = -1;

	LWLockAcquire(shared->lock, LW_SHARED);
	slot = find_slot(MyDatabaseId);
	if (slot && slot->state == CS_SLOT_RUNNING)
	{
		bool		asleep = cs_attention_tell(&slot->attention, endpoints);

		running = slot - shared->slots;
		procno = asleep || interrupt ? slot->procno : -1;
	}
	else
		procno = slot && slot->state == CS_SLOT_ABSENT ? -1 : shared->launcher_procno;
	LWLockRelease(shared->lock);
	set_latch_of(procno);
	return running;
}

/*
 * Have the worker of this database read the queue of these endpoints when it can send
 * anything to them; if there is no worker, have the launcher find out why.  Cheap when
 * the worker knows.
 */
void
cs_shmem_wake(uint64 endpoints)
{
	static int	cached = -1;
	CsSlot	   *slot;

	if (shared == NULL)
		return;
	slot = cached >= 0 ? &shared->slots[cached] : NULL;
	if (slot && slot->dboid == MyDatabaseId && slot->state == CS_SLOT_RUNNING &&
		cs_attention_is_told(&slot->attention, endpoints))
		return;
	cached = wake(endpoints, false);
}

/* Have a worker started for this database, where the extension was not there. */
void
cs_shmem_launch(void)
{
	CsSlot	   *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_slot(MyDatabaseId);
	if (slot && slot->state == CS_SLOT_ABSENT)
		slot->state = CS_SLOT_UNKNOWN;
	LWLockRelease(shared->lock);
}

/* Ask for shared memory; only while shared_preload_libraries are loaded. */
void
cs_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

/* Return whether the library was preloaded. */
bool
cs_shmem_ready(void)
{
	return shared != NULL;
}

/*
 * Have the worker of this database notice a changed definition, even if it waits for
 * a time.  The invalidation message has to be sent before.
 */
void
cs_shmem_interrupt(void)
{
	if (shared != NULL)
		(void) wake(CS_ANY_ENDPOINT, true);
}

/* Return whether this database has no worker because the extension was not there. */
bool
cs_shmem_is_absent(void)
{
	CsSlot	   *slot;
	bool		absent;

	if (shared == NULL)
		return false;
	LWLockAcquire(shared->lock, LW_SHARED);
	slot = find_slot(MyDatabaseId);
	absent = slot && slot->state == CS_SLOT_ABSENT;
	LWLockRelease(shared->lock);
	return absent;
}

/*
 * Have the worker of a database leave at once and stay away for a few seconds.
 * Return false if there is none.
 */
bool
cs_shmem_ask_to_leave(Oid dboid)
{
	CsSlot	   *slot;
	int			procno = -1;

	if (shared == NULL)
		return false;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_slot(dboid);
	if (slot)
	{
		slot->until = cs_clock_steady() + LEAVE_SECONDS * USECS_PER_SEC;
		slot->leave = true;
		if (slot->state == CS_SLOT_RUNNING)
			procno = slot->procno;
		else if (slot->state == CS_SLOT_UNKNOWN)
			slot->state = CS_SLOT_BACKOFF;
	}
	LWLockRelease(shared->lock);
	set_latch_of(procno);
	return slot != NULL;
}

/* Let the worker of a database return. */
void
cs_shmem_let_return(Oid dboid)
{
	CsSlot	   *slot;
	int			procno = -1;

	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_slot(dboid);
	if (slot && slot->leave && slot->state != CS_SLOT_RUNNING)
	{
		slot->until = cs_clock_steady();
		procno = shared->launcher_procno;
	}
	LWLockRelease(shared->lock);
	set_latch_of(procno);
}

/*
 * Have the worker of this database refresh the access token of a user mapping
 * soon.  The caller repeats this until the token is there, for another session
 * may ask for another token in between.  Return false if there is no worker.
 */
bool
cs_shmem_ask_to_refresh(Oid serverid, Oid mapping_roleid)
{
	CsSlot	   *slot;
	int			procno = -1;

	if (shared == NULL)
		return false;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_slot(MyDatabaseId);
	if (slot && slot->state == CS_SLOT_RUNNING)
	{
		slot->stale_server = serverid;
		slot->stale_role = mapping_roleid;
		procno = slot->procno;
	}
	LWLockRelease(shared->lock);
	set_latch_of(procno);
	return procno >= 0;
}

/* Return the state of the worker of this database as a word. */
const char *
cs_shmem_worker_state(void)
{
	CsSlot	   *slot;
	const char *word = "starting";

	if (shared == NULL)
		return "not preloaded";
	LWLockAcquire(shared->lock, LW_SHARED);
	slot = find_slot(MyDatabaseId);
	if (slot && slot->state == CS_SLOT_RUNNING)
		word = slot->locked_out ? "waiting for a lock" : "running";
	else if (slot && slot->state == CS_SLOT_BACKOFF && slot->failures > 0)
		word = "restarting after an error";
	else if (slot && slot->no_process)
		word = "too few processes";
	else if (shared->nslots == cs_max_databases && slot == NULL)
		word = "too many databases";
	LWLockRelease(shared->lock);
	return word;
}

/*
 * Make this process the launcher, which is woken where there is no worker.  What the
 * one before was starting may be under way still, or may never come.
 */
void
cs_shmem_attach_launcher(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher_procno = CS_MY_PROC_NUMBER;
	for (int i = 0; i < shared->nslots; i++)
	{
		CsSlot	   *slot = &shared->slots[i];

		if (slot->state != CS_SLOT_STARTING)
			continue;
		slot->state = CS_SLOT_BACKOFF;
		slot->until = cs_clock_steady() + CS_RESTART_SECONDS * USECS_PER_SEC;
	}
	LWLockRelease(shared->lock);
}

/* Give a database that has none a slot; its state is UNKNOWN. */
void
cs_shmem_note_database(Oid dboid)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (find_slot(dboid) == NULL)
	{
		CsSlot	   *slot = NULL;

		for (int i = 0; i < shared->nslots && slot == NULL; i++)
			if (shared->slots[i].state == CS_SLOT_FREE)
				slot = &shared->slots[i];
		if (slot == NULL && shared->nslots < cs_max_databases)
			slot = &shared->slots[shared->nslots++];
		if (slot)
		{
			slot->dboid = dboid;
			slot->state = CS_SLOT_UNKNOWN;
			slot->pid = 0;
			slot->procno = -1;
			slot->leave = false;
			slot->failures = 0;
			slot->no_process = false;
			cs_attention_init(&slot->attention);
		}
	}
	LWLockRelease(shared->lock);
}

/* Free the slots of databases that are not among the n given. */
void
cs_shmem_forget_databases(const Oid *dboids, int n)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots; i++)
	{
		CsSlot	   *slot = &shared->slots[i];
		bool		there = false;

		if (slot->state == CS_SLOT_RUNNING || slot->state == CS_SLOT_STARTING)
			continue;
		for (int k = 0; k < n && !there; k++)
			there = dboids[k] == slot->dboid;
		if (!there)
			slot->state = CS_SLOT_FREE;
	}
	LWLockRelease(shared->lock);
}

/*
 * Return true and a database whose worker is to be started now; its slot becomes
 * STARTING.  Otherwise return false, and lower *wake_at to the end of the first
 * backoff.
 */
bool
cs_shmem_next_to_start(TimestampTz now, Oid *dboid, TimestampTz *wake_at)
{
	bool		found = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nslots && !found; i++)
	{
		CsSlot	   *slot = &shared->slots[i];

		if (slot->state == CS_SLOT_UNKNOWN ||
			(slot->state == CS_SLOT_BACKOFF && slot->until <= now))
		{
			slot->state = CS_SLOT_STARTING;
			slot->no_process = false;
			slot->leave = false;
			slot->started_at = now;
			*dboid = slot->dboid;
			found = true;
		}
		else if (slot->state == CS_SLOT_BACKOFF && slot->until < *wake_at)
			*wake_at = slot->until;
	}
	LWLockRelease(shared->lock);
	return found;
}

/* Note that no worker could be started for the database; try again at "until". */
void
cs_shmem_start_failed(Oid dboid, TimestampTz until)
{
	CsSlot	   *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_slot(dboid);
	if (slot)
	{
		slot->state = CS_SLOT_BACKOFF;
		slot->failures = 0;
		slot->no_process = true;
		slot->until = until;
	}
	LWLockRelease(shared->lock);
}

/* Have the slot wait for its next worker, longer while workers die young, unasked. */
static void
back_off(CsSlot *slot, bool asked)
{
	TimestampTz now = cs_clock_steady();

	if (asked || now - slot->started_at > LONG_LIFE_SECONDS * USECS_PER_SEC)
		slot->failures = 0;
	if (!slot->leave)
		slot->until = now + (INT64CONST(1) << Min(slot->failures, 6)) * USECS_PER_SEC;
	slot->failures += !asked && !slot->leave;
	slot->state = CS_SLOT_BACKOFF;
	slot->pid = 0;
	slot->procno = -1;
}

/*
 * Note that the process that was started for the database has ended.  If it did
 * not say why, it is started again, later each time.
 */
void
cs_shmem_reap(Oid dboid)
{
	CsSlot	   *slot;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	slot = find_slot(dboid);
	if (slot && (slot->state == CS_SLOT_STARTING || slot->state == CS_SLOT_RUNNING))
		back_off(slot, false);
	LWLockRelease(shared->lock);
}

/* Make this process the worker of the database. */
void
cs_shmem_attach_worker(Oid dboid)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot = find_slot(dboid);
	if (my_slot)
	{
		my_slot->state = CS_SLOT_RUNNING;
		my_slot->pid = MyProcPid;
		my_slot->locked_out = false;
		my_slot->procno = CS_MY_PROC_NUMBER;
		cs_attention_wake(&my_slot->attention);
	}
	LWLockRelease(shared->lock);
}

/* Give the slot back; "absent": the extension is not there; "asked": by SIGTERM. */
void
cs_shmem_detach_worker(bool absent, bool asked)
{
	int			procno = -1;

	if (my_slot == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (my_slot->state == CS_SLOT_RUNNING && my_slot->pid == MyProcPid)
	{
		back_off(my_slot, asked);
		if (absent)
		{
			my_slot->state = CS_SLOT_ABSENT;
			my_slot->failures = 0;
		}
		procno = shared->launcher_procno;
	}
	LWLockRelease(shared->lock);
	my_slot = NULL;
	set_latch_of(procno);
}

/* Return whether this process is the worker of its database. */
bool
cs_shmem_is_worker(void)
{
	return my_slot != NULL;
}

/* Show whether somebody has locked a table that this worker needs for everything. */
void
cs_shmem_show_lock(bool locked_out)
{
	if (my_slot == NULL || my_slot->locked_out == locked_out)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	my_slot->locked_out = locked_out;
	LWLockRelease(shared->lock);
}

bool
cs_shmem_asked_to_leave(void)
{
	return my_slot != NULL && my_slot->leave;
}

/*
 * Return whether something has been committed since the last call, so that the
 * queue has to be read.  Always true in a process that is not a worker.
 */
bool
cs_shmem_take_news(void)
{
	return my_slot == NULL || cs_attention_take(&my_slot->attention);
}

/* Return true, and whose, if a session needs an access token refreshed. */
bool
cs_shmem_take_stale_token(Oid *serverid, Oid *mapping_roleid)
{
	if (my_slot == NULL || !OidIsValid(my_slot->stale_server))
		return false;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	*serverid = my_slot->stale_server;
	*mapping_roleid = my_slot->stale_role;
	my_slot->stale_server = InvalidOid;
	LWLockRelease(shared->lock);
	return true;
}

/*
 * Return whether no news have come; if so, the next will set the latch, unless they are
 * of these quiet endpoints.
 */
bool
cs_shmem_may_sleep(uint64 quiet)
{
	return my_slot == NULL || cs_attention_may_sleep(&my_slot->attention, quiet);
}
