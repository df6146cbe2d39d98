/*-------------------------------------------------------------------------
 *
 * mailingcore.c
 *		MailingCore: POST /contacts/bulk, up to 1000 contacts a call.
 *
 * From the page "Bulk import" [SEED]: both headers, the body, 1 to 1000
 * contacts, keyed by externalId if present, else by email; "200 with a summary
 * of created, updated, and failed rows"; 400 and 403.  From other pages [DOC]:
 * PUT /contacts for one, DELETE /contacts/{externalId}, six locales, 300 calls
 * a minute with X-RateLimit-Reset, 409 for a conflict of externalId, and that
 * people who opted out must not be imported again with optIn true.
 *
 * mailingcore_answer.c reads what comes back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/mailingcore/mailingcore.h"

#define MAX_EXTERNAL_ID		128 /* characters */
#define MAX_LABEL			64	/* of source and consentVersion */

static const char *const locales[] = {"es", "en", "it", "fr", "ca", "de"};
static const char *const locale_rules[] = {"base", "omit", "send", "reject", NULL};
static const char *const failure_rules[] = {"resend", "reject", NULL};
static const char *const answer_rules[] = {"retry", "accept", NULL};

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
	return cs_option_check_words(value, cs_mailingcore_pull_modes);
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
	{.name = "repeat_opt_in",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "false",
	.help = "whether optIn true is sent with every change, which undoes opt-outs made at MailingCore"},
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
	settings->repeat_opt_in = cs_endpoint_option_bool(endpoint, "repeat_opt_in");
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

/* ---------- contacts ---------- */

/* The listed locale that is the len bytes of text, or NULL. */
static const char *
listed_locale(const char *text, size_t len)
{
	for (int i = 0; i < (int) lengthof(locales); i++)
	{
		if (strlen(locales[i]) == len && pg_strncasecmp(locales[i], text, len) == 0)
			return locales[i];
	}
	return NULL;
}

/* [DOC contacts-overview]: the locale is one of six. */
static CsRefusal *
prepare_locale(const CsMailingCore *settings, CsContact *contact)
{
	const char *value = contact->value[CS_LOCALE];
	const char *listed;

	if (value == NULL || settings->locale_rule == CS_LOCALE_SEND)
		return NULL;
	listed = listed_locale(value, strlen(value));
	if (listed == NULL && settings->locale_rule == CS_LOCALE_REJECT)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, "locale",
								  "MailingCore has no locale \"%s\", only es, en, it, fr, ca, de",
								  value);
	if (listed == NULL && settings->locale_rule == CS_LOCALE_BASE)
		listed = listed_locale(value, strcspn(value, "-_.@"));

	if (listed)
		cs_contact_set(contact, CS_LOCALE, listed);
	else
	{
		contact->value[CS_LOCALE] = NULL;
		contact->present &= ~CS_FIELD_BIT(CS_LOCALE);
	}
	return NULL;
}

/*
 * An unsubscription or a deletion is known by its key alone, which is one or
 * the other.
 */
static void
complete_removal(CsContact *contact)
{
	if (contact->upsert_key == NULL)
		return;
	if (contact->value[CS_EXTERNAL_ID] == NULL && contact->value[CS_EMAIL] == NULL)
		cs_contact_set(contact, strchr(contact->upsert_key, '@') ? CS_EMAIL : CS_EXTERNAL_ID,
					   contact->upsert_key);
}

static CsRefusal *
check_removal(const CsContact *contact)
{
	if (contact->action == CS_DELETE && contact->value[CS_EXTERNAL_ID] == NULL)
		return cs_contact_refuse(CS_REASON_MISSING_FIELD, "external_id",
								  "MailingCore deletes by external_id, and the contact was sent without one");
	if (contact->action == CS_DELETE)
		return cs_contact_check_path("external_id", contact->value[CS_EXTERNAL_ID]);
	if (contact->value[CS_EMAIL] == NULL)
		return cs_contact_refuse(CS_REASON_MISSING_FIELD, "email",
								  "MailingCore unsubscribes by email, which is not known here");
	return NULL;
}

/* [SEED]: "Upsert key: externalId if present, else email". */
static CsRefusal *
prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const CsMailingCore *settings = cs_provider_settings(endpoint);
	char	   *id;

	if (contact->action != CS_UPSERT)
		complete_removal(contact);
	id = contact->value[CS_EXTERNAL_ID];
	if (id && *id == '\0')
		contact->value[CS_EXTERNAL_ID] = id = NULL;
	if (id && cs_contact_text_length(id) > MAX_EXTERNAL_ID)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, "external_id",
								  "external_id has more than %d characters", MAX_EXTERNAL_ID);
	contact->upsert_key = id ? id : contact->value[CS_EMAIL];
	if (contact->action != CS_UPSERT)
		return check_removal(contact);
	return prepare_locale(settings, contact);
}

/* ---------- requests ---------- */

/* One attribute; "attributes":{ is written before the first. */
static void
write_attribute(StringInfo out, bool *open, const char *name, const char *text, const char *json)
{
	if (!*open)
	{
		cs_json_key(out, "attributes");
		appendStringInfoCharMacro(out, '{');
		*open = true;
	}
	if (json)
		cs_json_member_raw(out, name, json);
	else
		cs_json_member(out, name, text);
}

/*
 * [SEED]: "attributes": { "firstName": "Alice" }.  A field that goes there
 * gives way to an attribute of that very name.
 */
static void
write_attributes(StringInfo out, const CsMailingCore *settings, bool nulls, const CsContact *contact)
{
	bool		open = false;

	for (int i = CS_FIRST_NAME; i < CS_ATTRIBUTES; i++)
	{
		const char *name = settings->attribute[i];

		if (name && (contact->present & CS_FIELD_BIT(i)) && (contact->value[i] || nulls) &&
			!cs_contact_attribute(contact, name))
			write_attribute(out, &open, name, contact->value[i], NULL);
	}
	for (int i = 0; i < contact->nattributes; i++)
	{
		const CsAttribute *attribute = &contact->attributes[i];

		if (nulls || strcmp(attribute->json, "null") != 0)
			write_attribute(out, &open, attribute->name, NULL, attribute->json);
	}
	if (open)
		appendStringInfoCharMacro(out, '}');
}

/*
 * The value of optIn, or NULL to leave it out: it was not mapped, is not known,
 * or is a consent that MailingCore has been told already.  [DOC unsubscribe]:
 * who opted out there must not be imported again with optIn true without fresh
 * consent, and that the source still says so is none.  What becomes of optIn
 * when it is left out is not documented; certain is that we claim nothing then.
 */
static const char *
opt_in_of(const CsMailingCore *settings, const CsContact *contact)
{
	if (contact->action == CS_UNSUBSCRIBE)
		return "false";
	if (cs_contact_is(contact, CS_OPT_IN, "true") && contact->consent_sent &&
		contact->previous_key == NULL && !settings->repeat_opt_in)
		return NULL;
	return contact->value[CS_OPT_IN];
}

/* A contact as in PUT /contacts. */
static void
write_contact(StringInfo out, const CsMailingCore *settings, bool nulls, const CsContact *contact)
{
	bool		upsert = (contact->action == CS_UPSERT);
	const char *opt_in = opt_in_of(settings, contact);

	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "email", contact->value[CS_EMAIL]);
	if (contact->value[CS_EXTERNAL_ID])
		cs_json_member(out, "externalId", contact->value[CS_EXTERNAL_ID]);
	if (upsert && (contact->present & CS_FIELD_BIT(CS_LOCALE)) &&
		(contact->value[CS_LOCALE] || nulls))
		cs_json_member(out, "locale", contact->value[CS_LOCALE]);
	if (opt_in)
		cs_json_member_raw(out, "optIn", opt_in);
	if (upsert)
		write_attributes(out, settings, nulls, contact);
	if (settings->consent_version && opt_in && strcmp(opt_in, "true") == 0)
		cs_json_member(out, "consentVersion", settings->consent_version);
	if (settings->source && upsert)
		cs_json_member(out, "source", settings->source);
	if (settings->project_id)
		cs_json_member(out, "projectId", settings->project_id);
	appendStringInfoCharMacro(out, '}');
}

static void
write_batch(StringInfo out, const CsEndpoint *endpoint, const CsBatch *batch)
{
	const CsMailingCore *settings = cs_provider_settings(endpoint);

	Assert(batch->ncontacts >= 1 && batch->ncontacts <= CS_MAILINGCORE_BATCH);
	appendStringInfoString(out, "{\"contacts\":[");
	for (int i = 0; i < batch->ncontacts; i++)
	{
		cs_json_comma(out);
		write_contact(out, settings, endpoint->nulls_clear, batch->contacts[i]);
	}
	appendStringInfoString(out, "]}");
}

/* [DOC]: DELETE /contacts/{externalId}; else [SEED] bulk or [DOC] PUT /contacts. */
static void
build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
{
	const CsMailingCore *settings = cs_provider_settings(endpoint);

	if (settings->tenant_id)
		cs_message_add_header(request, "X-Tenant-Id", settings->tenant_id);
	cs_message_add_header(request, "Accept", "application/json");
	if (batch->action == CS_DELETE)
	{
		request->method = "DELETE";
		request->url = psprintf("%s/contacts/%s", endpoint->base_url,
								cs_url_encode(batch->contacts[0]->value[CS_EXTERNAL_ID]));
		return;
	}

	cs_message_add_header(request, "Content-Type", "application/json");
	initStringInfo(&request->body);
	if (batch->step == CS_MAILINGCORE_SINGLE)
	{
		request->method = "PUT";
		request->url = psprintf("%s/contacts", endpoint->base_url);
		write_contact(&request->body, settings, endpoint->nulls_clear, batch->contacts[0]);
	}
	else
	{
		request->method = "POST";
		request->url = psprintf("%s/contacts/bulk", endpoint->base_url);
		write_batch(&request->body, endpoint, batch);
	}
}

static int
batch_limit(CsAction action, int step)
{
	return action == CS_DELETE || step == CS_MAILINGCORE_SINGLE ? 1 : CS_MAILINGCORE_BATCH;
}

#define FIELDS \
	(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_EXTERNAL_ID) | \
	 CS_FIELD_BIT(CS_FIRST_NAME) | CS_FIELD_BIT(CS_LAST_NAME) | \
	 CS_FIELD_BIT(CS_PHONE) | CS_FIELD_BIT(CS_TIMEZONE) | \
	 CS_FIELD_BIT(CS_LOCALE) | CS_FIELD_BIT(CS_OPT_IN) | \
	 CS_FIELD_BIT(CS_ATTRIBUTES))

const CsProvider cs_mailingcore = {
	.name = "mailingcore",
	.title = "MailingCore",
	.base_url = "https://api.mailingcore.com",
	.max_batch = CS_MAILINGCORE_BATCH,
	.pace = 4.9,				/* 300 a minute are allowed; with the burst,
								 * 299 */
	.burst = 5,
	.concurrency = 4,
	.max_retries = 5,
	.auth = CS_AUTH_BEARER,
	.fields = FIELDS,
	.required = CS_FIELD_BIT(CS_EMAIL),
	.abilities = CS_CAN_DELETE | CS_CAN_UNSUBSCRIBE | CS_UNIQUE_EMAIL,
	.options = options,
	.build = build,
	.judge = cs_mailingcore_judge,
	.prepare = prepare,
	.batch_limit = batch_limit,
	.configure = configure,
	.check_options = check_options,
	.build_check = cs_mailingcore_build_check,
	.judge_check = cs_mailingcore_judge_check,
	.build_lookup = cs_mailingcore_build_lookup,
	.read_contact = cs_mailingcore_read_contact,
	.build_pull = cs_mailingcore_build_pull,
	.judge_pull = cs_mailingcore_judge_pull,
};
