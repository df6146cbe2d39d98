/*-------------------------------------------------------------------------
 *
 * watch.c
 *		SQL functions that create, alter and drop watches.
 *
 * contactsync_alter_watch() keeps the queue and what is known of the contacts,
 * so that a reconciliation sends the contacts that differ by the new definition
 * and no others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "api/argument.h"
#include "api/import.h"
#include "api/verify.h"
#include "base/activity.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "capture/ddl.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/mapping.h"
#include "store/policy.h"
#include "store/related_make.h"
#include "store/schedule.h"
#include "store/source.h"
#include "store/table_trigger.h"
#include "store/watch.h"
#include "store/watch_make.h"
#include "store/watch_store.h"

CS_FUNCTION(contactsync_watch);
CS_FUNCTION(contactsync_alter_watch);
CS_FUNCTION(contactsync_unwatch);

/* A larger table is not compared when its watch is altered. */
#define MAX_COUNTED_ROWS	100000

/*
 * contactsync_watch()
 */

/* Return the id of the caller's endpoint at a server. */
static int
endpoint_of_caller(Oid serverid, const char *server_name)
{
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	int			id = cs_endpoint_state_id(serverid, server_name, roleid);

	cs_sql_leave(&scope);
	return id;
}

/* Tell the user if nothing will be sent automatically. */
static void
notice_if_not_preloaded(void)
{
	if (!cs_shmem_ready())
		ereport(NOTICE,
				(errmsg("contactsync has no background worker because its library is not preloaded"),
				 errhint("Set shared_preload_libraries = 'contactsync' and restart the server, or deliver with CALL contactsync_run().")));
}

/* Return the mapping of a watch with opt_in, to be completed by the user, as a literal. */
static char *
mapping_with_opt_in(const CsWatch *watch)
{
	CsWatch		with = *watch;

	/* what is added must not be seen by the caller */
	with.mapped = palloc(watch->nmapped * sizeof(CsMapped));
	memcpy(with.mapped, watch->mapped, watch->nmapped * sizeof(CsMapped));
	cs_watch_add_mapped(&with, CS_OPT_IN, NULL, "...");
	return quote_literal_cstr(DatumGetCString(DirectFunctionCall1(jsonb_out, cs_watch_mapping_to_jsonb(&with))));
}

/*
 * Tell the user if everybody in the table becomes mailable, and how to name the column
 * that says who wants mail.
 */
static void
notice_if_all_become_mailable(const CsWatch *watch, const CsEndpoint *endpoint)
{
	const CsProvider *provider = endpoint->provider;
	const char *option = provider->consent_option;
	const char *why = cs_provider_mails_whoever_exists(endpoint);

	if (why == NULL || cs_watch_maps(watch, CS_OPT_IN))
		return;
	ereport(NOTICE,
			(errmsg("the mapping has no opt_in, so everybody in table \"%s\" can be mailed by %s",
					get_rel_name(watch->source), provider->title),
			 errdetail("%s", why),
			 errhint("If not all of them want mail, name the column that says who does: %sSELECT contactsync_alter_watch(%s, mapping => %s);",
					 option == NULL || cs_endpoint_option(endpoint, option) ? "" :
					 psprintf("ALTER SERVER %s OPTIONS (ADD %s '...'); ", quote_identifier(endpoint->server_name), option),
					 cs_source_typed(watch->source, endpoint->server_name), mapping_with_opt_in(watch))));
}

/* Tell the user what was mapped by the names of columns. */
static void
notice_default_mapping(const CsWatch *watch, const char *server)
{
	const char *typed = cs_source_typed(watch->source, server);
	AttrNumber	opt_in = get_attnum(watch->source, "opt_in");
	Relation	source;

	ereport(NOTICE,
			(errmsg("the mapping was chosen by the names of columns: %s",
					DatumGetCString(DirectFunctionCall1(jsonb_out, cs_watch_mapping_to_jsonb(watch)))),
			 errhint("SELECT * FROM contactsync_suggest(%s) tells of the other columns, and SELECT contactsync_alter_watch(%s, mapping => '...') changes the mapping.",
					 typed, typed)));
	if (!cs_watch_maps(watch, CS_OPT_IN))
		return;
	source = relation_open(watch->source, NoLock);
	if (cs_mapping_has_default(source, opt_in - 1))
		ereport(WARNING,
				(errmsg("column \"opt_in\" is true unless a row says otherwise, so it need not be the word of a person"),
				 errdetail("Consent is claimed for new contacts whose row has true there."),
				 errhint("Remove the default of the column, or map opt_in to an expression that says who asked for mail.")));
	relation_close(source, NoLock);
}

/* Warn if another database of the cluster, as far as the caller has to do with it, sends to
 * the account: neither knows what the other one sends. */
static void
warn_of_other_database(const CsEndpoint *endpoint)
{
	Oid			dboid = cs_activity_other_database(cs_provider_account_hash(endpoint), GetUserId());
	const char *name = OidIsValid(dboid) ? get_database_name(dboid) : NULL;

	if (name == NULL)
		return;
	ereport(WARNING,
			(errmsg("database \"%s\" sends to the account of server \"%s\", too", name, endpoint->server_name),
			 errdetail("Contacts with the same external_id, or the same address, overwrite each other, and a deletion in one database deletes those of the other."),
			 errhint("Map external_id to an expression that differs, such as '%s-' || id, or give each database an account of its own.",
					 get_database_name(MyDatabaseId))));
}

/* contactsync_watch(source, server, mapping, filter, key, on_delete, always,
 * what cs_schedule_read() reads, what cs_policy_read() does, and related) */
Datum
contactsync_watch(PG_FUNCTION_ARGS)
{
	Oid			serverid;
	CsEndpoint *endpoint;
	CsWatch    *watch;
	CsSqlScope	scope;
	CsSchedule	schedule;
	CsPolicy	policy;

	cs_argument_require(fcinfo, 0, "source");
	cs_argument_require(fcinfo, 1, "server");
	cs_schedule_read(fcinfo, 7, &schedule);
	cs_policy_read(fcinfo, 13, &policy);
	serverid = cs_server_find(NameStr(*PG_GETARG_NAME(1)), GetUserId());
	endpoint = cs_server_read(serverid, GetUserId());
	watch = cs_watch_make(PG_GETARG_OID(0), endpoint,
						  PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
						  cs_argument_text(fcinfo, 3),
						  PG_ARGISNULL(4) ? NIL : cs_argument_names(PG_GETARG_ARRAYTYPE_P(4)),
						  PG_ARGISNULL(5) ? "ignore" : text_to_cstring(PG_GETARG_TEXT_PP(5)), &schedule, NULL);
	cs_related_make(watch, PG_ARGISNULL(16) ? NULL : PG_GETARG_JSONB_P(16), NIL);
	cs_verify_mapping(endpoint, watch);
	watch->endpoint = endpoint_of_caller(serverid, endpoint->server_name);
	cs_watch_store_new(watch, cs_argument_fires(fcinfo, 6));
	cs_sql_enter(&scope);
	(void) cs_ddl_follow_renames(watch->id);
	cs_sql_leave(&scope);
	cs_schedule_store(watch, &schedule);
	cs_policy_store(watch->id, &policy);
	/* of a source without rows it is known whose contact has no row */
	if (cs_source_is_empty(watch))
	{
		cs_sql_enter(&scope);
		cs_watch_store_complete(watch->id);
		cs_sql_leave(&scope);
	}
	if (PG_ARGISNULL(2))
		notice_default_mapping(watch, endpoint->server_name);
	notice_if_all_become_mailable(watch, endpoint);
	warn_of_other_database(endpoint);
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
	ARG_SCHEDULE,				/* poll_column and what follows */
	ARG_POLICY = ARG_SCHEDULE + 5,	/* claims and what follows */
	ARG_RELATED = ARG_POLICY + 3
};

/* Return the filter of the altered watch: '' removes it. */
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
 * Return the altered watch.  All of it is checked as its owner and with the
 * search_path of this session, so that an expression that stays as it was, but
 * is no longer valid, is an error now rather than later.
 */
static CsWatch *
make_altered(FunctionCallInfo fcinfo, const CsWatch *watch, const CsEndpoint *endpoint,
			 const CsSchedule *schedule)
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
							text_to_cstring(PG_GETARG_TEXT_PP(ARG_ON_DELETE)), schedule,
							PG_ARGISNULL(ARG_MAPPING) ? cs_source_alias(watch) : NULL);
	if (PG_ARGISNULL(ARG_RELATED))
		cs_related_make_again(altered, watch->related);
	else
		cs_related_make(altered, PG_GETARG_JSONB_P(ARG_RELATED), watch->related);
	cs_watch_keep_value_types(altered, watch);
	if (!PG_ARGISNULL(ARG_MAPPING))
		cs_verify_mapping(endpoint, altered);
	SetUserIdAndSecContext(userid, sec_context);
	altered->id = watch->id;
	altered->endpoint = watch->endpoint;
	return altered;
}

/* Store the altered watch, and have it tried again if it was broken. */
static void
store(FunctionCallInfo fcinfo, const CsWatch *watch, List *related_before, const CsSchedule *schedule)
{
	CsSqlScope	scope;

	/* lock the rows in the order in which a running scan locks them */
	cs_schedule_store_altered(watch, schedule);
	cs_sql_enter(&scope);
	cs_watch_store_changed(watch);
	cs_watch_store_name(watch->id);
	(void) cs_watch_store_set_state(watch->id, false, NULL);
	cs_watch_store_related(watch, related_before);
	cs_table_trigger_alter(watch);
	cs_table_trigger_follow(watch, InvalidOid);
	if (!PG_ARGISNULL(ARG_ALWAYS))
		cs_table_trigger_enable(watch, cs_argument_fires(fcinfo, ARG_ALWAYS));
	cs_ddl_reset_columns(watch->endpoint);
	cs_sql_leave(&scope);
}

/* Return how many rows a table and its descendants have, according to their statistics. */
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

/* Return how many contacts a reconciliation would send, as the watch is now. */
static int64
count_differing(Oid source, const char *server)
{
	int64		n;

	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	n = cs_import_count_differing(source, server);
	PopActiveSnapshot();
	return n;
}

/* Tell the user how to send what differs now: "differing" contacts, or with -1 an unknown number. */
static void
notice_differing(Oid source, const char *server, int64 differing)
{
	const char *watch = cs_source_typed(source, server);

	if (differing < 0)
		ereport(NOTICE,
				(errmsg("contacts that now differ from what was sent are not counted because the table is large"),
				 errhint("SELECT * FROM contactsync_reconcile(%s, dry_run => true) counts them, and without dry_run sends them.",
						 watch)));
	else if (differing > 0)
		ereport(NOTICE,
				(errmsg_plural(INT64_FORMAT " contact now differs from what was sent",
							   INT64_FORMAT " contacts now differ from what was sent", differing, differing),
				 errhint("SELECT contactsync_reconcile(%s) sends them; otherwise each is sent when its row changes.",
						 watch)));
}

/*
 * contactsync_alter_watch(source, server, mapping, filter, on_delete, always,
 * the arguments of cs_schedule_alter() and cs_policy_read(), and related)
 */
Datum
contactsync_alter_watch(PG_FUNCTION_ARGS)
{
	Oid			source;
	const char *server;
	CsWatch    *watch;
	CsWatch    *altered;
	CsEndpoint *endpoint;
	CsSchedule	schedule;
	CsPolicy	policy;
	int64		differing = -1;
	ListCell   *lc;

	cs_argument_require(fcinfo, ARG_SOURCE, "source");
	cs_argument_require(fcinfo, ARG_SERVER, "server");
	source = PG_GETARG_OID(ARG_SOURCE);
	server = NameStr(*PG_GETARG_NAME(ARG_SERVER));
	watch = cs_watch_find(source, server, GetUserId());
	endpoint = cs_server_read(cs_server_find(server, watch->owner), watch->owner);

	/*
	 * wait for changes that the present triggers ignore and the altered ones
	 * would not
	 */
	cs_table_trigger_lock(source);
	foreach(lc, watch->related)
		cs_table_trigger_lock(((CsRelated *) lfirst(lc))->relid);
	cs_schedule_alter(fcinfo, ARG_SCHEDULE, watch, &schedule);
	cs_policy_read(fcinfo, ARG_POLICY, &policy);
	altered = make_altered(fcinfo, watch, endpoint, &schedule);
	store(fcinfo, altered, watch->related, &schedule);
	cs_policy_store(watch->id, &policy);
	if (!PG_ARGISNULL(ARG_MAPPING))
		notice_if_all_become_mailable(altered, endpoint);
	if (estimated_rows(source) <= MAX_COUNTED_ROWS)
		differing = count_differing(source, server);
	notice_differing(source, server, differing);
	if (differing < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(differing);
}

/* contactsync_unwatch(source, server) */
Datum
contactsync_unwatch(PG_FUNCTION_ARGS)
{
	const CsWatch *watch = cs_watch_find(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), GetUserId());
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_watch_store_drop(watch->endpoint, watch->id);
	cs_sql_leave(&scope);
	PG_RETURN_VOID();
}
