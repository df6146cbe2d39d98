/*-------------------------------------------------------------------------
 *
 * delivery.c
 *		The cycle: load, read, send, judge, settle.
 *
 * One turn is
 *
 *		no transaction	take the answers that came, judge them
 *		transaction		store the outcomes, delete what is settled
 *		transaction		load the queue, read the rows that can be sent now
 *		no transaction	start the calls, and wait
 *
 * Rows are read only when their call can start, so what is sent is the newest
 * there is, and what waits is keys, not copies of anybody's data.
 *
 * The background worker and contactsync_run() both run this, and nothing else
 * does.
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
#include "utils/snapmgr.h"

#include "base/clock.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "delivery/account.h"
#include "delivery/call.h"
#include "delivery/delivery.h"
#include "delivery/guard.h"
#include "delivery/pace.h"
#include "delivery/reader.h"
#include "delivery/token.h"
#include "delivery/roster.h"
#include "delivery/scan.h"
#include "delivery/settle.h"
#include "http/http.h"
#include "provider/server.h"
#include "store/forget.h"
#include "store/pause.h"
#include "store/queue.h"
#include "store/trace.h"
#include "store/watch_store.h"

/* Text of the contacts that are read before any of them is sent: what is in
 * flight is bounded however large the rows are. */
#define FORMING_BYTES	(4 * CS_CALL_BYTES)

struct CsDelivery
{
	const CsTransactions *transactions;
	MemoryContext context;
	MemoryContext turn_context; /* emptied each turn */
	CsHttp	   *http;
	CsSettlement *settlement;
	List	   *accounts;
	bool		draining;
	double		active_at;		/* when something was done last */
	TimestampTz looked_at;		/* when the queue was looked at */
};

/* A wake-up that was lost is made up for after this long (ms). */
#define LOOK_MS		10000

/* After being idle for so long (s), it is stored that nothing is under way. */
#define IDLE_SECONDS	5.0

/*
 * Opening and closing
 */

/* The end of a transaction leaves us in a context that is never emptied. */
static void
commit(CsDelivery *delivery)
{
	delivery->transactions->commit();
	MemoryContextSwitchTo(delivery->turn_context);
}

/* An outcome lost in a crash costs a repeat, not a change: do not wait for the
 * disk. */
static void
commit_lazily(CsDelivery *delivery)
{
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	commit(delivery);
}

/*
 * Effect: ready to deliver for one server, or for all with InvalidOid, and for
 * the roles that a role is, or for all with InvalidOid.  The caller owns the
 * queue.  Must not be in a transaction of the caller's own
 * making but what transactions->begin() makes.  "before" is what it replaces,
 * drained, or NULL.
 */
CsDelivery *
cs_delivery_open(const CsTransactions *transactions, Oid only_server, Oid roles_of,
				 const CsDelivery *before)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "contactsync delivery",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CsDelivery *delivery = palloc0(sizeof(CsDelivery));
	CsSqlScope	scope;

	delivery->transactions = transactions;
	delivery->context = context;
	delivery->turn_context = AllocSetContextCreate(context, "contactsync turn",
												   ALLOCSET_DEFAULT_SIZES);
	delivery->settlement = cs_settle_begin();
	cs_lane_begin(context);
	transactions->begin();
	cs_queue_adopt();
	cs_sql_enter(&scope);
	cs_watch_store_sweep();
	cs_forget_sweep();
	cs_sql_leave(&scope);
	transactions->commit();
	transactions->begin();
	cs_trace_load();
	delivery->accounts = cs_accounts_load(context, only_server, roles_of,
										  before ? before->accounts : NIL);
	MemoryContextSwitchTo(delivery->turn_context);
	cs_reader_check(delivery->accounts, cs_clock_now());
	transactions->commit();
	if (OidIsValid(roles_of))
		cs_accounts_poll_now(delivery->accounts);
	delivery->http = cs_http_open();
	MemoryContextSwitchTo(old);
	return delivery;
}

int
cs_delivery_in_flight(const CsDelivery *delivery)
{
	return cs_http_in_flight(delivery->http);
}

/* Effect: says durably that nothing is under way, where nothing is. */
static void
store_idle(CsDelivery *delivery)
{
	if (cs_delivery_in_flight(delivery) > 0 || !cs_settle_is_empty(delivery->settlement) ||
		!cs_accounts_is_idle_but_busy(delivery->accounts))
		return;
	delivery->transactions->begin();
	cs_accounts_store_idle(delivery->accounts);
	commit(delivery);
}

/* Effect: ends all calls; what they were about is still queued. */
void
cs_delivery_close(CsDelivery *delivery)
{
	cs_accounts_close(delivery->accounts);
	cs_http_close(delivery->http);
	MemoryContextDelete(delivery->context);
}

/*
 * Answers and outcomes
 */

static void
harvest(CsDelivery *delivery)
{
	CsResponse	response;
	CsRequestOwner *owner;

	while ((owner = cs_http_harvest(delivery->http, &response)) != NULL)
	{
		double		now = cs_clock_now();

		if (owner->kind == CS_OWNER_CALL)
			cs_call_answered((CsCall *) owner, &response, delivery->settlement, now);
		else
			cs_token_answered((CsTokenRefresh *) owner, &response, now);
	}
}

static bool
has_to_store(CsDelivery *delivery)
{
	ListCell   *lc;

	if (cs_settle_due_at(delivery->settlement) <= cs_clock_now())
		return true;
	foreach(lc, delivery->accounts)
	{
		CsAccount  *account = lfirst(lc);
		ListCell   *other;

		if (account->health_changed || account->learned_changed)
			return true;
		foreach(other, account->lanes)
			if (((CsLane *) lfirst(other))->broken_changed)
			return true;
	}
	return false;
}

static void
settle(CsDelivery *delivery)
{
	if (!has_to_store(delivery))
		return;
	pgstat_report_activity(STATE_RUNNING, "contactsync: storing outcomes");
	delivery->transactions->begin();
	cs_settle_store(delivery->settlement, delivery->accounts, cs_clock_now());
	commit_lazily(delivery);
	cs_settle_forget(delivery->settlement);
}

/* Two roles can use one user mapping, that of PUBLIC. */
static bool
share_tokens(const CsAccount *a, const CsAccount *b)
{
	return a != b && a->endpoint && b->endpoint && a->serverid == b->serverid &&
		a->endpoint->mapping_roleid == b->endpoint->mapping_roleid;
}

/* Effect: fresh tokens are on disk, each in a transaction of its own, and used
 * by all whose they are. */
static void
store_tokens(CsDelivery *delivery)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, delivery->accounts)
	{
		CsAccount  *account = lfirst(lc);
		double		now = cs_clock_now();

		if (!cs_token_has_to_store(account))
			continue;
		delivery->transactions->begin();
		cs_token_store(account, now);
		foreach(other, delivery->accounts)
			if (account->refresh == NULL && share_tokens(account, lfirst(other)))
			cs_token_share(lfirst(other), now);
		commit(delivery);
	}
}

/* Is another account about to use the refresh token?  It can be used once. */
static bool
is_refreshed_elsewhere(CsDelivery *delivery, const CsAccount *account)
{
	ListCell   *lc;

	foreach(lc, delivery->accounts)
		if (share_tokens(account, lfirst(lc)) && ((CsAccount *) lfirst(lc))->refresh)
		return true;
	return false;
}

/* Effect: a token that a session found void is to be renewed. */
static void
note_stale_token(CsDelivery *delivery)
{
	Oid			serverid;
	Oid			mapping_roleid;
	ListCell   *lc;

	if (!cs_shmem_take_stale_token(&serverid, &mapping_roleid))
		return;
	foreach(lc, delivery->accounts)
	{
		CsAccount  *account = lfirst(lc);

		if (account->serverid != serverid || account->endpoint == NULL ||
			account->endpoint->mapping_roleid != mapping_roleid)
			continue;
		account->refresh_wanted = true;
		break;
	}
}

/*
 * Sending
 */

/* Effect: what has been made already goes first.  Returns the slots left; then
 * all that is still there waits for its time. */
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
		cs_call_start(call, delivery->http, now);
		slots--;
	}
	return slots;
}

/* Reads from a lane until there are "wanted" contacts in "forming", or there is
 * no room for more. */
static int
form_from_lane(CsDelivery *delivery, CsLane *lane, int wanted, int64 *room, CsChange **forming,
			   double now)
{
	int			formed = 0;

	while (formed < wanted && *room > 0)
	{
		int			limit = Min(wanted - formed, lane->read_size);
		int			before = formed;
		int			n = 0;

		if (lane->max_read)
			limit = Min(limit, lane->max_read);

		while (n < limit && (forming[formed + n] = cs_lane_next(lane, now)) != NULL)
			n++;
		if (n == 0)
			break;
		formed += cs_reader_read(lane, n, forming + formed, delivery->settlement, now);
		for (int i = before; i < formed; i++)
			*room -= forming[i]->contact->size;
	}
	return formed;
}

/* Contacts of all lanes of the account, each lane's turn coming. */
static int
form(CsDelivery *delivery, CsAccount *account, int wanted, CsChange **forming, double now)
{
	int			nlanes = list_length(account->lanes);
	int64		room = FORMING_BYTES;
	int			formed = 0;

	for (int i = 0; i < nlanes && formed < wanted; i++)
	{
		CsLane	   *lane = list_nth(account->lanes, (account->turn + i) % nlanes);

		if (lane->paused || now < lane->not_before)
			continue;
		if (!lane->exhausted)
		{
			CsSqlScope	scope;

			cs_sql_enter(&scope);
			MemoryContextSwitchTo(delivery->turn_context);
			cs_lane_load(lane);
			cs_sql_leave(&scope);
			cs_guard_check(lane, now);
		}
		formed += form_from_lane(delivery, lane, wanted - formed, &room, forming + formed, now);
	}
	account->turn = nlanes > 0 ? (account->turn + 1) % nlanes : 0;
	return formed;
}

/*
 * Effect: nothing is sent by an option, a key or a right that was taken away:
 * the transaction that reads what to send has learnt of it by now.
 */
static void
follow_changes(CsDelivery *delivery, double now)
{
	ListCell   *lc;

	if (cs_pause_take_changes())
	{
		cs_accounts_note_pauses(delivery->accounts);
		foreach(lc, delivery->accounts)
			cs_call_withdraw_paused(lfirst(lc));
	}
	if (cs_trace_take_changes())
		cs_trace_load();
	if (cs_server_take_changes())
		foreach(lc, delivery->accounts)
			cs_account_read_endpoint(lfirst(lc), now);
}

/* Effect: reads as many contacts as can be sent now, and starts their calls. */
static void
send_new(CsDelivery *delivery, CsAccount *account, int slots, double now)
{
	int			calls = Min(slots, cs_pace_available(&account->pace, now));
	int			wanted = cs_account_is_probing(account) ? 1 :
	calls * account->endpoint->batch_size;
	CsChange  **forming;
	int			formed;

	if (calls == 0 || !cs_accounts_has_something(account, now))
		return;
	pgstat_report_activity(STATE_RUNNING, "contactsync: reading changes");
	forming = palloc((wanted + 1) * sizeof(CsChange *));
	delivery->transactions->begin();
	cs_queue_protect();
	follow_changes(delivery, now);
	MemoryContextSwitchTo(delivery->turn_context);
	formed = cs_account_free_slots(account, now) == 0 ? 0 :
		form(delivery, account, wanted, forming, now);
	cs_queue_recover();
	if (formed > 0)
		cs_accounts_store_busy(account);
	commit(delivery);
	if (formed == 0)
		return;
	cs_call_make(account, forming, formed);
	start_ready(delivery, account, slots, now);
}

/*
 * Effect: scans have added to the queue what the account can send beside live
 * changes, of which there are none left that could go now.  Returns whether
 * there is something.
 */
static bool
top_up(CsDelivery *delivery, CsAccount *account, double now)
{
	int			calls = Min(cs_account_free_slots(account, now), cs_pace_available(&account->pace, now));
	bool		queued;

	if (calls == 0 || cs_account_is_probing(account) ||
		cs_accounts_scans_ready_at(account, now) > now || cs_accounts_has_something(account, now))
		return false;
	pgstat_report_activity(STATE_RUNNING, "contactsync: comparing rows");
	delivery->transactions->begin();
	follow_changes(delivery, now);
	MemoryContextSwitchTo(delivery->turn_context);
	queued = cs_accounts_run_scans(account, calls, now);
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
		if (!is_refreshed_elsewhere(delivery, account))
			cs_token_refresh(account, delivery->http, now);
		return;
	}
	if (!dlist_is_empty(&account->ready))
	{
		delivery->transactions->begin();
		follow_changes(delivery, now);
		commit(delivery);
	}
	slots = cs_account_free_slots(account, now);
	if (slots == 0)
		return;
	/* a call that is only to try is a repeated one and a new one in turn */
	if (!(cs_account_is_probing(account) && account->repeated && cs_accounts_has_something(account, now)))
	{
		int			left = start_ready(delivery, account, slots, now);

		account->repeated = left < slots;
		slots = left;
	}
	else
		account->repeated = false;
	if (slots > 0)
		send_new(delivery, account, slots, now);
	if (top_up(delivery, account, now))
		send_new(delivery, account, cs_account_free_slots(account, now), now);
}

/*
 * Waiting
 */

/* Milliseconds until there is something to do, at most "timeout". */
static long
time_to_wait(CsDelivery *delivery, long timeout)
{
	double		now = cs_clock_now();
	double		at = DBL_MAX;
	ListCell   *lc;

	foreach(lc, delivery->accounts)
		at = Min(at, cs_accounts_ready_at(lfirst(lc), now));
	at = Min(at, cs_settle_due_at(delivery->settlement));
	if (at == DBL_MAX)
		return timeout;
	return timeout < 0 ? cs_clock_wait_ms(at - now) : Min(timeout, cs_clock_wait_ms(at - now));
}

/* Effect: the queue is looked at again if something came, and once in a while
 * for what nobody told us of. */
static void
note_news(CsDelivery *delivery)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!cs_shmem_take_news() && !TimestampDifferenceExceeds(delivery->looked_at, now, LOOK_MS))
		return;
	delivery->looked_at = now;
	cs_accounts_note_news(delivery->accounts);
	/* nothing else begins a transaction for what is paused */
	if (!cs_accounts_is_paused(delivery->accounts))
		return;
	delivery->transactions->begin();
	follow_changes(delivery, cs_clock_now());
	commit(delivery);
}

/*
 * The cycle
 */

void
cs_delivery_turn(CsDelivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->turn_context);
	ListCell   *lc;

	MemoryContextReset(delivery->turn_context);
	harvest(delivery);
	settle(delivery);
	store_tokens(delivery);
	note_news(delivery);
	note_stale_token(delivery);
	if (!delivery->draining)
		foreach(lc, delivery->accounts)
			send_account(delivery, lfirst(lc));
	settle(delivery);
	cs_accounts_publish(delivery->accounts);
	MemoryContextSwitchTo(old);
}

/*
 * When a call for something new could start; DBL_MAX: when one in flight has
 * ended.  Until then nobody need wake us, so that commits that come faster than
 * the provider takes them do not pay for it.
 */
static double
news_useful_at(const CsDelivery *delivery, double now)
{
	double		at = DBL_MAX;
	ListCell   *lc;

	foreach(lc, delivery->accounts)
		at = Min(at, cs_account_ready_at(lfirst(lc), now));
	return at;
}

void
cs_delivery_wait(CsDelivery *delivery, long timeout)
{
	MemoryContext old = MemoryContextSwitchTo(delivery->turn_context);
	long		wait = delivery->draining ? timeout : time_to_wait(delivery, timeout);
	double		now = cs_clock_now();
	double		useful_at;

	if (wait == 0 || cs_delivery_in_flight(delivery) > 0)
		delivery->active_at = now;
	else if (now - delivery->active_at > IDLE_SECONDS)
		store_idle(delivery);
	else if (cs_accounts_is_idle_but_busy(delivery->accounts))
		wait = Min(wait, cs_clock_wait_ms(delivery->active_at + IDLE_SECONDS - now) + 1);
	useful_at = news_useful_at(delivery, now);
	if (useful_at > now)
		wait = useful_at == DBL_MAX ? wait : Min(wait, cs_clock_wait_ms(useful_at - now));
	else if (wait > 0 && !cs_shmem_may_sleep())
		wait = 0;
	pgstat_report_activity(STATE_IDLE, NULL);
	cs_http_wait(delivery->http, wait, PG_WAIT_EXTENSION);
	MemoryContextSwitchTo(old);
}

/* Is there a token that would be lost? */
bool
cs_delivery_is_refreshing(const CsDelivery *delivery)
{
	ListCell   *lc;

	foreach(lc, delivery->accounts)
		if (((CsAccount *) lfirst(lc))->refresh)
		return true;
	return false;
}

bool
cs_delivery_drain(CsDelivery *delivery, long timeout)
{
	MemoryContext old;

	delivery->draining = true;
	cs_delivery_turn(delivery);
	if (cs_delivery_in_flight(delivery) > 0)
		cs_delivery_wait(delivery, timeout);
	if (cs_delivery_in_flight(delivery) > 0 || cs_delivery_is_refreshing(delivery))
		return false;
	old = MemoryContextSwitchTo(delivery->turn_context);
	settle(delivery);
	store_idle(delivery);
	MemoryContextSwitchTo(old);
	return true;
}

/* Can the account do nothing until somebody does something about it? */
static bool
is_stuck(const CsAccount *account)
{
	return account->paused || account->health == CS_HALTED;
}

bool
cs_delivery_is_done(const CsDelivery *delivery)
{
	ListCell   *lc;

	if (cs_delivery_in_flight(delivery) > 0 || !cs_settle_is_empty(delivery->settlement))
		return false;
	foreach(lc, delivery->accounts)
	{
		CsAccount  *account = lfirst(lc);
		ListCell   *other;

		if (is_stuck(account))
			continue;
		if (!dlist_is_empty(&account->ready) || account->refresh)
			return false;
		foreach(other, account->lanes)
		{
			CsLane	   *lane = lfirst(other);

			if (!lane->paused && !lane->broken && !lane->guard.closed &&
				(!cs_lane_is_empty(lane) || cs_scan_is_under_way(lane, cs_clock_now())))
				return false;
		}
	}
	return true;
}
