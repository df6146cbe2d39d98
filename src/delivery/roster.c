/*-------------------------------------------------------------------------
 *
 * roster.c
 *		The accounts and lanes that a delivery works on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "access/transam.h"
#include "access/xact.h"
#include "postmaster/bgworker.h"
#include "utils/acl.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "base/try.h"
#include "capture/ddl.h"
#include "delivery/call.h"
#include "delivery/database_identity.h"
#include "delivery/token.h"
#include "delivery/roster.h"
#include "delivery/scan.h"
#include "store/contact_state.h"
#include "store/endpoint_state.h"
#include "store/failure.h"
#include "store/pause.h"
#include "store/source_row.h"
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

static void
add_lane(CsAccount *account, CsWatch *watch, uint64 unconfirmed_below)
{
	CsLane	   *lane = cs_lane_create(account, account->id, watch ? watch->id : 0, watch);

	lane->unconfirmed_below = unconfirmed_below;
	account->lanes = lappend(account->lanes, lane);
	lane->has_failures = cs_failure_exists(account->id, lane->watch_id);
	cs_scan_load(lane);
}

/*
 * Effect: what is halted, throttled or broken goes on waiting, although
 * definitions were read again; unless it is its own that changed.
 */
static void
carry_over(List *accounts, const List *before)
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
		if (!cs_endpoint_equal(account->endpoint, same->endpoint))
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

/*
 * Effect: of watches that were dropped is forgotten what was stored of calls
 * that were under way.
 */
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

/* Effect: the accounts and lanes know which of them are paused.  Needs a transaction. */
void
cs_accounts_note_pauses(const List *accounts)
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

/* Is anything of them? */
bool
cs_accounts_is_paused(const List *accounts)
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

/* A watch, or with 0 an endpoint, of a role that does not exist any more. */
typedef struct CsOrphan
{
	int			endpoint;
	int			watch;
} CsOrphan;

static void
drop_watch(void *arg)
{
	const CsOrphan *orphan = arg;

	cs_watch_store_drop(orphan->endpoint, orphan->watch);
}

/*
 * Drop a watch whose owner does not exist any more.  If somebody holds the table
 * its triggers stay, and do nothing.
 */
static void
drop_watch_or_row(CsOrphan *orphan)
{
	if (cs_try(drop_watch, orphan, "100ms", NULL) == CS_TRY_OK)
		return;
	cs_watch_store_forget(orphan->endpoint, orphan->watch);
	cs_sql_execute_text("DELETE FROM contactsync.watch WHERE id = %d", orphan->watch);
}

/* Effect: what belonged to roles that do not exist any more is gone. */
static void
drop_orphans(void)
{
	static CsStatement statement = {
		"SELECT e.id, COALESCE(w.id, 0) FROM contactsync.endpoint e LEFT JOIN contactsync.watch w ON w.endpoint = e.id"
		" WHERE e.database = contactsync.database_identity() AND NOT EXISTS (SELECT FROM pg_authid r WHERE r.oid = e.role)"
		" ORDER BY e.id, w.id"
	};
	uint64		n = cs_sql_execute(&statement, NULL, NULL);
	CsOrphan   *orphans = palloc(Max(n, 1) * sizeof(CsOrphan));

	for (uint64 i = 0; i < n; i++)
	{
		orphans[i].endpoint = cs_sql_int(i, 1);
		orphans[i].watch = cs_sql_int(i, 2);
	}
	for (uint64 i = 0; i < n; i++)
	{
		if (orphans[i].watch != 0)
			drop_watch_or_row(&orphans[i]);
		if (i + 1 == n || orphans[i + 1].endpoint != orphans[i].endpoint)
			cs_endpoint_state_drop(orphans[i].endpoint);
	}
}

/*
 * The accounts that there are, with their lanes, palloc'd in the context: of
 * one server, or of all with InvalidOid, and of the roles that a role is, or of
 * all with InvalidOid.  "before" are those that they replace, or NIL.  Needs a
 * transaction.
 */
List *
cs_accounts_load(MemoryContext context, Oid only_server, Oid roles_of, const List *before)
{
	List	   *accounts = NIL;
	uint64		now_xact = U64FromFullTransactionId(ReadNextFullTransactionId());
	CsSqlScope	scope;
	List	   *endpoints;
	List	   *watches;
	ListCell   *lc;

	cs_sql_enter(&scope);
	cs_database_identity_note_timeline();
	drop_orphans();
	(void) cs_ddl_follow_renames();
	if (MyBgworkerEntry != NULL)
		cs_database_identity_warn();
	MemoryContextSwitchTo(context);
	endpoints = cs_endpoint_state_load_all();
	watches = cs_watch_load_all();
	MemoryContextSwitchTo(context);
	foreach(lc, endpoints)
	{
		CsEndpointState *state = lfirst(lc);
		CsAccount  *account;

		if ((OidIsValid(only_server) && state->serverid != only_server) ||
			(OidIsValid(roles_of) && !has_privs_of_role(roles_of, state->roleid)))
			continue;
		MemoryContextSwitchTo(context); /* SPI leaves its own */
		account = cs_account_create(state);
		cs_account_read_endpoint(account, cs_clock_now());
		if (find_account(before, state->id) == NULL)
			cs_account_resume_throttle(account, cs_clock_now(), state->throttled_until, state->reason);
		accounts = lappend(accounts, account);
		add_lane(account, NULL, state->busy ? now_xact : 0);
		account->has_direct = cs_contact_state_exists(account->id, 0);
	}
	foreach(lc, watches)
	{
		CsWatch    *watch = lfirst(lc);
		CsAccount  *account = find_account(accounts, watch->endpoint);

		MemoryContextSwitchTo(context);
		if (account)
			add_lane(account, watch, account->busy ? now_xact : 0);
	}
	forget_dropped(before, watches);
	cs_sql_leave(&scope);
	cs_accounts_note_pauses(accounts);
	carry_over(accounts, before);
	return accounts;
}

/* Effect: gives up what is not in the accounts' memory. */
void
cs_accounts_close(const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
	{
		ListCell   *other;

		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
		{
			CsLane	   *lane = lfirst(other);

			cs_scan_close(lane);
			if (lane->source)
				cs_source_row_close(lane->source);
		}
	}
}

/* Effect: it is known, durably, before the first call that there are calls. */
void
cs_accounts_store_busy(CsAccount *account)
{
	CsSqlScope	scope;

	if (account->busy)
		return;
	cs_sql_enter(&scope);
	cs_endpoint_state_set_busy(account->id, true);
	cs_sql_leave(&scope);
	ForceSyncCommit();
	account->busy = true;
}

/*
 * Of none of its changes is it open whether the provider has them, though no
 * call may be in flight: what it did not answer well is tried again later.
 */
static bool
is_idle(CsAccount *account)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
		if (((CsLane *) lfirst(lc))->nchanges > 0)
		return false;
	return dlist_is_empty(&account->ready);
}

/* Is there an account of which is stored that calls may be under way, and none is? */
bool
cs_accounts_is_idle_but_busy(const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
		if (((CsAccount *) lfirst(lc))->busy && is_idle(lfirst(lc)))
		return true;
	return false;
}

/* Effect: says so of those; to be committed durably. */
void
cs_accounts_store_idle(List *accounts)
{
	CsSqlScope	scope;
	ListCell   *lc;

	cs_sql_enter(&scope);
	foreach(lc, accounts)
	{
		CsAccount  *account = lfirst(lc);

		if (account->busy && is_idle(account))
		{
			cs_endpoint_state_set_busy(account->id, false);
			account->busy = false;
		}
	}
	cs_sql_leave(&scope);
}

/* Effect: the view status shows what they are doing. */
void
cs_accounts_publish(const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
	{
		CsAccount  *account = lfirst(lc);

		if (account->published == account->in_flight)
			continue;
		account->published = account->in_flight;
		cs_shmem_publish(account->id, account->in_flight, account->pace.rate);
	}
}

/* Effect: lanes that were read to the end are looked at again. */
void
cs_accounts_note_news(const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
	{
		ListCell   *other;

		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
			((CsLane *) lfirst(other))->exhausted = false;
	}
}

/* Effect: what is polled is looked at now: somebody waits for it. */
void
cs_accounts_poll_now(const List *accounts)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, accounts)
		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
		cs_scan_poll_now(lfirst(other));
}

/* When a scan of the account could go on, or DBL_MAX. */
double
cs_accounts_scans_ready_at(const CsAccount *account, double now)
{
	double		at = DBL_MAX;
	ListCell   *lc;

	foreach(lc, account->lanes)
		at = Min(at, cs_scan_ready_at(lfirst(lc), now));
	return at;
}

/*
 * How many keys a scan may add to a lane: as many as the calls that could start
 * can carry, less what waits there already, whatever it waits for.
 */
static int
scan_room(const CsAccount *account, const CsLane *lane, int calls)
{
	int			most = Min(2 * account->endpoint->concurrency * account->endpoint->batch_size,
						   cs_max_pending / 2);

	return Min(calls * account->endpoint->batch_size, most - lane->nchanges);
}

/*
 * Effect: scans of the account have queued what so many calls can carry.
 * Returns whether there is something.  Needs what cs_scan_run() needs.
 */
bool
cs_accounts_run_scans(CsAccount *account, int calls, double now)
{
	bool		queued = false;
	ListCell   *lc;

	if (account->endpoint == NULL)
		return false;
	foreach(lc, account->lanes)
	{
		CsLane	   *lane = lfirst(lc);
		int			room = scan_room(account, lane, calls);

		if (room > 0 && cs_scan_ready_at(lane, now) <= now)
			queued |= cs_scan_run(lane, room, now) > 0;
	}
	return queued;
}

/*
 * When something can be done
 */

/* May something of this account be read now? */
bool
cs_accounts_has_something(CsAccount *account, double now)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
		if (cs_lane_ready_at(lfirst(lc), now) <= now)
		return true;
	return false;
}

/* When the account can go on by itself; DBL_MAX: an answer or news come first. */
double
cs_accounts_ready_at(CsAccount *account, double now)
{
	double		at = DBL_MAX;
	dlist_iter	iter;
	ListCell   *lc;

	if (account->paused)
		return at;
	foreach(lc, account->lanes)
		at = Min(at, cs_lane_ready_at(lfirst(lc), now));
	at = Min(at, cs_accounts_scans_ready_at(account, now));
	dlist_foreach(iter, &account->ready)
		at = Min(at, dlist_container(CsCall, node, iter.cur)->not_before);
	if (at == DBL_MAX)
		return at;
	if (cs_token_is_due(account, now))
		return account->refresh && !cs_token_has_to_store(account) ? DBL_MAX :
			cs_token_ready_at(account, now);
	return Max(at, cs_account_ready_at(account, now));
}
