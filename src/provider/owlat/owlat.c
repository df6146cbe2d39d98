/*-------------------------------------------------------------------------
 *
 * owlat.c
 *		Owlat: create a contact, update it if it exists, add it to a topic.
 *
 * From the page "Contact Sync" [SEED]: there is no upsert, so create, and on a
 * conflict update by email address with the data alone; then, optionally, add
 * the contact to a topic; 3 to 5 calls at a time.  From the published SDK and
 * server [SRC]: the paths, 409 for a conflict, error categories, 10 calls per
 * second with a burst of 15, names and addresses of at most 200 characters,
 * null refused, "" clears on an update.
 *
 * Owlat keeps consent in topics, and adding a contact to a topic lifts any opt-out
 * [SRC].  So a contact is added only where consent is claimed, not again with every
 * change.  If opt_in is mapped, it decides: true adds, false removes, and who never
 * said true is not created.
 *
 * A contact that is known to exist is updated at once, which saves a call.
 *
 * request.c has what is sent, answer.c reads what comes back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/owlat/answer.h"
#include "provider/owlat/request.h"

static const char *const email_change_words[] = {"ignore", "follow", NULL};

/* ---------- options ---------- */

static const char *
check_email_change(const char *value)
{
	return cs_option_check_words(value, email_change_words);
}

static const char *
check_path(const char *value)
{
	return *value == '/' ? cs_option_check_header(value) : "must begin with a slash";
}

static const char *
check_topic_path(const char *value)
{
	return strstr(value, "{topic}") ? check_path(value) : "must contain {topic}";
}

static const CsOption options[] = {
	{.name = "topic_id",.place = CS_ON_SERVER,.check = cs_option_check_header,
	.help = "the ID of the topic that contacts are added to"},
	{.name = "on_opt_out",.place = CS_ON_SERVER,.check = cs_option_check_opt_out,.preset = "keep",
	.help = "what to do with a contact whose opt_in is no longer true: \"keep\" it outside of the topic, where campaigns to segments can still mail it, or \"delete\" it"},
	{.name = "on_email_change",.place = CS_ON_SERVER,.check = check_email_change,.preset = "ignore",
	.help = "what happens to the contact of the previous address: \"ignore\", or \"follow\", which gives it the new address"},
	{.name = "contacts_path",.place = CS_ON_SERVER,.check = check_path,.preset = "/api/v1/contacts",
	.help = "the path of contacts"},
	{.name = "topic_path",.place = CS_ON_SERVER,.check = check_topic_path,
		.preset = "/api/v1/topics/{topic}/contacts",
	.help = "the path of a topic's contacts; older servers have /api/v1/lists/{topic}/contacts"},
	{.name = NULL}
};

static const void *
configure(const CsEndpoint *endpoint)
{
	CsOwlat    *owlat = palloc0(sizeof(CsOwlat));

	owlat->contacts_path = cs_endpoint_option(endpoint, "contacts_path");
	owlat->topic_path = cs_endpoint_option(endpoint, "topic_path");
	owlat->topic_id = cs_endpoint_option(endpoint, "topic_id");
	owlat->delete_opt_outs = cs_endpoint_option_word(endpoint, "on_opt_out", cs_option_opt_out_words) ==
		CS_OPT_OUT_DELETE;
	owlat->follow_email = cs_endpoint_option_word(endpoint, "on_email_change",
												  email_change_words) == 1;
	return owlat;
}

/* Creating and updating contacts fires automations; a topic can have double opt-in. */
static const char *
bulk_risk(const CsEndpoint *endpoint, uint32 fields)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);

	if (owlat->topic_id)
		return "Owlat runs automations for contacts that are created or changed, and sends a confirmation request to everybody who is added to a topic with double opt-in.";
	return "Owlat runs automations for contacts that are created or changed, and these can mail people.";
}

static const char *
check_mapping(const CsEndpoint *endpoint, uint32 fields, const char **hint)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);

	if (!(fields & CS_FIELD_BIT(CS_OPT_IN)) || owlat->topic_id)
		return NULL;
	*hint = "Set the server option topic_id to the topic that opt_in is about, or do not map opt_in.";
	return "Owlat keeps consent in topics, and the option topic_id is not set";
}

/* ---------- consent ---------- */

static bool
deletes_opt_outs(const CsEndpoint *endpoint)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);

	return owlat->delete_opt_outs;
}

/* An update by address creates nothing. */
static bool
updates_withheld(const CsEndpoint *endpoint, const CsContact *contact)
{
	return cs_owlat_has_data(contact, endpoint->nulls_clear);
}

/* Without opt_in every contact is added to the topic. */
static bool
implies_consent(const CsEndpoint *endpoint)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);

	return owlat->topic_id != NULL;
}

/* ---------- lookups ---------- */

/* [SRC]: GET /api/v1/health, and pagination.totalItems of a list. */
static bool
build_check(const CsEndpoint *endpoint, int n, CsRequest *request)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);

	if (n > 1)
		return false;
	request->method = "GET";
	request->url = n == 0 ? psprintf("%s/api/v1/health", endpoint->base_url) :
		psprintf("%s%s?limit=1", endpoint->base_url, owlat->contacts_path);
	cs_message_add_header(request, "Accept", "application/json");
	return true;
}

static void
judge_check(const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
			const CsResponse *response, CsJson *doc, CsFinding *finding)
{
	int64		total;

	finding->name = n == 0 ? "health" : "contacts";
	if (n == 0)
	{
		finding->theirs = cs_json_text(cs_json_get(doc, "status"));
		if (finding->theirs)
			finding->result = strcmp(finding->theirs, "ok") == 0 ? CS_FINDING_OK : CS_FINDING_DIFFERS;
	}
	else if (cs_json_int(cs_json_path(doc, "pagination.totalItems"), &total))
		cs_answer_compare_counts(finding, local, total);
}

static bool
build_lookup(const CsEndpoint *endpoint, const CsContact *contact, CsRequest *request)
{
	request->method = "GET";
	request->url = cs_owlat_contact_url(endpoint, cs_provider_settings(endpoint), contact->upsert_key);
	cs_message_add_header(request, "Accept", "application/json");
	return true;
}

static bool
read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemoteContact *remote)
{
	CsJson	   *data = cs_json_get(doc, "data");

	remote->contact = palloc0(sizeof(CsContact));
	remote->id = cs_json_text(cs_json_get(data, "id"));
	remote->updated_at = cs_json_text(cs_json_get(data, "updatedAt"));
	cs_contact_set_json(remote->contact, CS_EMAIL, cs_json_get(data, "email"));
	/* a name that is not set is absent */
	cs_contact_set(remote->contact, CS_FIRST_NAME, cs_json_text(cs_json_get(data, "firstName")));
	cs_contact_set(remote->contact, CS_LAST_NAME, cs_json_text(cs_json_get(data, "lastName")));
	return remote->contact->value[CS_EMAIL] != NULL;
}

#define FIELDS \
	(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_FIRST_NAME) | \
	 CS_FIELD_BIT(CS_LAST_NAME) | CS_FIELD_BIT(CS_OPT_IN) | \
	 CS_FIELD_BIT(CS_OPT_IN_AT))

CS_ADAPTER(cs_owlat);

const CsProvider cs_owlat = {
	.name = "owlat",
	.title = "Owlat",
	.base_url = "https://api.owlat.app",
	.max_batch = 1,
	.pace = 9.8,				/* limit: 10 per second and key, 15 at once */
	.burst = 5,
	.concurrency = 5,			/* [SEED]: 3 to 5 */
	.max_retries = 3,
	.auth = CS_AUTH_BEARER,
	.fields = FIELDS,
	.required = CS_FIELD_BIT(CS_EMAIL),
	.abilities = CS_CAN_DELETE | CS_CAN_UNSUBSCRIBE,
	/* [SRC] */
	.mails_whoever_exists = "Owlat sends campaigns to segments to every contact that has not opted out of all mail, whatever topics it is in.",
	.consent_option = "topic_id",
	.options = options,
	.url_option = "contacts_path",
	.build = cs_owlat_build,
	.judge = cs_owlat_judge,
	.prepare = cs_owlat_prepare,
	.configure = configure,
	.check_mapping = check_mapping,
	.bulk_risk = bulk_risk,
	.deletes_opt_outs = deletes_opt_outs,
	.updates_withheld = updates_withheld,
	.implies_consent = implies_consent,
	.moves = cs_owlat_moves,
	.build_check = build_check,
	.judge_check = judge_check,
	.build_lookup = build_lookup,
	.read_contact = read_contact,
};
