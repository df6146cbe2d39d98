/*-------------------------------------------------------------------------
 *
 * mailingcore.c
 *		MailingCore: POST /contacts/bulk, up to 1000 contacts per call.
 *
 * From the page "Bulk import" [SEED]: both headers, the body, 1 to 1000
 * contacts, keyed by externalId if present, else by email; "200 with a summary
 * of created, updated, and failed rows"; 400 and 403.  From other pages [DOC]:
 * PUT /contacts for one, DELETE /contacts/{externalId}, six locales, 300 calls
 * per minute with X-RateLimit-Reset, 409 for a conflict of externalId, and that
 * people who opted out must not be imported again with optIn true.
 *
 * request.c has what is sent, answer.c reads what comes back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/answer.h"
#include "provider/mailingcore/answer.h"
#include "provider/mailingcore/request.h"

#define MAX_LABEL			64	/* of source and consentVersion */

enum
{
	PULL_AUTO,
	PULL_PAGE,
	PULL_CURSOR
};

static const char *const locale_rules[] = {"base", "omit", "send", "reject", NULL};
static const char *const failure_rules[] = {"resend", "reject", NULL};
static const char *const answer_rules[] = {"retry", "accept", NULL};
static const char *const pull_modes[] = {"auto", "page", "cursor", NULL};

/* ---------- options ---------- */

static const char *
check_locale_rule(const char *value)
{
	return cs_option_check_words(value, locale_rules);
}

static const char *
check_failure_rule(const char *value)
{
	return cs_option_check_words(value, failure_rules);
}

static const char *
check_answer_rule(const char *value)
{
	return cs_option_check_words(value, answer_rules);
}

static const char *
check_pull_mode(const char *value)
{
	return cs_option_check_words(value, pull_modes);
}

/* [DOC contacts-overview]: limit, at most 500. */
static const char *
check_pull_page(const char *value)
{
	return cs_option_check_positive_int(value) || atoi(value) > 500 ? "must be from 1 to 500" : NULL;
}

static const char *
check_label(const char *value)
{
	return strlen(value) > MAX_LABEL ? "must have at most 64 characters" : NULL;
}

static const CsOption options[] = {
	{.name = "tenant_id",.place = CS_ON_SERVER,.check = cs_option_check_header,
	.help = "the value of the header X-Tenant-Id"},
	{.name = "require_tenant",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "true",
	.help = "whether a server without tenant_id is refused"},
	{.name = "project_id",.place = CS_ON_SERVER,.payload = true,
	.help = "the projectId of every contact"},
	{.name = "source",.place = CS_ON_SERVER,.payload = true,.check = check_label,
	.help = "the source of every contact, such as \"import\""},
	{.name = "consent_version",.place = CS_ON_SERVER,.check = check_label,
	.help = "the consentVersion of contacts that opted in"},
	{.name = "unsupported_locale",.place = CS_ON_SERVER,.check = check_locale_rule,.preset = "base",
	.help = "what to do with locales other than es, en, it, fr, ca and de: \"base\" (en for en-GB, else omit), \"omit\", \"send\" or \"reject\""},
	{.name = "on_unattributed_failure",.place = CS_ON_SERVER,.check = check_failure_rule,.preset = "resend",
	.help = "what to do if an answer counts failures without naming them: \"resend\", until it is clear which contacts fail, or \"reject\" all that could be meant"},
	{.name = "unreadable_answer",.place = CS_ON_SERVER,.check = check_answer_rule,.preset = "retry",
	.help = "what to do after a 2xx without a summary: \"retry\" or \"accept\""},
	{.name = "campaign_id",.place = CS_ON_SERVER,
	.help = "the ID of the campaign whose locales contactsync_verify() checks"},
	{.name = "pull_mode",.place = CS_ON_SERVER,.check = check_pull_mode,.preset = "auto",
	.help = "how contactsync_pull() gets from page to page: \"cursor\", \"page\", or \"auto\", which uses the cursor if there is one"},
	{.name = "pull_page",.place = CS_ON_SERVER,.check = check_pull_page,.preset = "500",
	.help = "the number of contacts per page of contactsync_pull()"},
	{.name = "first_name_attribute",.place = CS_ON_SERVER,.payload = true,.preset = "firstName",
	.help = "the name of the attribute that holds first_name"},
	{.name = "last_name_attribute",.place = CS_ON_SERVER,.payload = true,.preset = "lastName",
	.help = "the name of the attribute that holds last_name"},
	{.name = "phone_attribute",.place = CS_ON_SERVER,.payload = true,.preset = "phone",
	.help = "the name of the attribute that holds phone"},
	{.name = "timezone_attribute",.place = CS_ON_SERVER,.payload = true,.preset = "timezone",
	.help = "the name of the attribute that holds timezone"},
	{.name = NULL}
};

static const void *
configure(const CsEndpoint *endpoint)
{
	CsMailingCore *settings = palloc0(sizeof(CsMailingCore));

	settings->tenant_id = cs_endpoint_option(endpoint, "tenant_id");
	settings->project_id = cs_endpoint_option(endpoint, "project_id");
	settings->source = cs_endpoint_option(endpoint, "source");
	settings->consent_version = cs_endpoint_option(endpoint, "consent_version");
	settings->locale_rule = cs_endpoint_option_word(endpoint, "unsupported_locale", locale_rules);
	settings->resend = cs_endpoint_option_word(endpoint, "on_unattributed_failure", failure_rules) == 0;
	settings->accept_unreadable = cs_endpoint_option_word(endpoint, "unreadable_answer", answer_rules) == 1;
	settings->attribute[CS_FIRST_NAME] = cs_endpoint_option(endpoint, "first_name_attribute");
	settings->attribute[CS_LAST_NAME] = cs_endpoint_option(endpoint, "last_name_attribute");
	settings->attribute[CS_PHONE] = cs_endpoint_option(endpoint, "phone_attribute");
	settings->attribute[CS_TIMEZONE] = cs_endpoint_option(endpoint, "timezone_attribute");
	return settings;
}

/* [DOC api/multi-tenant]: X-Tenant-Id is required on almost all routes. */
static const char *
check_options(const CsEndpoint *endpoint)
{
	if (cs_endpoint_option(endpoint, "tenant_id") == NULL &&
		cs_endpoint_option_bool(endpoint, "require_tenant"))
		return "MailingCore needs the option tenant_id, unless require_tenant is 'false'";
	return NULL;
}

static int
batch_limit(const CsEndpoint *endpoint, CsAction action, int step)
{
	return action == CS_DELETE || step == CS_MAILINGCORE_SINGLE ? 1 : CS_MAILINGCORE_BATCH;
}

/* ---------- lookups ---------- */

static void
begin_get(const CsEndpoint *endpoint, CsRequest *request)
{
	const CsMailingCore *settings = cs_provider_settings(endpoint);

	request->method = "GET";
	if (settings->tenant_id)
		cs_message_add_header(request, "X-Tenant-Id", settings->tenant_id);
	cs_message_add_header(request, "Accept", "application/json");
}

/*
 * [DOC contacts-overview]: GET /contacts, scope contacts:read.  [DOC
 * locale-coverage]: GET /campaigns/{id}/locale-coverage, scope campaigns:read.
 */
static bool
build_check(const CsEndpoint *endpoint, int n, CsRequest *request)
{
	const char *campaign = cs_endpoint_option(endpoint, "campaign_id");

	if (n > (campaign ? 1 : 0))
		return false;
	begin_get(endpoint, request);
	request->url = n == 0 ? psprintf("%s/contacts?page=1&limit=1", endpoint->base_url) :
		psprintf("%s/campaigns/%s/locale-coverage", endpoint->base_url,
				 cs_url_encode(campaign));
	return true;
}

/*
 * Read the total of a list.  The envelope of lists is not documented; another list
 * of the client library has data and meta.
 */
static bool
read_total(CsJson *doc, int64 *total)
{
	static const char *const paths[] = {"meta.total", "total", "pagination.total", "meta.totalItems"};

	for (int i = 0; i < (int) lengthof(paths); i++)
		if (cs_json_int(cs_json_path(doc, paths[i]), total))
			return true;
	return false;
}

/* Contacts whose language has no template get no mail, or a neutral one. */
static void
judge_coverage(CsJson *doc, CsFinding *finding)
{
	StringInfoData uncovered;

	if (cs_json_length(doc) < 0)
		doc = cs_json_get(doc, "data");
	if (cs_json_length(doc) < 0)
	{
		finding->detail = "the answer does not list locales";
		return;
	}
	initStringInfo(&uncovered);
	for (int i = 0; i < cs_json_length(doc); i++)
	{
		CsJson	   *item = cs_json_item(doc, i);
		const char *locale = cs_json_text(cs_json_get(item, "locale"));
		bool		covered = false;
		int64		count = 0;

		(void) cs_json_bool(cs_json_get(item, "hasTemplate"), &covered);
		(void) cs_json_int(cs_json_get(item, "count"), &count);
		if (count > 0 && !covered)
			appendStringInfo(&uncovered, "%s" INT64_FORMAT " with %s", uncovered.len > 0 ? ", " : "",
							 count, locale ? locale : "no locale");
	}
	finding->theirs = cs_json_dump(doc);
	finding->result = uncovered.len > 0 ? CS_FINDING_DIFFERS : CS_FINDING_OK;
	if (uncovered.len > 0)
		finding->detail = psprintf("contacts without a template in their language: %s", uncovered.data);
}

static void
judge_check(const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
			const CsResponse *response, CsJson *doc, CsFinding *finding)
{
	int64		total;

	finding->name = n == 0 ? "contacts" : "locale coverage";
	if (n == 1 && doc)
		judge_coverage(doc, finding);
	else if (n == 0 && read_total(doc, &total))
		cs_answer_compare_counts(finding, local, total);
	else if (n == 0 && doc)
		finding->detail = "the answer has no total";
}

/*
 * [DOC contacts-overview]: GET /contacts/{idOrExternalId}.  Use MailingCore's own ID
 * if it is known.
 */
static bool
build_lookup(const CsEndpoint *endpoint, const CsContact *contact,
			 CsRequest *request)
{
	const char *id = contact->remote_id ? contact->remote_id : contact->value[CS_EXTERNAL_ID];

	if (id == NULL || cs_contact_check_path("external_id", id) != NULL)
		return false;
	begin_get(endpoint, request);
	request->url = psprintf("%s/contacts/%s", endpoint->base_url, cs_url_encode(id));
	return true;
}

static bool
read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemoteContact *remote)
{
	const CsMailingCore *settings = cs_provider_settings(endpoint);
	CsJson	   *item = cs_json_get(doc, "email") ? doc : cs_json_get(doc, "data");

	remote->contact = palloc0(sizeof(CsContact));
	remote->id = cs_json_text(cs_json_get(item, "id"));
	remote->updated_at = cs_json_text(cs_json_get(item, "updatedAt"));
	cs_contact_read_attributes(remote->contact, cs_json_get(item, "attributes"), settings->attribute);
	cs_contact_set_json(remote->contact, CS_EMAIL, cs_json_get(item, "email"));
	cs_contact_set_json(remote->contact, CS_EXTERNAL_ID, cs_json_get(item, "externalId"));
	cs_contact_set_json(remote->contact, CS_LOCALE, cs_json_get(item, "locale"));
	cs_contact_set_json(remote->contact, CS_OPT_IN, cs_json_get(item, "optIn"));
	return remote->contact->value[CS_EMAIL] != NULL;
}

/* ---------- listing changed contacts ---------- */

/* [DOC contacts-overview]: page, limit, updatedSince, cursor. */
static void
build_pull(const CsEndpoint *endpoint, const CsPull *pull, CsRequest *request)
{
	StringInfoData url;

	begin_get(endpoint, request);
	initStringInfo(&url);
	appendStringInfo(&url, "%s/contacts?limit=%d", endpoint->base_url,
					 cs_endpoint_option_int(endpoint, "pull_page", 0));
	if (pull->cursor)
		appendStringInfo(&url, "&cursor=%s", cs_url_encode(pull->cursor));
	else
		appendStringInfo(&url, "&page=%d", pull->page);
	if (pull->since)
		appendStringInfo(&url, "&updatedSince=%s", cs_url_encode(pull->since));
	request->url = url.data;
}

/* Return the first member that is an array. */
static CsJson *
find_items(CsJson *doc)
{
	static const char *const names[] = {"data", "contacts", "items", "results"};

	if (cs_json_length(doc) >= 0)
		return doc;
	for (int i = 0; i < (int) lengthof(names); i++)
		if (cs_json_length(cs_json_get(doc, names[i])) >= 0)
			return cs_json_get(doc, names[i]);
	return NULL;
}

/* The name of the cursor is not documented, nor whether there is one. */
static const char *
find_cursor(CsJson *doc)
{
	static const char *const paths[] = {
		"meta.nextCursor", "nextCursor", "meta.cursor", "cursor", "pagination.nextCursor"
	};

	for (int i = 0; i < (int) lengthof(paths); i++)
	{
		const char *cursor = cs_json_text(cs_json_path(doc, paths[i]));

		if (cursor && *cursor)
			return cursor;
	}
	return NULL;
}

static void
judge_pull(const CsEndpoint *endpoint, const CsPull *pull, CsJson *doc,
		   CsPullPage *pulled)
{
	int			mode = cs_endpoint_option_word(endpoint, "pull_mode", pull_modes);
	int			limit = cs_endpoint_option_int(endpoint, "pull_page", 0);
	int64		pages;
	int			n;

	pulled->items = find_items(doc);
	n = cs_json_length(pulled->items);
	if (!read_total(doc, &pulled->total))
		pulled->total = -1;
	pulled->next_cursor = mode == PULL_PAGE ? NULL : find_cursor(doc);
	if (pulled->next_cursor)
		pulled->last = pull->cursor && strcmp(pull->cursor, pulled->next_cursor) == 0;
	else if (mode == PULL_CURSOR || pull->cursor)
		pulled->last = true;
	else if (cs_json_int(cs_json_path(doc, "meta.totalPages"), &pages))
		pulled->last = pull->page >= pages;
	else
		pulled->last = n < limit;
	if (n == 0)
		pulled->last = true;
}

#define FIELDS \
	(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_EXTERNAL_ID) | \
	 CS_FIELD_BIT(CS_FIRST_NAME) | CS_FIELD_BIT(CS_LAST_NAME) | \
	 CS_FIELD_BIT(CS_PHONE) | CS_FIELD_BIT(CS_TIMEZONE) | \
	 CS_FIELD_BIT(CS_LOCALE) | CS_FIELD_BIT(CS_OPT_IN) | CS_FIELD_BIT(CS_OPT_IN_AT) | \
	 CS_FIELD_BIT(CS_ATTRIBUTES))

CS_ADAPTER(cs_mailingcore);

const CsProvider cs_mailingcore = {
	.name = "mailingcore",
	.title = "MailingCore",
	.base_url = "https://api.mailingcore.com",
	.account_option = "tenant_id",
	.max_batch = CS_MAILINGCORE_BATCH,
	.pace = 4.9,				/* limit: 300 per minute; with the burst, 299
								 * are sent */
	.burst = 5,
	.concurrency = 4,
	.max_retries = 5,
	.auth = CS_AUTH_BEARER,
	.fields = FIELDS,
	.required = CS_FIELD_BIT(CS_EMAIL),
	.abilities = CS_CAN_DELETE | CS_CAN_UNSUBSCRIBE | CS_UNIQUE_EMAIL,
	.options = options,
	.build = cs_mailingcore_build,
	.judge = cs_mailingcore_judge,
	.prepare = cs_mailingcore_prepare,
	.batch_limit = batch_limit,
	.configure = configure,
	.check_options = check_options,
	.build_check = build_check,
	.judge_check = judge_check,
	.build_lookup = build_lookup,
	.read_contact = read_contact,
	.build_pull = build_pull,
	.judge_pull = judge_pull,
};
