/*-------------------------------------------------------------------------
 *
 * accounts.c
 *		The accounts of a delivery, with their lanes: loaded from what is
 *		stored, and replaced when definitions change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "access/transam.h"
#include "access/xact.h"
#include "postmaster/bgworker.h"
#include "utils/acl.h"

#include "base/clock.h"
#include "base/sql.h"
#include "base/try.h"
#include "capture/ddl.h"
#include "delivery/account.h"
#include "delivery/accounts.h"
#include "delivery/database_identity.h"
#include "delivery/pull.h"
#include "delivery/removal.h"
#include "delivery/scan.h"
#include "provider/provider.h"
#include "store/contact_state.h"
#include "store/endpoint_state.h"
#include "store/failure.h"
#include "store/pause.h"
#include "store/watch.h"
#include "store/watch_store.h"

static CsAccount *
find_account(const List *accounts, int id)
{
	ListCell   *lc;

	foreach(lc, accounts)
	{
		if (((CsAccount *) lfirst(lc))->id == id)
			return lfirst(lc);
	}
	return NULL;
}

/*
 * What belongs to roles that do not exist any more
 */

static void
drop_watch(void *arg)
{
	const CsOrphan *orphan = arg;

	cs_watch_store_drop(orphan->endpoint, orphan->watch);
}

/* Drop a watch; if somebody has a lock on its table, leave the triggers there,
 * which do nothing then. */
static void
drop_watch_or_row(CsOrphan *orphan)
{
	if (cs_try(drop_watch, orphan, "100ms", NULL) != CS_TRY_OK)
		cs_watch_store_abandon(orphan->endpoint, orphan->watch);
}

static void
drop_orphans(void)
{
	CsOrphan   *orphans;
	int			n = cs_endpoint_state_find_orphans(&orphans);

	for (int i = 0; i < n; i++)
	{
		if (orphans[i].watch != 0)
			drop_watch_or_row(&orphans[i]);
		if (i + 1 == n || orphans[i + 1].endpoint != orphans[i].endpoint)
			cs_endpoint_state_drop(orphans[i].endpoint);
	}
}

/*
 * Loading
 */

static bool
is_chosen(const CsAccountsFilter *filter, const CsEndpointState *state)
{
	return (!OidIsValid(filter->serverid) || state->serverid == filter->serverid) &&
		(!OidIsValid(filter->member) || has_privs_of_role(filter->member, state->roleid));
}

/* "now_xact": calls of earlier transactions may have been under way when the
 * process before this one ended. */
static void
add_lane(CsAccount *account, CsWatch *watch, CsIdentityLocks *locks, uint64 now_xact)
{
	CsLane	   *lane = cs_lane_create(account, account->id, watch, locks);

	lane->unconfirmed_below = account->busy ? now_xact : 0;
	account->lanes = lappend(account->lanes, lane);
	lane->has_failures = cs_failure_exists(account->id, lane->watch_id);
	cs_scan_load(lane);
}

/* Find out which account it is at the provider, and whose memory of consent counts. */
static void
load_consents(CsAccount *account)
{
	const CsEndpoint *endpoint = account->endpoint;
	MemoryContext context = CurrentMemoryContext;
	const char *option;

	if (endpoint)
	{
		option = endpoint->provider->account_option ? endpoint->provider->account_option : "account";
		cs_consent_set_account(account->id, endpoint->provider->name, endpoint->base_url,
							   cs_endpoint_option(endpoint, option), endpoint->server_name,
							   account->roleid);
		MemoryContextSwitchTo(context);
	}
	cs_consent_load_scope(account->id, &account->consents);
}

static CsAccount *
load_account(const CsEndpointState *state, bool is_new)
{
	CsAccount  *account = cs_account_create(state);

	cs_account_read_endpoint(account, cs_clock_now());
	if (is_new)
		cs_account_resume_throttle(account, cs_clock_now(), state->throttled_until, state->reason);
	load_consents(account);
	cs_pull_init(account, state, cs_clock_now());
	return account;
}

/*
 * Have an account that was halted or throttled, and a lane that was broken, wait as
 * before, unless its own definition has changed.  That may have been read already,
 * by the delivery that is replaced.
 */
static void
carry_over(const List *accounts, const List *before)
{
	ListCell   *lc;

	foreach(lc, accounts)
	{
		CsAccount  *account = lfirst(lc);
		CsAccount  *same = find_account(before, account->id);
		ListCell   *lane;
		ListCell   *other;

		if (same == NULL)
			continue;
		if (same->reconfigured || !cs_endpoint_equal(account->endpoint, same->endpoint))
		{
			cs_account_unlearn(account, cs_clock_now());
			continue;
		}
		cs_account_carry_over(account, same);
		foreach(lane, account->lanes)
			foreach(other, same->lanes)
			if (((CsLane *) lfirst(lane))->watch_id == ((CsLane *) lfirst(other))->watch_id)
			cs_lane_carry_over(lfirst(lane), lfirst(other));
	}
}

/* Delete what calls that were under way stored of watches since they were
 * dropped. */
static void
forget_dropped(const List *before, const List *watches)
{
	ListCell   *lc;
	ListCell   *other;
	ListCell   *there;

	foreach(lc, before)
		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
	{
		CsLane	   *lane = lfirst(other);
		bool		found = lane->watch_id == 0;

		foreach(there, watches)
			found |= ((CsWatch *) lfirst(there))->id == lane->watch_id;
		if (!found)
			cs_watch_store_forget(lane->endpoint_id, lane->watch_id);
	}
}

/*
 * Load the chosen accounts with their lanes, into the given context.  "before"
 * are those that they replace, or NIL.  Needs a transaction.
 */
List *
cs_accounts_load(MemoryContext context, const CsAccountsFilter *filter, CsIdentityLocks *locks,
				 const List *before)
{
	List	   *accounts = NIL;
	uint64		now_xact = U64FromFullTransactionId(ReadNextFullTransactionId());
	CsSqlScope	scope;
	List	   *endpoints;
	List	   *watches;
	ListCell   *lc;

	cs_sql_enter(&scope);
	cs_database_identity_check_timeline();
	drop_orphans();
	(void) cs_ddl_follow_renames();
	if (MyBgworkerEntry != NULL)
		cs_database_identity_warn();
	MemoryContextSwitchTo(context);
	endpoints = cs_endpoint_state_load_all();
	watches = cs_watch_load_all();
	foreach(lc, endpoints)
	{
		CsEndpointState *state = lfirst(lc);
		CsAccount  *account;

		if (!is_chosen(filter, state))
			continue;
		MemoryContextSwitchTo(context); /* SPI leaves its own */
		account = load_account(state, find_account(before, state->id) == NULL);
		MemoryContextSwitchTo(context);
		accounts = lappend(accounts, account);
		account->removals = cs_lane_create(account, account->id, NULL, locks);
		account->removals->removals = account->removals->exhausted = true;
		add_lane(account, NULL, locks, now_xact);
	}
	foreach(lc, watches)
	{
		CsWatch    *watch = lfirst(lc);
		CsAccount  *account = find_account(accounts, watch->endpoint);

		MemoryContextSwitchTo(context);
		if (account)
			add_lane(account, watch, locks, now_xact);
	}
	forget_dropped(before, watches);
	cs_sql_leave(&scope);
	cs_accounts_load_pauses(accounts);
	carry_over(accounts, before);
	return accounts;
}

/* Release what is not in the accounts' memory. */
void
cs_accounts_close(const List *accounts)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, accounts)
		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
	{
		cs_scan_close(lfirst(other));
		cs_lane_close(lfirst(other));
	}
}

/*
 * What concerns all of them
 */

/* Read which accounts and lanes are paused.  Needs a transaction. */
void
cs_accounts_load_pauses(const List *accounts)
{
	CsSqlScope	scope;
	List	   *pauses;
	ListCell   *lc;
	ListCell   *other;

	cs_sql_enter(&scope);
	pauses = cs_pause_load();
	foreach(lc, accounts)
	{
		CsAccount  *account = lfirst(lc);

		account->paused = cs_pause_includes(pauses, account->id, 0);
		foreach(other, account->lanes)
		{
			CsLane	   *lane = lfirst(other);

			lane->paused = lane->watch != NULL &&
				cs_pause_includes(pauses, lane->endpoint_id, lane->watch_id);
		}
	}
	cs_sql_leave(&scope);
}

/* Is an account or a lane paused? */
bool
cs_accounts_any_paused(const List *accounts)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, accounts)
	{
		if (((CsAccount *) lfirst(lc))->paused)
			return true;
		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
			if (((CsLane *) lfirst(other))->paused)
			return true;
	}
	return false;
}

/* Something may have been queued: have lanes that were read to the end read on. */
void
cs_accounts_reread_queue(const List *accounts)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, accounts)
		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
		((CsLane *) lfirst(other))->exhausted = false;
}

/* Poll now what is polled: somebody waits for it. */
void
cs_accounts_poll_now(const List *accounts)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, accounts)
		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
		cs_scan_poll_now(lfirst(other));
}

bool
cs_accounts_any_idle_but_busy(const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
		if (cs_account_is_idle_but_busy(lfirst(lc)))
		return true;
	return false;
}

/* Store of idle accounts that no call is under way.  Needs a transaction, to be
 * committed durably. */
void
cs_accounts_store_idle(const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
		if (cs_account_is_idle_but_busy(lfirst(lc)))
		cs_account_store_busy(lfirst(lc), false);
}

void
cs_accounts_publish(const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
		cs_account_publish(lfirst(lc));
}

/* When the lanes of an account have something to send or to compare. */
double
cs_accounts_lanes_ready_at(CsAccount *account, double now)
{
	double		at;
	ListCell   *lc;

	at = Min(cs_scan_ready_at(account, now), cs_removal_ready_at(account, now));
	foreach(lc, account->lanes)
		at = Min(at, cs_lane_ready_at(lfirst(lc), now));
	return at;
}

/*
 * When a call for something new could start; DBL_MAX: when one in flight has
 * ended.  Until then nobody need wake us, so commits that come faster than the
 * provider takes them do not pay for that.
 */
double
cs_accounts_call_possible_at(const List *accounts, double now)
{
	double		at = DBL_MAX;
	ListCell   *lc;

	foreach(lc, accounts)
		at = Min(at, cs_account_ready_at(lfirst(lc), now));
	return at;
}
