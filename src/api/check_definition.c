/*-------------------------------------------------------------------------
 *
 * check_definition.c
 *		contactsync_check_definition(): run examples through a definition.
 *
 * An example has a contact, or several, and what is expected: the request, or that the
 * contact is refused, and for an answer what is concluded from it.  What is expected need
 * not be complete: it has to be contained in what is found, as jsonb @> has it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "api/argument.h"
#include "api/imagine.h"
#include "base/compat.h"
#include "base/text.h"
#include "base/try.h"
#include "http/json.h"
#include "provider/defined/definition.h"
#include "provider/registry.h"
#include "provider/server.h"

CS_FUNCTION(contactsync_check_definition);

typedef struct Example
{
	ReturnSetInfo *result;
	Jsonb	   *definition;
	Jsonb	   *json;			/* the example */
	const char *name;

	/* what is found; NULL: nothing was expected, or asked */
	StringInfoData request;
	StringInfoData judgement;
} Example;

/* ---------- members ---------- */

static JsonbValue *
member(Jsonb *json, const char *name)
{
	JsonbValue *value = JB_ROOT_IS_OBJECT(json) ? getKeyJsonValueFromContainer(&json->root, name, strlen(name), NULL) : NULL;

	return value && value->type != jbvNull ? value : NULL;
}

static Jsonb *
json_member(Jsonb *json, const char *name)
{
	JsonbValue *value = member(json, name);

	return value ? JsonbValueToJsonb(value) : NULL;
}

static char *
text_member(Jsonb *json, const char *name, const char *otherwise)
{
	JsonbValue *value = member(json, name);
	Jsonb	   *whole;

	if (value == NULL)
		return otherwise ? pstrdup(otherwise) : NULL;
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	whole = JsonbValueToJsonb(value);
	return JsonbToCString(NULL, &whole->root, VARSIZE(whole));
}

static int
int_member(Jsonb *json, const char *name, int otherwise)
{
	char	   *text = text_member(json, name, NULL);

	return text && *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 9 ? atoi(text) : otherwise;
}

/* A step is given by its name or its number. */
static int
step_of(const Example *example, const CsEndpoint *endpoint, CsAction action)
{
	char	   *name = text_member(example->json, "step", "0");

	if (endpoint->provider->hash != 0)
	{
		const CsActionSteps *steps = &((const CsDefined *) endpoint->provider)->actions[action];

		for (int i = 0; i < steps->n; i++)
			if (strcmp(cs_text_from_utf8(steps->names[i]), name) == 0)
				return i;
	}
	return int_member(example->json, "step", 0);
}

/* ---------- what is found ---------- */

static void
write_text(StringInfo out, const char *name, const char *text)
{
	if (text)
		cs_json_member(out, name, text);
}

/* Write a body as JSON if it is JSON. */
static void
write_body(StringInfo out, const char *body)
{
	if (body == NULL)
		return;
	if (cs_json_parse(body, strlen(body)))
		cs_json_member_raw(out, "body", body);
	else
		cs_json_member(out, "body", body);
}

static void
write_request(StringInfo out, const CsEndpoint *endpoint, const CsBatch *batch)
{
	CsRequest	request;
	int			start;

	memset(&request, 0, sizeof(request));
	endpoint->provider->build(endpoint, batch, &request);
	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "method", request.method);
	cs_json_member(out, "url", request.url);
	start = out->len;
	cs_json_key(out, "headers");
	appendStringInfoCharMacro(out, '{');
	for (int i = 0; i < request.nheaders; i++)
		cs_json_member(out, request.headers[i].name, request.headers[i].value);
	cs_json_end_member(out, start);
	write_body(out, request.body.data);
	appendStringInfoCharMacro(out, '}');
}

static void
write_outcome(StringInfo out, const CsOutcome *outcome)
{
	static const char *const kinds[] = {
		[CS_OUTCOME_OK] = "ok",
		[CS_OUTCOME_REJECTED] = "rejected",
		[CS_OUTCOME_RETRY] = "retry"
	};

	cs_json_comma(out);
	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "outcome", kinds[outcome->kind]);
	write_text(out, "reason", outcome->reason);
	write_text(out, "code", outcome->code);
	write_text(out, "field", outcome->field);
	write_text(out, "message", outcome->message);
	write_text(out, "remote_id", outcome->remote_id);
	write_text(out, "remote_status", outcome->remote_status);
	write_text(out, "note", outcome->note);
	cs_json_member_raw(out, "opted_out", outcome->opted_out ? "true" : "false");
	cs_json_member_raw(out, "claimed", outcome->claimed ? "true" : "false");
	appendStringInfoCharMacro(out, '}');
}

static void
write_judgement(StringInfo out, const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response)
{
	CsJudgement judgement;

	cs_provider_judge(endpoint, batch, response, &judgement);
	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "verdict", cs_provider_verdict_name(judgement.verdict));
	if (judgement.retry_after >= 0)
		cs_json_member_raw(out, "retry_after", psprintf("%g", judgement.retry_after));
	cs_json_member_raw(out, "throttled", judgement.throttled ? "true" : "false");
	cs_json_member_raw(out, "polls", judgement.waits ? "true" : "false");
	if (judgement.verdict == CS_STEP && endpoint->provider->hash != 0)
		cs_json_member(out, "next_step",
					   ((const CsDefined *) endpoint->provider)->actions[batch->action].names[judgement.next_step]);
	write_text(out, "reason", judgement.reason);
	write_text(out, "code", judgement.code);
	write_text(out, "field", judgement.field);
	write_text(out, "message", judgement.message);
	if (judgement.verdict == CS_DONE)
	{
		cs_json_key(out, "outcomes");
		appendStringInfoCharMacro(out, '[');
		for (int i = 0; i < batch->ncontacts; i++)
			write_outcome(out, &judgement.outcomes[i]);
		appendStringInfoCharMacro(out, ']');
	}
	appendStringInfoCharMacro(out, '}');
}

/* ---------- an example ---------- */

static CsAction
action_of(const char *name)
{
	return strcmp(name, "delete") == 0 ? CS_DELETE : strcmp(name, "unsubscribe") == 0 ? CS_UNSUBSCRIBE : CS_UPSERT;
}

/* Find what there is to be found; errors out if the contact is refused. */
static void
find(void *arg)
{
	Example    *example = arg;
	CsEndpoint *endpoint = cs_imagine_endpoint(example->definition, json_member(example->json, "options"), GetUserId());
	Jsonb	   *contacts = json_member(example->json, "contacts");
	char	   *action = text_member(example->json, "action", "upsert");
	Jsonb	   *answer = json_member(example->json, "answer");
	CsResponse	response;
	CsBatch    *batch;

	if (contacts == NULL)
		contacts = json_member(example->json, "contact");
	if (contacts == NULL)
		contacts = cs_imagine_contact(endpoint);
	batch = cs_imagine_batch(endpoint, contacts, step_of(example, endpoint, action_of(action)), action,
							 json_member(example->json, "state"));
	write_request(&example->request, endpoint, batch);
	if (answer == NULL)
		return;
	cs_imagine_response(int_member(answer, "status", 0), json_member(answer, "headers"),
						text_member(answer, "body", ""), &response);
	write_judgement(&example->judgement, endpoint, batch, &response);
}

static Jsonb *
read_found(const StringInfoData *found)
{
	return found->len > 0 ?
		DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_text_from_utf8(found->data)))) : NULL;
}

/* Return a row: is what is expected contained in what is found? */
static void
compare(const Example *example, const char *part, Jsonb *expected, Jsonb *found)
{
	Datum		values[5];
	bool		nulls[5] = {false};
	bool		ok = expected && found &&
	DatumGetBool(DirectFunctionCall2(jsonb_contains, JsonbPGetDatum(found), JsonbPGetDatum(expected)));

	values[0] = CStringGetTextDatum(example->name);
	values[1] = CStringGetTextDatum(part);
	values[2] = BoolGetDatum(ok);
	nulls[3] = expected == NULL;
	values[3] = expected ? JsonbPGetDatum(expected) : (Datum) 0;
	nulls[4] = found == NULL;
	values[4] = found ? JsonbPGetDatum(found) : (Datum) 0;
	tuplestore_putvalues(example->result->setResult, example->result->setDesc, values, nulls);
}

/* What was said of a contact that cannot be sent, as JSON. */
static Jsonb *
read_refusal(const ErrorData *error)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoCharMacro(&out, '{');
	cs_json_member(&out, "message", cs_text_message_to_utf8(error->message));
	if (error->detail)
		cs_json_member(&out, "detail", cs_text_message_to_utf8(error->detail));
	appendStringInfoCharMacro(&out, '}');
	return read_found(&out);
}

static void
run(Example *example)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *error = NULL;
	Jsonb	   *refused = json_member(example->json, "refused");
	Jsonb	   *request = json_member(example->json, "request");
	Jsonb	   *then = json_member(example->json, "then");

	initStringInfo(&example->request);
	initStringInfo(&example->judgement);
	(void) cs_try(find, example, NULL, &error);
	MemoryContextSwitchTo(context);
	if (refused || error)
		compare(example, "refused", refused, error ? read_refusal(error) : read_found(&example->request));
	if (error)
		return;
	if (request)
		compare(example, "request", request, read_found(&example->request));
	if (then || json_member(example->json, "answer"))
		compare(example, "then", then, read_found(&example->judgement));
	if (!refused && !request && !then)
		compare(example, "request", NULL, read_found(&example->request));
}

/* ---------- the function ---------- */

/* Return the examples: those given, or those that the definition brings with it. */
static Jsonb *
take_examples(FunctionCallInfo fcinfo, Jsonb *definition)
{
	Jsonb	   *examples = PG_ARGISNULL(1) ? json_member(definition, "examples") : PG_GETARG_JSONB_P(1);

	if (examples == NULL || !JB_ROOT_IS_ARRAY(examples) || JB_ROOT_IS_SCALAR(examples))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg(examples ? "examples must be a JSON array" : "the definition has no examples"),
				 errhint("For example: [{\"contact\": {\"email\": \"jane@example.com\"}, \"request\": {\"method\": \"POST\"}}].")));
	return examples;
}

/* Find the definition that the caller's servers use under a name. */
static Jsonb *
find_definition(const char *name)
{
	char	   *text = cs_registry_text(name, GetUserId());

	if (text == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no definition of a provider \"%s\"", name)));
	(void) cs_registry_compile(name, text);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_text_from_utf8(text))));
}

/* contactsync_check_definition(name, examples), or with a definition in the place of its name */
Datum
contactsync_check_definition(PG_FUNCTION_ARGS)
{
	Example		example = {.result = (ReturnSetInfo *) fcinfo->resultinfo};
	bool		named = get_fn_expr_argtype(fcinfo->flinfo, 0) == TEXTOID;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	int			n = 0;

	InitMaterializedSRF(fcinfo, 0);
	cs_argument_require(fcinfo, 0, named ? "name" : "definition");
	example.definition = named ? find_definition(text_to_cstring(PG_GETARG_TEXT_PP(0))) : PG_GETARG_JSONB_P(0);
	iterator = JsonbIteratorInit(&take_examples(fcinfo, example.definition)->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		example.json = JsonbValueToJsonb(&item);
		example.name = text_member(example.json, "name", psprintf("%d", ++n));
		run(&example);
	}
	return (Datum) 0;
}
