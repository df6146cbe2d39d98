/*-------------------------------------------------------------------------
 *
 * scan.c
 *		Imports, reconciliations and polling: walks over a whole source.
 *
 * A scan reads a page of keys, compares their rows with what was last synced,
 * and queues the keys of those that differ, in one transaction with the place
 * that it has come to.  From there on they are changes like others, so all that
 * is promised of these holds; after a crash the scan goes on where it was, and
 * what it had queued is in the queue.
 *
 * Live changes come first: a scan is asked for keys only when nothing else of
 * its account can be sent and the provider would take more, and for no more
 * than can be sent at once.  So a change that is made meanwhile waits behind
 * few, however large the table is.
 *
 *		COUNTING	only where many contacts at once could set off mail: how
 *					many rows differ; if too many, guard.c holds the watch
 *		COMPARING	the rows, in the order of the key (or of poll_column)
 *		MISSING		what is known, in the order of the key: has its row gone?
 *
 * All that is kept in memory can be made anew from contactsync.scan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/try.h"
#include "delivery/account.h"
#include "delivery/guard.h"
#include "delivery/pace.h"
#include "delivery/scan.h"
#include "delivery/scan_store.h"
#include "store/queue.h"
#include "store/source_page.h"
#include "store/source_row.h"

/* Rows of a page: at first, and at most.  The latter take some 10 ms, for which
 * nothing else is done. */
#define FIRST_PAGE		100
#define MAX_PAGE		2000

/* With room for so many, what is not known is not worth reading twice. */
#define BULK_ROOM		500

/* After a fault that passes by itself, or while somebody cancels it (s). */
#define PAUSE			1.0

/* A page that took too long is tried again with so much less of it. */
#define TIMEOUT_DIVISOR	16

typedef struct CsScan
{
	CsScanRow	row;
	CsLane	   *lane;
	CsPace		pace;			/* by row.rate */
	double		not_before;
	int			page_size;
	CsPages    *pages;			/* NULL until it is first walked */
	CsWatch    *presence;		/* for MISSING, likewise */
	CsSource   *presence_source;
	bool		anew;			/* prepared so after a fault that may have
								 * been due to a change of the table */
	bool		over;
} CsScan;

/* What one page is worked on with. */
typedef struct CsPageJob
{
	CsScan	   *scan;
	int			room;			/* keys that may be queued */
	double		now;
	CsScanStep	step;
	int			queued;
	bool		ended;			/* the phase has */
} CsPageJob;

/*
 * The scans of a lane
 */

static void
add_scan(CsLane *lane, const CsScanRow *row, double now)
{
	MemoryContext old = MemoryContextSwitchTo(lane->context);
	CsScan	   *scan = palloc0(sizeof(CsScan));

	scan->row = *row;
	scan->lane = lane;
	scan->page_size = FIRST_PAGE;
	if (row->rate > 0)
		cs_pace_set(&scan->pace, row->rate, Max(row->rate, 1.0), now);
	lane->scans = lappend(lane->scans, scan);
	MemoryContextSwitchTo(old);
}

void
cs_scan_load(CsLane *lane)
{
	ListCell   *lc;
	List	   *rows;

	if (lane->watch == NULL)
		return;
	MemoryContextSwitchTo(lane->context);
	rows = cs_scan_store_load(lane->endpoint_id, lane->watch_id);
	foreach(lc, rows)
		add_scan(lane, lfirst(lc), cs_clock_now());
	lane->reconcile_at = lane->watch->reconcile_next;
}

/* Effect: what was prepared is not, and will be again when it is needed.
 * Returns whether there was anything. */
static bool
unprepare(CsScan *scan)
{
	bool		prepared = scan->pages != NULL || scan->presence_source != NULL;

	if (scan->pages)
		cs_source_page_close(scan->pages);
	if (scan->presence_source)
		cs_source_row_close(scan->presence_source);
	scan->pages = NULL;
	scan->presence_source = NULL;
	return prepared;
}

void
cs_scan_close(CsLane *lane)
{
	ListCell   *lc;

	foreach(lc, lane->scans)
		unprepare(lfirst(lc));
	lane->scans = NIL;
}

void
cs_scan_poll_now(CsLane *lane)
{
	ListCell   *lc;

	foreach(lc, lane->scans)
		((CsScan *) lfirst(lc))->row.next_at = 0;
}

/* Is there one that will end?  One at a time runs. */
static bool
has_walk(const CsLane *lane)
{
	ListCell   *lc;

	foreach(lc, lane->scans)
		if (((CsScan *) lfirst(lc))->row.kind != CS_POLL)
		return true;
	return false;
}

/* When the scan could go on. */
static double
ready_at(CsScan *scan, double now)
{
	double		at = Max(now, scan->not_before);

	if (scan->row.kind == CS_POLL)
		at = Max(at, scan->row.next_at);
	if (scan->row.rate > 0)
		at = Max(at, cs_pace_ready_at(&scan->pace, now));
	return at;
}

double
cs_scan_ready_at(CsLane *lane, double now)
{
	double		at = DBL_MAX;
	ListCell   *lc;

	if (lane->paused || lane->guard.closed)
		return DBL_MAX;
	foreach(lc, lane->scans)
		at = Min(at, ready_at(lfirst(lc), now));
	if (lane->reconcile_at > 0 && !has_walk(lane))
		at = Min(at, Max(now, lane->reconcile_at));
	return at == DBL_MAX ? at : Max(at, lane->not_before);
}

bool
cs_scan_is_under_way(const CsLane *lane, double now)
{
	ListCell   *lc;

	foreach(lc, lane->scans)
	{
		const CsScan *scan = lfirst(lc);

		if (scan->row.kind != CS_POLL || scan->row.next_at <= now)
			return true;
	}
	return lane->reconcile_at > 0 && lane->reconcile_at <= now;
}

/*
 * Phases
 */

static bool
has_to_count(const CsScan *scan)
{
	return !scan->row.accepted && cs_guard_risk(scan->lane) != NULL;
}

/* Effect: the phase begins; -1: the total is as before. */
static void
begin_phase(CsScan *scan, CsScanPhase phase, int64 total)
{
	CsScanRow  *row = &scan->row;

	row->phase = phase;
	row->position.key = NULL;
	row->position.value = row->watermark ?
		MemoryContextStrdup(scan->lane->context, row->watermark) : NULL;
	row->changes = 0;
	scan->page_size = FIRST_PAGE;
	cs_scan_store_begin_phase(row, total);
}

/* Is there something to be removed, or forgotten, should a row have gone? */
static bool
looks_for_missing(const CsScan *scan)
{
	return scan->row.kind == CS_RECONCILE && scan->row.filter == NULL &&
		(scan->lane->watch->on_delete != CS_ON_DELETE_IGNORE || scan->lane->has_failures);
}

/*
 * The newest value of the round, or now if it says that it is yet to come: rows
 * that change from now on must not be older.  In UTC, as values are read.
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

/* Effect: one that polls waits for its next round. */
static void
end_round(CsScan *scan, double now)
{
	CsScanRow  *row = &scan->row;
	MemoryContext old = MemoryContextSwitchTo(scan->lane->context);

	row->watermark = watermark_of(scan);
	MemoryContextSwitchTo(old);
	row->accepted = false;
	row->next_at = now + scan->lane->watch->poll_every;
	begin_phase(scan, CS_SCAN_COUNTING, -1);
}

/* Effect: the phase is over; the next one begins, or the scan is over. */
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
		scan->over = true;
	}
}

/*
 * Pages
 */

/* Effect: what the scan needs to walk is prepared. */
static void
prepare(CsScan *scan)
{
	CsLane	   *lane = scan->lane;
	CsPageOrder order = {.filter = scan->row.filter};
	MemoryContext old = MemoryContextSwitchTo(lane->context);

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

/* The next rows, or known keys, after where the scan is. */
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
compare(const CsPageJob *job, int n, const CsPagePosition *rows)
{
	CsScan	   *scan = job->scan;
	CsLane	   *lane = scan->lane;
	CsComparer	comparer = {.watch = lane->watch,.endpoint = lane->account->endpoint,.source = lane->source};
	CsComparison *result = palloc(n * sizeof(CsComparison));
	char	  **keys = palloc(n * sizeof(char *));

	comparer.has_direct = lane->account->has_direct;
	comparer.has_failures = lane->has_failures;
	comparer.looks_later = looks_for_missing(scan);
	comparer.trusting = scan->row.kind == CS_IMPORT && scan->row.rate == 0 && job->room >= BULK_ROOM;
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

/* Effect: the keys are queued, many a row. */
static void
queue_keys(const CsLane *lane, int n, char **keys)
{
	Datum	   *elements = palloc(n * sizeof(Datum));
	CsQueueWriter *writer = cs_queue_begin_write(NULL);
	Size		size = 0;
	int			start = 0;

	for (int i = 0; i <= n; i++)
	{
		Size		key_size = i < n ? INTALIGN(VARHDRSZ + strlen(keys[i])) : 0;

		if (i > start && (i == n || size + key_size > CS_QUEUE_ROW_BYTES))
		{
			cs_queue_write(writer, lane->endpoint_id, lane->watch_id, i - start,
						   construct_array(elements + start, i - start, TEXTOID, -1, false, TYPALIGN_INT), NULL);
			start = i;
			size = 0;
		}
		if (i < n)
			elements[i] = CStringGetTextDatum(keys[i]);
		size += key_size;
	}
	cs_queue_end_write(writer);
}

/*
 * Effect: keys that differ are queued until there is no room for another.
 * Returns how many of the rows are done.
 */
static int
queue_page(CsPageJob *job, int n, const CsPagePosition *rows, const CsComparison *found)
{
	CsLane	   *lane = job->scan->lane;
	char	  **keys = palloc(Min(n, job->room) * sizeof(char *));
	int			done;

	for (done = 0; done < n; done++)
	{
		if (found[done].pending && job->queued == job->room)
			break;
		/* that a row is still there was found out before */
		if (found[done].pending || job->scan->row.phase != CS_SCAN_MISSING)
			job->step.found[found[done].difference]++;
		if (found[done].pending)
			keys[job->queued++] = rows[done].key;
	}
	if (job->queued > 0)
	{
		lane->scan_xact = U64FromFullTransactionId(GetTopFullTransactionId());
		queue_keys(lane, job->queued, keys);
		lane->exhausted = false;
	}
	return done;
}

/* Effect: what could set off mail is counted; too much of it has the watch held. */
static void
count_page(CsPageJob *job, int n, const CsComparison *found)
{
	CsScanRow  *row = &job->scan->row;

	for (int i = 0; i < n; i++)
		row->changes += found[i].difference == CS_IS_NEW || found[i].difference == CS_IS_CHANGED;
	if (row->changes > cs_guard_limit(job->scan->lane))
		cs_guard_stop(job->scan->lane, row->changes);
}

/* How many rows are read the next time: more, the fewer of them differ. */
static void
adapt_page(CsPageJob *job, int limit)
{
	CsScan	   *scan = job->scan;

	if (scan->row.phase == CS_SCAN_COUNTING || job->queued * 2 <= job->room)
		scan->page_size = Min(limit * 2, MAX_PAGE);
	else if (job->queued == job->room)
		scan->page_size = Max(Min(limit / 2, MAX_PAGE), Min(job->room, MAX_PAGE));
}

/* Effect: the scan has come to that row. */
static void
move_to(CsScan *scan, const CsPagePosition *row)
{
	MemoryContext old = MemoryContextSwitchTo(scan->lane->context);

	/* what it was is freed by run_scan(), when it is known to be stored */
	scan->row.position.value = row->value ? pstrdup(row->value) : NULL;
	scan->row.position.key = pstrdup(row->key);
	MemoryContextSwitchTo(old);
}

/* Effect: one page is walked.  To be called in a subtransaction. */
static void
walk_page(void *arg)
{
	CsPageJob  *job = arg;
	CsScan	   *scan = job->scan;
	int			limit = Max(scan->page_size, 1);
	CsPagePosition *rows = palloc(limit * sizeof(CsPagePosition));
	CsComparison *found;
	CsSqlScope	scope;
	int			n;
	int			done;

	prepare(scan);
	n = next_rows(scan, limit, rows);
	found = compare(job, n, rows);
	done = n;
	if (scan->row.phase == CS_SCAN_COUNTING)
		count_page(job, n, found);
	else
		done = queue_page(job, n, rows, found);
	job->step.rows = done;
	job->ended = done == n && n < limit && !scan->lane->guard.closed;
	if (done > 0)
		move_to(scan, &rows[done - 1]);
	adapt_page(job, limit);
	cs_sql_enter(&scope);
	cs_scan_store_store(&scan->row, &job->step);
	if (job->ended)
		end_phase(scan, job->now);
	cs_sql_leave(&scope);
}

/*
 * Effect: the scan waits, and says why if that takes somebody to do something.
 * What was prepared may not fit a table that was changed, so it is tried anew
 * at first.
 */
static void
handle_fault(CsScan *scan, CsTryResult fault, const ErrorData *error, double now)
{
	CsLane	   *lane = scan->lane;
	bool		prepared = (unprepare(scan) || lane->source != NULL) && !scan->anew;
	bool		too_long = fault == CS_TRY_TIMEOUT && scan->page_size > 1;

	scan->not_before = now + PAUSE;
	if (fault == CS_TRY_LATER)
		return;
	if (too_long)
	{
		scan->page_size = Max(scan->page_size / TIMEOUT_DIVISOR, 1);
		return;
	}
	if (lane->source)
		cs_source_row_close(lane->source);
	lane->source = NULL;
	scan->anew = fault == CS_TRY_BROKEN && prepared;
	if (scan->anew)
	{
		scan->not_before = now;
		return;
	}
	cs_lane_break(lane, error->message, now + cs_probe_interval);
	lane->source_error = true;
}

/* Effect: a reconciliation that is due begins, unless another scan is running. */
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
	row.id = cs_scan_store_create(lane->watch, CS_RECONCILE, NULL, 0, NULL, total);
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
begin_job(void *arg)
{
	CsBeginJob *job = arg;

	begin_reconcile(job->lane, job->now);
}

/* Effect: as above; what keeps it from beginning is put off with the lane. */
static void
begin_if_due(CsLane *lane, double now)
{
	CsBeginJob	job = {lane, now};
	ErrorData  *error;

	if (lane->reconcile_at <= 0 || lane->reconcile_at > now || has_walk(lane))
		return;
	switch (cs_try(begin_job, &job, NULL, &error))
	{
		case CS_TRY_OK:
			break;
		case CS_TRY_LATER:
			lane->reconcile_at = now + PAUSE;
			break;
		default:
			lane->reconcile_at = now + cs_probe_interval;
			cs_lane_break(lane, error->message, now + cs_probe_interval);
			lane->source_error = true;
	}
}

/* Effect: the scan is this transaction's, and in a phase that makes sense.
 * Returns false if it cannot go on now, or is over. */
static bool
hold_scan(CsScan *scan, double now)
{
	CsSqlScope	scope;
	CsScanLock	hold;

	cs_sql_enter(&scope);
	hold = cs_scan_store_lock(scan->row.id);
	if (hold == CS_SCAN_HELD && scan->row.phase == CS_SCAN_COUNTING && !has_to_count(scan))
		begin_phase(scan, CS_SCAN_COMPARING, -1);
	cs_sql_leave(&scope);
	scan->over = hold == CS_SCAN_ENDED;
	if (hold == CS_SCAN_BUSY)
		scan->not_before = now + PAUSE;
	return hold == CS_SCAN_HELD;
}

/* Effect: the scan is over, without having come to its end. */
static void
fail_scan(CsScan *scan, const char *reason)
{
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_scan_store_end(scan->row.id, reason);
	cs_sql_leave(&scope);
	scan->over = true;
}

/* Effect: memory of a position that was left is given back. */
static void
free_position(const CsPagePosition *position, const CsPagePosition *now)
{
	if (position->key && position->key != now->key)
		pfree(position->key);
	if (position->value && position->value != now->value)
		pfree(position->value);
}

/* Effect: one page of the scan is walked, if it is running still. */
static int
run_scan(CsScan *scan, int room, double now)
{
	CsPageJob	job = {.scan = scan,.room = Min(room, MAX_PAGE),.now = now};
	CsScanRow	before;
	CsTryResult fault;
	ErrorData  *error;

	if (!hold_scan(scan, now))
		return 0;
	if (scan->row.rate > 0)
		job.room = Min(job.room, cs_pace_available(&scan->pace, now));
	before = scan->row;
	fault = cs_try(walk_page, &job, NULL, &error);
	if (fault != CS_TRY_OK)
	{
		scan->row = before;
		scan->over = false;
		/* the filter of a scan is no part of the watch */
		if (fault == CS_TRY_ROW_ERROR && scan->row.filter)
			fail_scan(scan, error->message);
		else
			handle_fault(scan, fault, error, now);
		return 0;
	}
	scan->anew = false;
	free_position(&before.position, &scan->row.position);
	for (int i = 0; i < job.queued && scan->row.rate > 0; i++)
		cs_pace_take(&scan->pace, now);
	if (scan->lane->source_error)
	{
		scan->lane->source_error = false;
		cs_lane_repair(scan->lane);
	}
	return job.queued;
}

int
cs_scan_run(CsLane *lane, int room, double now)
{
	CsScan	   *scan = NULL;
	ListCell   *lc;
	int			queued;

	begin_if_due(lane, now);
	foreach(lc, lane->scans)
	{
		scan = lfirst(lc);
		if (ready_at(scan, now) <= now)
			break;
	}
	if (lc == NULL || now < lane->not_before)
		return 0;
	queued = run_scan(scan, room, now);
	if (scan->over)
	{
		unprepare(scan);
		lane->scans = list_delete_ptr(lane->scans, scan);
	}
	return queued;
}
