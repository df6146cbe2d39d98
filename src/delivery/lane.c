/*-------------------------------------------------------------------------
 *
 * lane.c
 *		The changes of one watch, or the direct upserts of one endpoint, as
 *		far as they are in memory.
 *
 * A key is in a lane once, however often it was queued: it is PENDING until it
 * is read, and what comes while it is on its way makes it pending once more
 * when its outcome is known.  So the value that is sent is always the newest,
 * and never overtakes an older one.
 *
 * Two rows can mean one contact, so whatever is on its way also holds its
 * upsert key; others wait for it, and are read again when it is let go.  A row
 * that changed again while it stood in line is sent in its old place with its
 * newest value; changes of other rows between the two are outdated then, and
 * are known by the hold, which is kept until the line has come that far.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "store/queue.h"
#include "delivery/lane.h"

/* Rows that are read at a time before it is known how large they are. */
#define FIRST_READ	50

/* Keys of a lane. */
typedef struct CsChangeSlot
{
	const char *key;
	uint32		hash;
	CsChange   *change;
	char		status;
} CsChangeSlot;

#define HASH_TEXT(text) \
	hash_bytes((const unsigned char *) (text), strlen(text))

#define SH_PREFIX changeset
#define SH_ELEMENT_TYPE CsChangeSlot
#define SH_KEY_TYPE const char *
#define SH_KEY key
#define SH_HASH_KEY(tb, key) HASH_TEXT(key)
#define SH_EQUAL(tb, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Rows of the queue of which something is left in a lane. */
typedef struct CsRefSlot
{
	CsQueuePosition position;
	CsQueueRef *ref;
	char		status;
} CsRefSlot;

#define SH_PREFIX refset
#define SH_ELEMENT_TYPE CsRefSlot
#define SH_KEY_TYPE CsQueuePosition
#define SH_KEY position
#define SH_HASH_KEY(tb, key) \
	hash_combine(murmurhash32((uint32) (key).xact), murmurhash32((uint32) (key).id))
#define SH_EQUAL(tb, a, b) ((a).xact == (b).xact && (a).id == (b).id)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* An upsert key that is on its way, and who waits for it. */
typedef struct CsIdentityLock
{
	char	   *key;			/* server and upsert key */
	CsChange   *owner;			/* NULL: kept for latest_sequence alone */
	dlist_head	waiters;

	dlist_node	node;			/* of lane->superseded, if latest_sequence is
								 * set */
	CsLane	   *lane;
	uint64		latest_sequence;	/* how new what was last sent is, or 0 */
} CsIdentityLock;

typedef struct CsIdentityLockSlot
{
	const char *key;
	uint32		hash;
	CsIdentityLock *hold;
	char		status;
} CsIdentityLockSlot;

#define SH_PREFIX lockset
#define SH_ELEMENT_TYPE CsIdentityLockSlot
#define SH_KEY_TYPE const char *
#define SH_KEY key
#define SH_HASH_KEY(tb, key) HASH_TEXT(key)
#define SH_EQUAL(tb, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Of all lanes of this process: accounts of several roles share a server. */
static lockset_hash *locks = NULL;
static MemoryContext lock_context = NULL;

/*
 * Effect: there are no lanes and no holds yet; they live in the given context,
 * and are forgotten by the next call of this.
 */
void
cs_lane_begin(MemoryContext context)
{
	lock_context = context;
	locks = lockset_create(context, 1024, NULL);
}

/*
 * A lane without changes, in the current context; watch is NULL for direct
 * upserts and is not copied.
 */
CsLane *
cs_lane_create(struct CsAccount *account, int endpoint_id, int watch_id, CsWatch *watch)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync lane",
												  ALLOCSET_DEFAULT_SIZES);
	CsLane	   *lane = MemoryContextAllocZero(context, sizeof(CsLane));

	lane->account = account;
	lane->endpoint_id = endpoint_id;
	lane->watch_id = watch_id;
	lane->watch = watch;
	lane->context = context;
	lane->cursor.context = context;
	lane->cursor.position.id = PG_INT64_MIN;
	lane->read_size = FIRST_READ;
	lane->guard.closed = watch && watch->guarded;
	lane->guard.released = watch ? watch->released : 0;
	lane->changes = changeset_create(context, 256, NULL);
	lane->refs = refset_create(context, 256, NULL);
	lane->broken = lane->source_error = watch && watch->broken; /* until it can be read */
	dlist_init(&lane->pending);
	dlist_init(&lane->postponed);
	dlist_init(&lane->superseded);
	return lane;
}

/*
 * Holds
 */

static void
make_pending(CsChange *change, bool first)
{
	change->state = CS_CHANGE_PENDING;
	if (first)
	{
		dlist_push_head(&change->lane->pending, &change->node);
		return;
	}
	change->place = ++change->lane->places;
	dlist_push_tail(&change->lane->pending, &change->node);
}

static void
free_lock(CsIdentityLock *hold)
{
	lockset_delete(locks, hold->key);
	pfree(hold->key);
	pfree(hold);
}

/* Effect: the line has come to a place; what only those before it had to know
 * is forgotten. */
static void
forget_passed(CsLane *lane, uint64 place)
{
	while (!dlist_is_empty(&lane->superseded))
	{
		CsIdentityLock *hold = dlist_head_element(CsIdentityLock, node, &lane->superseded);

		if (hold->latest_sequence > place)
			break;
		dlist_delete(&hold->node);
		hold->latest_sequence = 0;
		if (hold->owner == NULL)
			free_lock(hold);
	}
}

/* Effect: lets go of what the change holds there; who waited is pending again. */
static void
release_lock(CsChange *change, int slot)
{
	CsIdentityLock *hold = change->locks[slot];

	if (hold == NULL)
		return;
	change->locks[slot] = NULL;
	while (!dlist_is_empty(&hold->waiters))
	{
		CsChange   *waiter = dlist_tail_element(CsChange, node, &hold->waiters);

		dlist_delete(&waiter->node);
		make_pending(waiter, true);
	}
	hold->owner = NULL;
	if (hold->latest_sequence == 0)
		free_lock(hold);
}

static void
release_locks(CsChange *change)
{
	for (int i = 0; i < CS_CHANGE_LOCKS; i++)
		release_lock(change, i);
}

/*
 * Effect: the change holds the key, in the given slot, until it is finished or
 * holds another there; nothing with NULL.  If somebody else does, it is BLOCKED
 * and holds nothing, so that no two wait for each other, and false is returned.
 */
bool
cs_change_lock(CsChange *change, Oid serverid, const char *upsert_key, int slot)
{
	CsIdentityLock *held = change->locks[slot];
	CsIdentityLockSlot *entry;
	char	   *key;
	bool		found;

	key = psprintf("%u %s %s", serverid, slot == CS_LOCK_EMAIL ? "email" : "key",
				   upsert_key ? upsert_key : "");
	if (held && upsert_key && strcmp(held->key, key) == 0)
		return true;
	release_lock(change, slot);
	if (upsert_key == NULL)
		return true;
	entry = lockset_insert(locks, key, &found);
	if (found && entry->hold->owner == NULL)
	{
		entry->hold->owner = change;
		change->locks[slot] = entry->hold;
		return true;
	}
	if (found)
	{
		CsIdentityLock *other = entry->hold;

		release_locks(change);
		change->state = CS_CHANGE_BLOCKED;
		dlist_push_tail(&other->waiters, &change->node);
		return false;
	}
	entry->hold = MemoryContextAllocZero(lock_context, sizeof(CsIdentityLock));
	entry->hold->key = MemoryContextStrdup(lock_context, key);
	entry->hold->owner = change;
	entry->key = entry->hold->key;
	dlist_init(&entry->hold->waiters);
	change->locks[slot] = entry->hold;
	return true;
}

/* What the change holds in a slot, or NULL; as long as it does. */
const char *
cs_change_locked_identity(const CsChange *change, int slot)
{
	const CsIdentityLock *hold = change->locks[slot];

	return hold ? strchr(strchr(hold->key, ' ') + 1, ' ') + 1 : NULL;
}

/* Has something newer been sent for the upsert key that the change holds? */
bool
cs_change_is_outdated(const CsChange *change)
{
	const CsIdentityLock *hold = change->locks[CS_LOCK_KEY];

	return hold && hold->lane == change->lane && hold->latest_sequence > change->latest_sequence;
}

/*
 * Effect: the provider has what the change is about.  If that is newer than its
 * place in line, those that stand between will be outdated.
 */
void
cs_change_note_sent(CsChange *change)
{
	CsIdentityLock *hold = change->locks[CS_LOCK_KEY];
	CsLane	   *lane = change->lane;
	dlist_node *before;

	if (hold == NULL || change->latest_sequence <= change->place || cs_change_is_outdated(change))
		return;
	if (hold->latest_sequence > 0)
		dlist_delete(&hold->node);
	hold->latest_sequence = change->latest_sequence;
	hold->lane = lane;
	before = &lane->superseded.head;
	while (before->prev != &lane->superseded.head &&
		   dlist_container(CsIdentityLock, node, before->prev)->latest_sequence > hold->latest_sequence)
		before = before->prev;
	dlist_insert_before(before, &hold->node);
}

/*
 * Changes
 */

static CsChange *
create_change(CsLane *lane, const char *key)
{
	CsChange   *change = MemoryContextAllocZero(lane->context, sizeof(CsChange));

	change->lane = lane;
	change->key = MemoryContextStrdup(lane->context, key);
	make_pending(change, false);
	lane->nchanges++;
	return change;
}

static List *
append_ref(CsLane *lane, List *refs, CsQueueRef *ref)
{
	MemoryContext old = MemoryContextSwitchTo(lane->context);

	refs = lappend(refs, ref);
	MemoryContextSwitchTo(old);
	return refs;
}

/* Effect: the change is one that the guard counts, unless its row of the queue
 * was let go on, or a scan wrote it, which counts by itself. */
static void
count_change(CsLane *lane, CsChange *change, const CsQueueRef *ref)
{
	if (change->guarded || ref->position.xact < lane->guard.released ||
		ref->position.xact == lane->scan_xact)
		return;
	change->guarded = true;
	lane->guard.waiting++;
	lane->guard.arrived++;
}

/*
 * Effect: the key is pending on account of the row, or will be once it is not
 * on its way any more.
 */
static void
note_key(CsLane *lane, const char *key, CsQueueRef *ref, Jsonb *direct, bool touched)
{
	CsChangeSlot *slot;
	CsChange   *change;
	bool		found;

	slot = changeset_insert(lane->changes, key, &found);
	if (!found)
	{
		slot->change = create_change(lane, key);
		slot->key = slot->change->key;
	}
	change = slot->change;
	if (change->state == CS_CHANGE_ACTIVE)
	{
		change->next_refs = append_ref(lane, change->next_refs, ref);
		change->next_latest_sequence = ++lane->places;
	}
	else
	{
		change->refs = append_ref(lane, change->refs, ref);
		change->latest_sequence = found ? ++lane->places : change->place;
		change->id = ref->position.xact ^ ((uint64) ref->position.id << 40);
	}
	if (touched && change->state == CS_CHANGE_ACTIVE)
		change->next_unconfirmed = true;
	else if (touched)
		change->unconfirmed = true;
	ref->outstanding++;
	count_change(lane, change, ref);
	if (ref->position.xact < lane->unconfirmed_below)
		change->unconfirmed = true;
	if (direct && change->direct == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(lane->context);

		change->direct = (Jsonb *) PG_DETOAST_DATUM_COPY(PointerGetDatum(direct));
		MemoryContextSwitchTo(old);
	}
}

/* Effect: nothing of the row is left to be done, or it was found to hold nothing. */
static void
free_ref(CsLane *lane, CsQueueRef *ref)
{
	refset_delete(lane->refs, ref->position);
	pfree(ref);
}

static void
note_row(CsLane *lane, const CsQueueRow *row)
{
	CsRefSlot  *slot;
	CsQueueRef *ref;
	bool		found;

	slot = refset_insert(lane->refs, row->position, &found);
	if (found)
		return;					/* read twice */
	ref = slot->ref = MemoryContextAlloc(lane->context, sizeof(CsQueueRef));
	ref->position = row->position;
	ref->outstanding = 0;
	for (int i = 0; i < row->nkeys; i++)
		note_key(lane, row->keys[i], ref, NULL, row->contact != NULL);
	if (row->contact && row->nkeys == 0)
		note_key(lane, psprintf(INT64_FORMAT, row->position.id), ref, row->contact, false);
	if (ref->outstanding == 0)
		free_ref(lane, ref);
}

/* What is on its way, as a text[]: it is not known to have been sent yet. */
static ArrayType *
active_keys(const CsLane *lane)
{
	Datum	   *elements = palloc((lane->nchanges + 1) * sizeof(Datum));
	changeset_iterator iterator;
	CsChangeSlot *slot;
	int			n = 0;

	changeset_start_iterate(lane->changes, &iterator);
	while ((slot = changeset_iterate(lane->changes, &iterator)) != NULL)
		if (slot->change->state == CS_CHANGE_ACTIVE)
			elements[n++] = CStringGetTextDatum(slot->key);
	return construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT);
}

/* Effect: markers of TRUNCATE become the keys that they stand for. */
static void
expand_markers(CsLane *lane, int n, const CsQueuePosition *markers)
{
	if (n == 0 || lane->watch == NULL)
		return;
	cs_queue_expand(lane->watch->endpoint, lane->watch_id,
					lane->watch->on_delete != CS_ON_DELETE_IGNORE, active_keys(lane));
	cs_queue_delete(lane->watch->endpoint, lane->watch_id, n, markers);
	lane->exhausted = false;
}

/*
 * How many keys may be read into memory.  One key that is changed again and
 * again is one change with many rows, so these are bounded as well.
 */
static int
room(const CsLane *lane)
{
	return cs_max_pending - Max(lane->nchanges, (int) lane->refs->members);
}

/*
 * Effect: reads the queue until the window is full.  Needs what
 * cs_queue_read() needs, in a transaction that may write.
 */
void
cs_lane_load(CsLane *lane)
{
	CsQueueRow *rows;
	CsQueuePosition *markers;
	int			nmarkers = 0;
	int			n;

	if (room(lane) <= 0)
		return;
	n = cs_queue_read(&lane->cursor, lane->endpoint_id, lane->watch_id, room(lane), &rows);
	lane->exhausted = !lane->cursor.more;
	markers = palloc((n + 1) * sizeof(CsQueuePosition));
	for (int i = 0; i < n; i++)
	{
		if (rows[i].nkeys == 0 && rows[i].contact == NULL)
			markers[nmarkers++] = rows[i].position;
		else
			note_row(lane, &rows[i]);
	}
	expand_markers(lane, nmarkers, markers);
}

/* Effect: what was postponed and is due is pending again. */
static void
wake_postponed(CsLane *lane, double now)
{
	dlist_mutable_iter iter;

	if (now < lane->postponed_until)
		return;
	lane->postponed_until = DBL_MAX;
	dlist_foreach_modify(iter, &lane->postponed)
	{
		CsChange   *change = dlist_container(CsChange, node, iter.cur);

		if (change->not_before > now)
		{
			lane->postponed_until = Min(lane->postponed_until, change->not_before);
			continue;
		}
		dlist_delete(&change->node);
		make_pending(change, !change->last);
	}
}

/* The next change to be read, ACTIVE from now on, or NULL if none is due. */
CsChange *
cs_lane_next(CsLane *lane, double now)
{
	CsChange   *change;

	if (now < lane->not_before || lane->guard.closed)
		return NULL;
	wake_postponed(lane, now);
	if (dlist_is_empty(&lane->pending))
		return NULL;
	change = dlist_container(CsChange, node, dlist_pop_head_node(&lane->pending));
	change->state = CS_CHANGE_ACTIVE;
	forget_passed(lane, change->place);
	return change;
}

/* When there will be a change to read: now, later, or DBL_MAX: not that we know. */
double
cs_lane_ready_at(CsLane *lane, double now)
{
	double		at = DBL_MAX;

	if (lane->paused || lane->guard.closed)
		return at;
	if (!dlist_is_empty(&lane->pending) ||
		(!lane->exhausted && room(lane) > 0))
		at = now;
	else if (!dlist_is_empty(&lane->postponed))
		at = lane->postponed_until;
	return at == DBL_MAX ? at : Max(at, lane->not_before);
}

/* Nothing is in memory, and there was nothing more in the queue. */
bool
cs_lane_is_empty(const CsLane *lane)
{
	return lane->nchanges == 0 && lane->exhausted;
}

/*
 * Effect: the watch waits until then; nothing of it is lost, and nothing else
 * waits with it.
 */
void
cs_lane_break(CsLane *lane, const char *reason, double until)
{
	lane->not_before = until;
	lane->broken_changed |= !lane->broken || lane->reason == NULL ||
		strcmp(lane->reason, reason) != 0;
	lane->broken = true;
	if (lane->reason)
		pfree(lane->reason);
	lane->reason = MemoryContextStrdup(lane->context, reason);
}

/*
 * Effect: a watch that the provider does not take as it is goes on waiting;
 * whether it can be read costs nothing to find out.
 */
void
cs_lane_carry_over(CsLane *lane, const CsLane *before)
{
	/* it is not stored as broken any more if somebody altered it */
	if (before->broken && !before->source_error && lane->broken)
		cs_lane_break(lane, before->reason, before->not_before);
	lane->source_error &= before->source_error;

	/* what came goes on being counted, unless somebody let it go */
	if (!before->guard.closed)
	{
		lane->guard.since = before->guard.since;
		lane->guard.recent = before->guard.recent;
		lane->guard.before = before->guard.before;
	}
}

/* Effect: the watch works again. */
void
cs_lane_repair(CsLane *lane)
{
	lane->broken_changed |= lane->broken;
	lane->broken = false;
}

/* Effect: what came in the meantime is part of what the change is due to. */
static void
take_next_refs(CsChange *change)
{
	MemoryContext old;
	ListCell   *lc;

	if (change->next_refs == NIL)
		return;
	old = MemoryContextSwitchTo(change->lane->context);
	foreach(lc, change->next_refs)
	{
		CsQueueRef *ref = lfirst(lc);

		change->refs = lappend(change->refs, ref);
		change->id = ref->position.xact ^ ((uint64) ref->position.id << 40);
	}
	list_free(change->next_refs);
	change->next_refs = NIL;
	change->latest_sequence = change->next_latest_sequence;
	change->unconfirmed |= change->next_unconfirmed;
	change->next_unconfirmed = false;
	MemoryContextSwitchTo(old);
}

/*
 * Effect: an ACTIVE change goes back to be read again, not before the given
 * time; it keeps what it holds, so that nothing overtakes it.  "first": before
 * those that are pending now.
 */
void
cs_change_postpone(CsChange *change, double not_before, bool first)
{
	CsLane	   *lane = change->lane;

	take_next_refs(change);
	change->contact = NULL;
	change->not_before = not_before;
	change->last = !first;
	if (not_before <= 0)
	{
		make_pending(change, first);
		return;
	}
	change->state = CS_CHANGE_PENDING;
	dlist_push_tail(&lane->postponed, &change->node);
	lane->postponed_until = dlist_has_next(&lane->postponed, dlist_head_node(&lane->postponed)) ?
		Min(lane->postponed_until, not_before) : not_before;
}

/*
 * Effect: an ACTIVE change has its outcome.  It lets go of its upsert key, and
 * is gone unless more came in the meantime.  Rows of the queue of which nothing
 * is left are passed to done(): they are to be deleted with the outcome.
 */
void
cs_change_finish(CsChange *change, void (*done) (CsLane *lane, CsQueuePosition position, void *arg),
				 void *arg)
{
	CsLane	   *lane = change->lane;
	ListCell   *lc;

	release_locks(change);
	foreach(lc, change->refs)
	{
		CsQueueRef *ref = lfirst(lc);

		if (--ref->outstanding > 0)
			continue;
		done(lane, ref->position, arg);
		free_ref(lane, ref);
	}
	list_free(change->refs);
	change->refs = NIL;
	change->contact = NULL;
	change->attempts = 0;
	change->failed_at = 0;
	change->unconfirmed = change->withdrawn = false;
	if (change->next_refs != NIL)
	{
		take_next_refs(change);
		make_pending(change, false);
		return;
	}
	changeset_delete(lane->changes, change->key);
	lane->guard.waiting -= change->guarded;
	if (change->direct)
		pfree(change->direct);
	pfree(change->key);
	pfree(change);
	if (--lane->nchanges == 0)
		lane->max_read = 0;
}
