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
#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/settle.h"
#include "store/call_log.h"
#include "store/contact_state.h"
#include "store/failure.h"
#include "store/notify.h"
#include "store/queue.h"
#include "store/stats.h"
#include "store/trace.h"
#include "store/watch_store.h"

/* How long to wait for what somebody has locked, and then until the next try (s). */
#define LOCK_TIMEOUT	"100ms"
#define LOCKED_PAUSE	1.0

/* A growing array. */
typedef struct CsArray
{
	void	   *items;
	int			n;
	int			max;
} CsArray;

/* What is to be stored of one lane. */
typedef struct CsLaneOutcomes
{
	CsLane	   *lane;
	MemoryContext context;		/* of this and all in it */
	List	   *read_batches;	/* of CsReadBatch, which "synced" and "failed"
								 * point into */
	double		not_before;		/* when somebody has locked it; else 0 */
	bool		stored;
	CsArray		synced;			/* of CsStored */
	CsArray		failed;			/* of CsStored */
	CsArray		unchanged;		/* of char *: keys */
	CsArray		done;			/* of CsQueuePosition: queue rows to delete */
	const char *last_error;
} CsLaneOutcomes;

struct CsSettlement
{
	MemoryContext context;
	MemoryContext call_context; /* of the calls; reset when they are stored */
	List	   *lanes;			/* of CsLaneOutcomes */
	List	   *calls;			/* of CsCallRecord */
	bool		calls_stored;
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
	return settlement;
}

bool
cs_settle_is_empty(const CsSettlement *settlement)
{
	return settlement->lanes == NIL && settlement->calls == NIL;
}

/* Append an item to the array, and return where to write it. */
static void *
array_add(CsLaneOutcomes *outcomes, CsArray *array, Size size)
{
	if (array->n == array->max)
	{
		array->max = array->max ? array->max * 2 : 64;
		array->items = array->items ? repalloc(array->items, array->max * size) :
			MemoryContextAlloc(outcomes->context, array->max * size);
	}
	return (char *) array->items + size * array->n++;
}

static CsLaneOutcomes *
outcomes_of(CsSettlement *settlement, CsLane *lane)
{
	MemoryContext context;
	MemoryContext old;

	if (lane->outcomes)
		return lane->outcomes;
	context = AllocSetContextCreate(settlement->context, "contactsync outcomes of a lane",
									ALLOCSET_DEFAULT_SIZES);
	lane->outcomes = MemoryContextAllocZero(context, sizeof(CsLaneOutcomes));
	lane->outcomes->lane = lane;
	lane->outcomes->context = context;
	old = MemoryContextSwitchTo(settlement->context);
	settlement->lanes = lappend(settlement->lanes, lane->outcomes);
	MemoryContextSwitchTo(old);
	return lane->outcomes;
}

static char *
copy(MemoryContext context, const char *text)
{
	return text ? MemoryContextStrdup(context, text) : NULL;
}

/*
 * End a change that has its outcome.  Its read batch is kept until that is
 * stored, and queue rows that nothing else needs are deleted with it.
 */
static void
finish(CsSettlement *settlement, CsChange *change)
{
	CsLane	   *lane = change->lane;
	CsLaneOutcomes *outcomes = outcomes_of(settlement, lane);
	CsQueuePosition position;

	if (change->read_batch && (outcomes->read_batches == NIL ||
							   llast(outcomes->read_batches) != change->read_batch))
	{
		MemoryContext old = MemoryContextSwitchTo(outcomes->context);

		outcomes->read_batches = lappend(outcomes->read_batches, change->read_batch);
		cs_read_batch_retain(change->read_batch);
		MemoryContextSwitchTo(old);
	}
	change->read_batch = NULL;
	while (cs_change_release_row(change, &position))
		*(CsQueuePosition *) array_add(outcomes, &outcomes->done, sizeof(CsQueuePosition)) = position;
	cs_change_finish(change);
	if (lane->changes.nchanges == 0)
		lane->max_read = 0;
}

/*
 * The key to store the contact under: for direct upserts, the upsert key.  A key
 * that is too long has a failure as well, so it is cut.
 */
static const char *
stored_key(CsLaneOutcomes *outcomes, const CsChange *change)
{
	if (change->direct && change->contact && change->contact->upsert_key)
		return copy(outcomes->context, cs_text_from_utf8(change->contact->upsert_key));
	if (strlen(change->key) > CS_KEY_MAX_BYTES)
	{
		/* one byte more than is allowed, so that it fails again if retried */
		int			len = pg_mbcliplen(change->key, strlen(change->key), CS_KEY_MAX_BYTES);

		return copy(outcomes->context, psprintf("%.*s%*s", len, change->key, CS_KEY_MAX_BYTES + 1 - len, "~"));
	}
	return copy(outcomes->context, change->key);
}

void
cs_settle_synced(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome)
{
	CsLaneOutcomes *outcomes = outcomes_of(settlement, change->lane);
	CsStored   *stored = array_add(outcomes, &outcomes->synced, sizeof(CsStored));

	memset(stored, 0, sizeof(CsStored));
	stored->key = stored_key(outcomes, change);
	stored->contact = change->contact;
	stored->digest = change->digest;
	stored->remote_id = copy(outcomes->context, outcome->remote_id ? outcome->remote_id :
							 change->contact->remote_id);
	stored->remote_status = copy(outcomes->context, outcome->remote_status);
	stored->remote_updated_at = copy(outcomes->context, outcome->remote_updated_at);
	stored->note = copy(outcomes->context, outcome->note);
	stored->topics = copy(outcomes->context, outcome->topics);
	stored->consent_sent = outcome->consent_sent;
	stored->opted_out = outcome->opted_out;
	cs_change_mark_sent(change);
	finish(settlement, change);
}

/* The provider has the contact already; an older failure of the key is over. */
void
cs_settle_unchanged(CsSettlement *settlement, CsChange *change)
{
	CsLaneOutcomes *outcomes = outcomes_of(settlement, change->lane);
	const char **key = array_add(outcomes, &outcomes->unchanged, sizeof(char *));

	*key = stored_key(outcomes, change);
	finish(settlement, change);
}

/*
 * Another row that stands for the same contact was changed later, and sent
 * already.  Store that the provider has this one, but no digest that its next
 * change could be equal to.
 */
void
cs_settle_outdated(CsSettlement *settlement, CsChange *change)
{
	CsLaneOutcomes *outcomes = outcomes_of(settlement, change->lane);
	CsStored   *stored = array_add(outcomes, &outcomes->synced, sizeof(CsStored));

	memset(stored, 0, sizeof(CsStored));
	stored->key = stored_key(outcomes, change);
	stored->contact = change->contact;
	stored->topics = copy(outcomes->context, change->contact->topics);
	stored->consent_sent = change->contact->consent_sent;
	stored->opted_out = change->contact->opted_out;
	finish(settlement, change);
}

void
cs_settle_failed(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome,
				 const char *request_id)
{
	CsLaneOutcomes *outcomes = outcomes_of(settlement, change->lane);
	CsStored   *stored = array_add(outcomes, &outcomes->failed, sizeof(CsStored));
	MemoryContext old;

	memset(stored, 0, sizeof(CsStored));
	stored->key = stored_key(outcomes, change);
	stored->contact = change->contact;
	stored->digest = change->digest;
	stored->reason = outcome->reason ? copy(outcomes->context, outcome->reason) : CS_REASON_REJECTED;
	stored->code = copy(outcomes->context, outcome->code);
	stored->message = copy(outcomes->context, outcome->message);
	stored->field = copy(outcomes->context, outcome->field);
	stored->request_id = copy(outcomes->context, request_id);
	stored->attempts = Max(change->attempts, 1);
	stored->maybe_sent = change->unconfirmed || strcmp(stored->reason, CS_REASON_UNAVAILABLE) == 0 ||
		strcmp(stored->reason, CS_REASON_UNREADABLE) == 0;
	stored->withdraws = change->withdrawn || (!outcome->consent_sent && change->contact &&
											  cs_contact_withdraws_consent(change->contact));
	if (change->direct)
	{
		old = MemoryContextSwitchTo(outcomes->context);
		stored->direct = (Jsonb *) PG_DETOAST_DATUM_COPY(PointerGetDatum(change->direct));
		MemoryContextSwitchTo(old);
	}
	outcomes->last_error = stored->message ? stored->message : stored->reason;
	finish(settlement, change);
}

MemoryContext
cs_settle_call_context(const CsSettlement *settlement)
{
	return settlement->call_context;
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

/* Each key is here once: its next call starts only when this outcome is stored. */
static void
store_synced(CsLane *lane, CsArray *array)
{
	CsStored   *stored = array->items;

	cs_contact_state_store(lane->endpoint_id, lane->watch_id, array->n, stored);
	if (lane->has_failures)
	{
		char	  **keys = palloc(array->n * sizeof(char *));

		for (int i = 0; i < array->n; i++)
			keys[i] = unconstify(char *, stored[i].key);
		cs_failure_clear(lane->endpoint_id, lane->watch_id, array->n, keys);
	}
	if (lane->watch_id == 0)
		lane->account->has_direct = true;
	else if (lane->account->has_direct)
		cs_contact_state_expire_direct(lane->endpoint_id, array->n, stored);
}

static void
store_lane(CsLaneOutcomes *outcomes)
{
	CsLane	   *lane = outcomes->lane;

	if (outcomes->synced.n > 0)
		store_synced(lane, &outcomes->synced);
	if (outcomes->unchanged.n > 0 && lane->has_failures)
		cs_failure_clear(lane->endpoint_id, lane->watch_id, outcomes->unchanged.n,
						 outcomes->unchanged.items);
	if (outcomes->failed.n > 0)
	{
		lane->has_failures = true;
		cs_failure_store(lane->endpoint_id, lane->watch_id, outcomes->failed.n,
						 outcomes->failed.items);
	}
	if (outcomes->done.n > 0)
		cs_queue_delete(lane->endpoint_id, lane->watch_id, outcomes->done.n,
						outcomes->done.items);
	cs_stats_count(lane->endpoint_id, lane->watch_id, outcomes->synced.n,
				   outcomes->unchanged.n, outcomes->failed.n, outcomes->last_error);
}

/* What is stored together; calls and accounts can be NIL. */
typedef struct CsStoreJob
{
	List	   *lanes;			/* of CsLaneOutcomes */
	List	   *calls;
	List	   *accounts;
} CsStoreJob;

/* The counts of an endpoint in the list, added if there are none. */
static CsStats *
stats_of(List **all, int endpoint)
{
	CsStats    *stats;
	ListCell   *lc;

	foreach(lc, *all)
	{
		stats = lfirst(lc);
		if (stats->endpoint == endpoint)
			return stats;
	}
	stats = palloc0(sizeof(CsStats));
	stats->endpoint = endpoint;
	*all = lappend(*all, stats);
	return stats;
}

/* Add all of it to the statistics, and notify listeners of too many failures. */
static void
store_stats(const CsStoreJob *job, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *all = NIL;
	ListCell   *lc;

	foreach(lc, job->calls)
	{
		const CsCallRecord *record = lfirst(lc);

		cs_stats_add_call(stats_of(&all, record->endpoint), record);
	}
	foreach(lc, job->lanes)
	{
		const CsLaneOutcomes *outcomes = lfirst(lc);
		CsStats    *stats = stats_of(&all, outcomes->lane->endpoint_id);

		stats->synced += outcomes->synced.n;
		stats->unchanged += outcomes->unchanged.n;
		for (int i = 0; i < outcomes->failed.n; i++)
			cs_stats_add_failure(stats, ((CsStored *) outcomes->failed.items)[i].reason);
	}
	foreach(lc, all)
	{
		const CsStats *stats = lfirst(lc);
		int64		failed = cs_stats_store(stats);

		if (cs_notify_failures > 0 && failed >= cs_notify_failures &&
			failed - stats->failed < cs_notify_failures)
			cs_notify("failures", stats->endpoint, 0, NULL, failed);
	}
	MemoryContextSwitchTo(old);
}

static void
store_job(void *arg)
{
	const CsStoreJob *job = arg;
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	ListCell   *lc;

	cs_sql_enter(&scope);
	foreach(lc, job->lanes)
		store_lane(lfirst(lc));
	foreach(lc, job->calls)
	{
		const CsCallRecord *record = lfirst(lc);
		ListCell   *trace;

		cs_call_log_add(record);
		foreach(trace, record->traces)
			cs_trace_store(lfirst(trace), record);
	}
	store_stats(job, context);
	foreach(lc, job->accounts)
		cs_account_store_health(lfirst(lc));
	cs_sql_leave(&scope);
}

/* Return false, with nothing stored, if somebody has a lock on it. */
static bool
try_to_store(CsStoreJob *job)
{
	ErrorData  *error;
	bool		stored = cs_try(store_job, job, LOCK_TIMEOUT, &error) == CS_TRY_OK;
	ListCell   *lc;

	if (!stored && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	foreach(lc, stored ? job->lanes : NIL)
		((CsLaneOutcomes *) lfirst(lc))->stored = true;
	foreach(lc, stored ? job->accounts : NIL)
		cs_account_health_stored(lfirst(lc));
	return stored;
}

/* Store the outcomes of one lane, or keep them for later. */
static void
store_or_keep(CsLaneOutcomes *outcomes, double now)
{
	CsStoreJob	job = {.lanes = list_make1(outcomes)};

	if (try_to_store(&job))
		return;
	outcomes->not_before = now + LOCKED_PAUSE;
	outcomes->lane->not_before = Max(outcomes->lane->not_before, outcomes->not_before);
}

void
cs_settle_store(CsSettlement *settlement, List *accounts, double now)
{
	CsStoreJob	all = {.calls = settlement->calls,.accounts = accounts};
	ListCell   *lc;

	foreach(lc, settlement->lanes)
	{
		CsLaneOutcomes *outcomes = lfirst(lc);

		if (outcomes->not_before == 0)
			all.lanes = lappend(all.lanes, outcomes);
		else if (outcomes->not_before <= now)
			store_or_keep(outcomes, now);
	}
	settlement->calls_stored = try_to_store(&all);
	if (settlement->calls_stored)
		return;
	foreach(lc, all.lanes)
		store_or_keep(lfirst(lc), now);
	all.lanes = NIL;
	settlement->calls_stored = try_to_store(&all);
}

void
cs_settle_free_stored(CsSettlement *settlement)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, settlement->lanes)
	{
		CsLaneOutcomes *outcomes = lfirst(lc);

		if (!outcomes->stored)
			continue;
		foreach(other, outcomes->read_batches)
			cs_read_batch_release(lfirst(other));
		outcomes->lane->outcomes = NULL;
		settlement->lanes = foreach_delete_current(settlement->lanes, lc);
		MemoryContextDelete(outcomes->context);
	}
	if (settlement->calls_stored)
	{
		settlement->calls = NIL;
		MemoryContextReset(settlement->call_context);
	}
}

double
cs_settle_due_at(const CsSettlement *settlement)
{
	double		at = settlement->calls != NIL ? 0 : DBL_MAX;
	ListCell   *lc;

	foreach(lc, settlement->lanes)
		at = Min(at, ((CsLaneOutcomes *) lfirst(lc))->not_before);
	return at;
}
