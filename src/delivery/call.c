/*-------------------------------------------------------------------------
 *
 * call.c
 *		One HTTP request about some contacts: making, starting and ending it.
 *
 * What its answer means is decided by verdict.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "delivery/call.h"
#include "delivery/change_lock.h"
#include "delivery/settle.h"
#include "provider/provider.h"
#include "provider/signature.h"

/* A call is full when its contacts have this much text. */
#define CALL_BYTES	(4 * 1024 * 1024)

/* Create a call about n ACTIVE changes, as a user of their read batches. */
CsCall *
cs_call_create(CsAccount *account, int n, CsChange **changes, CsAction action, int step)
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
	call = cs_call_create(account, *n, group, action, 0);
	if (cs_account_is_probing(account))
		dlist_push_head(&account->ready, &call->node);
	else
		dlist_push_tail(&account->ready, &call->node);
	*n = 0;
	*size = 0;
}

/* Make the calls of an action about those of the contacts that begin with a step; steps[i] is
 * that of changes[i]. */
static void
make_first_calls(CsAccount *account, CsAction action, int step, int n, CsChange **changes, const int *steps,
				 CsChange **group)
{
	int			limit = cs_provider_batch_limit(account->endpoint, action, step);
	size_t		size = 0;
	int			ngroup = 0;

	for (int i = 0; i < n; i++)
	{
		bool		alone;

		if (changes[i]->contact->action != action || steps[i] != step)
			continue;

		/*
		 * nobody else's data is kept with what is traced; what is withheld
		 * begins otherwise
		 */
		alone = cs_settle_is_traced(changes[i]) || changes[i]->contact->withheld ||
			changes[i]->contact->opts_out_first;
		if (alone)
			make_call(account, action, group, &ngroup, &size);
		group[ngroup++] = changes[i];
		size += changes[i]->contact->size;
		if (alone || ngroup == limit || size > CALL_BYTES)
			make_call(account, action, group, &ngroup, &size);
	}
	make_call(account, action, group, &ngroup, &size);
}

/* Make calls about contacts that were read, ready to start. */
void
cs_call_make(CsAccount *account, int n, CsChange **changes)
{
	CsChange  **group = palloc(n * sizeof(CsChange *));
	int		   *steps = palloc(n * sizeof(int));
	int			nsteps = account->endpoint->provider->first_step ? CS_MAX_STEPS : 1;

	for (int i = 0; i < n; i++)
		steps[i] = cs_provider_first_step(account->endpoint, changes[i]->contact);
	for (CsAction action = CS_UPSERT; action <= CS_DELETE; action++)
		for (int step = 0; step < nsteps; step++)
			make_first_calls(account, action, step, n, changes, steps, group);
	for (int i = 0; i < n; i++)
		cs_read_batch_release(changes[i]->read_batch);
}

/*
 * The read batches of a call's changes, palloc'd.  The call is their user, but its
 * changes may be finished, and not name them any more, when it is freed.
 */
CsReadBatch **
cs_call_read_batches(const CsCall *call)
{
	CsReadBatch **read_batches = palloc(call->batch.ncontacts * sizeof(CsReadBatch *));

	for (int i = 0; i < call->batch.ncontacts; i++)
		read_batches[i] = call->changes[i]->read_batch;
	return read_batches;
}

/* Free a call whose changes have gone elsewhere. */
void
cs_call_free(CsCall *call, CsReadBatch **read_batches)
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
	cs_signature_add(account->endpoint, &call->request, cs_clock_unix(GetCurrentTimestamp()));
	for (int i = 0; i < call->batch.ncontacts; i++)
	{
		call->changes[i]->was_unconfirmed = call->changes[i]->unconfirmed;
		call->changes[i]->unconfirmed = true;
	}
	call->started_at = now;
	call->started = GetCurrentTimestamp();
	call->transfer = cs_http_start(http, &account->endpoint->http, &call->request, auth, call);
	call->version = cs_account_hold_version(account);
	dlist_push_tail(&account->flying, &call->node);
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
void
cs_call_repeat(CsCall *call, double not_before)
{
	CsAccount  *account = call->account;

	call->not_before = not_before;
	if (not_before > 0 && cs_account_is_probing(account))
		dlist_push_tail(&account->ready, &call->node);
	else
		dlist_push_head(&account->ready, &call->node);
}

/*
 * Have a contact read and batched again.  "last": behind the others, so that
 * another one is tried first.  It keeps its locks, so that no change of another
 * value overtakes it, unless its lane waits for somebody.
 */
void
cs_call_release_contact(CsChange *change, double not_before, bool last)
{
	change->read_batch = NULL;
	if (cs_lane_is_stopped(change->lane))
		cs_change_let_go(change);
	cs_change_postpone(change, not_before, !last);
}

/* The same for all contacts of a call. */
void
cs_call_release_contacts(CsCall *call, double not_before, bool last)
{
	for (int i = call->batch.ncontacts - 1; i >= 0; i--)
		cs_call_release_contact(call->changes[i], not_before, last);
}

/* Is one of its contacts not to be sent any more? */
bool
cs_call_is_abandoned(const CsCall *call)
{
	for (int i = 0; i < call->batch.ncontacts; i++)
		if (call->changes[i]->set->closed || call->changes[i]->forgotten)
			return true;
	return false;
}

/* Give up a call that is ready, or that was in flight. */
static void
withdraw(CsCall *call)
{
	CsReadBatch **read_batches = cs_call_read_batches(call);

	dlist_delete(&call->node);
	cs_call_release_contacts(call, 0, false);
	cs_call_free(call, read_batches);
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

/*
 * Give up calls that wait to be started, or repeated: the definition of the server
 * has changed, and their contacts are to be read again; or, unless "all", only those
 * with contacts that are not to be sent any more.  A sequence of steps that has
 * begun goes on, unless "steps".
 */
void
cs_call_withdraw(CsAccount *account, bool all, bool steps)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &account->ready)
	{
		CsCall	   *call = dlist_container(CsCall, node, iter.cur);

		if ((all || cs_call_is_abandoned(call)) && (steps || call->batch.step == 0))
			withdraw(call);
	}
}

/* The call is not in flight any more. */
void
cs_call_land(CsCall *call)
{
	CsAccount  *account = call->account;

	dlist_delete(&call->node);
	account->in_flight--;
	cs_account_release_version(call->version);
	call->version = NULL;
}

/*
 * End all calls of the account without waiting for their answers: what became of
 * their contacts is not known.
 */
void
cs_call_abort_all(CsAccount *account, CsHttp *http)
{
	cs_call_withdraw(account, true, true);
	while (!dlist_is_empty(&account->flying))
	{
		CsCall	   *call = dlist_container(CsCall, node, dlist_head_node(&account->flying));

		cs_http_cancel(http, call->transfer);
		cs_call_land(call);
		dlist_push_head(&account->ready, &call->node);
		withdraw(call);
	}
}
