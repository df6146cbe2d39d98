/*-------------------------------------------------------------------------
 *
 * watch.c
 *		SQL functions that make, alter and drop watches.
 *
 * contactsync_alter_watch() keeps what is queued and what is known of the
 * contacts; so a reconciliation sends those that differ by the new definition,
 * and no others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "api/argument.h"
#include "api/verify.h"
#include "base/compat.h"
#include "base/contactsync.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "capture/ddl.h"
#include "provider/endpoint.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/schedule.h"
#include "store/table_trigger.h"
#include "store/watch.h"
#include "store/watch_make.h"
#include "store/watch_store.h"

CS_FUNCTION(contactsync_watch);
CS_FUNCTION(contactsync_alter_watch);
CS_FUNCTION(contactsync_unwatch);

/* In a table of more rows it is left to the user to have them counted. */
#define MAX_COUNTED_ROWS	100000

/*
 * contactsync_watch()
 */

/* The id of the caller's endpoint at a server. */
static int
endpoint_of_caller(Oid serverid, const char *server_name)
{
	Oid			roleid = GetUserId();
	CsSqlScope	scope;
	int			id;

	cs_sql_enter(&scope);
	id = cs_endpoint_state_id(serverid, server_name, roleid);
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

	cs_argument_require(fcinfo, 0, "source");
	cs_argument_require(fcinfo, 1, "server");
	cs_schedule_read(fcinfo, 7, &schedule);
	serverid = cs_server_find(NameStr(*PG_GETARG_NAME(1)), GetUserId());
	endpoint = cs_server_read(serverid, GetUserId());
	watch = cs_watch_make(PG_GETARG_OID(0), endpoint,
						  PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
						  cs_argument_text(fcinfo, 3),
						  PG_ARGISNULL(4) ? NIL : name_list(PG_GETARG_ARRAYTYPE_P(4)),
						  PG_ARGISNULL(5) ? "ignore" : text_to_cstring(PG_GETARG_TEXT_PP(5)), &schedule);
	cs_verify_mapping(endpoint, watch);
	watch->endpoint = endpoint_of_caller(serverid, endpoint->server_name);
	cs_watch_store_new(watch, !PG_ARGISNULL(6) && PG_GETARG_BOOL(6));
	cs_sql_enter(&scope);
	(void) cs_ddl_follow_renames();
	cs_sql_leave(&scope);
	cs_schedule_store(watch, &schedule);
	notice_if_not_preloaded();
	PG_RETURN_INT32(watch->id);
}

/*
 * contactsync_alter_watch()
 */

/* The arguments. */
enum
{
	ARG_SOURCE,
	ARG_SERVER,
	ARG_MAPPING,
	ARG_FILTER,
	ARG_ON_DELETE,
	ARG_ALWAYS,
	ARG_SCHEDULE				/* poll_column and what follows */
};

/* What is not given stays; a filter of '' is none. */
static const char *
filter_argument(FunctionCallInfo fcinfo, const CsWatch *watch)
{
	char	   *filter;

	if (PG_ARGISNULL(ARG_FILTER))
		return watch->filter;
	filter = text_to_cstring(PG_GETARG_TEXT_PP(ARG_FILTER));
	return *filter ? filter : NULL;
}

static List *
key_of(const CsWatch *watch)
{
	List	   *key = NIL;

	for (int i = 0; i < watch->nkeys; i++)
		key = lappend(key, watch->keys[i]);
	return key;
}

/*
 * The watch as it is to be, checked as its owner, with the search_path of this
 * session, all of it: an expression that was not given and means nothing here is
 * an error now, not later.
 */
static CsWatch *
define(FunctionCallInfo fcinfo, const CsWatch *watch, const CsEndpoint *endpoint, const CsSchedule *schedule)
{
	CsWatch    *altered;
	Oid			userid;
	int			sec_context;

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(watch->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	altered = cs_watch_make(watch->source, endpoint,
							PG_ARGISNULL(ARG_MAPPING) ? DatumGetJsonbP(cs_watch_mapping_to_jsonb(watch)) :
							PG_GETARG_JSONB_P(ARG_MAPPING),
							filter_argument(fcinfo, watch), key_of(watch),
							PG_ARGISNULL(ARG_ON_DELETE) ? cs_watch_on_delete_words[watch->on_delete] :
							text_to_cstring(PG_GETARG_TEXT_PP(ARG_ON_DELETE)), schedule);
	if (!PG_ARGISNULL(ARG_MAPPING))
		cs_verify_mapping(endpoint, altered);
	SetUserIdAndSecContext(userid, sec_context);
	altered->id = watch->id;
	altered->endpoint = watch->endpoint;
	return altered;
}

/* Effect: the watch is as it was defined, and tried again if it was broken. */
static void
store(FunctionCallInfo fcinfo, const CsWatch *watch, const CsSchedule *schedule)
{
	CsSqlScope	scope;

	/* in the order in which a scan that is under way holds them */
	cs_schedule_store_altered(watch, schedule);
	cs_sql_enter(&scope);
	cs_watch_store_changed(watch);
	cs_sql_execute_text("UPDATE contactsync.watch SET state = 'running', reason = NULL, since = clock_timestamp()"
						" WHERE id = %d AND state = 'broken'", watch->id);
	cs_table_trigger_alter(watch);
	if (!PG_ARGISNULL(ARG_ALWAYS))
		cs_table_trigger_enable(watch->id, PG_GETARG_BOOL(ARG_ALWAYS));
	cs_ddl_reset_columns(watch->endpoint);
	cs_sql_leave(&scope);
}

/* "schema"."contactsync_reconcile" */
static char *
reconcile_function(void)
{
	return quote_qualified_identifier(get_namespace_name(cs_sql_schema()), "contactsync_reconcile");
}

/* Rows of a table, with all that inherits from it, by its statistics. */
static double
estimated_rows(Oid source)
{
	List	   *tables = find_all_inheritors(source, NoLock, NULL);
	double		rows = 0;
	ListCell   *lc;

	foreach(lc, tables)
	{
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			continue;
		rows += Max(((Form_pg_class) GETSTRUCT(tuple))->reltuples, 0);
		ReleaseSysCache(tuple);
	}
	return rows;
}

/* How many contacts a reconciliation would send. */
static int64
count_differing(Oid source, Name server)
{
	char	   *query = psprintf("SELECT COALESCE(pg_catalog.sum(rows), 0)::pg_catalog.int8 FROM %s($1, $2, dry_run => true)"
								 " WHERE outcome OPERATOR(pg_catalog.=) ANY ('{new,changed,gone}')", reconcile_function());
	Oid			types[2] = {REGCLASSOID, NAMEOID};
	Datum		args[2] = {ObjectIdGetDatum(source), NameGetDatum(server)};
	bool		isnull;
	int64		n;

	SPI_connect();
	if (SPI_execute_with_args(query, 2, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", query);
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return n;
}

/* Effect: tells how to send what differs now. */
static void
report(Oid source, Name server, int64 differing)
{
	const char *table = quote_literal_cstr(quote_identifier(get_rel_name(source)));

	if (differing < 0)
		ereport(NOTICE,
				(errmsg("what differs now is not counted, for the table is large"),
				 errhint("SELECT * FROM contactsync_reconcile(%s, %s, dry_run => true) counts it, and without dry_run sends it.",
						 table, quote_literal_cstr(NameStr(*server)))));
	else if (differing > 0)
		ereport(NOTICE,
				(errmsg_plural(INT64_FORMAT " contact differs now from what was sent",
							   INT64_FORMAT " contacts differ now from what was sent", differing, differing),
				 errhint("SELECT contactsync_reconcile(%s, %s) sends them; else each is sent when its row changes.",
						 table, quote_literal_cstr(NameStr(*server)))));
}

/*
 * contactsync_alter_watch(source, server, mapping, filter, on_delete, always,
 * poll_column, poll_every, poll_overlap, reconcile_every, reconcile_at)
 */
Datum
contactsync_alter_watch(PG_FUNCTION_ARGS)
{
	Oid			source;
	Name		server;
	CsWatch    *watch;
	CsEndpoint *endpoint;
	CsSchedule	schedule;
	int64		differing = -1;

	cs_argument_require(fcinfo, ARG_SOURCE, "source");
	cs_argument_require(fcinfo, ARG_SERVER, "server");
	source = PG_GETARG_OID(ARG_SOURCE);
	server = PG_GETARG_NAME(ARG_SERVER);
	watch = cs_watch_find(source, NameStr(*server), GetUserId());
	endpoint = cs_server_read(cs_server_find(NameStr(*server), watch->owner), watch->owner);
	/* a change that the triggers do not look at yet must not be under way */
	LockRelationOid(source, ShareRowExclusiveLock);
	(void) find_all_inheritors(source, ShareRowExclusiveLock, NULL);
	cs_schedule_alter(fcinfo, ARG_SCHEDULE, watch, &schedule);
	store(fcinfo, define(fcinfo, watch, endpoint, &schedule), &schedule);
	if (estimated_rows(source) <= MAX_COUNTED_ROWS)
		differing = count_differing(source, server);
	report(source, server, differing);
	if (differing < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(differing);
}

/*
 * contactsync_unwatch()
 */

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
		cs_watch_store_drop(endpoints[i], ids[i]);
	cs_sql_leave(&scope);
	PG_RETURN_VOID();
}
