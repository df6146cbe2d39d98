/*-------------------------------------------------------------------------
 *
 * lookup.c
 *		What CampaignLark can be asked.
 *
 * [DOC fields]: GET /fields lists the merge tags that an upsert may use.  [DOC
 * retrieve-contact-by-email]: GET /contacts/by-email.  It tells no totals.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/campaignlark/campaignlark.h"

bool
cs_campaignlark_build_check(const CsEndpoint *endpoint, int n, CsRequest *request)
{
	if (n > 0)
		return false;
	request->method = "GET";
	request->url = psprintf("%s/fields", endpoint->base_url);
	cs_message_add_header(request, "Accept", "application/json");
	return true;
}

/* The definition of a merge tag, or NULL. */
static CsJson *
find_tag(CsJson *fields, const char *tag)
{
	for (int i = 0; i < cs_json_length(fields); i++)
	{
		CsJson	   *field = cs_json_item(fields, i);
		const char *name = cs_json_string(cs_json_get(field, "merge_tag"));

		if (name && strcmp(name, tag) == 0)
			return field;
	}
	return NULL;
}

static void
append_name(StringInfo list, const char *name)
{
	appendStringInfo(list, "%s%s", list->len > 0 ? ", " : "", name);
}

/* Effect: the tag is among ours, and among the missing if it is. */
static void
check_tag(CsJson *fields, const char *tag, StringInfo ours, StringInfo missing)
{
	append_name(ours, tag);
	if (find_tag(fields, tag) == NULL)
		append_name(missing, psprintf("\"%s\"", tag));
}

void
cs_campaignlark_judge_check(const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
							const CsResponse *response, CsJson *doc, CsFinding *finding)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	CsJson	   *fields = cs_json_get(doc, "data");
	StringInfoData ours;
	StringInfoData theirs;
	StringInfoData missing;

	finding->name = "fields";
	if (cs_json_length(fields) < 0)
	{
		finding->detail = "the answer does not list fields";
		return;
	}
	initStringInfo(&ours);
	initStringInfo(&theirs);
	initStringInfo(&missing);
	for (int i = 0; i < cs_json_length(fields); i++)
	{
		const char *tag = cs_json_string(cs_json_get(cs_json_item(fields, i), "merge_tag"));

		if (tag)
			append_name(&theirs, tag);
	}
	for (int i = 0; i < CS_FIELD_COUNT; i++)
		if (lark->tag[i] && (local->fields & CS_FIELD_BIT(i)))
			check_tag(fields, lark->tag[i], &ours, &missing);
	for (int i = 0; i < local->nattributes; i++)
		if (strcmp(local->attributes[i], "email_address") != 0)
			check_tag(fields, local->attributes[i], &ours, &missing);

	finding->ours = ours.data;
	finding->theirs = theirs.data;
	finding->result = missing.len > 0 ? CS_FINDING_DIFFERS : CS_FINDING_OK;
	if (missing.len > 0)
		finding->detail = psprintf("CampaignLark has no field with the merge tag %s", missing.data);
}

bool
cs_campaignlark_build_lookup(const CsEndpoint *endpoint, const CsContact *contact,
							 CsRequest *request)
{
	request->method = "GET";
	request->url = psprintf("%s/contacts/by-email?email=%s", endpoint->base_url,
							cs_url_encode(contact->value[CS_EMAIL]));
	cs_message_add_header(request, "Accept", "application/json");
	return true;
}

/* [DOC]: tags come with their names, and are sent by id. */
static char *
tag_ids(CsJson *tags)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoCharMacro(&out, '[');
	for (int i = 0; i < cs_json_length(tags); i++)
	{
		const char *id = cs_json_text(cs_json_get(cs_json_item(tags, i), "id"));

		cs_json_comma(&out);
		appendStringInfoString(&out, id ? id : "null");
	}
	appendStringInfoCharMacro(&out, ']');
	return out.data;
}

/* [SEED]: {"data":{"id","status","tags","data":{fields},...}} */
bool
cs_campaignlark_read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemote *remote)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	CsJson	   *contact = cs_json_get(doc, "data");
	CsJson	   *fields = cs_json_get(contact, "data");

	remote->contact = palloc0(sizeof(CsContact));
	remote->id = cs_json_text(cs_json_get(contact, "id"));
	remote->updated_at = cs_json_text(cs_json_get(contact, "updated_at"));
	cs_contact_read_attributes(remote->contact, fields, lark->tag);
	cs_contact_set_json(remote->contact, CS_EMAIL, cs_json_get(fields, "email_address"));
	cs_contact_set_json(remote->contact, CS_STATUS, cs_json_get(contact, "status"));
	if (cs_json_length(cs_json_get(contact, "tags")) >= 0)
		cs_contact_set(remote->contact, CS_TAGS, tag_ids(cs_json_get(contact, "tags")));
	return remote->contact->value[CS_EMAIL] != NULL;
}
