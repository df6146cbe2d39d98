/*-------------------------------------------------------------------------
 *
 * reader.c
 *		From changes to contacts that can be sent: reading their rows.
 *
 * The rows are read as the watch's owner, many at a time.  A row whose mapping
 * fails is found by halving and fails alone.  When the watch as a whole cannot be
 * read, because its table was altered or a right revoked, nothing fails: the lane
 * waits, and says why.  decide.c goes on with the rows that were read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/change_add.h"
#include "delivery/change_lock.h"
#include "delivery/decide.h"
#include "delivery/reader.h"
#include "delivery/related.h"
#include "delivery/removal.h"
#include "provider/provider.h"
#include "store/row_state.h"
#include "store/source_row.h"

/* Rows that are read at a time at most, and what their contacts may take. */
#define MAX_READ		2000
#define READ_BYTES		(8 * 1024 * 1024)

/* What the contacts may take that are read before any of them is sent, however large the
 * rows are. */
#define READ_AHEAD_BYTES	(16 * 1024 * 1024)

/* Each read that times out, or waits for a lock, holds up everybody, so the row that
 * causes it must be alone after few of them. */
#define SLOW_DIVISOR	16

/* A lane that timed out waits for this many times what that cost, so that others
 * have most of the time, however slow its mapping is. */
#define TIMEOUT_PAUSE	4

/* A lane whose table is locked is tried again after (s), and a row that is locked
 * after this, twice this and so on, up to the maximum. */
#define LOCKED_PAUSE	1.0
#define MAX_LATER_PAUSE	30.0

/* One read of a lane. */
typedef struct CsReadJob
{
	CsLane	   *lane;
	CsReadBatch *read_batch;
	CsSettlement *settlement;
	double		now;
	char	   *message;		/* of the last error */
	bool		checked;		/* whether reading no rows succeeds */
	CsTryResult without_rows;
} CsReadJob;

/*
 * Reading rows
 */

/* Some of the changes of a job, and their rows. */
typedef struct CsReadPart
{
	CsLane	   *lane;
	int			n;
	CsChange  **changes;
	CsSourceRow *rows;
} CsReadPart;

static void
read_part(void *arg)
{
	CsReadPart *part = arg;
	CsLane	   *lane = part->lane;
	char	  **keys;

	if (lane->watch == NULL)
	{
		for (int i = 0; i < part->n; i++)
		{
			Jsonb	   *direct = part->changes[i]->direct;

			part->rows[i].contact = direct ? cs_contact_from_jsonb(direct) : NULL;
		}
		return;
	}
	if (lane->source == NULL)
		lane->source = cs_source_row_open(lane->watch);
	keys = palloc((part->n + 1) * sizeof(char *));
	for (int i = 0; i < part->n; i++)
		keys[i] = part->changes[i]->key;
	cs_source_row_read(lane->source, part->n, keys, part->rows);
}

/* Read rows in a subtransaction; on an error set job->message. */
static CsTryResult
try_to_read(CsReadJob *job, int n, CsChange **changes, CsSourceRow *rows)
{
	CsReadPart	part = {job->lane, n, changes, rows};
	ErrorData  *error;
	CsTryResult result = cs_try(read_part, &part, NULL, &error);

	if (result != CS_TRY_OK)
		job->message = cs_text_message_to_utf8(error->message);
	return result;
}

/*
 * Find out whether reading no rows succeeds: what fails then is the fault of no row.
 * Prepare the query again if that may help, for a table or column that was renamed
 * breaks only what was prepared before.  Return whether it was.
 */
static bool
check_without_rows(CsReadJob *job)
{
	bool		prepared = job->lane->source != NULL;
	char	   *message = job->message;

	job->without_rows = try_to_read(job, 0, NULL, NULL);
	if (prepared && job->without_rows != CS_TRY_OK && job->without_rows != CS_TRY_LATER)
	{
		cs_lane_close(job->lane);
		job->without_rows = try_to_read(job, 0, NULL, NULL);
	}
	else
		prepared = false;
	job->checked = true;
	if (job->without_rows == CS_TRY_OK)
		job->message = message;
	return prepared;
}

/* Read rows, and tell the fault of a row from that of the watch. */
static CsTryResult
read_and_tell(CsReadJob *job, int n, CsChange **changes, CsSourceRow *rows)
{
	CsTryResult result = try_to_read(job, n, changes, rows);

	if (result == CS_TRY_OK)
		return result;
	if (!job->checked && check_without_rows(job) && job->without_rows == CS_TRY_OK)
		result = try_to_read(job, n, changes, rows);
	return result == CS_TRY_OK ? result : cs_try_narrow(result, job->without_rows);
}

/*
 * Errors
 */

static void
fail_mapping(CsReadJob *job, CsChange *change)
{
	CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED};

	memset(&change->digest, 0, sizeof(change->digest));
	outcome.reason = CS_REASON_MAPPING_ERROR;
	outcome.message = job->message;
	cs_settle_failed(job->settlement, change, &outcome, NULL);
}

/* Read nothing more of the lane until its watch fits its table again. */
static void
break_lane(CsReadJob *job)
{
	cs_lane_break(job->lane, job->message, job->now + cs_probe_interval);
	job->lane->source_error = true;
	cs_lane_close(job->lane);
}

static void
repair_lane(CsLane *lane)
{
	lane->source_error = false;
	cs_lane_repair(lane);
}

/* Postpone all changes, in their order, until the lane may be read again. */
static void
postpone_all(CsReadJob *job, int n, CsChange **changes, CsTryResult result)
{
	CsLane	   *lane = job->lane;

	for (int i = n - 1; i >= 0; i--)
		cs_change_postpone(changes[i], 0, true);
	if (result == CS_TRY_BROKEN)
	{
		break_lane(job);
		return;
	}
	if (result == CS_TRY_LATER)
		lane->not_before = job->now + LOCKED_PAUSE;
	if (job->without_rows == CS_TRY_LATER)
		cs_lane_wait(lane, NULL, job->message, job->now, lane->not_before);
	else
		lane->max_read = Max(n / SLOW_DIVISOR, 1);
}

/* Others may speak meanwhile for the contact that the row stood for. */
static void
fall_behind(const CsLane *lane, CsChange *change)
{
	CsRowState	row;

	cs_row_state_read(lane->watch_id, 1, &change->key, &row);
	if (row.found)
		cs_change_fall_behind(change, lane->endpoint_id, row.upsert_key);
}

/* Try to read a row again later, each time later than before, or give it up. */
static void
postpone_row(CsReadJob *job, CsChange *change)
{
	double		pause = Min(LOCKED_PAUSE * (1 << change->later), MAX_LATER_PAUSE);

	if (++change->later >= CS_TRY_LATER_LIMIT)
	{
		job->message = psprintf("%s (tried %d times)", job->message, change->later);
		fail_mapping(job, change);
		return;
	}
	fall_behind(job->lane, change);
	cs_change_postpone(change, job->now + pause, true);
	if (change->later > 1)
		cs_lane_wait(job->lane, change->key, job->message, job->now, job->now + pause);
}

/* The rows were read. */
static void
note_success(CsReadJob *job, int n, CsChange **changes)
{
	if (n >= job->lane->max_read)
		job->lane->max_read *= 2;
	for (int i = 0; i < n; i++)
	{
		if (changes[i]->later > 0)
			cs_lane_wait_is_over(job->lane);
		changes[i]->later = 0;
		changes[i]->read_sequence = changes[i]->latest_sequence;
	}
}

/* Read rows[i] for changes[i], halving if that fails.  A change that failed or
 * was postponed becomes NULL. */
static void
read_halving(CsReadJob *job, int n, CsChange **changes, CsSourceRow *rows)
{
	CsTryResult result = read_and_tell(job, n, changes, rows);

	if (result == CS_TRY_OK)
	{
		note_success(job, n, changes);
		return;
	}
	if (result == CS_TRY_TIMEOUT)
		job->lane->not_before = cs_clock_now() + TIMEOUT_PAUSE * cs_source_timeout / 1000.0;
	if (n == 1 && (result == CS_TRY_ROW_ERROR || result == CS_TRY_TIMEOUT))
		fail_mapping(job, changes[0]);
	else if (n == 1 && result == CS_TRY_LATER && job->without_rows == CS_TRY_OK)
		postpone_row(job, changes[0]);
	else if (result != CS_TRY_ROW_ERROR)
		postpone_all(job, n, changes, result);
	else
	{
		read_halving(job, n / 2, changes, rows);
		read_halving(job, n - n / 2, changes + n / 2, rows + n / 2);
		return;
	}
	memset(changes, 0, n * sizeof(CsChange *));
}

static CsReadBatch *
create_batch(CsLane *lane)
{
	return cs_read_batch_create(lane->context, lane->changes.room, &lane->account->contact_bytes);
}

/*
 * Whether watches fit their tables
 */

static void
check_lane(CsLane *lane, double now)
{
	CsReadJob	job = {.lane = lane,.now = now};
	CsTryResult result;

	if (lane->watch == NULL || (lane->broken && !lane->source_error))
		return;
	if (lane->source && !lane->broken && cs_source_row_is_valid(lane->source))
		return;
	cs_lane_close(lane);
	job.read_batch = create_batch(lane);
	result = try_to_read(&job, 0, NULL, NULL);
	if (result == CS_TRY_OK)
		repair_lane(lane);
	else if (result != CS_TRY_LATER)
		break_lane(&job);
	cs_budget_charge(lane->budget);
	cs_read_batch_release(job.read_batch);
}

/*
 * Break the lanes whose watches cannot be read as they are, and repair the
 * others, whether or not there is something to send.  Needs a transaction with an
 * active snapshot.
 */
void
cs_reader_check(const List *accounts, double now)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, accounts)
	{
		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
			check_lane(lfirst(other), now);
	}
}

/*
 * Reading lanes
 */

/* Read as many rows of that size the next time as suits the memory. */
static void
adapt_read_size(CsLane *lane, int n, Size bytes)
{
	Size		fitting = (Size) n * READ_BYTES / Max(bytes, 1);

	lane->row_bytes = bytes / n;
	lane->read_size = Max(Min(fitting, (Size) lane->read_size * 4), 1);
	lane->read_size = Min(lane->read_size, MAX_READ);
}

/*
 * Read n ACTIVE changes of a lane.  Those that have to be sent come first in
 * "changes", ACTIVE and with a contact, and their number is returned; the others
 * are settled, blocked, or postponed.
 */
static int
read_changes(CsLane *lane, int n, CsChange **changes, CsSettlement *settlement, double now)
{
	CsReadJob	job = {.lane = lane,.settlement = settlement,.now = now};
	MemoryContext old;
	CsSourceRow *rows;
	int			kept;

	job.read_batch = create_batch(lane);
	old = MemoryContextSwitchTo(job.read_batch->context);
	rows = palloc0(n * sizeof(CsSourceRow));
	if (lane->removals)
		kept = cs_removal_decide(lane, n, changes, job.read_batch, settlement, now);
	else
	{
		read_halving(&job, n, changes, rows);
		cs_budget_charge(lane->budget);
		kept = cs_decide_changes(lane, n, changes, rows, job.read_batch, settlement, now);
	}
	if (lane->source_error && lane->source)
		repair_lane(lane);
	if (lane->waits_for_table && lane->source && job.without_rows != CS_TRY_LATER)
		cs_lane_wait_is_over(lane);
	MemoryContextSwitchTo(old);
	adapt_read_size(lane, n, cs_read_batch_weigh(job.read_batch));

	/*
	 * one user for each change that is kept, until the caller has it in a
	 * call
	 */
	for (int i = 0; i < kept; i++)
		cs_read_batch_retain(job.read_batch);
	cs_read_batch_release(job.read_batch);
	return kept;
}

/* Read from a lane until there are "wanted" contacts, or no room for more. */
static int
read_lane(CsLane *lane, int wanted, int64 *room, CsChange **changes, CsSettlement *settlement,
		  double now)
{
	int			n = 0;

	while (n < wanted && *room > 0)
	{
		int			limit = Min(wanted - n, lane->read_size);
		int64		before = lane->account->contact_bytes;
		int			active = 0;

		if (lane->row_bytes > 0)
			limit = Min(limit, Max(*room / lane->row_bytes, 1));

		if (lane->max_read)
			limit = Min(limit, lane->max_read);
		while (active < limit && (changes[n + active] = cs_lane_next(lane, now)) != NULL)
			active++;
		if (active == 0)
			break;
		n += read_changes(lane, active, changes + n, settlement, now);
		cs_change_forget_sent(&lane->changes);
		*room -= lane->account->contact_bytes - before;
	}
	return n;
}

/* Load the queue of a lane, unless all of it is in memory, and have the bulk guard
 * look at what came. */
static void
load_lane(CsLane *lane, double now)
{
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	bool		was_closed = lane->guard.closed;

	if (lane->exhausted)
		return;
	lane->needed = cs_guard_risk(lane->account->endpoint, lane->watch) ?
		cs_guard_limit(lane->account->endpoint) + 1 : 0;
	cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	cs_lane_load(lane);
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	if (lane->related != NIL)
		cs_related_resolve_small(lane, now);
	if (cs_guard_check(&lane->guard, lane->account->endpoint, lane->changes.counted,
					   lane->changes.newly_counted, now))
		cs_change_forget_recent(&lane->changes);
	lane->changes.newly_counted = 0;
	if (lane->guard.closed && !was_closed)
		cs_lane_let_go(lane);
}

/*
 * Read contacts that can be sent from the lanes of an account, which take turns
 * in being first.  They are put into "changes", which has room for one more than
 * "wanted", and their number is returned.  Needs a transaction with an active
 * snapshot, and a current context that is reset after it.
 */
int
cs_reader_read(CsAccount *account, int wanted, CsChange **changes, CsSettlement *settlement,
			   double now)
{
	int			nlanes = list_length(account->lanes);
	int64		room = cs_room_for_contacts(account->removals->changes.room, account->contact_bytes);
	ListCell   *lc;
	int			n = 0;

	room = Max(Min(room, READ_AHEAD_BYTES), 1);
	/* what one transaction changed in several sources is known together */
	foreach(lc, account->lanes)
	{
		if (!((CsLane *) lfirst(lc))->paused)
			load_lane(lfirst(lc), now);
	}
	for (int i = 0; i < nlanes && n < wanted; i++)
	{
		CsLane	   *lane = list_nth(account->lanes, (account->next_lane + i) % nlanes);

		if (lane->paused || now < lane->not_before || cs_budget_is_spent(lane->budget, now))
			continue;
		n += read_lane(lane, wanted - n, &room, changes + n, settlement, now);
	}
	if (n < wanted)
	{
		cs_removal_load(account, now);
		n += read_lane(account->removals, wanted - n, &room, changes + n, settlement, now);
	}
	account->next_lane = nlanes > 0 ? (account->next_lane + 1) % nlanes : 0;
	return n;
}
