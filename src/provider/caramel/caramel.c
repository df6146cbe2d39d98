/*-------------------------------------------------------------------------
 *
 * caramel.c
 *		Caramel: JSON-RPC to an MCP server, one contact per call.
 *
 * From the page "Sync contacts" [SEED]: tools/call of caramel.v1.contact.upsert
 * with business_id, email, first_name, last_name; keyed by the lower-cased
 * address; 5 calls per second, 3 after the first 429; 403 tier_required below the
 * Business tier, where contacts go through caramel.v1.form.submit; the upsert does
 * not set consent, but a form can be configured to set it.
 *
 * So only contacts with opt_in true are submitted through a form that sets consent,
 * and only for a word of the person: a contact that was submitted before, or that
 * Caramel had already, may belong to somebody who has opted out since.  With route
 * 'form', a contact of whom nothing is known is upserted first, and submitted if the
 * answer shows that the upsert has created it.
 *
 * How form.submit expects its fields is not documented, so options name the tool and
 * its arguments.
 *
 * request.c has what is sent, answer.c reads what comes back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/caramel/answer.h"
#include "provider/caramel/request.h"

static const char *const routes[] = {"upsert", "form", NULL};
static const char *const usage_ways[] = {"gateway", "mcp", NULL};

/* ---------- options ---------- */

static const char *
check_route(const char *value)
{
	return cs_option_check_words(value, routes);
}

static const char *
check_usage(const char *value)
{
	return cs_option_check_words(value, usage_ways);
}

static const CsOption options[] = {
	{.name = "business_id",.place = CS_ON_SERVER,.check = cs_option_check_header,.required = true,
	.help = "the ID of the business that contacts belong to"},
	{.name = "token_url",.place = CS_ON_SERVER,.check = cs_option_check_url,
		.preset = "https://api.caramelme.com/functions/v1/mcp-oauth",
	.help = "the URL at which the access token is renewed"},
	{.name = "route",.place = CS_ON_SERVER,.check = check_route,.preset = "upsert",
	.help = "how contacts are sent: \"upsert\", which falls back to the form if the plan does not allow upserts, or \"form\""},
	{.name = "form_id",.place = CS_ON_SERVER,.check = cs_option_check_header,
	.help = "the ID of the form that contacts are submitted through"},
	{.name = "form_pace",.place = CS_ON_SERVER,.check = cs_option_check_pace,.preset = "0.16",
	.help = "the maximum number of calls per second while contacts are submitted through the form"},
	{.name = "form_sets_consent",.place = CS_ON_SERVER,.check = cs_option_check_boolean,.preset = "true",
	.help = "whether the form sets marketing_consent; if so, only contacts with opt_in true are submitted"},
	{.name = "upsert_tool",.place = CS_ON_SERVER,.preset = "caramel.v1.contact.upsert",
	.help = "the name of the tool that upserts a contact"},
	{.name = "form_tool",.place = CS_ON_SERVER,.preset = "caramel.v1.form.submit",
	.help = "the name of the tool that submits a form"},
	{.name = "form_id_argument",.place = CS_ON_SERVER,.preset = "form_id",
	.help = "the name of the tool's argument for the ID of the form"},
	{.name = "form_data_argument",.place = CS_ON_SERVER,.preset = "data",
	.help = "the name of the tool's argument for the fields, or \"none\" if the fields are arguments themselves"},
	{.name = "form_email_field",.place = CS_ON_SERVER,.preset = "email",
	.help = "the name of the form's field for email"},
	{.name = "form_first_name_field",.place = CS_ON_SERVER,.preset = "first_name",
	.help = "the name of the form's field for first_name"},
	{.name = "form_last_name_field",.place = CS_ON_SERVER,.preset = "last_name",
	.help = "the name of the form's field for last_name"},
	{.name = "usage",.place = CS_ON_SERVER,.check = check_usage,.preset = "gateway",
	.help = "where the usage is requested: \"gateway\", as documented, or \"mcp\""},
	{.name = "gateway_url",.place = CS_ON_SERVER,.check = cs_option_check_url,
		.preset = "https://gateway.caramelme.com/v1",
	.help = "the URL of the gateway, without /meta/usage"},
	{.name = NULL}
};

static const void *
configure(const CsEndpoint *endpoint)
{
	CsCaramel  *caramel = palloc0(sizeof(CsCaramel));

	caramel->business_id = cs_endpoint_option(endpoint, "business_id");
	caramel->upsert_tool = cs_endpoint_option(endpoint, "upsert_tool");
	caramel->form_tool = cs_endpoint_option(endpoint, "form_tool");
	caramel->form_id = cs_endpoint_option(endpoint, "form_id");
	caramel->form_id_argument = cs_endpoint_option(endpoint, "form_id_argument");
	caramel->form_data_argument = cs_endpoint_option(endpoint, "form_data_argument");
	if (caramel->form_data_argument && strcmp(caramel->form_data_argument, "none") == 0)
		caramel->form_data_argument = NULL;
	caramel->form_field[CS_EMAIL] = cs_endpoint_option(endpoint, "form_email_field");
	caramel->form_field[CS_FIRST_NAME] = cs_endpoint_option(endpoint, "form_first_name_field");
	caramel->form_field[CS_LAST_NAME] = cs_endpoint_option(endpoint, "form_last_name_field");
	caramel->prefer_form = cs_endpoint_option_word(endpoint, "route", routes) == 1;
	caramel->form_sets_consent = cs_endpoint_option_bool(endpoint, "form_sets_consent");
	caramel->form_pace = cs_endpoint_option_number(endpoint, "form_pace", 0);
	return caramel;
}

static const char *
check_options(const CsEndpoint *endpoint)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);

	if (caramel->prefer_form && caramel->form_id == NULL)
		return "route 'form' needs the option form_id";
	return NULL;
}

/* [SEED]: "every upserted contact is immediately evaluated against active
 * campaign segments", and a form "triggers all configured handlers". */
static const char *
bulk_risk(const CsEndpoint *endpoint, uint32 fields)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);

	if (caramel->prefer_form)
		return "Every submitted form runs its handlers at Caramel: people could be enrolled in campaigns, such as a welcome series, and receive mail.";
	return "Caramel evaluates every contact that is sent against the segments of active campaigns: people could be enrolled in journeys, such as a welcome series, and receive mail.";
}

/* [SEED]: "contact.upsert does NOT set marketing_consent". */
static const char *
check_mapping(const CsEndpoint *endpoint, uint32 fields, const char **hint)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);
	bool		opt_in = (fields & CS_FIELD_BIT(CS_OPT_IN)) != 0;

	if (opt_in && caramel->form_id == NULL)
	{
		*hint = "Set the server option form_id to a form that sets marketing_consent, or do not map opt_in.";
		return "Caramel accepts consent through a form only, and the option form_id is not set";
	}
	if (!opt_in && caramel->prefer_form && caramel->form_sets_consent)
	{
		*hint = "Map opt_in to a column that tells who consented; or, if the form does not set marketing_consent, set the server option form_sets_consent to 'false'.";
		return "the form would claim consent for every contact";
	}
	return NULL;
}

/* [DOC rate-limits]: form.submit, 10 in 60 s for each form and address. */
static double
pace_limit(const CsEndpoint *endpoint)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);

	return caramel->form_id && cs_caramel_prefers_form(caramel, endpoint->limitation) ? caramel->form_pace : 0;
}

/* ---------- lookups ---------- */

/*
 * [SEED]: POST gateway.caramelme.com/v1/meta/usage.  [DOC]: that gateway may not
 * exist yet; the tool caramel.v1.meta.usage returns the same.  [DOC]: contacts
 * cannot be read back.
 */
static bool
build_check(const CsEndpoint *endpoint, int n, CsRequest *request)
{
	const CsCaramel *caramel = cs_provider_settings(endpoint);
	StringInfo	out = &request->body;
	bool		mcp = cs_endpoint_option_word(endpoint, "usage", usage_ways) == 1;

	if (n > 0)
		return n == 1;
	request->method = "POST";
	request->url = mcp ? pstrdup(endpoint->base_url) :
		psprintf("%s/meta/usage", cs_endpoint_option(endpoint, "gateway_url"));
	cs_message_add_header(request, "Accept", "application/json, text/event-stream");
	cs_message_add_header(request, "Content-Type", "application/json");
	initStringInfo(out);
	if (mcp)
		appendStringInfoString(out, "{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"id\":1,\"params\":{\"name\":\"caramel.v1.meta.usage\",\"arguments\":");
	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "business_id", caramel->business_id);
	appendStringInfoString(out, mcp ? "}}}" : "}");
	return true;
}

/* The fields of the answer are not documented, so it is shown as it is. */
static void
judge_check(const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
			const CsResponse *response, CsJson *doc, CsFinding *finding)
{
	CsJson	   *result;
	CsJson	   *content;
	const char *problem;

	finding->name = n == 0 ? "usage" : "contacts";
	if (n == 1)
	{
		finding->ours = psprintf(INT64_FORMAT, local->contacts);
		finding->detail = "Caramel does not let contacts be read; compare with Customers in its dashboard";
		return;
	}
	if (doc == NULL)
		doc = cs_caramel_parse(response);
	problem = cs_caramel_problem(doc);
	result = cs_json_get(doc, "result");
	content = cs_json_get(result, "structuredContent");
	if (problem || !cs_json_is_object(doc))
	{
		finding->detail = problem ? problem : "the answer is not JSON";
		return;
	}
	finding->theirs = cs_json_dump(content ? content : result ? result : doc);
	finding->result = CS_FINDING_OK;
}

#define FIELDS \
	(CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_FIRST_NAME) | \
	 CS_FIELD_BIT(CS_LAST_NAME) | CS_FIELD_BIT(CS_OPT_IN) | \
	 CS_FIELD_BIT(CS_OPT_IN_AT))

CS_ADAPTER(cs_caramel);

const CsProvider cs_caramel = {
	.name = "caramel",
	.title = "Caramel",
	.base_url = "https://app.caramelme.com/api/functions/caramel-mcp",
	.account_option = "business_id",
	.max_batch = 1,
	.pace = 5,					/* "5 rps is a safe sustained rate" */
	.burst = 1,
	.throttled_pace = 3,		/* "drop to 3 rps after first 429" */
	.concurrency = 2,
	.max_retries = 3,			/* "Exponential backoff, max 3 retries" */
	.auth = CS_AUTH_OAUTH,
	.fields = FIELDS,
	.required = CS_FIELD_BIT(CS_EMAIL),
	.options = options,
	.build = cs_caramel_build,
	.judge = cs_caramel_judge,
	.prepare = cs_caramel_prepare,
	.pace_limit = pace_limit,
	.configure = configure,
	.check_options = check_options,
	.check_mapping = check_mapping,
	.bulk_risk = bulk_risk,
	.build_check = build_check,
	.judge_check = judge_check,
};
