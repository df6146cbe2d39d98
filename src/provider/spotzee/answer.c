/*-------------------------------------------------------------------------
 *
 * answer.c
 *		What Spotzee's answers mean.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/batch_results.h"
#include "provider/email.h"
#include "provider/spotzee/answer.h"
#include "provider/spotzee/request.h"

/* [SRC]: codes used to be numbers, which mean nothing. */
static const char *
error_code(CsJson *doc)
{
	const char *code = cs_json_string(cs_json_get(doc, "code"));

	return code ? code : cs_json_string(cs_json_path(doc, "error.code"));
}

static bool
is_code(const char *code, const char *name)
{
	return code && strcmp(code, name) == 0;
}

/*
 * The contacts that a request was about, as a batch of its own: positions in the
 * answer count these.  "indexes" gets their positions in the batch.
 */
static CsBatch *
contacts_asked(const CsSpotzee *spotzee, const CsBatch *batch, int **indexes)
{
	CsBatch    *asked = palloc(sizeof(CsBatch));

	*asked = *batch;
	asked->ncontacts = 0;
	asked->contacts = palloc(batch->ncontacts * sizeof(CsContact *));
	*indexes = palloc(batch->ncontacts * sizeof(int));
	for (int i = 0; i < batch->ncontacts; i++)
	{
		if (cs_spotzee_call(batch) == CS_SPOTZEE_CALL_SUBSCRIPTION &&
			cs_spotzee_subscription_state(spotzee, batch->contacts[i]) < 0)
			continue;
		(*indexes)[asked->ncontacts] = i;
		asked->contacts[asked->ncontacts++] = batch->contacts[i];
	}
	return asked;
}

/* Read the entries of an answer into the outcomes of the contacts that were asked about. */
static void
read_entries(const CsBatch *asked, const int *indexes, CsJson *doc, CsBatchResults *items,
			 CsJudgement *judgement)
{
	CsJudgement part = *judgement;

	part.outcomes = palloc(asked->ncontacts * sizeof(CsOutcome));
	for (int i = 0; i < asked->ncontacts; i++)
		part.outcomes[i] = judgement->outcomes[indexes[i]];

	cs_batch_results_begin(items, asked, &part);
	cs_batch_results_read(items, cs_json_get(doc, "results"));
	cs_batch_results_read(items, cs_json_get(doc, "contacts"));
	cs_batch_results_read(items, cs_json_get(doc, "users"));
	cs_batch_results_read_failures(items, cs_json_get(doc, "errors"));

	for (int i = 0; i < asked->ncontacts; i++)
		judgement->outcomes[indexes[i]] = part.outcomes[i];
}

/* Split a batch whose failures are counted but not named; a single contact fails. */
static void
judge_unattributed(const CsBatch *asked, const int *indexes, int count,
				   const CsBatchResults *items, CsJudgement *judgement)
{
	const char *message = items->unattributed_message;

	if (asked->ncontacts > 1)
		cs_answer_conclude(judgement, CS_SPLIT, CS_REASON_REJECTED,
						   "%d of %d contacts failed, but the answer does not say which",
						   count, asked->ncontacts);
	else
		cs_answer_reject_contact(&judgement->outcomes[indexes[0]], CS_REASON_REJECTED, NULL,
								 message ? message : "Spotzee refused the contact without a reason");
}

/*
 * Return what of an answer cannot be true of these contacts, or NULL.  A number that
 * is absent is -1.
 */
static const char *
find_contradiction(const CsBatch *asked, CsJson *doc, int64 succeeded, int64 failed,
				   const CsBatchResults *items)
{
	bool		counted = cs_json_text(cs_json_get(doc, "succeeded")) != NULL;

	if ((counted && succeeded < 0) || succeeded > asked->ncontacts ||
		(failed < 0 && cs_json_text(cs_json_get(doc, "failed")) != NULL))
		return "numbers that are not those of the contacts";
	if (items->nforeign > 0)
		return "results of other contacts";
	if (cs_answer_says_failed(doc) && failed <= 0 && items->nfailed + items->nunattributed == 0)
		return "a refusal";
	if (failed == 0 && items->nseen + items->nfailed + items->nunattributed == 0 &&
		(succeeded == 0 || (!counted && cs_json_length(cs_json_get(doc, "results")) == 0)))
		return "no result of any contact";
	return NULL;
}

/*
 * Is consent claimed by a contact that is written?  Where subscriptions are recorded, not
 * by one that is there already, and has none, unless its own is recorded next.
 */
static bool
is_claimed(const CsSpotzee *spotzee, const CsContact *contact)
{
	return contact->consent == CS_CONSENT_YES && contact->claim != CS_CLAIM_NOT &&
		(spotzee->subscription_id == NULL || !contact->known || contact->claimed ||
		 cs_spotzee_subscription_state(spotzee, contact) > 0);
}

/* The contacts are written: consent is claimed by that, or is to be recorded. */
static void
judge_consent(const CsSpotzee *spotzee, const CsBatch *batch, CsJudgement *judgement)
{
	bool		record = false;

	for (int i = 0; i < batch->ncontacts; i++)
	{
		const CsContact *contact = batch->contacts[i];

		if (is_claimed(spotzee, contact))
			judgement->outcomes[i].claimed = true;
		record |= judgement->outcomes[i].kind == CS_OUTCOME_OK &&
			cs_spotzee_subscription_state(spotzee, contact) >= 0;
	}
	if (batch->step != CS_SPOTZEE_STEP_SUBSCRIPTION && record)
	{
		cs_answer_conclude(judgement, CS_STEP, NULL, "the contacts are written, subscriptions are next");
		judgement->next_step = CS_SPOTZEE_STEP_SUBSCRIPTION;
	}
}

/*
 * [SEED]: errors[] names the items that failed, the others are committed.
 * [SRC]: results[] has one of user or error for each, beside counts.
 */
static void
judge_batch(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			CsJson *doc, CsJudgement *judgement)
{
	const CsSpotzee *spotzee = cs_provider_settings(endpoint);
	int		   *indexes;
	CsBatch    *asked = contacts_asked(spotzee, batch, &indexes);
	CsBatchResults items;
	int64		succeeded = -1;
	int64		failed = -1;
	int64		missing;
	const char *contradiction;

	read_entries(asked, indexes, doc, &items, judgement);
	(void) cs_json_int(cs_json_get(doc, "succeeded"), &succeeded);
	(void) cs_json_int(cs_json_get(doc, "failed"), &failed);

	contradiction = find_contradiction(asked, doc, succeeded, failed, &items);
	if (contradiction)
	{
		cs_answer_judge_contradictory(endpoint, response, contradiction, judgement);
		return;
	}
	if (cs_json_length(cs_json_get(doc, "errors")) < 0 && failed < 0 && succeeded < 0 &&
		items.nseen < asked->ncontacts)
	{
		cs_answer_judge_unreadable(endpoint, batch, response, spotzee->accept_unreadable,
								   judgement);
		return;
	}
	if (succeeded >= 0)
		failed = Max(failed, asked->ncontacts - succeeded);
	failed = Max(failed, items.nfailed + items.nunattributed);
	missing = Min(failed, asked->ncontacts) - items.nfailed;
	if (missing > 0)
		judge_unattributed(asked, indexes, (int) missing, &items, judgement);
	else
		judge_consent(spotzee, batch, judgement);
}

/* [SRC]: conflicts of idempotency keys, and a conflict of states, which passes. */
static bool
judge_conflict(const CsResponse *response, const char *code, CsJson *doc,
			   CsJudgement *judgement)
{
	const char *message = cs_answer_error_message(doc);

	if (is_code(code, "idempotency_key_mismatch"))
		cs_answer_conclude(judgement, CS_REKEY, CS_REASON_UNAVAILABLE, "%s",
						   message ? message : "the idempotency key was used for another batch");
	else if (is_code(code, "idempotency_in_progress") || is_code(code, "state_conflict"))
	{
		cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE, "%s",
						   message ? message : code);
		judgement->retry_after = cs_message_retry_after(response);
	}
	else
		return false;
	return true;
}

/* Repeat the call by the path of the other API, which is remembered. */
static void
try_other_path(const CsSpotzee *spotzee, const CsBatch *batch, CsJudgement *judgement)
{
	cs_answer_conclude(judgement, CS_REKEY, CS_HALT_URL, "there is no %s; the other path is next",
					   cs_spotzee_path(spotzee, batch->limitation));
	judgement->limitation = cs_spotzee_other(spotzee, batch->limitation);
}

/* [SRC]: a refusal has top-level errors[] per field: {param, code, message}. */
static void
judge_refusal(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			  const char *code, CsJson *doc, CsJudgement *judgement)
{
	const CsSpotzee *spotzee = cs_provider_settings(endpoint);
	const char *param = cs_json_string(cs_json_get(doc, "param"));
	const char *message = cs_answer_error_message(doc);

	cs_answer_judge_refusal(endpoint, batch, response, doc, judgement);
	if (param == NULL)
		param = cs_json_string(cs_json_get(cs_json_item(cs_json_get(doc, "errors"), 0), "param"));
	judgement->field = param;
	if (is_code(code, "version_unsupported") || is_code(code, "version_required") ||
		(param && strcmp(param, "Spotzee-Version") == 0))
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_REQUEST,
						   "Spotzee does not accept the value of the option version: %s", message ? message : code);
	else if (response->status == 404 && spotzee->auto_api && batch->rekeys == 0 &&
			 cs_spotzee_call(batch) == CS_SPOTZEE_CALL_UPSERT)
		try_other_path(spotzee, batch, judgement);
	else if (response->status == 404)
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_URL,
						   "nothing exists at this URL, check the options base_url and api: %s",
						   message ? message : "HTTP status 404");
}

/* May a 404 be about the path, which was not seen to exist? */
static bool
is_path_doubtful(const CsSpotzee *spotzee, const CsBatch *batch)
{
	return spotzee->auto_api && !cs_spotzee_has_users(spotzee, batch->limitation);
}

/* [SRC]: 204, asynchronous; a contact that does not exist counts as deleted. */
static bool
judge_deletion(const CsSpotzee *spotzee, const CsBatch *batch, const CsResponse *response,
			   const char *code, CsJson *doc, CsJudgement *judgement)
{
	if (response->status == 404 && is_path_doubtful(spotzee, batch) && batch->rekeys == 0)
		try_other_path(spotzee, batch, judgement);
	else if (response->status == 404 && is_code(code, "resource_missing"))
		judgement->outcomes[0].note = "there was no such contact";
	else if (response->status >= 300 || !cs_answer_is_empty(response, doc))
		return false;
	/* the contact of a row that says no */
	judgement->outcomes[0].withheld = batch->action != CS_DELETE && judgement->verdict == CS_DONE;
	return true;
}

CsJson *
cs_spotzee_find_contact(CsJson *doc)
{
	CsJson	   *user = cs_json_get(doc, "user");

	if (user == NULL)
		user = cs_json_get(doc, "contact");
	return user ? user : doc;
}

/* The address that a contact has, if it is not to get the one that it would be sent with. */
static const char *
kept_address(const CsContact *contact, CsJson *doc)
{
	const char *address = cs_json_string(cs_json_get(cs_spotzee_find_contact(doc), "email"));

	if (address == NULL || contact->value[CS_EMAIL] == NULL)
		return NULL;
	address = cs_email_normalize(address);
	return strcmp(address, contact->value[CS_EMAIL]) == 0 ? NULL : address;
}

/* [DOC]: a lookup answers with the contact. */
static bool
has_contact(const CsContact *contact, CsJson *doc)
{
	const char *id = cs_answer_id(cs_json_get(cs_spotzee_find_contact(doc), "external_id"));

	return id && strcmp(id, contact->upsert_key) == 0 && !cs_answer_says_failed(doc);
}

/*
 * A contact that is not to be created is updated if it exists.  A 404 may also be
 * about the path, which is not remembered before a contact was found there.
 */
static bool
judge_lookup(const CsSpotzee *spotzee, const CsBatch *batch, const CsResponse *response,
			 const char *code, CsJson *doc, CsJudgement *judgement)
{
	bool		other = batch->step == CS_SPOTZEE_STEP_OTHER_LOOKUP;

	if (response->status == 404 && !other && is_path_doubtful(spotzee, batch))
	{
		cs_answer_conclude(judgement, CS_STEP, NULL, "there is no such contact, or no such path");
		judgement->next_step = CS_SPOTZEE_STEP_OTHER_LOOKUP;
	}
	else if (response->status == 404 && (other || is_code(code, "resource_missing")))
		judgement->outcomes[0].withheld = true;
	else if (response->status < 300 && has_contact(batch->contacts[0], doc))
	{
		bool		deletes = spotzee->delete_opt_outs && spotzee->subscription_id == NULL &&
		batch->contacts[0]->consent == CS_CONSENT_NO;

		cs_answer_conclude(judgement, CS_STEP, NULL, "the contact exists, and is %s next",
						   deletes ? "deleted" : "updated");
		judgement->next_step = deletes ? CS_SPOTZEE_STEP_DELETE : CS_SPOTZEE_STEP_UPDATE;
		if (batch->contacts[0]->consent != CS_CONSENT_YES || batch->contacts[0]->opted_out)
			judgement->outcomes[0].address = kept_address(batch->contacts[0], doc);
		if (other && !cs_spotzee_has_users(spotzee, batch->limitation))
			judgement->limitation = cs_spotzee_other(spotzee, batch->limitation);
	}
	else
		return false;
	return true;
}

void
cs_spotzee_judge(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
				 CsJudgement *judgement)
{
	const CsSpotzee *spotzee = cs_provider_settings(endpoint);
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);
	const char *code = error_code(doc);
	CsSpotzeeCall call = cs_spotzee_call(batch);

	judgement->request_id = cs_json_string(cs_json_get(doc, "request_id"));
	if (judgement->request_id == NULL)
		judgement->request_id = cs_message_header(response, "x-request-id");
	if (response->status >= 300)
		judgement->code = code;

	if (cs_answer_judge_common(endpoint, response, doc, judgement))
	{
		if (response->status == 429 && judgement->retry_after < 0)
			judgement->retry_after = cs_message_reset_after(response, "x-ratelimit-reset");
	}
	else if (call == CS_SPOTZEE_CALL_DELETE && judge_deletion(spotzee, batch, response, code, doc, judgement))
		return;
	else if (call == CS_SPOTZEE_CALL_LOOKUP && judge_lookup(spotzee, batch, response, code, doc, judgement))
		return;
	else if (response->status >= 300 && judge_conflict(response, code, doc, judgement))
		return;
	else if (response->status >= 300)
		judge_refusal(endpoint, batch, response, code, doc, judgement);
	else if (call == CS_SPOTZEE_CALL_SUBSCRIPTION && batch->step == CS_SPOTZEE_STEP_FIRST)
	{
		/* a contact that has gone is created next, and opts out after that */
		cs_answer_conclude(judgement, CS_STEP, NULL, "the contact has opted out, and is updated next");
		judgement->next_step = CS_SPOTZEE_STEP_UPDATE;
	}
	else if (call == CS_SPOTZEE_CALL_LOOKUP || call == CS_SPOTZEE_CALL_DELETE)
		cs_answer_judge_unreadable(endpoint, batch, response, false, judgement);
	else
		judge_batch(endpoint, batch, response, doc, judgement);
}
