/*-------------------------------------------------------------------------
 *
 * answer.c
 *		What Owlat's answers mean.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/owlat/answer.h"
#include "provider/owlat/request.h"

static void
continue_with(CsJudgement *judgement, int step, const char *why)
{
	cs_answer_conclude(judgement, CS_STEP, NULL, "%s", why);
	judgement->next_step = step;
}

/* The contact has been written; see whether the topic is next. */
static void
finish(const CsOwlat *owlat, const CsBatch *batch, CsJudgement *judgement)
{
	const CsContact *contact = batch->contacts[0];

	if (cs_owlat_topic_call(owlat, contact) >= 0)
		continue_with(judgement, CS_OWLAT_STEP_TOPIC, "the contact has been written, the topic is next");
	else
		judgement->outcomes[0].topics = cs_owlat_topics(owlat, contact);
}

/* [SRC]: {"error":{"category","message"}}, formerly "code". */
static const char *
error_code(CsJson *doc)
{
	const char *code = cs_json_text(cs_json_path(doc, "error.category"));

	return code ? code : cs_json_text(cs_json_path(doc, "error.code"));
}

/* Is the contact missing?  [SRC]: a wrong path is a 404 too, in plain text. */
static bool
is_not_found(const CsResponse *response, CsJson *doc)
{
	const char *code = error_code(doc);

	return response->status == 404 && code && strcmp(code, "not_found") == 0;
}

/* [SRC]: 201 or 200 with {"data":{"id":...}}. */
static bool
read_contact(const CsResponse *response, CsJson *doc, CsOutcome *outcome)
{
	CsJson	   *data = cs_json_get(doc, "data");

	if (response->status >= 300)
		return false;
	outcome->remote_id = cs_json_text(cs_json_get(data, "id"));
	outcome->remote_updated_at = cs_json_text(cs_json_get(data, "updatedAt"));
	return outcome->remote_id || cs_json_text(cs_json_get(data, "email"));
}

/* [SEED]: "Contact already exists -- update instead".  Return false if undecided. */
static bool
judge_create(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			 CsJudgement *judgement)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);

	if (response->status != 409)
		return false;
	if (batch->step == CS_OWLAT_STEP_RECREATE)
		cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE,
						   "the contact keeps appearing and disappearing: it did not exist when it was updated, and existed when it was created");
	else if (cs_owlat_has_data(batch->contacts[0], endpoint->nulls_clear))
		continue_with(judgement, CS_OWLAT_STEP_UPDATE, "the contact exists");
	else
		finish(owlat, batch, judgement);	/* nothing to update */
	return true;
}

/*
 * Create the contact again, once, if it no longer exists; leave it as it is if its
 * new address is in use.
 */
static bool
judge_update(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			 CsJson *doc, CsOwlatCall call, CsJudgement *judgement)
{
	bool		gone = is_not_found(response, doc);

	if (call == CS_OWLAT_CALL_MOVE && (gone || response->status == 409))
		continue_with(judgement, CS_OWLAT_STEP_CREATE, gone ? "no contact has the previous address" :
					  "another contact has the new address already");
	else if (gone)
		continue_with(judgement, CS_OWLAT_STEP_RECREATE, "the contact no longer exists");
	else
		return false;
	return true;
}

/* Judge an answer with no special meaning.  [SRC] 403: a scope is missing. */
static void
judge_refusal(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			  CsJson *doc, CsJudgement *judgement)
{
	cs_answer_judge_refusal(endpoint, batch, response, doc, judgement);
	if (response->status == 403 && cs_answer_mentions(cs_answer_error_message(doc), "scope"))
		judgement->reason = CS_HALT_SCOPE;
}

/* Is the topic unknown to Owlat, so that all contacts are concerned? */
static bool
is_topic_wrong(const CsResponse *response, CsJson *doc)
{
	if (response->status == 404 && !is_not_found(response, doc))
		return true;
	return (response->status == 404 || response->status == 400) &&
		cs_answer_mentions(cs_answer_error_message(doc), "topic");
}

/*
 * The contact has been written already, so a failure to join is noted with the
 * success.  A failure to leave means that an opt-out did not arrive, so the contact
 * fails.
 */
static void
judge_topic(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			CsJson *doc, bool join, CsJudgement *judgement)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];
	CsOutcome  *outcome = &judgement->outcomes[0];
	const char *message = cs_answer_error_message(doc);
	const char *doi = cs_json_text(cs_json_path(doc, "data.doiStatus"));

	if (message == NULL)
		message = psprintf("HTTP status %d", response->status);
	if (is_topic_wrong(response, doc))
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_TOPIC,
						   "Owlat does not accept the topic of the option topic_id: %s", message);
	else if (response->status < 300 || (!join && is_not_found(response, doc)))
	{
		outcome->topics = join ? cs_owlat_topics_with(owlat, contact) : cs_owlat_topics_without(owlat, contact);
		if (doi && strcmp(doi, "pending") == 0)
			outcome->note = "topic: Owlat asked the person for a confirmation";
	}
	else if (!join || response->status == 402 || response->status == 403)
		judge_refusal(endpoint, batch, response, doc, judgement);
	else
	{
		outcome->topics = cs_owlat_topics(owlat, contact);
		outcome->note = psprintf("topic: %s", message);
	}
}

/* [SRC]: a contact that does not exist is deleted. */
static bool
judge_deletion(const CsResponse *response, CsJson *doc, CsJudgement *judgement)
{
	if (is_not_found(response, doc))
		judgement->outcomes[0].note = "there was no such contact";
	else if (response->status >= 300)
		return false;
	return true;
}

/* [SRC]: error.data.retryAfter takes precedence over the header, as in the SDK. */
static void
refine_throttle(CsJson *doc, CsJudgement *judgement)
{
	double		seconds;

	if (cs_json_number(cs_json_path(doc, "error.data.retryAfter"), &seconds) && seconds >= 0)
		judgement->retry_after = seconds;
}

void
cs_owlat_judge(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			   CsJudgement *judgement)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);
	CsOwlatCall call = cs_owlat_call(endpoint, batch);

	judgement->request_id = cs_message_header(response, "x-request-id");
	judgement->code = error_code(doc);
	if (cs_answer_judge_common(endpoint, response, doc, judgement))
	{
		if (response->status == 429)
			refine_throttle(doc, judgement);
		return;
	}

	if (call == CS_OWLAT_CALL_JOIN || call == CS_OWLAT_CALL_LEAVE)
		judge_topic(endpoint, batch, response, doc, call == CS_OWLAT_CALL_JOIN, judgement);
	else if (call == CS_OWLAT_CALL_DELETE && judge_deletion(response, doc, judgement))
		return;
	else if (call != CS_OWLAT_CALL_DELETE && read_contact(response, doc, &judgement->outcomes[0]))
		finish(owlat, batch, judgement);
	else if (response->status < 300)
		cs_answer_judge_unreadable(endpoint, batch, response, false, judgement);
	else if (call == CS_OWLAT_CALL_CREATE && judge_create(endpoint, batch, response, judgement))
		return;
	else if ((call == CS_OWLAT_CALL_UPDATE || call == CS_OWLAT_CALL_MOVE) &&
			 judge_update(endpoint, batch, response, doc, call, judgement))
		return;
	else
		judge_refusal(endpoint, batch, response, doc, judgement);
}
