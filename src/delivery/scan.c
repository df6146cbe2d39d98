/*-------------------------------------------------------------------------
 *
 * scan.c
 *		Imports, reconciliations and polling: walks over a whole source.
 *
 * A scan walks the source page by page (scan_page.c).  Live changes come first:
 * a scan is asked for keys only when nothing else of its account can be sent and
 * the provider would take more, and for no more than can be sent at once.  So a
 * change that is made meanwhile waits behind few, however large the table is.  So it
 * is with rows that use a changed row of a related table (related.c), if they are many;
 * these come before scans.
 *
 * Everything in memory can be made again from contactsync.scan (scan_store.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "nodes/pg_list.h"

#include "base/clock.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/related.h"
#include "delivery/scan.h"
#include "delivery/scan_page.h"
#include "store/source_page.h"

/* After an error that passes by itself, a scan is tried again after (s). */
#define PAUSE			1.0

/* A page that took too long is tried again with this fraction of its rows. */
#define TIMEOUT_DIVISOR	16

/*
 * The scans of a lane
 */

static void
add_scan(CsLane *lane, const CsScanRow *row, double now)
{
	CsScan	   *scan = cs_scan_page_make(lane, row, now);
	MemoryContext old = MemoryContextSwitchTo(lane->context);

	lane->scans = lappend(lane->scans, scan);
	MemoryContextSwitchTo(old);
}

/* Is there an import or a reconciliation?  Only one at a time runs. */
bool
cs_scan_is_walking(const CsLane *lane)
{
	ListCell   *lc;

	foreach(lc, lane->scans)
		if (((CsScan *) lfirst(lc))->row.kind != CS_POLL)
		return true;
	return false;
}

static CsScanRow *
find_row(const List *rows, int id)
{
	ListCell   *lc;

	foreach(lc, rows)
		if (((CsScanRow *) lfirst(lc))->id == id)
		return lfirst(lc);
	return NULL;
}

/* End the scans that have ended, or were cancelled, and take over what was said of
 * the others. */
static void
keep_running(CsLane *lane, List **rows)
{
	ListCell   *lc;

	foreach(lc, lane->scans)
	{
		CsScan	   *scan = lfirst(lc);
		CsScanRow  *row = find_row(*rows, scan->row.id);

		if (row == NULL)
		{
			lane->scans = foreach_delete_current(lane->scans, lc);
			cs_scan_page_free(scan);
			continue;
		}
		scan->row.accepted |= row->accepted;
		*rows = list_delete_ptr(*rows, row);
	}
}

/*
 * Load the scans of the lane's watch that are running; those that are loaded go on.
 * "changed": the watch is another one now.  Within cs_sql_enter().
 */
void
cs_scan_load(CsLane *lane, bool changed)
{
	ListCell   *lc;
	List	   *rows;

	if (lane->watch == NULL)
		return;
	foreach(lc, lane->scans)
		(void) cs_scan_page_unprepare(lfirst(lc));
	rows = cs_scan_store_load(lane->endpoint_id, lane->watch_id);
	keep_running(lane, &rows);
	foreach(lc, rows)
		add_scan(lane, lfirst(lc), cs_clock_now());
	if (changed)
		lane->reconcile_at = cs_clock_of_stored(lane->watch->reconcile_next);
}

/* Release what is not in the lane's memory. */
void
cs_scan_close(CsLane *lane)
{
	ListCell   *lc;

	foreach(lc, lane->scans)
		cs_scan_page_free(lfirst(lc));
	list_free(lane->scans);
	lane->scans = NIL;
}

/* Make the next round of polling due now. */
void
cs_scan_poll_now(CsLane *lane)
{
	ListCell   *lc;

	foreach(lc, lane->scans)
		((CsScan *) lfirst(lc))->row.next_at = 0;
}

/*
 * When something can be done
 */

/* When the send_window of the server is open: "now", or later. */
static double
window_opens_at(const CsLane *lane, double now)
{
	const CsEndpoint *endpoint = lane->account->endpoint;

	if (endpoint == NULL || !endpoint->send_window.given)
		return now;
	return now + cs_window_opens_in(&endpoint->send_window,
									(pg_time_t) cs_clock_unix(cs_clock_timestamp(now)));
}

/* Is there a scan, or a round of polling, that will end by itself?  One that waits for the
 * send_window is not waited for. */
static bool
is_under_way(const CsLane *lane, double now)
{
	bool		open = window_opens_at(lane, now) <= now;
	ListCell   *lc;

	foreach(lc, lane->scans)
	{
		const CsScan *scan = lfirst(lc);

		if (scan->row.kind == CS_POLL ? scan->row.next_at <= now : open)
			return true;
	}
	return open && lane->reconcile_at > 0 && lane->reconcile_at <= now;
}

/* Polling is how changes are noticed, so the send_window does not concern it. */
static double
scan_ready_at(const CsScan *scan, double now)
{
	double		at = Max(now, scan->not_before);

	if (scan->row.kind == CS_POLL)
		at = Max(at, scan->row.next_at);
	else
		at = Max(at, window_opens_at(scan->lane, now));
	if (scan->row.rate > 0)
		at = Max(at, cs_pace_ready_at(&scan->pace, now));
	return at;
}

/* DBL_MAX: the lane has neither a scan nor a related change that could go on. */
static double
lane_ready_at(const CsLane *lane, double now)
{
	double		at = DBL_MAX;
	ListCell   *lc;

	if (lane->paused || lane->guard.closed)
		return DBL_MAX;
	at = cs_related_ready_at(lane, now);
	foreach(lc, lane->scans)
		at = Min(at, scan_ready_at(lfirst(lc), now));
	if (lane->reconcile_at > 0 && !cs_scan_is_walking(lane))
		at = Min(at, Max(window_opens_at(lane, now), lane->reconcile_at));
	if (at == DBL_MAX)
		return at;
	at = Max(at, lane->not_before);
	return cs_budget_is_spent(lane->budget, at) ? lane->budget->not_before : at;
}

/* When a scan of the account can go on: "now", later, or DBL_MAX for never. */
double
cs_scan_ready_at(const CsAccount *account, double now)
{
	double		at = DBL_MAX;
	ListCell   *lc;

	foreach(lc, account->lanes)
		at = Min(at, lane_ready_at(lfirst(lc), now));
	return at;
}

/*
 * Running
 */

/* Begin a reconciliation that is due. */
static void
begin_reconcile(CsLane *lane, double now)
{
	CsSqlScope	scope;
	CsScanRow	row = {.kind = CS_RECONCILE,.phase = CS_SCAN_COUNTING};
	CsPages    *pages;
	CsPageOrder order = {0};
	int64		total;

	pages = cs_source_page_open(lane->watch, &order);
	total = cs_source_page_estimate(pages);
	cs_source_page_close(pages);
	cs_sql_enter(&scope);
	lane->reconcile_at = cs_scan_store_next_reconcile(lane->watch_id, now);
	row.id = cs_scan_store_create(lane->watch, CS_RECONCILE, NULL, 0, NULL,
								  lane->watch->claims_all ? "all" : "new", total, NULL);
	cs_sql_leave(&scope);
	if (row.id > 0)
		add_scan(lane, &row, now);
}

typedef struct CsBeginJob
{
	CsLane	   *lane;
	double		now;
} CsBeginJob;

static void
try_to_begin(void *arg)
{
	CsBeginJob *job = arg;

	begin_reconcile(job->lane, job->now);
}

/* Break the lane until the next try. */
static void
break_lane(CsLane *lane, const ErrorData *error, double now)
{
	cs_lane_break(lane, cs_text_message_to_utf8(error->message), now + cs_probe_interval);
	lane->source_error = true;
}

static void
begin_if_due(CsLane *lane, double now)
{
	CsBeginJob	job = {lane, now};
	ErrorData  *error;

	if (lane->reconcile_at <= 0 || lane->reconcile_at > now || cs_scan_is_walking(lane) ||
		window_opens_at(lane, now) > now)
		return;
	switch (cs_try(try_to_begin, &job, NULL, &error))
	{
		case CS_TRY_OK:
			break;
		case CS_TRY_LATER:
			lane->reconcile_at = now + PAUSE;
			break;
		default:
			lane->reconcile_at = now + cs_probe_interval;
			break_lane(lane, error, now);
	}
}

/*
 * Have the scan wait after an error.  What was prepared may not fit a table that
 * was changed, so prepare it again first; only if that fails as well, break the
 * lane.
 */
static void
handle_error(CsScan *scan, CsTryResult result, const ErrorData *error, double now)
{
	CsLane	   *lane = scan->lane;
	bool		was_prepared = (cs_scan_page_unprepare(scan) || lane->source != NULL) && !scan->prepared_again;

	scan->not_before = now + PAUSE;
	if (result == CS_TRY_LATER)
		cs_lane_wait(lane, NULL, cs_text_message_to_utf8(error->message), now, scan->not_before);
	if (result == CS_TRY_LATER || (result == CS_TRY_TIMEOUT && scan->page_size > 1))
	{
		scan->page_size = Max(scan->page_size / TIMEOUT_DIVISOR, 1);
		return;
	}
	cs_lane_close(lane);
	scan->prepared_again = result == CS_TRY_BROKEN && was_prepared;
	if (scan->prepared_again)
		scan->not_before = now;
	else
		break_lane(lane, error, now);
}

/* End the scan before it has come to its end. */
static void
fail_scan(CsScan *scan, const char *reason)
{
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_scan_store_end(scan->row.id, reason);
	cs_sql_leave(&scope);
	scan->over = true;
}

static void
free_position(const CsPagePosition *position, const CsPagePosition *now)
{
	if (position->key && position->key != now->key)
		pfree(position->key);
	if (position->value && position->value != now->value)
		pfree(position->value);
}

/* Walk one page of the scan, if it is still running.  Return how many keys were
 * queued. */
static int
run_scan(CsScan *scan, int room, double now)
{
	CsScanPage	page = {.scan = scan,.room = room,.now = now};
	CsScanRow	before;
	CsTryResult result;
	ErrorData  *error;

	if (!cs_scan_page_lock(scan, now))
		return 0;
	if (scan->row.rate > 0)
		page.room = Min(page.room, cs_pace_available(&scan->pace, now));
	before = scan->row;
	result = cs_try(cs_scan_page_walk, &page, NULL, &error);
	if (result != CS_TRY_OK)
	{
		scan->row = before;
		scan->over = false;
		/* the filter of a scan is not part of the watch */
		if (result == CS_TRY_ROW_ERROR && scan->row.filter)
			fail_scan(scan, cs_text_message_to_utf8(error->message));
		else
			handle_error(scan, result, error, now);
		return 0;
	}
	scan->prepared_again = false;
	free_position(&before.position, &scan->row.position);
	if (before.watermark && before.watermark != scan->row.watermark)
		pfree(before.watermark);
	for (int i = 0; i < page.queued && scan->row.rate > 0; i++)
		cs_pace_take(&scan->pace, now);
	if (scan->lane->source_error)
	{
		scan->lane->source_error = false;
		cs_lane_repair(scan->lane);
	}
	return page.queued;
}

static int
run_lane(CsLane *lane, int room, double now)
{
	CsScan	   *scan = NULL;
	ListCell   *lc;
	int			queued;

	if (cs_related_ready_at(lane, now) <= now)
		return cs_related_resolve(lane, room, now);
	begin_if_due(lane, now);
	foreach(lc, lane->scans)
	{
		scan = lfirst(lc);
		if (scan_ready_at(scan, now) <= now)
			break;
	}
	if (lc == NULL || now < lane->not_before)
		return 0;
	queued = run_scan(scan, room, now);
	cs_budget_charge(lane->budget);
	if (scan->over)
	{
		lane->scans = list_delete_ptr(lane->scans, scan);
		cs_scan_page_free(scan);
	}
	return queued;
}

/*
 * How many keys a scan may add to a lane: as many as that many calls can carry,
 * less what waits there already, whatever it waits for.
 */
static int
room_for_scan(const CsAccount *account, const CsLane *lane, int calls)
{
	int			most = Min(2 * account->endpoint->concurrency * account->endpoint->batch_size,
						   cs_max_pending / 2);

	return Min(calls * account->endpoint->batch_size, most - lane->changes.nchanges);
}

/*
 * Have scans of the account queue what that many calls can carry: one page of
 * each lane that can go on.  Return whether anything was queued.
 *
 * Needs a transaction that may write, with an active snapshot, and a current
 * context that is reset after it.
 */
bool
cs_scan_run(CsAccount *account, int calls, double now)
{
	bool		queued = false;
	ListCell   *lc;

	if (account->endpoint == NULL)
		return false;
	foreach(lc, account->lanes)
	{
		CsLane	   *lane = lfirst(lc);
		int			room = room_for_scan(account, lane, calls);

		if (room > 0 && lane_ready_at(lane, now) <= now)
			queued |= run_lane(lane, room, now) > 0;
	}
	return queued;
}

/* Has the lane something to do that it can do by itself? */
bool
cs_scan_lane_has_work(const CsLane *lane, double now)
{
	return !lane->paused && !lane->broken && !lane->guard.closed &&
		(!cs_lane_is_empty(lane) || is_under_way(lane, now));
}
