/*-------------------------------------------------------------------------
 *
 * scan_page.c
 *		One page of a scan: its rows are compared, and those that differ are
 *		queued.
 *
 * In one transaction the keys of rows that differ from what was last synced are
 * queued, and the scan moves to the last row.  From there on the keys are changes
 * like others, and everything that is promised of these holds; after a crash the
 * scan goes on where it was, and what it had queued is in the queue.
 *
 * The phases of a scan:
 *
 *		COUNTING	only where many contacts at once could set off mail: how
 *					many rows differ; the bulk guard may close the watch
 *		COMPARING	the rows, in the order of the key, or of poll_column
 *		MISSING		what was synced, in the order of the key: has its row gone?
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "delivery/row_contact.h"
#include "delivery/scan_page.h"
#include "store/queue.h"
#include "store/run_log.h"
#include "store/source_page.h"
#include "store/source_row.h"

/* Rows of a page: at first, and at most.  The latter take some 10 ms, during
 * which nothing else is done. */
#define FIRST_PAGE		100
#define MAX_PAGE		2000

/* With room for this many keys, rows that were never synced are queued unread. */
#define BULK_ROOM		500

/* While somebody else has the scan locked it is tried again after (s). */
#define PAUSE			1.0

static char *
copy(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* Make a scan of the lane, in a context of its own. */
CsScan *
cs_scan_page_make(CsLane *lane, const CsScanRow *row, double now)
{
	MemoryContext context = AllocSetContextCreate(lane->context, "contactsync scan",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CsScan	   *scan = palloc0(sizeof(CsScan));

	scan->context = context;
	scan->lane = lane;
	scan->row = *row;
	scan->row.position.key = copy(row->position.key);
	scan->row.position.value = copy(row->position.value);
	scan->row.watermark = copy(row->watermark);
	scan->row.since = copy(row->since);
	scan->row.filter = copy(row->filter);
	scan->page_size = FIRST_PAGE;
	if (row->rate > 0)
	{
		scan->pace.tokens = Max(row->rate, 1.0);
		cs_pace_set(&scan->pace, row->rate, scan->pace.tokens, now);
	}
	MemoryContextSwitchTo(old);
	return scan;
}

/* Free a scan that has ended here. */
void
cs_scan_page_free(CsScan *scan)
{
	(void) cs_scan_page_unprepare(scan);
	MemoryContextDelete(scan->context);
}

/*
 * Phases
 */

static bool
has_to_count(const CsScan *scan)
{
	return !scan->row.accepted &&
		cs_guard_risk(scan->lane->account->endpoint, scan->lane->watch) != NULL;
}

/* Begin a phase; a total of -1 leaves the total as it is. */
static void
begin_phase(CsScan *scan, CsScanPhase phase, int64 total)
{
	CsScanRow  *row = &scan->row;

	row->phase = phase;
	row->position.key = NULL;
	row->position.value = row->watermark ?
		MemoryContextStrdup(scan->context, row->watermark) : NULL;
	row->changes = 0;
	scan->page_size = FIRST_PAGE;
	cs_scan_store_begin_phase(row, total);
}

/* Does it matter whether rows that were synced have gone? */
static bool
looks_for_missing(const CsScan *scan)
{
	return scan->row.kind == CS_RECONCILE && scan->row.filter == NULL &&
		(scan->lane->watch->on_delete != CS_ON_DELETE_IGNORE || scan->lane->has_failures ||
		 scan->lane->account->has_remaining);
}

/*
 * The newest value of a round of polling, or now if that value is in the future:
 * rows that change from now on must not be older.  In UTC, as values are read.
 */
static char *
watermark_of(const CsScan *scan)
{
	const char *value = scan->row.position.value;
	Timestamp	now = GetCurrentTimestamp();
	Timestamp	newest;
	struct pg_tm tm;
	fsec_t		fsec;
	char		buffer[MAXDATELEN + 1];

	if (value == NULL)
		return NULL;
	newest = DatumGetTimestamp(DirectFunctionCall3(timestamp_in, CStringGetDatum(value),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (newest <= now)
		return pstrdup(value);
	if (timestamp2tm(now, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "timestamp out of range");
	EncodeDateTime(&tm, fsec, false, 0, NULL, USE_ISO_DATES, buffer);
	return pstrdup(buffer);
}

/* End a round of polling; the next one is due after poll_every. */
static void
end_round(CsScan *scan, double now)
{
	CsScanRow  *row = &scan->row;
	MemoryContext old = MemoryContextSwitchTo(scan->context);

	row->watermark = watermark_of(scan);
	MemoryContextSwitchTo(old);
	row->accepted = false;
	row->next_at = now + scan->lane->watch->poll_every;
	cs_scan_store_end_round(row->id);
	begin_phase(scan, CS_SCAN_COUNTING, -1);
}

/* Begin the next phase, or end the scan. */
static void
end_phase(CsScan *scan, double now)
{
	if (scan->row.phase == CS_SCAN_COUNTING)
		begin_phase(scan, CS_SCAN_COMPARING, -1);
	else if (scan->row.kind == CS_POLL)
		end_round(scan, now);
	else if (scan->row.phase == CS_SCAN_COMPARING && looks_for_missing(scan))
		begin_phase(scan, CS_SCAN_MISSING, cs_scan_store_total_known(scan->row.id));
	else
	{
		cs_scan_store_end(scan->row.id, NULL);
		scan->lane->watch->complete |= scan->row.filter == NULL;
		scan->over = true;
	}
}

/*
 * Lock the scan until the end of the transaction, and skip a phase that it does
 * not need.  Return false if it has ended or cannot go on now.
 */
bool
cs_scan_page_lock(CsScan *scan, double now)
{
	CsSqlScope	scope;
	CsScanLock	lock;

	cs_sql_enter(&scope);
	lock = cs_scan_store_lock(scan->row.id);
	if (lock == CS_SCAN_LOCKED && scan->row.kind == CS_POLL)
		cs_run_log_begin_scan(scan->row.id, NULL);
	if (lock == CS_SCAN_LOCKED && scan->row.phase == CS_SCAN_COUNTING && !has_to_count(scan))
		begin_phase(scan, CS_SCAN_COMPARING, -1);
	cs_sql_leave(&scope);
	scan->over = lock == CS_SCAN_ENDED;
	if (lock == CS_SCAN_BUSY)
		scan->not_before = now + PAUSE;
	return lock == CS_SCAN_LOCKED;
}

/*
 * Reading
 */

/* Prepare what the scan needs to read its rows, where it is not there yet. */
static void
prepare(CsScan *scan)
{
	CsLane	   *lane = scan->lane;
	CsPageOrder order = {.filter = scan->row.filter};
	MemoryContext old = MemoryContextSwitchTo(scan->context);

	if (scan->row.kind == CS_POLL)
	{
		order.column = lane->watch->poll_column;
		order.overlap = lane->watch->poll_overlap;
		order.since = scan->row.since;
	}
	if (lane->source == NULL)
		lane->source = cs_source_row_open(lane->watch);
	if (scan->pages == NULL)
		scan->pages = cs_source_page_open(lane->watch, &order);
	if (scan->presence == NULL)
		scan->presence = cs_row_contact_presence(lane->watch);
	if (scan->presence_source == NULL && scan->row.phase == CS_SCAN_MISSING)
		scan->presence_source = cs_source_row_open(scan->presence);
	MemoryContextSwitchTo(old);
}

/* Give up what was prepared.  Return whether anything was. */
bool
cs_scan_page_unprepare(CsScan *scan)
{
	bool		prepared = scan->pages != NULL || scan->presence_source != NULL;

	if (scan->pages)
		cs_source_page_close(scan->pages);
	if (scan->presence_source)
		cs_source_row_close(scan->presence_source);
	if (scan->presence)
		pfree(scan->presence);
	scan->pages = NULL;
	scan->presence_source = NULL;
	scan->presence = NULL;
	return prepared;
}

/* The next rows, or keys that were synced, after the scan's position. */
static int
next_rows(CsScan *scan, int limit, CsPagePosition *rows)
{
	char	  **keys;
	int			n;

	if (scan->row.phase != CS_SCAN_MISSING)
		return cs_source_page_next(scan->pages, &scan->row.position, limit, rows);
	keys = palloc(limit * sizeof(char *));
	n = cs_row_contact_next_known(scan->lane->watch,
								  scan->row.position.key ? scan->row.position.key : "", limit, keys);
	for (int i = 0; i < n; i++)
		rows[i] = (CsPagePosition)
	{
		.key = keys[i]
	};
	return n;
}

static CsComparison *
compare(const CsScanPage *page, int n, const CsPagePosition *rows)
{
	CsScan	   *scan = page->scan;
	CsLane	   *lane = scan->lane;
	CsComparer	comparer = {.watch = lane->watch,.endpoint = lane->account->endpoint,.source = lane->source};
	CsComparison *result = palloc(n * sizeof(CsComparison));
	char	  **keys = palloc(n * sizeof(char *));

	comparer.claims_all = scan->row.claims_all;
	comparer.has_failures = lane->has_failures;
	comparer.finds_missing_later = looks_for_missing(scan);
	comparer.assumes_new = scan->row.kind == CS_IMPORT && scan->row.rate == 0 && page->room >= BULK_ROOM;
	for (int i = 0; i < n; i++)
		keys[i] = rows[i].key;
	if (scan->row.phase == CS_SCAN_MISSING)
	{
		comparer.source = scan->presence_source;
		cs_row_contact_compare_known(&comparer, n, keys, result);
	}
	else
		cs_row_contact_compare(&comparer, n, keys, result);
	return result;
}

/*
 * Counting and queueing
 */

/* Count what could set off mail; if it is too much, close the watch. */
static void
count_page(CsScanPage *page, int n, const CsComparison *found)
{
	CsScanRow  *row = &page->scan->row;
	CsLane	   *lane = page->scan->lane;

	for (int i = 0; i < n; i++)
		row->changes += found[i].difference == CS_IS_NEW || found[i].difference == CS_IS_CHANGED;
	if (row->changes <= cs_guard_limit(lane->account->endpoint))
		return;
	cs_guard_close(&lane->guard, lane->account->endpoint, row->changes);
	cs_lane_let_go(lane);
}

/* Where the keys come from: what is polled has changed. */
static char
origin_of(const CsScan *scan)
{
	if (scan->row.kind == CS_POLL)
		return CS_QUEUE_CHANGE;
	return scan->row.claims_all ? CS_QUEUE_CLAIMS : CS_QUEUE_SCAN;
}

/* Queue keys, as many to a row as fit. */
static void
queue_keys(const CsLane *lane, int n, char **keys, char origin)
{
	CsQueueWriter *writer = cs_queue_begin_write(NULL);
	Size		size = 0;
	int			start = 0;

	for (int i = 0; i <= n; i++)
	{
		Size		key_size = i < n ? INTALIGN(VARHDRSZ + strlen(keys[i])) : 0;

		if (i > start && (i == n || size + key_size > CS_QUEUE_ROW_BYTES))
		{
			cs_queue_write(writer, lane->endpoint_id, lane->watch_id, i - start,
						   DatumGetArrayTypeP(cs_sql_make_text_array(i - start, keys + start)), NULL, origin);
			start = i;
			size = 0;
		}
		size += key_size;
	}
	cs_queue_end_write(writer);
}

/*
 * Queue the keys of rows that differ, until there is no room for another one.
 * Return how many of the rows are done.
 */
static int
queue_page(CsScanPage *page, int n, const CsPagePosition *rows, const CsComparison *found)
{
	CsLane	   *lane = page->scan->lane;
	char	  **keys = palloc(Min(n, page->room) * sizeof(char *));
	int			done;

	for (done = 0; done < n; done++)
	{
		if (found[done].pending && page->queued == page->room)
			break;
		/* rows that are still there were counted while COMPARING */
		if (found[done].pending || page->scan->row.phase != CS_SCAN_MISSING)
			page->step.found[found[done].difference]++;
		if (found[done].pending)
			keys[page->queued++] = rows[done].key;
	}
	if (page->queued > 0)
	{
		lane->scan_xact = U64FromFullTransactionId(GetTopFullTransactionId());
		queue_keys(lane, page->queued, keys, origin_of(page->scan));
		lane->exhausted = false;
	}
	return done;
}

/* Read more rows the next time, the fewer of them differ. */
static void
adapt_page_size(CsScanPage *page, int limit)
{
	CsScan	   *scan = page->scan;

	if (scan->row.phase == CS_SCAN_COUNTING || page->queued * 2 <= page->room)
		scan->page_size = Min(limit * 2, MAX_PAGE);
	else if (page->queued == page->room)
		scan->page_size = Max(Min(limit / 2, MAX_PAGE), Min(page->room, MAX_PAGE));
}

static void
move_to(CsScan *scan, const CsPagePosition *row)
{
	MemoryContext old = MemoryContextSwitchTo(scan->context);

	/* the caller frees the position before, once this one is stored */
	scan->row.position.value = row->value ? pstrdup(row->value) : NULL;
	scan->row.position.key = pstrdup(row->key);
	MemoryContextSwitchTo(old);
}

/*
 * Walk one CsScanPage.  To be called in a subtransaction, with the scan locked:
 * on an error the caller restores scan->row.
 */
void
cs_scan_page_walk(void *arg)
{
	CsScanPage *page = arg;
	CsScan	   *scan = page->scan;
	int			limit = Max(scan->page_size, 1);
	CsPagePosition *rows = palloc(limit * sizeof(CsPagePosition));
	CsComparison *found;
	CsSqlScope	scope;
	int			n;
	int			done;

	page->room = Min(page->room, MAX_PAGE);
	prepare(scan);
	n = next_rows(scan, limit, rows);
	found = compare(page, n, rows);
	done = n;
	if (scan->row.phase == CS_SCAN_COUNTING)
		count_page(page, n, found);
	else
		done = queue_page(page, n, rows, found);
	page->step.rows = done;
	page->ended = done == n && n < limit && !scan->lane->guard.closed;
	if (done > 0)
		move_to(scan, &rows[done - 1]);
	adapt_page_size(page, limit);
	cs_sql_enter(&scope);
	cs_scan_store_step(&scan->row, &page->step);
	if (page->ended)
		end_phase(scan, page->now);
	cs_sql_leave(&scope);
}
