/*-------------------------------------------------------------------------
 *
 * answer.c
 *		Help for judge(): what the answers of all HTTP services have in common.
 *
 * Two questions matter for every answer: can the contacts be at fault, and can the
 * same call succeed later?  A fault of the configuration halts the server and uses
 * up nobody's tries.  A contact's own fault must not hold up other contacts.  And an
 * answer that was not understood never counts as a success.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "base/text.h"
#include "provider/answer.h"
#include "provider/email.h"

/* A list of errors is cut off after this many bytes. */
#define MAX_TEXT	500

void
cs_answer_conclude(CsJudgement *judgement, CsVerdict verdict, const char *reason,
				   const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	judgement->message = cs_text_format(fmt, args);
	va_end(args);
	judgement->verdict = verdict;
	judgement->reason = reason;
}

void
cs_answer_reject_contact(CsOutcome *outcome, const char *reason, const char *code,
						 const char *message)
{
	outcome->kind = CS_OUTCOME_REJECTED;
	outcome->reason = reason;
	outcome->code = code;
	outcome->message = message;
}

/* ---------- bodies ---------- */

bool
cs_answer_mentions(const char *message, const char *phrase)
{
	size_t		len = strlen(phrase);

	for (; message && *message; message++)
	{
		if (pg_strncasecmp(message, phrase, len) == 0)
			return true;
	}
	return false;
}

/* Join the strings of an array into one sentence; NestJS reports errors that way. */
static const char *
join(CsJson *array)
{
	StringInfoData out;
	int			n = Min(cs_json_length(array), 10);

	initStringInfo(&out);
	for (int i = 0; i < n && out.len < MAX_TEXT; i++)
	{
		CsJson	   *item = cs_json_item(array, i);
		const char *text = cs_json_text(item);

		if (text == NULL)
			text = cs_json_text(cs_json_get(item, "message"));
		if (text)
			appendStringInfo(&out, "%s%s", out.len > 0 ? "; " : "", text);
	}
	return out.len > 0 ? out.data : NULL;
}

const char *
cs_answer_error_message(CsJson *doc)
{
	static const char *const places[] = {
		"error.message", "message", "messsage", "detail", "error_description",
		"error", "title", "errors", "meta.error"
	};

	for (int i = 0; i < (int) lengthof(places); i++)
	{
		CsJson	   *value = cs_json_path(doc, places[i]);
		const char *text = cs_json_string(value);

		if (text == NULL && cs_json_length(value) > 0)
			text = join(value);
		if (text && *text)
			return text;
	}
	return NULL;
}

bool
cs_answer_says_failed(CsJson *doc)
{
	CsJson	   *error = cs_json_get(doc, "error");
	const char *status = cs_json_string(cs_json_get(doc, "status"));
	int64		code;
	bool		truth;

	return (!cs_json_is_null(error) && (!cs_json_bool(error, &truth) || truth)) ||
		(cs_json_bool(cs_json_get(doc, "success"), &truth) && !truth) ||
		(cs_json_bool(cs_json_get(doc, "ok"), &truth) && !truth) ||
		(cs_json_int(cs_json_get(doc, "statusCode"), &code) && code >= 400) ||
		(cs_json_int(cs_json_get(doc, "status"), &code) && code >= 400) ||
		(status && (pg_strcasecmp(status, "error") == 0 || pg_strcasecmp(status, "failed") == 0));
}

bool
cs_answer_has_errors(CsJson *errors)
{
	static const char *const nothing[] = {"[]", "{}", "\"\"", "false", "0"};
	char	   *text = cs_json_dump(errors);

	for (int i = 0; text && i < (int) lengthof(nothing); i++)
	{
		if (strcmp(text, nothing[i]) == 0)
			return false;
	}
	return text != NULL;
}

bool
cs_answer_is_empty(const CsResponse *response, CsJson *doc)
{
	return response->body_len == 0 || (doc && strcmp(cs_json_dump(doc), "{}") == 0);
}

const char *
cs_answer_id(CsJson *value)
{
	const char *text = cs_json_text(value);
	bool		truth;

	return text && *text && !cs_json_bool(value, &truth) ? text : NULL;
}

/*
 * Is the answer a web page instead of JSON?  It comes from a proxy, a firewall, or
 * whatever is at a wrong address.
 */
static bool
is_web_page(const CsResponse *response)
{
	char	   *type = cs_message_header(response, "content-type");
	const char *body = response->body ? response->body : "";

	if (cs_answer_mentions(type, "text/html"))
		return true;
	body += cs_message_mark_length(body, response->body_len);
	while (isspace((unsigned char) *body))
		body++;
	return *body == '<';
}

/* Return the title of a web page for a message, palloc'd, or "untitled". */
static const char *
page_title(const CsResponse *response)
{
	const char *p = response->body ? response->body : "";

	for (; *p; p++)
	{
		if (pg_strncasecmp(p, "<title>", 7) == 0)
		{
			size_t		len = strcspn(p + 7, "<");

			return pnstrdup(p + 7, Min(len, 100));
		}
	}
	return "untitled";
}

/* Return ": " and the service's message, or nothing. */
static const char *
quoted(CsJson *doc)
{
	const char *message = cs_answer_error_message(doc);

	return message ? psprintf(": %s", message) : "";
}

/* ---------- verdicts ---------- */

static void
judge_throttled(const CsResponse *response, CsJson *doc, CsJudgement *judgement)
{
	cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE,
					   "too many requests%s", quoted(doc));
	judgement->throttled = true;
	judgement->retry_after = cs_message_retry_after(response);
}

/* A token can be refreshed, an API key cannot. */
static void
judge_unauthorized(const CsEndpoint *endpoint, CsJson *doc, CsJudgement *judgement)
{
	bool		oauth = (endpoint->provider->auth == CS_AUTH_OAUTH);

	cs_answer_conclude(judgement, oauth ? CS_REAUTH : CS_HALT, CS_HALT_UNAUTHORIZED,
					   "%s does not accept the %s%s", endpoint->provider->title,
					   oauth ? "access token" : "API key", quoted(doc));
}

static void
judge_redirect(const CsEndpoint *endpoint, const CsResponse *response, CsJudgement *judgement)
{
	char	   *location = cs_message_header(response, "location");

	cs_answer_conclude(judgement, CS_HALT, CS_HALT_REDIRECT,
					   "%s redirects (%d to %s): check the option base_url",
					   endpoint->base_url, response->status,
					   location ? location : "an unnamed address");
}

/* Is the request too large, whoever says so, and however? */
static bool
is_too_large(int status)
{
	return status == 413 || status == 414 || status == 431;
}

bool
cs_answer_judge_common(const CsEndpoint *endpoint, const CsResponse *response,
					   CsJson *doc, CsJudgement *judgement)
{
	int			status = response->status;

	if (response->refused)
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_NETWORK, "%s", response->error);
	else if (status == 0)
		cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE,
						   "no answer: %s", response->error ? response->error : "unknown cause");
	else if (status == 429)
		judge_throttled(response, doc, judgement);
	else if (status >= 500 || status == 408 || status == 425 || status < 200)
	{
		cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE,
						   "HTTP status %d%s", status, quoted(doc));
		judgement->retry_after = cs_message_retry_after(response);
	}
	else if (status == 401)
		judge_unauthorized(endpoint, doc, judgement);
	else if (status == 407)
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_UNAUTHORIZED,
						   "the proxy asks for a user name and a password");
	else if (status >= 300 && status < 400)
		judge_redirect(endpoint, response, judgement);
	else if (doc == NULL && is_web_page(response) && !is_too_large(status))
	{
		cs_answer_conclude(judgement, CS_HALT,
						   status == 404 ? CS_HALT_URL : CS_HALT_NOT_API,
						   "a web page answers instead of %s (status %d, \"%s\"): check base_url, proxies and firewalls",
						   endpoint->provider->title, status, page_title(response));
		judgement->contact_suspected = status >= 400;
	}
	else
		return false;
	return true;
}

/* Return the reason for a status that means a fault of the configuration, or NULL. */
static const char *
halt_reason(int status)
{
	switch (status)
	{
		case 402:
			return CS_HALT_QUOTA;
		case 403:
			return CS_HALT_FORBIDDEN;
		case 404:
		case 405:
		case 410:
			return CS_HALT_URL;
		case 406:
		case 411:
		case 415:
		case 426:
		case 451:
			return CS_HALT_REQUEST;
		default:
			return NULL;
	}
}

void
cs_answer_judge_refusal(const CsEndpoint *endpoint, const CsBatch *batch,
						const CsResponse *response, CsJson *doc,
						CsJudgement *judgement)
{
	const char *reason = halt_reason(response->status);

	if (reason)
	{
		cs_answer_conclude(judgement, CS_HALT, reason, "%s refused the request: HTTP status %d%s",
						   endpoint->provider->title, response->status, quoted(doc));
		/* something in between, such as a firewall, does not speak JSON */
		judgement->contact_suspected = doc == NULL;
	}
	else
	{
		const char *message = cs_answer_error_message(doc);

		reason = response->status == 409 ? CS_REASON_CONFLICT : CS_REASON_REJECTED;
		cs_answer_conclude(judgement, batch->ncontacts > 1 ? CS_SPLIT : CS_REJECT, reason,
						   "%s", message ? message : psprintf("HTTP status %d without a reason",
															  response->status));
	}
}

void
cs_answer_judge_unreadable(const CsEndpoint *endpoint, const CsBatch *batch,
						   const CsResponse *response, bool accept,
						   CsJudgement *judgement)
{
	for (int i = 0; accept && i < batch->ncontacts; i++)
		judgement->outcomes[i].note = "the answer was not understood; accepted because of the option unreadable_answer";
	if (accept)
		return;
	cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNREADABLE,
					   "%s answered with status %d and %s, so it is unknown what happened to the contacts",
					   endpoint->provider->title, response->status,
					   response->body_len == 0 ? "no body" : "a body that is not understood");
}

static bool
is_ascii(const char *text)
{
	for (; *text; text++)
		if (IS_HIGHBIT_SET(*text))
			return false;
	return true;
}

bool
cs_answer_is_another(const CsContact *contact, CsJson *email)
{
	const char *ours = contact->value[CS_EMAIL];
	const char *theirs = cs_json_string(email);

	return ours && theirs && *theirs && is_ascii(ours) && is_ascii(theirs) &&
		strcmp(cs_email_normalize(ours), cs_email_normalize(theirs)) != 0;
}

void
cs_answer_judge_contradictory(const CsEndpoint *endpoint, const CsResponse *response,
							  const char *what, CsJudgement *judgement)
{
	cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNREADABLE,
					   "%s answered with status %d and %s, so it is unknown what happened to the contacts",
					   endpoint->provider->title, response->status, what);
}

/* ---------- counts ---------- */

void
cs_answer_compare_counts(CsFinding *finding, const CsLocalCounts *local, int64 provider_count)
{
	finding->ours = psprintf(INT64_FORMAT, local->contacts);
	finding->theirs = psprintf(INT64_FORMAT, provider_count);
	finding->result = local->contacts == provider_count ? CS_FINDING_OK : CS_FINDING_DIFFERS;
	if (provider_count > local->contacts)
		finding->detail = "the account has contacts that did not come from here";
	else if (provider_count < local->contacts)
		finding->detail = "contacts that were sent no longer exist there, or are not counted yet";
}
