/*-------------------------------------------------------------------------
 *
 * request.c
 *		What Owlat is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/owlat/request.h"

/*
 * Characters of a name or an address.  [SRC]: the create mutation accepts this many,
 * an update more.
 */
#define MAX_LENGTH	200

/* ---------- contacts ---------- */

CsRefusal *
cs_owlat_prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);
	CsRefusal  *refusal;

	if (contact->value[CS_EMAIL] == NULL && contact->upsert_key)
		cs_contact_set(contact, CS_EMAIL, contact->upsert_key);
	if (contact->value[CS_EMAIL] == NULL)
		return cs_contact_refuse(CS_REASON_MISSING_FIELD, "email", "email is missing");
	contact->upsert_key = contact->value[CS_EMAIL];

	if (contact->action == CS_UNSUBSCRIBE && owlat->topic_id == NULL)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL,
								 "Owlat unsubscribes from topics, and the option topic_id is not set");
	if ((contact->present & CS_FIELD_BIT(CS_OPT_IN)) && owlat->topic_id == NULL)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, "opt_in",
								 "Owlat keeps consent in topics, and the option topic_id is not set");
	refusal = cs_contact_check_length(contact, CS_EMAIL, MAX_LENGTH);
	if (refusal == NULL)
		refusal = cs_contact_check_length(contact, CS_FIRST_NAME, MAX_LENGTH);
	if (refusal == NULL)
		refusal = cs_contact_check_length(contact, CS_LAST_NAME, MAX_LENGTH);
	return refusal;
}

bool
cs_owlat_moves(const CsEndpoint *endpoint, const CsContact *contact)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);

	/*
	 * [SRC]: campaigns to segments mail the new address, whatever its topics
	 * are
	 */
	if ((contact->present & CS_FIELD_BIT(CS_OPT_IN)) && contact->consent != CS_CONSENT_YES)
		return false;
	return owlat->follow_email && contact->previous_key && !contact->previous_shared &&
		strcmp(contact->previous_key, contact->upsert_key) != 0;
}

/* ---------- topics ---------- */

/* Return the position of the topic of the option in a list, or NULL. */
static const char *
find_topic(const CsOwlat *owlat, const char *topics)
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

bool
cs_owlat_has_joined(const CsOwlat *owlat, const CsContact *contact)
{
	return find_topic(owlat, contact->topics) != NULL;
}

const char *
cs_owlat_topics_with(const CsOwlat *owlat, const CsContact *contact)
{
	const char *topics = contact->topics;

	if (find_topic(owlat, topics))
		return topics;
	return topics ? psprintf("%s %s", topics, owlat->topic_id) : owlat->topic_id;
}

const char *
cs_owlat_topics_without(const CsOwlat *owlat, const CsContact *contact)
{
	const char *topics = contact->topics;
	const char *found = find_topic(owlat, topics);
	const char *rest;

	if (found == NULL)
		return topics;
	rest = found + strlen(owlat->topic_id);
	if (found == topics)
		return *rest ? rest + 1 : NULL;
	return psprintf("%.*s%s", (int) (found - topics - 1), topics, rest);
}

/* ---------- calls ---------- */

bool
cs_owlat_has_data(const CsContact *contact, bool nulls)
{
	return (contact->value[CS_FIRST_NAME] || contact->value[CS_LAST_NAME]) ||
		(nulls && (contact->present & (CS_FIELD_BIT(CS_FIRST_NAME) | CS_FIELD_BIT(CS_LAST_NAME))));
}

/*
 * [SRC]: campaigns to segments mail whoever exists, so that it takes a word, unless
 * consent is not known of.
 */
bool
cs_owlat_may_create(const CsContact *contact)
{
	return !contact->withheld &&
		(contact->claim != CS_CLAIM_NOT || contact->consent == CS_CONSENT_UNKNOWN);
}

/*
 * [SRC]: joining lifts an opt-out from all mail, so nobody joins without a claim;
 * whether the contact is new shows when it is created.
 */
int
cs_owlat_topic_call(const CsOwlat *owlat, const CsContact *contact, bool is_new)
{
	if (owlat->topic_id == NULL)
		return -1;
	if (contact->action == CS_UNSUBSCRIBE || contact->consent == CS_CONSENT_NO)
		return CS_OWLAT_CALL_LEAVE;
	if (contact->consent != CS_CONSENT_YES)
		return -1;
	return contact->claim == CS_CLAIM || (contact->claim == CS_CLAIM_IF_NEW && is_new) ?
		CS_OWLAT_CALL_JOIN : -1;
}

/*
 * May there be a contact that has been moved to the address: one that was unsubscribed
 * when its row went, or, if nothing is known of it, one of a server that was dropped?  Then
 * its person is remembered, since a contact moves with consent only.  [SRC]: creating does
 * not find it.
 */
static bool
may_have_moved(const CsEndpoint *endpoint, const CsContact *contact)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);

	return owlat->follow_email && !contact->known &&
		(contact->remote_id || contact->claimed || contact->was_held || (contact->opted_out && !contact->refused));
}

/* May the contact have been moved to another address, which its row does not have any
 * more?  Then it is known by its ID alone. */
static bool
has_to_return(const CsContact *contact)
{
	return contact->in_doubt && contact->known && contact->remote_id;
}

CsOwlatCall
cs_owlat_call(const CsEndpoint *endpoint, const CsBatch *batch)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];

	if (batch->action == CS_DELETE)
		return CS_OWLAT_CALL_DELETE;
	if (batch->action == CS_UNSUBSCRIBE)
		return CS_OWLAT_CALL_LEAVE;
	switch (batch->step)
	{
		case CS_OWLAT_STEP_FIRST:
			if (contact->withheld)
				return CS_OWLAT_CALL_UPDATE;
			if (cs_owlat_moves(endpoint, contact))
				return CS_OWLAT_CALL_MOVE;
			if (may_have_moved(endpoint, contact))
				return CS_OWLAT_CALL_UPDATE;
			if (contact->in_doubt && !contact->known)
				return CS_OWLAT_CALL_LOOKUP;
			if (has_to_return(contact))
				return CS_OWLAT_CALL_MOVE;
			if (!contact->known)
				return CS_OWLAT_CALL_CREATE;
			return !cs_owlat_may_create(contact) || owlat->follow_email ||
				(contact->remote_id && cs_owlat_has_data(contact, endpoint->nulls_clear)) ?
				CS_OWLAT_CALL_UPDATE : CS_OWLAT_CALL_CREATE;
		case CS_OWLAT_STEP_UPDATE:
			return CS_OWLAT_CALL_UPDATE;
		case CS_OWLAT_STEP_TOPIC:

			/*
			 * without a topic only contactsync_preview() and
			 * contactsync_judge() get here
			 */
			if (owlat->topic_id == NULL)
				return CS_OWLAT_CALL_UPDATE;
			return contact->consent == CS_CONSENT_NO ? CS_OWLAT_CALL_LEAVE : CS_OWLAT_CALL_JOIN;
		case CS_OWLAT_STEP_LOOKUP:
			return CS_OWLAT_CALL_LOOKUP;
		default:
			return CS_OWLAT_CALL_CREATE;
	}
}

/* ---------- requests ---------- */

/*
 * Write {email?, firstName?, lastName?}.  [SRC]: they must be strings, null is a 400;
 * "" clears a name on an update, and means nothing on a create.
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

/* Return the URL of the topic's contacts, or of one of them, by its address or ID. */
static char *
topic_url(const CsEndpoint *endpoint, const CsOwlat *owlat, const char *reference)
{
	const char *hole = strstr(owlat->topic_path, "{topic}");

	return psprintf("%s%.*s%s%s%s%s", endpoint->base_url,
					(int) (hole - owlat->topic_path), owlat->topic_path,
					cs_url_encode(owlat->topic_id),
					hole + strlen("{topic}"),
					reference ? "/" : "", reference ? cs_url_encode(reference) : "");
}

char *
cs_owlat_contact_url(const CsEndpoint *endpoint, const CsOwlat *owlat, const char *reference)
{
	return psprintf("%s%s/%s", endpoint->base_url, owlat->contacts_path,
					cs_url_encode(reference));
}

void
cs_owlat_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
{
	const CsOwlat *owlat = cs_provider_settings(endpoint);
	const CsContact *contact = batch->contacts[0];
	CsOwlatCall call = cs_owlat_call(endpoint, batch);

	cs_message_add_header(request, "Accept", "application/json");
	if (call == CS_OWLAT_CALL_LOOKUP)
	{
		request->method = "GET";
		request->url = cs_owlat_contact_url(endpoint, owlat, contact->upsert_key);
		return;
	}
	if (call == CS_OWLAT_CALL_DELETE || call == CS_OWLAT_CALL_LEAVE)
	{
		const char *reference = has_to_return(contact) ? contact->remote_id : contact->upsert_key;

		request->method = "DELETE";
		request->url = call == CS_OWLAT_CALL_DELETE ?
			cs_owlat_contact_url(endpoint, owlat, reference) : topic_url(endpoint, owlat, reference);
		return;
	}

	cs_message_add_header(request, "Content-Type", "application/json");
	initStringInfo(&request->body);
	request->method = call == CS_OWLAT_CALL_UPDATE || call == CS_OWLAT_CALL_MOVE ? "PUT" : "POST";
	switch (call)
	{
		case CS_OWLAT_CALL_UPDATE:
			request->url = cs_owlat_contact_url(endpoint, owlat, contact->upsert_key);
			write_contact(&request->body, contact, false, endpoint->nulls_clear);
			break;
		case CS_OWLAT_CALL_MOVE:

			/*
			 * [SRC]: the ID stays, whether the contact was moved already or
			 * not
			 */
			request->url = cs_owlat_contact_url(endpoint, owlat, contact->remote_id ?
												contact->remote_id : contact->previous_key);
			write_contact(&request->body, contact, true, endpoint->nulls_clear);
			break;
		case CS_OWLAT_CALL_JOIN:
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
