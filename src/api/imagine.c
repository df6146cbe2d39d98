/*-------------------------------------------------------------------------
 *
 * imagine.c
 *		Calls that are not made: their server, contacts and answer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/timestamp.h"

#include "api/imagine.h"
#include "base/clock.h"
#include "base/text.h"
#include "http/json.h"
#include "provider/registry.h"
#include "provider/server.h"

static const char *const action_names[] = {
	[CS_UPSERT] = "upsert",
	[CS_UNSUBSCRIBE] = "unsubscribe",
	[CS_DELETE] = "delete"
};

/*
 * Servers
 */

/* Return the text of a string in JSON, palloc'd. */
static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* Return the options in an object, as those of a server. */
static List *
take_options(Jsonb *jsonb)
{
	List	   *options = NIL;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *name = NULL;

	if (!JB_ROOT_IS_OBJECT(jsonb))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options must be a JSON object"),
				 errhint("For example: {\"list_id\": \"5\"}.")));
	iterator = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = string_of(&item);
		else if (token == WJB_VALUE && item.type == jbvString)
			options = lappend(options, makeDefElem(name, (Node *) makeString(string_of(&item)), -1));
		else if (token == WJB_VALUE)
		{
			Jsonb	   *value = JsonbValueToJsonb(&item);
			char	   *text = JsonbToCString(NULL, &value->root, VARSIZE(value));

			options = lappend(options, makeDefElem(name, (Node *) makeString(text), -1));
		}
	}
	return options;
}

/* Return the name of a provider, if that is what the value is, or NULL. */
static char *
take_name(Jsonb *jsonb)
{
	JsonbValue *value;

	if (!JB_ROOT_IS_SCALAR(jsonb))
		return NULL;
	value = getIthJsonbValueFromContainer(&jsonb->root, 0);
	return value && value->type == jbvString ? string_of(value) : NULL;
}

CsEndpoint *
cs_imagine_endpoint(Jsonb *definition, Jsonb *options, Oid roleid)
{
	char	   *name = take_name(definition);
	const CsProvider *provider;

	if (name)
		provider = cs_registry_find(name, roleid);
	else
	{
		char	   *text = JsonbToCString(NULL, &definition->root, VARSIZE(definition));

		provider = cs_registry_compile("definition", cs_text_to_utf8(text, strlen(text)));
	}
	if (provider == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("provider \"%s\" does not exist", name),
				 errhint("Providers are: %s.", cs_registry_names(roleid))));
	return cs_server_imagine(provider, options ? take_options(options) : NIL);
}

/*
 * Contacts
 */

static CsAction
action_by_name(const char *name)
{
	for (int i = 0; i < (int) lengthof(action_names); i++)
	{
		if (strcmp(name, action_names[i]) == 0)
			return (CsAction) i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized action: \"%s\"", name),
			 errhint("Valid actions are \"upsert\", \"unsubscribe\" and \"delete\".")));
}

/* What the sending may claim: by default consent that was never claimed before. */
static CsClaim
read_claim(CsJson *state, const CsContact *contact)
{
	const char *word = cs_json_string(cs_json_get(state, "claim"));

	if (word == NULL)
		return contact->claimed || contact->opted_out ? CS_CLAIM_NOT : CS_CLAIM;
	if (strcmp(word, "yes") == 0)
		return CS_CLAIM;
	if (strcmp(word, "if_new") == 0)
		return CS_CLAIM_IF_NEW;
	if (strcmp(word, "no") == 0)
		return CS_CLAIM_NOT;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized claim: \"%s\"", word),
			 errhint("Valid values are \"yes\", \"if_new\" and \"no\".")));
}

/* Set what would be known of a contact from earlier calls. */
static void
apply_state(CsContact *contact, CsJson *state)
{
	const char *previous_key = cs_json_string(cs_json_get(state, "previous_key"));
	const char *remote_id = cs_json_string(cs_json_get(state, "remote_id"));
	const char *upsert_key = cs_json_string(cs_json_get(state, "upsert_key"));
	const char *job = cs_json_string(cs_json_get(state, "job"));
	const char *topics = cs_json_string(cs_json_get(state, "topics"));
	const char *remote_status = cs_json_string(cs_json_get(state, "remote_status"));
	int64		change_id = 0;
	int64		retries;

	contact->direct = false;
	contact->previous_key = previous_key ? pstrdup(previous_key) : NULL;
	contact->remote_id = remote_id ? pstrdup(remote_id) : NULL;
	contact->upsert_key = upsert_key ? pstrdup(upsert_key) : NULL;
	(void) cs_json_int(cs_json_get(state, "change_id"), &change_id);
	contact->change_id = (uint64) change_id;
	if (cs_json_int(cs_json_get(state, "retries"), &retries))
		contact->retries = (int) retries;
	(void) cs_json_bool(cs_json_get(state, "previous_shared"), &contact->previous_shared);
	(void) cs_json_bool(cs_json_get(state, "opted_out"), &contact->opted_out);
	(void) cs_json_bool(cs_json_get(state, "claimed"), &contact->claimed);
	contact->known = remote_id != NULL || contact->claimed || contact->opted_out;
	(void) cs_json_bool(cs_json_get(state, "known"), &contact->known);
	(void) cs_json_bool(cs_json_get(state, "new"), &contact->is_new);
	contact->claim = read_claim(state, contact);
	contact->job = job ? pstrdup(job) : NULL;
	contact->topics = topics ? pstrdup(topics) : NULL;
	contact->remote_status = remote_status ? pstrdup(remote_status) : NULL;
	(void) cs_json_bool(cs_json_get(state, "direct"), &contact->direct);
	(void) cs_json_bool(cs_json_get(state, "withheld"), &contact->withheld);
	(void) cs_json_bool(cs_json_get(state, "opts_out_first"), &contact->opts_out_first);
	(void) cs_json_bool(cs_json_get(state, "maybe_ours"), &contact->maybe_ours);
	(void) cs_json_bool(cs_json_get(state, "in_doubt"), &contact->in_doubt);
	(void) cs_json_bool(cs_json_get(state, "untouched"), &contact->untouched);
	(void) cs_json_number(cs_json_get(state, "queued_at"), &contact->queued_at);
}

static CsContact *
prepare_contact(const CsEndpoint *endpoint, CsAction action, Jsonb *jsonb, CsJson *state)
{
	CsContact  *contact = cs_contact_from_jsonb(jsonb);
	CsRefusal  *refusal;

	contact->action = action;
	apply_state(contact, state);
	refusal = cs_provider_prepare(endpoint, contact);
	if (refusal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("contact cannot be sent: %s", cs_text_from_utf8(refusal->message)),
				 refusal->field ?
				 errdetail("The reason is %s, and the field is %s.", refusal->reason,
						   cs_text_from_utf8(refusal->field)) :
				 errdetail("The reason is %s.", refusal->reason)));
	return contact;
}

/* Prepare the contacts of an array, or a single one. */
static void
take_contacts(const CsEndpoint *endpoint, CsBatch *batch, Jsonb *jsonb, CsJson *state)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;

	batch->contacts = palloc(Max(1, JB_ROOT_COUNT(jsonb)) * sizeof(CsContact *));
	if (!JB_ROOT_IS_ARRAY(jsonb) || JB_ROOT_IS_SCALAR(jsonb))
	{
		batch->contacts[batch->ncontacts++] =
			prepare_contact(endpoint, batch->action, jsonb, state);
		return;
	}
	iterator = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			batch->contacts[batch->ncontacts++] =
				prepare_contact(endpoint, batch->action, JsonbValueToJsonb(&item), state);
	}
}

/* Return a contact for an answer without contacts: the first sample that can be sent. */
Jsonb *
cs_imagine_contact(const CsEndpoint *endpoint)
{
	static const char *const samples[] = {
		"{\"email\": \"jane@example.com\", \"external_id\": \"1\"}",
		"{\"email\": \"jane@example.com\", \"external_id\": \"1\", \"opt_in\": true}",
		"{\"email\": \"jane@example.com\"}"
	};
	Jsonb	   *jsonb = NULL;

	for (int i = 0; i < (int) lengthof(samples); i++)
	{
		jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(samples[i])));
		if (cs_provider_prepare(endpoint, cs_contact_from_jsonb(jsonb)) == NULL)
			break;
	}
	return jsonb;
}

/* Set the step with which the contacts begin, which must be one for all of them. */
static void
check_first_step(const CsEndpoint *endpoint, const CsBatch *batch, int *step)
{
	*step = cs_provider_first_step(endpoint, batch->contacts[0]);
	for (int i = 1; i < batch->ncontacts; i++)
		if (cs_provider_first_step(endpoint, batch->contacts[i]) != *step)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("contacts 1 and %d are not sent in one call", i + 1),
					 errdetail("%s gets different requests for them.", cs_text_from_utf8(endpoint->provider->title))));
}

CsBatch *
cs_imagine_batch(const CsEndpoint *endpoint, Jsonb *contacts, int step, const char *action,
				 Jsonb *state)
{
	CsBatch    *batch = palloc0(sizeof(CsBatch));
	char	   *text = state ? JsonbToCString(NULL, &state->root, VARSIZE(state)) : NULL;
	CsJson	   *doc = NULL;
	int64		rekeys;
	int64		polls;
	int			limit;

	if (text)
	{
		char	   *utf8 = cs_text_to_utf8(text, strlen(text));

		doc = cs_json_parse(utf8, strlen(utf8));
	}
	batch->action = action_by_name(action);
	batch->step = step;
	batch->number = 1;
	if (cs_json_int(cs_json_get(doc, "rekeys"), &rekeys))
		batch->rekeys = (int) rekeys;
	if (cs_json_int(cs_json_get(doc, "polls"), &polls))
		batch->polls = (int) polls;
	if (cs_json_string(cs_json_get(doc, "limitation")))
		batch->limitation = pstrdup(cs_json_string(cs_json_get(doc, "limitation")));
	take_contacts(endpoint, batch, contacts, doc);

	if (step == 0 && batch->ncontacts > 0)
		check_first_step(endpoint, batch, &step);
	limit = cs_provider_batch_limit(endpoint, batch->action, step);
	if (batch->ncontacts < 1 || batch->ncontacts > limit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot send %d contacts in one call", batch->ncontacts),
				 errdetail_plural("This call to %s can carry %d contact.",
								  "This call to %s can carry 1 to %d contacts.",
								  limit, endpoint->provider->title, limit)));
	return batch;
}

/*
 * Answers
 */

/* Convert headers such as {"Retry-After": "5"} to lines, as in a response. */
static char *
header_lines(Jsonb *jsonb)
{
	StringInfoData lines;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;

	if (!JB_ROOT_IS_OBJECT(jsonb))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object"),
				 errhint("For example: {\"Retry-After\": \"5\"}.")));
	initStringInfo(&lines);
	iterator = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			appendStringInfo(&lines, "%s: ",
							 asc_tolower(item.val.string.val, item.val.string.len));
		else if (token == WJB_VALUE && item.type == jbvString)
			appendStringInfo(&lines, "%.*s\n", item.val.string.len, item.val.string.val);
		else if (token == WJB_VALUE)
		{
			Jsonb	   *value = JsonbValueToJsonb(&item);

			appendStringInfo(&lines, "%s\n",
							 JsonbToCString(NULL, &value->root, VARSIZE(value)));
		}
	}
	return lines.data;
}

void
cs_imagine_response(int status, Jsonb *headers, const char *body, CsResponse *response)
{
	memset(response, 0, sizeof(CsResponse));
	response->status = status;
	response->headers = headers ? header_lines(headers) : "";
	response->body = cs_text_to_utf8(body, strlen(body));
	response->body_len = strlen(response->body);
	if (response->status == 0)
		response->error = response->body;
	response->received_at = cs_clock_unix(GetCurrentTimestamp());
}
