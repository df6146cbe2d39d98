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

#include "api/imagine.h"
#include "api/preview.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/text.h"
#include "http/json.h"
#include "provider/email.h"
#include "provider/provider.h"
#include "provider/server.h"

CS_FUNCTION(contactsync_preview);
CS_FUNCTION(contactsync_preview_definition);
CS_FUNCTION(contactsync_judge);
CS_FUNCTION(contactsync_judge_definition);
CS_FUNCTION(contactsync_normalize_email);

/* The environment variable from which the curl command takes the key. */
#define KEY_VARIABLE	"CONTACTSYNC_KEY"

static const char *const outcome_names[] = {
	[CS_OUTCOME_OK] = "ok",
	[CS_OUTCOME_REJECTED] = "rejected",
	[CS_OUTCOME_RETRY] = "retry"
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
	if (provider->auth == CS_AUTH_QUERY)
		appendStringInfo(&out, " --url-query \"%s=$%s\"", cs_provider_auth_header(provider), KEY_VARIABLE);
	if (cs_provider_has_auth_header(provider))
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
	if (cs_provider_has_auth_header(provider))
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

/* Return the request; the arguments after the first are those of contactsync_preview(). */
static Datum
preview(FunctionCallInfo fcinfo, const CsEndpoint *endpoint)
{
	CsBatch    *batch;
	CsRequest	request;
	TupleDesc	desc;
	Datum		values[7];
	bool		nulls[7] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	batch = cs_imagine_batch(endpoint, PG_GETARG_JSONB_P(1), PG_GETARG_INT32(2),
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

static bool
lacks_arguments(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3);
}

/*
 * contactsync_preview(server, contact, step, action, state): return the request
 * that would be sent for a contact, or for an array of contacts.
 */
Datum
contactsync_preview(PG_FUNCTION_ARGS)
{
	if (lacks_arguments(fcinfo))
		PG_RETURN_NULL();
	return preview(fcinfo, read_server(NameStr(*PG_GETARG_NAME(0))));
}

/* contactsync_preview(definition, contact, step, action, state, options): the same without a server. */
Datum
contactsync_preview_definition(PG_FUNCTION_ARGS)
{
	if (lacks_arguments(fcinfo))
		PG_RETURN_NULL();
	return preview(fcinfo, cs_imagine_endpoint(PG_GETARG_JSONB_P(0),
											   PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5), GetUserId()));
}

/*
 * contactsync_judge()
 */

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

/* Return how an answer would be judged: a row for each contact that gets an outcome
 * or needs another step, otherwise one row. */
static void
judge(FunctionCallInfo fcinfo, const CsEndpoint *endpoint)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CsBatch    *batch;
	CsResponse	response;
	CsJudgement judgement;
	bool		each;
	Row			row;

	batch = cs_imagine_batch(endpoint,
							 PG_ARGISNULL(4) ? cs_imagine_contact(endpoint) : PG_GETARG_JSONB_P(4),
							 PG_GETARG_INT32(5), text_to_cstring(PG_GETARG_TEXT_PP(6)),
							 PG_ARGISNULL(7) ? NULL : PG_GETARG_JSONB_P(7));
	cs_imagine_response(PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1),
						PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
						PG_ARGISNULL(3) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(3)), &response);
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
}

/* contactsync_judge(server, status, headers, body, contacts, step, action, state) */
Datum
contactsync_judge(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0) && !PG_ARGISNULL(5) && !PG_ARGISNULL(6))
		judge(fcinfo, read_server(NameStr(*PG_GETARG_NAME(0))));
	return (Datum) 0;
}

/* contactsync_judge(definition, status, headers, body, contacts, step, action, state, options) */
Datum
contactsync_judge_definition(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	if (!PG_ARGISNULL(0) && !PG_ARGISNULL(5) && !PG_ARGISNULL(6))
		judge(fcinfo, cs_imagine_endpoint(PG_GETARG_JSONB_P(0),
										  PG_ARGISNULL(8) ? NULL : PG_GETARG_JSONB_P(8), GetUserId()));
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
