/*-------------------------------------------------------------------------
 *
 * campaignlark.c
 *		CampaignLark: POST /contacts/upsert, one contact per call.
 *
 * From the page "Create or Update Contact" [SEED]: matched by email_address;
 * fields by merge tag; tags are integers; five statuses; partial_update merges,
 * and is false if it is left out.  From other pages [DOC]: the Bearer header,
 * 100 calls per second, GET /contacts/by-email, errors without a code.
 *
 * Two defaults of the API would harm people, so the adapter never relies on them.
 * partial_update is always sent, because a full replacement without a status
 * subscribes a contact that had unsubscribed.  And a new contact without a status
 * would be subscribed, so each contact needs a status (from opt_in or status),
 * unless the option new_contacts gives the status of new contacts.  That status must
 * be sent to new contacts only, so contacts are looked up first, except when it is
 * 'subscribed'.
 *
 * request.c has what is sent, answer.c reads what comes back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/campaignlark/answer.h"
#include "provider/campaignlark/request.h"

static const char *const new_contacts_words[] = {"subscribed", "unsubscribed", "unconfirmed", NULL};
static const char *const email_change_words[] = {"ignore", "unsubscribe", NULL};

/* ---------- options ---------- */

static const char *
check_new_contacts(const char *value)
{
	return cs_option_check_words(value, new_contacts_words);
}

static const char *
check_email_change(const char *value)
{
	return cs_option_check_words(value, email_change_words);
}

static const CsOption options[] = {
	{.name = "partial_update",.place = CS_ON_SERVER,.payload = true,.check = cs_option_check_boolean,.preset = "true",
	.help = "whether an existing contact is updated rather than replaced"},
	{.name = "new_contacts",.place = CS_ON_SERVER,.check = check_new_contacts,
	.help = "the status of new contacts without opt_in or status: \"subscribed\", \"unsubscribed\" or \"unconfirmed\"; without this option they are refused"},
	{.name = "drop_unknown_fields",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "false",
	.help = "whether a contact is sent again without a field that CampaignLark does not know"},
	{.name = "on_email_change",.place = CS_ON_SERVER,.check = check_email_change,.preset = "ignore",
	.help = "what happens to the contact of the previous address: \"ignore\" or \"unsubscribe\""},
	{.name = "keep_email_case",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "false",
	.help = "whether email addresses keep their letter case"},
	{.name = "check_fields",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "true",
	.help = "whether the merge tags and types of fields are retrieved from CampaignLark when a watch is created"},
	{.name = "external_id_field",.place = CS_ON_SERVER,.payload = true,.preset = "external_id",
	.help = "the merge tag of external_id"},
	{.name = "first_name_field",.place = CS_ON_SERVER,.payload = true,.preset = "first_name",
	.help = "the merge tag of first_name"},
	{.name = "last_name_field",.place = CS_ON_SERVER,.payload = true,.preset = "last_name",
	.help = "the merge tag of last_name"},
	{.name = "phone_field",.place = CS_ON_SERVER,.payload = true,.preset = "phone",
	.help = "the merge tag of phone"},
	{.name = "locale_field",.place = CS_ON_SERVER,.payload = true,.preset = "locale",
	.help = "the merge tag of locale"},
	{.name = "timezone_field",.place = CS_ON_SERVER,.payload = true,.preset = "timezone",
	.help = "the merge tag of timezone"},
	{.name = NULL}
};

static const void *
configure(const CsEndpoint *endpoint)
{
	static const char *const new_statuses[] = {"SUBSCRIBED", "UNSUBSCRIBED", "UNCONFIRMED"};
	CsCampaignLark *lark = palloc0(sizeof(CsCampaignLark));

	lark->partial_update = cs_endpoint_option_bool(endpoint, "partial_update");
	if (cs_endpoint_option(endpoint, "new_contacts"))
		lark->new_status = new_statuses[cs_endpoint_option_word(endpoint, "new_contacts",
																new_contacts_words)];
	lark->drop_unknown_fields = cs_endpoint_option_bool(endpoint, "drop_unknown_fields");
	lark->unsubscribe_old = cs_endpoint_option_word(endpoint, "on_email_change",
													email_change_words) == 1;
	lark->tag[CS_EXTERNAL_ID] = cs_endpoint_option(endpoint, "external_id_field");
	lark->tag[CS_FIRST_NAME] = cs_endpoint_option(endpoint, "first_name_field");
	lark->tag[CS_LAST_NAME] = cs_endpoint_option(endpoint, "last_name_field");
	lark->tag[CS_PHONE] = cs_endpoint_option(endpoint, "phone_field");
	lark->tag[CS_LOCALE] = cs_endpoint_option(endpoint, "locale_field");
	lark->tag[CS_TIMEZONE] = cs_endpoint_option(endpoint, "timezone_field");
	return lark;
}

static const char *
check_options(const CsEndpoint *endpoint)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);

	if (lark->partial_update)
		return NULL;
	if (lark->new_status)
		return "new_contacts needs partial_update 'true': a full replacement sets the status of every contact";
	return NULL;
}

/*
 * [DOC]: creating a contact fires CONTACT_SUBSCRIBED_PENDING if it is UNCONFIRMED,
 * and nothing else; changes fire TAG_ADDED, TAG_REMOVED and FIELD_UPDATED.
 */
static const char *
bulk_risk(const CsEndpoint *endpoint, uint32 fields)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	bool		pending = (fields & CS_FIELD_BIT(CS_STATUS)) ||
	(lark->new_status && strcmp(lark->new_status, "UNCONFIRMED") == 0);
	bool		changes = (fields & ~(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_STATUS) |
									  CS_FIELD_BIT(CS_OPT_IN) | CS_FIELD_BIT(CS_OPT_IN_AT))) != 0;

	if (pending)
		return "CampaignLark starts automations for contacts that are created unconfirmed, or whose tags or fields change: people could be asked to confirm, or receive other mail.";
	if (changes)
		return "CampaignLark starts automations for contacts whose tags or fields change: people could receive mail.";
	return NULL;
}

/* [SEED]: status "Defaults to SUBSCRIBED if omitted on create or full replace". */
static const char *
check_mapping(const CsEndpoint *endpoint, uint32 fields, const char **hint)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);

	if ((fields & (CS_FIELD_BIT(CS_OPT_IN) | CS_FIELD_BIT(CS_STATUS))) || lark->new_status)
		return NULL;
	if (!lark->partial_update)
	{
		*hint = "Map opt_in or status to a column, or set the server option partial_update to 'true'.";
		return "CampaignLark subscribes every contact that is replaced without a status";
	}
	*hint = "Map opt_in or status to a column, or set the status of new contacts with the server option new_contacts: 'unsubscribed', 'unconfirmed' or 'subscribed'.";
	return "CampaignLark subscribes every new contact that comes without a status";
}

static bool
replaces(const CsEndpoint *endpoint)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);

	return !lark->partial_update;
}

/* The contact of an address that its row has left. */
static CsAction
left_behind(const CsEndpoint *endpoint)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);

	return lark->unsubscribe_old ? CS_UNSUBSCRIBE : CS_UPSERT;
}

/* [DOC create-field]: "2-16 chars, lowercase letters and underscores only". */
static const char *
check_attribute(const CsEndpoint *endpoint, const char *name)
{
	size_t		len = strlen(name);

	if (len >= 2 && len <= 16 && strspn(name, "abcdefghijklmnopqrstuvwxyz_") == len)
		return NULL;
	return "merge tags of CampaignLark have 2 to 16 lower-case letters and underscores";
}

/* ---------- lookups ---------- */

/*
 * [DOC fields]: GET /fields lists the merge tags that an upsert may use.  No call
 * returns the number of contacts.
 */
static bool
build_check(const CsEndpoint *endpoint, int n, CsRequest *request)
{
	if (n > 0)
		return false;
	request->method = "GET";
	request->url = psprintf("%s/fields", endpoint->base_url);
	cs_message_add_header(request, "Accept", "application/json");
	return true;
}

/* Return the definition of a merge tag, or NULL. */
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

/* List a tag among ours, and among the missing ones if CampaignLark has it not. */
static void
check_tag(CsJson *fields, const char *tag, StringInfo ours, StringInfo missing)
{
	append_name(ours, tag);
	if (find_tag(fields, tag) == NULL)
		append_name(missing, psprintf("\"%s\"", tag));
}

static void
judge_check(const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
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

/*
 * [DOC fields]: TEXT, NUMBER, BOOL, DATE, which is RFC 3339, and MULTI; or, on the
 * page of create-field, BOOLEAN, DROPDOWN_SINGLE, DROPDOWN_MULTIPLE and COUNTRY.
 */
static CsValueType
value_type(const CsEndpoint *endpoint, CsJson *doc, CsField field, const char *attribute)
{
	static const struct
	{
		const char *name;
		CsValueType type;
	}			types[] = {
		{"TEXT", CS_VALUE_TEXT}, {"DROPDOWN_SINGLE", CS_VALUE_TEXT}, {"COUNTRY", CS_VALUE_TEXT},
		{"NUMBER", CS_VALUE_NUMBER}, {"BOOL", CS_VALUE_BOOLEAN}, {"BOOLEAN", CS_VALUE_BOOLEAN},
		{"DATE", CS_VALUE_TIME}
	};
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	const char *tag = attribute ? attribute : lark->tag[field];
	const char *name = tag ? cs_json_string(cs_json_get(find_tag(cs_json_get(doc, "data"), tag), "type")) : NULL;

	for (int i = 0; name && i < lengthof(types); i++)
		if (strcmp(name, types[i].name) == 0)
			return types[i].type;
	return CS_VALUE_ANY;
}

/* [DOC retrieve-contact-by-email]: GET /contacts/by-email. */
static bool
build_lookup(const CsEndpoint *endpoint, const CsContact *contact,
			 CsRequest *request)
{
	request->method = "GET";
	request->url = psprintf("%s/contacts/by-email?email=%s", endpoint->base_url,
							cs_url_encode(contact->value[CS_EMAIL]));
	cs_message_add_header(request, "Accept", "application/json");
	return true;
}

/* [DOC]: tags are returned with their names, but sent by ID. */
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
static bool
read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemoteContact *remote)
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

#define FIELDS \
	(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_EXTERNAL_ID) | \
	 CS_FIELD_BIT(CS_FIRST_NAME) | CS_FIELD_BIT(CS_LAST_NAME) | \
	 CS_FIELD_BIT(CS_PHONE) | CS_FIELD_BIT(CS_LOCALE) | \
	 CS_FIELD_BIT(CS_TIMEZONE) | CS_FIELD_BIT(CS_OPT_IN) | CS_FIELD_BIT(CS_OPT_IN_AT) | \
	 CS_FIELD_BIT(CS_STATUS) | CS_FIELD_BIT(CS_TAGS) | \
	 CS_FIELD_BIT(CS_ATTRIBUTES))

CS_ADAPTER(cs_campaignlark);

const CsProvider cs_campaignlark = {
	.name = "campaignlark",
	.title = "CampaignLark",
	.base_url = "https://api.campaignlark.com/v1",
	.max_batch = 1,
	.pace = 50,					/* limit: 100 per second and workspace */
	.burst = 10,
	.concurrency = 10,
	.max_retries = 5,
	.auth = CS_AUTH_BEARER,
	.fields = FIELDS,
	.required = CS_FIELD_BIT(CS_EMAIL),
	.abilities = CS_CAN_UNSUBSCRIBE,
	.options = options,
	.build = cs_campaignlark_build,
	.judge = cs_campaignlark_judge,
	.prepare = cs_campaignlark_prepare,
	.configure = configure,
	.check_options = check_options,
	.check_mapping = check_mapping,
	.bulk_risk = bulk_risk,
	.replaces = replaces,
	.left_behind = left_behind,
	.check_attribute = check_attribute,
	.build_check = build_check,
	.judge_check = judge_check,
	.mapping_check = 1,
	.value_type = value_type,
	.build_lookup = build_lookup,
	.read_contact = read_contact,
};
