/*-------------------------------------------------------------------------
 *
 * delivery.c
 *		The cycle: load, read, send, judge, settle.
 *
 * One run of the cycle is
 *
 *		no transaction	take the answers that have come, judge them
 *		transaction		store the outcomes, delete what is settled
 *		transaction		load the queue, read the rows that can be sent now
 *		no transaction	start the calls
 *
 * and then the process waits, without a transaction.  Rows are read only when
 * their call can start, so what is sent is the newest there is, and what waits
 * is keys, not copies of anybody's data.
 *
 * The background worker and contactsync_run() both run this, and nothing else
 * delivers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/invalidation.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "delivery/account.h"
#include "delivery/accounts.h"
#include "delivery/call.h"
#include "delivery/definitions.h"
#include "delivery/delivery.h"
#include "delivery/pull.h"
#include "delivery/reader.h"
#include "delivery/removal.h"
#include "delivery/scan.h"
#include "delivery/settle.h"
#include "delivery/token.h"
#include "delivery/verdict.h"
#include "http/http.h"
#include "provider/server.h"
#include "store/forget.h"
#include "store/pause.h"
#include "store/queue.h"
#include "store/trace.h"
#include "store/watch_store.h"

struct CsDelivery
{
	const CsTransactions *transactions;
	MemoryContext context;
	MemoryContext run_context;	/* emptied by each run of the cycle */
	CsHttp	   *http;
	CsSettlement *settlement;
	CsDefinitions definitions;
	bool		forgetting;		/* what was forgotten is to be swept */
	bool		draining;		/* no call starts any more */
	double		active_at;		/* when there was last something to do */
	TimestampTz queue_read_at;	/* when lanes were last told to read on */
};

/* The queue is read this often even without a wake-up, which can be lost (ms). */
#define REREAD_MS		10000

/* After being idle for so long it is stored that no call is under way (s). */
#define IDLE_SECONDS	5.0

/*
 * Opening and closing
 */

/* The end of a transaction leaves us in a context that is never emptied. */
static void
commit(CsDelivery *delivery)
{
	delivery->transactions->commit();
	MemoryContextSwitchTo(delivery->run_context);
}

/* Commit without waiting for the disk: an outcome that is lost in a crash costs
 * a repeated call, not a change. */
static void
commit_lazily(CsDelivery *delivery)
{
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	commit(delivery);
}

/* Delete what earlier processes could not, and calls in flight have stored. */
static void
sweep(bool forgotten)
{
	CsSqlScope	scope;

	cs_queue_adopt();
	cs_sql_enter(&scope);
	cs_watch_store_sweep();
	if (forgotten)
		cs_forget_sweep();
	cs_sql_leave(&scope);
}

/* Load what is defined, in a transaction. */
static void
load_definitions(CsDelivery *delivery)
{
	cs_trace_load();
	cs_definitions_load(&delivery->definitions, cs_clock_now());
	MemoryContextSwitchTo(delivery->run_context);
	cs_reader_check(delivery->definitions.accounts, cs_clock_now());
}

/*
 * Open a delivery for one server, or for all with InvalidOid, and for the roles
 * that a role belongs to, or for all with InvalidOid.
 *
 * The caller owns the queue, and has begun no transaction but by
 * transactions->begin().
 */
CsDelivery *
cs_delivery_open(const CsTransactions *transactions, Oid only_server, Oid roles_of)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "contactsync delivery",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CsDelivery *delivery = palloc0(sizeof(CsDelivery));

	delivery->transactions = transactions;
	delivery->context = context;
	delivery->run_context = AllocSetContextCreate(context, "contactsync delivery run",
												  ALLOCSET_DEFAULT_SIZES);
	delivery->settlement = cs_settle_create();
	delivery->http = cs_http_open();
	delivery->definitions = (CsDefinitions)
	{
		.context = context,.http = delivery->http,.settlement = delivery->settlement,
			.locks = cs_identity_lock_create(context),.serverid = only_server,.member = roles_of
	};
	transactions->begin();
	cs_invalidation_begin();
	sweep(true);
	transactions->commit();
	transactions->begin();
	load_definitions(delivery);
	transactions->commit();
	if (OidIsValid(roles_of))
		cs_accounts_poll_now(delivery->definitions.accounts);
	MemoryContextSwitchTo(old);
	return delivery;
}

/* End all calls; the changes that they were about are still queued. */
void
cs_delivery_close(CsDelivery *delivery)
{
	cs_definitions_close(&delivery->definitions);
	cs_http_close(delivery->http);
	MemoryContextDelete(delivery->context);
}

/*
 * Answers and outcomes
 */

static void
take_answers(CsDelivery *delivery)
{
	CsResponse	response;
	CsRequestOwner *owner;

	while ((owner = cs_http_harvest(delivery->http, &response)) != NULL)
	{
		double		now = cs_clock_now();

		if (owner->kind == CS_OWNER_CALL)
			cs_verdict_take((CsCall *) owner, &response, delivery->settlement, now);
		else if (owner->kind == CS_OWNER_PULL)
			cs_pull_answered((CsPuller *) owner, &response, now);
		else
			cs_token_answered((CsTokenRefresh *) owner, &response, now);
	}
}

static bool
has_to_store(const CsDelivery *delivery)
{
	return cs_settle_due_at(delivery->settlement) <= cs_clock_now() ||
		cs_accounts_any_to_store(delivery->definitions.accounts);
}

static void
settle(CsDelivery *delivery)
{
	if (!has_to_store(delivery))
		return;
	pgstat_report_activity(STATE_RUNNING, "contactsync: storing outcomes");
	delivery->transactions->begin();
	cs_settle_store(delivery->settlement, delivery->definitions.accounts, cs_clock_now());
	commit_lazily(delivery);
	cs_settle_free_stored(delivery->settlement);
}

/* Store tokens that were received, each durably in a transaction of its own. */
static void
store_tokens(CsDelivery *delivery)
{
	ListCell   *lc;

	foreach(lc, delivery->definitions.accounts)
	{
		if (!cs_token_has_to_store(lfirst(lc)))
			continue;
		delivery->transactions->begin();
		cs_token_store(lfirst(lc), delivery->definitions.accounts, cs_clock_now());
		commit(delivery);
	}
}

/* Store pages of contacts that were received, each in a transaction of its own. */
static void
store_pulled(CsDelivery *delivery)
{
	ListCell   *lc;

	foreach(lc, delivery->definitions.accounts)
	{
		if (!cs_pull_has_to_store(lfirst(lc), cs_clock_now()))
			continue;
		delivery->transactions->begin();
		cs_pull_store(lfirst(lc), cs_clock_now());
		commit(delivery);
	}
}

/* Store durably of accounts that are idle that no call is under way. */
static void
store_idle(CsDelivery *delivery)
{
	if (cs_http_in_flight(delivery->http) > 0 || !cs_settle_is_empty(delivery->settlement) ||
		!cs_accounts_any_idle_but_busy(delivery->definitions.accounts))
		return;
	delivery->transactions->begin();
	cs_accounts_store_idle(delivery->definitions.accounts);
	commit(delivery);
}

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
	commit(delivery);
}

/*
 * Definitions have changed: load them again.  Calls in flight of what has not
 * changed go on.  What has its outcome is stored first.
 */
void
cs_delivery_reload(CsDelivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->run_context);

	take_answers(delivery);
	settle(delivery);
	pgstat_report_activity(STATE_RUNNING, "contactsync: reading definitions");
	delivery->transactions->begin();
	cs_invalidation_begin();
	load_definitions(delivery);
	delivery->forgetting = !cs_settle_is_empty(delivery->settlement);
	sweep(!delivery->forgetting);
	commit(delivery);
	MemoryContextSwitchTo(old);
}

/* Finish what had to wait for outcomes of calls that were in flight. */
static void
finish_reload(CsDelivery *delivery)
{
	bool		forget = delivery->forgetting && cs_settle_is_empty(delivery->settlement);

	if (!forget && !cs_definitions_any_to_free(&delivery->definitions))
		return;
	delivery->transactions->begin();
	if (forget)
		sweep(true);
	cs_definitions_free_retired(&delivery->definitions);
	commit(delivery);
	delivery->forgetting &= !forget;
}

/* Have the queue read on if something was queued, and once in a while. */
static void
reread_queue(CsDelivery *delivery)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!cs_shmem_take_news() &&
		!TimestampDifferenceExceeds(delivery->queue_read_at, now, REREAD_MS))
		return;
	delivery->queue_read_at = now;
	cs_accounts_reread_queue(delivery->definitions.accounts);
	/* nothing else begins a transaction for what is paused */
	if (cs_accounts_any_paused(delivery->definitions.accounts))
		take_changes_now(delivery);
}

/*
 * Sending
 */

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
		if (!cs_pace_take(&account->pace, now))
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

	if (calls == 0 ||
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
	commit(delivery);
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
	int			calls = Min(cs_account_free_slots(account, now), cs_pace_available(&account->pace, now));
	bool		queued;

	if (calls == 0 || (cs_account_is_probing(account) && !dlist_is_empty(&account->ready)) ||
		cs_scan_ready_at(account, now) > now || cs_account_has_changes(account, now))
		return false;
	pgstat_report_activity(STATE_RUNNING, "contactsync: comparing rows");
	delivery->transactions->begin();
	take_changes(delivery, now);
	MemoryContextSwitchTo(delivery->run_context);
	queued = cs_scan_run(account, calls, now);
	commit_lazily(delivery);
	return queued;
}

static void
read_endpoint_again(CsDelivery *delivery, CsAccount *account, double now)
{
	delivery->transactions->begin();
	cs_account_read_endpoint(account, now);
	commit(delivery);
}

/* Ask for the contacts at the provider if that is due. */
static void
pull(CsDelivery *delivery, CsAccount *account, double now)
{
	if (cs_pull_is_to_begin(account, now))
	{
		delivery->transactions->begin();
		cs_pull_begin(account);
		commit(delivery);
	}
	if (cs_pull_has_turn(account, now))
		cs_pull_request(account, delivery->http, now);
}

static void
send_account(CsDelivery *delivery, CsAccount *account)
{
	double		now = cs_clock_now();
	int			slots;

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
	slots = cs_account_free_slots(account, now);
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
		send_new(delivery, account, cs_account_free_slots(account, now), now);
}

/* Run the cycle once: do what can be done now. */
void
cs_delivery_run(CsDelivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->run_context);
	ListCell   *lc;

	MemoryContextReset(delivery->run_context);
	take_answers(delivery);
	settle(delivery);
	store_tokens(delivery);
	store_pulled(delivery);
	reread_queue(delivery);
	cs_token_take_stale(delivery->definitions.accounts);
	if (!delivery->draining)
		foreach(lc, delivery->definitions.accounts)
			send_account(delivery, lfirst(lc));
	settle(delivery);
	finish_reload(delivery);
	cs_accounts_publish(delivery->definitions.accounts);
	MemoryContextSwitchTo(old);
}

/*
 * Waiting
 */

/* Milliseconds until there is something to do, at most "timeout" (-1: no limit). */
static long
time_to_wait(CsDelivery *delivery, long timeout)
{
	double		now = cs_clock_now();
	double		at = DBL_MAX;
	ListCell   *lc;

	foreach(lc, delivery->definitions.accounts)
		at = Min(at, cs_accounts_ready_at(lfirst(lc), now));
	at = Min(at, cs_settle_due_at(delivery->settlement));
	if (at == DBL_MAX)
		return timeout;
	return timeout < 0 ? cs_clock_wait_ms(at - now) : Min(timeout, cs_clock_wait_ms(at - now));
}

/*
 * Wait for an answer, a wake-up or the time of the next call, but at most
 * "timeout" ms (-1: no limit).  No transaction is open meanwhile.
 */
void
cs_delivery_wait(CsDelivery *delivery, long timeout)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->run_context);
	long		wait = delivery->draining ? timeout : time_to_wait(delivery, timeout);
	double		now = cs_clock_now();
	double		possible_at;

	if (wait == 0 || cs_http_in_flight(delivery->http) > 0)
		delivery->active_at = now;
	else if (now - delivery->active_at > IDLE_SECONDS)
		store_idle(delivery);
	else if (cs_accounts_any_idle_but_busy(delivery->definitions.accounts))
		wait = Min(wait, cs_clock_wait_ms(delivery->active_at + IDLE_SECONDS - now) + 1);
	possible_at = cs_accounts_call_possible_at(delivery->definitions.accounts, now);
	if (possible_at > now)
		wait = possible_at == DBL_MAX ? wait : Min(wait, cs_clock_wait_ms(possible_at - now));
	else if (wait > 0 && !cs_shmem_may_sleep())
		wait = 0;
	pgstat_report_activity(STATE_IDLE, NULL);
	cs_http_wait(delivery->http, wait, PG_WAIT_EXTENSION);
	MemoryContextSwitchTo(old);
}

/*
 * Ending
 */

/* Is a token being refreshed, which would be lost? */
bool
cs_delivery_is_refreshing(const CsDelivery *delivery)
{
	return cs_accounts_any_refreshing(delivery->definitions.accounts);
}

/* Start no more calls.  Wait for those in flight, up to "timeout" ms, and return
 * whether all have ended. */
bool
cs_delivery_drain(CsDelivery *delivery, long timeout)
{
	MemoryContext old;

	delivery->draining = true;
	cs_delivery_run(delivery);
	if (cs_http_in_flight(delivery->http) > 0)
		cs_delivery_wait(delivery, timeout);
	if (cs_http_in_flight(delivery->http) > 0 || cs_delivery_is_refreshing(delivery))
		return false;
	old = MemoryContextSwitchTo(delivery->run_context);
	settle(delivery);
	store_idle(delivery);
	MemoryContextSwitchTo(old);
	return true;
}

/* Does everything that is queued have an outcome, but for what cannot go on by
 * itself? */
bool
cs_delivery_is_done(const CsDelivery *delivery)
{
	ListCell   *lc;

	if (cs_http_in_flight(delivery->http) > 0 || !cs_settle_is_empty(delivery->settlement))
		return false;
	foreach(lc, delivery->definitions.accounts)
		if (cs_accounts_has_work(lfirst(lc)))
		return false;
	return true;
}
