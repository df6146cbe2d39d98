/*-------------------------------------------------------------------------
 *
 * slots.c
 *		The slots of databases in shared memory, and which of them get a worker.
 *
 * There is one slot per database.  Where the server has fewer processes than
 * databases with something to do, these take turns: a worker that has had its turn
 * leaves for the database that has waited longest, first of all one that sleeps.  One
 * that left comes back when something is committed in its database, or after a while,
 * since there may be something to do at a certain time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/contactsync.h"
#include "base/settings.h"
#include "base/slots.h"

/* A worker that lived longer than this had no trouble starting. */
#define LONG_LIFE_SECONDS	60

/* All databases have had their turn after about this, but no turn is shorter than the
 * second, or longer than the third. */
#define ROUND_SECONDS		45
#define MIN_TURN_SECONDS	2
#define MAX_TURN_SECONDS	20

/* Without news, a database whose worker left for another one waits for so long. */
#define REST_SECONDS		30

CsSlots    *cs_slots = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static Size
slots_size(void)
{
	return add_size(offsetof(CsSlots, slots), mul_size(cs_max_databases, sizeof(CsSlot)));
}

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(slots_size()));
	RequestNamedLWLockTranche(CS_EXTENSION, 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	cs_slots = ShmemInitStruct(CS_EXTENSION, slots_size(), &found);
	if (!found)
	{
		memset(cs_slots, 0, slots_size());
		cs_slots->lock = &GetNamedLWLockTranche(CS_EXTENSION)->lock;
		cs_slots->launcher_procno = -1;
		for (int i = 0; i < cs_max_databases; i++)
			cs_attention_init(&cs_slots->slots[i].attention);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
cs_slots_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

CsSlot *
cs_slots_find(Oid dboid)
{
	for (int i = 0; i < cs_slots->nslots; i++)
		if (cs_slots->slots[i].state != CS_SLOT_FREE && cs_slots->slots[i].dboid == dboid)
			return &cs_slots->slots[i];
	return NULL;
}

void
cs_slots_set_latch(int procno)
{
	if (procno >= 0)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

bool
cs_slots_any_running(void)
{
	for (int i = 0; i < cs_slots->nslots; i++)
		if (cs_slots->slots[i].state == CS_SLOT_RUNNING)
			return true;
	return false;
}

/*
 * Make this process the launcher, which is woken where there is no worker.  What the
 * one before was starting may be under way still, or may never come.
 */
void
cs_slots_attach_launcher(void)
{
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	cs_slots->launcher_procno = CS_MY_PROC_NUMBER;
	for (int i = 0; i < cs_slots->nslots; i++)
	{
		CsSlot	   *slot = &cs_slots->slots[i];

		if (slot->state != CS_SLOT_STARTING)
			continue;
		slot->state = CS_SLOT_BACKOFF;
		slot->until = cs_clock_steady() + CS_RESTART_SECONDS * USECS_PER_SEC;
	}
	LWLockRelease(cs_slots->lock);
}

/* Give a database that has none a slot; its state is UNKNOWN. */
void
cs_slots_note_database(Oid dboid)
{
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	if (cs_slots_find(dboid) == NULL)
	{
		CsSlot	   *slot = NULL;

		for (int i = 0; i < cs_slots->nslots && slot == NULL; i++)
			if (cs_slots->slots[i].state == CS_SLOT_FREE)
				slot = &cs_slots->slots[i];
		if (slot == NULL && cs_slots->nslots < cs_max_databases)
			slot = &cs_slots->slots[cs_slots->nslots++];
		if (slot)
		{
			slot->dboid = dboid;
			slot->state = CS_SLOT_UNKNOWN;
			slot->pid = 0;
			slot->procno = -1;
			slot->leave = slot->made_room = slot->has_news = false;
			slot->ended_at = 0;
			slot->failures = 0;
			slot->no_process = false;
			cs_attention_init(&slot->attention);
		}
	}
	LWLockRelease(cs_slots->lock);
}

/* Free the slots of databases that are not among the n given. */
void
cs_slots_forget_databases(const Oid *dboids, int n)
{
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < cs_slots->nslots; i++)
	{
		CsSlot	   *slot = &cs_slots->slots[i];
		bool		there = false;

		if (slot->state == CS_SLOT_RUNNING || slot->state == CS_SLOT_STARTING)
			continue;
		for (int k = 0; k < n && !there; k++)
			there = dboids[k] == slot->dboid;
		if (!there)
			slot->state = CS_SLOT_FREE;
	}
	LWLockRelease(cs_slots->lock);
}

/*
 * Is a worker to be started?  Where there was no process for it, there may be one now, but
 * a statement that needs the database without connections goes first.
 */
static bool
is_due(const CsSlot *slot, TimestampTz now)
{
	bool		keeps_away = slot->leave && !slot->made_room;

	if (slot->state != CS_SLOT_BACKOFF)
		return slot->state == CS_SLOT_UNKNOWN;
	return slot->until <= now || (!keeps_away && (slot->no_process || (slot->made_room && slot->has_news)));
}

/* Is it the turn of a before that of b?  Of those with news, who has waited longest. */
static bool
goes_before(const CsSlot *a, const CsSlot *b)
{
	return a->has_news != b->has_news ? a->has_news : a->ended_at < b->ended_at;
}

/*
 * Return true and a database whose worker is to be started now; its slot becomes
 * STARTING.  Otherwise return false, and lower *wake_at to the end of the first
 * backoff.
 */
bool
cs_slots_next_to_start(TimestampTz now, Oid *dboid, TimestampTz *wake_at)
{
	CsSlot	   *next = NULL;

	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < cs_slots->nslots; i++)
	{
		CsSlot	   *slot = &cs_slots->slots[i];

		if (is_due(slot, now))
			next = next == NULL || goes_before(slot, next) ? slot : next;
		else if (slot->state == CS_SLOT_BACKOFF)
			*wake_at = Min(*wake_at, slot->until);
	}
	if (next)
	{
		next->state = CS_SLOT_STARTING;
		next->no_process = next->leave = next->made_room = false;
		next->started_at = now;
		*dboid = next->dboid;
	}
	LWLockRelease(cs_slots->lock);
	return next != NULL;
}

/*
 * Note that no process was left for the worker of the database, nor is for any other that
 * is due; try again at "until".
 */
void
cs_slots_start_failed(Oid dboid, TimestampTz now, TimestampTz until)
{
	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < cs_slots->nslots; i++)
	{
		CsSlot	   *slot = &cs_slots->slots[i];

		if (!is_due(slot, now) && (slot->state != CS_SLOT_STARTING || slot->dboid != dboid))
			continue;
		slot->state = CS_SLOT_BACKOFF;
		slot->failures = 0;
		slot->no_process = true;
		slot->until = until;
	}
	LWLockRelease(cs_slots->lock);
}

/* How long a worker may stay if it does not sleep, while others wait. */
static TimestampTz
turn_length(void)
{
	int			running = 0;
	int			waiting = 0;
	int			seconds;

	for (int i = 0; i < cs_slots->nslots; i++)
	{
		running += cs_slots->slots[i].state == CS_SLOT_RUNNING;
		waiting += cs_slots->slots[i].state == CS_SLOT_BACKOFF && (cs_slots->slots[i].no_process || cs_slots->slots[i].has_news);
	}
	seconds = ROUND_SECONDS * running / Max(running + waiting, 1);
	return Max(MIN_TURN_SECONDS, Min(seconds, MAX_TURN_SECONDS)) * USECS_PER_SEC;
}

/* Has the worker had its turn?  If it sleeps, that is short. */
static bool
has_had_turn(CsSlot *slot, TimestampTz turn, TimestampTz now)
{
	if (cs_attention_is_asleep(&slot->attention))
		turn = MIN_TURN_SECONDS * USECS_PER_SEC;
	return slot->state == CS_SLOT_RUNNING && now - slot->started_at >= turn;
}

/* Which of two workers leaves first?  One that sleeps, or has been there for longer. */
static bool
leaves_before(CsSlot *a, CsSlot *b)
{
	bool		a_sleeps = cs_attention_is_asleep(&a->attention);

	return a_sleeps != cs_attention_is_asleep(&b->attention) ? a_sleeps : a->started_at < b->started_at;
}

/*
 * No process is left for a database that waits: have a worker leave that has had its
 * turn, unless one is about to leave.
 */
void
cs_slots_make_room(TimestampTz now)
{
	CsSlot	   *first = NULL;
	bool		leaving = false;
	TimestampTz turn;

	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	turn = turn_length();
	for (int i = 0; i < cs_slots->nslots; i++)
	{
		CsSlot	   *slot = &cs_slots->slots[i];

		leaving |= slot->state == CS_SLOT_RUNNING && slot->leave;
		if (has_had_turn(slot, turn, now) && (first == NULL || leaves_before(slot, first)))
			first = slot;
	}
	if (first && !leaving)
	{
		first->leave = first->made_room = true;
		first->until = now + REST_SECONDS * USECS_PER_SEC;
		cs_slots_set_latch(first->procno);
	}
	LWLockRelease(cs_slots->lock);
}

void
cs_slots_back_off(CsSlot *slot, bool asked)
{
	TimestampTz now = cs_clock_steady();

	if (asked || now - slot->started_at > LONG_LIFE_SECONDS * USECS_PER_SEC)
		slot->failures = 0;
	if (!slot->leave)
		slot->until = now + (INT64CONST(1) << Min(slot->failures, 6)) * USECS_PER_SEC;
	slot->failures += !asked && !slot->leave;
	slot->state = CS_SLOT_BACKOFF;
	slot->ended_at = now;
	slot->pid = 0;
	slot->procno = -1;
}

/*
 * Note that the process that was started for the database has ended.  If it did
 * not say why, it is started again, later each time.
 */
void
cs_slots_reap(Oid dboid)
{
	CsSlot	   *slot;

	LWLockAcquire(cs_slots->lock, LW_EXCLUSIVE);
	slot = cs_slots_find(dboid);
	if (slot && (slot->state == CS_SLOT_STARTING || slot->state == CS_SLOT_RUNNING))
		cs_slots_back_off(slot, false);
	LWLockRelease(cs_slots->lock);
}
