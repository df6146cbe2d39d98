/*-------------------------------------------------------------------------
 *
 * settle.c
 *		Outcomes are gathered, then stored in one transaction.
 *
 * A queue row is deleted in the transaction that stores the last outcome that it
 * waits for, and in no other.  So a crash leaves nothing to recover: what is still
 * queued is sent again.
 *
 * Somebody's transaction may have locked what is stored of a watch, as that of
 * contactsync_unwatch() does until it ends.  Then the outcomes of that watch are
 * kept in memory, and no more of its changes are read; all others are stored.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/account_store.h"
#include "delivery/change_lock.h"
#include "delivery/outcome_writer.h"
#include "delivery/outcome_record.h"
#include "delivery/outcomes.h"
#include "delivery/settle.h"
#include "delivery/tally.h"
#include "store/call_log.h"
#include "store/failure.h"
#include "store/trace.h"
#include "store/watch_store.h"

/* What somebody has locked is stored later (s): at first, and at most.  Each try holds
 * up everybody for as long as it waits for the lock. */
#define LOCKED_PAUSE		1.0
#define MAX_LOCKED_PAUSE	10.0

/* How many calls are kept at most until their log can be stored. */
#define MAX_LOCKED_CALLS	10000

struct CsSettlement
{
	MemoryContext context;
	MemoryContext call_context; /* of the calls; reset when they are stored */
	List	   *lanes;			/* of CsLaneOutcomes */
	List	   *calls;			/* of CsCallRecord */
	bool		calls_stored;
	double		calls_at;		/* somebody has locked the rest of them: not
								 * before */
	CsTally		tally;			/* of what was stored */
};

/*
 * Gathering
 */

CsSettlement *
cs_settle_create(void)
{
	CsSettlement *settlement = palloc0(sizeof(CsSettlement));

	settlement->context = AllocSetContextCreate(CurrentMemoryContext, "contactsync outcomes",
												ALLOCSET_DEFAULT_SIZES);
	settlement->call_context = AllocSetContextCreate(settlement->context, "contactsync call log",
													 ALLOCSET_DEFAULT_SIZES);
	cs_tally_init(&settlement->tally, settlement->context);
	return settlement;
}

bool
cs_settle_is_empty(const CsSettlement *settlement)
{
	return settlement->lanes == NIL && settlement->calls == NIL;
}

static CsLaneOutcomes *
outcomes_of(CsSettlement *settlement, const CsChange *change)
{
	CsLane	   *lane = change->lane;
	MemoryContext old;

	if (lane->outcomes)
		return lane->outcomes;
	lane->outcomes = cs_outcomes_create(settlement->context, lane);
	old = MemoryContextSwitchTo(settlement->context);
	settlement->lanes = lappend(settlement->lanes, lane->outcomes);
	MemoryContextSwitchTo(old);
	return lane->outcomes;
}

/* The same, with a note of what has become of the change. */
static CsLaneOutcomes *
note(CsSettlement *settlement, const CsChange *change, const char *outcome, const char *reason)
{
	CsLaneOutcomes *outcomes = outcomes_of(settlement, change);

	cs_outcome_record_add(outcomes, change, outcome, reason);
	return outcomes;
}

bool
cs_settle_forgotten(CsSettlement *settlement, CsChange *change)
{
	if (!change->forgotten)
		return false;
	cs_outcomes_add_kept(outcomes_of(settlement, change), change, true);
	return true;
}

void
cs_settle_synced(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome)
{
	static const char *const done[] = {
		[CS_UPSERT] = "synced",[CS_UNSUBSCRIBE] = "unsubscribed",[CS_DELETE] = "deleted"
	};

	if (cs_settle_forgotten(settlement, change))
		return;
	cs_change_overtake(change, change->lane->endpoint_id);
	if (outcome->withheld)
		cs_outcomes_add_absent(note(settlement, change, "withheld", NULL), change);
	else
		cs_outcomes_add_synced(note(settlement, change, done[change->contact->action], NULL), change, outcome);
}

void
cs_settle_unchanged(CsSettlement *settlement, CsChange *change, bool record)
{
	if (cs_settle_forgotten(settlement, change))
		return;
	cs_outcomes_add_unchanged(note(settlement, change, "unchanged", NULL), change, record);
}

void
cs_settle_left_to(CsSettlement *settlement, CsChange *change, int watch, const char *key)
{
	if (cs_settle_forgotten(settlement, change))
		return;
	cs_outcomes_add_left_to(note(settlement, change, "unchanged", NULL), change, watch, key);
}

void
cs_settle_deferred(CsSettlement *settlement, CsChange *change, const char *speaks_for, bool is_known)
{
	if (cs_settle_forgotten(settlement, change))
		return;
	cs_outcomes_add_deferred(note(settlement, change, "unchanged", NULL), change, speaks_for, is_known);
}

void
cs_settle_outdated(CsSettlement *settlement, CsChange *change)
{
	if (cs_settle_forgotten(settlement, change))
		return;
	cs_outcomes_add_outdated(note(settlement, change, "unchanged", NULL), change);
}

void
cs_settle_withheld(CsSettlement *settlement, CsChange *change)
{
	if (cs_settle_forgotten(settlement, change))
		return;
	cs_change_overtake(change, change->lane->endpoint_id);
	cs_outcomes_add_withheld(note(settlement, change, "withheld", NULL), change);
}

void
cs_settle_kept(CsSettlement *settlement, CsChange *change)
{
	if (cs_settle_forgotten(settlement, change))
		return;
	cs_outcomes_add_kept(outcomes_of(settlement, change), change, true);
}

void
cs_settle_waiting(CsSettlement *settlement, CsChange *change)
{
	if (cs_settle_forgotten(settlement, change))
		return;
	cs_outcomes_add_kept(outcomes_of(settlement, change), change, false);
}

void
cs_settle_gone(CsSettlement *settlement, CsChange *change)
{
	if (cs_settle_forgotten(settlement, change))
		return;
	change->gone = true;
	cs_outcomes_add_gone(note(settlement, change, "gone", NULL), change);
}

void
cs_settle_failed(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome,
				 const char *request_id)
{
	if (cs_settle_forgotten(settlement, change))
		return;
	/* a no counts although it could not be delivered */
	if (change->contact && change->upsert_key &&
		(outcome->written || change->contact->consent == CS_CONSENT_NO))
		cs_change_overtake(change, change->lane->endpoint_id);
	cs_outcomes_add_failed(note(settlement, change, "failed", outcome->reason ? outcome->reason : CS_REASON_REJECTED), change, outcome, request_id);
}

static char *
copy(MemoryContext context, const char *text)
{
	return text ? MemoryContextStrdup(context, text) : NULL;
}

bool
cs_settle_is_traced(const CsChange *change)
{
	return !change->removal_erases && !change->forgotten &&
		cs_trace_is_wanted(change->lane->endpoint_id, change->lane->watch_id, change->key, change->contact);
}

List *
cs_settle_make_traces(CsSettlement *settlement, const CsEndpoint *endpoint, int n, CsChange **changes,
					  const CsRequest *request, const CsResponse *response)
{
	MemoryContext old = MemoryContextSwitchTo(settlement->call_context);
	List	   *traces = NIL;

	for (int i = 0; i < n; i++)
	{
		const CsChange *change = changes[i];

		if (cs_settle_is_traced(change))
			traces = lappend(traces, cs_trace_make(settlement->call_context, endpoint,
												   change->lane->watch_id, change->key, change->contact,
												   request, response));
	}
	MemoryContextSwitchTo(old);
	return traces;
}

void
cs_settle_call(CsSettlement *settlement, const CsCallRecord *record)
{
	MemoryContext old = MemoryContextSwitchTo(settlement->call_context);
	CsCallRecord *call = palloc(sizeof(CsCallRecord));

	*call = *record;
	call->path = pstrdup(record->path);
	call->idempotency_key = copy(settlement->call_context, record->idempotency_key);
	call->request_id = copy(settlement->call_context, record->request_id);
	call->error = copy(settlement->call_context, record->error);
	settlement->calls = lappend(settlement->calls, call);
	MemoryContextSwitchTo(old);
}

/*
 * Storing
 */

/* What is stored together: of these lanes, and if there are accounts their
 * health, the calls, and the counts of what was stored before. */
typedef struct CsStoreJob
{
	List	   *lanes;			/* of CsLaneOutcomes */
	List	   *calls;
	List	   *accounts;
	const CsTally *tally;		/* or NULL */
} CsStoreJob;

static void
store_job(void *arg)
{
	const CsStoreJob *job = arg;
	CsSqlScope	scope;
	ListCell   *lc;

	cs_sql_enter(&scope);
	foreach(lc, job->lanes)
		cs_outcome_writer_store(lfirst(lc));
	cs_call_log_store(job->calls);
	foreach(lc, job->calls)
	{
		const CsCallRecord *record = lfirst(lc);
		ListCell   *trace;

		foreach(trace, record->traces)
			cs_trace_store(lfirst(trace), record);
	}
	if (job->tally)
		cs_tally_store(job->tally);
	foreach(lc, job->accounts)
		cs_account_store_health(lfirst(lc));
	cs_sql_leave(&scope);
}

/* Store it and count it.  Return false, with nothing stored, if somebody has a lock on it. */
static bool
try_to_store(CsSettlement *settlement, CsStoreJob *job)
{
	ErrorData  *error;
	bool		stored = cs_try(store_job, job, CS_LOCK_TIMEOUT, &error) == CS_TRY_OK;
	ListCell   *lc;

	if (!stored && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE)
		ReThrowError(error);
	foreach(lc, stored ? job->lanes : NIL)
		((CsLaneOutcomes *) lfirst(lc))->stored = true;
	foreach(lc, stored ? job->accounts : NIL)
		cs_account_health_stored(lfirst(lc));
	if (stored)
		cs_tally_add(&settlement->tally, job->lanes, job->calls, cs_clock_now());
	return stored;
}

/* Store the outcomes of one lane, or keep them for later, each time for longer. */
static void
store_or_keep(CsSettlement *settlement, CsLaneOutcomes *outcomes)
{
	CsStoreJob	job = {.lanes = list_make1(outcomes)};

	if (try_to_store(settlement, &job))
		return;
	outcomes->pause = Max(LOCKED_PAUSE, Min(outcomes->pause * 2, MAX_LOCKED_PAUSE));
	outcomes->not_before = cs_clock_now() + outcomes->pause;
	outcomes->lane->not_before = Max(outcomes->lane->not_before, outcomes->not_before);
	outcomes->lane->account->kept_until = outcomes->not_before;
}

/* Store the health of each account by itself. */
static void
store_healths(CsSettlement *settlement, List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
	{
		CsAccount  *account = lfirst(lc);
		CsStoreJob	job = {.accounts = list_make1(account)};

		if (!try_to_store(settlement, &job))
			account->store_at = cs_clock_now() + MAX_LOCKED_PAUSE;
	}
}

/* Store the calls of each endpoint by themselves, and keep those that are locked. */
static void
store_calls(CsSettlement *settlement)
{
	List	   *locked = NIL;

	while (settlement->calls != NIL)
	{
		CsStoreJob	job = {0};
		int			endpoint = ((CsCallRecord *) linitial(settlement->calls))->endpoint;
		ListCell   *lc;

		foreach(lc, settlement->calls)
		{
			CsCallRecord *record = lfirst(lc);

			if (record->endpoint != endpoint)
				continue;
			job.calls = lappend(job.calls, record);
			settlement->calls = foreach_delete_current(settlement->calls, lc);
		}
		if (!try_to_store(settlement, &job))
			locked = list_concat(locked, job.calls);
	}
	/* rather no record of a call than no end of memory */
	if (list_length(locked) > MAX_LOCKED_CALLS)
		locked = NIL;
	MemoryContextSwitchTo(settlement->call_context);
	settlement->calls = list_copy(locked);
	settlement->calls_stored = locked == NIL;
	settlement->calls_at = cs_clock_now() + MAX_LOCKED_PAUSE;
}

/* Add to the statistics what was counted, or later if somebody has a lock on them. */
static void
store_tally(CsSettlement *settlement)
{
	CsStoreJob	job = {.tally = &settlement->tally};

	if (try_to_store(settlement, &job))
		cs_tally_clear(&settlement->tally);
	else
		settlement->tally.due_at = cs_clock_now() + MAX_LOCKED_PAUSE;
}

/* Store outcomes and calls, and what has changed in the accounts. */
static void
store_outcomes(CsSettlement *settlement, List *accounts, double now)
{
	CsStoreJob	all = {0};
	bool		with_calls = settlement->calls_at <= now;
	ListCell   *lc;

	all.calls = with_calls ? settlement->calls : NIL;
	foreach(lc, accounts)
		if (cs_account_has_to_store(lfirst(lc)))
		all.accounts = lappend(all.accounts, lfirst(lc));
	foreach(lc, settlement->lanes)
	{
		CsLaneOutcomes *outcomes = lfirst(lc);

		if (outcomes->not_before == 0)
			all.lanes = lappend(all.lanes, outcomes);
		else if (outcomes->not_before <= now)
			store_or_keep(settlement, outcomes);
	}
	if (try_to_store(settlement, &all))
	{
		settlement->calls_stored = with_calls;
		return;
	}
	foreach(lc, all.lanes)
		store_or_keep(settlement, lfirst(lc));
	store_healths(settlement, all.accounts);
	if (with_calls)
		store_calls(settlement);
}

void
cs_settle_store(CsSettlement *settlement, List *accounts, bool count_later, double now)
{
	MemoryContext context = CurrentMemoryContext;

	store_outcomes(settlement, accounts, now);
	if (settlement->tally.stats != NIL && (!count_later || settlement->tally.due_at <= now))
		store_tally(settlement);
	MemoryContextSwitchTo(context);
}

void
cs_settle_free_stored(CsSettlement *settlement)
{
	ListCell   *lc;

	foreach(lc, settlement->lanes)
	{
		CsLaneOutcomes *outcomes = lfirst(lc);

		if (!outcomes->stored)
			continue;
		outcomes->lane->outcomes = NULL;
		settlement->lanes = foreach_delete_current(settlement->lanes, lc);
		cs_outcomes_free(outcomes);
	}
	if (settlement->calls_stored)
	{
		settlement->calls = NIL;
		settlement->calls_stored = false;
		settlement->calls_at = 0;
		MemoryContextReset(settlement->call_context);
	}
}

/* Drop what is to be stored of a lane that is no more. */
void
cs_settle_drop(CsSettlement *settlement, CsLane *lane)
{
	if (lane->outcomes == NULL)
		return;
	settlement->lanes = list_delete_ptr(settlement->lanes, lane->outcomes);
	cs_outcomes_free(lane->outcomes);
	lane->outcomes = NULL;
}

double
cs_settle_due_at(const CsSettlement *settlement, bool count_later)
{
	double		at = settlement->calls != NIL ? settlement->calls_at : DBL_MAX;
	ListCell   *lc;

	if (settlement->tally.stats != NIL)
		at = Min(at, count_later ? settlement->tally.due_at : 0);
	foreach(lc, settlement->lanes)
		at = Min(at, ((CsLaneOutcomes *) lfirst(lc))->not_before);
	return at;
}
