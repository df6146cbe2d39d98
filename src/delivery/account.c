/*-------------------------------------------------------------------------
 *
 * account.c
 *		An endpoint at work: its pace, its health and its lanes.
 *
 * A provider that is down for an hour, or a key that was revoked, must not turn
 * the queue into failures.  So a failing or halted account waits, then tries
 * with a single contact, another one each time, and goes on as before when that
 * is answered.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/settings.h"
#include "base/shmem.h"
#include "base/try.h"
#include "delivery/account.h"
#include "provider/provider.h"
#include "provider/server.h"

/* Without an endpoint yet, in the current context. */
CsAccount *
cs_account_create(const CsEndpointState *state)
{
	CsAccount  *account = palloc0(sizeof(CsAccount));

	account->id = state->id;
	account->serverid = state->serverid;
	account->roleid = state->roleid;
	account->server_name = state->server_name;
	account->busy = state->busy;
	account->stale_before = state->stale_before;
	account->learned_pace = state->pace;
	account->provider_state = state->provider_state;
	account->halt_notified = state->halt_notified;
	account->context = CurrentMemoryContext;
	account->health_changed = true;
	account->published = -1;
	dlist_init(&account->ready);
	return account;
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
 * Effect: the pace is the least of what is configured, limited and taught.
 * Less than is configured leaves nothing of the burst either.
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
	if (account->learned_pace > 0)
		rate = Min(rate, account->learned_pace);
	cs_pace_set(&account->pace, rate, rate < endpoint->pace ? 1 : endpoint->burst, now);
}

/* Effect: the provider's judge() finds this in endpoint->provider_state; "": nothing. */
void
cs_account_remember(CsAccount *account, const char *provider_state, double now)
{
	if (strcmp(account->provider_state ? account->provider_state : "", provider_state) == 0)
		return;
	if (account->provider_state)
		pfree(account->provider_state);
	account->provider_state = *provider_state ? MemoryContextStrdup(account->context, provider_state) : NULL;
	account->endpoint->provider_state = account->provider_state;
	account->learned_changed = true;
	set_pace(account, now);
}

/* Effect: somebody changed the options, so the provider is to be asked anew. */
void
cs_account_unlearn(CsAccount *account, double now)
{
	if (account->learned_pace == 0 && account->provider_state == NULL)
		return;
	account->learned_pace = 0;
	if (account->provider_state)
		pfree(account->provider_state);
	account->provider_state = NULL;
	account->learned_changed = true;
	if (account->endpoint == NULL)
		return;
	account->endpoint->provider_state = NULL;
	set_pace(account, now);
}

/* Effect: after the first 429 a provider may be called less often, for good. */
static void
learn_pace(CsAccount *account, double now)
{
	double		less = account->endpoint->provider->throttled_pace;

	if (less == 0 || account->pace.rate <= less)
		return;
	account->learned_pace = less;
	account->learned_changed = true;
	set_pace(account, now);
}

/* What read_endpoint() reads. */
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
	CsEndpoint *endpoint = NULL;
	ErrorData  *error;

	if (cs_try(read_endpoint, &job, NULL, &error) == CS_TRY_OK)
		endpoint = job.endpoint;
	else
		cs_account_halt(account, now, -1, "configuration",
						error->hint ? psprintf("%s (%s)", error->message, error->hint) :
						error->message);
	account->unreadable = endpoint == NULL;
	if (endpoint == NULL)
	{
		/* of a role that was dropped nothing is to be left */
		if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(account->roleid)))
			cs_shmem_reload_at_commit();
		MemoryContextDelete(fresh);
		return;
	}
	if (account->endpoint_context)
		MemoryContextDelete(account->endpoint_context);
	account->endpoint_context = fresh;
	account->endpoint = endpoint;
	endpoint->provider_state = account->provider_state;
	set_pace(account, now);
}

/* Effect: a wait that the provider told us to make before a restart goes on. */
void
cs_account_resume_throttle(CsAccount *account, double now, double until, const char *reason)
{
	if (account->endpoint && !account->unreadable && until > now)
		set_health(account, CS_THROTTLED, Min(until, now + account->endpoint->max_retry_after), reason);
}

/* Effect: the account goes on as it was before definitions were read again. */
void
cs_account_carry_over(CsAccount *account, const CsAccount *before)
{
	account->failures = before->failures;
	account->last_success = before->last_success;
	account->number = before->number;
	account->proven = before->proven;
	if (account->unreadable)
		return;
	account->pace.tokens = before->pace.tokens;
	account->pace.at = before->pace.at;
	set_health(account, before->health, before->resume_at, before->reason);
}

/* Only a call to try is allowed, with as little as possible. */
bool
cs_account_is_probing(const CsAccount *account)
{
	return account->health == CS_HALTED || account->health == CS_UNAVAILABLE;
}

/* How many calls may be started now, as far as others in flight go. */
int
cs_account_free_slots(const CsAccount *account, double now)
{
	if (account->paused || account->unreadable || (account->health != CS_RUNNING && now < account->resume_at))
		return 0;
	if (cs_account_is_probing(account))
		return account->in_flight == 0 ? 1 : 0;
	return Max(account->endpoint->concurrency - account->in_flight, 0);
}

/* When the next call may start; DBL_MAX: when one in flight has ended. */
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

/* Effect: the provider answered as it should. */
void
cs_account_recover(CsAccount *account, double now)
{
	account->failures = 0;
	/* an answer to an older call does not end a throttle */
	if (account->health != CS_RUNNING && now >= account->resume_at)
		set_health(account, CS_RUNNING, 0, NULL);
}

/* Seconds to wait: what the provider said, within bounds, or ever more. */
static double
wait_as_told(const CsAccount *account, double retry_after)
{
	if (retry_after < 0)
		return cs_pace_backoff(account->failures);
	if (account->endpoint)
		retry_after = Min(retry_after, account->endpoint->max_retry_after);
	return retry_after + cs_pace_jitter();
}

/* Effect: no call for a while; nobody's fault. */
void
cs_account_throttle(CsAccount *account, double now, double retry_after, const char *message)
{
	double		wait;

	learn_pace(account, now);
	account->failures++;
	wait = wait_as_told(account, retry_after);
	if (account->health == CS_THROTTLED && now + wait < account->resume_at)
		return;
	set_health(account, CS_THROTTLED, now + wait, message);
}

/*
 * Effect: no call for a while, longer each time; then one that tries.  A single
 * failure may be due to what was sent, so it stops nothing else.
 */
void
cs_account_fail(CsAccount *account, double now, double retry_after, const char *message)
{
	double		wait;

	account->failures++;
	if (account->failures == 1 && retry_after < 0 && account->health == CS_RUNNING)
		return;
	wait = wait_as_told(account, retry_after);
	set_health(account, CS_UNAVAILABLE, now + wait, message);
}

/* Effect: no call but one in a while, until somebody has done something. */
void
cs_account_halt(CsAccount *account, double now, double retry_after,
				const char *reason, const char *message)
{
	double		wait = cs_probe_interval;

	if (account->endpoint)
		wait = Max(wait, Min(retry_after, account->endpoint->max_retry_after));

	account->proven = false;
	set_health(account, CS_HALTED, now + wait,
			   message ? psprintf("%s: %s", reason, message) : reason);
}

/* The word for it in contactsync.endpoint.state. */
const char *
cs_account_health_name(const CsAccount *account)
{
	static const char *const names[] = {"running", "throttled", "unavailable", "halted"};

	return names[account->health];
}
