/*-------------------------------------------------------------------------
 *
 * accounts.c
 *		What concerns all accounts of a delivery.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "base/attention.h"
#include "base/clock.h"
#include "base/sql.h"
#include "delivery/account.h"
#include "delivery/account_store.h"
#include "delivery/accounts.h"
#include "delivery/call.h"
#include "delivery/pull.h"
#include "delivery/removal.h"
#include "delivery/scan.h"
#include "delivery/token.h"
#include "store/pause.h"

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
			if (lane->paused)
				cs_lane_let_go(lane);
		}
	}
	cs_sql_leave(&scope);
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

/* Is a token being refreshed? */
bool
cs_accounts_any_refreshing(const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
		if (((CsAccount *) lfirst(lc))->refresh)
		return true;
	return false;
}

/* Has the health of one changed, or what it was taught? */
bool
cs_accounts_any_to_store(const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
		if (cs_account_has_to_store(lfirst(lc)))
		return true;
	return false;
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

void
cs_accounts_publish(const List *accounts)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, accounts)
	{
		CsAccount  *account = lfirst(lc);

		cs_account_publish(account);
		foreach(other, account->lanes)
		{
			CsLane	   *lane = lfirst(other);

			if (lane->waiting_since != 0 && cs_clock_now() > lane->waits_until)
				cs_lane_wait_is_over(lane);
			cs_change_empty_set(&lane->changes);
		}
		cs_change_empty_set(&account->removals->changes);
	}
}

/* When the lanes of an account have something to send or to compare. */
static double
lanes_ready_at(CsAccount *account, double now)
{
	double		at;
	ListCell   *lc;

	if (!cs_account_has_room(account))
		return DBL_MAX;
	at = Min(cs_scan_ready_at(account, now), cs_removal_ready_at(account, now));
	foreach(lc, account->lanes)
		at = Min(at, cs_lane_ready_at(lfirst(lc), now));
	return at;
}

/* When the account can send or compare something by itself; DBL_MAX: an answer or a
 * wake-up comes first. */
static double
can_go_on_at(CsAccount *account, double now)
{
	double		at;
	dlist_iter	iter;

	if (account->paused)
		return DBL_MAX;
	if (account->locked_until > now)
		return account->locked_until;
	at = lanes_ready_at(account, now);
	dlist_foreach(iter, &account->ready)
		at = Min(at, dlist_container(CsCall, node, iter.cur)->not_before);
	if (at == DBL_MAX)
		return cs_pull_ready_at(account, now);
	if (cs_token_is_due(account, now))
		return cs_token_ready_at(account, now);
	return Min(Max(at, cs_account_ready_at(account, now)), cs_pull_ready_at(account, now));
}

/* ... or what became of it can be stored, after somebody had locked that. */
double
cs_accounts_ready_at(CsAccount *account, double now)
{
	double		at = can_go_on_at(account, now);

	return account->store_at > now ? Min(at, account->store_at) : at;
}

/* When a call for something new could start; DBL_MAX: when one in flight has ended. */
static double
call_possible_at(const CsAccount *account, double now)
{
	return Max(cs_account_ready_at(account, now), account->locked_until);
}

/*
 * Return the endpoints that a call cannot start for now, as bits, and set until when
 * that is so for all of these; if for all there are, "all_quiet".  Until then nobody
 * need wake us for them, so commits that come faster than the provider takes them do
 * not pay for that.
 */
uint64
cs_accounts_quiet(const List *accounts, double now, double *until, bool *all_quiet)
{
	uint64		quiet = 0;
	uint64		others = 0;
	ListCell   *lc;

	*until = DBL_MAX;
	foreach(lc, accounts)
	{
		CsAccount  *account = lfirst(lc);
		double		at = call_possible_at(account, now);

		if (at > now)
		{
			quiet |= cs_attention_bit(account->id);
			*until = Min(*until, at);
		}
		else
			others |= cs_attention_bit(account->id);
	}
	*all_quiet = others == 0;
	return quiet & ~others;
}

/* Has the account something to do that it can do by itself? */
bool
cs_accounts_has_work(CsAccount *account)
{
	ListCell   *lc;

	/* somebody has to act first */
	if (account->paused || account->health == CS_HALTED)
		return false;
	if (!dlist_is_empty(&account->ready) || account->refresh || account->puller)
		return true;
	foreach(lc, account->lanes)
		if (cs_scan_lane_has_work(lfirst(lc), cs_clock_now()))
		return true;
	return cs_removal_has_work(account, cs_clock_now());
}
