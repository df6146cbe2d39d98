/*-------------------------------------------------------------------------
 *
 * request.c
 *		What Caramel is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/caramel/request.h"

/* ---------- contacts ---------- */

CsRefusal *
cs_caramel_prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);

	if (contact->action != CS_UPSERT)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL,
								 "Caramel neither deletes nor unsubscribes contacts");
	if ((contact->present & CS_FIELD_BIT(CS_OPT_IN)) && caramel->form_id == NULL)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, "opt_in",
								 "Caramel accepts consent through a form only, and the option form_id is not set");
	contact->upsert_key = contact->value[CS_EMAIL];
	return NULL;
}

bool
cs_caramel_may_submit(const CsCaramel *caramel, const CsContact *contact)
{
	if (caramel->form_id == NULL)
		return false;
	if (!caramel->form_sets_consent)
		return true;
	return contact->consent == CS_CONSENT_YES && contact->claim == CS_CLAIM;
}

bool
cs_caramel_prefers_form(const CsCaramel *caramel, const char *limitation)
{
	return caramel->prefer_form || (limitation && strncmp(limitation, CS_CARAMEL_TIER, strlen(CS_CARAMEL_TIER)) == 0);
}

bool
cs_caramel_submits(const CsEndpoint *endpoint, const CsBatch *batch)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);

	if (batch->step == CS_CARAMEL_FORM)
		return caramel->form_id != NULL;
	return cs_caramel_prefers_form(caramel, batch->limitation) &&
		cs_caramel_may_submit(caramel, batch->contacts[0]);
}

/* ---------- requests ---------- */

static void
write_field(StringInfo out, const CsContact *contact, CsField field, const char *name, bool nulls)
{
	if ((contact->present & CS_FIELD_BIT(field)) && (contact->value[field] || nulls))
		cs_json_member(out, name, contact->value[field]);
}

/* [SEED]: business_id, email, first_name, last_name, and nothing else. */
static void
write_upsert(StringInfo out, const CsCaramel *caramel, const CsContact *contact, bool nulls)
{
	cs_json_member(out, "business_id", caramel->business_id);
	cs_json_member(out, "email", contact->value[CS_EMAIL]);
	write_field(out, contact, CS_FIRST_NAME, "first_name", nulls);
	write_field(out, contact, CS_LAST_NAME, "last_name", nulls);
}

static void
write_form(StringInfo out, const CsCaramel *caramel, const CsContact *contact, bool nulls)
{
	cs_json_member(out, "business_id", caramel->business_id);
	cs_json_member(out, caramel->form_id_argument, caramel->form_id);
	if (caramel->form_data_argument)
	{
		cs_json_key(out, caramel->form_data_argument);
		appendStringInfoCharMacro(out, '{');
	}
	for (int i = 0; i < CS_FIELD_COUNT; i++)
	{
		if (caramel->form_field[i])
			write_field(out, contact, i, caramel->form_field[i], nulls);
	}
	if (caramel->form_data_argument)
		appendStringInfoCharMacro(out, '}');
}

/*
 * [SEED]: the JSON-RPC envelope, with a number as its ID.  [DOC]: the server is
 * "Streamable HTTP", which may check Accept and may answer with an event stream
 * [INFER]; both forms are accepted.
 */
void
cs_caramel_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];
	StringInfo	out = &request->body;
	bool		form = cs_caramel_submits(endpoint, batch);

	request->method = "POST";
	request->url = pstrdup(endpoint->base_url);
	cs_message_add_header(request, "Accept", "application/json, text/event-stream");
	cs_message_add_header(request, "Content-Type", "application/json");

	initStringInfo(out);
	appendStringInfo(out, "{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"id\":" INT64_FORMAT ",\"params\":{",
					 batch->number);
	cs_json_member(out, "name", form ? caramel->form_tool : caramel->upsert_tool);
	cs_json_key(out, "arguments");
	appendStringInfoCharMacro(out, '{');
	if (form)
		write_form(out, caramel, contact, endpoint->nulls_clear);
	else
		write_upsert(out, caramel, contact, endpoint->nulls_clear);
	appendStringInfoString(out, "}}}");
}
