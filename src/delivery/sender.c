/*-------------------------------------------------------------------------
 *
 * sender.c
 *		Sending what accounts can send now, in turn.
 *
 * Rows are read in a transaction, and their calls start after it.  Before anything
 * is read, what sessions have changed is taken over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/invalidation.h"
#include "base/sql.h"
#include "base/try.h"
#include "delivery/account.h"
#include "delivery/account_store.h"
#include "delivery/accounts.h"
#include "delivery/call.h"
#include "delivery/held_up.h"
#include "delivery/pull.h"
#include "delivery/reader.h"
#include "delivery/removal.h"
#include "delivery/scan.h"
#include "delivery/sender.h"
#include "delivery/token.h"
#include "http/http.h"
#include "store/queue.h"
#include "store/queue_owner.h"
#include "store/trace.h"

/* The end of a transaction leaves us in a context that is never emptied. */
void
cs_sender_commit(CsDelivery *delivery)
{
	delivery->transactions->commit();
	MemoryContextSwitchTo(delivery->run_context);
}

/* Commit without waiting for the disk: an outcome that is lost in a crash costs
 * a repeated call, not a change. */
void
cs_sender_commit_lazily(CsDelivery *delivery)
{
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	cs_sender_commit(delivery);
}

/* A locked table is looked at again after (s). */
#define LOCKED_PAUSE	1.0

/*
 * Learning of changes
 */

/*
 * Take over what sessions have changed: pauses, traces, options, keys and rights.
 * The transaction that reads what to send does this first, so that nothing is
 * sent by a key or a right that was taken away before.
 */
static void
take_changes(CsDelivery *delivery, double now)
{
	ListCell   *lc;

	if (cs_invalidation_take(CS_DEFINITION_PAUSES))
	{
		cs_accounts_load_pauses(delivery->definitions.accounts);
		foreach(lc, delivery->definitions.accounts)
			cs_call_withdraw_paused(lfirst(lc));
	}
	if (cs_invalidation_take(CS_DEFINITION_TRACED))
		cs_trace_load();
	if (cs_invalidation_take(CS_DEFINITION_SERVERS))
		cs_definitions_read_servers(&delivery->definitions, now);
}

/* The same in a transaction of its own. */
static void
take_changes_now(CsDelivery *delivery)
{
	delivery->transactions->begin();
	take_changes(delivery, cs_clock_now());
	cs_sender_commit(delivery);
}

/*
 * Sending
 */

/* How many calls of the account may start now. */
static int
free_slots(const CsDelivery *delivery, const CsAccount *account, double now)
{
	return cs_http_has_room(delivery->http, account->in_flight == 0) ? cs_account_free_slots(account, now) : 0;
}

/* Start calls that are ready and due.  Return how many slots are left. */
static int
start_ready(CsDelivery *delivery, CsAccount *account, int slots, double now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &account->ready)
	{
		CsCall	   *call = dlist_container(CsCall, node, iter.cur);

		if (slots == 0)
			break;
		if (call->not_before > now)
			continue;
		if (!cs_http_has_room(delivery->http, account->in_flight == 0) || !cs_pace_take(&account->pace, now))
			return 0;
		dlist_delete(&call->node);
		account->listed_last = false;
		cs_call_start(call, delivery->http, now);
		slots--;
	}
	return slots;
}

/* Read as many contacts as can be sent now, and start their calls. */
static void
send_new(CsDelivery *delivery, CsAccount *account, int slots, double now)
{
	int			calls = Min(slots, cs_pace_available(&account->pace, now));
	int			wanted = cs_account_is_probing(account) ? 1 :
	calls * account->endpoint->batch_size;
	CsChange  **changes;
	int			n = 0;

	if (calls == 0 || !cs_account_has_room(account) ||
		(!cs_account_has_changes(account, now) && cs_removal_ready_at(account, now) > now))
		return;
	pgstat_report_activity(STATE_RUNNING, "contactsync: reading changes");
	changes = palloc((wanted + 1) * sizeof(CsChange *));
	delivery->transactions->begin();
	cs_queue_protect();
	take_changes(delivery, now);
	MemoryContextSwitchTo(delivery->run_context);
	if (cs_account_free_slots(account, now) > 0)
		n = cs_reader_read(account, wanted, changes, delivery->settlement, now);
	cs_queue_recover();
	if (n > 0)
		cs_account_store_busy(account, true);
	cs_sender_commit(delivery);
	if (n == 0)
		return;
	cs_call_make(account, n, changes);
	start_ready(delivery, account, slots, now);
}

/*
 * Have scans queue what the account can send beside live changes, if none of
 * these can be sent now; while it only probes, if there is nothing else to probe
 * with.  Return whether anything was queued.
 */
static bool
run_scans(CsDelivery *delivery, CsAccount *account, double now)
{
	int			calls = Min(free_slots(delivery, account, now), cs_pace_available(&account->pace, now));
	bool		queued;

	if (calls == 0 || !cs_account_has_room(account) || (cs_account_is_probing(account) && !dlist_is_empty(&account->ready)) ||
		cs_scan_ready_at(account, now) > now || cs_account_has_changes(account, now))
		return false;
	pgstat_report_activity(STATE_RUNNING, "contactsync: comparing rows");
	delivery->transactions->begin();
	take_changes(delivery, now);
	MemoryContextSwitchTo(delivery->run_context);
	queued = cs_scan_run(account, calls, now);
	cs_sender_commit_lazily(delivery);
	return queued;
}

static void
read_endpoint_again(CsDelivery *delivery, CsAccount *account, double now)
{
	delivery->transactions->begin();
	cs_account_read_endpoint(account, now);
	cs_sender_commit(delivery);
}

/* Ask for the contacts at the provider if that is due. */
static void
pull(CsDelivery *delivery, CsAccount *account, double now)
{
	if (cs_pull_is_to_begin(account, now))
	{
		delivery->transactions->begin();
		cs_pull_begin(account);
		cs_sender_commit(delivery);
	}
	if (cs_pull_has_turn(account, now))
		cs_pull_request(account, delivery->http, now);
}

static void
send_account(CsDelivery *delivery, CsAccount *account)
{
	double		now = cs_clock_now();
	int			slots;

	/*
	 * an account that is paused or halted begins no other transaction that
	 * could tell
	 */
	if (cs_invalidation_pending(CS_DEFINITION_PAUSES) || cs_invalidation_pending(CS_DEFINITION_SERVERS))
		take_changes_now(delivery);
	if (account->paused)
		return;
	if (account->unreadable && now >= account->resume_at)
		read_endpoint_again(delivery, account, now);
	if (cs_token_is_due(account, now))
	{
		cs_token_refresh(account, delivery->definitions.accounts, delivery->http, now);
		return;
	}
	pull(delivery, account, now);
	if (!dlist_is_empty(&account->ready))
		take_changes_now(delivery);
	slots = free_slots(delivery, account, now);
	if (slots == 0)
		return;
	/* probes are a repeated call and a new one in turn */
	if (cs_account_is_probing(account) && account->probed_by_repeat && cs_account_has_changes(account, now))
		account->probed_by_repeat = false;
	else
	{
		int			left = start_ready(delivery, account, slots, now);

		account->probed_by_repeat = left < slots;
		slots = left;
	}
	if (slots > 0)
		send_new(delivery, account, slots, now);
	if (run_scans(delivery, account, now))
		send_new(delivery, account, free_slots(delivery, account, now), now);
}

/*
 * The turns of accounts
 */

typedef struct CsAccountStep
{
	CsDelivery *delivery;
	CsAccount  *account;
	void		(*run) (CsDelivery *delivery, CsAccount *account);
} CsAccountStep;

static void
run_step(void *arg)
{
	const CsAccountStep *step = arg;

	step->run(step->delivery, step->account);
}

/* Do something for an account in transactions of its own.  Return false if a lock of
 * somebody else has ended one. */
bool
cs_sender_try(CsDelivery *delivery, CsAccount *account,
			  void (*run) (CsDelivery *delivery, CsAccount *account))
{
	CsAccountStep step = {delivery, account, run};

	return cs_try_transactions(run_step, &step, delivery->transactions->roll_back);
}

/*
 * Is an account that was held up to be left alone for longer?  A lock of a whole table
 * holds up everybody, and is seen without waiting for it.
 */
static bool
is_still_held_up(CsDelivery *delivery, CsAccount *account)
{
	double		now = cs_clock_now();

	if (cs_held_up_until(delivery->definitions.held_up, account->id) == 0)
		return false;
	if (now >= delivery->tables_locked_until)
	{
		bool		locked;

		delivery->transactions->begin();
		locked = cs_sql_table_is_locked();
		cs_sender_commit(delivery);
		if (!locked)
			return false;
		delivery->tables_locked_until = now + LOCKED_PAUSE;
	}
	account->locked_until = cs_held_up_wait(delivery->definitions.held_up, account->id, now);
	return true;
}

/*
 * Have an account send what it can.  If a lock of somebody else holds it up, that does
 * not hold up the others.  Return whether mappings of its role took long.
 */
static bool
send_one(CsDelivery *delivery, CsAccount *account)
{
	CsBudget   *budget = account->budget;
	double		not_before = budget->not_before;

	if (account->locked_until > cs_clock_now() || is_still_held_up(delivery, account))
		return false;
	if (!cs_sender_try(delivery, account, send_account))
	{
		cs_definitions_hold_up(&delivery->definitions, account, cs_clock_now());
		delivery->held_up = true;
	}
	else if (delivery->definitions.held_up)
		cs_definitions_go_on(&delivery->definitions, account);
	return budget->not_before > not_before;
}

/*
 * Have accounts send what they can: first those of roles whose mappings are quick, then
 * the others, which take turns.  After one that took long it is the turn of the former
 * again.
 */
void
cs_sender_send_all(CsDelivery *delivery)
{
	List	   *accounts = list_copy(delivery->definitions.accounts);
	int			n = list_length(accounts);
	double		now = cs_clock_now();
	bool		took_long = false;
	ListCell   *lc;

	foreach(lc, accounts)
	{
		if (cs_budget_is_slow(((CsAccount *) lfirst(lc))->budget, now))
			continue;
		took_long = send_one(delivery, lfirst(lc));
		lfirst(lc) = NULL;
		if (took_long)
			break;
	}
	for (int i = 0; i < n && !took_long; i++)
	{
		CsAccount  *account = list_nth(accounts, (delivery->next_slow + i) % n);

		if (account == NULL)
			continue;
		took_long = send_one(delivery, account);
		if (took_long)
			delivery->next_slow = (delivery->next_slow + i + 1) % n;
	}
}
