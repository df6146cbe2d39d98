/*-------------------------------------------------------------------------
 *
 * pull.c
 *		contactsync_pull(): fetch the contacts that changed at the provider.
 *
 * All pages are stored in one transaction, the caller's, which stays open while
 * the provider is asked.  So the time from which the next pull continues is
 * advanced after all pages or not at all.
 *
 * Where pages are numbered, a contact that changes while they are listed can move
 * to an earlier page and shift another one from a page that is yet to be listed to
 * one that was.  Fewer contacts are then received than the provider counts, and
 * all pages are listed again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/fetch.h"
#include "base/compat.h"
#include "base/invalidation.h"
#include "base/sql.h"
#include "base/text.h"
#include "provider/email.h"
#include "provider/endpoint.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/remote_contact.h"
#include "store/run_log.h"

CS_FUNCTION(contactsync_pull);

#define TRIES		3			/* of a request */
#define ROUNDS		3			/* of listing all pages */
#define MAX_PAGES	1000000		/* stops a provider that never ends */

typedef struct CsPuller
{
	const CsEndpoint *endpoint;
	int			endpoint_id;
	CsFetcher  *fetcher;
	TimestampTz pulled_at;		/* identifies this pull */
	int64		total;			/* contacts, according to the last page */
	bool		by_page;		/* pages are numbered */
	double		ahead;			/* see cs_message_clock_ahead() */
} CsPuller;

/* Fetch a page, and append its contacts; it is an error if that fails. */
static void
fetch_page(CsPuller *puller, const CsPull *pull, CsPullPage *pulled, StringInfo rows)
{
	const CsEndpoint *endpoint = puller->endpoint;
	CsRequest	request = {0};
	CsResponse	response;
	CsJson	   *doc;
	const char *problem;

	endpoint->provider->build_pull(endpoint, pull, &request);
	cs_fetch(puller->fetcher, &request, &response);
	doc = cs_json_parse(response.body ? response.body : "", response.body_len);
	puller->ahead = cs_message_clock_ahead(&response);
	problem = cs_fetch_problem(endpoint, &response, doc);
	if (problem == NULL && !cs_remote_contact_read_page(endpoint, pull, doc, pulled, rows))
		problem = CS_FETCH_UNDOCUMENTED;
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not pull from server \"%s\": %s", endpoint->server_name,
						cs_text_from_utf8(problem)),
				 response.status == 403 ? errhint("The key may lack permission to read contacts.") : 0));
}

static void
store_page(const CsPuller *puller, const char *rows)
{
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_remote_contact_store(puller->endpoint_id, rows, puller->pulled_at);
	cs_sql_leave(&scope);
}

/* Fetch and store all pages. */
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
		StringInfoData rows;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(page);
		initStringInfo(&rows);
		fetch_page(puller, &pull, &pulled, &rows);
		store_page(puller, rows.data);
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

/* Find the caller's endpoint, and lock it.  Return since when contacts are pulled, or NULL. */
static char *
begin_pull(CsPuller *puller, Oid serverid)
{
	MemoryContext context = CurrentMemoryContext;
	const char *server = puller->endpoint->server_name;
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	char	   *since;

	puller->endpoint_id = cs_endpoint_state_id(serverid, server, roleid);
	if (!cs_remote_contact_lock(puller->endpoint_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another session is already pulling from server \"%s\"", server)));
	since = cs_remote_contact_since(puller->endpoint_id);
	since = since ? MemoryContextStrdup(context, since) : NULL;
	cs_sql_leave(&scope);
	return since;
}

/* Return how many contacts were received. */
static int64
count_pulled(const CsPuller *puller)
{
	CsSqlScope	scope;
	int64		n;

	cs_sql_enter(&scope);
	n = cs_remote_contact_count(puller->endpoint_id, puller->pulled_at);
	cs_sql_leave(&scope);
	return n;
}

/* Learn who opted out, and have the next pull continue from here if nothing is missing. */
static void
end_pull(const CsPuller *puller, int64 listed, bool all, bool complete)
{
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	int64		opted_out = cs_remote_contact_learn(puller->endpoint_id, puller->pulled_at, puller->ahead);

	cs_run_log_pull(puller->endpoint_id, puller->pulled_at, listed, opted_out,
					complete ? NULL : "contacts changed while they were listed", GetUserNameFromId(roleid, false));
	if (complete)
		cs_remote_contact_advance(puller->endpoint_id, puller->pulled_at);
	if (complete && all && cs_remote_contact_complete(puller->endpoint_id, puller->pulled_at))
		cs_invalidation_send(CS_DEFINITIONS);	/* contacts may wait for this */
	cs_sql_leave(&scope);
}

/* contactsync_pull(server) */
Datum
contactsync_pull(PG_FUNCTION_ARGS)
{
	Oid			serverid = cs_server_find(NameStr(*PG_GETARG_NAME(0)), GetUserId());
	const CsEndpoint *endpoint = cs_server_read(serverid, GetUserId());
	CsPuller	puller = {.endpoint = endpoint,.pulled_at = GetCurrentTimestamp()};
	bool		complete = false;
	char	   *since;
	int64		n = 0;

	if (endpoint->provider->build_pull == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s cannot list the contacts that changed", endpoint->provider->title)));
	since = begin_pull(&puller, serverid);
	puller.fetcher = cs_fetch_open(endpoint, TRIES);
	for (int round = 1; round <= ROUNDS && !complete; round++)
	{
		pull_pages(&puller, since);
		n = count_pulled(&puller);
		complete = !puller.by_page || n >= puller.total;
	}
	end_pull(&puller, n, since == NULL, complete);
	if (!complete)
		ereport(WARNING,
				(errmsg("received " INT64_FORMAT " of " INT64_FORMAT " contacts from server \"%s\"", n,
						puller.total, endpoint->server_name),
				 errhint("Contacts changed while they were listed. The next pull starts from the same time again.")));
	PG_RETURN_INT64(n);
}
