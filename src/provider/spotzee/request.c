/*-------------------------------------------------------------------------
 *
 * request.c
 *		What Spotzee is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/email.h"
#include "provider/spotzee/request.h"

#define MAX_LOCALE		255		/* characters */
#define MAX_TIMEZONE	50

#define STATE_OPTED_OUT		0
#define STATE_SUBSCRIBED	1

/* ---------- paths ---------- */

bool
cs_spotzee_has_users(const CsSpotzee *spotzee, const char *limitation)
{
	if (spotzee->auto_api)
		return limitation && strcmp(limitation, CS_SPOTZEE_USERS) == 0;
	return spotzee->users;
}

const char *
cs_spotzee_path(const CsSpotzee *spotzee, const char *limitation)
{
	return cs_spotzee_has_users(spotzee, limitation) ? "/users" : "/contacts";
}

const char *
cs_spotzee_other(const CsSpotzee *spotzee, const char *limitation)
{
	return cs_spotzee_has_users(spotzee, limitation) ? "" : CS_SPOTZEE_USERS;
}

/* ---------- contacts ---------- */

/*
 * [SEED]: "a field ... that uniquely identifies a customer and never changes".
 * [SRC]: "Don't use the email as external_id (emails change)".
 */
CsRefusal *
cs_spotzee_prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const CsSpotzee *spotzee = cs_provider_settings(endpoint);
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

	refusal = cs_contact_check_length(contact, CS_LOCALE, MAX_LOCALE);
	return refusal ? refusal : cs_contact_check_length(contact, CS_TIMEZONE, MAX_TIMEZONE);
}

/* ---------- subscriptions ---------- */

int
cs_spotzee_subscription_state(const CsSpotzee *spotzee, const CsContact *contact)
{
	if (spotzee->subscription_id == NULL || contact->action != CS_UPSERT)
		return -1;
	if (contact->consent == CS_CONSENT_NO)
		return STATE_OPTED_OUT;
	return contact->consent == CS_CONSENT_YES && contact->claim == CS_CLAIM &&
		(contact->known || contact->claimed || (contact->opted_out && !contact->refused)) ? STATE_SUBSCRIBED : -1;
}

/* [SRC]: an array of {external_id, subscription_id, state}. */
static void
write_subscriptions(StringInfo out, const CsSpotzee *spotzee, const CsBatch *batch)
{
	appendStringInfoCharMacro(out, '[');
	for (int i = 0; i < batch->ncontacts; i++)
	{
		int			state = cs_spotzee_subscription_state(spotzee, batch->contacts[i]);

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

/* ---------- requests ---------- */

/* [DOC]: a batch creates what does not exist, so what must not be is looked up first. */
CsSpotzeeCall
cs_spotzee_call(const CsBatch *batch)
{
	if (batch->action == CS_DELETE || batch->step == CS_SPOTZEE_STEP_DELETE)
		return CS_SPOTZEE_CALL_DELETE;
	if (batch->step == CS_SPOTZEE_STEP_SUBSCRIPTION ||
		(batch->step == CS_SPOTZEE_STEP_FIRST && batch->contacts[0]->opts_out_first))
		return CS_SPOTZEE_CALL_SUBSCRIPTION;
	if (batch->step == CS_SPOTZEE_STEP_OTHER_LOOKUP ||
		(batch->step == CS_SPOTZEE_STEP_FIRST && batch->contacts[0]->withheld))
		return CS_SPOTZEE_CALL_LOOKUP;
	return CS_SPOTZEE_CALL_UPSERT;
}

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

	cs_json_end_member(out, start);
}

static void
write_contact(StringInfo out, bool users, const CsContact *contact, bool nulls)
{
	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "external_id", contact->value[CS_EXTERNAL_ID]);
	/* [SRC]: what an item does not have stays as it is */
	if (!contact->omits_address)
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
	Assert(batch->ncontacts >= 1 && batch->ncontacts <= CS_SPOTZEE_BATCH);
	appendStringInfoString(out, users ? "[" : "{\"contacts\":[");
	for (int i = 0; i < batch->ncontacts; i++)
	{
		cs_json_comma(out);
		write_contact(out, users, batch->contacts[i], nulls);
	}
	appendStringInfoString(out, users ? "]" : "]}");
}

void
cs_spotzee_add_headers(const CsSpotzee *spotzee, CsRequest *request)
{
	cs_message_add_header(request, "Accept", "application/json");
	if (spotzee->version)
		cs_message_add_header(request, "Spotzee-Version", spotzee->version);
}

char *
cs_spotzee_contact_url(const CsEndpoint *endpoint, const char *limitation, const CsContact *contact)
{
	return psprintf("%s%s/%s", endpoint->base_url,
					cs_spotzee_path(cs_provider_settings(endpoint), limitation),
					cs_url_encode(contact->upsert_key));
}

void
cs_spotzee_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
{
	const CsSpotzee *spotzee = cs_provider_settings(endpoint);
	CsSpotzeeCall call = cs_spotzee_call(batch);
	const char *limitation = batch->limitation;

	/* another call may have found the path meanwhile */
	if (batch->step == CS_SPOTZEE_STEP_OTHER_LOOKUP && !cs_spotzee_has_users(spotzee, limitation))
		limitation = cs_spotzee_other(spotzee, limitation);
	cs_spotzee_add_headers(spotzee, request);
	if (call == CS_SPOTZEE_CALL_DELETE || call == CS_SPOTZEE_CALL_LOOKUP)
	{
		request->method = call == CS_SPOTZEE_CALL_DELETE ? "DELETE" : "GET";
		request->url = cs_spotzee_contact_url(endpoint, limitation, batch->contacts[0]);
		return;
	}

	request->method = "POST";
	cs_message_add_header(request, "Content-Type", "application/json");
	initStringInfo(&request->body);
	if (call == CS_SPOTZEE_CALL_SUBSCRIPTION)
	{
		request->url = psprintf("%s/subscriptions/batch", endpoint->base_url);
		write_subscriptions(&request->body, spotzee, batch);
	}
	else
	{
		request->url = psprintf("%s%s/batch", endpoint->base_url, cs_spotzee_path(spotzee, limitation));
		write_batch(&request->body, cs_spotzee_has_users(spotzee, limitation), batch,
					endpoint->nulls_clear);
	}
	request->idempotency_key = cs_provider_idempotency_key(batch, &request->body);
	cs_message_add_header(request, "Idempotency-Key", request->idempotency_key);
}
