/*-------------------------------------------------------------------------
 *
 * judge.c
 *		Targets judge_*: answers of each provider.  Target read: answers to lookups,
 *		checks and lists.
 *
 * An input of judge_* is a line of numbers (status, step, action, contacts, and bits of
 * what is known), header lines, an empty line, and the body.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"

#include "fuzz.h"
#include "http/url.h"

/* coverage.sql gives it to every user mapping. */
#define SECRET		"topsecret"

#define MAX_CONTACTS	3
#define MAX_TEXT		500

static CsEndpoint *endpoints[2];

/* A number in some bits of another one, which loses them. */
static unsigned int
take_bits(unsigned int *bits, int n)
{
	unsigned int value = *bits & ((1u << n) - 1);

	*bits >>= n;
	return value;
}

/* ---------- contacts ---------- */

/* Make a contact that can be sent, or return NULL. */
static CsContact *
make_contact(const CsEndpoint *endpoint, CsAction action, int number, unsigned int state)
{
	static const char *const emails[MAX_CONTACTS] = {"a@example.com", "b@example.com", "c@example.com"};
	static const char *const ids[MAX_CONTACTS] = {"c1", "c2", "c3"};
	CsContact  *contact = palloc0(sizeof(CsContact));
	uint32		fields = endpoint->provider->fields;
	unsigned int opt_in = take_bits(&state, 2);

	contact->action = action;
	contact->claim = take_bits(&state, 2) % 3;
	contact->claimed = take_bits(&state, 1);
	contact->opted_out = take_bits(&state, 1);
	contact->known = take_bits(&state, 1);
	contact->direct = take_bits(&state, 1);
	contact->withheld = take_bits(&state, 1);
	contact->opts_out_first = take_bits(&state, 1);
	contact->maybe_ours = take_bits(&state, 1);
	contact->untouched = take_bits(&state, 1);
	contact->topics = take_bits(&state, 1) ? pstrdup("t") : NULL;
	contact->previous_key = take_bits(&state, 1) ? pstrdup("old@example.com") : NULL;
	contact->queued_at = take_bits(&state, 1) ? 784111700 : 0;

	cs_contact_set(contact, CS_EMAIL, pstrdup(emails[number]));
	if (fields & CS_FIELD_BIT(CS_EXTERNAL_ID))
		cs_contact_set(contact, CS_EXTERNAL_ID, pstrdup(ids[number]));
	if (take_bits(&state, 1) && (fields & CS_FIELD_BIT(CS_FIRST_NAME)))
		cs_contact_set(contact, CS_FIRST_NAME, pstrdup("Ann"));
	if (take_bits(&state, 1) && (fields & CS_FIELD_BIT(CS_ATTRIBUTES)))
		cs_contact_add_attribute(contact, pstrdup("plan"), pstrdup("1"));
	if (opt_in && (fields & CS_FIELD_BIT(CS_OPT_IN)))
		cs_contact_set(contact, CS_OPT_IN, opt_in == 1 ? NULL : pstrdup(opt_in == 2 ? "false" : "true"));
	if (action != CS_UPSERT)
		contact->upsert_key = contact->value[endpoint->provider->required & CS_FIELD_BIT(CS_EXTERNAL_ID) ||
											 (fields & CS_FIELD_BIT(CS_EXTERNAL_ID)) ? CS_EXTERNAL_ID : CS_EMAIL];
	return cs_provider_prepare(endpoint, contact) == NULL ? contact : NULL;
}

/* Read the first line of an input.  Return NULL if there can be no such call. */
static CsBatch *
read_batch(const CsEndpoint *endpoint, const char *line, int *status)
{
	CsBatch    *batch = palloc0(sizeof(CsBatch));
	int			action = 0;
	int			n = 1;
	unsigned int state = 0;

	*status = 200;
	(void) sscanf(line, "%d %d %d %d %u", status, &batch->step, &action, &n, &state);
	if (action < CS_UPSERT || action > CS_DELETE || n < 1 || n > MAX_CONTACTS ||
		n > cs_provider_batch_limit(endpoint, action, batch->step))
		return NULL;
	batch->action = action;
	batch->number = 1;
	batch->rekeys = (state >> 28) & 1;
	batch->limitation = ((state >> 29) & 1) ? "users: x" : ((state >> 30) & 1) ? "tier_required: x" : NULL;
	batch->contacts = palloc(n * sizeof(CsContact *));
	for (int i = 0; i < n; i++)
	{
		CsContact  *contact = make_contact(endpoint, action, i, state);

		if (contact)
			batch->contacts[batch->ncontacts++] = contact;
	}
	return batch->ncontacts > 0 ? batch : NULL;
}

/* ---------- what must be true of every request and judgement ---------- */

static void
check_request(const CsRequest *request)
{
	if (request->method == NULL || request->url == NULL || cs_url_problem(request->url, true))
		fuzz_fail("the request has no valid URL: %s", request->url);
	for (int i = 0; i < request->nheaders; i++)
		for (const char *c = request->headers[i].value; *c; c++)
			if (*c < ' ' || *c > '~')
				fuzz_fail("the value of the header %s is not printable", request->headers[i].name);
	if (request->body.data && !fuzz_is_json(request->body.data, request->body.len))
		fuzz_fail("the body is not JSON: %s", request->body.data);
}

static void
check_text(const char *what, const char *text)
{
	if (text == NULL)
		return;
	if (strlen(text) > MAX_TEXT)
		fuzz_fail("the %s is longer than %d bytes", what, MAX_TEXT);
	if (!pg_verify_mbstr(PG_UTF8, text, strlen(text), true))
		fuzz_fail("the %s is not UTF-8", what);
	for (const char *c = text; *c; c++)
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			fuzz_fail("the %s has a control character", what);
	if (strstr(text, SECRET))
		fuzz_fail("the %s contains the secret", what);
}

static void
check_outcome(const CsOutcome *outcome)
{
	if (outcome->kind != CS_OUTCOME_OK && outcome->reason == NULL)
		fuzz_fail("a contact fails without a reason");
	check_text("code", outcome->code);
	check_text("message", outcome->message);
	check_text("field", outcome->field);
	check_text("remote_id", outcome->remote_id);
	check_text("remote_status", outcome->remote_status);
	check_text("remote_updated_at", outcome->remote_updated_at);
	check_text("note", outcome->note);
}

static void
check_judgement(const CsBatch *batch, const CsJudgement *judgement)
{
	bool		each = judgement->verdict == CS_DONE || judgement->verdict == CS_STEP;

	if (judgement->verdict < CS_DONE || judgement->verdict > CS_HALT)
		fuzz_fail("there is no such verdict");
	if (!each && (judgement->reason == NULL || judgement->message == NULL))
		fuzz_fail("the verdict has no reason or no message");
	if (judgement->verdict == CS_SPLIT && batch->ncontacts == 1)
		fuzz_fail("a single contact is split");
	if (!isfinite(judgement->retry_after) || (judgement->retry_after < 0 && judgement->retry_after != -1))
		fuzz_fail("the wait is %g", judgement->retry_after);
	if (judgement->throttled && judgement->verdict != CS_RETRY)
		fuzz_fail("throttled, but not to be retried");
	check_text("code", judgement->code);
	check_text("message", judgement->message);
	check_text("field", judgement->field);
	check_text("request_id", judgement->request_id);
	for (int i = 0; each && i < batch->ncontacts; i++)
		check_outcome(&judgement->outcomes[i]);
}

/* Make the request of the next step for each contact. */
static void
continue_step(const CsEndpoint *endpoint, const CsBatch *batch, const CsJudgement *judgement)
{
	CsBatch		next = *batch;

	next.step = judgement->next_step;
	next.ncontacts = 1;
	if (judgement->limitation)
		next.limitation = judgement->limitation;
	for (int i = 0; i < batch->ncontacts; i++)
	{
		CsRequest	request = {0};

		next.contacts = batch->contacts + i;
		if (judgement->outcomes[i].kind != CS_OUTCOME_OK)
			continue;
		cs_provider_keep_outcome(next.contacts[0], &judgement->outcomes[i], CurrentMemoryContext);
		endpoint->provider->build(endpoint, &next, &request);
		check_request(&request);
	}
}

/* ---------- targets ---------- */

/* Read the header lines and the body. */
static void
read_response(char *data, CsResponse *response)
{
	char	   *end = *data == '\n' ? data : strstr(data, "\n\n");
	char	   *headers = data;

	data = end ? end + (*headers == '\n' ? 1 : 2) : data + strlen(data);
	response->headers = cs_message_normalize_headers(headers, (end ? end : data) - headers);
	response->body = data;
	response->body_len = strlen(data);
	response->received_at = 784111777;	/* Sun, 06 Nov 1994 08:49:37 GMT */
	if (response->status == 0)
		response->error = response->body;
}

static void
init_judge(const char *provider)
{
	endpoints[0] = fuzz_endpoint(provider);
	endpoints[1] = fuzz_endpoint(psprintf("%s2", provider));
}

static void
run_judge(char *data, size_t len)
{
	CsResponse	response = {0};
	CsRequest	request = {0};
	CsJudgement judgement;
	CsEndpoint *endpoint = endpoints[data[0] == '+'];
	CsBatch    *batch;

	if (len == 0)
		return;
	batch = read_batch(endpoint, fuzz_line(&data), &response.status);
	if (batch == NULL)
		return;
	read_response(data, &response);
	endpoint->provider->build(endpoint, batch, &request);
	check_request(&request);
	if (request.body.data && strcmp(request.body.data, "[]") == 0)
		return;					/* nobody is concerned */

	cs_provider_judge(endpoint, batch, &response, &judgement);
	check_judgement(batch, &judgement);
	for (int i = 0; judgement.verdict == CS_DONE && i < batch->ncontacts; i++)
	{
		const char *why = judgement.outcomes[i].kind != CS_OUTCOME_OK ? NULL :
		fuzz_why_no_success(endpoint, batch, i, &request, &response, &judgement);

		if (why)
			fuzz_fail("DONE for contact %d (%s %s), but %s", i + 1, request.method, request.url, why);
	}
	if (judgement.verdict == CS_STEP && response.status < 300 && strcmp(request.method, "GET") == 0 &&
		!fuzz_is_json(response.body, response.body_len) && strcmp(endpoint->provider->name, "owlat") != 0)
		fuzz_fail("the contact that was looked up exists, by an answer that is not JSON");
	if (judgement.verdict == CS_STEP)
		continue_step(endpoint, batch, &judgement);
}

static CsEndpoint *readers[5];

static void
init_read(const char *argument)
{
	static const char *const servers[] = {"campaignlark", "caramel", "mailingcore", "owlat", "spotzee"};

	for (int i = 0; i < lengthof(servers); i++)
		readers[i] = fuzz_endpoint(servers[i]);
}

static void
check_finding(const CsFinding *finding)
{
	if (finding->name == NULL)
		fuzz_fail("a finding has no name");
}

static void
read_pull(const CsEndpoint *endpoint, CsJson *doc)
{
	const CsProvider *provider = endpoint->provider;
	CsPull		pull = {.page = 1};
	CsPullPage	page = {.total = -1};

	if (provider->judge_pull == NULL)
		return;
	provider->judge_pull(endpoint, &pull, doc, &page);
	for (int i = 0; i < cs_json_length(page.items); i++)
	{
		CsRemoteContact remote = {0};

		if (provider->read_contact(endpoint, cs_json_item(page.items, i), &remote) && remote.contact == NULL)
			fuzz_fail("a contact was read, and there is none");
	}
	if (!page.last && page.items && page.next_cursor && *page.next_cursor == '\0')
		fuzz_fail("the next page has an empty cursor");
}

/* The first letter names the provider, the second the check. */
static void
run_read(char *data, size_t len)
{
	CsResponse	response = {.status = 200};
	CsLocalCounts local = {.contacts = 2};
	CsFinding	finding = {0};
	CsRemoteContact remote = {0};
	CsEndpoint *endpoint;
	CsJson	   *doc;
	int			n;

	if (len < 3 || data[0] < '0' || data[0] > '4' || data[1] < '0' || data[1] > '3')
		return;
	endpoint = readers[data[0] - '0'];
	n = data[1] - '0';
	fuzz_line(&data);
	read_response(data, &response);
	doc = cs_json_parse(response.body, response.body_len);
	if (endpoint->provider->build_check)
	{
		CsRequest	request = {0};

		if (endpoint->provider->build_check(endpoint, n, &request))
		{
			if (request.method)
				check_request(&request);
			endpoint->provider->judge_check(endpoint, n, &local, &response, doc, &finding);
			check_finding(&finding);
		}
	}
	if (endpoint->provider->value_type)
		for (int field = 0; field < CS_FIELD_COUNT; field++)
			(void) endpoint->provider->value_type(endpoint, doc, field, field == CS_ATTRIBUTES ? "plan" : NULL);
	if (endpoint->provider->read_contact && endpoint->provider->read_contact(endpoint, doc, &remote) &&
		remote.contact == NULL)
		fuzz_fail("a contact was read, and there is none");
	read_pull(endpoint, doc);
}

const FuzzTarget fuzz_judge_targets[] = {
	{"judge_campaignlark", run_judge, init_judge, "campaignlark"},
	{"judge_caramel", run_judge, init_judge, "caramel"},
	{"judge_mailingcore", run_judge, init_judge, "mailingcore"},
	{"judge_owlat", run_judge, init_judge, "owlat"},
	{"judge_spotzee", run_judge, init_judge, "spotzee"},
	{"read", run_read, init_read},
	{NULL}
};
