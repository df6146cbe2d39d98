/*-------------------------------------------------------------------------
 *
 * settle.c
 *		Outcomes are gathered, then stored in one transaction.
 *
 * A row of the queue is deleted in the transaction that stores the last outcome
 * that it waits for, and in no other.  So there is nothing to recover after a
 * crash but to send again what is still queued.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "announce.h"
#include "clock.h"
#include "encoding.h"
#include "guc.h"
#include "ledger.h"
#include "queue.h"
#include "settle.h"
#include "sql.h"
#include "stats.h"

/* A growing array. */
typedef struct CsPile
{
	void	   *items;
	int			n;
	int			max;
} CsPile;

/* What is to be stored of one lane. */
typedef struct CsLaneOutcomes
{
	CsLane	   *lane;
	CsPile		synced;			/* of CsStored */
	CsPile		failed;			/* of CsStored */
	CsPile		unchanged;		/* of char *: keys */
	CsPile		done;			/* of CsQueuePosition: rows to delete */
	const char *last_error;
} CsLaneOutcomes;

struct CsSettlement
{
	MemoryContext context;		/* what is to be stored, emptied each time */
	List	   *lanes;			/* of CsLaneOutcomes */
	List	   *calls;			/* of CsCallRecord */
	List	   *readings;		/* of CsReading that are used here */
};

/*
 * Readings
 */

CsReading *
cs_reading_begin(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "contactsync contacts",
												  ALLOCSET_DEFAULT_SIZES);
	CsReading  *reading = MemoryContextAlloc(context, sizeof(CsReading));

	reading->context = context;
	reading->users = 1;
	return reading;
}

void
cs_reading_use(CsReading *reading)
{
	reading->users++;
}

void
cs_reading_release(CsReading *reading)
{
	if (--reading->users == 0)
		MemoryContextDelete(reading->context);
}

/*
 * Gathering
 */

CsSettlement *
cs_settle_begin(void)
{
	CsSettlement *settlement = palloc0(sizeof(CsSettlement));

	settlement->context = AllocSetContextCreate(CurrentMemoryContext, "contactsync outcomes",
												ALLOCSET_DEFAULT_SIZES);
	return settlement;
}

bool
cs_settle_is_empty(const CsSettlement *settlement)
{
	return settlement->lanes == NIL && settlement->calls == NIL;
}

/* A new item at the end of the pile. */
static void *
pile_add(CsSettlement *settlement, CsPile *pile, Size size)
{
	if (pile->n == pile->max)
	{
		pile->max = pile->max ? pile->max * 2 : 64;
		pile->items = pile->items ? repalloc(pile->items, pile->max * size) :
			MemoryContextAlloc(settlement->context, pile->max * size);
	}
	return (char *) pile->items + size * pile->n++;
}

static CsLaneOutcomes *
outcomes_of(CsSettlement *settlement, CsLane *lane)
{
	MemoryContext old;

	if (lane->outcomes)
		return lane->outcomes;
	old = MemoryContextSwitchTo(settlement->context);
	lane->outcomes = palloc0(sizeof(CsLaneOutcomes));
	lane->outcomes->lane = lane;
	settlement->lanes = lappend(settlement->lanes, lane->outcomes);
	MemoryContextSwitchTo(old);
	return lane->outcomes;
}

static char *
copy(CsSettlement *settlement, const char *text)
{
	return text ? MemoryContextStrdup(settlement->context, text) : NULL;
}

static void
note_done(CsLane *lane, CsQueuePosition position, void *arg)
{
	CsSettlement *settlement = arg;
	CsQueuePosition *done = pile_add(settlement, &outcomes_of(settlement, lane)->done,
									 sizeof(CsQueuePosition));

	*done = position;
}

/* Effect: the change has its outcome; its contact lives until that is stored. */
static void
finish(CsSettlement *settlement, CsChange *change)
{
	if (change->reading && (settlement->readings == NIL ||
							llast(settlement->readings) != change->reading))
	{
		MemoryContext old = MemoryContextSwitchTo(settlement->context);

		settlement->readings = lappend(settlement->readings, change->reading);
		cs_reading_use(change->reading);
		MemoryContextSwitchTo(old);
	}
	change->reading = NULL;
	cs_change_finish(change, note_done, settlement);
}

/* What the contact is stored under: for direct upserts, who it is; so much of
 * it as fits, for a key that is too long has a failure as well. */
static const char *
stored_key(CsSettlement *settlement, const CsChange *change)
{
	if (change->direct && change->contact && change->contact->upsert_key)
		return cs_encoding_from_utf8(change->contact->upsert_key);
	if (strlen(change->key) > CS_KEY_MAX_BYTES)
	{
		/*
		 * one byte more than a key may have, so that it fails again if
		 * retried
		 */
		int			len = pg_mbcliplen(change->key, strlen(change->key), CS_KEY_MAX_BYTES);

		return copy(settlement, psprintf("%.*s%*s", len, change->key, CS_KEY_MAX_BYTES + 1 - len, "~"));
	}
	return copy(settlement, change->key);
}

void
cs_settle_synced(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome)
{
	CsLaneOutcomes *outcomes = outcomes_of(settlement, change->lane);
	CsStored   *stored = pile_add(settlement, &outcomes->synced, sizeof(CsStored));

	memset(stored, 0, sizeof(CsStored));
	stored->key = stored_key(settlement, change);
	stored->contact = change->contact;
	stored->digest = change->digest;
	stored->remote_id = copy(settlement, outcome->remote_id ? outcome->remote_id :
							 change->contact->remote_id);
	stored->remote_status = copy(settlement, outcome->remote_status);
	stored->remote_updated_at = copy(settlement, outcome->remote_updated_at);
	stored->note = copy(settlement, outcome->note);
	stored->topics = copy(settlement, outcome->topics);
	stored->consent_sent = outcome->consent_sent;
	stored->opted_out = outcome->opted_out;
	cs_change_note_sent(change);
	finish(settlement, change);
}

/* Effect: no call was needed; a failure that the key had is over. */
void
cs_settle_unchanged(CsSettlement *settlement, CsChange *change)
{
	CsLaneOutcomes *outcomes = outcomes_of(settlement, change->lane);
	const char **key = pile_add(settlement, &outcomes->unchanged, sizeof(char *));

	*key = stored_key(settlement, change);
	finish(settlement, change);
}

/*
 * Effect: no call is made, for another row that means the same contact was
 * changed later and sent already.  It is known of this one that it is there,
 * but nothing that its next change could equal.
 */
void
cs_settle_outdated(CsSettlement *settlement, CsChange *change)
{
	CsLaneOutcomes *outcomes = outcomes_of(settlement, change->lane);
	CsStored   *stored = pile_add(settlement, &outcomes->synced, sizeof(CsStored));

	memset(stored, 0, sizeof(CsStored));
	stored->key = stored_key(settlement, change);
	stored->contact = change->contact;
	stored->topics = copy(settlement, change->contact->topics);
	stored->consent_sent = change->contact->consent_sent;
	stored->opted_out = change->contact->opted_out;
	finish(settlement, change);
}

void
cs_settle_failed(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome,
				 const char *request_id)
{
	CsLaneOutcomes *outcomes = outcomes_of(settlement, change->lane);
	CsStored   *stored = pile_add(settlement, &outcomes->failed, sizeof(CsStored));
	MemoryContext old;

	memset(stored, 0, sizeof(CsStored));
	stored->key = stored_key(settlement, change);
	stored->contact = change->contact;
	stored->reason = outcome->reason ? copy(settlement, outcome->reason) : CS_REASON_REJECTED;
	stored->code = copy(settlement, outcome->code);
	stored->message = copy(settlement, outcome->message);
	stored->field = copy(settlement, outcome->field);
	stored->request_id = copy(settlement, request_id);
	stored->attempts = Max(change->attempts, 1);
	stored->unsure = change->in_doubt || strcmp(stored->reason, CS_REASON_UNAVAILABLE) == 0 ||
		strcmp(stored->reason, CS_REASON_UNREADABLE) == 0;
	stored->withdraws = !outcome->consent_sent && change->contact &&
		cs_contact_is(change->contact, CS_OPT_IN, "false");
	if (change->direct)
	{
		old = MemoryContextSwitchTo(settlement->context);
		stored->direct = (Jsonb *) PG_DETOAST_DATUM_COPY(PointerGetDatum(change->direct));
		MemoryContextSwitchTo(old);
	}
	outcomes->last_error = stored->message ? stored->message : stored->reason;
	finish(settlement, change);
}

void
cs_settle_call(CsSettlement *settlement, const CsCallRecord *record)
{
	MemoryContext old = MemoryContextSwitchTo(settlement->context);
	CsCallRecord *call = palloc(sizeof(CsCallRecord));

	*call = *record;
	call->path = pstrdup(record->path);
	call->idempotency_key = copy(settlement, record->idempotency_key);
	call->request_id = copy(settlement, record->request_id);
	call->error = copy(settlement, record->error);
	settlement->calls = lappend(settlement->calls, call);
	MemoryContextSwitchTo(old);
}

/*
 * Storing
 */

/* A key is here once: its next call starts only when this one is stored. */
static void
store_synced(CsLane *lane, CsPile *pile)
{
	CsStored   *stored = pile->items;

	cs_ledger_store(lane->endpoint_id, lane->watch_id, pile->n, stored);
	if (lane->has_failures)
	{
		char	  **keys = palloc(pile->n * sizeof(char *));

		for (int i = 0; i < pile->n; i++)
			keys[i] = unconstify(char *, stored[i].key);
		cs_state_clear_failures(lane->endpoint_id, lane->watch_id, pile->n, keys);
	}
	if (lane->watch_id == 0)
		lane->account->has_direct = true;
	else if (lane->account->has_direct)
		cs_state_doubt_direct(lane->endpoint_id, pile->n, stored);
}

static void
store_lane(CsLaneOutcomes *outcomes)
{
	CsLane	   *lane = outcomes->lane;

	if (outcomes->synced.n > 0)
		store_synced(lane, &outcomes->synced);
	if (outcomes->unchanged.n > 0 && lane->has_failures)
		cs_state_clear_failures(lane->endpoint_id, lane->watch_id, outcomes->unchanged.n,
								outcomes->unchanged.items);
	if (outcomes->failed.n > 0)
	{
		lane->has_failures = true;
		cs_state_store_failed(lane->endpoint_id, lane->watch_id, outcomes->failed.n,
							  outcomes->failed.items);
	}
	if (outcomes->done.n > 0)
		cs_queue_delete(lane->endpoint_id, lane->watch_id, outcomes->done.n,
						outcomes->done.items);
	cs_state_count(lane->endpoint_id, lane->watch_id, outcomes->synced.n,
				   outcomes->unchanged.n, outcomes->failed.n, outcomes->last_error);
}

/*
 * Effect: that the account is halted is told once, whatever restarts lie in
 * between, and that it goes on only when somebody has been synced since.
 */
static void
announce_health(CsAccount *account)
{
	bool		halted = account->health == CS_HALTED;

	if (halted == account->alarmed || !(halted || account->proven))
		return;
	account->alarmed = halted;
	cs_state_set_alarmed(account->id, halted);
	cs_announce(halted ? "halted" : "recovered", account->id, 0, halted ? account->reason : NULL, 0);
}

static void
store_health(CsAccount *account)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
	{
		CsLane	   *lane = lfirst(lc);

		if (lane->broken_changed &&
			cs_state_set_watch(lane->watch_id, lane->broken, lane->broken ? lane->reason : NULL))
			cs_announce(lane->broken ? "halted" : "recovered", lane->endpoint_id, lane->watch_id,
						lane->broken ? "broken" : NULL, 0);
		lane->broken_changed = false;
	}
	announce_health(account);
	if (account->lesson_changed)
		cs_state_remember(account->id, account->taught_pace, account->memo);
	account->lesson_changed = false;
	if (!account->health_changed)
		return;
	cs_state_set_health(account->id, cs_account_health_name(account), account->reason,
						account->health == CS_RUNNING ? 0 : cs_clock_timestamp(account->resume_at));
	account->health_changed = false;
}

/* The counts of an endpoint, palloc'd, and in the list from now on. */
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

/* Effect: all of it is counted; too many failures are told of. */
static void
store_stats(const CsSettlement *settlement)
{
	MemoryContext old = MemoryContextSwitchTo(settlement->context);
	List	   *all = NIL;
	ListCell   *lc;

	foreach(lc, settlement->calls)
	{
		const CsCallRecord *record = lfirst(lc);

		cs_stats_add_call(stats_of(&all, record->endpoint), record);
	}
	foreach(lc, settlement->lanes)
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
			cs_announce("failures", stats->endpoint, 0, NULL, failed);
	}
	MemoryContextSwitchTo(old);
}

void
cs_settle_store(CsSettlement *settlement, List *accounts)
{
	CsSqlScope	scope;
	ListCell   *lc;

	cs_sql_enter(&scope);
	foreach(lc, settlement->lanes)
		store_lane(lfirst(lc));
	foreach(lc, settlement->calls)
		cs_state_log_call(lfirst(lc));
	store_stats(settlement);
	foreach(lc, accounts)
		store_health(lfirst(lc));
	cs_sql_leave(&scope);
}

void
cs_settle_forget(CsSettlement *settlement)
{
	ListCell   *lc;

	foreach(lc, settlement->lanes)
		((CsLaneOutcomes *) lfirst(lc))->lane->outcomes = NULL;
	foreach(lc, settlement->readings)
		cs_reading_release(lfirst(lc));
	settlement->lanes = settlement->calls = settlement->readings = NIL;
	MemoryContextReset(settlement->context);
}
