/*-------------------------------------------------------------------------
 *
 * status.c
 *		SQL functions that the view status calls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/regproc.h"

#include "api/argument.h"
#include "base/activity.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "provider/provider.h"
#include "store/endpoint_state.h"
#include "store/stats.h"

CS_FUNCTION(contactsync_hint);
CS_FUNCTION(contactsync_runtime);
CS_FUNCTION(contactsync_worker_state);
CS_FUNCTION(contactsync_backlog);
CS_FUNCTION(contactsync_latency_bounds);

/*
 * contactsync.hint()
 */

typedef struct CsHint
{
	const char *reason;
	const char *text;			/* %s: the server, as an identifier */
} CsHint;

/* What to do about a server that is halted; an ALTER takes effect at once. */
static const CsHint halts[] = {
	{CS_HALT_UNAUTHORIZED, "Create a key at the provider and set it: ALTER USER MAPPING FOR CURRENT_USER SERVER %s OPTIONS (SET api_key '...'), or SET access_token and refresh_token."},
	{CS_HALT_FORBIDDEN, "Grant the key permission to write contacts at the provider; delivery is then retried automatically."},
	{CS_HALT_SCOPE, "Create a key with the scope that the reason names, and set it: ALTER USER MAPPING FOR CURRENT_USER SERVER %s OPTIONS (SET api_key '...')."},
	{CS_HALT_TENANT, "Correct the ID of the account, or use a key of that account: ALTER SERVER %s OPTIONS (SET ...)."},
	{CS_HALT_ADDRESS, "Allow the address of this machine for the key at the provider; delivery is then retried automatically."},
	{CS_HALT_PLAN, "Upgrade the plan at the provider; delivery is then retried automatically."},
	{CS_HALT_QUOTA, "Wait for the next period or raise the quota at the provider; delivery is then retried automatically."},
	{CS_HALT_URL, "Correct the URL: ALTER SERVER %s OPTIONS (SET base_url '...')."},
	{CS_HALT_REDIRECT, "Correct the URL, because redirects are not followed: ALTER SERVER %s OPTIONS (SET base_url '...')."},
	{CS_HALT_NOT_API, "A web page answers instead of the API. Correct the URL, or check the proxy: ALTER SERVER %s OPTIONS (SET base_url '...')."},
	{CS_HALT_REQUEST, "The provider refuses every request; SELECT * FROM contactsync.calls shows its answers. If an option is wrong: ALTER SERVER %s OPTIONS (SET ...)."},
	{CS_HALT_FIELD, "Create the field at the provider, or map it to another one; delivery is then retried automatically."},
	{CS_HALT_TOPIC, "Create the topic at the provider, or set another one: ALTER SERVER %s OPTIONS (SET topic_id '...')."},
	{CS_HALT_FORM, "Create the form at the provider, or set another one: ALTER SERVER %s OPTIONS (SET form_id '...')."},
	{"configuration", "Do what the reason says with CREATE USER MAPPING, ALTER USER MAPPING or ALTER SERVER %s; delivery then continues automatically."}
};

static char *
hint_of_halt(const char *reason, const char *server)
{
	size_t		len = strcspn(reason, ":");

	for (int i = 0; i < lengthof(halts); i++)
		if (strlen(halts[i].reason) == len && strncmp(halts[i].reason, reason, len) == 0)
		{
			StringInfoData text;
			const char *place = strstr(halts[i].text, "%s");

			initStringInfo(&text);
			if (place == NULL)
				return pstrdup(halts[i].text);
			appendBinaryStringInfo(&text, halts[i].text, place - halts[i].text);
			appendStringInfo(&text, "%s%s", server, place + 2);
			return text.data;
		}
	return pstrdup("Fix what the reason says; delivery is then retried automatically.");
}

/* Return the arguments of a function for a server or, with a source, for a watch. */
static char *
arguments(const char *server, const char *source)
{
	if (source == NULL)
		return quote_literal_cstr(server);
	return psprintf("%s, %s", quote_literal_cstr(source), quote_literal_cstr(server));
}

/* Return what to do about the background worker, or NULL if it is running. */
static const char *
hint_of_worker(const char *worker)
{
	if (strcmp(worker, "running") == 0)
		return NULL;
	if (strcmp(worker, "not preloaded") == 0)
		return "Nothing is sent automatically: set shared_preload_libraries = 'contactsync' and restart the server, or use CALL contactsync_run().";
	if (strcmp(worker, "too many databases") == 0)
		return "There are too many databases for each to have a background worker: use CALL contactsync_run().";
	if (strncmp(worker, "waiting for ", 12) == 0)
		return "ALTER EXTENSION contactsync UPDATE;";
	return "The background worker is starting. If it does not start, see the server log (max_worker_processes may be too low).";
}

/*
 * contactsync.hint(state, reason, server, source, worker, failures): return what to
 * do about a server or, with a source, about a watch; null if it is well.
 */
Datum
contactsync_hint(PG_FUNCTION_ARGS)
{
	const char *state = cs_argument_text(fcinfo, 0);
	const char *reason = cs_argument_text(fcinfo, 1);
	const char *server = cs_argument_text(fcinfo, 2);
	const char *source = cs_argument_text(fcinfo, 3);
	const char *worker = cs_argument_text(fcinfo, 4);
	int64		failures = PG_ARGISNULL(5) ? 0 : PG_GETARG_INT64(5);
	const char *hint;

	if (state == NULL || server == NULL || worker == NULL)
		PG_RETURN_NULL();
	hint = hint_of_worker(worker);
	if (strcmp(state, "paused") == 0)
		hint = psprintf("SELECT contactsync_resume(%s);", arguments(server, source));
	else if (strcmp(state, "broken") == 0)
		hint = psprintf("Fix the table or the privileges of the watch's owner, or change the mapping or the filter: SELECT contactsync_alter_watch(%s, mapping => '...'). Delivery then continues automatically with what is queued.",
						arguments(server, source));
	else if (strcmp(state, "guarded") == 0 && reason && strncmp(reason, "removals: ", 10) == 0)
		hint = psprintf("If the rows are gone by mistake, restore them: SELECT contactsync_resume(%s, removals => 'kept'); if the contacts are to be removed, use 'accepted'.",
						arguments(server, source));
	else if (strcmp(state, "guarded") == 0)
		hint = psprintf("The reason says what could happen. If you paused the automations at the provider: SELECT contactsync_resume(%s, automations => 'paused'); if these emails are intended, use 'accepted'.",
						arguments(server, source));
	else if (strcmp(state, "halted") == 0)
		hint = hint_of_halt(reason ? reason : "", quote_identifier(server));
	else if (hint == NULL && strcmp(state, "throttled") == 0)
		hint = psprintf("No action is needed: the provider said when to call again. To call less often: ALTER SERVER %s OPTIONS (ADD pace '...').",
						quote_identifier(server));
	else if (hint == NULL && strcmp(state, "unavailable") == 0)
		hint = "No action is needed: calls are repeated until the provider answers, and no contact is given up on. SELECT * FROM contactsync.calls ORDER BY id DESC shows its answers.";
	else if (hint == NULL && failures > 0)
		hint = psprintf("SELECT * FROM contactsync.failures shows why contacts were given up on. To send them again: SELECT contactsync_retry(%s);",
						arguments(server, source));
	if (hint == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(hint));
}

/*
 * Other functions that views call, so everybody may call them
 */

/* What put_runtime() needs. */
typedef struct CsRuntime
{
	ReturnSetInfo *result;
	List	   *endpoints;		/* the ids that the caller may see */
} CsRuntime;

static void
put_runtime(int endpoint, int in_flight, int64 waiting, double pace, void *arg)
{
	CsRuntime  *runtime = arg;
	Datum		values[4] = {Int32GetDatum(endpoint), Int32GetDatum(in_flight), Int64GetDatum(waiting),
	Float8GetDatum(pace)};
	bool		nulls[4] = {0};

	if (list_member_int(runtime->endpoints, endpoint))
		tuplestore_putvalues(runtime->result->setResult, runtime->result->setDesc, values, nulls);
}

/* Return the endpoints that the caller may see, palloc'd. */
static List *
visible_endpoints(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *endpoints;
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);

	MemoryContextSwitchTo(context);
	endpoints = cs_endpoint_state_visible_ids(roleid);
	cs_sql_leave(&scope);
	return endpoints;
}

/* contactsync.runtime() */
Datum
contactsync_runtime(PG_FUNCTION_ARGS)
{
	CsRuntime	runtime;

	InitMaterializedSRF(fcinfo, 0);
	runtime.result = (ReturnSetInfo *) fcinfo->resultinfo;
	runtime.endpoints = cs_shmem_ready() && cs_sql_is_ready() ? visible_endpoints() : NIL;
	cs_activity_visit(put_runtime, &runtime);
	return (Datum) 0;
}

/* contactsync.worker_state() */
Datum
contactsync_worker_state(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(cs_sql_is_ready() ? cs_shmem_worker_state() :
									 "waiting for ALTER EXTENSION contactsync UPDATE"));
}

/* contactsync.backlog(); contactsync.status must work with tables of any version. */
Datum
contactsync_backlog(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CsSqlScope	scope;
	Oid			roleid;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	roleid = cs_sql_enter_any_version(&scope);
	n = cs_stats_backlog(roleid);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	cs_sql_leave(&scope);
	return (Datum) 0;
}

/* contactsync.latency_bounds(), without the last, which is infinite */
Datum
contactsync_latency_bounds(PG_FUNCTION_ARGS)
{
	Datum		elements[CS_LATENCY_BOUNDS];

	for (int i = 0; i < CS_LATENCY_BOUNDS; i++)
		elements[i] = Float8GetDatum(cs_latency_bounds[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(elements, CS_LATENCY_BOUNDS, FLOAT8OID, 8, FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}
