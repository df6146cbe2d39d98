/*-------------------------------------------------------------------------
 *
 * change.c
 *		What was queued for one lane, as far as it is in memory.
 *
 * A key is in the set of its lane once, however often it was queued.  It is
 * PENDING until it is read; what is queued while it is ACTIVE makes it PENDING
 * once more when its outcome is known.  So the newest value is sent, and never
 * before an older one that is under way.
 *
 * Two rows can stand for one contact, so an ACTIVE change holds identity locks.
 * Other changes of the contact wait, and are read again when they are released.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "base/sql.h"
#include "delivery/change.h"

/* What so many changes took is kept for others. */
#define FEW_CHANGES		100

/* Most lanes have nothing to send. */
#define FIRST_SLOTS		16

typedef struct CsChangeSlot
{
	const char *key;
	uint32		hash;
	CsChange   *change;
	char		status;
} CsChangeSlot;

#define SH_PREFIX changeset
#define SH_ELEMENT_TYPE CsChangeSlot
#define SH_KEY_TYPE const char *
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key), strlen(key))
#define SH_EQUAL(tb, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static void
create_tables(CsChangeSet *set)
{
	set->slab = SlabContextCreate(set->context, "contactsync change", SLAB_DEFAULT_BLOCK_SIZE, sizeof(CsChange));
	set->by_key = changeset_create(set->context, FIRST_SLOTS, NULL);
	set->rows = cs_read_row_create(set->context);
	set->most = 0;
}

/* Initialize a set without changes; what it holds is allocated in a child of the context. */
void
cs_change_create_set(CsChangeSet *set, struct CsLane *lane, CsIdentityLocks *locks, CsRoom *room,
					 MemoryContext context)
{
	memset(set, 0, sizeof(CsChangeSet));
	set->lane = lane;
	set->locks = locks;
	set->room = room;
	room->nlanes++;
	set->context = AllocSetContextCreate(context, "contactsync changes", ALLOCSET_START_SMALL_SIZES);
	create_tables(set);
	dlist_init(&set->pending);
	dlist_init(&set->postponed);
	dlist_init(&set->sent_ahead);
}

static void
make_pending(CsChange *change, bool first)
{
	CsChangeSet *set = change->set;

	change->state = CS_CHANGE_PENDING;
	if (first)
	{
		dlist_push_head(&set->pending, &change->node);
		return;
	}
	change->sequence = ++set->last_sequence;
	dlist_push_tail(&set->pending, &change->node);
}

/* Make it PENDING in its place in line, which is near the first one. */
static void
return_to_line(CsChange *change)
{
	dlist_iter	iter;

	change->state = CS_CHANGE_PENDING;
	dlist_foreach(iter, &change->set->pending)
		if (dlist_container(CsChange, node, iter.cur)->sequence > change->sequence)
		break;
	dlist_insert_before(iter.cur, &change->node);
}

/*
 * What was queued while the change was ACTIVE is PENDING: before all that was queued
 * later, which can be about the same contact.
 */
static void
join_line(CsChange *change)
{
	dlist_iter	iter;

	change->state = CS_CHANGE_PENDING;
	change->sequence = change->arrived = change->latest_sequence;
	dlist_reverse_foreach(iter, &change->set->pending)
		if (dlist_container(CsChange, node, iter.cur)->sequence <= change->sequence)
		break;
	dlist_insert_after(iter.cur, &change->node);
}

/*
 * Locks
 */

/* Release a lock; its waiters are PENDING again. */
static void
release(CsIdentityLocks *locks, CsIdentityLock *lock)
{
	while (!dlist_is_empty(&lock->waiters))
	{
		CsChange   *waiter = dlist_tail_element(CsChange, node, &lock->waiters);

		dlist_delete(&waiter->node);
		return_to_line(waiter);
	}
	cs_identity_lock_release(locks, lock);
}

/* Give up the lock in a slot, if there is one. */
void
cs_change_release_lock(CsChange *change, int slot)
{
	CsIdentityLock *lock = change->locks[slot];

	if (lock == NULL)
		return;
	change->locks[slot] = NULL;
	release(change->set->locks, lock);
}

/* Append the locks of the change to a list, in the current context: they are held
 * until cs_change_release_taken(). */
List *
cs_change_take_locks(CsChange *change, List *taken)
{
	for (int i = 0; i < CS_CHANGE_LOCKS; i++)
	{
		if (change->locks[i] == NULL)
			continue;
		change->locks[i]->owner = change->set;
		change->locks[i]->is_taken = true;
		taken = lappend(taken, change->locks[i]);
		change->locks[i] = NULL;
	}
	return taken;
}

void
cs_change_release_taken(CsIdentityLocks *locks, List *taken)
{
	ListCell   *lc;

	foreach(lc, taken)
		release(locks, lfirst(lc));
}

/* Give up all locks of a change. */
void
cs_change_release_locks(CsChange *change)
{
	for (int i = 0; i < CS_CHANGE_LOCKS; i++)
		cs_change_release_lock(change, i);
}

/*
 * What is in the set
 */

/*
 * How many more keys may be held in memory; "needed": so many in any case.  A key that
 * is changed again and again is one change with many queue rows, so both are bounded.
 */
int
cs_change_room(const CsChangeSet *set, int needed)
{
	return cs_room_for_changes(set->room, Max(set->nchanges, cs_read_row_count(set->rows)), needed);
}

/*
 * Is what was queued newer than what is there of the same key?  A live change is as new
 * as it was when its row is only to be sent again.
 */
bool
cs_change_is_renewed(uint16 origins, uint16 queued)
{
	return (queued & CS_ORIGIN_LIVE) != 0 || (origins & CS_ORIGIN_LIVE) == 0;
}

/* The change of a key, or NULL. */
CsChange *
cs_change_find(const CsChangeSet *set, const char *key)
{
	CsChangeSlot *slot = changeset_lookup(set->by_key, key);

	return slot ? slot->change : NULL;
}

/* The change of a key, made PENDING if there is none. */
CsChange *
cs_change_make(CsChangeSet *set, const char *key, bool *found)
{
	CsChange   *change = cs_change_find(set, key);

	*found = change != NULL;
	if (change)
		return change;
	change = MemoryContextAllocZero(set->slab, sizeof(CsChange));
	change->set = set;
	change->lane = set->lane;
	change->key = MemoryContextStrdup(set->context, key);
	changeset_insert(set->by_key, change->key, found)->change = change;
	make_pending(change, false);
	change->arrived = change->sequence;
	set->nchanges++;
	set->most = Max(set->most, set->nchanges);
	set->room->nchanges++;
	return change;
}

/* Visit all changes.  The visitor may finish the one that it is given. */
void
cs_change_visit(CsChangeSet *set, void (*visit) (CsChange *change, void *arg), void *arg)
{
	changeset_iterator iterator;
	CsChangeSlot *slot;

	changeset_start_iterate(set->by_key, &iterator);
	while ((slot = changeset_iterate(set->by_key, &iterator)) != NULL)
		visit(slot->change, arg);
}

/*
 * The least sequence of a change that is not finished; UINT64_MAX: there is none.
 * "or_waiting": nor waits for rows that are yet to be read.
 */
uint64
cs_change_oldest(const CsChangeSet *set, bool or_waiting)
{
	changeset_iterator iterator;
	CsChangeSlot *slot;
	uint64		oldest = PG_UINT64_MAX;

	changeset_start_iterate(set->by_key, &iterator);
	while ((slot = changeset_iterate(set->by_key, &iterator)) != NULL)
		if (or_waiting || !slot->change->waits)
			oldest = Min(oldest, slot->change->arrived);
	return oldest;
}

/* The keys of ACTIVE changes, as a text[]. */
ArrayType *
cs_change_active_keys(const CsChangeSet *set)
{
	char	  **keys = palloc((set->nchanges + 1) * sizeof(char *));
	changeset_iterator iterator;
	CsChangeSlot *slot;
	int			n = 0;

	changeset_start_iterate(set->by_key, &iterator);
	while ((slot = changeset_iterate(set->by_key, &iterator)) != NULL)
		if (slot->change->state == CS_CHANGE_ACTIVE)
			keys[n++] = slot->change->key;
	return DatumGetArrayTypeP(cs_sql_make_text_array(n, keys));
}

/*
 * From PENDING to ACTIVE, and back
 */

/* Move postponed changes that are due to the pending ones. */
static void
wake_postponed(CsChangeSet *set, double now)
{
	dlist_mutable_iter iter;

	if (now < set->postponed_until)
		return;
	set->postponed_until = DBL_MAX;
	dlist_foreach_modify(iter, &set->postponed)
	{
		CsChange   *change = dlist_container(CsChange, node, iter.cur);

		if (change->not_before > now)
		{
			set->postponed_until = Min(set->postponed_until, change->not_before);
			continue;
		}
		dlist_delete(&change->node);
		make_pending(change, !change->last);
	}
}

static void
end_waiting(CsChange *change)
{
	change->set->nwaiting -= change->waits;
	change->waits = false;
}

/* Return the next change to be read, now ACTIVE, or NULL if none is due. */
CsChange *
cs_change_next(CsChangeSet *set, double now)
{
	CsChange   *change;

	wake_postponed(set, now);
	if (dlist_is_empty(&set->pending))
		return NULL;
	change = dlist_container(CsChange, node, dlist_pop_head_node(&set->pending));
	change->state = CS_CHANGE_ACTIVE;
	end_waiting(change);
	if (change->read_at == 0 && change->rows != NIL)
		((CsReadRow *) linitial(change->rows))->unread--;
	change->last_read_at = change->read_at;
	change->read_at = GetCurrentTimestamp();
	change->sent_queued_at = change->last_queued_at;
	cs_identity_lock_catch_up(set->locks, &change->behind);
	change->upsert_key = change->previous_key = change->alias_key = NULL;
	change->twin_key = change->twin_id = NULL;
	memset(&change->left, 0, sizeof(CsConsent));
	memset(&change->moved_from, 0, sizeof(CsConsent));
	change->has_row = change->was_known = change->refused = change->takes_over = false;
	change->is_late = change->has_others_digest = false;
	change->others_key = NULL;
	change->says_yes = false;
	return change;
}

/*
 * Forget what was sent ahead of its place, if the line has come that far.  All changes
 * that cs_change_next() returned have been decided on: one that has to wait is told what
 * is sent meanwhile.
 */
void
cs_change_forget_sent(CsChangeSet *set)
{
	uint64		first = PG_UINT64_MAX;

	if (!dlist_is_empty(&set->pending))
		first = dlist_container(CsChange, node, dlist_head_node(&set->pending))->sequence;
	cs_identity_lock_forget_sent(set->locks, &set->sent_ahead, first);
}

/* When a change is due: 0 for at once, DBL_MAX if none is PENDING. */
double
cs_change_ready_at(const CsChangeSet *set)
{
	if (!dlist_is_empty(unconstify(dlist_head *, &set->pending)))
		return 0;
	return dlist_is_empty(unconstify(dlist_head *, &set->postponed)) ? DBL_MAX : set->postponed_until;
}

/* Add the queue rows that came while the change was ACTIVE to its rows. */
static void
take_next_rows(CsChange *change)
{
	MemoryContext old;
	ListCell   *lc;

	if (change->next_rows == NIL)
		return;
	old = MemoryContextSwitchTo(change->set->context);
	foreach(lc, change->next_rows)
	{
		change->rows = lappend(change->rows, lfirst(lc));
		change->queue_id = cs_queue_position_id(&((CsReadRow *) lfirst(lc))->position);
	}
	list_free(change->next_rows);
	change->next_rows = NIL;
	if (cs_change_is_renewed(change->origins, change->next_origins))
		change->latest_sequence = change->next_latest_sequence;
	change->unconfirmed |= change->next_unconfirmed;
	change->next_unconfirmed = false;
	change->origins |= change->next_origins;
	change->next_origins = 0;
	change->forgotten = change->next_forgotten;
	change->next_forgotten = false;
	MemoryContextSwitchTo(old);
}

/*
 * Give up a queue row of a change that has its outcome.  Return one that no
 * other change needs: the caller deletes it in the transaction that stores the
 * outcome.  Return false when the change has no row left.
 */
bool
cs_change_release_row(CsChange *change, CsQueuePosition *position)
{
	while (change->rows != NIL)
	{
		CsReadRow  *row = llast(change->rows);

		change->rows = list_delete_last(change->rows);
		if (--row->unfinished > 0)
			continue;
		*position = row->position;
		if (cs_read_row_end(change->set->rows, row))
			return true;
	}
	return false;
}

/*
 * End an ACTIVE change that has its outcome and no queue row left.  Its locks
 * are released, and it is freed unless it was queued again meanwhile.
 */
void
cs_change_finish(CsChange *change)
{
	CsChangeSet *set = change->set;

	Assert(change->rows == NIL);
	cs_change_release_locks(change);
	cs_identity_lock_catch_up(set->locks, &change->behind);
	change->contact = NULL;
	change->attempts = change->conflicts = 0;
	change->waiting_since = 0;
	change->entangled = change->conflicts_here = false;
	change->failed_at = 0;
	change->unconfirmed = change->forgotten = change->gone = change->renamed = false;
	change->origins = 0;
	set->nrefusing -= change->no_xact != 0;
	change->no_xact = 0;
	change->queued_at = 0;
	if (change->next_rows != NIL && !set->closed)
	{
		take_next_rows(change);
		join_line(change);
		return;
	}
	end_waiting(change);
	changeset_delete(set->by_key, change->key);
	set->counted -= change->is_counted;
	if (change->direct)
		pfree(change->direct);
	if (change->removal_key)
		pfree(change->removal_key);
	pfree(change->key);
	pfree(change);
	set->nchanges--;
	set->room->nchanges--;
}

/*
 * Set an ACTIVE change aside, to save memory while it has to wait: its queue rows
 * are kept, and it is added once more when they are read again.
 */
void
cs_change_set_aside(CsChange *change)
{
	CsQueuePosition position;
	ListCell   *lc;

	foreach(lc, change->rows)
		cs_read_row_set_aside(change->set->rows, lfirst(lc), change->key);
	while (cs_change_release_row(change, &position))
		Assert(false);
	cs_change_finish(change);
}

/* End a change in whatever state, without an outcome. */
static void
drop(CsChange *change)
{
	CsQueuePosition position;

	if (change->state != CS_CHANGE_ACTIVE)
		dlist_delete(&change->node);
	while (cs_change_release_row(change, &position))
		;
	cs_change_finish(change);
}

/*
 * Make an ACTIVE change PENDING, to be read again, but not before the given
 * time.  It keeps its locks, so that no other change overtakes it.  "first":
 * ahead of those that are PENDING.  In a set that is closed it ends instead.
 */
void
cs_change_postpone(CsChange *change, double not_before, bool first)
{
	CsChangeSet *set = change->set;

	if (set->closed)
	{
		drop(change);
		return;
	}
	take_next_rows(change);
	change->contact = NULL;
	change->not_before = not_before;
	change->last = !first;
	if (not_before <= 0)
	{
		make_pending(change, first);
		return;
	}
	change->state = CS_CHANGE_PENDING;
	dlist_push_tail(&set->postponed, &change->node);
	set->postponed_until = dlist_has_next(&set->postponed, dlist_head_node(&set->postponed)) ?
		Min(set->postponed_until, not_before) : not_before;
}

/*
 * The same, while it waits for rows that are yet to be read.  It goes behind the others
 * when it is due.
 */
void
cs_change_wait(CsChange *change, double not_before)
{
	if (!change->set->closed)
	{
		change->waits = true;
		change->set->nwaiting++;
		if (change->waiting_since == 0)
			change->waiting_since = GetCurrentTimestamp();
	}
	cs_change_postpone(change, not_before, false);
}

/*
 * Is there room for another change that waits for rows that are yet to be read?  Those
 * are not read if all that may be held in memory waits for them.
 */
bool
cs_change_may_wait(const CsChangeSet *set)
{
	return set->nwaiting < cs_room_share(set->room) / 2;
}

static void
drop_unless_active(CsChange *change, void *arg)
{
	if (change->state != CS_CHANGE_ACTIVE)
		drop(change);
}

/* Give back the memory of many changes that have ended, if nothing else is in it. */
void
cs_change_empty_set(CsChangeSet *set)
{
	if (set->nchanges > 0 || set->most < FEW_CHANGES || !cs_read_row_is_empty(set->rows))
		return;
	MemoryContextReset(set->context);
	create_tables(set);
}

/*
 * Close the set: its lane is no more.  The changes that are ACTIVE end when their
 * calls do.
 */
void
cs_change_close_set(CsChangeSet *set)
{
	set->room->nlanes -= !set->closed;
	set->closed = true;
	cs_change_visit(set, drop_unless_active, NULL);
	cs_identity_lock_forget_sent(set->locks, &set->sent_ahead, PG_UINT64_MAX);
}

static void
drop_any(CsChange *change, void *arg)
{
	drop(change);
}

/* The same, but end all changes: no call is in flight. */
void
cs_change_drop_set(CsChangeSet *set)
{
	cs_change_close_set(set);
	cs_change_visit(set, drop_any, NULL);
}
