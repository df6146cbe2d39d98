/*-------------------------------------------------------------------------
 *
 * definitions.c
 *		The accounts and lanes of a delivery, as they are defined.
 *
 * Definitions are loaded when a delivery begins, and again whenever one of them
 * has changed.  Accounts and lanes are found again by the ids of their endpoints
 * and watches, and go on: with their calls in flight, their place in the queue,
 * pace, pauses and connections.  Of what has changed only this is replaced:
 *
 *	- the options of a server: what is in flight is answered under the old ones,
 *	  see verdict.c; what waits to be sent is read again, and whatever was wrong
 *	  is tried again;
 *	- a watch: its rows are read by the new definition from then on.  What is in
 *	  flight is answered, for it is a contact, and not a row of the watch;
 *	- a watch that was dropped retires: no call about it starts, unless it is a
 *	  later step, and what the calls in flight did is stored of the contacts,
 *	  so that it is known later whose consent was claimed;
 *	- a server or role that has gone, or has no right any more, has its calls
 *	  aborted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "postmaster/bgworker.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "capture/ddl.h"
#include "delivery/account.h"
#include "delivery/account_store.h"
#include "delivery/accounts.h"
#include "delivery/alert.h"
#include "delivery/call.h"
#include "delivery/database_identity.h"
#include "delivery/definitions.h"
#include "delivery/orphans.h"
#include "delivery/forgotten.h"
#include "delivery/held_up.h"
#include "delivery/pull.h"
#include "delivery/scan.h"
#include "delivery/token.h"
#include "store/definition_store.h"
#include "store/endpoint_state.h"
#include "store/failure.h"
#include "store/forget.h"
#include "store/queue_owner.h"
#include "store/scan_store.h"
#include "store/watch.h"
#include "store/watch_store.h"

/* What a lock kept from following its table is tried again after (s). */
#define FOLLOW_PAUSE	10.0

/* What is stored at present. */
typedef struct CsStoredDefinitions
{
	List	   *endpoints;		/* of CsEndpointState */
	List	   *watches;		/* of CsWatch */
	List	   *notes;			/* of CsForgetNote */
	List	   *scanned;		/* ids of the watches that have scans */
	bool		followed;		/* no lock kept a watch from following its
								 * table */
} CsStoredDefinitions;

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
 * Lanes
 */

/* "unconfirmed_below": earlier transactions may have queued what was sent before
 * the process ended. */
static void
add_lane(CsDefinitions *definitions, CsAccount *account, CsWatch *watch, uint64 unconfirmed_below)
{
	CsLane	   *lane;

	MemoryContextSwitchTo(account->context);
	lane = cs_lane_create(account, account->id, watch, definitions->locks, definitions->room);
	lane->budget = watch ? account->budget : NULL;
	lane->unconfirmed_below = unconfirmed_below;
	account->lanes = lappend(account->lanes, lane);
	lane->has_failures = cs_failure_exists(account->id, lane->watch_id);
	cs_scan_load(lane, true);
}

static void
add_removals(CsDefinitions *definitions, CsAccount *account)
{
	MemoryContextSwitchTo(account->context);
	account->removals = cs_lane_create(account, account->id, NULL, definitions->locks, definitions->room);
	account->removals->removals = account->removals->exhausted = true;
}

/* The watch as it is stored now, of a lane that is there.  What has not changed stays
 * as it is; whether the table has is seen by cs_reader_check(). */
static void
update_lane(CsLane *lane, CsWatch *watch, bool is_scanned)
{
	bool		changed = watch->version != lane->watch->version;

	if (changed)
		cs_lane_close(lane);
	if (lane->source_error)
		lane->not_before = 0;
	if (changed)
	{
		cs_lane_use_watch(lane, watch);
		lane->has_failures |= cs_failure_exists(lane->endpoint_id, lane->watch_id);
	}
	if (changed || is_scanned || lane->scans != NIL)
		cs_scan_load(lane, changed);
}

/* The watch was dropped. */
static void
retire_lane(CsAccount *account, CsLane *lane)
{
	MemoryContextSwitchTo(account->context);
	account->lanes = list_delete_ptr(account->lanes, lane);
	account->retired = lappend(account->retired, lane);
	cs_scan_close(lane);
	cs_lane_close(lane);
	cs_change_close_set(&lane->changes);
	cs_call_withdraw(account, false, false);
}

static bool
is_over(const CsLane *lane)
{
	return lane->changes.nchanges == 0 && lane->outcomes == NULL;
}

/* Has a lane of a watch that was dropped no more calls in flight? */
bool
cs_definitions_any_to_free(const CsDefinitions *definitions)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, definitions->accounts)
		foreach(other, ((CsAccount *) lfirst(lc))->retired)
		if (is_over(lfirst(other)))
		return true;
	return false;
}

/* Free these lanes, and delete what their calls have stored of the watches. */
void
cs_definitions_free_retired(CsDefinitions *definitions)
{
	CsSqlScope	scope;
	ListCell   *lc;
	ListCell   *other;

	cs_sql_enter(&scope);
	foreach(lc, definitions->accounts)
	{
		CsAccount  *account = lfirst(lc);

		foreach(other, account->retired)
		{
			CsLane	   *lane = lfirst(other);

			if (!is_over(lane))
				continue;
			cs_watch_store_forget(lane->endpoint_id, lane->watch_id);
			account->retired = foreach_delete_current(account->retired, other);
			MemoryContextDelete(lane->context);
		}
	}
	cs_sql_leave(&scope);
}

/*
 * Accounts
 */

static bool
is_chosen(const CsDefinitions *definitions, const CsEndpointState *state)
{
	return definitions->only == 0 || state->id == definitions->only;
}

static void
free_ints(int *ints)
{
	if (ints)
		pfree(ints);
}

/* Find out which account it is at the provider, and whose memory of consent counts. */
static void
load_consents(CsAccount *account)
{
	const CsEndpoint *endpoint = account->endpoint;
	CsConsentScope *scope = &account->consents;
	const char *name;
	int			id = 0;

	if (endpoint)
	{
		name = cs_provider_account_name(endpoint);
		id = cs_consent_set_account(account->id, endpoint->provider->name, endpoint->base_url,
									name ? cs_text_from_utf8(name) : NULL, endpoint->server_name, account->roleid);
	}
	free_ints(scope->accounts);
	free_ints(scope->endpoints);
	MemoryContextSwitchTo(account->context);
	cs_consent_load_scope(account->id, id, scope);
}

static void
add_account(CsDefinitions *definitions, const CsEndpointState *state, double now)
{
	CsAccount  *account;

	MemoryContextSwitchTo(definitions->context);
	account = cs_account_create(state);
	account->is_new = true;
	account->budget = cs_budget_of(&definitions->budgets, state->roleid, definitions->context);
	account->locked_until = cs_held_up_until(definitions->held_up, account->id);
	cs_account_read_endpoint(account, now);
	cs_account_resume_throttle(account, now, state->throttled_until,
							   state->reason ? cs_text_message_to_utf8(state->reason) : NULL);
	load_consents(account);
	cs_pull_init(account, state, now);
	MemoryContextSwitchTo(definitions->context);
	definitions->accounts = lappend(definitions->accounts, account);
	add_removals(definitions, account);
	add_lane(definitions, account, NULL, account->busy ?
			 U64FromFullTransactionId(ReadNextFullTransactionId()) : 0);
}

/* Read the options again.  What waits to be sent was made for the old ones. */
static void
read_server(CsDefinitions *definitions, CsAccount *account, double now)
{
	cs_account_read_endpoint(account, now);
	if (account->reconfigured)
		cs_call_withdraw(account, true, account->moved);
	if (account->denied)
		cs_call_abort_all(account, definitions->http);
}

static void
update_account(CsDefinitions *definitions, CsAccount *account, const CsEndpointState *state,
			   double now)
{
	bool		was_unreadable = account->unreadable;
	bool		anew;
	ListCell   *lc;

	account->serverid = state->serverid;
	if (account->roleid != state->roleid)
	{
		account->budget = cs_budget_of(&definitions->budgets, state->roleid, definitions->context);
		foreach(lc, account->lanes)
			if (((CsLane *) lfirst(lc))->watch)
			((CsLane *) lfirst(lc))->budget = account->budget;
	}
	account->roleid = state->roleid;
	account->stale_before = state->stale_before;
	account->reclaim_before = state->reclaim_before;
	account->has_remaining = state->has_remaining;
	account->removals_at = 0;
	account->locked_until = account->store_at = 0;
	account->is_new = false;
	read_server(definitions, account, now);
	anew = account->reconfigured || (was_unreadable && !account->unreadable);
	if (anew)
	{
		cs_account_start_anew(account, now);
		cs_alert_try_again(account->id);
		foreach(lc, account->lanes)
			cs_lane_start_anew(lfirst(lc));
	}
	cs_breaker_take_word(&account->breaker, state->breaker);
	if (account->breaker.released && !account->unreadable && account->health == CS_HALTED)
		cs_account_recover(account, account->resume_at);
	load_consents(account);
	cs_pull_update(account, state, definitions->http, anew, now);
}

static void
drop_lane(CsDefinitions *definitions, CsLane *lane)
{
	cs_scan_close(lane);
	cs_lane_close(lane);
	cs_settle_drop(definitions->settlement, lane);
	cs_change_drop_set(&lane->changes);
}

/* The server or the role has gone. */
static void
drop_account(CsDefinitions *definitions, CsAccount *account)
{
	ListCell   *lc;

	cs_call_abort_all(account, definitions->http);
	cs_pull_abort(account, definitions->http);
	cs_token_abort(account, definitions->http);
	cs_alert_abort(account, definitions->http);
	foreach(lc, account->lanes)
		drop_lane(definitions, lfirst(lc));
	foreach(lc, account->retired)
		drop_lane(definitions, lfirst(lc));
	drop_lane(definitions, account->removals);
	cs_account_publish(account);
	MemoryContextDelete(account->context);
}

/*
 * A lock of somebody else has ended a transaction of the account: forget what is in
 * memory of it, and have definitions loaded again.
 */
void
cs_definitions_hold_up(CsDefinitions *definitions, CsAccount *account, double now)
{
	MemoryContext old = MemoryContextSwitchTo(definitions->context);

	definitions->held_up = cs_held_up_note(definitions->held_up, account->id, now);
	definitions->accounts = list_delete_ptr(definitions->accounts, account);
	drop_account(definitions, account);
	MemoryContextSwitchTo(old);
}

/* Nothing has held up the account this time. */
void
cs_definitions_go_on(CsDefinitions *definitions, CsAccount *account)
{
	if (cs_held_up_until(definitions->held_up, account->id) > 0)
		definitions->held_up = cs_held_up_forget(definitions->held_up, account->id);
}

/* Read the options of all servers again. */
void
cs_definitions_read_servers(CsDefinitions *definitions, double now)
{
	ListCell   *lc;

	foreach(lc, definitions->accounts)
		read_server(definitions, lfirst(lc), now);
}

/*
 * Loading
 */

static CsEndpointState *
find_state(const CsDefinitions *definitions, const CsStoredDefinitions *stored, int id)
{
	ListCell   *lc;

	foreach(lc, stored->endpoints)
	{
		CsEndpointState *state = lfirst(lc);

		if (state->id == id && is_chosen(definitions, state))
			return state;
	}
	return NULL;
}

static bool
has_watch(const CsStoredDefinitions *stored, int endpoint, int id)
{
	ListCell   *lc;

	foreach(lc, stored->watches)
	{
		const CsWatch *watch = lfirst(lc);

		if (watch->id == id && watch->endpoint == endpoint)
			return true;
	}
	return false;
}

/* Drop accounts, and retire lanes, that are not defined any more. */
static void
drop_gone(CsDefinitions *definitions, const CsStoredDefinitions *stored)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, definitions->accounts)
	{
		CsAccount  *account = lfirst(lc);

		if (find_state(definitions, stored, account->id) == NULL)
		{
			definitions->accounts = foreach_delete_current(definitions->accounts, lc);
			drop_account(definitions, account);
			continue;
		}
		foreach(other, list_copy(account->lanes))
		{
			CsLane	   *lane = lfirst(other);

			if (lane->watch && !has_watch(stored, account->id, lane->watch_id))
				retire_lane(account, lane);
		}
	}
}

/* Load what is stored, into the current context. */
static void
load_stored(CsStoredDefinitions *stored)
{
	MemoryContext context = CurrentMemoryContext;

	cs_database_identity_check_timeline();
	cs_orphans_drop();
	stored->followed = cs_ddl_follow_renames(0);
	if (MyBgworkerEntry != NULL)
		cs_database_identity_warn();
	MemoryContextSwitchTo(context);
	stored->endpoints = cs_endpoint_state_load_all();
	if (stored->endpoints)
		(void) cs_try(cs_consent_make_key, NULL, CS_LOCK_TIMEOUT, NULL);
	MemoryContextSwitchTo(context);
	stored->watches = cs_watch_load_all();
	MemoryContextSwitchTo(context);
	stored->notes = cs_forget_notes();
	MemoryContextSwitchTo(context);
	stored->scanned = cs_scan_store_watches();
	MemoryContextSwitchTo(context);
}

/* Does a session deliver to the endpoint?  Note that. */
static bool
is_elsewhere(CsDefinitions *definitions, const CsEndpointState *state)
{
	if (definitions->only != 0 || !cs_queue_endpoint_is_locked(state->id))
		return false;
	MemoryContextSwitchTo(definitions->context);
	definitions->elsewhere = lappend_int(definitions->elsewhere, state->id);
	return true;
}

/* Has such a session ended?  Needs a transaction. */
bool
cs_definitions_any_returned(const CsDefinitions *definitions)
{
	ListCell   *lc;

	foreach(lc, definitions->elsewhere)
		if (!cs_queue_endpoint_is_locked(lfirst_int(lc)))
		return true;
	return false;
}

static void
use_endpoint(CsDefinitions *definitions, const CsEndpointState *state, double now)
{
	CsAccount  *account = find_account(definitions->accounts, state->id);

	if (account)
		update_account(definitions, account, state, now);
	else if (is_chosen(definitions, state) && !is_elsewhere(definitions, state))
		add_account(definitions, state, now);
}

static void
use_watch(CsDefinitions *definitions, const CsStoredDefinitions *stored, CsWatch *watch)
{
	CsAccount  *account = find_account(definitions->accounts, watch->endpoint);
	CsLane	   *lane = account ? cs_account_find_lane(account, watch->id) : NULL;

	if (lane)
		update_lane(lane, watch, list_member_int(stored->scanned, watch->id));
	else if (account)
		add_lane(definitions, account, watch, account->is_new && account->busy ?
				 U64FromFullTransactionId(ReadNextFullTransactionId()) : 0);
}

/*
 * Load the accounts with their lanes, or bring those that were loaded before up to
 * date.
 */
void
cs_definitions_load(CsDefinitions *definitions, double now)
{
	MemoryContext scratch = AllocSetContextCreate(definitions->context, "contactsync definitions",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	CsStoredDefinitions stored;
	CsSqlScope	scope;
	ListCell   *lc;

	cs_sql_enter(&scope);
	MemoryContextSwitchTo(scratch);
	load_stored(&stored);
	definitions->follow_at = stored.followed ? 0 : now + FOLLOW_PAUSE;
	list_free(definitions->elsewhere);
	definitions->elsewhere = NIL;
	drop_gone(definitions, &stored);
	foreach(lc, stored.endpoints)
	{
		MemoryContextSwitchTo(scratch);
		use_endpoint(definitions, lfirst(lc), now);
	}
	foreach(lc, stored.watches)
	{
		MemoryContextSwitchTo(scratch);
		use_watch(definitions, &stored, lfirst(lc));
	}
	MemoryContextSwitchTo(scratch);
	foreach(lc, stored.notes ? definitions->accounts : NIL)
		cs_forgotten_mark(lfirst(lc), stored.notes);
	cs_sql_leave(&scope);
	cs_accounts_load_pauses(definitions->accounts);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/* Release what is not in the memory of what is defined. */
void
cs_definitions_close(CsDefinitions *definitions)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, definitions->accounts)
		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
	{
		cs_scan_close(lfirst(other));
		cs_lane_close(lfirst(other));
	}
}

typedef struct CsSweep
{
	const CsDefinitions *definitions;
	bool		forgotten;
} CsSweep;

static void
sweep(void *arg)
{
	const CsSweep *sweep = arg;
	CsSqlScope	scope;
	ListCell   *lc;

	cs_sql_enter(&scope);
	cs_watch_store_sweep();
	cs_definition_store_sweep();
	if (sweep->forgotten && cs_forget_sweep(sweep->definitions->only, sweep->definitions->elsewhere))
		foreach(lc, sweep->definitions->accounts)
			((CsAccount *) lfirst(lc))->has_remaining = true;
	cs_sql_leave(&scope);
}

bool
cs_definitions_sweep(const CsDefinitions *definitions, bool forgotten)
{
	CsSweep		all = {definitions, forgotten};

	return cs_try(sweep, &all, CS_LOCK_TIMEOUT, NULL) == CS_TRY_OK;
}
