/*-------------------------------------------------------------------------
 *
 * lookup.c
 *		What MailingCore can be asked.
 *
 * [DOC contacts-overview]: GET /contacts and GET /contacts/{idOrExternalId},
 * scope contacts:read.  [DOC locale-coverage]: GET
 * /campaigns/{id}/locale-coverage, scope campaigns:read.  The envelope of lists
 * is not documented; the client library's other list has data and meta.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/answer.h"
#include "provider/mailingcore/mailingcore.h"

static void
begin_get(const CsEndpoint *endpoint, CsRequest *request)
{
	const CsMailingCore *settings = cs_provider_settings(endpoint);

	request->method = "GET";
	if (settings->tenant_id)
		cs_message_add_header(request, "X-Tenant-Id", settings->tenant_id);
	cs_message_add_header(request, "Accept", "application/json");
}

bool
cs_mailingcore_build_check(const CsEndpoint *endpoint, int n, CsRequest *request)
{
	const char *campaign = cs_endpoint_option(endpoint, "campaign_id");

	if (n > (campaign ? 1 : 0))
		return false;
	begin_get(endpoint, request);
	request->url = n == 0 ? psprintf("%s/contacts?page=1&limit=1", endpoint->base_url) :
		psprintf("%s/campaigns/%s/locale-coverage", endpoint->base_url,
				 cs_url_encode(campaign));
	return true;
}

/* Wherever it is. */
static bool
read_total(CsJson *doc, int64 *total)
{
	static const char *const paths[] = {"meta.total", "total", "pagination.total", "meta.totalItems"};

	for (int i = 0; i < (int) lengthof(paths); i++)
		if (cs_json_int(cs_json_path(doc, paths[i]), total))
			return true;
	return false;
}

/*
 * Contacts whose language has no template get none, or a neutral one.
 */
static void
judge_coverage(CsJson *doc, CsFinding *finding)
{
	StringInfoData uncovered;

	if (cs_json_length(doc) < 0)
		doc = cs_json_get(doc, "data");
	if (cs_json_length(doc) < 0)
	{
		finding->detail = "the answer does not list locales";
		return;
	}
	initStringInfo(&uncovered);
	for (int i = 0; i < cs_json_length(doc); i++)
	{
		CsJson	   *item = cs_json_item(doc, i);
		const char *locale = cs_json_text(cs_json_get(item, "locale"));
		bool		covered = false;
		int64		count = 0;

		(void) cs_json_bool(cs_json_get(item, "hasTemplate"), &covered);
		(void) cs_json_int(cs_json_get(item, "count"), &count);
		if (count > 0 && !covered)
			appendStringInfo(&uncovered, "%s" INT64_FORMAT " with %s", uncovered.len > 0 ? ", " : "",
							 count, locale ? locale : "no locale");
	}
	finding->theirs = cs_json_dump(doc);
	finding->result = uncovered.len > 0 ? CS_FINDING_DIFFERS : CS_FINDING_OK;
	if (uncovered.len > 0)
		finding->detail = psprintf("contacts without a template in their language: %s", uncovered.data);
}

void
cs_mailingcore_judge_check(const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
						   const CsResponse *response, CsJson *doc, CsFinding *finding)
{
	int64		total;

	finding->name = n == 0 ? "contacts" : "locale coverage";
	if (n == 1 && doc)
		judge_coverage(doc, finding);
	else if (n == 0 && read_total(doc, &total))
		cs_answer_compare_counts(finding, local, total);
	else if (n == 0 && doc)
		finding->detail = "the answer tells no total";
}

/* By what MailingCore goes by: its own id if it told us, else the externalId. */
bool
cs_mailingcore_build_lookup(const CsEndpoint *endpoint, const CsContact *contact,
							CsRequest *request)
{
	const char *id = contact->remote_id ? contact->remote_id : contact->value[CS_EXTERNAL_ID];

	if (id == NULL || cs_contact_check_path("external_id", id) != NULL)
		return false;
	begin_get(endpoint, request);
	request->url = psprintf("%s/contacts/%s", endpoint->base_url, cs_url_encode(id));
	return true;
}

bool
cs_mailingcore_read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemote *remote)
{
	const CsMailingCore *settings = cs_provider_settings(endpoint);
	CsJson	   *item = cs_json_get(doc, "email") ? doc : cs_json_get(doc, "data");

	remote->contact = palloc0(sizeof(CsContact));
	remote->id = cs_json_text(cs_json_get(item, "id"));
	remote->updated_at = cs_json_text(cs_json_get(item, "updatedAt"));
	cs_contact_read_attributes(remote->contact, cs_json_get(item, "attributes"), settings->attribute);
	cs_contact_set_json(remote->contact, CS_EMAIL, cs_json_get(item, "email"));
	cs_contact_set_json(remote->contact, CS_EXTERNAL_ID, cs_json_get(item, "externalId"));
	cs_contact_set_json(remote->contact, CS_LOCALE, cs_json_get(item, "locale"));
	cs_contact_set_json(remote->contact, CS_OPT_IN, cs_json_get(item, "optIn"));
	return remote->contact->value[CS_EMAIL] != NULL;
}

/* ---------- pulling ---------- */

enum
{
	PULL_AUTO,
	PULL_PAGE,
	PULL_CURSOR
};

const char *const cs_mailingcore_pull_modes[] = {"auto", "page", "cursor", NULL};

/* [DOC contacts-overview]: page, limit, updatedSince, cursor. */
void
cs_mailingcore_build_pull(const CsEndpoint *endpoint, const CsPull *pull, CsRequest *request)
{
	StringInfoData url;

	begin_get(endpoint, request);
	initStringInfo(&url);
	appendStringInfo(&url, "%s/contacts?limit=%d", endpoint->base_url,
					 cs_endpoint_option_int(endpoint, "pull_page", 0));
	if (pull->cursor)
		appendStringInfo(&url, "&cursor=%s", cs_url_encode(pull->cursor));
	else
		appendStringInfo(&url, "&page=%d", pull->page);
	if (pull->since)
		appendStringInfo(&url, "&updatedSince=%s", cs_url_encode(pull->since));
	request->url = url.data;
}

/* The first of these members that is an array. */
static CsJson *
find_items(CsJson *doc)
{
	static const char *const names[] = {"data", "contacts", "items", "results"};

	if (cs_json_length(doc) >= 0)
		return doc;
	for (int i = 0; i < (int) lengthof(names); i++)
		if (cs_json_length(cs_json_get(doc, names[i])) >= 0)
			return cs_json_get(doc, names[i]);
	return NULL;
}

static const char *
find_cursor(CsJson *doc)
{
	static const char *const paths[] = {
		"meta.nextCursor", "nextCursor", "meta.cursor", "cursor", "pagination.nextCursor"
	};

	for (int i = 0; i < (int) lengthof(paths); i++)
	{
		const char *cursor = cs_json_text(cs_json_path(doc, paths[i]));

		if (cursor && *cursor)
			return cursor;
	}
	return NULL;
}

/* The name of the cursor is not documented, nor whether there is one. */
void
cs_mailingcore_judge_pull(const CsEndpoint *endpoint, const CsPull *pull, CsJson *doc,
						  CsPulled *pulled)
{
	int			mode = cs_endpoint_option_word(endpoint, "pull_mode", cs_mailingcore_pull_modes);
	int			limit = cs_endpoint_option_int(endpoint, "pull_page", 0);
	int64		pages;
	int			n;

	pulled->items = find_items(doc);
	n = cs_json_length(pulled->items);
	if (!read_total(doc, &pulled->total))
		pulled->total = -1;
	pulled->next_cursor = mode == PULL_PAGE ? NULL : find_cursor(doc);
	if (pulled->next_cursor)
		pulled->last = pull->cursor && strcmp(pull->cursor, pulled->next_cursor) == 0;
	else if (mode == PULL_CURSOR || pull->cursor)
		pulled->last = true;
	else if (cs_json_int(cs_json_path(doc, "meta.totalPages"), &pages))
		pulled->last = pull->page >= pages;
	else
		pulled->last = n < limit;
	if (n == 0)
		pulled->last = true;
}
