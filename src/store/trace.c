/*-------------------------------------------------------------------------
 *
 * trace.c
 *		Complete requests and answers of chosen contacts.
 *
 * A contact that is traced is sent in a call of its own, so that no other contact's
 * data is kept.  Tracing ends after some days, and traces are deleted by age and
 * number.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/invalidation.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/text.h"
#include "store/call_log.h"
#include "store/trace.h"

/* Size limit of each part of a trace. */
#define MAX_BYTES	65536

/* How long a contact is traced, and a trace is kept. */
#define MAX_DAYS	"7"

typedef struct CsTraced
{
	int			endpoint;
	int			watch;			/* 0: by address or upsert key */
	char	   *contact;
} CsTraced;

static List *traced = NIL;		/* of CsTraced */
static MemoryContext traced_context = NULL;

bool
cs_trace_set(int endpoint, int watch, const char *contact, bool on)
{
	static CsStatement start = {
		"INSERT INTO contactsync.traced (endpoint, watch, contact, until)"
		" VALUES ($1, $2, $3, clock_timestamp() + interval '" MAX_DAYS " days')"
		" ON CONFLICT (endpoint, watch, contact) DO UPDATE SET until = excluded.until",
		3, {INT4OID, INT4OID, TEXTOID}
	};
	static CsStatement end = {
		"DELETE FROM contactsync.traced WHERE endpoint = $1 AND watch = $2 AND contact = $3",
		3, {INT4OID, INT4OID, TEXTOID}
	};
	Datum		args[3];

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = CStringGetTextDatum(contact);
	cs_invalidation_send(CS_DEFINITION_TRACED);
	return cs_sql_execute(on ? &start : &end, args, NULL) > 0;
}

void
cs_trace_load(void)
{
	static CsStatement statement = {
		"SELECT endpoint, watch, contact FROM contactsync.traced WHERE until > clock_timestamp()"
	};
	CsSqlScope	scope;
	uint64		n;
	MemoryContext old;

	if (traced_context == NULL)
		traced_context = AllocSetContextCreate(TopMemoryContext, "contactsync traced", ALLOCSET_SMALL_SIZES);
	traced = NIL;
	MemoryContextReset(traced_context);
	cs_sql_enter(&scope);
	n = cs_sql_execute(&statement, NULL, NULL);
	old = MemoryContextSwitchTo(traced_context);
	for (uint64 i = 0; i < n; i++)
	{
		CsTraced   *one = palloc(sizeof(CsTraced));

		one->endpoint = cs_sql_int(i, 1);
		one->watch = cs_sql_int(i, 2);
		one->contact = cs_sql_text(i, 3);
		traced = lappend(traced, one);
	}
	MemoryContextSwitchTo(old);
	cs_sql_leave(&scope);
}

bool
cs_trace_is_wanted(int endpoint, int watch, const char *key, const CsContact *contact)
{
	ListCell   *lc;

	foreach(lc, traced)
	{
		const CsTraced *one = lfirst(lc);

		if (one->endpoint != endpoint)
			continue;
		if (one->watch != 0)
		{
			if (one->watch == watch && strcmp(one->contact, key) == 0)
				return true;
			continue;
		}
		if ((contact->upsert_key && strcmp(one->contact, cs_text_from_utf8(contact->upsert_key)) == 0) ||
			(contact->value[CS_EMAIL] && strcmp(one->contact, cs_text_from_utf8(contact->value[CS_EMAIL])) == 0))
			return true;
	}
	return false;
}

/*
 * Making
 */

/*
 * Return what is kept of a text of the given length: without secrets, not longer than
 * allowed, in the database's encoding.  If it is not UTF-8, only its length is kept.
 */
static char *
keep(MemoryContext context, const CsEndpoint *endpoint, const char *data, size_t len)
{
	StringInfoData text;
	MemoryContext old;
	char	   *kept;

	if (data == NULL)
		return NULL;
	len = strnlen(data, len);
	if (!pg_verify_mbstr(PG_UTF8, data, len, true))
		return MemoryContextStrdup(context, psprintf("(%zu bytes that are not UTF-8)", len));
	initStringInfo(&text);
	appendStringInfoString(&text, cs_endpoint_redact(endpoint, pnstrdup(data, len)));
	if (text.len > MAX_BYTES)
	{
		text.len = pg_encoding_mbcliplen(PG_UTF8, text.data, text.len, MAX_BYTES);
		text.data[text.len] = '\0';
		appendStringInfo(&text, "... (%zu bytes)", len);
	}
	old = MemoryContextSwitchTo(context);
	kept = pstrdup(cs_text_from_utf8(text.data));
	MemoryContextSwitchTo(old);
	pfree(text.data);
	return kept;
}

static char *
keep_text(MemoryContext context, const CsEndpoint *endpoint, const char *text)
{
	return text ? keep(context, endpoint, text, strlen(text)) : NULL;
}

CsTrace *
cs_trace_make(MemoryContext context, const CsEndpoint *endpoint, int watch, const char *key,
			  const CsContact *contact, const CsRequest *request, const CsResponse *response)
{
	CsTrace    *trace = MemoryContextAllocZero(context, sizeof(CsTrace));
	StringInfoData headers;

	initStringInfo(&headers);
	if (cs_provider_has_auth_header(endpoint->provider))
		appendStringInfo(&headers, "%s: ***\n", cs_provider_auth_header(endpoint->provider));
	for (int i = 0; i < request->nheaders; i++)
		appendStringInfo(&headers, "%s: %s\n", request->headers[i].name, request->headers[i].value);
	trace->watch = watch;
	trace->key = MemoryContextStrdup(context, key);
	trace->upsert_key = keep_text(context, endpoint, contact->upsert_key);
	trace->email = keep_text(context, endpoint, contact->value[CS_EMAIL]);
	trace->url = keep_text(context, endpoint, request->url);
	trace->request_headers = keep(context, endpoint, headers.data, headers.len);
	if (request->body.data)
		trace->request = keep(context, endpoint, request->body.data, request->body.len);
	trace->response_headers = keep_text(context, endpoint, response->headers);
	trace->response = response->status == 0 ? keep_text(context, endpoint, response->error) :
		keep(context, endpoint, response->body, response->body_len);
	return trace;
}

/*
 * Storing
 */

void
cs_trace_store(const CsTrace *trace, const CsCallRecord *record)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.trace (endpoint, watch, key, upsert_key, email, started_at, duration, method, url,"
		" request_headers, request, status, response_headers, response, verdict)"
		" VALUES ($1, $2, $3, $4, $5, $6, make_interval(secs => $7), $8, $9, $10, $11, $12, $13, $14, $15)",
		15, {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, FLOAT8OID, TEXTOID, TEXTOID, TEXTOID,
		TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		args[15];
	char		nulls[16] = "               ";

	args[0] = Int32GetDatum(record->endpoint);
	args[1] = Int32GetDatum(trace->watch);
	args[2] = CStringGetTextDatum(trace->key);
	args[3] = cs_sql_text_or_null(trace->upsert_key, &nulls[3]);
	args[4] = cs_sql_text_or_null(trace->email, &nulls[4]);
	args[5] = TimestampTzGetDatum(record->started_at);
	args[6] = Float8GetDatum(record->duration);
	args[7] = CStringGetTextDatum(record->method);
	args[8] = cs_sql_text_or_null(trace->url, &nulls[8]);
	args[9] = cs_sql_text_or_null(trace->request_headers, &nulls[9]);
	args[10] = cs_sql_text_or_null(trace->request, &nulls[10]);
	args[11] = Int32GetDatum(record->status);
	args[12] = cs_sql_text_or_null(trace->response_headers, &nulls[12]);
	args[13] = cs_sql_text_or_null(trace->response, &nulls[13]);
	args[14] = CStringGetTextDatum(record->verdict);
	cs_sql_execute(&statement, args, nulls);
}

/* Delete what has ended, what is too old, and the oldest of what an endpoint has too much. */
void
cs_trace_prune(void)
{
	static CsStatement ended = {"DELETE FROM contactsync.traced WHERE until < clock_timestamp()"};
	static CsStatement by_age = {
		"DELETE FROM contactsync.trace WHERE started_at < clock_timestamp() - interval '" MAX_DAYS " days'"
	};
	static CsStatement by_count = {
		"DELETE FROM contactsync.trace WHERE id = ANY (ARRAY(SELECT id FROM (SELECT id,"
		" row_number() OVER (PARTITION BY endpoint ORDER BY id DESC) AS place FROM contactsync.trace) t"
		" WHERE place > $1))",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(cs_trace_rows);

	cs_sql_execute(&ended, NULL, NULL);
	cs_sql_execute(&by_age, NULL, NULL);
	cs_sql_execute(&by_count, &arg, NULL);
}
