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
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/clock.h"
#include "base/invalidation.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "base/try.h"
#include "delivery/account.h"
#include "delivery/account_store.h"
#include "delivery/accounts.h"
#include "delivery/alert.h"
#include "delivery/call.h"
#include "delivery/definitions.h"
#include "delivery/delivery.h"
#include "delivery/pull.h"
#include "delivery/reader.h"
#include "delivery/sender.h"
#include "delivery/settle.h"
#include "delivery/token.h"
#include "delivery/upkeep.h"
#include "delivery/verdict.h"
#include "http/http.h"
#include "store/queue.h"
#include "store/trace.h"

/* The queue is read this often even without a wake-up, which can be lost (ms). */
#define REREAD_MS		10000

/* What somebody has locked is tried again after (s): what was received, what is to be
 * deleted, and that no call is under way. */
#define LOCKED_PAUSE	1.0
#define SWEEP_PAUSE		5.0
#define STORE_PAUSE		10.0

/* After being idle for so long it is stored that no call is under way (s). */
#define IDLE_SECONDS	5.0

/*
 * Opening and closing
 */

/* Delete what earlier processes could not, and calls in flight have stored; later, if
 * somebody has a lock on it. */
static void
sweep(CsDelivery *delivery, bool forgotten)
{
	bool		done = cs_definitions_sweep(&delivery->definitions, forgotten);

	delivery->sweep_at = done ? 0 : cs_clock_now() + SWEEP_PAUSE;
	delivery->forgetting |= forgotten && !done;
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
 * Open a delivery to one endpoint, or with 0 to all.  The caller owns what is queued
 * for it, or the queue, and has begun no transaction but by transactions->begin().
 */
CsDelivery *
cs_delivery_open(const CsTransactions *transactions, int only)
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
	delivery->alerts_stale = true;
	delivery->definitions = (CsDefinitions)
	{
		.context = context,.http = delivery->http,.settlement = delivery->settlement,
			.locks = cs_identity_lock_create(context),.room = palloc0(sizeof(CsRoom)),.only = only
	};
	MemoryContextSwitchTo(old);
	return delivery;
}

/* Load what is defined, and delete what earlier processes left.  Call it once. */
void
cs_delivery_load(CsDelivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->context);

	delivery->transactions->begin();
	cs_invalidation_begin();
	cs_queue_adopt();
	delivery->transactions->commit();
	delivery->transactions->begin();
	load_definitions(delivery);
	sweep(delivery, true);
	delivery->transactions->commit();
	if (delivery->definitions.only != 0)
		cs_accounts_poll_now(delivery->definitions.accounts);
	MemoryContextSwitchTo(old);
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
		else if (owner->kind == CS_OWNER_ALERT)
			cs_alert_answered((CsAlertCall *) owner, &response, now);
		else
			cs_token_answered((CsTokenRefresh *) owner, &response, now);
	}
}

/* Only the worker gathers: a session is to be done when the queue is empty. */
static void
note_done(const CsDelivery *delivery, CsGather *gather)
{
	if (delivery->definitions.only == 0)
		cs_gather_done(gather, cs_clock_now());
}

/*
 * Is what was done to be counted later?  Not if nothing follows: who has waited for it
 * finds it in the statistics.
 */
static bool
counts_later(const CsDelivery *delivery)
{
	bool		fast = cs_gather_is_fast(&delivery->reading) || cs_gather_is_fast(&delivery->storing);

	return fast && (cs_http_in_flight(delivery->http) > 0 || cs_shmem_has_news());
}

/* When are outcomes to be stored?  "at_once": without gathering more of them. */
static double
settle_due_at(const CsDelivery *delivery, bool at_once)
{
	double		due_at = cs_settle_due_at(delivery->settlement, !at_once && counts_later(delivery));

	return at_once ? due_at : Max(due_at, cs_gather_until(&delivery->storing));
}

/* Store outcomes, if some are due, or what accounts have to store. */
static void
settle(CsDelivery *delivery, bool at_once)
{
	if (settle_due_at(delivery, at_once) > cs_clock_now() && !cs_accounts_any_to_store(delivery->definitions.accounts))
		return;
	note_done(delivery, &delivery->storing);
	pgstat_report_activity(STATE_RUNNING, "contactsync: storing outcomes");
	delivery->transactions->begin();
	cs_settle_store(delivery->settlement, delivery->definitions.accounts, !at_once && counts_later(delivery),
					cs_clock_now());
	cs_sender_commit_lazily(delivery);
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
		cs_sender_commit(delivery);
	}
}

static void
store_page(CsDelivery *delivery, CsAccount *account)
{
	delivery->transactions->begin();
	cs_pull_store(account, cs_clock_now());
	cs_sender_commit(delivery);
}

/* Store pages of contacts that were received, each in a transaction of its own. */
static void
store_pulled(CsDelivery *delivery)
{
	ListCell   *lc;

	foreach(lc, delivery->definitions.accounts)
	{
		CsAccount  *account = lfirst(lc);
		double		now = cs_clock_now();

		if (now >= account->locked_until && cs_pull_has_to_store(account, now) &&
			!cs_sender_try(delivery, account, store_page))
			account->locked_until = now + LOCKED_PAUSE;
	}
}

static void
store_no_calls(CsDelivery *delivery, CsAccount *account)
{
	delivery->transactions->begin();
	cs_account_store_busy(account, false);
	cs_sender_commit(delivery);
}

/* Store durably of accounts that are idle that no call is under way. */
static void
store_idle(CsDelivery *delivery)
{
	ListCell   *lc;

	if (cs_http_in_flight(delivery->http) > 0 || !cs_settle_is_empty(delivery->settlement))
		return;
	foreach(lc, delivery->definitions.accounts)
	{
		CsAccount  *account = lfirst(lc);
		double		now = cs_clock_now();

		if (cs_account_is_idle_but_busy(account) && now >= account->store_at &&
			!cs_sender_try(delivery, account, store_no_calls))
			account->store_at = now + STORE_PAUSE;
	}
}

/*
 * Learning of changes
 */

/*
 * Definitions have changed: load them again.  Calls in flight of what has not
 * changed go on.  What has its outcome is stored first.
 */
void
cs_delivery_reload(CsDelivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->run_context);

	take_answers(delivery);
	settle(delivery, true);
	pgstat_report_activity(STATE_RUNNING, "contactsync: reading definitions");
	delivery->transactions->begin();
	cs_invalidation_begin();
	load_definitions(delivery);
	delivery->forgetting = !cs_settle_is_empty(delivery->settlement);
	cs_queue_adopt();
	sweep(delivery, !delivery->forgetting);
	cs_sender_commit(delivery);
	cs_upkeep_reloaded(delivery);
	MemoryContextSwitchTo(old);
}

/* Does a session deliver to an endpoint that this process is to deliver to then? */
bool
cs_delivery_waits_for_session(const CsDelivery *delivery)
{
	return delivery->definitions.elsewhere != NIL;
}

/* Has such a session ended? */
bool
cs_delivery_session_has_ended(CsDelivery *delivery)
{
	bool		ended;

	delivery->transactions->begin();
	ended = cs_definitions_any_returned(&delivery->definitions);
	delivery->transactions->commit();
	return ended;
}

/* Load definitions again, if a watch could not follow its table for a lock. */
static void
follow_again(CsDelivery *delivery)
{
	if (delivery->definitions.follow_at > 0 && delivery->definitions.follow_at <= cs_clock_now())
		cs_delivery_reload(delivery);
}

/* Finish what had to wait for outcomes of calls that were in flight. */
static void
finish_reload(CsDelivery *delivery)
{
	bool		forget = delivery->forgetting && cs_settle_is_empty(delivery->settlement);
	bool		due = delivery->sweep_at == 0 ? forget : delivery->sweep_at <= cs_clock_now();

	if (!due && !cs_definitions_any_to_free(&delivery->definitions))
		return;
	delivery->transactions->begin();
	if (due)
	{
		delivery->forgetting &= !forget;
		sweep(delivery, forget);
	}
	cs_definitions_free_retired(&delivery->definitions);
	cs_sender_commit(delivery);
}

/* Have the queue read on if something was queued, and once in a while. */
static void
reread_queue(CsDelivery *delivery)
{
	TimestampTz now = cs_clock_steady();

	if (cs_gather_until(&delivery->reading) > cs_clock_now())
		return;
	if (!cs_shmem_take_news() &&
		!TimestampDifferenceExceeds(delivery->queue_read_at, now, REREAD_MS))
		return;
	delivery->queue_read_at = now;
	note_done(delivery, &delivery->reading);
	cs_accounts_reread_queue(delivery->definitions.accounts);
}

/*
 * The cycle
 */

/* Run the cycle once: do what can be done now. */
void
cs_delivery_run(CsDelivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->run_context);

	MemoryContextReset(delivery->run_context);
	take_answers(delivery);
	settle(delivery, false);
	store_tokens(delivery);
	store_pulled(delivery);
	reread_queue(delivery);
	cs_token_take_stale(delivery->definitions.accounts);
	if (!delivery->draining)
		cs_sender_send_all(delivery);
	if (delivery->held_up)
	{
		delivery->held_up = false;
		cs_delivery_reload(delivery);
	}
	cs_upkeep_run(delivery);
	settle(delivery, false);
	follow_again(delivery);
	finish_reload(delivery);
	cs_accounts_publish(delivery->definitions.accounts);
	cs_room_give_back(delivery->definitions.room, false);
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
		if (cs_http_has_room(delivery->http, ((CsAccount *) lfirst(lc))->in_flight == 0))
		at = Min(at, cs_accounts_ready_at(lfirst(lc), now));
	at = Min(at, settle_due_at(delivery, false));
	at = Min(at, cs_upkeep_ready_at(delivery, now));
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
	double		gather_until = cs_gather_until(&delivery->reading);
	double		quiet_until;
	bool		all_quiet;
	uint64		quiet = cs_accounts_quiet(delivery->definitions.accounts, now, &quiet_until, &all_quiet);

	if (wait == 0 || cs_http_in_flight(delivery->http) > 0)
		delivery->active_at = now;
	else if (now - delivery->active_at > IDLE_SECONDS)
	{
		store_idle(delivery);
		cs_room_give_back(delivery->definitions.room, true);
	}
	else if (cs_accounts_any_idle_but_busy(delivery->definitions.accounts))
		wait = Min(wait, cs_clock_wait_ms(delivery->active_at + IDLE_SECONDS - now) + 1);
	if (quiet_until < DBL_MAX)
		wait = Min(wait, cs_clock_wait_ms(quiet_until - now));
	/* news that are gathered need not wake us */
	if (gather_until > now)
		wait = Min(wait, cs_clock_wait_ms(gather_until - now));
	else if (!all_quiet && wait > 0 && !cs_shmem_may_sleep(quiet))
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
	settle(delivery, true);
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

	if (cs_http_in_flight(delivery->http) > 0 || !cs_settle_is_empty(delivery->settlement) ||
		cs_upkeep_has_work(delivery))
		return false;
	foreach(lc, delivery->definitions.accounts)
		if (cs_accounts_has_work(lfirst(lc)))
		return false;
	return true;
}
