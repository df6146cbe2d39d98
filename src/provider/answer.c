/*-------------------------------------------------------------------------
 *
 * answer.c
 *		What all HTTP services have in common in their answers.
 *
 * Two questions decide everything: may the contacts be at fault, and may the
 * same call succeed later?  A fault of the configuration halts the server and
 * burns nothing; a contact's own fault must not hold up others; and what was
 * not understood is never taken for a success.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"

#include "provider/provider.h"

/* Texts of others are kept to this many bytes. */
#define MAX_TEXT	500

void
cs_provider_begin_judgement(const CsBatch *batch, CsJudgement *judgement)
{
	memset(judgement, 0, sizeof(CsJudgement));
	judgement->verdict = CS_DONE;
	judgement->retry_after = -1;
	judgement->next_step = batch->step;
	judgement->created = -1;
	judgement->updated = -1;
	judgement->outcomes = palloc0(batch->ncontacts * sizeof(CsOutcome));
	for (int i = 0; i < batch->ncontacts; i++)
	{
		const CsContact *contact = batch->contacts[i];
		CsOutcome  *outcome = &judgement->outcomes[i];

		outcome->consent_sent = batch->action == CS_UPSERT &&
			cs_contact_is(contact, CS_OPT_IN, "true");
		outcome->opted_out = contact->opted_out && !cs_contact_is(contact, CS_OPT_IN, "false");
	}
}

void
cs_provider_conclude(CsJudgement *judgement, CsVerdict verdict, const char *reason,
					 const char *fmt,...)
{
	StringInfoData message;

	initStringInfo(&message);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&message, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	judgement->verdict = verdict;
	judgement->reason = reason;
	judgement->message = message.data;
}

/* One contact fails; the strings are not copied, code and message may be NULL. */
void
cs_provider_reject_one(CsOutcome *outcome, const char *reason, const char *code,
					   const char *message)
{
	outcome->kind = CS_OUTCOME_REJECTED;
	outcome->reason = reason;
	outcome->code = code;
	outcome->message = message;
}

/* ---------- bodies ---------- */

bool
cs_provider_mentions(const char *message, const char *phrase)
{
	size_t		len = strlen(phrase);

	for (; message && *message; message++)
	{
		if (pg_strncasecmp(message, phrase, len) == 0)
			return true;
	}
	return false;
}

/* The strings of an array as one sentence: NestJS lists what is wrong so. */
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
cs_provider_error_message(CsJson *doc)
{
	static const char *const places[] = {
		"error.message", "message", "messsage", "detail", "error_description",
		"error", "title", "errors"
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

/* A web page instead of JSON: a proxy, a firewall or a wrong address speaks. */
static bool
is_web_page(const CsResponse *response)
{
	char	   *type = cs_message_header(response, "content-type");
	const char *body = response->body ? response->body : "";

	if (cs_provider_mentions(type, "text/html"))
		return true;
	while (isspace((unsigned char) *body))
		body++;
	return *body == '<';
}

/* The title of a web page, for a message; palloc'd, or "untitled". */
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

/* ": what the service said", or nothing. */
static const char *
quoted(CsJson *doc)
{
	const char *message = cs_provider_error_message(doc);

	return message ? psprintf(": %s", message) : "";
}

/* ---------- verdicts ---------- */

static void
judge_throttled(const CsResponse *response, CsJson *doc, CsJudgement *judgement)
{
	cs_provider_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE,
						 "too many requests%s", quoted(doc));
	judgement->throttled = true;
	judgement->retry_after = cs_message_retry_after(response);
}

/* There may be a token to refresh; an API key stays what it is. */
static void
judge_unauthorized(const CsEndpoint *endpoint, CsJson *doc, CsJudgement *judgement)
{
	bool		oauth = (endpoint->provider->auth == CS_AUTH_OAUTH);

	cs_provider_conclude(judgement, oauth ? CS_REAUTH : CS_HALT, CS_HALT_UNAUTHORIZED,
						 "%s does not accept the %s%s", endpoint->provider->title,
						 oauth ? "access token" : "API key", quoted(doc));
}

static void
judge_redirect(const CsEndpoint *endpoint, const CsResponse *response, CsJudgement *judgement)
{
	char	   *location = cs_message_header(response, "location");

	cs_provider_conclude(judgement, CS_HALT, CS_HALT_REDIRECT,
						 "%s sends us elsewhere (%d to %s): check the option base_url",
						 endpoint->base_url, response->status,
						 location ? location : "an address that it does not name");
}

bool
cs_provider_judge_common(const CsEndpoint *endpoint, const CsResponse *response,
						 CsJson *doc, CsJudgement *judgement)
{
	int			status = response->status;

	if (status == 0)
		cs_provider_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE,
							 "no answer: %s", response->error ? response->error : "unknown cause");
	else if (status == 429)
		judge_throttled(response, doc, judgement);
	else if (status >= 500 || status == 408 || status == 425 || status < 200)
	{
		cs_provider_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE,
							 "HTTP status %d%s", status, quoted(doc));
		judgement->retry_after = cs_message_retry_after(response);
	}
	else if (status == 401)
		judge_unauthorized(endpoint, doc, judgement);
	else if (status == 407)
		cs_provider_conclude(judgement, CS_HALT, CS_HALT_UNAUTHORIZED,
							 "the proxy asks for a user name and a password");
	else if (status >= 300 && status < 400)
		judge_redirect(endpoint, response, judgement);
	else if (doc == NULL && is_web_page(response))
	{
		cs_provider_conclude(judgement, CS_HALT,
							 status == 404 ? CS_HALT_URL : CS_HALT_NOT_API,
							 "a web page answers instead of %s (status %d, \"%s\"): check base_url, proxies and firewalls",
							 endpoint->provider->title, status, page_title(response));
		judgement->maybe_contact = (status >= 400 && status != 404);
	}
	else
		return false;
	return true;
}

/* The word for a status that a configuration is to blame for, or NULL. */
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
cs_provider_judge_refusal(const CsEndpoint *endpoint, const CsBatch *batch,
						  const CsResponse *response, CsJson *doc,
						  CsJudgement *judgement)
{
	const char *reason = halt_reason(response->status);

	if (reason)
		cs_provider_conclude(judgement, CS_HALT, reason, "%s refuses: HTTP status %d%s",
							 endpoint->provider->title, response->status, quoted(doc));
	else
	{
		const char *message = cs_provider_error_message(doc);

		reason = response->status == 409 ? CS_REASON_CONFLICT : CS_REASON_REJECTED;
		cs_provider_conclude(judgement, batch->ncontacts > 1 ? CS_SPLIT : CS_REJECT, reason,
							 "%s", message ? message : psprintf("HTTP status %d without a reason",
																response->status));
	}
}

void
cs_provider_judge_unreadable(const CsEndpoint *endpoint, const CsBatch *batch,
							 const CsResponse *response, bool accept,
							 CsJudgement *judgement)
{
	for (int i = 0; accept && i < batch->ncontacts; i++)
		judgement->outcomes[i].note = "the answer was not understood; accepted by the option unreadable_answer";
	if (accept)
		return;
	cs_provider_conclude(judgement, CS_RETRY, CS_REASON_UNREADABLE,
						 "%s answered %d with %s, so it is not known what became of the contacts",
						 endpoint->provider->title, response->status,
						 response->body_len == 0 ? "nothing" : "what is not understood");
}

/* ---------- texts of others ---------- */

/* Every occurrence of "secret" becomes "***"; palloc'd. */
static char *
redact(char *text, const char *secret)
{
	StringInfoData out;
	char	   *found;

	if (strlen(secret) < 4 || strstr(text, secret) == NULL)
		return text;
	initStringInfo(&out);
	while ((found = strstr(text, secret)) != NULL)
	{
		appendBinaryStringInfo(&out, text, (int) (found - text));
		appendStringInfoString(&out, "***");
		text = found + strlen(secret);
	}
	appendStringInfoString(&out, text);
	return out.data;
}

/*
 * A copy that can be stored and shown: short, without control characters or
 * secrets, in the database encoding.  That is converted by hand: there may be
 * no transaction to look a conversion up in, and what cannot be converted
 * would be an error.
 */
char *
cs_provider_clean(const CsEndpoint *endpoint, const char *text)
{
	int			len;
	char	   *copy;
	bool		keep_utf8 = (GetDatabaseEncoding() == PG_UTF8);

	if (text == NULL)
		return NULL;
	copy = pstrdup(text);
	for (int i = 0; i < endpoint->nvalues; i++)
	{
		if (endpoint->values[i].option->secret && endpoint->values[i].value)
			copy = redact(copy, endpoint->values[i].value);
	}

	len = (int) strlen(copy);
	if (len > MAX_TEXT)
		len = pg_encoding_mbcliplen(PG_UTF8, copy, len, MAX_TEXT);
	copy[len] = '\0';
	keep_utf8 = keep_utf8 && pg_verify_mbstr(PG_UTF8, copy, len, true);
	for (int i = 0; i < len; i++)
	{
		if ((unsigned char) copy[i] < 0x20 || copy[i] == 0x7F)
			copy[i] = ' ';
		else if (IS_HIGHBIT_SET(copy[i]) && !keep_utf8)
			copy[i] = '?';
	}
	return copy;
}

/* An identifier is kept whole or not at all. */
static const char *
clean_id(const CsEndpoint *endpoint, const char *id)
{
	return id && *id && strlen(id) <= MAX_TEXT ? cs_provider_clean(endpoint, id) : NULL;
}

void
cs_provider_judge(const CsEndpoint *endpoint, const CsBatch *batch,
				  const CsResponse *response, CsJudgement *judgement)
{
	cs_provider_begin_judgement(batch, judgement);
	endpoint->provider->judge(endpoint, batch, response, judgement);

	judgement->code = cs_provider_clean(endpoint, judgement->code);
	judgement->message = cs_provider_clean(endpoint, judgement->message);
	judgement->field = cs_provider_clean(endpoint, judgement->field);
	judgement->request_id = clean_id(endpoint, judgement->request_id);
	for (int i = 0; i < batch->ncontacts; i++)
	{
		CsOutcome  *outcome = &judgement->outcomes[i];

		outcome->code = cs_provider_clean(endpoint, outcome->code);
		outcome->message = cs_provider_clean(endpoint, outcome->message);
		outcome->field = cs_provider_clean(endpoint, outcome->field);
		outcome->note = cs_provider_clean(endpoint, outcome->note);
		outcome->remote_id = clean_id(endpoint, outcome->remote_id);
		outcome->remote_status = clean_id(endpoint, outcome->remote_status);
		outcome->remote_updated_at = clean_id(endpoint, outcome->remote_updated_at);
	}
}
