/*-------------------------------------------------------------------------
 *
 * related.c
 *		Finding the rows of a source that use changed rows of related tables.
 *
 * What a transaction queues of a related table is which of its rows changed.  Which rows
 * of the source use these is found out here, by reading the source as the owner of the
 * watch, and each of them is queued as if that transaction had changed it: with its
 * number and its time, by which it is told what was said at the same moment, what was
 * said before what, and what contactsync_resume() has let go.
 *
 * A related row can be used by a million rows.  They are found in the order of their
 * keys, a page at a time: in one transaction the keys of a page are queued, and the
 * related change is replaced by one that continues after the last of them.  The first
 * page is small, and done when the change is read; the others wait, like the pages of a
 * scan, until no live change can be sent.  Keys are read ahead of that, because where
 * the rows have to be sorted, each reading costs as much as all of them.
 *
 * The queue has been read beyond that transaction, so what is queued here is also added
 * to the changes in memory.  What is sent must not be undone by a crash: the commit
 * waits for the disk.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "access/xact.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/change_add.h"
#include "delivery/related.h"
#include "delivery/related_change.h"
#include "store/related_source.h"
#include "store/source_page.h"

/* Rows that are queued at once when a change is read, and at most later; and keys that
 * are read at a time. */
#define SMALL_PAGE		100
#define MAX_PAGE		2000
#define READ_PAGE		5000

/* Related changes that are looked at when the queue is read. */
#define MAX_SMALL		20

/* After an error that passes by itself it is tried again after (s), and after each
 * timeout later. */
#define PAUSE			1.0
#define TIMEOUT_PAUSE	5.0
#define MAX_PAUSE		300.0

/* One step, in a subtransaction. */
typedef struct CsResolveStep
{
	CsLane	   *lane;
	CsRelatedChange *change;
	const CsRelated *related;	/* NULL: every row that is known */
	int			limit;			/* keys to be queued */
	int			read_limit;		/* ... and to be read */
	int			n;				/* keys that were queued */
	int			nfound;			/* ... and all that are known to follow */
	char	  **found;
	bool		all;			/* there are no more */
	List	   *queued;			/* of CsQueueRow: what was written */
	CsQueuePosition rest;		/* of what is left, unless it has ended */
} CsResolveStep;

static bool
has_ended(const CsResolveStep *step)
{
	return step->all && step->n == step->nfound;
}

static const CsRelated *
find_related(const CsWatch *watch, int id)
{
	ListCell   *lc;

	foreach(lc, watch->related)
		if (((CsRelated *) lfirst(lc))->id == id)
		return lfirst(lc);
	return NULL;
}

/*
 * One page
 */

/* Find the keys that follow the cursor, unless they are known. */
static void
find_keys(CsResolveStep *step)
{
	const CsRelatedChange *change = step->change;
	CsPageOrder order = {0};
	CsPagePosition after = {NULL, change->cursor};
	CsPagePosition *rows;
	const CsWatch *watch;
	CsPages    *pages;

	if (change->nahead > 0 || change->all_ahead)
	{
		step->found = change->ahead;
		step->nfound = change->nahead;
		step->all = change->all_ahead;
		return;
	}
	watch = cs_related_source_watch(step->lane->watch, step->related);
	order.filter = cs_related_source_condition(watch, step->related, change->nkeys, change->keys);
	pages = cs_source_page_open(watch, &order);
	rows = palloc(step->read_limit * sizeof(CsPagePosition));
	step->nfound = cs_source_page_next(pages, &after, step->read_limit, rows);
	cs_source_page_close(pages);
	step->all = step->nfound < step->read_limit;
	step->found = palloc(Max(step->nfound, 1) * sizeof(char *));
	for (int i = 0; i < step->nfound; i++)
		step->found[i] = rows[i].key;
}

static CsQueueEntry
make_entry(const CsResolveStep *step)
{
	CsQueueEntry entry = {.endpoint = step->lane->endpoint_id,.watch = step->lane->watch_id};

	entry.xact = step->change->position.xact;
	entry.queued_at = step->change->queued_at;
	return entry;
}

/* Write a row of the queue, and keep what it is. */
static void
write_row(CsResolveStep *step, CsQueueWriter *writer, int n, char **keys)
{
	CsQueueEntry entry = make_entry(step);
	CsQueueRow *row = palloc0(sizeof(CsQueueRow));

	entry.n = row->nkeys = n;
	entry.keys = DatumGetArrayTypeP(cs_sql_make_text_array(n, keys));
	row->keys = keys;
	row->position.xact = entry.xact;
	row->queued_at = entry.queued_at;
	row->position.id = cs_queue_write_row(writer, &entry);
	step->queued = lappend(step->queued, row);
}

/* Queue the first keys that were found, as many to a row as fit. */
static void
write_found(CsResolveStep *step, CsQueueWriter *writer)
{
	Size		size = 0;
	int			start = 0;

	step->n = Min(step->nfound, step->limit);
	for (int i = 0; i <= step->n; i++)
	{
		Size		key_size = i < step->n ? INTALIGN(VARHDRSZ + strlen(step->found[i])) : 0;

		if (i > start && (i == step->n || size + key_size > CS_QUEUE_ROW_BYTES))
		{
			write_row(step, writer, i - start, step->found + start);
			start = i;
			size = 0;
		}
		size += key_size;
	}
}

/* Queue what is left of the related change. */
static void
write_rest(CsResolveStep *step, CsQueueWriter *writer)
{
	const CsRelatedChange *change = step->change;
	CsQueueEntry entry = make_entry(step);

	entry.related = change->related;
	entry.n = change->nkeys;
	entry.keys = change->nkeys > 0 ? DatumGetArrayTypeP(cs_sql_make_text_array(change->nkeys, change->keys)) : NULL;
	entry.cursor = step->found[step->n - 1];
	step->rest.xact = entry.xact;
	step->rest.id = cs_queue_write_row(writer, &entry);
}

static void
delete_change(const CsResolveStep *step)
{
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_queue_delete(step->lane->endpoint_id, step->lane->watch_id, 1, &step->change->position);
	cs_sql_leave(&scope);
}

static void
resolve(void *arg)
{
	CsResolveStep *step = arg;
	CsQueueWriter *writer;

	find_keys(step);
	writer = cs_queue_begin_write(NULL);
	if (writer == NULL)
		elog(ERROR, "table contactsync.queue does not exist");
	write_found(step, writer);
	if (!has_ended(step))
		write_rest(step, writer);
	cs_queue_end_write(writer);
	delete_change(step);
}

/*
 * It cannot be told which rows use it: the watch is not related to the table any more, or
 * a column is of another type since.  Look at all that are known.
 */
static void
resolve_to_all(void *arg)
{
	CsResolveStep *step = arg;
	CsLane	   *lane = step->lane;
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_queue_expand(lane->endpoint_id, lane->watch_id, cs_change_active_keys(&lane->changes));
	cs_queue_delete(lane->endpoint_id, lane->watch_id, 1, &step->change->position);
	cs_sql_leave(&scope);
	step->all = true;
	lane->exhausted = false;
}

/*
 * Taking over what was done
 */

/* In the changes of the lane as well, of which the guard counts what it would count of
 * changes of that transaction. */
static void
take_over(CsResolveStep *step)
{
	CsLane	   *lane = step->lane;
	ListCell   *lc;

	foreach(lc, step->queued)
	{
		const CsQueueRow *row = lfirst(lc);

		cs_change_add_row(&lane->changes, row, false, row->position.xact >= lane->guard.released);
	}
	if (has_ended(step))
		cs_related_change_remove(&lane->related, step->change);
	else
		cs_related_change_advance(step->change, lane->context, step->rest, step->n, step->found, step->nfound, step->all);
	/* what waited for this goes on when the queue is read */
	lane->exhausted &= lane->related != NIL;
	ForceSyncCommit();
}

/* What reads the source fails, and no row is at fault: wait, or break the lane. */
static void
handle_error(CsResolveStep *step, CsTryResult result, const ErrorData *error, double now)
{
	CsLane	   *lane = step->lane;
	CsRelatedChange *change = step->change;
	const char *message = cs_text_message_to_utf8(error->message);

	change->pause = result == CS_TRY_TIMEOUT ? Min(Max(change->pause * 2, TIMEOUT_PAUSE), MAX_PAUSE) : PAUSE;
	change->not_before = now + change->pause;
	if (result == CS_TRY_TIMEOUT && step->related)
		message = psprintf("finding those that use table \"%s\" took longer than contactsync.source_timeout; an index on the column that refers to it may help",
						   cs_text_message_to_utf8(step->related->name));
	if (result == CS_TRY_LATER || result == CS_TRY_TIMEOUT)
	{
		cs_lane_wait(lane, NULL, message, now, change->not_before);
		return;
	}
	cs_lane_break(lane, message, now + cs_probe_interval);
	lane->source_error = true;
	cs_lane_close(lane);
}

/*
 * Take one step with a change: queue so many rows, of those that are read.  Return how
 * many were queued, or -1 after an error.
 */
static int
take_step(CsLane *lane, CsRelatedChange *change, int limit, int read_limit, double now)
{
	CsResolveStep step = {.lane = lane,.change = change,.limit = Max(limit, 1),.read_limit = Max(read_limit, limit) + 1};
	CsTryResult result = CS_TRY_ROW_ERROR;
	ErrorData  *error;

	step.related = find_related(lane->watch, change->related);
	change->tried = true;
	if (step.related)
		result = cs_try(resolve, &step, NULL, &error);
	if (result == CS_TRY_ROW_ERROR)
	{
		step.n = step.nfound = 0;
		step.queued = NIL;
		result = cs_try(resolve_to_all, &step, NULL, &error);
	}
	cs_budget_charge(lane->budget);
	if (result != CS_TRY_OK)
	{
		handle_error(&step, result, error, now);
		return -1;
	}
	take_over(&step);
	return step.n;
}

double
cs_related_ready_at(const CsLane *lane, double now)
{
	double		at = DBL_MAX;
	ListCell   *lc;

	foreach(lc, lane->related)
		at = Min(at, Max(now, ((CsRelatedChange *) lfirst(lc))->not_before));
	return at;
}

/* Can related changes of the lane be looked at? */
static bool
is_ready(const CsLane *lane, double now)
{
	return !cs_lane_is_stopped(lane) && now >= lane->not_before && !cs_budget_is_spent(lane->budget, now);
}

/* The guard has to see so many rows together that it sees that they are too many. */
static int
limit_for(const CsLane *lane, int room)
{
	return Max(Min(room, MAX_PAGE), lane->needed);
}

void
cs_related_resolve_small(CsLane *lane, double now)
{
	List	   *changes = list_copy(lane->related);
	int			n = 0;
	ListCell   *lc;

	foreach(lc, changes)
	{
		CsRelatedChange *change = lfirst(lc);

		if (!is_ready(lane, now) || n >= MAX_SMALL || cs_change_room(&lane->changes, lane->needed) < SMALL_PAGE)
			return;
		if (change->tried)
			continue;
		n++;
		if (take_step(lane, change, limit_for(lane, SMALL_PAGE), 0, now) < 0)
			return;
	}
}

int
cs_related_resolve(CsLane *lane, int room, double now)
{
	int			n = 0;
	ListCell   *lc;

	if (!is_ready(lane, now))
		return 0;
	foreach(lc, lane->related)
	{
		CsRelatedChange *change = lfirst(lc);

		if (change->not_before > now)
			continue;
		n = take_step(lane, change, limit_for(lane, room), READ_PAGE, now);
		break;
	}
	/* the guard looks at what came when the queue is read */
	lane->exhausted = false;
	return Max(n, 0);
}
