/*-------------------------------------------------------------------------
 *
 * lane.c
 *		The way of one watch's changes, or of one endpoint's direct upserts,
 *		from the queue to the provider.
 *
 * A lane reads the queue a window at a time, so its memory does not depend on
 * the backlog, and a lane that waits does not hold up another.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "utils/memutils.h"

#include "base/text.h"
#include "delivery/change_add.h"
#include "delivery/change_lock.h"
#include "delivery/departed.h"
#include "delivery/lane.h"
#include "delivery/related_change.h"
#include "store/queue.h"
#include "store/source_row.h"

/* Rows to read at a time before their size is known. */
#define FIRST_READ	50

/* What cannot be set aside looks again whether it still has to wait after (s). */
#define WAITING_PAUSE	1.0

/* A wait for a lock is told once it has lasted for (s), and until it is over, or it is
 * that long that nothing was heard of it. */
#define WAIT_UNTOLD		1.0
#define WAIT_TOLD_FOR	60.0

/*
 * Create a lane without changes in the current context.  The watch, NULL for
 * direct upserts, belongs to the lane from now on.
 */
CsLane *
cs_lane_create(struct CsAccount *account, int endpoint_id, CsWatch *watch, CsIdentityLocks *locks,
			   CsRoom *room)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync lane",
												  ALLOCSET_DEFAULT_SIZES);
	CsLane	   *lane = MemoryContextAllocZero(context, sizeof(CsLane));

	lane->account = account;
	lane->endpoint_id = endpoint_id;
	lane->watch_id = watch ? watch->id : 0;
	lane->watch = watch;
	if (watch)
		MemoryContextSetParent(watch->context, context);
	lane->context = context;
	lane->cursor.context = context;
	lane->cursor.position.id = PG_INT64_MIN;
	lane->read_size = FIRST_READ;
	cs_change_create_set(&lane->changes, lane, locks, room, context);
	lane->known_since = U64FromFullTransactionId(ReadNextFullTransactionId());
	if (watch)
		cs_departed_add_unknown(&lane->departed, context);
	cs_guard_create(&lane->guard, watch);
	lane->broken = lane->source_error = watch && watch->broken; /* until it can be read */
	return lane;
}

/* Release what is not in the lane's memory. */
void
cs_lane_close(CsLane *lane)
{
	if (lane->source)
		cs_source_row_close(lane->source);
	lane->source = NULL;
}

/* Replace markers of TRUNCATE by the keys that they stand for. */
static void
expand_markers(CsLane *lane, int n, const CsQueuePosition *markers)
{
	if (n == 0 || lane->watch == NULL)
		return;
	cs_queue_expand(lane->watch->endpoint, lane->watch_id,
					cs_change_active_keys(&lane->changes));
	cs_queue_delete(lane->watch->endpoint, lane->watch_id, n, markers);
	lane->exhausted = false;
}

static void
add_row(CsLane *lane, const CsQueueRow *row)
{
	uint64		xact = row->position.xact;
	int			newly_counted = lane->changes.newly_counted;

	/* the guard counts what a scan queued by the scan */
	cs_change_add_row(&lane->changes, row, xact < lane->unconfirmed_below,
					  xact >= lane->guard.released && xact != lane->scan_xact);
	/* what is read again did not arrive just now */
	if (xact < lane->reread_until.xact ||
		(xact == lane->reread_until.xact && row->position.id <= lane->reread_until.id))
		lane->changes.newly_counted = newly_counted;
}

/*
 * Changes that wait for a pull
 */

/*
 * Set an ACTIVE change aside until cs_lane_reread().  A change of which more is known
 * than can be found out again, such as that it may have been sent, stays in memory.
 */
void
cs_lane_set_aside(CsLane *lane, CsChange *change, double now)
{
	bool		known_later = !change->unconfirmed || cs_change_is_before(change, lane->unconfirmed_below);

	lane->has_set_aside = true;
	if (!known_later || (change->origins & CS_ORIGIN_TOLD) != 0)
		cs_change_postpone(change, now + WAITING_PAUSE, true);
	else
		cs_change_set_aside(change);
}

/* Read what was set aside. */
void
cs_lane_reread(CsLane *lane)
{
	lane->reread = lane->has_set_aside;
	if (lane->reread)
		lane->exhausted = false;
}

/* Have the queue read from its beginning, once nothing is to be deleted from it. */
static void
begin_again(CsLane *lane)
{
	if (!lane->reread || lane->outcomes != NULL)
		return;
	lane->reread = lane->has_set_aside = false;
	lane->reread_until = lane->cursor.position;
	lane->cursor.position.xact = 0;
	lane->cursor.position.id = PG_INT64_MIN;
	lane->cursor.nstragglers = 0;
}

/* How many more changes are read. */
static int
room_of(const CsLane *lane)
{
	return cs_change_room(&lane->changes, lane->needed) - cs_related_change_weight(lane->related);
}

/*
 * Read the queue until the window is full.  Needs what cs_queue_read() needs, in
 * a transaction that may write.
 */
void
cs_lane_load(CsLane *lane)
{
	int			room = room_of(lane);
	CsQueueRow *rows;
	CsQueuePosition *markers;
	int			nmarkers = 0;
	int			n;

	if (room <= 0)
		return;
	begin_again(lane);
	n = cs_queue_read(&lane->cursor, lane->endpoint_id, lane->watch_id, room, &rows);
	lane->exhausted = !lane->cursor.more && !lane->reread;
	markers = palloc((n + 1) * sizeof(CsQueuePosition));
	for (int i = 0; i < n; i++)
	{
		if (rows[i].related != 0)
			cs_related_change_add(&lane->related, lane->context, &rows[i]);
		else if (rows[i].nkeys == 0 && rows[i].contact == NULL)
			markers[nmarkers++] = rows[i].position;
		else
			add_row(lane, &rows[i]);
	}
	expand_markers(lane, nmarkers, markers);
	if (lane->exhausted && lane->related == NIL)
		cs_departed_queue_is_read(&lane->departed, &lane->changes);
}

/* Return the next change to be read, now ACTIVE, or NULL if none is due. */
CsChange *
cs_lane_next(CsLane *lane, double now)
{
	if (now < lane->not_before || lane->guard.closed || cs_budget_is_spent(lane->budget, now))
		return NULL;
	return cs_change_next(&lane->changes, now);
}

/* When there may be a change to read: "now", later, or DBL_MAX if none is known. */
double
cs_lane_ready_at(const CsLane *lane, double now)
{
	double		at;

	if (lane->paused || lane->guard.closed)
		return DBL_MAX;
	at = cs_change_ready_at(&lane->changes);
	if (at == 0 || (!lane->exhausted && room_of(lane) > 0))
		at = now;
	if (at == DBL_MAX)
		return at;
	at = Max(at, lane->not_before);
	return cs_budget_is_spent(lane->budget, at) ? lane->budget->not_before : at;
}

/* Is nothing in memory, and was nothing left in the queue? */
bool
cs_lane_is_empty(const CsLane *lane)
{
	return lane->changes.nchanges == 0 && lane->related == NIL && lane->exhausted && !lane->has_set_aside;
}

/*
 * Stop the watch until the given time, with its changes kept; other lanes go
 * on.
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
	cs_lane_let_go(lane);
}

/* The watch works again. */
void
cs_lane_repair(CsLane *lane)
{
	lane->broken_changed |= lane->broken;
	lane->broken = false;
}

/*
 * A lock or the like keeps the row with that key, or with NULL the whole table, from
 * being read, until the given time or longer.  A wait that is short is not told.
 */
void
cs_lane_wait(CsLane *lane, const char *key, const char *message, double now, double until)
{
	char	   *what = key ? psprintf("row %s has to wait: %s", cs_text_message_to_utf8(key), message) :
	psprintf("rows cannot be read for now: %s", message);

	if (lane->waiting_since == 0)
		lane->waiting_since = now;
	lane->waits_until = Max(lane->waits_until, until + WAIT_TOLD_FOR);
	lane->waits_for_table = key == NULL;
	if (now - lane->waiting_since < WAIT_UNTOLD ||
		(lane->waits_for && strcmp(lane->waits_for, what) == 0))
		return;
	if (lane->waits_for)
		pfree(lane->waits_for);
	lane->waits_for = MemoryContextStrdup(lane->context, what);
	lane->waiting_changed = true;
}

void
cs_lane_wait_is_over(CsLane *lane)
{
	if (lane->waits_for)
	{
		pfree(lane->waits_for);
		lane->waiting_changed = true;
	}
	lane->waits_for = NULL;
	lane->waits_for_table = false;
	lane->waiting_since = lane->waits_until = 0;
}

/*
 * Whether it waits for somebody
 */

/* Is nothing of the lane sent until somebody does something? */
bool
cs_lane_is_stopped(const CsLane *lane)
{
	return lane->paused || lane->broken || lane->guard.closed;
}

/*
 * If the lane is stopped, have its changes that are not in flight give up their
 * identity locks: another watch may have something to say of the same contact.
 */
void
cs_lane_let_go(CsLane *lane)
{
	if (cs_lane_is_stopped(lane))
		cs_change_release_pending(&lane->changes);
}

/*
 * Changes of definitions
 */

/*
 * Read the rows by another definition of the watch, which belongs to the lane from
 * now on.  The lane is closed.  What is in flight goes on.  If the provider refused
 * the watch as it was, that is tried again only if somebody altered it, which ends its
 * being stored as broken.
 */
void
cs_lane_use_watch(CsLane *lane, CsWatch *watch)
{
	CsGuard		before = lane->guard;

	MemoryContextDelete(lane->watch->context);
	MemoryContextSetParent(watch->context, lane->context);
	lane->watch = watch;
	if (lane->broken && !watch->broken && !lane->broken_changed)
	{
		lane->broken = false;
		lane->not_before = 0;
	}
	cs_guard_create(&lane->guard, watch);
	cs_guard_carry_over(&lane->guard, &before);
	if (before.closed)
		cs_change_forget_recent(&lane->changes);
	if (lane->guard.released != before.released)
		cs_change_recount(&lane->changes, lane->guard.released);
}

/* The server was changed: try again whatever was wrong. */
void
cs_lane_start_anew(CsLane *lane)
{
	lane->not_before = 0;
	lane->source_error |= lane->broken;
	cs_change_forget_recent(&lane->changes);
	if (lane->watch)
		cs_guard_create(&lane->guard, lane->watch);
}
