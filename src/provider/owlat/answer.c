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

/*
 * The contact is as it should be; is the topic?  Of a contact that was not moved,
 * but found at the new address, nothing is known.
 */
static void
finish(const CsEndpoint *endpoint, const CsBatch *batch, bool is_new, CsJudgement *judgement)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);
	CsContact  *contact = batch->contacts[0];
	CsOutcome  *outcome = &judgement->outcomes[0];

	if (cs_owlat_moves(endpoint, contact) && !outcome->moved && !contact->moved)
	{
		outcome->claimed = contact->claim == CS_CLAIM;
		outcome->topics = NULL;
	}
	else
		outcome->topics = contact->topics;
	if (contact->withheld)
		outcome->claimed = false;
	if (cs_owlat_topic_call(owlat, contact, is_new) >= 0)
		continue_with(judgement, CS_OWLAT_STEP_TOPIC, "the contact has been written, the topic is next");
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

	if (response->status >= 300 || cs_answer_says_failed(doc))
		return false;
	outcome->remote_id = cs_answer_id(cs_json_get(data, "id"));
	outcome->remote_updated_at = cs_json_text(cs_json_get(data, "updatedAt"));
	return outcome->remote_id || cs_answer_id(cs_json_get(data, "email"));
}

/* Unix seconds of a time, which is ISO 8601 or milliseconds; -1 if it is neither. */
static double
read_time(CsJson *value)
{
	double		time = cs_contact_unix_time(cs_json_string(value));
	double		milliseconds;

	return time < 0 && cs_json_number(value, &milliseconds) ? milliseconds / 1000.0 : time;
}

/*
 * A contact that was there may be ours: the answer to the call that created it may
 * have been lost.  [SRC]: an opt-out moves updatedAt, so where it is createdAt still,
 * nobody has opted out.  A contact that cannot be looked up is not taken for ours.
 * One that another one may have become is looked up first, because creating does not
 * find it.
 */
static void
judge_lookup(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			 CsJson *doc, CsJudgement *judgement)
{
	CsOutcome  *outcome = &judgement->outcomes[0];
	double		created_at = read_time(cs_json_path(doc, "data.createdAt"));

	outcome->untouched = read_contact(response, doc, outcome) && created_at >= 0 &&
		created_at == read_time(cs_json_path(doc, "data.updatedAt"));
	if (batch->step == CS_OWLAT_STEP_FIRST && is_not_found(response, doc))
		continue_with(judgement, CS_OWLAT_STEP_RECREATE, "the contact does not exist");
	else if (outcome->untouched || batch->step == CS_OWLAT_STEP_FIRST ||
			 cs_owlat_has_data(batch->contacts[0], endpoint->nulls_clear))
		continue_with(judgement, CS_OWLAT_STEP_UPDATE, "the contact exists");
	else
		finish(endpoint, batch, false, judgement);
}

/*
 * Has the contact that was updated been created since its change was queued, and not
 * been touched before this update?  Then Owlat did not know the person when the
 * change was made.  updatedAt is the time of the update, by Owlat's clock.
 */
static bool
is_new_since(const CsContact *contact, const CsResponse *response, CsJson *doc)
{
	double		created_at = read_time(cs_json_path(doc, "data.createdAt"));
	double		updated_at = read_time(cs_json_path(doc, "data.updatedAt"));

	return contact->untouched && contact->queued_at > 0 && created_at >= 0 &&
		created_at >= updated_at - (response->received_at - contact->queued_at);
}

/*
 * [SEED]: "Contact already exists -- update instead".  [SRC]: the address that a
 * contact was created with stays taken when the contact gets another one, so what
 * is there neither to be updated nor to be created cannot be reached.  If an earlier
 * call may have created the contact, that is looked up.
 */
static bool
judge_create(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			 CsJudgement *judgement)
{
	const CsContact *contact = batch->contacts[0];

	if (response->status != 409)
		return false;
	if (batch->step == CS_OWLAT_STEP_RECREATE)
		cs_answer_conclude(judgement, CS_REJECT, CS_REASON_CONFLICT,
						   "Owlat keeps the address for a contact that has another address now");
	else if (contact->claim == CS_CLAIM_IF_NEW && contact->maybe_ours)
		continue_with(judgement, CS_OWLAT_STEP_LOOKUP, "the contact exists, maybe by an earlier call");
	else if (cs_owlat_has_data(contact, endpoint->nulls_clear))
		continue_with(judgement, CS_OWLAT_STEP_UPDATE, "the contact exists");
	else
		finish(endpoint, batch, false, judgement);	/* there is nothing to
													 * update */
	return true;
}

/*
 * Create the contact again, once, if it no longer exists and may be.  A move that was made
 * already, or to an address that another contact has, goes on with that address.
 * [SRC]: creating does not find a contact that was moved, so it is updated, even
 * with nothing.
 */
static bool
judge_update(const CsBatch *batch, const CsResponse *response, CsJson *doc, CsOwlatCall call,
			 CsJudgement *judgement)
{
	const CsContact *contact = batch->contacts[0];
	bool		gone = is_not_found(response, doc);

	if (call == CS_OWLAT_CALL_MOVE && (gone || response->status == 409))
		continue_with(judgement, CS_OWLAT_STEP_UPDATE,
					  gone ? "the contact is not there" : "another contact has the address already");
	else if (gone && cs_owlat_may_create(contact))
		continue_with(judgement, CS_OWLAT_STEP_RECREATE, "the contact no longer exists");
	else if (gone)
		judgement->outcomes[0].withheld = true;
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

/*
 * Is it the topic that CsOwlat does not know, so that all contacts are concerned?
 * [SRC]: 404 "Topic not found", 400 "Invalid topic ID format"; what is said of a
 * contact repeats its address, which can have any word in it.
 */
static bool
is_topic_wrong(const CsResponse *response, CsJson *doc)
{
	const char *message = cs_answer_error_message(doc);

	if (response->status == 404 && !is_not_found(response, doc))
		return true;
	return (response->status == 404 || response->status == 400) && message &&
		(pg_strncasecmp(message, "topic", 5) == 0 || pg_strncasecmp(message, "invalid topic", 13) == 0);
}

/* [SRC]: an ID of the right form that is no topic's is answered by 500 "internal". */
static bool
judge_unknown_topic(const CsResponse *response, CsJson *doc, CsJudgement *judgement)
{
	const char *code = error_code(doc);

	if (response->status != 500 || code == NULL || strcmp(code, "internal") != 0)
		return false;
	cs_answer_conclude(judgement, CS_HALT, CS_HALT_TOPIC,
					   "Owlat fails as it does for an ID that is no topic's: check the option topic_id");
	return true;
}

/*
 * Return what of a success cannot be true, or NULL.  [SRC]: a contact has "email", a
 * deletion "deleted", and a membership "success" and, if it is new, "topicId".
 */
static const char *
find_contradiction(const CsOwlat *owlat, const CsContact *contact, CsOwlatCall call, CsJson *doc)
{
	CsJson	   *data = cs_json_get(doc, "data");
	const char *topic = cs_json_string(cs_json_get(data, "topicId"));
	bool		membership = call == CS_OWLAT_CALL_JOIN || call == CS_OWLAT_CALL_LEAVE;
	bool		done;

	if (cs_json_bool(cs_json_get(data, call == CS_OWLAT_CALL_DELETE ? "deleted" : "success"), &done) && !done)
		return "the statement that nothing was done";
	if (membership && topic && owlat->topic_id && strcmp(topic, owlat->topic_id) != 0)
		return "another topic";
	if (!membership && cs_answer_is_another(contact, cs_json_get(data, "email")))
		return "the contact of another address";
	return NULL;
}

/* Does an answer say anything of a membership? */
static bool
is_membership(CsJson *data)
{
	static const char *const names[] = {"success", "contactId", "topicId", "doiStatus", "removed"};

	for (int i = 0; i < lengthof(names); i++)
		if (!cs_json_is_null(cs_json_get(data, names[i])))
			return true;
	return false;
}

/*
 * [SRC]: {"removed":false} says that the person had left the topic: after we added
 * them that is an opt-out.
 */
static void
note_membership(const CsOwlat *owlat, const CsContact *contact, CsJson *doc, bool join,
				CsOutcome *outcome)
{
	bool		removed;

	outcome->topics = join ? cs_owlat_topics_with(owlat, contact) : cs_owlat_topics_without(owlat, contact);
	outcome->claimed = join;
	if (!join && cs_owlat_has_joined(owlat, contact) &&
		cs_json_bool(cs_json_path(doc, "data.removed"), &removed) && !removed)
		outcome->opted_out = true;
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
	else if (response->status < 300 && (cs_answer_says_failed(doc) || !is_membership(cs_json_get(doc, "data"))))
		cs_answer_judge_unreadable(endpoint, batch, response, false, judgement);
	else if (response->status < 300 || (!join && is_not_found(response, doc)))
	{
		note_membership(owlat, contact, doc, join, outcome);
		if (doi && strcmp(doi, "pending") == 0)
			outcome->note = "topic: Owlat asked the person for a confirmation";
	}
	else if (!join || response->status == 402 || response->status == 403)
		judge_refusal(endpoint, batch, response, doc, judgement);
	else
	{
		outcome->note = psprintf("topic: %s", message);
		outcome->claimed = contact->claimed;
	}
}

/* [SRC]: 200 with {"data":{"deleted":true}}; a contact that does not exist is deleted. */
static bool
judge_deletion(const CsResponse *response, CsJson *doc, CsJudgement *judgement)
{
	bool		deleted = response->body_len == 0;

	(void) cs_json_bool(cs_json_path(doc, "data.deleted"), &deleted);
	if (is_not_found(response, doc))
		judgement->outcomes[0].note = "there was no such contact";
	else if (response->status >= 300 || cs_answer_says_failed(doc) || !deleted)
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
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);
	CsOwlatCall call = cs_owlat_call(endpoint, batch);
	const char *contradiction;

	judgement->request_id = cs_message_header(response, "x-request-id");
	judgement->code = error_code(doc);
	if ((call == CS_OWLAT_CALL_JOIN || call == CS_OWLAT_CALL_LEAVE) && judge_unknown_topic(response, doc, judgement))
		return;
	if (cs_answer_judge_common(endpoint, response, doc, judgement))
	{
		if (response->status == 429)
			refine_throttle(doc, judgement);
		return;
	}

	contradiction = response->status < 300 ?
		find_contradiction(cs_provider_settings(endpoint), batch->contacts[0], call, doc) : NULL;
	if (contradiction)
		cs_answer_judge_contradictory(endpoint, response, contradiction, judgement);
	else if (call == CS_OWLAT_CALL_LOOKUP)
		judge_lookup(endpoint, batch, response, doc, judgement);
	else if (call == CS_OWLAT_CALL_JOIN || call == CS_OWLAT_CALL_LEAVE)
		judge_topic(endpoint, batch, response, doc, call == CS_OWLAT_CALL_JOIN, judgement);
	else if (call == CS_OWLAT_CALL_DELETE && judge_deletion(response, doc, judgement))
		return;
	else if (call != CS_OWLAT_CALL_DELETE && read_contact(response, doc, &judgement->outcomes[0]))
	{
		judgement->outcomes[0].moved |= call == CS_OWLAT_CALL_MOVE &&
			cs_owlat_moves(endpoint, batch->contacts[0]);
		finish(endpoint, batch, call == CS_OWLAT_CALL_CREATE ||
			   is_new_since(batch->contacts[0], response, doc), judgement);
	}
	else if (response->status < 300)
		cs_answer_judge_unreadable(endpoint, batch, response, false, judgement);
	else if (call == CS_OWLAT_CALL_CREATE && judge_create(endpoint, batch, response, judgement))
		return;
	else if ((call == CS_OWLAT_CALL_UPDATE || call == CS_OWLAT_CALL_MOVE) &&
			 judge_update(batch, response, doc, call, judgement))
		return;
	else
		judge_refusal(endpoint, batch, response, doc, judgement);
}
