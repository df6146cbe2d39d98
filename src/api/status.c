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
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/regproc.h"

#include "api/argument.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "provider/provider.h"
#include "store/stats.h"

CS_FUNCTION(contactsync_hint);
CS_FUNCTION(contactsync_runtime);
CS_FUNCTION(contactsync_worker_state);
CS_FUNCTION(contactsync_backlog);
CS_FUNCTION(contactsync_latency_bounds);

typedef struct CsHint
{
	const char *reason;
	const char *text;			/* %s: the server, quoted as a name */
} CsHint;

/* It goes on by itself when the fault is mended; an ALTER is seen at once. */
static const CsHint halts[] = {
	{CS_HALT_UNAUTHORIZED, "Make a key at the provider and give it: ALTER USER MAPPING FOR CURRENT_USER SERVER %s OPTIONS (SET api_key '...'), or SET access_token and refresh_token."},
	{CS_HALT_FORBIDDEN, "Give the key the rights to write contacts at the provider; it is tried again by itself."},
	{CS_HALT_SCOPE, "Make a key that has the scope that the reason names, and give it: ALTER USER MAPPING FOR CURRENT_USER SERVER %s OPTIONS (SET api_key '...')."},
	{CS_HALT_TENANT, "Correct the account's id, or take a key of that account: ALTER SERVER %s OPTIONS (SET ...)."},
	{CS_HALT_ADDRESS, "Allow the address of this machine for the key at the provider; it is tried again by itself."},
	{CS_HALT_PLAN, "Take another plan at the provider; it is tried again by itself."},
	{CS_HALT_QUOTA, "Wait for the next period or raise the quota at the provider; it is tried again by itself."},
	{CS_HALT_URL, "Correct the URL: ALTER SERVER %s OPTIONS (SET base_url '...')."},
	{CS_HALT_REDIRECT, "Correct the URL, for redirects are not followed: ALTER SERVER %s OPTIONS (SET base_url '...')."},
	{CS_HALT_NOT_API, "A web page answers in place of the API. Correct the URL, or look at the proxy: ALTER SERVER %s OPTIONS (SET base_url '...')."},
	{CS_HALT_REQUEST, "The provider refuses whatever is sent; contactsync.calls shows its answers. If an option is at fault: ALTER SERVER %s OPTIONS (SET ...)."},
	{CS_HALT_FIELD, "Make the field at the provider, or map it to another one; it is tried again by itself."},
	{CS_HALT_TOPIC, "Make the topic at the provider, or name another one: ALTER SERVER %s OPTIONS (SET topic_id '...')."},
	{CS_HALT_FORM, "Make the form at the provider, or name another one: ALTER SERVER %s OPTIONS (SET form_id '...')."},
	{"configuration", "Do what the reason says with CREATE USER MAPPING, ALTER USER MAPPING or ALTER SERVER %s; it goes on by itself."}
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
	return pstrdup("Mend what the reason says; it is tried again by itself.");
}

/* The arguments of a function that is about a server, or a watch of it. */
static char *
arguments(const char *server, const char *source)
{
	if (source == NULL)
		return quote_literal_cstr(server);
	return psprintf("%s, %s", quote_literal_cstr(source), quote_literal_cstr(server));
}

/* Of the process that should deliver; NULL: it does. */
static const char *
hint_of_worker(const char *worker)
{
	if (strcmp(worker, "running") == 0)
		return NULL;
	if (strcmp(worker, "not preloaded") == 0)
		return "Nothing is sent by itself: set shared_preload_libraries = 'contactsync' and restart the server, or use CALL contactsync_run().";
	if (strcmp(worker, "too many databases") == 0)
		return "There is no worker for so many databases: use CALL contactsync_run().";
	if (strncmp(worker, "waiting for ", 12) == 0)
		return "ALTER EXTENSION contactsync UPDATE;";
	return "The worker is being started; if it stays so, the log of the server says why (max_worker_processes may be too low).";
}

/*
 * contactsync.hint(state, reason, server, source, worker, failures): what to
 * type, or null where all is well.  With a source it is about the watch.
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
		hint = psprintf("Mend the table or the rights of the watch's owner, or give another mapping or filter: SELECT contactsync_alter_watch(%s, mapping => '...'). It goes on by itself, with what is queued.",
						arguments(server, source));
	else if (strcmp(state, "guarded") == 0)
		hint = psprintf("Look at what the reason says can happen. If you paused what would do so: SELECT contactsync_resume(%s, automations => 'paused'); if it is meant to happen, 'accepted'.",
						arguments(server, source));
	else if (strcmp(state, "halted") == 0)
		hint = hint_of_halt(reason ? reason : "", quote_identifier(server));
	else if (hint == NULL && strcmp(state, "throttled") == 0)
		hint = psprintf("Nothing: the provider said when to come again. To call less often: ALTER SERVER %s OPTIONS (ADD pace '...').",
						quote_identifier(server));
	else if (hint == NULL && strcmp(state, "unavailable") == 0)
		hint = "Nothing: the provider is tried until it answers, and nobody is given up on. SELECT * FROM contactsync.calls ORDER BY id DESC shows what it says.";
	else if (hint == NULL && failures > 0)
		hint = psprintf("SELECT * FROM contactsync.failures says why contacts were given up on; then SELECT contactsync_retry(%s);",
						arguments(server, source));
	if (hint == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(hint));
}

/* What put_runtime() needs. */
typedef struct CsRuntime
{
	ReturnSetInfo *result;
	List	   *endpoints;		/* that the caller may see */
} CsRuntime;

static void
put_runtime(int endpoint, int in_flight, double pace, void *arg)
{
	CsRuntime  *runtime = arg;
	Datum		values[3] = {Int32GetDatum(endpoint), Int32GetDatum(in_flight), Float8GetDatum(pace)};
	bool		nulls[3] = {0};

	if (list_member_int(runtime->endpoints, endpoint))
		tuplestore_putvalues(runtime->result->setResult, runtime->result->setDesc, values, nulls);
}

/* The ids of the endpoints of the roles that a role is, all for a monitor. */
static List *
endpoints_of(Oid roleid)
{
	static CsStatement statement = {
		"SELECT id FROM contactsync.endpoint WHERE pg_has_role($1, role, 'USAGE')"
		" OR pg_has_role($1, 'pg_monitor', 'USAGE')", 1, {OIDOID}
	};
	Datum		arg = ObjectIdGetDatum(roleid);
	MemoryContext context = CurrentMemoryContext;
	List	   *endpoints = NIL;
	CsSqlScope	scope;
	uint64		n;

	cs_sql_enter(&scope);
	n = cs_sql_execute(&statement, &arg, NULL);
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
		endpoints = lappend_int(endpoints, cs_sql_int(i, 1));
	cs_sql_leave(&scope);
	return endpoints;
}

/* contactsync.runtime(): a view calls it, so it is for everybody. */
Datum
contactsync_runtime(PG_FUNCTION_ARGS)
{
	CsRuntime	runtime;

	InitMaterializedSRF(fcinfo, 0);
	runtime.result = (ReturnSetInfo *) fcinfo->resultinfo;
	runtime.endpoints = cs_shmem_ready() && cs_sql_is_ready() ? endpoints_of(GetUserId()) : NIL;
	cs_shmem_published(put_runtime, &runtime);
	return (Datum) 0;
}

/* contactsync.worker_state() */
Datum
contactsync_worker_state(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(cs_sql_is_ready() ? cs_shmem_worker_state() :
									 "waiting for ALTER EXTENSION contactsync UPDATE"));
}

/*
 * contactsync.backlog(): contactsync.status calls it, so it is for everybody,
 * and for tables of any version.
 */
Datum
contactsync_backlog(PG_FUNCTION_ARGS)
{
	Oid			roleid = GetUserId();
	ReturnSetInfo *result;
	CsSqlScope	scope;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	cs_sql_enter_any_version(&scope);
	n = cs_stats_backlog(roleid);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	cs_sql_leave(&scope);
	return (Datum) 0;
}

/* contactsync.latency_bounds(): without the last, which is infinity */
Datum
contactsync_latency_bounds(PG_FUNCTION_ARGS)
{
	Datum		elements[CS_LATENCY_BOUNDS];

	for (int i = 0; i < CS_LATENCY_BOUNDS; i++)
		elements[i] = Float8GetDatum(cs_latency_bounds[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(elements, CS_LATENCY_BOUNDS, FLOAT8OID, 8, FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}
