/*-------------------------------------------------------------------------
 *
 * call.c
 *		One HTTP request about some contacts, from its making to its verdict.
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
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/settings.h"
#include "delivery/call.h"
#include "delivery/token.h"
#include "http/url.h"
#include "provider/provider.h"

/* A call is full when its contacts have this much text. */
#define CALL_BYTES	(4 * 1024 * 1024)

/* A batch gets so many new idempotency keys before it is split. */
#define MAX_REKEYS	1

/* Create a call about n ACTIVE changes, as a user of their read batches. */
static CsCall *
create_call(CsAccount *account, int n, CsChange **changes, CsAction action, int step)
{
	MemoryContext context = AllocSetContextCreate(account->context, "contactsync call",
												  ALLOCSET_DEFAULT_SIZES);
	CsCall	   *call = MemoryContextAllocZero(context, sizeof(CsCall));

	call->owner.kind = CS_OWNER_CALL;
	call->account = account;
	call->context = context;
	call->batch.action = action;
	call->batch.step = step;
	call->batch.ncontacts = n;
	call->batch.contacts = MemoryContextAlloc(context, n * sizeof(CsContact *));
	call->changes = MemoryContextAlloc(context, n * sizeof(CsChange *));
	for (int i = 0; i < n; i++)
	{
		call->changes[i] = changes[i];
		call->batch.contacts[i] = changes[i]->contact;
		cs_read_batch_retain(changes[i]->read_batch);
	}
	return call;
}

/* Have a call about a group of contacts ready to start, and begin a new group. */
static void
make_call(CsAccount *account, CsAction action, CsChange **group, int *n, size_t *size)
{
	CsCall	   *call;

	if (*n == 0)
		return;
	call = create_call(account, *n, group, action, 0);
	if (cs_account_is_probing(account))
		dlist_push_head(&account->ready, &call->node);
	else
		dlist_push_tail(&account->ready, &call->node);
	*n = 0;
	*size = 0;
}

/* Make calls about contacts that were read, ready to start. */
void
cs_call_make(CsAccount *account, int n, CsChange **changes)
{
	CsChange  **group = palloc(n * sizeof(CsChange *));

	for (CsAction action = CS_UPSERT; action <= CS_DELETE; action++)
	{
		int			limit = Min(account->endpoint->batch_size,
								cs_provider_batch_limit(account->endpoint, action, 0));
		size_t		size = 0;
		int			ngroup = 0;

		for (int i = 0; i < n; i++)
		{
			bool		alone;

			if (changes[i]->contact->action != action)
				continue;
			/* nobody else's data is kept with what is traced */
			alone = cs_settle_is_traced(changes[i]);
			if (alone)
				make_call(account, action, group, &ngroup, &size);
			group[ngroup++] = changes[i];
			size += changes[i]->contact->size;
			if (alone || ngroup == limit || size > CALL_BYTES)
				make_call(account, action, group, &ngroup, &size);
		}
		make_call(account, action, group, &ngroup, &size);
	}
	for (int i = 0; i < n; i++)
		cs_read_batch_release(changes[i]->read_batch);
}

/*
 * The read batches of a call's changes, palloc'd.  The call is their user, but its
 * changes may be finished, and not name them any more, when it is freed.
 */
static CsReadBatch **
read_batches_of(const CsCall *call)
{
	CsReadBatch **read_batches = palloc(call->batch.ncontacts * sizeof(CsReadBatch *));

	for (int i = 0; i < call->batch.ncontacts; i++)
		read_batches[i] = call->changes[i]->read_batch;
	return read_batches;
}

/* Free a call whose changes have gone elsewhere. */
static void
free_call(CsCall *call, CsReadBatch **read_batches)
{
	for (int i = 0; i < call->batch.ncontacts; i++)
		cs_read_batch_release(read_batches[i]);
	MemoryContextDelete(call->context);
}

/* Start a call.  Its request is built anew, since its parts may have changed. */
void
cs_call_start(CsCall *call, CsHttp *http, double now)
{
	CsAccount  *account = call->account;
	MemoryContext old = MemoryContextSwitchTo(call->context);
	char	   *auth = cs_provider_auth_value(account->endpoint);

	if (call->batch.number == 0)
		call->batch.number = ++account->last_batch;
	call->batch.limitation = account->endpoint->limitation ? pstrdup(account->endpoint->limitation) : NULL;
	memset(&call->request, 0, sizeof(CsRequest));
	account->endpoint->provider->build(account->endpoint, &call->batch, &call->request);
	for (int i = 0; i < call->batch.ncontacts; i++)
	{
		call->changes[i]->was_unconfirmed = call->changes[i]->unconfirmed;
		call->changes[i]->unconfirmed = true;
	}
	call->started_at = now;
	call->started = GetCurrentTimestamp();
	(void) cs_http_start(http, &account->endpoint->http, &call->request, auth, call);
	account->in_flight++;
	cs_provider_auth_wipe(auth);
	MemoryContextSwitchTo(old);
}

/*
 * Where contacts go
 */

/*
 * Have the call started again as it is, ahead of any other; but while the account
 * only probes, behind the others, so that another one is tried first.
 */
static void
repeat(CsCall *call, double not_before)
{
	CsAccount  *account = call->account;

	call->not_before = not_before;
	if (not_before > 0 && cs_account_is_probing(account))
		dlist_push_tail(&account->ready, &call->node);
	else
		dlist_push_head(&account->ready, &call->node);
}

/*
 * Have the contacts read and batched again.  "last": behind the others, so that
 * another one is tried first.
 */
static void
release_contacts(CsCall *call, double not_before, bool last)
{
	for (int i = call->batch.ncontacts - 1; i >= 0; i--)
	{
		call->changes[i]->read_batch = NULL;
		cs_change_postpone(call->changes[i], not_before, !last);
	}
}

/* Give up a call that is ready. */
static void
withdraw(CsCall *call)
{
	CsReadBatch **read_batches = read_batches_of(call);

	dlist_delete(&call->node);
	release_contacts(call, 0, false);
	free_call(call, read_batches);
}

/*
 * Give up calls about watches that are paused by now; their contacts are read
 * again when that ends.  A sequence of steps that has begun goes on.
 */
void
cs_call_withdraw_paused(CsAccount *account)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &account->ready)
	{
		CsCall	   *call = dlist_container(CsCall, node, iter.cur);
		bool		paused = false;

		for (int i = 0; i < call->batch.ncontacts; i++)
			paused |= call->changes[i]->lane->paused;
		if (paused && !call->indivisible)
			withdraw(call);
	}
}

/* The first call about a contact was refused: the provider has nothing of it. */
static void
confirm_refusal(const CsCall *call, int i)
{
	if (call->batch.step == 0)
		call->changes[i]->unconfirmed = call->changes[i]->was_unconfirmed;
}

static void
reject(CsCall *call, CsSettlement *settlement, const CsJudgement *judgement)
{
	CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED};

	outcome.reason = judgement->reason;
	outcome.code = judgement->code;
	outcome.message = judgement->message;
	outcome.field = judgement->field;
	for (int i = 0; i < call->batch.ncontacts; i++)
	{
		if (judgement->verdict == CS_REJECT || judgement->verdict == CS_SPLIT)
			confirm_refusal(call, i);
		cs_settle_failed(settlement, call->changes[i], &outcome, judgement->request_id);
	}
}

/* Make a part of the call ready, ahead of any other. */
static void
split_off(CsCall *call, int from, int n)
{
	CsCall	   *part = create_call(call->account, n, call->changes + from,
								   call->batch.action, call->batch.step);

	part->indivisible = true;
	repeat(part, 0);
}

/* Split the call into halves, or reject its only contact. */
static void
split(CsCall *call, CsSettlement *settlement, const CsJudgement *judgement)
{
	int			half = call->batch.ncontacts / 2;

	if (call->batch.ncontacts == 1)
	{
		reject(call, settlement, judgement);
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
	bool		same = call->indivisible;
	double		not_before = 0;

	if (judgement->throttled)
		cs_account_throttle(account, now, judgement->retry_after, judgement->message);
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
			split(call, settlement, judgement);
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
	if (same)
		repeat(call, not_before);
	else
		release_contacts(call, not_before, cs_account_is_probing(account));
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
			cs_settle_failed(settlement, change, outcome, judgement->request_id);
			break;
		case CS_OUTCOME_RETRY:
			change->read_batch = NULL;
			cs_change_postpone(change, now + (judgement->retry_after >= 0 ? judgement->retry_after :
											  cs_pace_backoff(change->attempts)), false);
			break;
	}
}

static void
done(CsCall *call, CsSettlement *settlement, const CsJudgement *judgement, double now)
{
	for (int i = 0; i < call->batch.ncontacts; i++)
		settle_contact(call, i, &judgement->outcomes[i], settlement, judgement, now);
}

/* Continue the contacts with the next step, in as many calls as it takes; those
 * that failed have their outcome. */
static void
step(CsCall *call, CsSettlement *settlement, const CsJudgement *judgement, double now)
{
	int			limit = cs_provider_batch_limit(call->account->endpoint, call->batch.action,
												judgement->next_step);
	CsChange  **changes = palloc(call->batch.ncontacts * sizeof(CsChange *));
	int			n = 0;

	for (int i = 0; i < call->batch.ncontacts; i++)
	{
		CsOutcome  *outcome = &judgement->outcomes[i];

		if (outcome->kind != CS_OUTCOME_OK)
		{
			settle_contact(call, i, outcome, settlement, judgement, now);
			continue;
		}
		cs_provider_keep_outcome(call->changes[i]->contact, outcome,
								 call->changes[i]->read_batch->context);
		changes[n++] = call->changes[i];
	}
	for (int from = (n - 1) / limit * limit; n > 0 && from >= 0; from -= limit)
	{
		CsCall	   *next = create_call(call->account, Min(limit, n - from), changes + from,
									   call->batch.action, judgement->next_step);

		next->indivisible = true;
		repeat(next, 0);
	}
}

/* The watch waits, with its changes; others of the account go on. */
static void
break_lanes(CsCall *call, const CsJudgement *judgement, double now)
{
	for (int i = 0; i < call->batch.ncontacts; i++)
	{
		CsLane	   *lane = call->changes[i]->lane;

		if (lane->watch)
			cs_lane_break(lane, judgement->message, now + cs_probe_interval);
	}
	release_contacts(call, 0, false);
}

static void
halt(CsCall *call, CsSettlement *settlement, CsJudgement *judgement, double now)
{
	bool		direct = call->changes[0]->lane->watch == NULL;

	if (judgement->mapping_error && direct)
		reject(call, settlement, judgement);
	else if (judgement->mapping_error)
		break_lanes(call, judgement, now);
	else
	{
		cs_account_halt(call->account, now, judgement->retry_after,
						judgement->reason ? judgement->reason : "halted", judgement->message);
		release_contacts(call, 0, judgement->contact_suspected);
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
	repeat(call, 0);
	return true;
}

/* Do what the verdict says.  Return true if the call is repeated. */
static bool
execute(CsCall *call, CsJudgement *judgement, CsSettlement *settlement, double now)
{
	switch (judgement->verdict)
	{
		case CS_DONE:
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
				split(call, settlement, judgement);
				return false;
			}
			repeat(call, 0);
			return true;
		case CS_SPLIT:
			cs_account_recover(call->account, now);
			split(call, settlement, judgement);
			return false;
		case CS_REJECT:
			cs_account_succeed(call->account, now);
			reject(call, settlement, judgement);
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
		if (!call->changes[i]->removal_erases)
			continue;
		record.path = "***";
		record.error = judgement->reason;
	}
	record.traces = cs_settle_make_traces(settlement, call->batch.ncontacts, call->changes, &call->request, response);
	cs_settle_call(settlement, &record);
}

/* The call has its answer: its contacts have outcomes, go on, or wait.  The
 * response may be in any context. */
void
cs_call_answered(CsCall *call, const CsResponse *response, CsSettlement *settlement, double now)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync answer",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CsReadBatch **read_batches = read_batches_of(call);
	CsJudgement judgement;

	call->account->in_flight--;
	cs_provider_judge(call->account->endpoint, &call->batch, response, &judgement);
	log_call(call, response, &judgement, settlement, now);
	if (judgement.limitation)
		cs_account_remember(call->account, judgement.limitation, now);
	if (!execute(call, &judgement, settlement, now))
		free_call(call, read_batches);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
