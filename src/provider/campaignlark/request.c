/*-------------------------------------------------------------------------
 *
 * request.c
 *		What CampaignLark is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/campaignlark/request.h"
#include "provider/email.h"

static const char *const statuses[] = {
	"SUBSCRIBED", "UNSUBSCRIBED", "UNCONFIRMED", "CLEANED", "COMPLAINED"
};

/* ---------- contacts ---------- */

/* [SEED]: "array of integers".  Numbers in quotes are accepted as well. */
static CsRefusal *
prepare_tags(CsContact *contact)
{
	const char *text = contact->value[CS_TAGS];
	StringInfoData out;
	CsJson	   *tags;
	int			n;

	if (text == NULL)
		return NULL;
	tags = cs_json_parse(text, strlen(text));
	n = cs_json_length(tags);
	if (n < 0)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, "tags",
								 "tags must be an array of tag IDs, which are integers");

	initStringInfo(&out);
	appendStringInfoCharMacro(&out, '[');
	for (int i = 0; i < n; i++)
	{
		CsJson	   *tag = cs_json_item(tags, i);
		int64		id;

		if (!cs_json_int(tag, &id))
			return cs_contact_refuse(CS_REASON_INVALID_FIELD, "tags",
									 "tags must be integers, and %s is not an integer",
									 tag ? cs_json_dump(tag) : "null");
		appendStringInfo(&out, "%s" INT64_FORMAT, i > 0 ? "," : "", id);
	}
	appendStringInfoCharMacro(&out, ']');
	contact->value[CS_TAGS] = out.data;
	return NULL;
}

/* [SEED]: one of five.  Any letter case is accepted. */
static CsRefusal *
prepare_status(CsContact *contact)
{
	const char *value = contact->value[CS_STATUS];

	if (value == NULL)
		return NULL;
	for (int i = 0; i < (int) lengthof(statuses); i++)
	{
		if (pg_strcasecmp(value, statuses[i]) == 0)
		{
			cs_contact_set(contact, CS_STATUS, statuses[i]);
			return NULL;
		}
	}
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, "status",
							 "status \"%s\" is not one of SUBSCRIBED, UNSUBSCRIBED, UNCONFIRMED, CLEANED, COMPLAINED",
							 value);
}

bool
cs_campaignlark_allows_mail(const char *status)
{
	return status && (strcmp(status, "SUBSCRIBED") == 0 || strcmp(status, "UNCONFIRMED") == 0);
}

/* Decide on one status from opt_in and status: the one that allows less mail wins. */
static CsRefusal *
decide_status(const CsCampaignLark *lark, CsContact *contact)
{
	const char *status = contact->value[CS_STATUS];

	if (cs_contact_is(contact, CS_OPT_IN, "true") && status == NULL)
		status = "SUBSCRIBED";
	if (cs_contact_is(contact, CS_OPT_IN, "false") && (status == NULL || cs_campaignlark_allows_mail(status)))
		status = "UNSUBSCRIBED";
	contact->value[CS_STATUS] = unconstify(char *, status);

	if (status || contact->opted_out || (lark->new_status && lark->partial_update))
		return NULL;
	return cs_contact_refuse(CS_REASON_MISSING_FIELD, "opt_in",
							 "the contact has neither opt_in nor status, and CampaignLark would subscribe it%s",
							 lark->partial_update ? " if it is new (see the option new_contacts)" : "");
}

CsRefusal *
cs_campaignlark_prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	CsRefusal  *refusal;

	if (contact->action == CS_DELETE)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL,
								 "CampaignLark cannot delete contacts, but it can unsubscribe them");
	if (contact->value[CS_EMAIL] == NULL && contact->upsert_key)
		cs_contact_set(contact, CS_EMAIL, contact->upsert_key);
	if (contact->value[CS_EMAIL] == NULL)
		return cs_contact_refuse(CS_REASON_MISSING_FIELD, "email", "email is missing");

	/* two spellings of an address must not be in flight at the same time */
	contact->upsert_key = cs_email_normalize(contact->value[CS_EMAIL]);
	if (contact->action != CS_UPSERT)
		return NULL;

	refusal = prepare_tags(contact);
	if (refusal == NULL)
		refusal = prepare_status(contact);
	if (refusal == NULL)
		refusal = decide_status(lark, contact);
	return refusal;
}

/* ---------- requests ---------- */

/*
 * Does CampaignLark have to be asked what status the contact has?  A contact that
 * is merged without a status keeps the one it has, and is subscribed if it is new.
 * So only what may be subscribed if it is new can be written without asking.
 */
bool
cs_campaignlark_looks_up(const CsCampaignLark *lark, const CsContact *contact)
{
	const char *status = contact->value[CS_STATUS];

	if (contact->action == CS_UNSUBSCRIBE)
		return true;			/* a complaint is not to be overwritten */
	if (contact->opted_out && contact->claim != CS_CLAIM &&
		(status == NULL || cs_campaignlark_allows_mail(status) || strcmp(status, "UNSUBSCRIBED") == 0))
		return true;			/* it may be gone, and would be subscribed
								 * again; or its complaint is known */
	if (status == NULL)
		return lark->new_status == NULL || strcmp(lark->new_status, "SUBSCRIBED") != 0 ||
			(!contact->known && contact->claimed);
	if (!cs_campaignlark_allows_mail(status) || contact->claim == CS_CLAIM)
		return false;
	if (contact->claim == CS_CLAIM_IF_NEW)
		return !lark->partial_update || strcmp(status, "SUBSCRIBED") != 0;
	return !lark->partial_update || !contact->known;
}

/* The status of a contact that turned out to be new. */
static const char *
status_if_new(const CsCampaignLark *lark, const CsContact *contact)
{
	const char *status = contact->value[CS_STATUS] ? contact->value[CS_STATUS] : lark->new_status;

	if (status == NULL || (cs_campaignlark_allows_mail(status) && contact->claim == CS_CLAIM_NOT &&
						   (contact->value[CS_STATUS] || contact->opted_out || contact->claimed)))
		return "UNSUBSCRIBED";
	return status;
}

/*
 * Return the status to be sent, or NULL to leave it as it is.  A claim of consent
 * is not repeated: the person may have unsubscribed there in the meantime.
 */
const char *
cs_campaignlark_status(const CsCampaignLark *lark, const CsContact *contact, int step)
{
	const char *status = contact->value[CS_STATUS];

	if (contact->action == CS_UNSUBSCRIBE)
		return "UNSUBSCRIBED";
	if (CS_LARK_KIND(step) == CS_LARK_KEEP)
		return lark->partial_update ? NULL : contact->remote_status;
	if (CS_LARK_KIND(step) == CS_LARK_SET)
		return status_if_new(lark, contact);
	if (cs_campaignlark_allows_mail(status) && contact->claim != CS_CLAIM)
		return NULL;
	return status;
}

/* Is the field one of those that are left out? */
static bool
is_dropped(uint32 dropped, int field)
{
	return field < CS_LARK_MAX_DROPPED && (dropped & (UINT32_C(1) << field)) != 0;
}

/* Write a field, as a number if CampaignLark wants one and it is one. */
static void
write_field(StringInfo out, const char *tag, const CsContact *contact, CsField field)
{
	const char *value = contact->value[field];
	CsJson	   *number = value && (contact->numbers & CS_FIELD_BIT(field)) ? cs_json_parse(value, strlen(value)) : NULL;
	double		ignored;

	if (cs_json_string(number) == NULL && cs_json_number(number, &ignored))
		cs_json_member_raw(out, tag, value);
	else
		cs_json_member(out, tag, value);
}

/*
 * [SEED]: "Key-value map of additional field values keyed by merge_tag.
 * email_address is ignored here if provided", so it is left out.
 */
static void
write_fields(StringInfo out, const CsCampaignLark *lark, bool nulls, uint32 dropped,
			 const CsContact *contact)
{
	int			start = out->len;

	cs_json_key(out, "fields");
	appendStringInfoCharMacro(out, '{');
	for (int i = 0; i < CS_FIELD_COUNT; i++)
	{
		if (lark->tag[i] && (contact->present & CS_FIELD_BIT(i)) &&
			(contact->value[i] || nulls) && !is_dropped(dropped, i) &&
			!cs_contact_attribute(contact, lark->tag[i]))
			write_field(out, lark->tag[i], contact, i);
	}
	for (int i = 0; i < contact->nattributes; i++)
	{
		const CsAttribute *attribute = &contact->attributes[i];

		if ((nulls || strcmp(attribute->json, "null") != 0) &&
			!is_dropped(dropped, CS_LARK_ATTRIBUTE(i)) &&
			strcmp(attribute->name, "email_address") != 0)
			cs_json_member_raw(out, attribute->name, attribute->json);
	}

	cs_json_end_member(out, start);
}

/*
 * Write the body of an upsert, or of an unsubscription, which changes the status
 * only.
 */
static void
write_contact(StringInfo out, const CsEndpoint *endpoint, const CsBatch *batch)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];
	bool		whole = contact->action == CS_UPSERT;
	const char *status = cs_campaignlark_status(lark, contact, batch->step);

	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "email_address", contact->value[CS_EMAIL]);
	if (whole)
		write_fields(out, lark, endpoint->nulls_clear, CS_LARK_DROPPED(batch->step), contact);
	if (whole && contact->value[CS_TAGS])
		cs_json_member_raw(out, "tags", contact->value[CS_TAGS]);
	if (status)
		cs_json_member(out, "status", status);
	cs_json_member_raw(out, "partial_update", !whole || lark->partial_update ? "true" : "false");
	appendStringInfoCharMacro(out, '}');
}

void
cs_campaignlark_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];

	cs_message_add_header(request, "Accept", "application/json");
	if (CS_LARK_KIND(batch->step) == CS_LARK_FIRST && cs_campaignlark_looks_up(lark, contact))
	{
		request->method = "GET";
		request->url = psprintf("%s/contacts/by-email?email=%s", endpoint->base_url,
								cs_url_encode(contact->value[CS_EMAIL]));
		return;
	}

	request->method = "POST";
	request->url = psprintf("%s/contacts/upsert", endpoint->base_url);
	cs_message_add_header(request, "Content-Type", "application/json");
	initStringInfo(&request->body);
	write_contact(&request->body, endpoint, batch);
}
