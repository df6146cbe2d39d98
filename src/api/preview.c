/*-------------------------------------------------------------------------
 *
 * preview.c
 *		SQL functions that show what would be sent, and how an answer would be
 *		judged, without sending anything.
 *
 * They run the provider's own functions on their arguments, so they are used to
 * test providers, and to find out why a contact was refused.  They read no user
 * mapping, so that there is no secret to be shown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "api/preview.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/text.h"
#include "http/json.h"
#include "provider/email.h"
#include "provider/provider.h"
#include "provider/server.h"

CS_FUNCTION(contactsync_preview);
CS_FUNCTION(contactsync_judge);
CS_FUNCTION(contactsync_normalize_email);

/* The environment variable from which the curl command takes the key. */
#define KEY_VARIABLE	"CONTACTSYNC_KEY"

static const char *const outcome_names[] = {
	[CS_OUTCOME_OK] = "ok",
	[CS_OUTCOME_REJECTED] = "rejected",
	[CS_OUTCOME_RETRY] = "retry"
};

static const char *const action_names[] = {
	[CS_UPSERT] = "upsert",
	[CS_UNSUBSCRIBE] = "unsubscribe",
	[CS_DELETE] = "delete"
};

/*
 * Arguments
 */

/* Return the server of that name, which the caller must be allowed to use. */
static CsEndpoint *
read_server(const char *name)
{
	Oid			serverid = get_foreign_server_oid(name, false);
	AclResult	result = cs_server_aclcheck(serverid, GetUserId(), ACL_USAGE);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FOREIGN_SERVER, name);
	return cs_server_read_unmapped(serverid);
}

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
	contact->claim = read_claim(state, contact);
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
static Jsonb *
sample_contact(const CsEndpoint *endpoint)
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

static CsBatch *
make_batch(const CsEndpoint *endpoint, Jsonb *contacts, int step, const char *action,
		   Jsonb *state)
{
	CsBatch    *batch = palloc0(sizeof(CsBatch));
	char	   *text = state ? JsonbToCString(NULL, &state->root, VARSIZE(state)) : NULL;
	CsJson	   *doc = NULL;
	int64		rekeys;
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
	if (cs_json_string(cs_json_get(doc, "limitation")))
		batch->limitation = pstrdup(cs_json_string(cs_json_get(doc, "limitation")));
	take_contacts(endpoint, batch, contacts, doc);

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
 * contactsync_preview()
 */

/* Append a text, quoted for the shell. */
static void
append_shell_word(StringInfo out, const char *text)
{
	appendStringInfoString(out, " '");
	for (; *text; text++)
	{
		if (*text == '\'')
			appendStringInfoString(out, "'\\''");
		else
			appendStringInfoChar(out, *text);
	}
	appendStringInfoChar(out, '\'');
}

char *
cs_preview_curl(const CsProvider *provider, const CsRequest *request)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "curl --globoff --request %s", request->method);
	append_shell_word(&out, request->url);
	appendStringInfo(&out, " --header \"%s: %s\"", cs_provider_auth_header(provider),
					 cs_provider_auth_format(provider, "$" KEY_VARIABLE));
	for (int i = 0; i < request->nheaders; i++)
	{
		appendStringInfoString(&out, " --header");
		append_shell_word(&out, psprintf("%s: %s", request->headers[i].name,
										 request->headers[i].value));
	}
	if (request->body.data)
	{
		appendStringInfoString(&out, " --data-raw");
		append_shell_word(&out, request->body.data);
	}
	return out.data;
}

static Datum
headers_as_jsonb(const CsProvider *provider, const CsRequest *request)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	cs_json_member(&json, cs_provider_auth_header(provider), cs_provider_auth_format(provider, "***"));
	for (int i = 0; i < request->nheaders; i++)
		cs_json_member(&json, request->headers[i].name, request->headers[i].value);
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_text_from_utf8(json.data)));
}

static Datum
text_from_utf8(const char *utf8)
{
	return CStringGetTextDatum(cs_text_from_utf8(utf8));
}

/* Return the upsert keys of the contacts, or their digests. */
static Datum
array_of_contacts(const CsEndpoint *endpoint, const CsBatch *batch, bool digests)
{
	Datum	   *values = palloc(batch->ncontacts * sizeof(Datum));

	for (int i = 0; i < batch->ncontacts; i++)
	{
		pg_uuid_t  *digest = palloc(sizeof(pg_uuid_t));

		cs_contact_digest(batch->contacts[i], endpoint->payload, digest);
		values[i] = digests ? UUIDPGetDatum(digest) :
			text_from_utf8(batch->contacts[i]->upsert_key);
	}
	return PointerGetDatum(construct_array(values, batch->ncontacts,
										   digests ? UUIDOID : TEXTOID,
										   digests ? UUID_LEN : -1, false,
										   digests ? TYPALIGN_CHAR : TYPALIGN_INT));
}

/*
 * contactsync_preview(server, contact, step, action, state): return the request
 * that would be sent for a contact, or for an array of contacts.
 */
Datum
contactsync_preview(PG_FUNCTION_ARGS)
{
	CsEndpoint *endpoint;
	CsBatch    *batch;
	CsRequest	request;
	TupleDesc	desc;
	Datum		values[7];
	bool		nulls[7] = {false};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	endpoint = read_server(NameStr(*PG_GETARG_NAME(0)));
	batch = make_batch(endpoint, PG_GETARG_JSONB_P(1), PG_GETARG_INT32(2),
					   text_to_cstring(PG_GETARG_TEXT_PP(3)),
					   PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4));
	memset(&request, 0, sizeof(request));
	endpoint->provider->build(endpoint, batch, &request);

	values[0] = CStringGetTextDatum(request.method);
	values[1] = text_from_utf8(request.url);
	values[2] = headers_as_jsonb(endpoint->provider, &request);
	nulls[3] = (request.body.data == NULL);
	values[3] = nulls[3] ? (Datum) 0 : text_from_utf8(request.body.data);
	values[4] = text_from_utf8(cs_preview_curl(endpoint->provider, &request));
	values[5] = array_of_contacts(endpoint, batch, false);
	values[6] = array_of_contacts(endpoint, batch, true);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * contactsync_judge()
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

/* Make a response of the arguments status, headers and body. */
static void
take_response(FunctionCallInfo fcinfo, CsResponse *response)
{
	char	   *body = PG_ARGISNULL(3) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(3));

	memset(response, 0, sizeof(CsResponse));
	response->status = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	response->headers = PG_ARGISNULL(2) ? "" : header_lines(PG_GETARG_JSONB_P(2));
	response->body = cs_text_to_utf8(body, strlen(body));
	response->body_len = strlen(response->body);
	if (response->status == 0)
		response->error = response->body;
	response->received_at = cs_clock_unix(GetCurrentTimestamp());
}

/* Return what is at fault for a halt, or NULL. */
static const char *
party_at_fault(const CsJudgement *judgement)
{
	if (judgement->verdict != CS_HALT)
		return NULL;
	if (judgement->mapping_error)
		return "mapping";
	return judgement->contact_suspected ? "server or contact" : "server";
}

/* The columns of the result. */
enum
{
	COL_VERDICT, COL_RETRY_AFTER, COL_THROTTLED, COL_NEXT_STEP, COL_AT_FAULT, COL_CONTACT,
	COL_OUTCOME, COL_REASON, COL_CODE, COL_FIELD, COL_MESSAGE, COL_REMOTE_ID,
	COL_REMOTE_STATUS, COL_NOTE, COL_OPTED_OUT, COL_CLAIMED, COL_TOPICS,
	COL_LIMITATION, COL_REQUEST_ID, COL_COUNT
};

typedef struct Row
{
	Datum		values[COL_COUNT];
	bool		nulls[COL_COUNT];
} Row;

static void
set_text(Row *row, int column, const char *utf8)
{
	row->nulls[column] = (utf8 == NULL);
	row->values[column] = utf8 ? text_from_utf8(utf8) : (Datum) 0;
}

/* Fill in the judgement of the whole call; columns of outcomes are null. */
static void
fill_call(Row *row, const CsJudgement *judgement)
{
	memset(row->nulls, true, sizeof(row->nulls));
	set_text(row, COL_VERDICT, cs_provider_verdict_name(judgement->verdict));
	row->nulls[COL_RETRY_AFTER] = judgement->retry_after < 0;
	row->values[COL_RETRY_AFTER] = Float8GetDatum(judgement->retry_after);
	row->nulls[COL_THROTTLED] = false;
	row->values[COL_THROTTLED] = BoolGetDatum(judgement->throttled);
	row->nulls[COL_NEXT_STEP] = judgement->verdict != CS_STEP;
	row->values[COL_NEXT_STEP] = Int32GetDatum(judgement->next_step);
	set_text(row, COL_AT_FAULT, party_at_fault(judgement));
	set_text(row, COL_REASON, judgement->reason);
	set_text(row, COL_CODE, judgement->code);
	set_text(row, COL_FIELD, judgement->field);
	set_text(row, COL_MESSAGE, judgement->message);
	set_text(row, COL_LIMITATION, judgement->limitation);
	set_text(row, COL_REQUEST_ID, judgement->request_id);
}

/* Also fill in the outcome of a contact. */
static void
fill_outcome(Row *row, int index, const CsJudgement *judgement)
{
	const CsOutcome *outcome = &judgement->outcomes[index];

	fill_call(row, judgement);
	row->nulls[COL_CONTACT] = false;
	row->values[COL_CONTACT] = Int32GetDatum(index + 1);
	if (judgement->verdict == CS_DONE)
	{
		set_text(row, COL_OUTCOME, outcome->kind == CS_OUTCOME_OK && outcome->withheld ? "withheld" : outcome_names[outcome->kind]);
		set_text(row, COL_REASON, outcome->reason);
		set_text(row, COL_CODE, outcome->code);
		set_text(row, COL_FIELD, outcome->field);
		set_text(row, COL_MESSAGE, outcome->message);
	}
	set_text(row, COL_REMOTE_ID, outcome->remote_id);
	set_text(row, COL_REMOTE_STATUS, outcome->remote_status);
	set_text(row, COL_NOTE, outcome->note);
	row->nulls[COL_OPTED_OUT] = row->nulls[COL_CLAIMED] = false;
	row->values[COL_OPTED_OUT] = BoolGetDatum(outcome->opted_out);
	row->values[COL_CLAIMED] = BoolGetDatum(outcome->claimed);
	set_text(row, COL_TOPICS, outcome->topics);
}

/*
 * contactsync_judge(server, status, headers, body, contacts, step, action, state):
 * return how an answer would be judged: a row for each contact that gets an outcome
 * or needs another step, otherwise one row.
 */
Datum
contactsync_judge(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CsEndpoint *endpoint;
	CsBatch    *batch;
	CsResponse	response;
	CsJudgement judgement;
	bool		each;
	Row			row;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(5) || PG_ARGISNULL(6))
		return (Datum) 0;

	endpoint = read_server(NameStr(*PG_GETARG_NAME(0)));
	batch = make_batch(endpoint,
					   PG_ARGISNULL(4) ? sample_contact(endpoint) : PG_GETARG_JSONB_P(4),
					   PG_GETARG_INT32(5), text_to_cstring(PG_GETARG_TEXT_PP(6)),
					   PG_ARGISNULL(7) ? NULL : PG_GETARG_JSONB_P(7));
	take_response(fcinfo, &response);
	cs_provider_judge(endpoint, batch, &response, &judgement);

	each = judgement.verdict == CS_DONE || judgement.verdict == CS_STEP;
	for (int i = 0; i < (each ? batch->ncontacts : 1); i++)
	{
		if (each)
			fill_outcome(&row, i, &judgement);
		else
			fill_call(&row, &judgement);
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	return (Datum) 0;
}

/* contactsync_normalize_email(text): return an email address as it would be sent. */
Datum
contactsync_normalize_email(PG_FUNCTION_ARGS)
{
	char	   *email = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *utf8 = cs_text_to_utf8(email, strlen(email));

	PG_RETURN_DATUM(text_from_utf8(cs_email_normalize(utf8)));
}
