/*-------------------------------------------------------------------------
 *
 * verdict.c
 *		What the answer to a call means for its contacts.
 *
 * This file decides what a verdict means for the contacts, for the batch and for
 * the account, and does so for all providers alike:
 *
 *		DONE	each contact has its outcome
 *		STEP	the same contacts go on with the provider's next request
 *		RETRY	the contacts are read again and batched again; the very call is
 *				repeated where the provider knows it by an idempotency key
 *		REKEY	the same call under a new key, once
 *		REAUTH	the same call with a fresh token, once
 *		SPLIT	two halves, until the contact at fault is alone
 *		REJECT	every contact fails
 *		HALT	no contact fails: the account waits, or the watch does
 *
 * A call is judged by the definition of the server that it was started under.  If
 * that has changed meanwhile, an outcome is an outcome, but nothing else is
 * concluded: contacts that have none are read again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "delivery/breaker.h"
#include "delivery/call.h"
#include "delivery/change_lock.h"
#include "delivery/token.h"
#include "delivery/verdict.h"
#include "http/url.h"
#include "provider/provider.h"

/* A batch gets so many new idempotency keys before it is split. */
#define MAX_REKEYS	1

/* So many contacts in a row with an answer that is not the API's are not at fault. */
#define MAX_SUSPECTS	3

/* The first call about a contact was refused: the provider has nothing of it. */
static void
confirm_refusal(const CsCall *call, int i)
{
	if (call->batch.step == 0)
		call->changes[i]->unconfirmed = call->changes[i]->was_unconfirmed;
}

/* How often contacts that are in each other's way are sent again. */
#define MAX_CONFLICTS	6

/*
 * Was the contact refused because another one has its address, and may that pass?
 * The first time it has to be found out whose it is (decide.c).
 */
static bool
may_conflict_pass(const CsCall *call, CsChange *change, const char *reason)
{
	const CsEndpoint *endpoint = call->account->endpoint;

	if (reason == NULL || strcmp(reason, CS_REASON_CONFLICT) != 0 ||
		(endpoint->provider->abilities & CS_UNIQUE_EMAIL) == 0)
		return false;
	return change->conflicts++ == 0 ||
		(change->entangled && change->conflicts <= Min(endpoint->max_retries, MAX_CONFLICTS));
}

/* Let whoever is about to leave the address have its turn. */
static void
yield_to_other(CsChange *change, double now)
{
	double		not_before = change->conflicts > 1 ? now + cs_pace_backoff(change->conflicts) : 0;

	cs_change_let_go(change);
	cs_call_release_contact(change, not_before, true);
}

/*
 * A contact was refused.  If all are, one like another, the account is halted; then
 * the contact does not fail, but is tried again after others.
 */
static bool
stays(CsAccount *account, const CsOutcome *outcome, double now)
{
	CsRefused	refused = cs_breaker_count(&account->breaker, account->endpoint, outcome);
	const char *said = outcome->message ? outcome->message : outcome->reason;

	if (refused == CS_REFUSED_FAILS)
		return false;
	cs_account_halt(account, now, -1, CS_HALT_REFUSALS,
					outcome->code ? psprintf("contacts are refused alike (%s): %s", outcome->code, said) :
					psprintf("contacts are refused alike: %s", said));
	cs_call_withdraw(account, true, false);
	return refused == CS_REFUSED_STAYS;
}

/* The contact fails, unless what it was refused for may pass. */
static void
refuse(const CsCall *call, int i, const CsOutcome *outcome, CsSettlement *settlement,
	   const CsJudgement *judgement, double now)
{
	CsChange   *change = call->changes[i];

	if (may_conflict_pass(call, change, outcome->reason))
		yield_to_other(change, now);
	else if (!change->forgotten && stays(call->account, outcome, now))
		cs_call_release_contact(change, 0, true);
	else
		cs_settle_failed(settlement, change, outcome, judgement->request_id);
}

static void
reject(CsCall *call, CsSettlement *settlement, const CsJudgement *judgement, double now)
{
	CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED};

	outcome.reason = judgement->reason;
	outcome.code = judgement->code;
	outcome.message = judgement->message;
	outcome.field = judgement->field;
	outcome.ours = judgement->ours;
	for (int i = 0; i < call->batch.ncontacts; i++)
	{
		if (judgement->verdict == CS_REJECT || judgement->verdict == CS_SPLIT)
			confirm_refusal(call, i);
		refuse(call, i, &outcome, settlement, judgement, now);
	}
}

/* Make a part of the call ready, ahead of any other. */
static void
split_off(CsCall *call, int from, int n)
{
	CsCall	   *part = cs_call_create(call->account, n, call->changes + from,
									  call->batch.action, call->batch.step);

	part->indivisible = true;
	cs_call_repeat(part, 0);
}

/* Split the call into halves, or reject its only contact. */
static void
split(CsCall *call, CsSettlement *settlement, const CsJudgement *judgement, double now)
{
	int			half = call->batch.ncontacts / 2;

	if (call->batch.ncontacts == 1)
	{
		reject(call, settlement, judgement, now);
		return;
	}
	for (int i = 0; i < call->batch.ncontacts && judgement->verdict == CS_SPLIT; i++)
		confirm_refusal(call, i);
	split_off(call, half, call->batch.ncontacts - half);
	split_off(call, 0, half);
}

/*
 * Verdicts
 */

static bool
is_tried_enough(const CsCall *call)
{
	return call->changes[0]->attempts > call->account->endpoint->max_retries;
}

/*
 * Has the call failed unrefused more often than is allowed, while other contacts had
 * their outcome?  Then its contacts are at fault after all; otherwise the provider is.
 */
static bool
is_given_up(const CsCall *call)
{
	return is_tried_enough(call) && call->account->last_success > call->changes[0]->failed_at;
}

/* Was one of the contacts queued again meanwhile? */
static bool
is_queued_again(const CsCall *call)
{
	for (int i = 0; i < call->batch.ncontacts; i++)
		if (call->changes[i]->next_rows != NIL)
			return true;
	return false;
}

/* Return true if the call is repeated as it is. */
static bool
retry(CsCall *call, CsSettlement *settlement, CsJudgement *judgement, double now)
{
	CsAccount  *account = call->account;
	bool		abandoned = cs_call_is_abandoned(call);
	bool		same = call->indivisible;
	double		not_before = 0;

	if (judgement->waits && !abandoned)
	{
		call->batch.polls++;
		cs_call_repeat(call, now + judgement->retry_after);
		return true;
	}
	if (judgement->blocked)
		cs_account_wait(account, now, judgement->retry_after, judgement->message);
	else if (judgement->throttled)
		cs_account_throttle(account, call->started_at, now, judgement->retry_after, judgement->message);
	else
	{
		for (int i = 0; i < call->batch.ncontacts; i++)
		{
			call->changes[i]->attempts++;
			if (call->changes[i]->failed_at == 0)
				call->changes[i]->failed_at = now;
		}
		if (is_given_up(call))
		{
			cs_account_recover(account, now);
			judgement->reason = judgement->reason ? judgement->reason : CS_REASON_UNAVAILABLE;
			split(call, settlement, judgement, now);
			return false;
		}
		not_before = now + (judgement->retry_after >= 0 ? judgement->retry_after :
							cs_pace_backoff(call->changes[0]->attempts));
		cs_account_fail(account, now, judgement->retry_after, judgement->message);
	}
	/* once it was tried enough, only single contacts show which is at fault */
	if ((account->endpoint->provider->abilities & CS_HAS_IDEMPOTENCY) && !is_queued_again(call) &&
		!is_tried_enough(call))
		same = true;
	same &= !abandoned;
	if (same)
		cs_call_repeat(call, not_before);
	else
		cs_call_release_contacts(call, not_before, cs_account_is_probing(account));
	return same;
}

/* Do what an outcome says of one contact of a call. */
static void
settle_contact(const CsCall *call, int i, CsOutcome *outcome, CsSettlement *settlement,
			   const CsJudgement *judgement, double now)
{
	CsChange   *change = call->changes[i];

	if (outcome->kind == CS_OUTCOME_RETRY &&
		++change->attempts > call->account->endpoint->max_retries)
		outcome->kind = CS_OUTCOME_REJECTED;
	switch (outcome->kind)
	{
		case CS_OUTCOME_OK:
			if (change->lane->broken)
				cs_lane_repair(change->lane);
			cs_settle_synced(settlement, change, outcome);
			break;
		case CS_OUTCOME_REJECTED:
			confirm_refusal(call, i);
			refuse(call, i, outcome, settlement, judgement, now);
			break;
		case CS_OUTCOME_RETRY:
			cs_call_release_contact(change, now + (judgement->retry_after >= 0 ? judgement->retry_after :
												   cs_pace_backoff(change->attempts)), true);
			break;
	}
}

/* Was a contact not refused? */
static bool
has_success(const CsCall *call, const CsJudgement *judgement)
{
	for (int i = 0; i < call->batch.ncontacts; i++)
		if (judgement->outcomes[i].kind == CS_OUTCOME_OK || judgement->outcomes[i].ours)
			return true;
	return false;
}

static void
done(CsCall *call, CsSettlement *settlement, const CsJudgement *judgement, double now)
{
	for (int i = 0; i < call->batch.ncontacts; i++)
		settle_contact(call, i, &judgement->outcomes[i], settlement, judgement, now);
}

/* Make the calls of a step about contacts of a call, ready to start. */
static void
make_step_calls(CsCall *call, int step, int n, CsChange **changes)
{
	int			limit = cs_provider_batch_limit(call->account->endpoint, call->batch.action, step);

	for (int from = (n - 1) / limit * limit; n > 0 && from >= 0; from -= limit)
	{
		CsCall	   *next = cs_call_create(call->account, Min(limit, n - from), changes + from,
										  call->batch.action, step);

		next->indivisible = true;
		cs_call_repeat(next, 0);
	}
}

/* Return the step with which a contact goes on, or CS_NEXT_NONE. */
static int
next_step_of(const CsJudgement *judgement, int i)
{
	const CsOutcome *outcome = &judgement->outcomes[i];

	if (outcome->kind != CS_OUTCOME_OK)
		return CS_NEXT_NONE;
	return outcome->next_step == CS_NEXT_ALL ? judgement->next_step : outcome->next_step;
}

/* Continue the contacts, each with its next step, in as many calls as it takes; those
 * that failed, or are done, have their outcome. */
static void
step(CsCall *call, CsSettlement *settlement, const CsJudgement *judgement, double now)
{
	int			ncontacts = call->batch.ncontacts;
	CsChange  **changes = palloc(ncontacts * sizeof(CsChange *));
	int		   *steps = palloc(ncontacts * sizeof(int));

	for (int i = 0; i < ncontacts; i++)
	{
		steps[i] = next_step_of(judgement, i);
		if (steps[i] == CS_NEXT_NONE)
			settle_contact(call, i, &judgement->outcomes[i], settlement, judgement, now);
		else
			cs_provider_keep_outcome(call->changes[i]->contact, &judgement->outcomes[i],
									 call->changes[i]->read_batch->context);
	}
	for (int first = 0; first < ncontacts; first++)
	{
		int			next = steps[first];
		int			n = 0;

		if (next == CS_NEXT_NONE)
			continue;
		for (int i = first; i < ncontacts; i++)
			if (steps[i] == next)
			{
				changes[n++] = call->changes[i];
				steps[i] = CS_NEXT_NONE;
			}
		make_step_calls(call, next, n, changes);
	}
}

/* The watch waits, with its changes; others of the account go on. */
static void
break_lanes(CsCall *call, const CsJudgement *judgement, double now)
{
	for (int i = 0; i < call->batch.ncontacts; i++)
	{
		CsLane	   *lane = call->changes[i]->lane;

		/* contacts of a watch mostly follow each other */
		if (lane->watch && (i == 0 || lane != call->changes[i - 1]->lane))
			cs_lane_break(lane, judgement->message, now + cs_probe_interval);
	}
	cs_call_release_contacts(call, 0, false);
}

/* Count the contacts that drew such an answer since there was a success. */
static int
count_suspects(CsAccount *account, CsChange *change, double now)
{
	if (change->suspected_at == 0 || change->suspected_at <= account->last_success)
		account->suspects++;
	change->suspected_at = now;
	return account->suspects;
}

/* Are there contacts, beside one whose call has just ended, that can be tried? */
static bool
has_others(const CsAccount *account, double now)
{
	return account->in_flight > 0 || !dlist_is_empty(unconstify(dlist_head *, &account->ready)) ||
		cs_account_has_changes(account, now);
}

/*
 * An answer that is not the API's, such as a firewall's page, may be due to one contact.
 * Return false if it is not.  A contact that draws it alone is tried again after others;
 * it fails once it was tried enough and others had their outcome.  If there are no
 * others to compare it with, the account is halted, but tries another one at once.
 */
static bool
find_culprit(CsCall *call, CsSettlement *settlement, CsJudgement *judgement, double now)
{
	CsAccount  *account = call->account;
	CsChange   *change = call->changes[0];
	double		wait = cs_pace_backoff(change->attempts);

	for (int i = 0; i < call->batch.ncontacts; i++)
		if (call->changes[i]->failed_at == 0)
			call->changes[i]->failed_at = now;
	if (call->batch.ncontacts > 1)
	{
		split(call, settlement, judgement, now);
		return true;
	}
	change->attempts++;
	if (is_given_up(call))
	{
		judgement->reason = CS_REASON_REJECTED;
		cs_account_recover(account, now);
		reject(call, settlement, judgement, now);
		return true;
	}
	if (count_suspects(account, change, now) >= MAX_SUSPECTS)
	{
		cs_account_halt(account, now, judgement->retry_after, judgement->reason, judgement->message);
		cs_call_withdraw(account, true, false);
		wait = 0;
	}
	else if (is_tried_enough(call) && !has_others(account, now))
	{
		cs_account_halt(account, now, judgement->retry_after, judgement->reason, judgement->message);
		cs_account_let_probe(account, now);
	}
	cs_call_release_contact(change, wait > 0 ? now + wait : 0, true);
	return true;
}

static void
halt(CsCall *call, CsSettlement *settlement, CsJudgement *judgement, double now)
{
	bool		direct = call->changes[0]->lane->watch == NULL;

	if (judgement->mapping_error && direct)
		reject(call, settlement, judgement, now);
	else if (judgement->mapping_error)
		break_lanes(call, judgement, now);
	else if (!judgement->contact_suspected || !find_culprit(call, settlement, judgement, now))
	{
		cs_account_halt(call->account, now, judgement->retry_after,
						judgement->reason ? judgement->reason : "halted", judgement->message);
		cs_call_release_contacts(call, 0, false);
	}
}

/*
 * Repeat the call with a fresh token.  If it had one already, or the token cannot
 * be refreshed, somebody has to sign in.  Return true if it is repeated.
 */
static bool
reauthorize(CsCall *call, CsSettlement *settlement, CsJudgement *judgement, double now)
{
	CsAccount  *account = call->account;

	if (call->reauthorized || !cs_token_is_refreshable(account->endpoint))
	{
		halt(call, settlement, judgement, now);
		return false;
	}
	if (account->refreshed_at < call->started_at)
		account->refresh_wanted = true;
	call->reauthorized = true;
	cs_call_repeat(call, 0);
	return true;
}

/*
 * Do what the verdict says, but conclude nothing about the account, which is
 * defined differently now.
 */
static void
execute_superseded(CsCall *call, bool moved, const CsJudgement *judgement,
				   CsSettlement *settlement, double now)
{
	if (judgement->verdict == CS_DONE)
		done(call, settlement, judgement, now);
	else if (judgement->verdict == CS_STEP && !moved)
		step(call, settlement, judgement, now);
	else
		cs_call_release_contacts(call, 0, false);
}

/* Do what the verdict says.  Return true if the call is repeated. */
static bool
execute(CsCall *call, CsJudgement *judgement, CsSettlement *settlement, double now)
{
	switch (judgement->verdict)
	{
		case CS_DONE:
			if (has_success(call, judgement))
				cs_breaker_close(&call->account->breaker);
			cs_account_succeed(call->account, now);
			done(call, settlement, judgement, now);
			return false;
		case CS_STEP:
			step(call, settlement, judgement, now);
			return false;
		case CS_RETRY:
			return retry(call, settlement, judgement, now);
		case CS_REKEY:
			if (call->batch.rekeys++ >= MAX_REKEYS)
			{
				split(call, settlement, judgement, now);
				return false;
			}
			cs_call_repeat(call, 0);
			return true;
		case CS_SPLIT:
			cs_account_recover(call->account, now);
			split(call, settlement, judgement, now);
			return false;
		case CS_REJECT:
			cs_account_succeed(call->account, now);
			reject(call, settlement, judgement, now);
			return false;
		case CS_REAUTH:
			return reauthorize(call, settlement, judgement, now);
		case CS_HALT:
			halt(call, settlement, judgement, now);
			return false;
	}
	return false;
}

/*
 * The answer
 */

static void
log_call(const CsCall *call, const CsResponse *response, const CsJudgement *judgement,
		 CsSettlement *settlement, double now)
{
	CsCallRecord record = {0};

	record.endpoint = call->account->id;
	record.started_at = call->started;
	record.duration = now - call->started_at;
	record.method = call->request.method;
	record.path = cs_url_path(call->request.url);
	record.status = response->status;
	record.verdict = judgement->verdict == CS_RETRY && judgement->throttled ? "throttled" :
		cs_provider_verdict_name(judgement->verdict);
	record.contacts = call->batch.ncontacts;
	record.created = judgement->created;
	record.updated = judgement->updated;
	record.attempt = call->changes[0]->attempts + 1;
	record.sent = call->request.body.data ? call->request.body.len : 0;
	record.received = response->body_len;
	record.idempotency_key = call->request.idempotency_key;
	record.request_id = judgement->request_id;
	record.error = judgement->message;
	for (int i = 0; i < call->batch.ncontacts; i++)
	{
		record.failed += judgement->verdict == CS_REJECT ||
			(judgement->verdict == CS_DONE && judgement->outcomes[i].kind == CS_OUTCOME_REJECTED);
		/* the log does not name who is forgotten */
		if (!call->changes[i]->removal_erases && !call->changes[i]->forgotten)
			continue;
		record.path = "***";
		record.error = judgement->reason;
	}
	record.traces = cs_settle_make_traces(settlement, call->version->endpoint, call->batch.ncontacts,
										  call->changes, &call->request, response);
	cs_settle_call(settlement, &record);
}

/* The call has its answer: its contacts have outcomes, go on, or wait.  The
 * response may be in any context. */
void
cs_verdict_take(CsCall *call, const CsResponse *response, CsSettlement *settlement, double now)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync answer",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CsReadBatch **read_batches = cs_call_read_batches(call);
	CsServerVersion *version = call->version;
	bool		repeated = false;
	CsJudgement judgement;

	cs_provider_judge(version->endpoint, &call->batch, response, &judgement);
	log_call(call, response, &judgement, settlement, now);
	version->users++;
	cs_call_land(call);
	if (judgement.limitation && !version->superseded)
		cs_account_remember(call->account, judgement.limitation, now);
	if (version->superseded)
		execute_superseded(call, version->moved, &judgement, settlement, now);
	else
		repeated = execute(call, &judgement, settlement, now);
	if (!repeated)
		cs_call_free(call, read_batches);
	cs_account_release_version(version);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
