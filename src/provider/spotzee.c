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
 * api chooses what is sent, or tries the first and then the other; both forms of
 * answers are accepted.
 *
 * [SRC]: who has no recorded opt-out counts as subscribed, so creating a contact
 * makes it mailable.  So who did not consent is not created, and a withdrawal is
 * recorded as an opt-out by POST /subscriptions/batch, if subscription_id is set.
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
	bool		auto_api;		/* ... or 'auto' */
	const char *subscription_id;	/* NULL: opt-outs are not recorded */
	bool		delete_opt_outs;	/* on_opt_out is 'delete' */
	const char *version;		/* NULL: no such header */
	bool		email_as_id;
	bool		accept_unreadable;
} Spotzee;

static const char *const apis[] = {"auto", "contacts", "users", NULL};
static const char *const opt_out_words[] = {"keep", "delete", NULL};
static const char *const answer_rules[] = {"retry", "accept", NULL};

/* ---------- options ---------- */

static const char *
check_api(const char *value)
{
	return cs_option_check_words(value, apis);
}

static const char *
check_opt_out(const char *value)
{
	return cs_option_check_words(value, opt_out_words);
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
	{.name = "api",.place = CS_ON_SERVER,.payload = true,.check = check_api,.preset = "auto",
	.help = "the generation of the API: \"contacts\", \"users\", as they are called since 2026, or \"auto\", which tries the first and then the other"},
	{.name = "subscription_id",.place = CS_ON_SERVER,.check = cs_option_check_header,
	.help = "the id of the subscription in which opt-outs are recorded"},
	{.name = "on_opt_out",.place = CS_ON_SERVER,.check = check_opt_out,.preset = "keep",
	.help = "what to do with a contact whose opt_in is no longer true, if there is no subscription_id: \"keep\" it, so that it can still be mailed, or \"delete\" it"},
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

	spotzee->auto_api = cs_endpoint_option_word(endpoint, "api", apis) == 0;
	spotzee->users = cs_endpoint_option_word(endpoint, "api", apis) == 2;
	spotzee->subscription_id = cs_endpoint_option(endpoint, "subscription_id");
	spotzee->delete_opt_outs = cs_endpoint_option_word(endpoint, "on_opt_out", opt_out_words) == 1;
	spotzee->version = cs_endpoint_option(endpoint, "version");
	if (spotzee->version && strcmp(spotzee->version, "none") == 0)
		spotzee->version = NULL;
	spotzee->email_as_id = cs_endpoint_option_bool(endpoint, "email_as_id");
	spotzee->accept_unreadable = cs_endpoint_option_word(endpoint, "unreadable_answer",
														 answer_rules) == 1;
	return spotzee;
}

/* The word that the endpoint remembers, which people read in the status. */
#define USERS_STATE		"users: the API has /users, not /contacts"

/* Is the API of the generation that has users? */
static bool
has_users(const Spotzee *spotzee, const char *limitation)
{
	if (spotzee->auto_api)
		return limitation && strcmp(limitation, USERS_STATE) == 0;
	return spotzee->users;
}

static const char *
path_of(const Spotzee *spotzee, const char *limitation)
{
	return has_users(spotzee, limitation) ? "/users" : "/contacts";
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
write_data(StringInfo out, bool users, const CsContact *contact, bool nulls)
{
	int			start = out->len;

	cs_json_key(out, "data");
	appendStringInfoCharMacro(out, '{');
	if (users && !cs_contact_attribute(contact, "first_name"))
		write_field(out, contact, CS_FIRST_NAME, nulls);
	if (users && !cs_contact_attribute(contact, "last_name"))
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
write_contact(StringInfo out, bool users, const CsContact *contact, bool nulls)
{
	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "external_id", contact->value[CS_EXTERNAL_ID]);
	write_field(out, contact, CS_EMAIL, nulls);
	write_field(out, contact, CS_PHONE, nulls);
	write_field(out, contact, CS_LOCALE, nulls);
	write_field(out, contact, CS_TIMEZONE, nulls);
	if (!users)
	{
		write_field(out, contact, CS_FIRST_NAME, nulls);
		write_field(out, contact, CS_LAST_NAME, nulls);
	}
	write_data(out, users, contact, nulls);
	appendStringInfoCharMacro(out, '}');
}

static void
write_batch(StringInfo out, bool users, const CsBatch *batch, bool nulls)
{
	Assert(batch->ncontacts >= 1 && batch->ncontacts <= MAX_BATCH);
	appendStringInfoString(out, users ? "[" : "{\"contacts\":[");
	for (int i = 0; i < batch->ncontacts; i++)
	{
		cs_json_comma(out);
		write_contact(out, users, batch->contacts[i], nulls);
	}
	appendStringInfoString(out, users ? "]" : "]}");
}

/* ---------- consent ---------- */

enum
{
	STEP_UPSERT,
	STEP_SUBSCRIPTION			/* record what became of consent */
};

#define STATE_OPTED_OUT		0
#define STATE_SUBSCRIBED	1

/* The state to be recorded, or -1.  A new contact is subscribed by itself. */
static int
subscription_state(const Spotzee *spotzee, const CsContact *contact)
{
	if (spotzee->subscription_id == NULL || contact->action != CS_UPSERT)
		return -1;
	if (contact->consent == CS_CONSENT_NO)
		return STATE_OPTED_OUT;
	return contact->consent == CS_CONSENT_YES && contact->claim == CS_CLAIM && contact->known ?
		STATE_SUBSCRIBED : -1;
}

/* Who did not consent is not created, nor is anybody created again without a word. */
static bool
withholds(const CsEndpoint *endpoint, const CsContact *contact)
{
	bool		mapped = (contact->present & CS_FIELD_BIT(CS_OPT_IN)) != 0;

	if (contact->known)
		return false;
	return (mapped && contact->consent != CS_CONSENT_YES) ||
		(contact->claim == CS_CLAIM_NOT && (contact->opted_out || contact->claimed));
}

static bool
deletes_opt_outs(const CsEndpoint *endpoint)
{
	const Spotzee *spotzee = cs_provider_settings(endpoint);

	return spotzee->delete_opt_outs && spotzee->subscription_id == NULL;
}

/* Whoever is created is subscribed. */
static bool
implies_consent(const CsEndpoint *endpoint)
{
	return true;
}

/* [SRC]: an array of {external_id, subscription_id, state}. */
static void
write_subscriptions(StringInfo out, const Spotzee *spotzee, const CsBatch *batch)
{
	appendStringInfoCharMacro(out, '[');
	for (int i = 0; i < batch->ncontacts; i++)
	{
		int			state = subscription_state(spotzee, batch->contacts[i]);

		if (state < 0)
			continue;
		cs_json_comma(out);
		appendStringInfoCharMacro(out, '{');
		cs_json_member(out, "external_id", batch->contacts[i]->upsert_key);
		if (strspn(spotzee->subscription_id, "0123456789") == strlen(spotzee->subscription_id))
			cs_json_member_raw(out, "subscription_id", spotzee->subscription_id);
		else
			cs_json_member(out, "subscription_id", spotzee->subscription_id);
		cs_json_member_raw(out, "state", state == STATE_OPTED_OUT ? "0" : "1");
		appendStringInfoCharMacro(out, '}');
	}
	appendStringInfoCharMacro(out, ']');
}

static void
build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
{
	const Spotzee *spotzee = cs_provider_settings(endpoint);
	const char *path = path_of(spotzee, batch->limitation);

	cs_message_add_header(request, "Accept", "application/json");
	if (spotzee->version)
		cs_message_add_header(request, "Spotzee-Version", spotzee->version);
	if (batch->action == CS_DELETE)
	{
		request->method = "DELETE";
		request->url = psprintf("%s%s/%s", endpoint->base_url, path,
								cs_url_encode(batch->contacts[0]->upsert_key));
		return;
	}

	request->method = "POST";
	cs_message_add_header(request, "Content-Type", "application/json");
	initStringInfo(&request->body);
	if (batch->step == STEP_SUBSCRIPTION)
	{
		request->url = psprintf("%s/subscriptions/batch", endpoint->base_url);
		write_subscriptions(&request->body, spotzee, batch);
	}
	else
	{
		request->url = psprintf("%s%s/batch", endpoint->base_url, path);
		write_batch(&request->body, has_users(spotzee, batch->limitation), batch,
					endpoint->nulls_clear);
	}
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

/* How many contacts the request was about. */
static int
count_asked(const Spotzee *spotzee, const CsBatch *batch)
{
	int			n = 0;

	for (int i = 0; i < batch->ncontacts; i++)
		n += batch->step != STEP_SUBSCRIPTION ||
			subscription_state(spotzee, batch->contacts[i]) >= 0;
	return n;
}

/* The contacts are written: consent is claimed by that, or is to be recorded. */
static void
judge_consent(const Spotzee *spotzee, const CsBatch *batch, CsJudgement *judgement)
{
	bool		record = false;

	for (int i = 0; i < batch->ncontacts; i++)
	{
		const CsContact *contact = batch->contacts[i];

		if (contact->consent == CS_CONSENT_YES && contact->claim != CS_CLAIM_NOT)
			judgement->outcomes[i].claimed = true;
		record |= judgement->outcomes[i].kind == CS_OUTCOME_OK &&
			subscription_state(spotzee, contact) >= 0;
	}
	if (batch->step == STEP_UPSERT && record)
	{
		cs_answer_conclude(judgement, CS_STEP, NULL, "the contacts are written, subscriptions are next");
		judgement->next_step = STEP_SUBSCRIPTION;
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
		items.nseen < count_asked(spotzee, batch))
	{
		cs_answer_judge_unreadable(endpoint, batch, response, spotzee->accept_unreadable,
								   judgement);
		return;
	}
	if (failed < 0 && succeeded >= 0)
		failed = count_asked(spotzee, batch) - succeeded;
	failed = Max(failed, items.nfailed + items.nunattributed);
	missing = Min(failed, batch->ncontacts) - items.nfailed;
	if (missing > 0)
		judge_unattributed(batch, (int) missing, &items, judgement);
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

/* [SRC]: a refusal has top-level errors[] per field: {param, code, message}. */
static void
judge_refusal(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			  const char *code, CsJson *doc, CsJudgement *judgement)
{
	const Spotzee *spotzee = cs_provider_settings(endpoint);
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
			 batch->step == STEP_UPSERT)
	{
		cs_answer_conclude(judgement, CS_REKEY, CS_HALT_URL, "there is no %s; the other path is next",
						   path_of(spotzee, batch->limitation));
		judgement->limitation = has_users(spotzee, batch->limitation) ? "" : USERS_STATE;
	}
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
		psprintf("%s%s?limit=1", endpoint->base_url, path_of(spotzee, endpoint->limitation));
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
	request->url = psprintf("%s%s/%s", endpoint->base_url, path_of(spotzee, endpoint->limitation),
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
	 CS_FIELD_BIT(CS_TIMEZONE) | CS_FIELD_BIT(CS_OPT_IN) | \
	 CS_FIELD_BIT(CS_OPT_IN_AT) | CS_FIELD_BIT(CS_ATTRIBUTES))

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
	.withholds = withholds,
	.deletes_opt_outs = deletes_opt_outs,
	.implies_consent = implies_consent,
	.build_check = build_check,
	.judge_check = judge_check,
	.build_lookup = build_lookup,
	.read_contact = read_contact,
};
