/*-------------------------------------------------------------------------
 *
 * answer.c
 *		What Caramel's answers mean.
 *
 * An error has one of four forms: an HTTP status with {"error":"rate_limited",
 * "message":...}, of which some have "messsage" [DOC errors]; a 200 with a
 * JSON-RPC error [SEED]; a 200 whose result has isError and nothing but a text
 * [DOC]; or an event stream around any of them [INFER].  Each is converted to one
 * code word, which is derived from the code or, if there is none, from the text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/caramel/answer.h"
#include "provider/caramel/request.h"

/*
 * A contact that was created at most this long before the answer (s) was created by
 * the call.  Both times are whole seconds of one clock, so a call that is answered at
 * once can show a difference of 1.  A longer one would take in somebody who signed up
 * and opted out shortly before.
 */
#define CREATED_SECONDS	1

/* A refusal, whatever its form. */
typedef struct Refusal
{
	const char *code;			/* one of ours below, or the service's, or
								 * NULL */
	const char *message;		/* or NULL */
} Refusal;

/* Known texts of refusals without a code; the first match counts. */
static const struct
{
	const char *phrase;
	const char *code;
}			phrases[] = {
	{"email_required", "email_required"},
	{"tier_required", CS_CARAMEL_TIER},
	{"scope_required", "scope_required"},
	{"rate_limited", "rate_limited"},
	{"business_not_found", "business_not_found"},
	{"internal_error", "internal_error"},
	{"insufficient_credits", "insufficient_credits"},
	{"unauthorized", "unauthorized"},
	{"rate cap", "rate_limited"},
	{"rate limit", "rate_limited"},
	{"too many requests", "rate_limited"},
	{"token expired", "unauthorized"},
	{"token is expired", "unauthorized"},
	{"token has expired", "unauthorized"},
	{"requires the business tier", CS_CARAMEL_TIER},
	{"business tier", CS_CARAMEL_TIER},
	{"missing scope", "scope_required"},
	{"required scope", "scope_required"},
	{"form_not_found", "form_not_found"},
	{"form not found", "form_not_found"},
	{"unknown tool", "no_such_tool"},
	{"business not found", "business_not_found"},
	{"email is required", "email_required"},
	{"internal error", "internal_error"}
};

/* Codes of JSON-RPC, and the one that Caramel adds [DOC errors]. */
static const struct
{
	int			number;
	const char *code;
}			numbers[] = {
	{-32001, "unauthorized"},
	{-32700, "bad_envelope"},
	{-32600, "bad_envelope"},
	{-32601, "no_such_tool"},
	{-32602, "invalid_params"},
	{-32603, "internal_error"}
};

/* ---------- parsing ---------- */

CsJson *
cs_caramel_parse(const CsResponse *response)
{
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);
	const char *line = response->body;
	const char *end;

	if (doc || line == NULL)
		return doc;
	end = line + response->body_len;
	line += cs_message_mark_length(line, response->body_len);
	while (line < end)
	{
		const char *newline = memchr(line, '\n', end - line);
		size_t		len = (newline ? newline : end) - line;

		if (len > 5 && memcmp(line, "data:", 5) == 0)
		{
			CsJson	   *event = cs_json_parse(line + 5, len - 5);

			if (cs_json_is_object(event))
				doc = event;
		}
		line += len + 1;
	}
	return doc;
}

/* Return the text of a tool's result, or NULL. */
static const char *
result_text(CsJson *result)
{
	return cs_json_string(cs_json_get(cs_json_item(cs_json_get(result, "content"), 0), "text"));
}

static const char *
code_by_phrase(const char *message)
{
	for (int i = 0; message && i < (int) lengthof(phrases); i++)
	{
		if (cs_answer_mentions(message, phrases[i].phrase))
			return phrases[i].code;
	}
	return NULL;
}

static const char *
code_by_number(CsJson *value)
{
	int64		number;

	if (!cs_json_int(value, &number))
		return NULL;
	for (int i = 0; i < (int) lengthof(numbers); i++)
	{
		if (numbers[i].number == number)
			return numbers[i].code;
	}
	return NULL;
}

/* Read code and message of an object that describes an error, in any form. */
static void
read_error(CsJson *error, Refusal *refusal)
{
	refusal->message = cs_answer_error_message(error);
	refusal->code = code_by_number(cs_json_get(error, "code"));
	if (cs_answer_mentions(refusal->message, "unknown tool"))
		refusal->code = "no_such_tool"; /* MCP has only -32602 for it */
	if (refusal->code == NULL)
		refusal->code = cs_json_string(cs_json_get(error, "code"));
	if (refusal->code == NULL)
		refusal->code = cs_json_string(cs_json_get(error, "error"));
	if (refusal->code == NULL)
		refusal->code = code_by_phrase(refusal->message);
	if (refusal->message && refusal->code && strcmp(refusal->message, refusal->code) == 0)
		refusal->message = cs_json_string(cs_json_get(error, "message"));
}

/* Is it true in JavaScript, as the page's samples test it? */
static bool
is_truthy(CsJson *value)
{
	const char *text = cs_json_text(value);
	double		number;
	bool		truth;

	if (cs_json_bool(value, &truth))
		return truth;
	if (text && cs_json_string(value) == NULL && cs_json_number(value, &number))
		return number != 0;
	return value && (text == NULL || *text);
}

/*
 * [SEED]: "body.error || body.result?.isError" is a failure, also with status 200.
 * Return false if there is none.
 */
static bool
read_refusal(CsJson *doc, Refusal *refusal)
{
	CsJson	   *error = cs_json_get(doc, "error");
	CsJson	   *result = cs_json_get(doc, "result");

	memset(refusal, 0, sizeof(Refusal));
	if (cs_json_is_object(error))
		read_error(error, refusal);
	else if (!cs_json_is_null(error))
		read_error(doc, refusal);	/* {"error":"rate_limited","message":...} */
	else if (is_truthy(cs_json_get(result, "isError")))
	{
		const char *text = result_text(result);
		CsJson	   *inner = text ? cs_json_parse(text, strlen(text)) : NULL;

		if (cs_json_is_object(inner))
			read_error(cs_json_is_object(cs_json_get(inner, "error")) ?
					   cs_json_get(inner, "error") : inner, refusal);
		if (refusal->message == NULL)
			refusal->message = text;
		if (refusal->code == NULL)
			refusal->code = code_by_phrase(text);
	}
	else
		return false;
	return true;
}

/* ---------- refusals ---------- */

/*
 * [SEED]: 403 tier_required, "Switch to form-submit strategy".  Remember that.  A
 * contact that must not be submitted through the form fails.  Without a form, the
 * server is halted.
 */
static void
judge_tier(const CsEndpoint *endpoint, const CsBatch *batch, const char *message,
		   CsJudgement *judgement)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);

	if (caramel->form_id == NULL || cs_caramel_submits(endpoint, batch))
	{
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_PLAN,
						   "the plan of the business is below Business: %s%s", message,
						   caramel->form_id ? "" : " (set the option form_id to a form that contacts can be submitted through)");
		return;
	}
	judgement->limitation = CS_CARAMEL_TIER_LIMITATION;
	if (cs_caramel_may_submit(caramel, batch->contacts[0]))
	{
		cs_answer_conclude(judgement, CS_STEP, NULL, "%s; the contact is submitted through the form next", message);
		judgement->next_step = CS_CARAMEL_FORM;
	}
	else
	{
		judgement->ours = true;
		cs_answer_conclude(judgement, CS_REJECT, CS_REASON_REJECTED,
						   "%s, and the form would claim consent that %s", message,
						   batch->contacts[0]->consent != CS_CONSENT_YES ? "this contact has not given" :
						   batch->contacts[0]->claim == CS_CLAIM_IF_NEW ?
						   "may have been withdrawn there before (claims => 'all' submits it all the same)" :
						   "may have been withdrawn since it was submitted");
	}
}

static bool
is_code(const Refusal *refusal, const char *code)
{
	return refusal->code && strcmp(refusal->code, code) == 0;
}

static void
judge_throttle(const CsResponse *response, const char *message, CsJudgement *judgement)
{
	cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE, "too many requests: %s",
					   message);
	judgement->throttled = true;
	judgement->retry_after = cs_message_retry_after(response);
	if (judgement->retry_after < 0)
		judgement->retry_after = cs_message_reset_after(response, "x-ratelimit-reset");
}

/* [SEED]: the table of errors; [DOC]: other codes.  Return false for an unknown one. */
static bool
judge_code(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
		   const Refusal *refusal, CsJudgement *judgement)
{
	const char *message = refusal->message ? refusal->message :
	refusal->code ? refusal->code : "upsert failed";

	if (is_code(refusal, "unauthorized"))
		cs_answer_conclude(judgement, CS_REAUTH, CS_HALT_UNAUTHORIZED,
						   "Caramel does not accept the access token: %s", message);
	else if (is_code(refusal, CS_CARAMEL_TIER))
		judge_tier(endpoint, batch, message, judgement);
	else if (is_code(refusal, "scope_required"))
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_SCOPE, "%s", message);
	else if (is_code(refusal, "business_not_found"))
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_TENANT,
						   "check the option business_id: %s", message);
	else if (is_code(refusal, "insufficient_credits"))
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_QUOTA, "%s", message);
	else if (is_code(refusal, "no_such_tool") || is_code(refusal, "bad_envelope"))
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_REQUEST,
						   "Caramel does not understand the call (check upsert_tool and form_tool): %s",
						   message);
	else if (is_code(refusal, "form_not_found"))
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_FORM,
						   "check the option form_id: %s", message);
	else if (is_code(refusal, "invalid_params") && cs_caramel_submits(endpoint, batch))
	{
		/* the names of the form's arguments are a guess of the options */
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_REQUEST,
						   "check the options form_id_argument and form_data_argument: %s", message);
		judgement->contact_suspected = true;
	}
	else if (is_code(refusal, "rate_limited"))
		judge_throttle(response, message, judgement);
	else if (is_code(refusal, "internal_error"))
		cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE, "%s", message);
	else if (is_code(refusal, "email_required"))
	{
		cs_answer_conclude(judgement, CS_REJECT, CS_REASON_MISSING_FIELD, "%s", message);
		judgement->field = "email";
	}
	else
		return false;
	return true;
}

/* ---------- the answer ---------- */

/*
 * Find the contact's ID [INFER]: in the result, in its structured content, or in
 * JSON in its text.  It may be absent.
 */
static const char *
find_id(CsJson *result)
{
	static const char *const paths[] = {
		"id", "contact_id", "contact.id", "structuredContent.id",
		"structuredContent.contact_id", "structuredContent.contact.id"
	};
	const char *text = result_text(result);
	const char *id = NULL;

	for (int i = 0; id == NULL && i < (int) lengthof(paths); i++)
		id = cs_json_text(cs_json_path(result, paths[i]));
	if (id == NULL && text)
	{
		CsJson	   *inner = cs_json_parse(text, strlen(text));

		for (int i = 0; id == NULL && i < 3; i++)
			id = cs_json_text(cs_json_path(inner, paths[i]));
	}
	return id;
}

/* A member of the contact object, wherever the result has it; or NULL. */
static CsJson *
find_member(CsJson *result, const char *name)
{
	const char *text = result_text(result);
	CsJson	   *found = cs_json_get(result, name);

	if (found == NULL)
		found = cs_json_get(cs_json_get(result, "structuredContent"), name);
	if (found == NULL && text)
		found = cs_json_get(cs_json_parse(text, strlen(text)), name);
	return found;
}

/*
 * Has the call created the contact?  [DOC]: the contact object has created_at,
 * which is compared with the Date of the answer, by the same clock; and source, which
 * is set at creation and does not change, so that of a form shows somebody else.
 */
static bool
is_new(const CsResponse *response, CsJson *result)
{
	double		created_at = cs_contact_unix_time(cs_json_string(find_member(result, "created_at")));
	double		date = cs_message_date(response);
	const char *source = cs_json_string(find_member(result, "source"));

	if (source && strcmp(source, "form_submit") == 0)
		return false;
	return created_at >= 0 && date >= 0 && created_at >= date - CREATED_SECONDS;
}

/*
 * The contact was written without the form.  What does Caramel have of its
 * consent, and may the form claim it now?
 */
static void
judge_consent(const CsCaramel *caramel, const CsContact *contact, const CsResponse *response,
			  CsJson *result, CsJudgement *judgement)
{
	CsOutcome  *outcome = &judgement->outcomes[0];
	bool		consents;

	outcome->claimed = contact->claimed;
	if (cs_json_bool(find_member(result, "marketing_consent"), &consents))
	{
		outcome->opted_out = !consents && (contact->claimed || outcome->opted_out);
		outcome->claimed = consents && (contact->claimed || contact->consent == CS_CONSENT_YES);
		if (consents)
			return;
	}
	if (caramel->prefer_form && caramel->form_sets_consent && contact->claim == CS_CLAIM_IF_NEW &&
		contact->consent == CS_CONSENT_YES && is_new(response, result))
	{
		cs_answer_conclude(judgement, CS_STEP, NULL, "the contact is new; the form is next");
		judgement->next_step = CS_CARAMEL_FORM;
	}
}

/*
 * Has Caramel consent that the row withdraws?  If the answer does not tell, it has what
 * was submitted.
 */
static bool
keeps_consent(const CsContact *contact, CsJson *result)
{
	bool		consents;

	if (contact->consent != CS_CONSENT_NO)
		return false;
	return cs_json_bool(find_member(result, "marketing_consent"), &consents) ? consents : contact->claimed;
}

/*
 * Return what of a success cannot be true, or NULL.  [DOC]: the contact object has
 * business_id and email.
 */
static const char *
find_contradiction(const CsCaramel *caramel, const CsContact *contact, CsJson *result)
{
	const char *business = cs_json_string(find_member(result, "business_id"));

	if (cs_answer_is_another(contact, find_member(result, "email")))
		return "the contact of another address";
	if (business && strcmp(business, caramel->business_id) != 0)
		return "a contact of another business";
	return NULL;
}

/* [SEED]: the response is the contact object; [INFER]: with the ID of the request. */
static void
judge_result(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			 CsJson *doc, CsJudgement *judgement)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];
	CsOutcome  *outcome = &judgement->outcomes[0];
	CsJson	   *result = cs_json_get(doc, "result");
	CsJson	   *id = cs_json_get(doc, "id");
	bool		form = cs_caramel_submits(endpoint, batch);
	const char *contradiction = find_contradiction(caramel, contact, result);
	int64		number;

	if (!cs_json_is_object(result) ||
		(!cs_json_is_null(id) && (!cs_json_int(id, &number) || number != batch->number)))
	{
		cs_answer_judge_unreadable(endpoint, batch, response, false, judgement);
		return;
	}
	if (contradiction)
	{
		cs_answer_judge_contradictory(endpoint, response, contradiction, judgement);
		return;
	}

	outcome->remote_id = find_id(result);
	if (form)
	{
		outcome->claimed = caramel->form_sets_consent || contact->claimed;
		outcome->note = "submitted through the form";
		return;
	}
	if (batch->limitation && *batch->limitation)
		judgement->limitation = ""; /* the plan allows upserts now */
	judge_consent(caramel, contact, response, result, judgement);
	if (keeps_consent(contact, result))
	{
		outcome->ours = outcome->written = true;
		cs_answer_reject_contact(outcome, CS_REASON_REJECTED, "consent_kept",
								 "the contact has been written, but Caramel has no call to withdraw the consent that it has: change it in the dashboard");
	}
}

void
cs_caramel_judge(const CsEndpoint *endpoint, const CsBatch *batch,
				 const CsResponse *response, CsJudgement *judgement)
{
	CsJson	   *doc = cs_caramel_parse(response);
	Refusal		refusal;
	bool		refused = read_refusal(doc, &refusal);

	judgement->request_id = cs_message_header(response, "x-caramel-request-id");
	if (refused)
		judgement->code = refusal.code;
	if (cs_answer_judge_common(endpoint, response, doc, judgement))
	{
		if (response->status == 429 && judgement->retry_after < 0)
			judgement->retry_after = cs_message_reset_after(response, "x-ratelimit-reset");
		return;
	}
	if (refused && judge_code(endpoint, batch, response, &refusal, judgement))
		return;
	if (refused && response->status < 300)
		cs_answer_conclude(judgement, CS_REJECT, CS_REASON_REJECTED, "%s",
						   refusal.message ? refusal.message : "upsert failed");
	else if (response->status >= 300)
		cs_answer_judge_refusal(endpoint, batch, response, doc, judgement);
	else
		judge_result(endpoint, batch, response, doc, judgement);
}

const char *
cs_caramel_problem(CsJson *doc)
{
	Refusal		refusal;

	if (!read_refusal(doc, &refusal))
		return NULL;
	return refusal.message ? refusal.message : refusal.code ? refusal.code : "refused";
}
