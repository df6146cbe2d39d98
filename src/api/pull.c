/*-------------------------------------------------------------------------
 *
 * pull.c
 *		contactsync_pull(): what changed at the provider.
 *
 * All pages are brought in one transaction, the caller's, so the watermark moves
 * with the last of them or not at all.  It is open while the provider thinks.
 *
 * Where pages go by number, a contact that changes while they are listed can
 * move behind those that were listed, and have another slip past us between two
 * pages.  Then fewer came than the provider counts, and all are listed again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/fetch.h"
#include "base/compat.h"
#include "base/encoding.h"
#include "base/sql.h"
#include "provider/email.h"
#include "provider/endpoint.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/remote_contact.h"

CS_FUNCTION(contactsync_pull);

#define TRIES		3			/* of a request */
#define MIN_SKEW	5			/* s that clocks may differ by without being
								 * wrong */
#define ROUNDS		3			/* of all pages */
#define MAX_PAGES	1000000		/* a provider that never ends */

typedef struct CsPuller
{
	const CsEndpoint *endpoint;
	int			endpoint_id;
	CsFetcher  *fetcher;
	TimestampTz pulled_at;
	int64		total;			/* as the last page says */
	bool		by_page;		/* pages went by number */
	double		ahead;			/* s that the provider's clock is ahead of
								 * ours; 0: less than can be told, or not
								 * known */
} CsPuller;

/* Effect: an error unless nobody else pulls for this endpoint. */
static void
lock(CsPuller *puller)
{
	static CsStatement statement = {
		"SELECT pg_try_advisory_xact_lock(hashtextextended('contactsync_pull ' || $1, 0))", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(puller->endpoint_id);
	bool		isnull;

	cs_sql_execute(&statement, &arg, NULL);
	if (!DatumGetBool(cs_sql_value(0, 1, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another session pulls from server \"%s\" already", puller->endpoint->server_name)));
}

/* Effect: appends a contact as cs_remote_contact_store() takes it. */
static void
append_contact(StringInfo out, const CsRemoteContact *remote)
{
	const CsContact *contact = remote->contact;
	const char *email = cs_email_normalize(contact->value[CS_EMAIL]);

	cs_json_comma(out);
	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "email", email);
	cs_json_member(out, "remote_id", remote->id);
	cs_json_member(out, "external_id", contact->value[CS_EXTERNAL_ID]);
	if (cs_contact_is(contact, CS_OPT_IN, "true") || cs_contact_is(contact, CS_OPT_IN, "false"))
		cs_json_member_raw(out, "opt_in", contact->value[CS_OPT_IN]);
	cs_json_member(out, "locale", contact->value[CS_LOCALE]);
	cs_json_member(out, "updated_at", remote->updated_at);
	cs_json_key(out, "attributes");
	appendStringInfoCharMacro(out, '{');
	for (int i = 0; i < contact->nattributes; i++)
		cs_json_member_raw(out, contact->attributes[i].name, contact->attributes[i].json);
	appendStringInfoString(out, "}}");
}

/* Effect: the clock of the provider is compared with ours.  Its header has no
 * fractions, and an answer takes its time. */
static void
note_clock(CsPuller *puller, const CsResponse *response)
{
	double		theirs = cs_message_date(response);
	double		ahead = theirs - timestamptz_to_time_t(GetCurrentTimestamp());

	puller->ahead = theirs < 0 || fabs(ahead) < MIN_SKEW ? 0 : ahead;
}

/* Effect: asks for a page; an error if it is not there. */
static void
ask_for_page(CsPuller *puller, const CsPull *pull, CsPullPage *pulled)
{
	const CsEndpoint *endpoint = puller->endpoint;
	CsRequest	request = {0};
	CsResponse	response;
	CsJson	   *doc;
	const char *problem;

	endpoint->provider->build_pull(endpoint, pull, &request);
	cs_fetch(puller->fetcher, &request, &response);
	doc = cs_json_parse(response.body ? response.body : "", response.body_len);
	note_clock(puller, &response);
	problem = cs_fetch_problem(endpoint, &response, doc);
	memset(pulled, 0, sizeof(CsPullPage));
	if (problem == NULL)
		endpoint->provider->judge_pull(endpoint, pull, doc, pulled);
	if (problem == NULL && pulled->items == NULL)
		problem = "the answer is of another form than documented";
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not pull from server \"%s\": %s", endpoint->server_name,
						cs_encoding_from_utf8(problem)),
				 response.status == 403 ? errhint("The key may have no right to read contacts.") : 0));
}

/* Effect: stores a page.  Its memory is that of the caller's context. */
static void
store_page(CsPuller *puller, const CsPullPage *pulled)
{
	StringInfoData rows;
	CsSqlScope	scope;

	initStringInfo(&rows);
	appendStringInfoCharMacro(&rows, '[');
	for (int i = 0; i < cs_json_length(pulled->items); i++)
	{
		CsRemoteContact remote = {0};

		if (puller->endpoint->provider->read_contact(puller->endpoint,
													 cs_json_item(pulled->items, i), &remote))
			append_contact(&rows, &remote);
	}
	appendStringInfoCharMacro(&rows, ']');
	cs_sql_enter(&scope);
	cs_remote_contact_store(puller->endpoint_id, rows.data, puller->pulled_at);
	cs_sql_leave(&scope);
}

/* Effect: brings all pages. */
static void
pull_pages(CsPuller *puller, const char *since)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext page = AllocSetContextCreate(context, "contactsync page", ALLOCSET_DEFAULT_SIZES);
	CsPull		pull = {.since = since,.page = 1};
	bool		last;

	puller->by_page = false;
	do
	{
		CsPullPage	pulled;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(page);
		ask_for_page(puller, &pull, &pulled);
		store_page(puller, &pulled);
		last = pulled.last || pull.page >= MAX_PAGES;
		puller->total = pulled.total;
		puller->by_page |= !last && pulled.next_cursor == NULL;
		MemoryContextSwitchTo(context);
		pull.cursor = pulled.next_cursor ? pstrdup(pulled.next_cursor) : NULL;
		pull.page++;
		MemoryContextReset(page);
	} while (!last);
	MemoryContextDelete(page);
}

/* contactsync_pull(server) */
Datum
contactsync_pull(PG_FUNCTION_ARGS)
{
	Oid			roleid = GetUserId();
	Oid			serverid = cs_server_find(NameStr(*PG_GETARG_NAME(0)), roleid);
	CsPuller	puller = {.pulled_at = GetCurrentTimestamp()};
	MemoryContext context = CurrentMemoryContext;
	const CsEndpoint *endpoint = cs_server_read(serverid, roleid);
	CsSqlScope	scope;
	char	   *since;
	int64		n = 0;

	puller.endpoint = endpoint;
	if (endpoint->provider->build_pull == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s does not tell which contacts changed", endpoint->provider->title)));
	cs_sql_enter(&scope);
	puller.endpoint_id = cs_endpoint_state_id(serverid, endpoint->server_name, roleid);
	lock(&puller);
	since = cs_remote_contact_since(puller.endpoint_id);
	since = since ? MemoryContextStrdup(context, since) : NULL;
	cs_sql_leave(&scope);

	puller.fetcher = cs_fetch_open(endpoint, TRIES);
	for (int round = 1; round <= ROUNDS; round++)
	{
		pull_pages(&puller, since);
		cs_sql_enter(&scope);
		n = cs_remote_contact_count(puller.endpoint_id, puller.pulled_at);
		cs_sql_leave(&scope);
		if (!puller.by_page || n >= puller.total)
			break;
	}
	cs_sql_enter(&scope);
	cs_remote_contact_learn(puller.endpoint_id, puller.pulled_at, puller.ahead);
	if (!puller.by_page || n >= puller.total)
		cs_remote_contact_advance(puller.endpoint_id, puller.pulled_at);
	else
		ereport(WARNING,
				(errmsg(INT64_FORMAT " of " INT64_FORMAT " contacts came from server \"%s\"", n, puller.total,
						endpoint->server_name),
				 errhint("They changed while they were listed; the next pull begins at the same time again.")));
	cs_sql_leave(&scope);
	PG_RETURN_INT64(n);
}
