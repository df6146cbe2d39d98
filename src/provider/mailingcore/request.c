/*-------------------------------------------------------------------------
 *
 * request.c
 *		What MailingCore is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/mailingcore/request.h"

#define MAX_EXTERNAL_ID		128 /* characters */

static const char *const locales[] = {"es", "en", "it", "fr", "ca", "de"};

/* ---------- contacts ---------- */

/* Return the documented locale that equals the first len bytes of a text, or NULL. */
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
								 "MailingCore does not support the locale \"%s\", only es, en, it, fr, ca, de",
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
 * Complete an unsubscription or a deletion, of which only the upsert key may be
 * known: it is the external ID or the address.
 */
static void
complete_removal(CsContact *contact)
{
	if (contact->upsert_key && contact->value[CS_EXTERNAL_ID] == NULL && contact->value[CS_EMAIL] == NULL)
		cs_contact_set(contact, strchr(contact->upsert_key, '@') ? CS_EMAIL : CS_EXTERNAL_ID,
					   contact->upsert_key);
	/* its external ID may have been the address; the answer tells */
	if (contact->action == CS_DELETE && contact->value[CS_EXTERNAL_ID] == NULL)
		cs_contact_set(contact, CS_EXTERNAL_ID, contact->value[CS_EMAIL]);
}

static CsRefusal *
check_removal(const CsContact *contact)
{
	if (contact->action == CS_DELETE && contact->value[CS_EXTERNAL_ID] == NULL)
		return cs_contact_refuse(CS_REASON_MISSING_FIELD, "external_id",
								 "MailingCore deletes by external_id, which is not known here");
	if (contact->action == CS_DELETE)
		return cs_contact_check_path("external_id", contact->value[CS_EXTERNAL_ID]);
	if (contact->value[CS_EMAIL] == NULL)
		return cs_contact_refuse(CS_REASON_MISSING_FIELD, "email",
								 "MailingCore unsubscribes by email, which is not known here");
	return NULL;
}

/* [SEED]: "Upsert key: externalId if present, else email". */
CsRefusal *
cs_mailingcore_prepare(const CsEndpoint *endpoint, CsContact *contact)
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

/* Write one attribute, after "attributes":{ if it is the first. */
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
 * [SEED]: "attributes": { "firstName": "Alice" }.  An attribute takes precedence
 * over a field that is sent under the same name.
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
 * Return the value of optIn, or NULL to leave it out.  True is sent only where
 * this sending may claim consent; false also where consent would pass to an address
 * for which nobody gave it.  [DOC unsubscribe]: who opted out there must not
 * be imported again with optIn true without fresh consent.
 */
static const char *
opt_in_of(const CsContact *contact)
{
	if (contact->action == CS_UNSUBSCRIBE || contact->drops_consent)
		return "false";
	if (cs_contact_is(contact, CS_OPT_IN, "true") && contact->claim != CS_CLAIM)
		return NULL;
	return contact->value[CS_OPT_IN];
}

/* Write a contact as in PUT /contacts. */
static void
write_contact(StringInfo out, const CsMailingCore *settings, bool nulls, const CsContact *contact)
{
	bool		upsert = (contact->action == CS_UPSERT);
	const char *opt_in = opt_in_of(contact);

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
void
cs_mailingcore_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
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
