/*-------------------------------------------------------------------------
 *
 * upkeep.c
 *		What the process that delivers does beside delivery.
 *
 * Once a minute it notes what waits, compares that with the thresholds of each server,
 * and queues failures again that pass by themselves.  And it tells alert_url of trouble:
 *
 *		transaction		take a message, and store that it is being sent
 *		no transaction	call alert_url, and wait for the answer beside other calls
 *		transaction		store what became of it
 *
 * A lock of somebody else delays all of this, and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/try.h"
#include "delivery/accounts.h"
#include "delivery/alert.h"
#include "delivery/guard.h"
#include "delivery/sender.h"
#include "delivery/upkeep.h"
#include "store/failure.h"

/* Thresholds are looked at this often (ms), and soon when something was altered. */
#define CHECK_MS		60000
#define SOON_MS			1000

/* After a lock of somebody else it is tried again (ms; s). */
#define LOCKED_MS		10000
#define LOCKED_PAUSE	10.0

/* Failures of an account that are queued again at once, at most. */
#define MAX_RETRIED		1000

/*
 * Once a minute
 */

/* How many failures can be queued without the bulk guard taking them for too many. */
static int
retry_limit(const CsEndpoint *endpoint)
{
	int			guard = cs_guard_limit(endpoint);

	return guard > 0 ? Min(Max(guard / 2, 1), MAX_RETRIED) : MAX_RETRIED;
}

/* Queue failures again that pass by themselves, unless nothing can be sent now. */
static void
retry_failures(CsAccount *account)
{
	int			every = account->endpoint ? cs_endpoint_option_int(account->endpoint, "retry_failures_every", 0) : 0;
	CsSqlScope	scope;
	int64		queued;

	if (every == 0 || account->unreadable || account->paused || account->health != CS_RUNNING)
		return;
	cs_sql_enter(&scope);
	queued = cs_failure_retry_passing(account->id, every, retry_limit(account->endpoint));
	cs_sql_leave(&scope);
	if (queued > 0)
		cs_accounts_reread_queue(list_make1(account));
}

static void
check(void *arg)
{
	CsDelivery *delivery = arg;
	ListCell   *lc;

	delivery->transactions->begin();
	cs_alert_check(delivery->definitions.accounts, delivery->definitions.only);
	MemoryContextSwitchTo(delivery->run_context);
	foreach(lc, delivery->definitions.accounts)
		retry_failures(lfirst(lc));
	cs_sender_commit_lazily(delivery);
}

static void
check_if_due(CsDelivery *delivery)
{
	TimestampTz now = cs_clock_steady();
	bool		done;

	if (now < delivery->check_at)
		return;
	done = cs_try_transactions(check, delivery, delivery->transactions->roll_back);
	delivery->checked_at = now;
	delivery->check_at = TimestampTzPlusMilliseconds(now, done ? CHECK_MS : LOCKED_MS);
}

void
cs_upkeep_reloaded(CsDelivery *delivery)
{
	delivery->alerts_stale = true;
	delivery->check_at = Min(delivery->check_at,
							 TimestampTzPlusMilliseconds(delivery->checked_at, SOON_MS));
}

void
cs_upkeep_check_now(CsDelivery *delivery)
{
	delivery->check_at = 0;
}

/*
 * Alerts
 */

static void
load(void *arg)
{
	CsDelivery *delivery = arg;

	delivery->transactions->begin();
	cs_alert_load(delivery->definitions.accounts);
	cs_sender_commit_lazily(delivery);
}

static void
prepare(CsDelivery *delivery, CsAccount *account)
{
	delivery->transactions->begin();
	cs_alert_prepare(account, cs_clock_now());
	cs_sender_commit(delivery);
}

static void
store(CsDelivery *delivery, CsAccount *account)
{
	delivery->transactions->begin();
	cs_alert_store(account);
	cs_sender_commit(delivery);
}

/* Store what became of messages that were answered. */
static void
store_answered(CsDelivery *delivery)
{
	double		now = cs_clock_now();
	ListCell   *lc;

	foreach(lc, delivery->definitions.accounts)
	{
		CsAccount  *account = lfirst(lc);

		if (account->alert == NULL || !account->alert->answered || account->alert_at > now)
			continue;
		if (cs_sender_try(delivery, account, store))
			cs_alert_stored(account);
		else
			account->alert_at = now + LOCKED_PAUSE;
		delivery->alerts_stale = true;
	}
}

/* Have accounts send messages that are due, without taking the room of other calls. */
static void
send_due(CsDelivery *delivery)
{
	double		now = cs_clock_now();
	ListCell   *lc;

	foreach(lc, delivery->definitions.accounts)
	{
		CsAccount  *account = lfirst(lc);

		if (cs_alert_ready_at(account) > now || !cs_http_has_room(delivery->http, false))
			continue;
		if (!cs_sender_try(delivery, account, prepare))
			account->alert_at = now + LOCKED_PAUSE;
		else if (account->alert == NULL)
			delivery->alerts_stale = true;
		else
			cs_alert_send(account, delivery->http, cs_clock_now());
	}
}

/* Load what there is to tell, if that may be something else than before. */
static void
load_if_stale(CsDelivery *delivery)
{
	delivery->alerts_stale |= cs_alert_take_news();
	if (!delivery->alerts_stale)
		return;
	if (cs_try_transactions(load, delivery, delivery->transactions->roll_back))
		delivery->alerts_stale = false;
}

void
cs_upkeep_run(CsDelivery *delivery)
{
	if (!delivery->draining)
		check_if_due(delivery);
	store_answered(delivery);
	if (delivery->draining)
		return;
	load_if_stale(delivery);
	send_due(delivery);
}

double
cs_upkeep_ready_at(const CsDelivery *delivery, double now)
{
	double		check_in = (delivery->check_at - cs_clock_steady()) / (double) USECS_PER_SEC;
	double		at = now + Max(check_in, 0) * cs_clock_speed;
	bool		room = cs_http_has_room(delivery->http, false);
	ListCell   *lc;

	foreach(lc, delivery->definitions.accounts)
	{
		const CsAccount *account = lfirst(lc);

		if (account->alert ? account->alert->answered : room)
			at = Min(at, account->alert_at);
	}
	return at;
}

bool
cs_upkeep_has_work(const CsDelivery *delivery)
{
	double		now = cs_clock_now();
	ListCell   *lc;

	if (delivery->alerts_stale)
		return true;
	foreach(lc, delivery->definitions.accounts)
	{
		const CsAccount *account = lfirst(lc);

		if (account->alert || account->alert_at <= now)
			return true;
	}
	return false;
}
