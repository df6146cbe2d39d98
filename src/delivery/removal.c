/*-------------------------------------------------------------------------
 *
 * removal.c
 *		Contacts that no row stands for are removed, last.
 *
 * A row that is deleted, filtered out, or mapped to another contact leaves a
 * departure behind.  That its contact is to be removed is decided only when
 *
 *	- the delete_delay of its watch has passed;
 *	- every change of the running watches of the endpoint that had been queued by
 *	  then has been decided on, since one of them may stand for the contact;
 *	- all rows of these watches have been read once, by an import or a
 *	  reconciliation, or because there were none;
 *	- no row stands for it, nor did contactsync_upsert() make it;
 *	- nor may a row that was forgotten, and is not read again yet;
 *	- its watch is not one that waits for somebody, with changes that are not read;
 *	- and it is not one of so many that somebody has to be asked (delete_guard).
 *
 * So a key that changes, a move between partitions, or a row that is deleted and
 * inserted again makes no call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/text.h"
#include "base/sql.h"
#include "delivery/change_add.h"
#include "delivery/change_lock.h"
#include "delivery/intent.h"
#include "delivery/lane.h"
#include "delivery/pull.h"
#include "delivery/remaining.h"
#include "delivery/removal.h"
#include "delivery/removal_guard.h"
#include "delivery/scan.h"
#include "provider/provider.h"
#include "store/contact_known.h"
#include "store/contact_state.h"
#include "store/departure.h"
#include "store/failure.h"
#include "store/row_state.h"
#include "store/watch_store.h"

/* Departures that are looked at a time. */
#define MAX_DEPARTURES	1000

/* What cannot be decided yet is looked at again after (s). */
#define LOOK_PAUSE		1.0

/* Does the lane hold back what its rows could still stand for? */
static bool
is_running(const CsLane *lane)
{
	return lane->watch != NULL && !lane->paused && !lane->broken && !lane->guard.closed;
}

/*
 * Begin to wait for all that is queued now.  Return false if the queue of a lane
 * cannot be read to its end, for there is too much of it, or rows are yet to be found
 * that use what has changed in a related table.
 */
static bool
set_barriers(CsAccount *account)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
	{
		CsLane	   *lane = lfirst(lc);

		if (!is_running(lane))
			continue;
		lane->exhausted = false;
		cs_lane_load(lane);
		if (!lane->exhausted || lane->related != NIL)
			return false;
		lane->barrier = lane->changes.last_sequence;
	}
	account->removal_cutoff = GetCurrentTimestamp();
	return true;
}

/* Has all that was queued then been decided on? */
static bool
is_past_barriers(const CsAccount *account)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
	{
		const CsLane *lane = lfirst(lc);

		if (is_running(lane) &&
			(lane->outcomes != NULL || cs_change_oldest(&lane->changes, true) <= lane->barrier))
			return false;
	}
	return true;
}

/* Is it known of all rows whose contacts they are, and is no scan finding out? */
static bool
is_complete(const CsAccount *account)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
	{
		const CsLane *lane = lfirst(lc);

		if (is_running(lane) && (!lane->watch->complete || cs_scan_is_walking(lane)))
			return false;
	}
	return true;
}

static void
check_guards(CsAccount *account)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
		if (is_running(lfirst(lc)))
		cs_removal_guard_check(lfirst(lc));
}

/* Did contactsync_resume() say that it is to be removed? */
static bool
was_let_go(const CsLane *lane, const CsDeparture *departure)
{
	return lane && departure->departed_at <= lane->watch->removals_until;
}

/*
 * Add what may be removed to the lane; what somebody stands for is settled.  Return
 * true if contacts were left since the barriers were set, which need others.
 */
static bool
add_departures(CsAccount *account, int n, CsDeparture *departures)
{
	CsLane	   *removals = account->removals;
	char	  **decided = palloc(n * sizeof(char *));
	TimestampTz now = GetCurrentTimestamp();
	bool		later = false;
	int			ndecided = 0;

	for (int i = 0; i < n; i++)
	{
		CsDeparture *departure = &departures[i];
		CsLane	   *lane = cs_account_find_lane(account, departure->watch);

		if (departure->departed_at > account->removal_cutoff && !departure->erase)
		{
			later |= departure->departed_at <= now;
			continue;
		}
		if (cs_pull_may_wait(account, departure->upsert_key))
			continue;			/* a row may stand for it */
		if (departure->stands || departure->action == '\0')
			decided[ndecided++] = unconstify(char *, departure->upsert_key);
		else if (departure->erase || lane == NULL || !(lane->broken || lane->guard.closed))
		{
			cs_change_add_removal(&removals->changes, departure->upsert_key, departure->watch,
								  departure->key, departure->departed_at, departure->action, departure->erase);
			if (!departure->erase && !was_let_go(lane, departure))
				cs_watch_store_count_removed(departure->watch, 1);
		}
	}
	cs_departure_remove(account->id, ndecided, decided);
	return later;
}

/* Read what is due, if all that was queued before has been decided on. */
static void
read_departures(CsAccount *account)
{
	CsDeparture *departures;
	bool		complete;
	int			n;

	if (account->removal_cutoff == 0 && !set_barriers(account))
		return;
	if (!is_past_barriers(account))
		return;
	complete = is_complete(account);
	/* a scan that is running may find more, which are to be counted together */
	if (complete)
		check_guards(account);
	departures = cs_departure_read_due(account->id, !complete, MAX_DEPARTURES, &n);
	if (add_departures(account, n, departures))
		account->removals_at = 0;
	account->removal_cutoff = 0;
}

void
cs_removal_load(CsAccount *account, double now)
{
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	double		due_in;

	if (now < account->removals_at || account->removals->changes.nchanges > 0)
		return;
	account->removals_at = now + LOOK_PAUSE;
	cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	due_in = cs_departure_due_in(account->id);
	if (due_in == 0)
		read_departures(account);
	else
	{
		account->removal_cutoff = 0;
		if (due_in < DBL_MAX && cs_departure_set_back(account->id))
			due_in = 0;
		account->removals_at = due_in == DBL_MAX ? DBL_MAX : now + Max(due_in, LOOK_PAUSE);
	}
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
}

double
cs_removal_ready_at(const CsAccount *account, double now)
{
	double		at = cs_lane_ready_at(account->removals, now);

	if (account->removals->changes.nchanges > 0)
		return at;
	return account->removals_at == DBL_MAX ? DBL_MAX : Max(account->removals_at, now);
}

bool
cs_removal_has_work(const CsAccount *account, double now)
{
	return account->removals->changes.nchanges > 0 || account->removal_cutoff != 0 ||
		account->removals_at <= now;
}

/*
 * Deciding
 */

/* The contact as it is to be removed. */
static CsContact *
make_contact(const CsChange *change, const CsKnown *known)
{
	CsContact  *contact = palloc0(sizeof(CsContact));

	contact->action = change->removal_action == 'd' ? CS_DELETE : CS_UNSUBSCRIBE;
	contact->upsert_key = cs_text_to_utf8(known->upsert_key, strlen(known->upsert_key));
	contact->known = known->synced_at != 0;
	contact->claimed = known->claimed;
	contact->opted_out = known->opted_out;
	contact->opt_in_at = known->opt_in_at;
	contact->remote_id = known->remote_id;
	contact->topics = known->topics;
	if (known->email)
	{
		cs_contact_set(contact, CS_EXTERNAL_ID, contact->upsert_key);
		cs_contact_set(contact, CS_EMAIL, cs_text_to_utf8(known->email, strlen(known->email)));
	}
	return contact;
}

/*
 * Where the provider has one contact for an address, it is deleted with everything that
 * we know it by: if that is the address, by the ID that it had before its row had none.
 */
static void
add_alias(const CsLane *lane, CsChange *change, CsKnown *known)
{
	CsContact  *contact = change->contact;
	CsKnown		alias;

	if ((lane->account->endpoint->provider->abilities & CS_UNIQUE_EMAIL) == 0)
		return;
	cs_contact_known_read_alias(lane->endpoint_id, known, &alias);
	if (!alias.found)
		return;
	change->alias_key = alias.upsert_key;
	contact->claimed |= alias.claimed;
	contact->opted_out |= alias.opted_out;
	if (known->email)
		return;
	cs_contact_set(contact, CS_EXTERNAL_ID, cs_text_to_utf8(alias.upsert_key, strlen(alias.upsert_key)));
	cs_contact_set(contact, CS_EMAIL, contact->upsert_key);
}

/*
 * Does a row stand for it?  So does one that could not be sent, which may have taken the
 * place of the one that has gone.  Where the provider has one contact for an address, a row
 * with the same address that is known by the address rather than by an ID, or the other
 * way round, stands for it, too.
 */
static bool
is_stood_for(const CsLane *lane, const CsKnown *known)
{
	bool		unique = (lane->account->endpoint->provider->abilities & CS_UNIQUE_EMAIL) != 0;

	if (cs_row_state_has_other(lane->endpoint_id, known->upsert_key, 0, NULL) ||
		(cs_account_has_failures(lane->account) && cs_failure_has_row(lane->endpoint_id, known->upsert_key)))
		return true;
	return unique && cs_row_state_has_alias(lane->endpoint_id, cs_contact_known_address(known),
											known->upsert_key);
}

/* Return true if the contact has to be removed at the provider. */
static bool
decide(CsLane *lane, CsChange *change, CsReadBatch *read_batch, CsSettlement *settlement)
{
	CsKnown		known;
	CsRefusal  *refusal;
	CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED};

	cs_contact_state_read(lane->endpoint_id, 1, &change->key, &known);
	change->upsert_key = change->key;
	if (!known.found || known.action == 'n' || known.direct || is_stood_for(lane, &known))
	{
		cs_settle_kept(settlement, change);
		return false;
	}
	if (cs_remaining_stands(lane->account, &known))
	{
		if (change->removal_erases)
			cs_settle_kept(settlement, change);
		else
			cs_settle_waiting(settlement, change);
		return false;
	}
	cs_contact_state_stays(&known);
	change->contact = make_contact(change, &known);
	change->contact->change_id = hash_combine64(change->queue_id, lane->account->stale_before);
	change->contact->retries = change->attempts;
	if (change->contact->action == CS_DELETE)
		add_alias(lane, change, &known);
	change->read_batch = read_batch;
	change->upsert_key = known.upsert_key;
	change->was_known = known.synced_at != 0;
	change->contact_tid = known.tid;
	change->contact_opt_in = known.opt_in;
	change->spoke_at = known.spoke_at;
	memset(&change->digest, 0, sizeof(change->digest));
	refusal = cs_provider_prepare(lane->account->endpoint, change->contact);
	if (refusal)
	{
		outcome.reason = refusal->reason;
		outcome.message = refusal->message;
		outcome.field = refusal->field;
		cs_settle_failed(settlement, change, &outcome, NULL);
		return false;
	}
	if (cs_change_lock(change, lane->account->id, change->contact->upsert_key, CS_LOCK_KEY))
		return true;
	change->contact = NULL;
	change->read_batch = NULL;
	return false;
}

int
cs_removal_decide(CsLane *lane, int n, CsChange **changes, CsReadBatch *read_batch,
				  CsSettlement *settlement, double now)
{
	int			kept = 0;

	for (int i = 0; i < n; i++)
	{
		CsChange   *change = changes[i];

		if (change && decide(lane, change, read_batch, settlement))
			changes[kept++] = change;
	}
	if (cs_intent_store_deletions(lane, kept, changes))
		return kept;
	for (int i = kept - 1; i >= 0; i--)
	{
		cs_change_postpone(changes[i], now + CS_LOCKED_PAUSE, true);
		changes[i]->contact = NULL;
		changes[i]->read_batch = NULL;
	}
	return 0;
}
