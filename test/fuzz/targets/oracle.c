/*-------------------------------------------------------------------------
 *
 * oracle.c
 *		When is an answer a success?  Decided once more, by other means.
 *
 * Each provider's page says what a success looks like; judge() accepts more forms than
 * that, for no page is complete.  The rules here are those that no form of an answer
 * may break: what is no JSON, has no content where the page has some, says that it
 * failed, says that this contact failed, counts fewer successes than contacts, or is
 * about somebody else is not a success.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <json-c/json.h>

#include "fuzz.h"
#include "provider/email.h"

/* ---------- JSON ---------- */

static void
put(void *document)
{
	json_object_put(document);
}

/* Parse a document that lives as long as the current memory context. */
static struct json_object *
parse(const char *text, size_t len)
{
	MemoryContextCallback *callback;
	struct json_object *document;

	if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
		text += 3, len -= 3;
	if (!fuzz_is_json(text, len))
		return NULL;
	document = json_tokener_parse(text);
	callback = palloc0(sizeof(MemoryContextCallback));
	callback->func = put;
	callback->arg = document;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return document;
}

static struct json_object *
get(struct json_object *object, const char *name)
{
	struct json_object *value = NULL;

	if (json_object_is_type(object, json_type_object))
		json_object_object_get_ex(object, name, &value);
	return value;
}

/* Return the first of some members that is there. */
static struct json_object *
first(struct json_object *object, const char *a, const char *b)
{
	struct json_object *value = get(object, a);

	return value ? value : get(object, b);
}

static const char *
text_of(struct json_object *value)
{
	return json_object_is_type(value, json_type_string) || json_object_is_type(value, json_type_int) ?
		json_object_get_string(value) : NULL;
}

/* Is it true in JavaScript, or rather, is there anything in it? */
static bool
is_something(struct json_object *value)
{
	switch (json_object_get_type(value))
	{
		case json_type_null:
			return false;
		case json_type_array:
			return json_object_array_length(value) > 0;
		case json_type_object:
			return json_object_object_length(value) > 0;
		case json_type_string:
			return json_object_get_string_len(value) > 0;
		default:
			return json_object_get_double(value) != 0;
	}
}

static bool
is_false(struct json_object *value)
{
	return json_object_is_type(value, json_type_boolean) && !json_object_get_boolean(value);
}

/* ---------- what an answer says ---------- */

/* Does an object say that it is a failure? */
static bool
says_failed(struct json_object *object)
{
	static const char *const words[] = {"failed", "failure", "error", "rejected", "invalid"};
	struct json_object *status = get(object, "status");

	for (int i = 0; i < lengthof(words); i++)
		if (json_object_is_type(status, json_type_string) &&
			pg_strcasecmp(json_object_get_string(status), words[i]) == 0)
			return true;
	return is_something(get(object, "error")) || is_false(get(object, "success")) ||
		is_false(get(object, "ok")) ||
		(json_object_is_type(status, json_type_int) && json_object_get_int(status) >= 400) ||
		json_object_get_int(get(object, "statusCode")) >= 400;
}

/* Does an object name a contact, by its external ID or else its address? */
static bool
names(struct json_object *object, const CsContact *contact)
{
	const char *id = text_of(first(object, "external_id", "externalId"));
	const char *email = text_of(first(object, "email", "email_address"));

	if (id && contact->value[CS_EXTERNAL_ID])
		return strcmp(id, contact->value[CS_EXTERNAL_ID]) == 0;
	return email && strcmp(cs_email_normalize(email), contact->value[CS_EMAIL]) == 0;
}

/* Does some object in the answer name the contact, and say that it failed? */
static bool
says_contact_failed(struct json_object *value, const CsContact *contact, bool in_failures)
{
	if (json_object_is_type(value, json_type_array))
	{
		for (size_t i = 0; i < json_object_array_length(value); i++)
			if (says_contact_failed(json_object_array_get_idx(value, i), contact, in_failures))
				return true;
	}
	else if (json_object_is_type(value, json_type_object))
	{
		if (names(value, contact) &&
			(in_failures || says_failed(value) || is_something(get(value, "errors"))))
			return true;
	}
	return false;
}

/* The same for the lists that a summary can have. */
static bool
lists_failure(struct json_object *document, const CsContact *contact)
{
	return says_contact_failed(get(document, "results"), contact, false) ||
		says_contact_failed(get(document, "contacts"), contact, false) ||
		says_contact_failed(get(document, "users"), contact, false) ||
		says_contact_failed(get(document, "errors"), contact, true) ||
		says_contact_failed(get(document, "failed"), contact, true);
}

/* A number of the answer, or -1. */
static int64
number(struct json_object *document, const char *name)
{
	struct json_object *value = get(document, name);

	return json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : -1;
}

static int
count_ok(const CsBatch *batch, const CsJudgement *judgement)
{
	int			n = 0;

	for (int i = 0; i < batch->ncontacts; i++)
		n += judgement->outcomes[i].kind == CS_OUTCOME_OK;
	return n;
}

/* Is it another address than that of the contact, in ASCII? */
static bool
is_other_address(struct json_object *value, const CsContact *contact)
{
	const char *email = text_of(value);

	for (const char *c = email; c && *c; c++)
		if (IS_HIGHBIT_SET(*c))
			return false;
	return email && *email && strcmp(cs_email_normalize(email), contact->value[CS_EMAIL]) != 0;
}

/* ---------- providers ---------- */

/* {"data":{"id","status","data":{"email_address"}}} */
static const char *
campaignlark(const CsContact *contact, const CsRequest *request, struct json_object *document)
{
	struct json_object *data = get(document, "data");
	const char *status = text_of(get(data, "status"));

	if (!is_something(get(data, "id")) && !is_something(get(data, "status")))
		return "the answer has no contact";
	if (is_other_address(get(get(data, "data"), "email_address"), contact))
		return "the answer has another contact";
	if (request->body.data && strstr(request->body.data, "\"status\":\"UNSUBSCRIBED\"") && status &&
		strcmp(status, "SUBSCRIBED") == 0)
		return "the contact is still subscribed";
	return NULL;
}

/* "body.error || body.result?.isError" is a failure; the result is the contact. */
static const char *
caramel(const CsContact *contact, struct json_object *document)
{
	struct json_object *result = get(document, "result");

	if (!json_object_is_type(result, json_type_object))
		return "the answer has no result";
	if (is_something(get(result, "isError")))
		return "the result is an error";
	if (is_other_address(get(result, "email"), contact))
		return "the answer has another contact";
	return NULL;
}

/* {"data":{"id","email"}}; of a topic {"data":{"success"}}. */
static const char *
owlat(const CsContact *contact, const CsRequest *request, struct json_object *document)
{
	struct json_object *data = get(document, "data");
	bool		topic = strstr(request->url, "/topics/") != NULL;
	bool		deletes = strcmp(request->method, "DELETE") == 0;

	if (!json_object_is_type(data, json_type_object))
		return "the answer has no data";
	if (is_false(get(data, "success")) || (deletes && is_false(get(data, "deleted"))))
		return "nothing was done";
	if (!topic && !deletes && !is_something(get(data, "id")) && !is_something(get(data, "email")))
		return "the answer has no contact";
	if (strcmp(request->method, "POST") == 0 && !topic && is_other_address(get(data, "email"), contact))
		return "the answer has another contact";
	return NULL;
}

/* A summary, or for one contact, the contact. */
static const char *
mailingcore(const CsBatch *batch, const CsContact *contact, const CsRequest *request,
			struct json_object *document, int nok)
{
	struct json_object *single = get(document, "data") ? get(document, "data") : document;
	int64		created = number(document, "created");
	int64		updated = number(document, "updated");

	if (strcmp(request->method, "PUT") == 0)
		return is_other_address(get(single, "email"), contact) ? "the answer has another contact" : NULL;
	if (number(document, "failed") > batch->ncontacts - nok)
		return "more contacts failed than were told";
	if (created >= 0 && updated >= 0 && created + updated > batch->ncontacts)
		return "there are more successes than contacts";
	return NULL;
}

/* errors[] names those that failed; results[] has each, with counts. */
static const char *
spotzee(const CsBatch *batch, struct json_object *document, int nok)
{
	int64		succeeded = number(document, "succeeded");

	if (!get(document, "errors") && !get(document, "results") && !get(document, "contacts") &&
		!get(document, "users") && !get(document, "succeeded") && !get(document, "failed"))
		return "the answer has no result";
	if (succeeded >= 0 && succeeded != nok && strcmp(batch->contacts[0]->upsert_key, "") != 0 &&
		succeeded < nok)
		return "there are fewer successes";
	if (number(document, "failed") > batch->ncontacts - nok)
		return "more contacts failed than were told";
	return NULL;
}

/* The statuses that are not 2xx and yet a success: what is to be gone is not there, and the like. */
static bool
is_success_elsewhere(const CsEndpoint *endpoint, const CsBatch *batch, const CsRequest *request,
					 const CsResponse *response)
{
	bool		owlat = strcmp(endpoint->provider->name, "owlat") == 0;

	/* of a contact without data it is enough that it exists; a topic is noted */
	if (owlat && (response->status == 409 || strcmp(request->method, "GET") == 0 ||
				  (strstr(request->url, "/topics/") && strcmp(request->method, "POST") == 0)))
		return true;
	/* who is not to be created does not exist, and who is to be gone has gone */
	return response->status == 404 &&
		(batch->action != CS_UPSERT || strcmp(request->method, "GET") == 0 ||
		 strcmp(request->method, "DELETE") == 0 || (owlat && strcmp(request->method, "PUT") == 0));
}

const char *
fuzz_why_no_success(const CsEndpoint *endpoint, const CsBatch *batch, int index,
					const CsRequest *request, const CsResponse *response,
					const CsJudgement *judgement)
{
	const char *name = endpoint->provider->name;
	const CsContact *contact = batch->contacts[index];
	struct json_object *document;
	int			nok = count_ok(batch, judgement);

	if (response->status < 200 || response->status > 299)
		return is_success_elsewhere(endpoint, batch, request, response) ? NULL : "the status is no success";
	/* whether the contact is ours; that it exists was said before */
	if (strcmp(name, "owlat") == 0 && strcmp(request->method, "GET") == 0)
		return NULL;
	/* a 204 has no body */
	if (strcmp(request->method, "DELETE") == 0 && response->body_len == 0)
		return NULL;
	document = parse(response->body, response->body_len);
	if (document == NULL && strcmp(name, "caramel") == 0 && strstr(response->body, "data:"))
		return NULL;			/* a stream of events */
	if (document == NULL)
		return "the body is not JSON";
	if (nok == batch->ncontacts && says_failed(document))
		return "the answer says that it failed";
	if (lists_failure(document, contact))
		return "the answer says that the contact failed";
	if (strcmp(request->method, "DELETE") == 0 && strcmp(name, "owlat") != 0)
		return NULL;
	if (strcmp(name, "campaignlark") == 0)
		return campaignlark(contact, request, document);
	if (strcmp(name, "caramel") == 0)
		return caramel(contact, document);
	if (strcmp(name, "owlat") == 0)
		return owlat(contact, request, document);
	if (strcmp(name, "mailingcore") == 0)
		return mailingcore(batch, contact, request, document, nok);
	return spotzee(batch, document, nok);
}
