/*-------------------------------------------------------------------------
 *
 * account.c
 *		One account at a provider: its endpoint, pace, health and lanes.
 *
 * A provider that is down for an hour, or a key that was revoked, must not turn
 * the queue into failures.  So a failing or halted account waits, then probes
 * with a single contact, another one each time, and goes on as before when that
 * is answered.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/clock.h"
#include "base/invalidation.h"
#include "base/settings.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/account.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/endpoint_state.h"

/*
 * Create an account without an endpoint yet, in a context of its own, which becomes
 * the current one.
 */
CsAccount *
cs_account_create(const CsEndpointState *state)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync account",
												  ALLOCSET_DEFAULT_SIZES);
	CsAccount  *account = MemoryContextAllocZero(context, sizeof(CsAccount));

	MemoryContextSwitchTo(context);
	account->id = state->id;
	account->serverid = state->serverid;
	account->roleid = state->roleid;
	account->busy = state->busy;
	/* what the bucket held before the process started is not known */
	account->pace.tokens = state->busy ? 0 : 1;
	account->stale_before = state->stale_before;
	account->reclaim_before = state->reclaim_before;
	account->has_remaining = state->has_remaining;
	account->learned.rate = account->learned_stored = state->pace;
	account->limitation = state->limitation ? pstrdup(state->limitation) : NULL;
	account->halt_notified = state->halt_notified;
	account->context = context;
	account->health_changed = true;
	cs_breaker_load(&account->breaker, state->breaker);
	account->pull_error = state->pull_error ? cs_text_message_to_utf8(state->pull_error) : NULL;
	account->published = -1;
	account->alert_at = DBL_MAX;
	dlist_init(&account->ready);
	dlist_init(&account->flying);
	return account;
}

/* The lane of a watch, or NULL. */
CsLane *
cs_account_find_lane(const CsAccount *account, int watch)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
	{
		CsLane	   *lane = lfirst(lc);

		if (lane->watch && lane->watch_id == watch)
			return lane;
	}
	return NULL;
}

/* May a row of a watch, or a contact of contactsync_upsert(), have failed? */
bool
cs_account_has_failures(const CsAccount *account)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
		if (((const CsLane *) lfirst(lc))->has_failures)
		return true;
	return false;
}

static void
set_health(CsAccount *account, CsHealth health, double resume_at, const char *reason)
{
	account->health_changed |= account->health != health || health != CS_RUNNING;
	account->health = health;
	account->resume_at = resume_at;
	if (account->reason)
		pfree(account->reason);
	account->reason = reason ? MemoryContextStrdup(account->context, reason) : NULL;
}

/*
 * What the provider taught us
 */

/*
 * Set the pace to the least of what is configured, limited and learned.  If that
 * is less than configured, no burst is allowed either.
 */
static void
set_pace(CsAccount *account, double now)
{
	const CsEndpoint *endpoint = account->endpoint;
	const CsProvider *provider = endpoint->provider;
	double		limit = provider->pace_limit ? provider->pace_limit(endpoint) : 0;
	double		rate = endpoint->pace;

	if (limit > 0)
		rate = Min(rate, limit);
	if (account->learned.rate > 0)
		rate = Min(rate, account->learned.rate);
	cs_pace_set(&account->pace, rate, rate < endpoint->pace ? 1 : endpoint->burst, now);
	account->published = -1;
}

/*
 * Keep what the provider's judge() remembers; it finds it in
 * endpoint->limitation.  "" means nothing.
 */
void
cs_account_remember(CsAccount *account, const char *limitation, double now)
{
	if (strcmp(account->limitation ? account->limitation : "", limitation) == 0)
		return;
	if (account->limitation)
		pfree(account->limitation);
	account->limitation = *limitation ? MemoryContextStrdup(account->context, limitation) : NULL;
	account->endpoint->limitation = account->limitation;
	account->learned_changed = true;
	set_pace(account, now);
}

/* After a first 429 a provider may have to be called less often for good. */
static double
highest_pace(const CsEndpoint *endpoint)
{
	double		throttled = endpoint->provider->throttled_pace;

	return throttled > 0 ? Min(throttled, endpoint->pace) : endpoint->pace;
}

/* A call that was sent then came too fast.  Return whether that is news. */
static bool
slow_down(CsAccount *account, double sent_at, double now)
{
	if (!cs_pace_lower(&account->learned, account->endpoint->pace, sent_at, now))
		return false;
	account->learned.rate = Min(account->learned.rate, highest_pace(account->endpoint));
	account->learned_changed = true;
	set_pace(account, now);
	return true;
}

/* A call did not come too fast.  Not every step is stored. */
static void
speed_up(CsAccount *account, double now)
{
	const CsEndpoint *endpoint = account->endpoint;
	bool		done;

	cs_pace_accept(&account->learned, highest_pace(endpoint), now);
	if (account->learned.rate == 0)
		return;
	done = account->learned.rate >= endpoint->pace;
	if (done)
		account->learned.rate = 0;
	account->learned_changed |= done || account->learned.rate > account->learned_stored * 1.1;
	set_pace(account, now);
}

/*
 * Versions of the server
 */

typedef struct CsEndpointJob
{
	CsAccount  *account;
	MemoryContext context;
	CsEndpoint *endpoint;
} CsEndpointJob;

static void
read_endpoint(void *arg)
{
	CsEndpointJob *job = arg;
	MemoryContext old = MemoryContextSwitchTo(job->context);

	job->endpoint = cs_server_read(job->account->serverid, job->account->roleid);
	MemoryContextSwitchTo(old);
}

/* The version that is used now, which is kept until it is released. */
CsServerVersion *
cs_account_hold_version(CsAccount *account)
{
	account->version->users++;
	return account->version;
}

void
cs_account_release_version(CsServerVersion *version)
{
	if (--version->users == 0)
		MemoryContextDelete(version->context);
}

/* Are both the same account at the provider? */
static bool
is_same_account(const CsEndpoint *a, const CsEndpoint *b)
{
	const char *name = cs_provider_account_name(a);
	const char *other = cs_provider_account_name(b);

	return cs_provider_is_same(a->provider, b->provider) && strcmp(a->base_url, b->base_url) == 0 &&
		strcmp(name ? name : "", other ? other : "") == 0;
}

/* Stop using the present version; calls in flight may still need it. */
static void
leave_version(CsAccount *account, const CsEndpoint *next)
{
	CsServerVersion *version = account->version;

	if (version == NULL)
		return;
	version->superseded = !cs_endpoint_equal(version->endpoint, next);
	version->moved = !is_same_account(version->endpoint, next);
	account->reconfigured |= version->superseded;
	account->moved |= version->moved;
	if (version->endpoint->limitation)
		version->endpoint->limitation = MemoryContextStrdup(version->context,
															version->endpoint->limitation);
	cs_account_release_version(version);
}

static void
use_version(CsAccount *account, MemoryContext context, CsEndpoint *endpoint, double now)
{
	CsServerVersion *version = MemoryContextAllocZero(context, sizeof(CsServerVersion));

	version->context = context;
	version->endpoint = endpoint;
	version->users = 1;
	account->version = version;
	account->endpoint = endpoint;
	endpoint->limitation = account->limitation;
	account->published = -1;
	set_pace(account, now);
}

/*
 * Read server and user mapping anew.  If that fails, halt the account with the
 * error as the reason; what was read before serves to judge answers that are
 * still to come.  Needs a transaction.
 */
void
cs_account_read_endpoint(CsAccount *account, double now)
{
	MemoryContext fresh = AllocSetContextCreate(account->context, "contactsync endpoint",
												ALLOCSET_SMALL_SIZES);
	CsEndpointJob job = {account, fresh};
	bool		was_unreadable = account->unreadable;
	ErrorData  *error;

	account->unreadable = cs_try(read_endpoint, &job, NULL, &error) != CS_TRY_OK;
	account->denied = account->unreadable && error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE;
	if (account->unreadable)
	{
		cs_account_halt(account, now, -1, "configuration",
						cs_text_message_to_utf8(error->hint ?
												psprintf("%s (%s)", error->message, error->hint) :
												error->message));
		/* what a dropped role left is removed when definitions are reloaded */
		if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(account->roleid)))
			cs_invalidation_send(CS_DEFINITIONS);
		MemoryContextDelete(fresh);
		return;
	}
	if (was_unreadable)
	{
		account->failures = 0;
		set_health(account, CS_RUNNING, 0, NULL);
	}
	if (cs_endpoint_equal(account->endpoint, job.endpoint) &&
		strcmp(account->endpoint->server_name, job.endpoint->server_name) == 0)
	{
		MemoryContextDelete(fresh);
		return;
	}
	leave_version(account, job.endpoint);
	use_version(account, fresh, job.endpoint, now);
}

/*
 * Health
 */

/*
 * Somebody has changed the server: forget what the provider taught us, and what
 * became of earlier calls.
 */
void
cs_account_start_anew(CsAccount *account, double now)
{
	account->learned_changed |= account->learned.rate != 0 || account->limitation != NULL;
	account->learned.rate = account->learned.ended_at = 0;
	account->learned.nlowered = 0;
	if (account->limitation)
		pfree(account->limitation);
	account->limitation = NULL;
	account->failures = account->suspects = 0;
	cs_breaker_start_anew(&account->breaker);
	account->synced_since_halt = false;
	account->refresh_wanted = false;
	account->refresh_at = 0;
	account->reconfigured = account->moved = false;
	if (account->endpoint == NULL || account->unreadable)
		return;
	account->endpoint->limitation = NULL;
	set_pace(account, now);
	set_health(account, CS_RUNNING, 0, NULL);
}

/* Go on with a wait that the provider demanded before a restart. */
void
cs_account_resume_throttle(CsAccount *account, double now, double until, const char *reason)
{
	if (account->endpoint && !account->unreadable && until > now)
		set_health(account, CS_THROTTLED, Min(until, now + account->endpoint->max_retry_after), reason);
}

/* The provider answered well; but that does not end a halt because of refusals. */
void
cs_account_recover(CsAccount *account, double now)
{
	if (account->breaker.open)
		return;
	account->failures = 0;
	/* an answer to an older call does not end a throttle */
	if (account->health == CS_RUNNING)
		speed_up(account, now);
	else if (now >= account->resume_at)
		set_health(account, CS_RUNNING, 0, NULL);
}

/* The provider dealt with a contact; a step alone does not count as that. */
void
cs_account_succeed(CsAccount *account, double now)
{
	if (account->breaker.open)
		return;
	account->last_success = now;
	account->suspects = 0;
	account->synced_since_halt = true;
	cs_account_recover(account, now);
}

/*
 * Seconds to wait after that many failures: what the provider said, within bounds, or
 * longer each time.
 */
double
cs_account_time_to_wait(const CsAccount *account, double retry_after, int failures)
{
	if (retry_after < 0)
		return cs_pace_backoff(failures);
	if (account->endpoint)
		retry_after = Min(retry_after, account->endpoint->max_retry_after);
	return retry_after + cs_pace_jitter();
}

/* Make no call until then, if that is not known already. */
static void
wait_until(CsAccount *account, double at, const char *message)
{
	if (account->health != CS_THROTTLED || at >= account->resume_at)
		set_health(account, CS_THROTTLED, at, message);
}

/* Make no call for a while; no contact is to blame. */
void
cs_account_wait(CsAccount *account, double now, double retry_after, const char *message)
{
	account->failures++;
	wait_until(account, now + cs_account_time_to_wait(account, retry_after, account->failures), message);
}

/*
 * A call that was sent then came too fast: call less often, and not at all for a while.
 * The other ones that were in flight say nothing new, but how long to wait.
 */
void
cs_account_throttle(CsAccount *account, double sent_at, double now, double retry_after,
					const char *message)
{
	if (slow_down(account, sent_at, now))
	{
		account->failures++;
		wait_until(account, now + (retry_after >= 0 ? cs_account_time_to_wait(account, retry_after, 0) :
								   cs_pace_throttled_backoff(&account->learned, account->failures, now)), message);
	}
	else if (retry_after >= 0)
		wait_until(account, now + cs_account_time_to_wait(account, retry_after, 0), message);
}

/*
 * Make no call for a while, longer each time; then probe.  A single failure may
 * be due to what was sent, so it stops nothing else.
 */
void
cs_account_fail(CsAccount *account, double now, double retry_after, const char *message)
{
	double		wait;

	account->failures++;
	if (account->failures == 1 && retry_after < 0 && account->health == CS_RUNNING)
		return;
	wait = cs_account_time_to_wait(account, retry_after, account->failures);
	set_health(account, CS_UNAVAILABLE, now + wait, message);
}

/*
 * A contact that cannot be compared with another one waits, and the account is halted:
 * another one may be tried at once.
 */
void
cs_account_let_probe(CsAccount *account, double now)
{
	account->resume_at = now;
}

/* Only probe once in a while, until somebody fixes the configuration. */
void
cs_account_halt(CsAccount *account, double now, double retry_after,
				const char *reason, const char *message)
{
	double		wait = cs_probe_interval;

	if (account->endpoint)
		wait = Max(wait, Min(retry_after, account->endpoint->max_retry_after));

	account->synced_since_halt = false;
	set_health(account, CS_HALTED, now + wait,
			   message ? psprintf("%s: %s", reason, message) : reason);
}

/* Is only a probe allowed, with as little as possible? */
bool
cs_account_is_probing(const CsAccount *account)
{
	return account->health == CS_HALTED || account->health == CS_UNAVAILABLE;
}

/*
 * When something can be done
 */

/* How many calls may start now beside those in flight. */
int
cs_account_free_slots(const CsAccount *account, double now)
{
	if (account->paused || account->unreadable || (account->health != CS_RUNNING && now < account->resume_at))
		return 0;
	if (cs_account_is_probing(account))
		return account->in_flight == 0 ? 1 : 0;
	return Max(account->endpoint->concurrency - account->in_flight, 0);
}

/* When the next call may start; DBL_MAX: only when one in flight has ended. */
double
cs_account_ready_at(const CsAccount *account, double now)
{
	double		at = cs_pace_ready_at(&account->pace, now);

	if (account->paused)
		return DBL_MAX;
	if (account->health != CS_RUNNING)
		at = Max(at, account->resume_at);
	return account->unreadable ? account->resume_at :
		cs_account_free_slots(account, at) > 0 ? at : DBL_MAX;
}

/* May contacts be read, beside those in memory?  One to probe with always may. */
bool
cs_account_has_room(const CsAccount *account)
{
	return cs_account_is_probing(account) ||
		cs_room_for_contacts(account->removals->changes.room, account->contact_bytes) > 0;
}

/* May a lane have a change to read now? */
bool
cs_account_has_changes(const CsAccount *account, double now)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
		if (cs_lane_ready_at(lfirst(lc), now) <= now)
		return true;
	return false;
}
