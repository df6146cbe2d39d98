/*-------------------------------------------------------------------------
 *
 * account_store.c
 *		What is stored and shown of an account: its health, what its provider taught
 *		us, and that calls may be under way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/activity.h"
#include "base/clock.h"
#include "base/sql.h"
#include "delivery/account_store.h"
#include "store/alert.h"
#include "store/endpoint_state.h"
#include "store/notify.h"
#include "store/watch_store.h"

/*
 * Listeners are told of a halt once, however often the process restarts
 * meanwhile, and of the recovery only when a contact has been synced since.
 */
static bool
has_to_notify(const CsAccount *account)
{
	bool		halted = account->health == CS_HALTED;

	return halted != account->halt_notified && (halted || account->synced_since_halt);
}

/* Has its health, or that of a lane, changed since it was last stored? */
bool
cs_account_has_to_store(const CsAccount *account)
{
	ListCell   *lc;

	if (account->store_at > 0 && account->store_at > cs_clock_now())
		return false;
	if (account->health_changed || account->learned_changed || account->pull_error_changed ||
		account->breaker.changed || has_to_notify(account))
		return true;
	foreach(lc, account->lanes)
	{
		const CsLane *lane = lfirst(lc);

		if (lane->broken_changed || lane->waiting_changed)
			return true;
	}
	return false;
}

static void
notify_health(const CsAccount *account)
{
	bool		halted = account->health == CS_HALTED;

	if (!has_to_notify(account))
		return;
	cs_endpoint_state_set_halt_notified(account->id, halted);
	cs_notify(halted ? "halted" : "recovered", account->id, 0, halted ? account->reason : NULL, 0);
	if (halted)
		cs_alert_begin(account->breaker.open ? "breaker" : "halted", account->id, 0, account->reason, -1);
	else
		cs_alert_end_halt(account->id);
}

/* Store what changed.  Within cs_sql_enter(). */
void
cs_account_store_health(const CsAccount *account)
{
	static const char *const names[] = {"running", "throttled", "unavailable", "halted"};
	ListCell   *lc;

	foreach(lc, account->lanes)
	{
		CsLane	   *lane = lfirst(lc);

		if ((lane->broken_changed || lane->waiting_changed) &&
			cs_watch_store_set_state(lane->watch_id, lane->broken, lane->broken ? lane->reason : lane->waits_for))
		{
			cs_notify(lane->broken ? "halted" : "recovered", lane->endpoint_id, lane->watch_id,
					  lane->broken ? "broken" : NULL, 0);
			if (lane->broken)
				cs_alert_begin("broken", lane->endpoint_id, lane->watch_id, NULL, -1);
			else
				cs_alert_end_watches(1, &lane->endpoint_id);
		}
	}
	notify_health(account);
	if (account->learned_changed)
		cs_endpoint_state_set_learned(account->id, account->learned.rate, account->limitation);
	if (account->breaker.changed)
		cs_endpoint_state_set_breaker(account->id, cs_breaker_to_store(&account->breaker));
	if (account->pull_error_changed)
		cs_endpoint_state_set_pull_error(account->id, account->pull_error);
	if (account->health_changed)
		cs_endpoint_state_set_health(account->id, names[account->health], account->reason,
									 account->health == CS_RUNNING ? 0 : cs_clock_timestamp(account->resume_at));
}

/* What cs_account_store_health() did will be committed. */
void
cs_account_health_stored(CsAccount *account)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
	{
		CsLane	   *lane = lfirst(lc);

		/* a watch that works again goes on with its removals */
		if (lane->broken_changed)
			account->removals_at = 0;
		lane->broken_changed = lane->waiting_changed = false;
	}
	if (has_to_notify(account))
		account->halt_notified = !account->halt_notified;
	account->learned_stored = account->learned.rate;
	account->learned_changed = account->health_changed = account->pull_error_changed = false;
	account->breaker.changed = false;
}

/*
 * Is it stored that calls may be under way, although the provider cannot have
 * anything unconfirmed?  What it did not answer well counts as under way until it
 * has been tried again.
 */
bool
cs_account_is_idle_but_busy(const CsAccount *account)
{
	ListCell   *lc;

	if (!account->busy)
		return false;
	foreach(lc, account->lanes)
		if (((CsLane *) lfirst(lc))->changes.nchanges > 0 ||
			((CsLane *) lfirst(lc))->has_set_aside)
		return false;
	return dlist_is_empty(unconstify(dlist_head *, &account->ready));
}

/*
 * Store, durably, whether calls may be under way; true before the first call.
 * Whoever starts after a crash then knows what may have been sent.
 */
void
cs_account_store_busy(CsAccount *account, bool busy)
{
	CsSqlScope	scope;

	if (account->busy == busy)
		return;
	cs_sql_enter(&scope);
	cs_endpoint_state_set_busy(account->id, busy);
	cs_sql_leave(&scope);
	if (busy)
		ForceSyncCommit();
	account->busy = busy;
}

/* Show in the view status what the account is doing. */
void
cs_account_publish(CsAccount *account)
{
	int			in_flight = account->in_flight + account->listing;
	bool		locked = Max(Max(account->locked_until, account->store_at), account->kept_until) > cs_clock_now();
	CsActivity	activity = {
		.endpoint = account->id,.in_flight = in_flight,.waiting = account->nwaiting,.pace = account->pace.rate,
		.configured_pace = account->endpoint ? account->endpoint->pace : 0,.locked = locked,
		.roleid = account->roleid,.account = account->endpoint ? cs_provider_account_hash(account->endpoint) : 0
	};

	if (account->published == in_flight && account->nwaiting_published == account->nwaiting &&
		account->locked_published == locked)
		return;
	account->locked_published = locked;
	account->published = in_flight;
	account->nwaiting_published = account->nwaiting;
	cs_activity_publish(&activity);
}
