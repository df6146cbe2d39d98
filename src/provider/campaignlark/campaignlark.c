/*-------------------------------------------------------------------------
 *
 * campaignlark.c
 *		CampaignLark: POST /contacts/upsert, one contact a call.
 *
 * From the page "Create or Update Contact" [SEED]: matched by email_address;
 * fields by merge tag; tags are integers; five statuses; partial_update merges,
 * and is false if it is left out.  From other pages [DOC]: the Bearer header,
 * 100 calls a second, GET /contacts/by-email, errors without a code.
 *
 * Two defaults of the API would harm people, so neither is ever left to it:
 * partial_update is always sent, for a full replacement without a status makes
 * an unsubscribed contact SUBSCRIBED; and a new contact without a status would
 * be SUBSCRIBED too, so a contact needs one (from opt_in or status) unless the
 * option new_contacts says what new contacts shall be.  What it says can be
 * sent only to those that are new, hence they are looked up first, except when
 * it says 'subscribed'.
 *
 * campaignlark_answer.c reads what comes back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/campaignlark/campaignlark.h"
#include "provider/email.h"

static const char *const statuses[] = {
	"SUBSCRIBED", "UNSUBSCRIBED", "UNCONFIRMED", "CLEANED", "COMPLAINED"
};
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
	{.name = "keep_opt_outs",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "false",
	.help = "whether a contact is looked up before it is subscribed, and not subscribed if it has unsubscribed or complained at CampaignLark"},
	{.name = "drop_unknown_fields",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "false",
	.help = "whether a contact is sent again without a field that CampaignLark does not know"},
	{.name = "on_email_change",.place = CS_ON_SERVER,.check = check_email_change,.preset = "ignore",
	.help = "what happens to the contact of the previous address: \"ignore\" or \"unsubscribe\""},
	{.name = "keep_email_case",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "false",
	.help = "whether email addresses keep their letter case"},
	{.name = "check_fields",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "true",
	.help = "whether the merge tags are checked at CampaignLark when a watch is created"},
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
	lark->keep_opt_outs = cs_endpoint_option_bool(endpoint, "keep_opt_outs");
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
	if (lark->keep_opt_outs)
		return "keep_opt_outs needs partial_update 'true': a full replacement sets the status of every contact";
	return NULL;
}

/*
 * [DOC]: creating one fires CONTACT_SUBSCRIBED_PENDING if it is UNCONFIRMED, and
 * nothing else; changes fire TAG_ADDED, TAG_REMOVED and FIELD_UPDATED.
 */
static const char *
bulk_risk(const CsEndpoint *endpoint, uint32 fields)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	bool		pending = (fields & CS_FIELD_BIT(CS_STATUS)) ||
	(lark->new_status && strcmp(lark->new_status, "UNCONFIRMED") == 0);
	bool		changes = (fields & ~(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_STATUS) |
									  CS_FIELD_BIT(CS_OPT_IN))) != 0;

	if (pending)
		return "CampaignLark starts automations for contacts that are created unconfirmed, or whose tags or fields change: people could be asked to confirm, or be mailed otherwise.";
	if (changes)
		return "CampaignLark starts automations for contacts whose tags or fields change: people could be mailed.";
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
	*hint = "Map opt_in or status to a column, or say what new contacts shall be with the server option new_contacts: 'unsubscribed', 'unconfirmed' or 'subscribed'.";
	return "CampaignLark subscribes every new contact that comes without a status";
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

/* ---------- contacts ---------- */

/* [SEED]: "array of integers"; numbers in quotes are taken. */
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
									  "tags must be integers, and %s is none",
									  tag ? cs_json_dump(tag) : "null");
		appendStringInfo(&out, "%s" INT64_FORMAT, i > 0 ? "," : "", id);
	}
	appendStringInfoCharMacro(&out, ']');
	contact->value[CS_TAGS] = out.data;
	return NULL;
}

/* [SEED]: one of five; any letter case is taken. */
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
							  "status \"%s\" is none of SUBSCRIBED, UNSUBSCRIBED, UNCONFIRMED, CLEANED, COMPLAINED",
							  value);
}

/* May mail be sent to who has this status, now or after a confirmation? */
static bool
is_claim(const char *status)
{
	return status && (strcmp(status, "SUBSCRIBED") == 0 || strcmp(status, "UNCONFIRMED") == 0);
}

/*
 * Make opt_in and status one: the one that claims less wins, and an opt-out
 * that is known here always does.
 */
static CsRefusal *
decide_status(const CsCampaignLark *lark, CsContact *contact)
{
	const char *status = contact->value[CS_STATUS];

	if (cs_contact_is(contact, CS_OPT_IN, "true") && status == NULL)
		status = "SUBSCRIBED";
	if (cs_contact_is(contact, CS_OPT_IN, "false") && (status == NULL || is_claim(status)))
		status = "UNSUBSCRIBED";
	if (contact->opted_out && (status == NULL || is_claim(status)))
		status = lark->partial_update ? NULL : "UNSUBSCRIBED";
	contact->value[CS_STATUS] = unconstify(char *, status);

	if (status || contact->opted_out || (lark->new_status && lark->partial_update))
		return NULL;
	return cs_contact_refuse(CS_REASON_MISSING_FIELD, "opt_in",
							  "the contact has neither opt_in nor status, and CampaignLark would subscribe it%s",
							  lark->partial_update ? " if it is new (see the option new_contacts)" : "");
}

static CsRefusal *
prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	CsRefusal  *refusal;

	if (contact->action == CS_DELETE)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL,
								  "CampaignLark deletes no contacts; it can unsubscribe them");
	if (contact->value[CS_EMAIL] == NULL && contact->upsert_key)
		cs_contact_set(contact, CS_EMAIL, contact->upsert_key);
	if (contact->value[CS_EMAIL] == NULL)
		return cs_contact_refuse(CS_REASON_MISSING_FIELD, "email", "email is missing");

	/* two spellings of one address must not be in flight at once */
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

/* Was consent claimed before, for this very address? */
static bool
has_claimed(const CsContact *contact)
{
	return contact->consent_sent && contact->previous_key == NULL;
}

bool
cs_campaignlark_looks_up(const CsCampaignLark *lark, const CsContact *contact)
{
	if (contact->action != CS_UPSERT || !lark->partial_update)
		return false;
	if (contact->value[CS_STATUS] == NULL)
		return contact->opted_out || strcmp(lark->new_status, "SUBSCRIBED") != 0;
	return lark->keep_opt_outs && !has_claimed(contact) &&
		is_claim(contact->value[CS_STATUS]);
}

/*
 * A claim of consent that CampaignLark has been told already is not repeated:
 * the person may have unsubscribed there in the meantime.
 */
const char *
cs_campaignlark_status(const CsCampaignLark *lark, const CsContact *contact, int step)
{
	const char *status = contact->value[CS_STATUS];

	if (contact->action == CS_UNSUBSCRIBE || CS_LARK_KIND(step) == CS_LARK_OLD)
		return "UNSUBSCRIBED";
	if (CS_LARK_KIND(step) == CS_LARK_KEEP)
		return NULL;
	if (CS_LARK_KIND(step) == CS_LARK_SET && status == NULL)
		return contact->opted_out ? "UNSUBSCRIBED" : lark->new_status;
	if (CS_LARK_KIND(step) == CS_LARK_FIRST && lark->partial_update &&
		has_claimed(contact) && status && strcmp(status, "SUBSCRIBED") == 0)
		return NULL;
	return status;
}

/* Whether that field is one of the dropped ones. */
static bool
is_dropped(uint32 dropped, int field)
{
	return field < CS_LARK_MAX_DROPPED && (dropped & (UINT32_C(1) << field)) != 0;
}

/*
 * [SEED]: "Key-value map of additional field values keyed by merge_tag.
 * email_address is ignored here if provided", so it is not.
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
			cs_json_member(out, lark->tag[i], contact->value[i]);
	}
	for (int i = 0; i < contact->nattributes; i++)
	{
		const CsAttribute *attribute = &contact->attributes[i];

		if ((nulls || strcmp(attribute->json, "null") != 0) &&
			!is_dropped(dropped, CS_LARK_ATTRIBUTE(i)) &&
			strcmp(attribute->name, "email_address") != 0)
			cs_json_member_raw(out, attribute->name, attribute->json);
	}

	if (out->data[out->len - 1] == '{')
	{
		out->len = start;		/* none: leave the whole member out */
		out->data[start] = '\0';
	}
	else
		appendStringInfoCharMacro(out, '}');
}

/* The body of an upsert; that of an unsubscription touches nothing but the status. */
static void
write_contact(StringInfo out, const CsEndpoint *endpoint, const CsBatch *batch)
{
	const CsCampaignLark *lark = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];
	bool		old = (CS_LARK_KIND(batch->step) == CS_LARK_OLD);
	bool		whole = (contact->action == CS_UPSERT && !old);
	const char *status = cs_campaignlark_status(lark, contact, batch->step);

	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "email_address", old ? contact->previous_key : contact->value[CS_EMAIL]);
	if (whole)
		write_fields(out, lark, endpoint->nulls_clear, CS_LARK_DROPPED(batch->step), contact);
	if (whole && contact->value[CS_TAGS])
		cs_json_member_raw(out, "tags", contact->value[CS_TAGS]);
	if (status)
		cs_json_member(out, "status", status);
	cs_json_member_raw(out, "partial_update", !whole || lark->partial_update ? "true" : "false");
	appendStringInfoCharMacro(out, '}');
}

static void
build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
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

#define FIELDS \
	(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_EXTERNAL_ID) | \
	 CS_FIELD_BIT(CS_FIRST_NAME) | CS_FIELD_BIT(CS_LAST_NAME) | \
	 CS_FIELD_BIT(CS_PHONE) | CS_FIELD_BIT(CS_LOCALE) | \
	 CS_FIELD_BIT(CS_TIMEZONE) | CS_FIELD_BIT(CS_OPT_IN) | \
	 CS_FIELD_BIT(CS_STATUS) | CS_FIELD_BIT(CS_TAGS) | \
	 CS_FIELD_BIT(CS_ATTRIBUTES))

const CsProvider cs_campaignlark = {
	.name = "campaignlark",
	.title = "CampaignLark",
	.base_url = "https://api.campaignlark.com/v1",
	.max_batch = 1,
	.pace = 50,					/* 100 a second are allowed to the workspace */
	.burst = 10,
	.concurrency = 10,
	.max_retries = 5,
	.auth = CS_AUTH_BEARER,
	.fields = FIELDS,
	.required = CS_FIELD_BIT(CS_EMAIL),
	.abilities = CS_CAN_UNSUBSCRIBE,
	.options = options,
	.build = build,
	.judge = cs_campaignlark_judge,
	.prepare = prepare,
	.configure = configure,
	.check_options = check_options,
	.check_mapping = check_mapping,
	.bulk_risk = bulk_risk,
	.check_attribute = check_attribute,
	.build_check = cs_campaignlark_build_check,
	.judge_check = cs_campaignlark_judge_check,
	.mapping_check = 1,
	.build_lookup = cs_campaignlark_build_lookup,
	.read_contact = cs_campaignlark_read_contact,
};
