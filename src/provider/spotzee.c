/*-------------------------------------------------------------------------
 *
 * spotzee.c
 *		Spotzee: POST /contacts/batch, up to 100 contacts per call, with an
 *		idempotency key.
 *
 * From the page "Sync contacts" [SEED]: external_id on every contact, which is
 * the upsert key; first-class fields and data for everything else; a key per
 * batch, the same for a retry; failed items in errors[] by external_id, to be
 * sent again in a new request.  From its source and from the page that
 * replaced it [SRC]: {"contacts":[...]} and Spotzee-Version; today an array
 * to /users/batch with names inside data, answered by results[].  The option
 * api chooses what is sent; both forms of answers are accepted.
 *
 * Spotzee stores the 2xx or 4xx of a key for a day.  So the key is computed from
 * everything in which batches differ (cs_provider_idempotency_key): a retry of a
 * lost call gets the stored answer, a new change never does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/answer.h"
#include "provider/batch_results.h"
#include "provider/email.h"
#include "provider/provider.h"

#define MAX_BATCH		100
#define MAX_LOCALE		255		/* characters */
#define MAX_TIMEZONE	50

typedef struct Spotzee
{
	bool		users;			/* option api is 'users' */
	const char *path;			/* /contacts or /users */
	const char *version;		/* NULL: no such header */
	bool		email_as_id;
	bool		accept_unreadable;
} Spotzee;

static const char *const apis[] = {"contacts", "users", NULL};
static const char *const answer_rules[] = {"retry", "accept", NULL};

/* ---------- options ---------- */

static const char *
check_api(const char *value)
{
	return cs_option_check_words(value, apis);
}

static const char *
check_answer_rule(const char *value)
{
	return cs_option_check_words(value, answer_rules);
}

static const char *
check_version(const char *value)
{
	if (strcmp(value, "none") == 0 ||
		(strlen(value) == 10 && strspn(value, "0123456789-") == 10))
		return NULL;
	return "must be a date such as \"2026-04-28\", or \"none\"";
}

static const CsOption options[] = {
	{.name = "api",.place = CS_ON_SERVER,.payload = true,.check = check_api,.preset = "contacts",
	.help = "the generation of the API: \"contacts\", or \"users\", as they are called since 2026"},
	{.name = "version",.place = CS_ON_SERVER,.check = check_version,.preset = "2026-04-28",
	.help = "the value of the header Spotzee-Version, or \"none\""},
	{.name = "email_as_id",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "false",
	.help = "whether external_id may be the email address, although addresses change"},
	{.name = "unreadable_answer",.place = CS_ON_SERVER,.check = check_answer_rule,.preset = "retry",
	.help = "what to do after a 2xx that does not say what happened to the contacts: \"retry\" or \"accept\""},
	{.name = NULL}
};

static const void *
configure(const CsEndpoint *endpoint)
{
	Spotzee    *spotzee = palloc0(sizeof(Spotzee));

	spotzee->users = cs_endpoint_option_word(endpoint, "api", apis) == 1;
	spotzee->path = spotzee->users ? "/users" : "/contacts";
	spotzee->version = cs_endpoint_option(endpoint, "version");
	if (spotzee->version && strcmp(spotzee->version, "none") == 0)
		spotzee->version = NULL;
	spotzee->email_as_id = cs_endpoint_option_bool(endpoint, "email_as_id");
	spotzee->accept_unreadable = cs_endpoint_option_word(endpoint, "unreadable_answer",
														 answer_rules) == 1;
	return spotzee;
}

/* ---------- contacts ---------- */

static CsRefusal *
check_length(const CsContact *contact, CsField field, int max)
{
	const char *value = contact->value[field];

	if (value == NULL || cs_contact_text_length(value) <= max)
		return NULL;
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, cs_contact_field_name(field),
							 "%s has more than %d characters",
							 cs_contact_field_name(field), max);
}

/*
 * [SEED]: "a field ... that uniquely identifies a customer and never changes".
 * [SRC]: "Don't use the email as external_id (emails change)".
 */
static CsRefusal *
prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const Spotzee *spotzee = cs_provider_settings(endpoint);
	const char *id;
	CsRefusal  *refusal;

	if (contact->action == CS_UNSUBSCRIBE)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL,
								 "Spotzee manages subscriptions separately from contacts, but it can delete contacts");
	if (contact->value[CS_EXTERNAL_ID] == NULL && contact->action != CS_UPSERT)
		contact->value[CS_EXTERNAL_ID] = contact->upsert_key;
	id = contact->value[CS_EXTERNAL_ID];
	if (id == NULL || *id == '\0')
		return cs_contact_refuse(CS_REASON_MISSING_FIELD, "external_id",
								 "external_id is empty, and Spotzee requires it");
	if (contact->value[CS_EMAIL] && !spotzee->email_as_id && strchr(id, '@') &&
		strcmp(cs_email_normalize(id), contact->value[CS_EMAIL]) == 0)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, "external_id",
								 "external_id is the email address, which may change (see the option email_as_id)");
	contact->upsert_key = contact->value[CS_EXTERNAL_ID];
	if (contact->action == CS_DELETE)
		return cs_contact_check_path("external_id", id);

	refusal = check_length(contact, CS_LOCALE, MAX_LOCALE);
	return refusal ? refusal : check_length(contact, CS_TIMEZONE, MAX_TIMEZONE);
}

/* ---------- requests ---------- */

/* Write a field, unless it is null and nulls are left out. */
static void
write_field(StringInfo out, const CsContact *contact, CsField field, bool nulls)
{
	if ((contact->present & CS_FIELD_BIT(field)) && (contact->value[field] || nulls) &&
		field != CS_ATTRIBUTES)
		cs_json_member(out, cs_contact_field_name(field), contact->value[field]);
}

/*
 * [SEED]: everything that is not first-class goes into data.  [SRC]: so do the
 * names, since contacts became users.  An attribute takes precedence over a field
 * of that name.
 */
static void
write_data(StringInfo out, const Spotzee *spotzee, const CsContact *contact, bool nulls)
{
	int			start = out->len;

	cs_json_key(out, "data");
	appendStringInfoCharMacro(out, '{');
	if (spotzee->users && !cs_contact_attribute(contact, "first_name"))
		write_field(out, contact, CS_FIRST_NAME, nulls);
	if (spotzee->users && !cs_contact_attribute(contact, "last_name"))
		write_field(out, contact, CS_LAST_NAME, nulls);
	for (int i = 0; i < contact->nattributes; i++)
	{
		const CsAttribute *attribute = &contact->attributes[i];

		if (nulls || strcmp(attribute->json, "null") != 0)
			cs_json_member_raw(out, attribute->name, attribute->json);
	}

	if (out->data[out->len - 1] == '{')
	{
		out->len = start;		/* empty: leave the member out */
		out->data[start] = '\0';
	}
	else
		appendStringInfoCharMacro(out, '}');
}

static void
write_contact(StringInfo out, const Spotzee *spotzee, const CsContact *contact, bool nulls)
{
	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "external_id", contact->value[CS_EXTERNAL_ID]);
	write_field(out, contact, CS_EMAIL, nulls);
	write_field(out, contact, CS_PHONE, nulls);
	write_field(out, contact, CS_LOCALE, nulls);
	write_field(out, contact, CS_TIMEZONE, nulls);
	if (!spotzee->users)
	{
		write_field(out, contact, CS_FIRST_NAME, nulls);
		write_field(out, contact, CS_LAST_NAME, nulls);
	}
	write_data(out, spotzee, contact, nulls);
	appendStringInfoCharMacro(out, '}');
}

static void
write_batch(StringInfo out, const Spotzee *spotzee, const CsBatch *batch, bool nulls)
{
	Assert(batch->ncontacts >= 1 && batch->ncontacts <= MAX_BATCH);
	appendStringInfoString(out, spotzee->users ? "[" : "{\"contacts\":[");
	for (int i = 0; i < batch->ncontacts; i++)
	{
		cs_json_comma(out);
		write_contact(out, spotzee, batch->contacts[i], nulls);
	}
	appendStringInfoString(out, spotzee->users ? "]" : "]}");
}

static void
build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
{
	const Spotzee *spotzee = cs_provider_settings(endpoint);

	cs_message_add_header(request, "Accept", "application/json");
	if (spotzee->version)
		cs_message_add_header(request, "Spotzee-Version", spotzee->version);
	if (batch->action == CS_DELETE)
	{
		request->method = "DELETE";
		request->url = psprintf("%s%s/%s", endpoint->base_url, spotzee->path,
								cs_url_encode(batch->contacts[0]->upsert_key));
		return;
	}

	request->method = "POST";
	request->url = psprintf("%s%s/batch", endpoint->base_url, spotzee->path);
	cs_message_add_header(request, "Content-Type", "application/json");
	initStringInfo(&request->body);
	write_batch(&request->body, spotzee, batch, endpoint->nulls_clear);
	request->idempotency_key = cs_provider_idempotency_key(batch, &request->body);
	cs_message_add_header(request, "Idempotency-Key", request->idempotency_key);
}

static int
batch_limit(CsAction action, int step)
{
	return action == CS_DELETE ? 1 : MAX_BATCH;
}

/* ---------- answers ---------- */

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

/* Split a batch whose failures are counted but not named; a single contact fails. */
static void
judge_unattributed(const CsBatch *batch, int count, const CsBatchResults *items,
				   CsJudgement *judgement)
{
	const char *message = items->unattributed_message;

	if (batch->ncontacts > 1)
		cs_answer_conclude(judgement, CS_SPLIT, CS_REASON_REJECTED,
						   "%d of %d contacts failed, but the answer does not say which",
						   count, batch->ncontacts);
	else
		cs_answer_reject_contact(&judgement->outcomes[0], CS_REASON_REJECTED, NULL,
								 message ? message : "Spotzee refused the contact without a reason");
}

/*
 * [SEED]: errors[] names the items that failed, the others are committed.
 * [SRC]: results[] has one of user or error for each, beside counts.
 */
static void
judge_batch(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			CsJson *doc, CsJudgement *judgement)
{
	const Spotzee *spotzee = cs_provider_settings(endpoint);
	CsJson	   *errors = cs_json_get(doc, "errors");
	CsBatchResults items;
	int64		succeeded = -1;
	int64		failed = -1;
	int64		missing;

	cs_batch_results_begin(&items, batch, judgement);
	cs_batch_results_read(&items, cs_json_get(doc, "results"));
	cs_batch_results_read(&items, cs_json_get(doc, "contacts"));
	cs_batch_results_read(&items, cs_json_get(doc, "users"));
	cs_batch_results_read_failures(&items, errors);
	(void) cs_json_int(cs_json_get(doc, "succeeded"), &succeeded);
	(void) cs_json_int(cs_json_get(doc, "failed"), &failed);

	if (cs_json_length(errors) < 0 && failed < 0 && succeeded < 0 &&
		items.nseen < batch->ncontacts)
	{
		cs_answer_judge_unreadable(endpoint, batch, response, spotzee->accept_unreadable,
								   judgement);
		return;
	}
	if (failed < 0 && succeeded >= 0)
		failed = batch->ncontacts - succeeded;
	failed = Max(failed, items.nfailed + items.nunattributed);
	missing = Min(failed, batch->ncontacts) - items.nfailed;
	if (missing > 0)
		judge_unattributed(batch, (int) missing, &items, judgement);
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

/* [SRC]: a refusal has top-level errors[] per field: {param, code, message}. */
static void
judge_refusal(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			  const char *code, CsJson *doc, CsJudgement *judgement)
{
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
	else if (response->status == 404)
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_URL,
						   "nothing exists at this URL, check the options base_url and api: %s",
						   message ? message : "HTTP status 404");
}

/* [SRC]: 204, asynchronous; a contact that does not exist counts as deleted. */
static bool
judge_deletion(const CsResponse *response, const char *code, CsJudgement *judgement)
{
	if (response->status == 404 && is_code(code, "resource_missing"))
		judgement->outcomes[0].note = "there was no such contact";
	else if (response->status >= 300)
		return false;
	return true;
}

static void
judge(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
	  CsJudgement *judgement)
{
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);
	const char *code = error_code(doc);

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
	else if (batch->action == CS_DELETE && judge_deletion(response, code, judgement))
		return;
	else if (response->status >= 300 && judge_conflict(response, code, doc, judgement))
		return;
	else if (response->status >= 300)
		judge_refusal(endpoint, batch, response, code, doc, judgement);
	else
		judge_batch(endpoint, batch, response, doc, judgement);
}

/* ---------- lookups ---------- */

static void
begin_get(const Spotzee *spotzee, CsRequest *request)
{
	request->method = "GET";
	cs_message_add_header(request, "Accept", "application/json");
	if (spotzee->version)
		cs_message_add_header(request, "Spotzee-Version", spotzee->version);
}

/* [DOC]: GET /me, and the X-Total-Count of a list. */
static bool
build_check(const CsEndpoint *endpoint, int n, CsRequest *request)
{
	const Spotzee *spotzee = cs_provider_settings(endpoint);

	if (n > 1)
		return false;
	begin_get(spotzee, request);
	request->url = n == 0 ? psprintf("%s/me", endpoint->base_url) :
		psprintf("%s%s?limit=1", endpoint->base_url, spotzee->path);
	return true;
}

static void
judge_check(const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
			const CsResponse *response, CsJson *doc, CsFinding *finding)
{
	char	   *total;

	finding->name = n == 0 ? "project" : "contacts";
	if (n == 0)
	{
		finding->theirs = cs_json_text(cs_json_get(doc, "name"));
		if (finding->theirs == NULL)
			finding->theirs = cs_json_text(cs_json_get(doc, "id"));
		finding->result = cs_json_is_object(doc) ? CS_FINDING_OK : CS_FINDING_UNAVAILABLE;
		return;
	}
	total = cs_message_header(response, "x-total-count");
	if (total && *total && strspn(total, "0123456789") == strlen(total) && strlen(total) < 18)
		cs_answer_compare_counts(finding, local, strtoll(total, NULL, 10));
	else
		finding->detail = "the answer has no header X-Total-Count";
}

static bool
build_lookup(const CsEndpoint *endpoint, const CsContact *contact, CsRequest *request)
{
	const Spotzee *spotzee = cs_provider_settings(endpoint);

	if (cs_contact_check_path("external_id", contact->upsert_key) != NULL)
		return false;
	begin_get(spotzee, request);
	request->url = psprintf("%s%s/%s", endpoint->base_url, spotzee->path,
							cs_url_encode(contact->upsert_key));
	return true;
}

/* Names are in data for users, and beside it for contacts. */
static bool
read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemoteContact *remote)
{
	static const CsField fields[] = {
		CS_EMAIL, CS_EXTERNAL_ID, CS_PHONE, CS_LOCALE, CS_TIMEZONE, CS_FIRST_NAME, CS_LAST_NAME
	};
	static const char *const names[CS_FIELD_COUNT] = {
		[CS_FIRST_NAME] = "first_name",[CS_LAST_NAME] = "last_name"
	};
	CsJson	   *user = cs_json_get(doc, "user");

	if (user == NULL)
		user = cs_json_get(doc, "contact");
	if (user == NULL)
		user = doc;
	remote->contact = palloc0(sizeof(CsContact));
	remote->id = cs_json_text(cs_json_get(user, "id"));
	remote->updated_at = cs_json_text(cs_json_get(user, "updated_at"));
	cs_contact_read_attributes(remote->contact, cs_json_get(user, "data"), names);
	for (int i = 0; i < (int) lengthof(fields); i++)
		cs_contact_set_json(remote->contact, fields[i],
							cs_json_get(user, cs_contact_field_name(fields[i])));
	return remote->contact->value[CS_EXTERNAL_ID] != NULL;
}

#define FIELDS \
	(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_EXTERNAL_ID) | \
	 CS_FIELD_BIT(CS_FIRST_NAME) | CS_FIELD_BIT(CS_LAST_NAME) | \
	 CS_FIELD_BIT(CS_PHONE) | CS_FIELD_BIT(CS_LOCALE) | \
	 CS_FIELD_BIT(CS_TIMEZONE) | CS_FIELD_BIT(CS_ATTRIBUTES))

const CsProvider cs_spotzee = {
	.name = "spotzee",
	.title = "Spotzee",
	.base_url = "https://apix.spotzee.com/api/client",
	.max_batch = MAX_BATCH,
	.pace = 50,					/* limit: 1000 in 10 s per address */
	.burst = 10,
	.concurrency = 4,
	.max_retries = 5,
	.auth = CS_AUTH_BEARER,
	.fields = FIELDS,
	.required = CS_FIELD_BIT(CS_EXTERNAL_ID),
	.abilities = CS_CAN_DELETE | CS_HAS_IDEMPOTENCY,
	.options = options,
	.build = build,
	.judge = judge,
	.prepare = prepare,
	.batch_limit = batch_limit,
	.configure = configure,
	.build_check = build_check,
	.judge_check = judge_check,
	.build_lookup = build_lookup,
	.read_contact = read_contact,
};
