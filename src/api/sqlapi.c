/*-------------------------------------------------------------------------
 *
 * sqlapi.c
 *		Functions that SQL calls to define what is mirrored, and to upsert.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "api/verify.h"
#include "base/compat.h"
#include "base/contactsync.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "capture/follow.h"
#include "provider/endpoint.h"
#include "provider/provider.h"
#include "store/queue.h"
#include "store/schedule.h"
#include "store/state.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_watch);
CS_FUNCTION(contactsync_unwatch);
CS_FUNCTION(contactsync_upsert);
CS_FUNCTION(contactsync_launch);
CS_FUNCTION(contactsync_runtime);
CS_FUNCTION(contactsync_worker_state);

/* The id of the caller's endpoint at a server. */
static int
endpoint_of_caller(Oid serverid, const char *server_name)
{
	Oid			roleid = GetUserId();
	CsSqlScope	scope;
	int			id;

	cs_sql_enter(&scope);
	id = cs_state_endpoint_id(serverid, server_name, roleid);
	cs_sql_leave(&scope);
	return id;
}

/* Effect: tells whoever sets something up that nothing will be sent by itself. */
static void
notice_if_not_preloaded(void)
{
	if (!cs_shmem_ready())
		ereport(NOTICE,
				(errmsg("contactsync has no background worker, for the library was not preloaded"),
				 errhint("Set shared_preload_libraries = 'contactsync' and restart the server, or deliver with CALL contactsync_run().")));
}

static void
require(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"%s\" must not be null", name)));
}

static List *
name_list(ArrayType *array)
{
	int			n;
	char	  **names = cs_sql_text_array(PointerGetDatum(array), &n);
	List	   *list = NIL;

	for (int i = 0; i < n; i++)
		list = lappend(list, names[i]);
	return list;
}

/* contactsync_watch(source, server, mapping, filter, key, on_delete, always,
 * and what cs_schedule_read() reads) */
Datum
contactsync_watch(PG_FUNCTION_ARGS)
{
	Oid			serverid;
	CsEndpoint *endpoint;
	CsWatch    *watch;
	CsSqlScope	scope;
	CsSchedule	schedule;

	require(fcinfo, 0, "source");
	require(fcinfo, 1, "server");
	cs_schedule_read(fcinfo, 7, &schedule);
	serverid = cs_endpoint_find_server(NameStr(*PG_GETARG_NAME(1)), GetUserId());
	endpoint = cs_endpoint_read(serverid, GetUserId());
	watch = cs_watch_define(PG_GETARG_OID(0), endpoint,
							PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
							PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)),
							PG_ARGISNULL(4) ? NIL : name_list(PG_GETARG_ARRAYTYPE_P(4)),
							PG_ARGISNULL(5) ? "ignore" : text_to_cstring(PG_GETARG_TEXT_PP(5)), &schedule);
	cs_verify_mapping(endpoint, watch);
	watch->endpoint = endpoint_of_caller(serverid, endpoint->server_name);
	cs_watch_create(watch, !PG_ARGISNULL(6) && PG_GETARG_BOOL(6));
	cs_sql_enter(&scope);
	(void) cs_follow_columns();
	cs_sql_leave(&scope);
	cs_schedule_store(watch, &schedule);
	notice_if_not_preloaded();
	PG_RETURN_INT32(watch->id);
}

/* For messages, also when there is no such table. */
static char *
table_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	return name ? psprintf("\"%s\"", name) : psprintf("with OID %u", relid);
}

/* contactsync_unwatch(source, server): of the caller, or of a role that the
 * caller is. */
Datum
contactsync_unwatch(PG_FUNCTION_ARGS)
{
	static CsStatement statement = {
		"SELECT w.id, w.endpoint FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint"
		" WHERE w.source = $1 AND e.server = $2 AND pg_has_role($3, e.role, 'USAGE') ORDER BY w.id",
		3, {OIDOID, NAMEOID, OIDOID}
	};
	Oid			source = PG_GETARG_OID(0);
	Name		server = PG_GETARG_NAME(1);
	Datum		args[3] = {ObjectIdGetDatum(source), NameGetDatum(server), ObjectIdGetDatum(GetUserId())};
	CsSqlScope	scope;
	uint64		n;
	int		   *ids;
	int		   *endpoints;

	cs_sql_enter(&scope);
	n = cs_sql_execute(&statement, args, NULL);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no watch of yours mirrors table %s to server \"%s\"", table_name(source), NameStr(*server)),
				 errhint("SELECT * FROM contactsync.watches shows yours.")));
	ids = palloc(n * sizeof(int));
	endpoints = palloc(n * sizeof(int));
	for (uint64 i = 0; i < n; i++)
	{
		ids[i] = cs_sql_int(i, 1);
		endpoints[i] = cs_sql_int(i, 2);
	}
	for (uint64 i = 0; i < n; i++)
		cs_watch_drop(endpoints[i], ids[i]);
	cs_sql_leave(&scope);
	PG_RETURN_VOID();
}

/* Effect: an error unless the provider can be expected to take the contact. */
static void
check_contact(const CsEndpoint *endpoint, Jsonb *jsonb)
{
	CsContact  *contact = cs_contact_from_jsonb(jsonb);
	uint32		unknown = contact->present & ~endpoint->provider->fields;
	CsRefusal  *refusal;

	if (unknown)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg_plural("%s cannot carry the field %s", "%s cannot carry the fields %s",
							   pg_popcount32(unknown), endpoint->provider->title,
							   cs_contact_field_list(unknown)),
				 errhint("It can carry: %s.", cs_contact_field_list(endpoint->provider->fields))));
	refusal = cs_provider_prepare(endpoint, contact);
	if (refusal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the contact cannot be sent: %s", refusal->message)));
}

/* contactsync_upsert(server, contact): queued with the caller's transaction. */
Datum
contactsync_upsert(PG_FUNCTION_ARGS)
{
	Oid			serverid = cs_endpoint_find_server(NameStr(*PG_GETARG_NAME(0)), GetUserId());
	CsEndpoint *endpoint = cs_endpoint_read(serverid, GetUserId());
	Jsonb	   *contact = PG_GETARG_JSONB_P(1);
	CsQueueWriter *writer;
	int64		id;

	check_contact(endpoint, contact);
	writer = cs_queue_begin_write(NULL);
	if (writer == NULL)
		elog(ERROR, "table contactsync.queue does not exist");
	id = cs_queue_write(writer, endpoint_of_caller(serverid, endpoint->server_name), 0, 1, NULL, contact);
	cs_queue_end_write(writer);
	cs_shmem_wake_at_commit();
	PG_RETURN_INT64(id);
}

/* contactsync.launch() */
Datum
contactsync_launch(PG_FUNCTION_ARGS)
{
	cs_shmem_launch_at_commit();
	PG_RETURN_VOID();
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
