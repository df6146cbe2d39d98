/*-------------------------------------------------------------------------
 *
 * pull.c
 *		Learning who is at the provider, and who opted out there.
 *
 * Before consent is claimed for an address that we have no memory of, the provider
 * has to have listed its contacts once: the address may be there, and its person
 * may have opted out.  After that, the contacts that changed are listed once in a
 * while, as contactsync_pull() does.
 *
 * They are listed again, too, when a row goes whose call may have created a contact and
 * was not answered: who was sent by it is not known.
 *
 * Only the contacts whose consent would be claimed wait for a listing.  They
 * wait as a whole, since the call that created one of them without consent would have
 * it listed as one that the provider had.  So does a contact of the same identity,
 * unless it says no; a Bloom filter tells that, so that any number can wait.
 *
 * No transaction is open while a page is awaited.  The pace and the pauses are those
 * of the account's calls, which take turns with the pages; but a page that fails is
 * asked for again by itself, and is no reason not to make calls.  A provider that
 * cannot list its contacts, or not to this key, is not asked again; consent of
 * addresses that we have no memory of is then not claimed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "lib/bloomfilter.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/sql.h"
#include "base/text.h"
#include "delivery/pull.h"
#include "provider/answer.h"
#include "store/remote_contact.h"
#include "store/run_log.h"

#define ROUNDS		3			/* of listing all pages */
#define MAX_PAGES	1000000		/* stops a provider that never ends */
#define STORE_PAUSE 1.0			/* s until a page is stored again */

/* Of the Bloom filter: contacts, and memory in kB. */
#define FILTER_SIZE	100000
#define FILTER_KB	1024

/*
 * When to pull
 */

/* Seconds between two pulls; 0: one is enough. */
static double
interval(const CsAccount *account)
{
	return cs_endpoint_option_int(account->endpoint, "pull_every", 0);
}

void
cs_pull_init(CsAccount *account, const CsEndpointState *state, double now)
{
	double		age = (GetCurrentTimestamp() - state->learned_at) / (double) USECS_PER_SEC;

	account->pull_at = now;
	if (account->endpoint && state->learned_at != 0)
		account->pull_at += Max(interval(account) - age, 0);
	if (state->unlearnable || account->endpoint == NULL ||
		account->endpoint->provider->build_pull == NULL)
		account->learning = CS_LEARNING_OFF;
	else
		account->learning = state->learned_at != 0 ? CS_LEARNING_DONE : CS_LEARNING_DUE;
}

/* In Unix seconds; DBL_MAX: never. */
static double
due_at(const CsAccount *account)
{
	if (account->learning == CS_LEARNING_OFF || account->unreadable || account->endpoint == NULL)
		return DBL_MAX;
	if (account->learning == CS_LEARNING_DUE)
		return account->nwaiting > 0 ? 0 : DBL_MAX;
	return interval(account) > 0 ? account->pull_at : DBL_MAX;
}

bool
cs_pull_is_to_begin(const CsAccount *account, double now)
{
	return account->puller == NULL && due_at(account) <= now;
}

/* When the account may be asked for a page; DBL_MAX: not by itself. */
static double
allowed_at(const CsAccount *account, double now)
{
	double		at = cs_pace_ready_at(&account->pace, now);

	if (account->paused || account->unreadable)
		return DBL_MAX;
	return account->health == CS_RUNNING ? at : Max(at, account->resume_at);
}

/* When something can be done; DBL_MAX: an answer comes first. */
double
cs_pull_ready_at(const CsAccount *account, double now)
{
	const CsPuller *puller = account->puller;

	if (puller && puller->rows)
		return puller->store_at;
	if (puller && puller->in_flight)
		return DBL_MAX;
	return Max(puller ? puller->not_before : due_at(account), allowed_at(account, now));
}

/* Is it the turn of a page, rather than of a call that could start? */
bool
cs_pull_has_turn(const CsAccount *account, double now)
{
	return !account->listed_last || cs_account_free_slots(account, now) == 0 ||
		(dlist_is_empty(unconstify(dlist_head *, &account->ready)) &&
		 !cs_account_has_changes(account, now));
}

/*
 * Contacts that wait
 */

static bool
may_contain(const CsAccount *account, const char *utf8)
{
	return account->waiting && utf8 &&
		!bloom_lacks_element(account->waiting, unconstify(unsigned char *, (const unsigned char *) utf8),
							 strlen(utf8));
}

/*
 * Has the contact to wait until it is known who is at the provider?  "remembered":
 * something is known of its person here.
 */
bool
cs_pull_has_to_wait(const CsAccount *account, const CsContact *contact, bool remembered)
{
	if (account->learning != CS_LEARNING_DUE)
		return false;
	if (contact->claim == CS_CLAIM_IF_NEW)
		return true;
	return !remembered && contact->claim != CS_CLAIM && contact->consent != CS_CONSENT_NO &&
		(may_contain(account, contact->upsert_key) || may_contain(account, contact->value[CS_EMAIL]));
}

/* Is it possible that a contact with that upsert key waits? */
bool
cs_pull_may_wait(const CsAccount *account, const char *identity)
{
	return account->waiting && may_contain(account, cs_text_to_utf8(identity, strlen(identity)));
}

/* The contact waits. */
void
cs_pull_add_waiting(CsAccount *account, const CsContact *contact)
{
	const char *identities[2] = {contact->upsert_key, contact->value[CS_EMAIL]};

	if (account->waiting == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(account->context);

		account->waiting = bloom_create(FILTER_SIZE, FILTER_KB, 0);
		MemoryContextSwitchTo(old);
	}
	if (account->nwaiting == 0 || !may_contain(account, contact->upsert_key))
		account->nwaiting++;
	for (int i = 0; i < lengthof(identities); i++)
		if (identities[i])
			bloom_add_element(account->waiting,
							  unconstify(unsigned char *, (const unsigned char *) identities[i]),
							  strlen(identities[i]));
}

/* Whoever is at the provider is known, or will not be. */
static void
end_waiting(CsAccount *account)
{
	ListCell   *lc;

	if (account->waiting)
		bloom_free(account->waiting);
	account->waiting = NULL;
	account->nwaiting = 0;
	foreach(lc, account->lanes)
		cs_lane_reread(lfirst(lc));
}

/*
 * The request
 */

/* Start at the first page of what changed since the last pull, or of all. */
void
cs_pull_begin(CsAccount *account)
{
	MemoryContext context = AllocSetContextCreate(account->context, "contactsync pull",
												  ALLOCSET_SMALL_SIZES);
	CsPuller   *puller = MemoryContextAllocZero(context, sizeof(CsPuller));
	CsSqlScope	scope;
	const char *since = NULL;

	puller->owner.kind = CS_OWNER_PULL;
	puller->account = account;
	puller->context = context;
	puller->page_context = AllocSetContextCreate(context, "contactsync page",
												 ALLOCSET_DEFAULT_SIZES);
	puller->pulled_at = GetCurrentTimestamp();
	puller->round = 1;
	puller->pull.page = 1;
	cs_sql_enter(&scope);
	since = cs_remote_contact_since(account->id);
	puller->pull.since = since ? MemoryContextStrdup(context, since) : NULL;
	cs_sql_leave(&scope);
	account->puller = puller;
}

void
cs_pull_learn_again(CsAccount *account)
{
	if (account->learning != CS_LEARNING_DONE)
		return;
	cs_endpoint_state_forget_learned(account->id);
	account->learning = CS_LEARNING_DUE;
}

/* Ask for the page that is wanted, unless its time has not come. */
void
cs_pull_request(CsAccount *account, CsHttp *http, double now)
{
	CsPuller   *puller = account->puller;
	CsRequest	request = {0};
	MemoryContext old;
	char	   *authorization;

	if (puller == NULL || puller->in_flight || puller->rows || now < puller->not_before ||
		now < allowed_at(account, now) || !cs_pace_take(&account->pace, now))
		return;
	MemoryContextReset(puller->page_context);
	old = MemoryContextSwitchTo(puller->page_context);
	account->endpoint->provider->build_pull(account->endpoint, &puller->pull, &request);
	authorization = cs_provider_auth_value(account->endpoint);
	puller->sent_at = now;
	puller->transfer = cs_http_start(http, &account->endpoint->http, &request, authorization, puller);
	cs_provider_auth_wipe(authorization);
	puller->in_flight = account->listing = account->listed_last = true;
	MemoryContextSwitchTo(old);
}

/*
 * The answer
 */

static void
end_pull(CsPuller *puller)
{
	puller->account->puller = NULL;
	MemoryContextDelete(puller->context);
}

/* End a pull: the account is another one now, or no more. */
void
cs_pull_abort(CsAccount *account, CsHttp *http)
{
	CsPuller   *puller = account->puller;

	if (puller == NULL)
		return;
	if (puller->in_flight)
	{
		cs_http_cancel(http, puller->transfer);
		account->listing = false;
	}
	end_pull(puller);
}

/*
 * Definitions were loaded again: another session may have pulled, or somebody may
 * have changed the server ("anew").
 */
void
cs_pull_update(CsAccount *account, const CsEndpointState *state, CsHttp *http, bool anew, double now)
{
	bool		is_due = account->learning == CS_LEARNING_DUE;

	if (anew || (is_due && (state->learned_at != 0 || state->unlearnable)))
		cs_pull_abort(account, http);
	if (account->puller)
		return;
	cs_pull_init(account, state, now);
	if (anew || (is_due && account->learning != CS_LEARNING_DUE))
		end_waiting(account);
}

/* The provider cannot list its contacts.  What that means is stored later. */
static void
give_up(CsPuller *puller, const char *reason)
{
	MemoryContextReset(puller->page_context);
	puller->rows = "[]";
	puller->last = true;
	puller->round = ROUNDS;
	puller->total = PG_INT64_MAX;
	puller->by_page = true;
	puller->unlearnable = MemoryContextStrdup(puller->context, reason);
}

static void
set_error(CsAccount *account, const char *error)
{
	if (strcmp(account->pull_error ? account->pull_error : "", error ? error : "") == 0)
		return;
	if (account->pull_error)
		pfree(account->pull_error);
	account->pull_error = error ? MemoryContextStrdup(account->context, error) : NULL;
	account->pull_error_changed = true;
}

/* Ask for the page again, after a while that is longer each time. */
static void
fail_page(CsPuller *puller, const CsJudgement *judgement, double now)
{
	puller->failures++;
	puller->not_before = now + cs_account_time_to_wait(puller->account, judgement->retry_after,
													   puller->failures);
	set_error(puller->account, judgement->message ? judgement->message : "it was not answered");
}

/* Keep the contacts of a page, to be stored. */
static void
take_page(CsPuller *puller, const CsResponse *response, CsJson *doc)
{
	StringInfoData rows;
	CsPullPage	pulled;

	initStringInfo(&rows);
	if (!cs_remote_contact_read_page(puller->account->endpoint, &puller->pull, doc, &pulled, &rows))
	{
		give_up(puller, "the answer is not in the documented format");
		return;
	}
	puller->ahead = cs_message_clock_ahead(response);
	puller->rows = rows.data;
	puller->last = pulled.last || puller->pull.page >= MAX_PAGES;
	puller->total = pulled.total;
	puller->by_page |= !puller->last && pulled.next_cursor == NULL;
	puller->next_cursor = pulled.next_cursor;
}

/* Keep the page to be stored, or ask for it again, or give up; or have the account
 * wait or halt, if no call would fare better. */
void
cs_pull_answered(CsPuller *puller, const CsResponse *response, double now)
{
	CsAccount  *account = puller->account;
	MemoryContext old = MemoryContextSwitchTo(puller->page_context);
	CsJson	   *doc = cs_json_parse(response->body ? response->body : "", response->body_len);
	CsBatch		none = {0};
	CsJudgement judgement;

	puller->in_flight = account->listing = false;
	cs_provider_begin_judgement(&none, &judgement);
	if (response->status >= 200 && response->status < 300)
	{
		if (puller->halted)
			cs_account_recover(account, now);
		puller->halted = false;
		puller->failures = 0;
		set_error(account, NULL);
		take_page(puller, response, doc);
	}
	else if (response->status == 401 && account->endpoint->provider->auth == CS_AUTH_OAUTH)
		account->refresh_wanted = true;
	else if (!cs_answer_judge_common(account->endpoint, response, doc, &judgement) ||
			 response->status == 403)
		give_up(puller, psprintf("HTTP status %d", response->status));
	else if (response->status == 401 || response->refused)
	{
		puller->halted = true;
		cs_account_halt(account, now, judgement.retry_after,
						judgement.reason ? judgement.reason : "unauthorized", judgement.message);
	}
	else if (response->status == 429)
		cs_account_throttle(account, puller->sent_at, now, judgement.retry_after, judgement.message);
	else
		fail_page(puller, &judgement, now);
	MemoryContextSwitchTo(old);
}

/*
 * What is stored
 */

bool
cs_pull_has_to_store(const CsAccount *account, double now)
{
	return account->puller && account->puller->rows && account->puller->store_at <= now;
}

/* All pages were listed: go by them, list them again, or give up. */
static void
finish(CsPuller *puller, double now)
{
	CsAccount  *account = puller->account;
	int64		listed = cs_remote_contact_count(account->id, puller->pulled_at);
	bool		complete = !puller->by_page || listed >= puller->total;
	const char *lack = puller->unlearnable ? puller->unlearnable : "contacts changed while they were listed";
	int64		opted_out;

	if (!complete && puller->round < ROUNDS)
	{
		puller->round++;
		puller->pull.page = 1;
		puller->pull.cursor = NULL;
		return;
	}
	opted_out = cs_remote_contact_learn(account->id, puller->pulled_at, puller->ahead);
	cs_run_log_pull(account->id, puller->pulled_at, listed, opted_out, complete ? NULL : lack, NULL);
	if (complete)
	{
		cs_remote_contact_advance(account->id, puller->pulled_at);
		(void) cs_remote_contact_complete(account->id, puller->pulled_at);
		account->learning = CS_LEARNING_DONE;
	}
	else if (account->learning == CS_LEARNING_DUE)
	{
		cs_endpoint_state_set_unlearnable(account->id, lack);
		account->learning = CS_LEARNING_OFF;
	}
	account->pull_at = now + interval(account);
	end_waiting(account);
	puller->done = true;
}

/*
 * Store the page that was received, and go on to the next one, unless another
 * session is pulling.  An error leaves the page to be stored again.
 */
void
cs_pull_store(CsAccount *account, double now)
{
	CsPuller   *puller = account->puller;
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	if (!cs_remote_contact_lock(account->id))
	{
		puller->store_at = now + STORE_PAUSE;
		cs_sql_leave(&scope);
		return;
	}
	cs_remote_contact_store(account->id, puller->rows, puller->pulled_at);
	puller->pull.cursor = puller->next_cursor ?
		MemoryContextStrdup(puller->context, puller->next_cursor) : NULL;
	puller->pull.page++;
	if (puller->last)
		finish(puller, now);
	puller->rows = NULL;
	cs_sql_leave(&scope);
	if (puller->done)
		end_pull(puller);
}
