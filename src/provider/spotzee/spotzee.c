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
 * request.c has what is sent, answer.c reads what comes back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/spotzee/answer.h"
#include "provider/spotzee/request.h"

static const char *const apis[] = {"auto", "contacts", "users", NULL};
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
	{.name = "api",.place = CS_ON_SERVER,.payload = true,.check = check_api,.preset = "auto",
	.help = "the generation of the API: \"contacts\", \"users\", as they are called since 2026, or \"auto\", which tries the first and then the other"},
	{.name = "subscription_id",.place = CS_ON_SERVER,.check = cs_option_check_header,
	.help = "the id of the subscription in which opt-outs are recorded"},
	{.name = "on_opt_out",.place = CS_ON_SERVER,.check = cs_option_check_opt_out,.preset = "keep",
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
	CsSpotzee  *spotzee = palloc0(sizeof(CsSpotzee));

	spotzee->auto_api = cs_endpoint_option_word(endpoint, "api", apis) == 0;
	spotzee->users = cs_endpoint_option_word(endpoint, "api", apis) == 2;
	spotzee->subscription_id = cs_endpoint_option(endpoint, "subscription_id");
	spotzee->delete_opt_outs = cs_endpoint_option_word(endpoint, "on_opt_out", cs_option_opt_out_words) ==
		CS_OPT_OUT_DELETE;
	spotzee->version = cs_endpoint_option(endpoint, "version");
	if (spotzee->version && strcmp(spotzee->version, "none") == 0)
		spotzee->version = NULL;
	spotzee->email_as_id = cs_endpoint_option_bool(endpoint, "email_as_id");
	spotzee->accept_unreadable = cs_endpoint_option_word(endpoint, "unreadable_answer",
														 answer_rules) == 1;
	return spotzee;
}

/* ---------- consent ---------- */

static bool
deletes_opt_outs(const CsEndpoint *endpoint)
{
	const CsSpotzee *spotzee = cs_provider_settings(endpoint);

	return spotzee->delete_opt_outs && spotzee->subscription_id == NULL;
}

static bool
records_opt_outs(const CsEndpoint *endpoint)
{
	const CsSpotzee *spotzee = cs_provider_settings(endpoint);

	return spotzee->subscription_id != NULL;
}

/* Whether it exists is looked up first. */
static bool
updates_withheld(const CsEndpoint *endpoint, const CsContact *contact)
{
	return cs_contact_check_path("external_id", contact->upsert_key) == NULL;
}

/* Whoever is created is subscribed. */
static bool
implies_consent(const CsEndpoint *endpoint)
{
	return true;
}

/* ---------- lookups ---------- */

/* [DOC]: GET /me, and the X-Total-Count of a list. */
static bool
build_check(const CsEndpoint *endpoint, int n, CsRequest *request)
{
	const CsSpotzee *spotzee = cs_provider_settings(endpoint);

	if (n > 1)
		return false;
	request->method = "GET";
	cs_spotzee_add_headers(spotzee, request);
	request->url = n == 0 ? psprintf("%s/me", endpoint->base_url) :
		psprintf("%s%s?limit=1", endpoint->base_url, cs_spotzee_path(spotzee, endpoint->limitation));
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
	const CsSpotzee *spotzee = cs_provider_settings(endpoint);

	if (cs_contact_check_path("external_id", contact->upsert_key) != NULL)
		return false;
	request->method = "GET";
	cs_spotzee_add_headers(spotzee, request);
	request->url = cs_spotzee_contact_url(endpoint, endpoint->limitation, contact);
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
	CsJson	   *user = cs_spotzee_find_contact(doc);

	remote->contact = palloc0(sizeof(CsContact));
	remote->id = cs_json_text(cs_json_get(user, "id"));
	remote->updated_at = cs_json_text(cs_json_get(user, "updated_at"));
	cs_contact_read_attributes(remote->contact, cs_json_get(user, "data"), names);
	for (int i = 0; i < (int) lengthof(fields); i++)
		cs_contact_set_json(remote->contact, fields[i],
							cs_json_get(user, cs_contact_field_name(fields[i])));
	return remote->contact->value[CS_EXTERNAL_ID] != NULL;
}

static int
batch_limit(const CsEndpoint *endpoint, CsAction action, int step)
{
	return action == CS_DELETE || step == CS_SPOTZEE_STEP_DELETE ? 1 : CS_SPOTZEE_BATCH;
}

#define FIELDS \
	(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_EXTERNAL_ID) | \
	 CS_FIELD_BIT(CS_FIRST_NAME) | CS_FIELD_BIT(CS_LAST_NAME) | \
	 CS_FIELD_BIT(CS_PHONE) | CS_FIELD_BIT(CS_LOCALE) | \
	 CS_FIELD_BIT(CS_TIMEZONE) | CS_FIELD_BIT(CS_OPT_IN) | \
	 CS_FIELD_BIT(CS_OPT_IN_AT) | CS_FIELD_BIT(CS_ATTRIBUTES))

CS_ADAPTER(cs_spotzee);

const CsProvider cs_spotzee = {
	.name = "spotzee",
	.title = "Spotzee",
	.base_url = "https://apix.spotzee.com/api/client",
	.max_batch = CS_SPOTZEE_BATCH,
	.pace = 50,					/* limit: 1000 in 10 s per address */
	.burst = 10,
	.concurrency = 4,
	.max_retries = 5,
	.auth = CS_AUTH_BEARER,
	.fields = FIELDS,
	.required = CS_FIELD_BIT(CS_EXTERNAL_ID),
	.abilities = CS_CAN_DELETE | CS_HAS_IDEMPOTENCY,
	/* [SRC] */
	.mails_whoever_exists = "Spotzee counts everybody as subscribed who has no recorded opt-out.",
	.options = options,
	.url_option = "api",
	.build = cs_spotzee_build,
	.judge = cs_spotzee_judge,
	.prepare = cs_spotzee_prepare,
	.batch_limit = batch_limit,
	.configure = configure,
	.deletes_opt_outs = deletes_opt_outs,
	.updates_withheld = updates_withheld,
	.records_opt_outs = records_opt_outs,
	.implies_consent = implies_consent,
	.build_check = build_check,
	.judge_check = judge_check,
	.build_lookup = build_lookup,
	.read_contact = read_contact,
};
