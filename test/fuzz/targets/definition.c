/*-------------------------------------------------------------------------
 *
 * definition.c
 *		Target definition: a definition of a provider, a contact and an answer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "base/text.h"
#include "fuzz.h"
#include "http/url.h"
#include "provider/defined/compile.h"
#include "provider/server.h"

/* Nothing of a contact is in the host, and no value leaves its line. */
static void
check_request(const CsEndpoint *endpoint, const CsRequest *request)
{
	size_t		len = strlen(endpoint->base_url);

	if (cs_url_problem(request->url, true))
		fuzz_fail("the URL is wrong: %s", request->url);
	if (strncmp(request->url, endpoint->base_url, len) != 0 || (request->url[len] != '/' && request->url[len] != '?' && request->url[len] != '\0'))
		fuzz_fail("the URL is not below the base URL: %s", request->url);
	if (strstr(request->url, "/../") || strstr(request->url + len, "//"))
		fuzz_fail("the URL has another path: %s", request->url);
	if (request->nheaders + 3 > CS_MAX_HEADERS)
		fuzz_fail("there are too many headers");
	for (int i = 0; i < request->nheaders; i++)
		for (const char *c = request->headers[i].value; *c; c++)
			if (*c < ' ' || *c > '~')
				fuzz_fail("the header %s has another character", request->headers[i].name);
	for (int i = 0; i < request->nheaders; i++)
		if (strcmp(request->headers[i].value, "application/json") == 0 && request->body.data &&
			!fuzz_is_json(request->body.data, request->body.len))
			fuzz_fail("the body is not JSON: %s", request->body.data);
}

/* Whatever a definition says, some answers are no success. */
static void
check_judgement(const CsResponse *response, const CsJudgement *judgement)
{
	int			status = response->status;

	if ((judgement->verdict == CS_DONE || judgement->verdict == CS_STEP || judgement->verdict == CS_REJECT) &&
		(status < 200 || (status >= 300 && status < 400) || status >= 500 || status == 401 || status == 429))
		fuzz_fail("an answer with status %d has settled the contact", status);
	if (judgement->verdict != CS_DONE && judgement->verdict != CS_STEP && judgement->message == NULL)
		fuzz_fail("a verdict has no message");
}

/* A contact goes on with a step that there can be, or with none. */
static void
check_next(const CsBatch *batch, const CsJudgement *judgement)
{
	int			next = judgement->outcomes[0].next_step;

	if (judgement->verdict != CS_STEP || next == CS_NEXT_NONE)
		return;
	if (next == CS_NEXT_ALL)
		next = judgement->next_step;
	if (next < 0 || next >= CS_MAX_STEPS)
		fuzz_fail("step %d is followed by step %d", batch->step, next);
}

/* Read a page of contacts, and make the request of the next one. */
static void
check_pull(const CsEndpoint *endpoint, const CsResponse *response)
{
	CsPull		pull = {.page = 1};
	CsPullPage	page = {0};
	CsRequest	request = {0};

	if (endpoint->provider->build_pull == NULL)
		return;
	endpoint->provider->judge_pull(endpoint, &pull, cs_json_parse(response->body, response->body_len), &page);
	pull.cursor = page.next_cursor;
	endpoint->provider->build_pull(endpoint, &pull, &request);
	check_request(endpoint, &request);
}

static void
check_action(const CsEndpoint *endpoint, Jsonb *jsonb, CsAction action, CsResponse *response)
{
	CsContact  *contact = cs_contact_from_jsonb(jsonb);
	CsBatch		batch = {.action = action,.ncontacts = 1,.contacts = &contact,.number = 1};
	CsJudgement judgement;

	contact->action = action;
	contact->claim = CS_CLAIM;
	if (action != CS_UPSERT)
		contact->upsert_key = pstrdup("a@example.com");
	if (cs_provider_prepare(endpoint, contact))
		return;
	if (contact->upsert_key == NULL || *contact->upsert_key == '\0')
		fuzz_fail("a contact without a key can be sent");
	if (cs_provider_first_step(endpoint, contact) >= CS_MAX_STEPS || cs_provider_first_step(endpoint, contact) < 0)
		fuzz_fail("a contact begins with no step");
	for (batch.step = 0; batch.step < 3; batch.step++)
	{
		CsRequest	request = {0};

		endpoint->provider->build(endpoint, &batch, &request);
		check_request(endpoint, &request);
		cs_provider_judge(endpoint, &batch, response, &judgement);
		check_judgement(response, &judgement);
		check_next(&batch, &judgement);
	}
}

/* A line with the contact, a line with the status, a line with the answer, and the definition. */
static void
run_definition(char *data, size_t len)
{
	char	   *contact = fuzz_line(&data);
	CsResponse	response = {.status = atoi(fuzz_line(&data)),.headers = ""};
	CsDefinitionFault fault;
	const CsProvider *provider;
	CsEndpoint *endpoint;
	Jsonb	   *jsonb;

	response.body = fuzz_line(&data);
	response.body_len = strlen(response.body);
	if (!pg_verify_mbstr(PG_UTF8, data, strlen(data), true) || !pg_verify_mbstr(PG_UTF8, contact, strlen(contact), true))
		return;
	provider = cs_compile_definition("fuzz", data, &fault);
	if (provider == NULL)
	{
		if (fault.path == NULL || fault.problem == NULL || *fault.problem == '\0')
			fuzz_fail("a fault is not named");
		return;
	}
	endpoint = cs_server_imagine(provider, NIL);
	jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(contact)));
	for (CsAction action = CS_UPSERT; action <= CS_DELETE; action++)
		check_action(endpoint, jsonb, action, &response);
	check_pull(endpoint, &response);
}

const FuzzTarget fuzz_definition_targets[] = {
	{"definition", run_definition},
	{NULL}
};
