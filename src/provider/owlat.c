/*-------------------------------------------------------------------------
 *
 * owlat.c
 *		Owlat: create a contact, update it if it exists, add it to a topic.
 *
 * From the page "Contact Sync" [SEED]: there is no upsert, so create, and on a
 * conflict update by e-mail address with the data alone; then, by option, add
 * the contact to a topic; 3 to 5 calls at a time.  From the published SDK and
 * server [SRC]: the paths, 409 for a conflict, error categories, 10 calls a
 * second with a burst of 15, names and addresses of at most 200 characters,
 * null refused, "" clears on an update.
 *
 * Consent lives in topics, and adding somebody to one lifts an opt-out from
 * everything [SRC].  So membership is asked for once per contact and topic and
 * not again at every change, never for who is known to have opted out, and if
 * opt_in is mapped it decides: true adds, false removes.
 *
 * A contact that we know to be there is updated at once, which saves a call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/answer.h"
#include "provider/provider.h"

#define MAX_NAME	200			/* characters, of the address as well */

/* What an upsert has to do next. */
enum
{
	STEP_FIRST,					/* CREATE, or what is known to be shorter */
	STEP_CREATE,				/* on a conflict UPDATE */
	STEP_UPDATE,				/* if it has gone RECREATE */
	STEP_RECREATE,				/* on a conflict begin again */
	STEP_TOPIC
};

/* What a call does. */
typedef enum OwlatCall
{
	CALL_CREATE,
	CALL_UPDATE,
	CALL_MOVE,					/* update the contact of the old address */
	CALL_JOIN,					/* the topic */
	CALL_LEAVE,
	CALL_DELETE
} OwlatCall;

typedef struct Owlat
{
	const char *contacts_path;
	const char *topic_path;		/* with {topic} */
	const char *topic_id;
	bool		topic_always;
	bool		follow_email;
} Owlat;

static const char *const topic_modes[] = {"once", "always", NULL};
static const char *const email_change_words[] = {"ignore", "follow", NULL};

/* ---------- options ---------- */

static const char *
check_topic_mode(const char *value)
{
	return cs_option_check_words(value, topic_modes);
}

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
	{.name = "topic_mode",.place = CS_ON_SERVER,.check = check_topic_mode,.preset = "once",
	.help = "how often a contact is added to the topic: \"once\", or \"always\", which undoes what people did at Owlat"},
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
	Owlat	   *owlat = palloc0(sizeof(Owlat));

	owlat->contacts_path = cs_endpoint_option(endpoint, "contacts_path");
	owlat->topic_path = cs_endpoint_option(endpoint, "topic_path");
	owlat->topic_id = cs_endpoint_option(endpoint, "topic_id");
	owlat->topic_always = cs_endpoint_option_word(endpoint, "topic_mode", topic_modes) == 1;
	owlat->follow_email = cs_endpoint_option_word(endpoint, "on_email_change",
												  email_change_words) == 1;
	return owlat;
}

/* Creating and updating contacts fires automations; a topic can have double
 * opt-in. */
static const char *
bulk_risk(const CsEndpoint *endpoint, uint32 fields)
{
	const Owlat *owlat = cs_provider_settings(endpoint);

	if (owlat->topic_id)
		return "Owlat runs automations for contacts that are created or changed, and mails everybody who is added to a topic with double opt-in for a confirmation.";
	return "Owlat runs automations for contacts that are created or changed, and these can mail people.";
}

static const char *
check_mapping(const CsEndpoint *endpoint, uint32 fields, const char **hint)
{
	const Owlat *owlat = cs_provider_settings(endpoint);

	if (!(fields & CS_FIELD_BIT(CS_OPT_IN)) || owlat->topic_id)
		return NULL;
	*hint = "Set the server option topic_id to the topic that opt_in is about, or do not map opt_in.";
	return "Owlat keeps consent in topics, and the server names none";
}

/* ---------- contacts ---------- */

/* [SRC]: the create mutation takes 200 characters, an update more. */
static CsRefusal *
check_length(const CsContact *contact, CsField field)
{
	const char *value = contact->value[field];

	if (value == NULL || strlen(value) <= MAX_NAME || cs_contact_text_length(value) <= MAX_NAME)
		return NULL;
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, cs_contact_field_name(field),
							  "%s has more than %d characters",
							  cs_contact_field_name(field), MAX_NAME);
}

static CsRefusal *
prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const Owlat *owlat = cs_provider_settings(endpoint);
	CsRefusal  *refusal;

	if (contact->value[CS_EMAIL] == NULL && contact->upsert_key)
		cs_contact_set(contact, CS_EMAIL, contact->upsert_key);
	if (contact->value[CS_EMAIL] == NULL)
		return cs_contact_refuse(CS_REASON_MISSING_FIELD, "email", "email is missing");
	contact->upsert_key = contact->value[CS_EMAIL];

	if (contact->action == CS_UNSUBSCRIBE && owlat->topic_id == NULL)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL,
								  "Owlat unsubscribes from topics, and the option topic_id names none");
	if ((contact->present & CS_FIELD_BIT(CS_OPT_IN)) && owlat->topic_id == NULL)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, "opt_in",
								  "Owlat keeps consent in topics, and the option topic_id names none");
	refusal = check_length(contact, CS_EMAIL);
	if (refusal == NULL)
		refusal = check_length(contact, CS_FIRST_NAME);
	if (refusal == NULL)
		refusal = check_length(contact, CS_LAST_NAME);
	return refusal;
}

/* Is the contact of the old address to get the new one? */
static bool
moves(const Owlat *owlat, const CsContact *contact)
{
	return owlat->follow_email && contact->previous_key && !contact->previous_shared &&
		strcmp(contact->previous_key, contact->upsert_key) != 0;
}

/* The topics that this contact was added to; those of an old address do not count. */
static const char *
topics_of(const Owlat *owlat, const CsContact *contact)
{
	return contact->previous_key == NULL || moves(owlat, contact) ? contact->topics : NULL;
}

/* Where the topic of the option stands in that list, or NULL. */
static const char *
find_topic(const Owlat *owlat, const char *topics)
{
	size_t		len = strlen(owlat->topic_id);

	while (topics)
	{
		if (strcspn(topics, " ") == len && strncmp(topics, owlat->topic_id, len) == 0)
			return topics;
		topics = strchr(topics, ' ');
		topics = topics ? topics + 1 : NULL;
	}
	return NULL;
}

static bool
has_joined(const Owlat *owlat, const CsContact *contact)
{
	return find_topic(owlat, topics_of(owlat, contact)) != NULL;
}

/* The list as it is when the contact has joined the topic of the option. */
static const char *
topics_with(const Owlat *owlat, const CsContact *contact)
{
	const char *topics = topics_of(owlat, contact);

	if (find_topic(owlat, topics))
		return topics;
	return topics ? psprintf("%s %s", topics, owlat->topic_id) : owlat->topic_id;
}

/* ... and when it has left it; NULL if none remain. */
static const char *
topics_without(const Owlat *owlat, const CsContact *contact)
{
	const char *topics = topics_of(owlat, contact);
	const char *found = find_topic(owlat, topics);
	const char *rest;

	if (found == NULL)
		return topics;
	rest = found + strlen(owlat->topic_id);
	if (found == topics)
		return *rest ? rest + 1 : NULL;
	return psprintf("%.*s%s", (int) (found - topics - 1), topics, rest);
}

static bool
has_data(const CsContact *contact, bool nulls)
{
	return (contact->value[CS_FIRST_NAME] || contact->value[CS_LAST_NAME]) ||
		(nulls && (contact->present & (CS_FIELD_BIT(CS_FIRST_NAME) | CS_FIELD_BIT(CS_LAST_NAME))));
}

/* What is there to do about the topic: CALL_JOIN, CALL_LEAVE, or -1. */
static int
topic_call(const Owlat *owlat, const CsContact *contact)
{
	bool		mapped = (contact->present & CS_FIELD_BIT(CS_OPT_IN)) != 0;

	if (owlat->topic_id == NULL)
		return -1;
	if (contact->action == CS_UNSUBSCRIBE || cs_contact_is(contact, CS_OPT_IN, "false"))
		return CALL_LEAVE;
	if (contact->opted_out || (mapped && contact->value[CS_OPT_IN] == NULL))
		return -1;
	return has_joined(owlat, contact) && !owlat->topic_always ? -1 : CALL_JOIN;
}

static OwlatCall
call_of(const CsEndpoint *endpoint, const CsBatch *batch)
{
	const Owlat *owlat = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];

	if (batch->action == CS_DELETE)
		return CALL_DELETE;
	if (batch->action == CS_UNSUBSCRIBE)
		return CALL_LEAVE;
	switch (batch->step)
	{
		case STEP_FIRST:
			if (moves(owlat, contact))
				return CALL_MOVE;
			return contact->remote_id && contact->previous_key == NULL &&
				has_data(contact, endpoint->nulls_clear) ? CALL_UPDATE : CALL_CREATE;
		case STEP_UPDATE:
			return CALL_UPDATE;
		case STEP_TOPIC:
			return topic_call(owlat, contact) == CALL_LEAVE ? CALL_LEAVE : CALL_JOIN;
		default:
			return CALL_CREATE;
	}
}

/* ---------- requests ---------- */

/*
 * {email?, firstName?, lastName?}.  [SRC]: they must be strings, null is a 400;
 * "" clears on an update, and is the same as nothing on a create.
 */
static void
write_contact(StringInfo out, const CsContact *contact, bool with_email, bool clear)
{
	appendStringInfoCharMacro(out, '{');
	if (with_email)
		cs_json_member(out, "email", contact->value[CS_EMAIL]);
	if (contact->value[CS_FIRST_NAME] || (clear && (contact->present & CS_FIELD_BIT(CS_FIRST_NAME))))
		cs_json_member(out, "firstName",
					   contact->value[CS_FIRST_NAME] ? contact->value[CS_FIRST_NAME] : "");
	if (contact->value[CS_LAST_NAME] || (clear && (contact->present & CS_FIELD_BIT(CS_LAST_NAME))))
		cs_json_member(out, "lastName",
					   contact->value[CS_LAST_NAME] ? contact->value[CS_LAST_NAME] : "");
	appendStringInfoCharMacro(out, '}');
}

/* The URL of the topic's contacts, or of one of them. */
static char *
topic_url(const CsEndpoint *endpoint, const Owlat *owlat, const char *email)
{
	const char *hole = strstr(owlat->topic_path, "{topic}");

	return psprintf("%s%.*s%s%s%s%s", endpoint->base_url,
					(int) (hole - owlat->topic_path), owlat->topic_path,
					cs_url_encode(owlat->topic_id),
					hole + strlen("{topic}"),
					email ? "/" : "", email ? cs_url_encode(email) : "");
}

static char *
contact_url(const CsEndpoint *endpoint, const Owlat *owlat, const char *email)
{
	return psprintf("%s%s/%s", endpoint->base_url, owlat->contacts_path,
					cs_url_encode(email));
}

static void
build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
{
	const Owlat *owlat = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];
	OwlatCall	call = call_of(endpoint, batch);

	cs_message_add_header(request, "Accept", "application/json");
	if (call == CALL_DELETE || call == CALL_LEAVE)
	{
		request->method = "DELETE";
		request->url = call == CALL_DELETE ?
			contact_url(endpoint, owlat, contact->upsert_key) :
			topic_url(endpoint, owlat, contact->upsert_key);
		return;
	}

	cs_message_add_header(request, "Content-Type", "application/json");
	initStringInfo(&request->body);
	request->method = call == CALL_UPDATE || call == CALL_MOVE ? "PUT" : "POST";
	switch (call)
	{
		case CALL_UPDATE:
			request->url = contact_url(endpoint, owlat, contact->upsert_key);
			write_contact(&request->body, contact, false, endpoint->nulls_clear);
			break;
		case CALL_MOVE:
			request->url = contact_url(endpoint, owlat, contact->previous_key);
			write_contact(&request->body, contact, true, endpoint->nulls_clear);
			break;
		case CALL_JOIN:
			request->url = topic_url(endpoint, owlat, NULL);
			appendStringInfoCharMacro(&request->body, '{');
			cs_json_member(&request->body, "email", contact->upsert_key);
			appendStringInfoCharMacro(&request->body, '}');
			break;
		default:
			request->url = psprintf("%s%s", endpoint->base_url, owlat->contacts_path);
			write_contact(&request->body, contact, true, false);
	}
}

/* ---------- answers ---------- */

static void
go_on(CsJudgement *judgement, int step, const char *why)
{
	cs_answer_conclude(judgement, CS_STEP, NULL, "%s", why);
	judgement->next_step = step;
}

/* The contact is as it should be; is the topic? */
static void
finish(const Owlat *owlat, const CsBatch *batch, CsJudgement *judgement)
{
	const CsContact *contact = batch->contacts[0];

	if (topic_call(owlat, contact) >= 0)
		go_on(judgement, STEP_TOPIC, "the contact is there, the topic is next");
	else
		judgement->outcomes[0].topics = topics_of(owlat, contact);
}

/* [SRC]: {"error":{"category","message"}}, formerly "code". */
static const char *
error_code(CsJson *doc)
{
	const char *code = cs_json_text(cs_json_path(doc, "error.category"));

	return code ? code : cs_json_text(cs_json_path(doc, "error.code"));
}

/*
 * Is it the contact that is not there?  [SRC]: a wrong path is a 404 too, in
 * plain text.
 */
static bool
is_not_found(const CsResponse *response, CsJson *doc)
{
	const char *code = error_code(doc);

	return response->status == 404 && code && strcmp(code, "not_found") == 0;
}

/* [SRC]: 201 or 200 with {"data":{"id":...}}. */
static bool
read_contact(const CsResponse *response, CsJson *doc, CsOutcome *outcome)
{
	CsJson	   *data = cs_json_get(doc, "data");

	if (response->status >= 300)
		return false;
	outcome->remote_id = cs_json_text(cs_json_get(data, "id"));
	outcome->remote_updated_at = cs_json_text(cs_json_get(data, "updatedAt"));
	return outcome->remote_id || cs_json_text(cs_json_get(data, "email"));
}

/* [SEED]: "Contact already exists -- update instead".  False if undecided. */
static bool
judge_create(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			 CsJudgement *judgement)
{
	const Owlat *owlat = cs_provider_settings(endpoint);

	if (response->status != 409)
		return false;
	if (batch->step == STEP_RECREATE)
		cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNAVAILABLE,
							 "the contact comes and goes: it was not there to be updated, then there to be created");
	else if (has_data(batch->contacts[0], endpoint->nulls_clear))
		go_on(judgement, STEP_UPDATE, "the contact exists");
	else
		finish(owlat, batch, judgement);	/* there is nothing to update */
	return true;
}

/* A contact that has gone is made anew, once; one whose address is taken stays. */
static bool
judge_update(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			 CsJson *doc, OwlatCall call, CsJudgement *judgement)
{
	bool		gone = is_not_found(response, doc);

	if (call == CALL_MOVE && (gone || response->status == 409))
		go_on(judgement, STEP_CREATE, gone ? "there is no contact with the old address" :
			  "another contact has the new address already");
	else if (gone)
		go_on(judgement, STEP_RECREATE, "the contact has gone");
	else
		return false;
	return true;
}

/* What is not said otherwise; [SRC] 403: a scope is missing. */
static void
refuse(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
	   CsJson *doc, CsJudgement *judgement)
{
	cs_answer_judge_refusal(endpoint, batch, response, doc, judgement);
	if (response->status == 403 && cs_answer_mentions(cs_answer_error_message(doc), "scope"))
		judgement->reason = CS_HALT_SCOPE;
}

/* Is it the topic that Owlat does not know, so that all contacts are concerned? */
static bool
is_topic_wrong(const CsResponse *response, CsJson *doc)
{
	if (response->status == 404 && !is_not_found(response, doc))
		return true;
	return (response->status == 404 || response->status == 400) &&
		cs_answer_mentions(cs_answer_error_message(doc), "topic");
}

/*
 * The contact is written already, so if it cannot join that is noted beside the
 * success.  If it cannot leave, an opt-out did not arrive: that is a failure.
 */
static void
judge_topic(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			CsJson *doc, bool join, CsJudgement *judgement)
{
	const Owlat *owlat = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];
	CsOutcome  *outcome = &judgement->outcomes[0];
	const char *message = cs_answer_error_message(doc);
	const char *doi = cs_json_text(cs_json_path(doc, "data.doiStatus"));

	if (message == NULL)
		message = psprintf("HTTP status %d", response->status);
	if (is_topic_wrong(response, doc))
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_TOPIC,
							 "Owlat does not take the topic of option topic_id: %s", message);
	else if (response->status < 300 || (!join && is_not_found(response, doc)))
	{
		outcome->topics = join ? topics_with(owlat, contact) : topics_without(owlat, contact);
		if (doi && strcmp(doi, "pending") == 0)
			outcome->note = "topic: Owlat asked the person for a confirmation";
	}
	else if (!join || response->status == 402 || response->status == 403)
		refuse(endpoint, batch, response, doc, judgement);
	else
	{
		outcome->topics = topics_of(owlat, contact);
		outcome->note = psprintf("topic: %s", message);
	}
}

/* [SRC]: one who is not there is deleted. */
static bool
judge_deletion(const CsResponse *response, CsJson *doc, CsJudgement *judgement)
{
	if (is_not_found(response, doc))
		judgement->outcomes[0].note = "there was no such contact";
	else if (response->status >= 300)
		return false;
	return true;
}

/* [SRC]: error.data.retryAfter before the header, as the SDK does. */
static void
refine_throttle(CsJson *doc, CsJudgement *judgement)
{
	double		seconds;

	if (cs_json_number(cs_json_path(doc, "error.data.retryAfter"), &seconds) && seconds >= 0)
		judgement->retry_after = seconds;
}

static void
judge(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
	  CsJudgement *judgement)
{
	const Owlat *owlat = cs_provider_settings(endpoint);
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);
	OwlatCall	call = call_of(endpoint, batch);

	judgement->request_id = cs_message_header(response, "x-request-id");
	judgement->code = error_code(doc);
	if (cs_answer_judge_common(endpoint, response, doc, judgement))
	{
		if (response->status == 429)
			refine_throttle(doc, judgement);
		return;
	}

	if (call == CALL_JOIN || call == CALL_LEAVE)
		judge_topic(endpoint, batch, response, doc, call == CALL_JOIN, judgement);
	else if (call == CALL_DELETE && judge_deletion(response, doc, judgement))
		return;
	else if (call != CALL_DELETE && read_contact(response, doc, &judgement->outcomes[0]))
		finish(owlat, batch, judgement);
	else if (response->status < 300)
		cs_answer_judge_unreadable(endpoint, batch, response, false, judgement);
	else if (call == CALL_CREATE && judge_create(endpoint, batch, response, judgement))
		return;
	else if ((call == CALL_UPDATE || call == CALL_MOVE) &&
			 judge_update(endpoint, batch, response, doc, call, judgement))
		return;
	else
		refuse(endpoint, batch, response, doc, judgement);
}

/* ---------- looking ---------- */

/* [SRC]: GET /api/v1/health, and pagination.totalItems of a list. */
static bool
build_check(const CsEndpoint *endpoint, int n, CsRequest *request)
{
	const Owlat *owlat = cs_provider_settings(endpoint);

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
	request->url = contact_url(endpoint, cs_provider_settings(endpoint), contact->upsert_key);
	cs_message_add_header(request, "Accept", "application/json");
	return true;
}

static bool
read_lookup(const CsEndpoint *endpoint, CsJson *doc, CsRemote *remote)
{
	CsJson	   *data = cs_json_get(doc, "data");

	remote->contact = palloc0(sizeof(CsContact));
	remote->id = cs_json_text(cs_json_get(data, "id"));
	remote->updated_at = cs_json_text(cs_json_get(data, "updatedAt"));
	cs_contact_set_json(remote->contact, CS_EMAIL, cs_json_get(data, "email"));
	/* an absent name is one that is not set */
	cs_contact_set(remote->contact, CS_FIRST_NAME, cs_json_text(cs_json_get(data, "firstName")));
	cs_contact_set(remote->contact, CS_LAST_NAME, cs_json_text(cs_json_get(data, "lastName")));
	return remote->contact->value[CS_EMAIL] != NULL;
}

#define FIELDS \
	(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_FIRST_NAME) | \
	 CS_FIELD_BIT(CS_LAST_NAME) | CS_FIELD_BIT(CS_OPT_IN))

const CsProvider cs_owlat = {
	.name = "owlat",
	.title = "Owlat",
	.base_url = "https://api.owlat.app",
	.max_batch = 1,
	.pace = 9.8,				/* 10 a second are allowed to the key, and 15
								 * at once */
	.burst = 5,
	.concurrency = 5,			/* [SEED]: 3 to 5 */
	.max_retries = 3,
	.auth = CS_AUTH_BEARER,
	.fields = FIELDS,
	.required = CS_FIELD_BIT(CS_EMAIL),
	.abilities = CS_CAN_DELETE | CS_CAN_UNSUBSCRIBE | CS_CAN_FOLLOW_EMAIL,
	.options = options,
	.build = build,
	.judge = judge,
	.prepare = prepare,
	.configure = configure,
	.check_mapping = check_mapping,
	.bulk_risk = bulk_risk,
	.build_check = build_check,
	.judge_check = judge_check,
	.build_lookup = build_lookup,
	.read_contact = read_lookup,
};
