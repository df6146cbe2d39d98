/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		What backends, launcher and workers know of each other.
 *
 * There is one slot per database (slots.c).  Nothing here outlives a restart.  What is
 * queued is in tables: a wake-up that is lost costs a delay, not a change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"

#include "base/attention.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/contactsync.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "base/slots.h"

/* How long a database is left alone at most after its worker was asked to leave. */
#define LEAVE_SECONDS	10

static CsSlot *my_slot = NULL;	/* the worker's own */

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

	LWLockAcquire(cs_slots->lock, LW_SHARED);
	slot = cs_slots_find(MyDatabaseId);
	if (slot && slot->state == CS_SLOT_RUNNING)
	{
		bool		asleep = cs_attention_tell(&slot->attention, endpoints);

		running = slot - cs_slots->slots;
		procno = asleep || interrupt ? slot->procno : -1;
	}
	else
	{
		procno = slot && slot->state == CS_SLOT_ABSENT ? -1 : cs_slots->launcher_procno;
		if (slot)
			slot->has_news = true;
	}
	LWLockRelease(cs_slots->lock);
	cs_slots_set_latch(procno);
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

	if (cs_slots == NULL)
		return;
	slot = cached >= 0 ? &cs_slots->slots[cached] : NULL;
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

	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	slot = cs_slots_find(MyDatabaseId);
	if (slot && slot->state == CS_SLOT_ABSENT)
		slot->state = CS_SLOT_UNKNOWN;
	LWLockRelease(cs_slots->lock);
}

/* Return whether the library was preloaded. */
bool
cs_shmem_ready(void)
{
	return cs_slots != NULL;
}

/*
 * Have the worker of this database notice a changed definition, even if it waits for
 * a time.  The invalidation message has to be sent before.
 */
void
cs_shmem_interrupt(void)
{
	if (cs_slots != NULL)
		(void) wake(CS_ANY_ENDPOINT, true);
}

/* Return whether this database has no worker because the extension was not there. */
bool
cs_shmem_is_absent(void)
{
	CsSlot	   *slot;
	bool		absent;

	if (cs_slots == NULL)
		return false;
	LWLockAcquire(cs_slots->lock, LW_SHARED);
	slot = cs_slots_find(MyDatabaseId);
	absent = slot && slot->state == CS_SLOT_ABSENT;
	LWLockRelease(cs_slots->lock);
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

	if (cs_slots == NULL)
		return false;
	/* the launcher may be about to find a new database */
	cs_slots_note_database(dboid);
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	slot = cs_slots_find(dboid);
	if (slot)
	{
		slot->until = cs_clock_steady() + LEAVE_SECONDS * USECS_PER_SEC;
		slot->leave = true;
		if (slot->state == CS_SLOT_RUNNING)
			procno = slot->procno;
		else if (slot->state == CS_SLOT_UNKNOWN)
			slot->state = CS_SLOT_BACKOFF;
	}
	LWLockRelease(cs_slots->lock);
	cs_slots_set_latch(procno);
	return slot != NULL;
}

/* Let the worker of a database return. */
void
cs_shmem_let_return(Oid dboid)
{
	CsSlot	   *slot;
	int			procno = -1;

	if (cs_slots == NULL)
		return;
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	slot = cs_slots_find(dboid);
	if (slot && slot->leave && slot->state != CS_SLOT_RUNNING)
	{
		slot->until = cs_clock_steady();
		procno = cs_slots->launcher_procno;
	}
	LWLockRelease(cs_slots->lock);
	cs_slots_set_latch(procno);
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

	if (cs_slots == NULL)
		return false;
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	slot = cs_slots_find(MyDatabaseId);
	if (slot && slot->state == CS_SLOT_RUNNING)
	{
		slot->stale_server = serverid;
		slot->stale_role = mapping_roleid;
		procno = slot->procno;
	}
	LWLockRelease(cs_slots->lock);
	cs_slots_set_latch(procno);
	return procno >= 0;
}

/* Return the state of the worker of this database as a word. */
const char *
cs_shmem_worker_state(void)
{
	CsSlot	   *slot;
	const char *word = "starting";

	if (cs_slots == NULL)
		return "not preloaded";
	LWLockAcquire(cs_slots->lock, LW_SHARED);
	slot = cs_slots_find(MyDatabaseId);
	if (slot && slot->state == CS_SLOT_RUNNING)
		word = slot->locked_out ? "waiting for a lock" : "running";
	else if (slot && slot->state == CS_SLOT_BACKOFF && slot->failures > 0)
		word = "restarting after an error";
	else if (slot && (slot->no_process || (slot->made_room && slot->state == CS_SLOT_BACKOFF)))
		word = cs_slots_any_running() ? "waiting for its turn" : "too few processes";
	else if (cs_slots->nslots == cs_max_databases && slot == NULL)
		word = "too many databases";
	LWLockRelease(cs_slots->lock);
	return word;
}

/* Make this process the worker of the database. */
void
cs_shmem_attach_worker(Oid dboid)
{
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	my_slot = cs_slots_find(dboid);
	if (my_slot)
	{
		my_slot->state = CS_SLOT_RUNNING;
		my_slot->pid = MyProcPid;
		my_slot->locked_out = my_slot->has_news = false;
		my_slot->procno = CS_MY_PROC_NUMBER;
		cs_attention_wake(&my_slot->attention);
	}
	LWLockRelease(cs_slots->lock);
}

/* Give the slot back; "absent": the extension is not there; "asked": by SIGTERM. */
void
cs_shmem_detach_worker(bool absent, bool asked)
{
	int			procno = -1;

	if (my_slot == NULL)
		return;
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	if (my_slot->state == CS_SLOT_RUNNING && my_slot->pid == MyProcPid)
	{
		cs_slots_back_off(my_slot, asked);
		if (absent)
		{
			my_slot->state = CS_SLOT_ABSENT;
			my_slot->failures = 0;
		}
		procno = cs_slots->launcher_procno;
	}
	LWLockRelease(cs_slots->lock);
	my_slot = NULL;
	cs_slots_set_latch(procno);
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
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	my_slot->locked_out = locked_out;
	LWLockRelease(cs_slots->lock);
}

bool
cs_shmem_asked_to_leave(void)
{
	return my_slot != NULL && my_slot->leave;
}

/* Would cs_shmem_take_news() return true in a worker? */
bool
cs_shmem_has_news(void)
{
	return my_slot != NULL && cs_attention_has_news(&my_slot->attention);
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
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	*serverid = my_slot->stale_server;
	*mapping_roleid = my_slot->stale_role;
	my_slot->stale_server = InvalidOid;
	LWLockRelease(cs_slots->lock);
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
