/*-------------------------------------------------------------------------
 *
 * watch.c
 *		Making, dropping and loading of watches.
 *
 * Everything that can be checked is checked when a watch is made, as the user
 * who makes it.  Its triggers belong to the table, so they go with it, and are
 * dumped with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/contactsync.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "provider/provider.h"
#include "store/mapping.h"
#include "store/source.h"
#include "store/table_trigger.h"
#include "store/watch.h"
#include "store/watch_key.h"

/* The first columns of contactsync.watch. */
enum
{
	WATCH_TABLE_ID = 1,
	WATCH_TABLE_SOURCE,
	WATCH_TABLE_ENDPOINT
};

static const char *const on_delete_words[] = {"ignore", "unsubscribe", "delete"};

/*
 * Defining
 */

static bool
is_table(char kind)
{
	return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

static bool
is_pollable(char kind)
{
	return is_table(kind) || kind == RELKIND_VIEW || kind == RELKIND_MATVIEW ||
		kind == RELKIND_FOREIGN_TABLE;
}

/* Effect: an error unless the relation is of a kind that can be watched. */
static void
check_kind(Relation source, bool polled)
{
	const char *name = RelationGetRelationName(source);
	char		kind = source->rd_rel->relkind;

	if (polled ? !is_pollable(kind) : !is_table(kind))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name),
				 is_pollable(kind) ?
				 errdetail("Only tables have triggers that tell of changes.") : 0,
				 is_pollable(kind) ?
				 errhint("Use capture => 'poll' with poll_column => '...', the column that tells when a row changed; or watch the tables that it is made of.") : 0));
	if (IsSystemRelation(source) ||
		RelationGetNamespace(source) == get_namespace_oid(CS_SCHEMA, true))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("system table \"%s\" cannot be watched", name)));
	if (source->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("temporary table \"%s\" cannot be watched", name),
				 errdetail("The session that delivers could not read it.")));
}

/* Effect: an error unless the current user may watch the relation. */
static void
check_rights(Relation source, bool polled)
{
	Oid			relid = RelationGetRelid(source);
	const char *missing = NULL;

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT, ACLMASK_ALL) != ACLCHECK_OK)
		missing = "SELECT";
	else if (!polled && pg_class_aclcheck(relid, GetUserId(), ACL_TRIGGER) != ACLCHECK_OK)
		missing = "TRIGGER";
	if (missing)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", RelationGetRelationName(source)),
				 polled ? errdetail("To poll it takes the privilege SELECT on it.") :
				 errdetail("To watch a table takes the privileges SELECT and TRIGGER on it."),
				 errhint("GRANT %s ON %s TO %s.", missing,
						 quote_identifier(RelationGetRelationName(source)),
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

static CsOnDelete
find_on_delete(const char *word, const CsProvider *provider)
{
	for (int i = 0; i < lengthof(on_delete_words); i++)
	{
		int			needed = i == CS_ON_DELETE_DELETE ? CS_CAN_DELETE :
		i == CS_ON_DELETE_UNSUBSCRIBE ? CS_CAN_UNSUBSCRIBE : 0;

		if (strcmp(word, on_delete_words[i]) != 0)
			continue;
		if ((provider->abilities & needed) != needed)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s cannot %s contacts", provider->title, word),
					 errhint("Use on_delete => 'ignore'%s.",
							 (provider->abilities & CS_CAN_DELETE) ? " or 'delete'" :
							 (provider->abilities & CS_CAN_UNSUBSCRIBE) ? " or 'unsubscribe'" : "")));
		return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"on_delete\": \"%s\"", word),
			 errhint("Use 'ignore', 'unsubscribe' or 'delete'.")));
}

/* Effect: an error unless the source can be polled by that column. */
static void
check_poll_column(Relation source, const char *name)
{
	Oid			type;

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("capture => 'poll' needs \"poll_column\""),
				 errhint("Name the column that tells when a row changed: poll_column => 'updated_at'.")));
	cs_watch_key_check_columns(source, list_make1(unconstify(char *, name)), "poll_column");
	type = getBaseType(get_atttype(RelationGetRelid(source), get_attnum(RelationGetRelid(source), name)));
	if (type != TIMESTAMPTZOID && type != TIMESTAMPOID && type != DATEOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("poll_column \"%s\" is of type %s", name, format_type_be(type)),
				 errhint("Name a column of type timestamptz, timestamp or date that tells when a row changed.")));
}

const char *
cs_watch_on_delete_word(const CsWatch *watch)
{
	return on_delete_words[watch->on_delete];
}

/*
 * A watch by these definitions, checked as the current user, palloc'd; it is
 * not stored.  mapping and filter may be NULL.  Errors name the field at fault.
 */
CsWatch *
cs_watch_define(Oid source, const CsEndpoint *endpoint, Jsonb *mapping,
				const char *filter, List *key, const char *on_delete,
				const CsSchedule *schedule)
{
	CsWatch    *watch = palloc0(sizeof(CsWatch));
	Relation	rel = try_relation_open(source, AccessShareLock);
	Bitmapset  *used = NULL;
	bool		all_columns = false;
	ListCell   *lc;

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", source)));
	check_kind(rel, schedule->poll);
	check_rights(rel, schedule->poll);
	if (schedule->poll)
		check_poll_column(rel, schedule->poll_column);
	watch->poll_column = schedule->poll ? pstrdup(schedule->poll_column) : NULL;
	watch->source = source;
	watch->owner = GetUserId();
	watch->search_path = pstrdup(namespace_search_path);
	watch->on_delete = find_on_delete(on_delete, endpoint->provider);

	if (mapping)
		all_columns = cs_mapping_read(watch, mapping);
	else
		cs_mapping_default(watch, rel, endpoint->provider->fields);
	cs_mapping_check_expressions(watch, rel, 0, &used);
	if (all_columns)
	{
		int			from = watch->nmapped;

		cs_mapping_add_remaining(watch, rel, used);
		cs_mapping_check_expressions(watch, rel, from, &used);
	}
	cs_mapping_check_fields(watch, endpoint);

	if (filter)
	{
		Oid			type = cs_source_check_expression(rel, filter, "filter", &used);

		if (getBaseType(type) != BOOLOID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("filter is of type %s, but must be boolean", format_type_be(type))));
		watch->filter = pstrdup(filter);
	}

	key = cs_watch_key_find(rel, key, schedule->poll);
	watch->keys = palloc(list_length(key) * sizeof(char *));
	foreach(lc, key)
		watch->keys[watch->nkeys++] = lfirst(lc);

	watch->used = used;
	/* what is left to go wrong does so here, not when it is first read */
	cs_source_close(cs_source_open(watch));
	relation_close(rel, NoLock);
	return watch;
}

/*
 * Storing
 */

static Datum
name_array(int n, char **names)
{
	Datum	   *elements = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
	{
		Name		name = palloc(NAMEDATALEN);

		namestrcpy(name, names[i]);
		elements[i] = NameGetDatum(name);
	}
	return PointerGetDatum(construct_array(elements, n, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR));
}

/*
 * Effect: stores the watch, giving it its id, and puts the triggers in place:
 * they are ours, so it is done as the owner of the extension.  Rows that the
 * application applies by logical replication fire them only with "always".
 */
void
cs_watch_create(CsWatch *watch, bool always)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.watch (source, endpoint, key, mapping, filter, search_path, on_delete)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (source, endpoint) DO NOTHING RETURNING id",
		7, {REGCLASSOID, INT4OID, NAMEARRAYOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		args[7];
	char		nulls[8] = "       ";
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	args[0] = ObjectIdGetDatum(watch->source);
	args[1] = Int32GetDatum(watch->endpoint);
	args[2] = name_array(watch->nkeys, watch->keys);
	args[3] = cs_mapping_to_jsonb(watch);
	args[4] = watch->filter ? CStringGetTextDatum(watch->filter) : (Datum) 0;
	nulls[4] = watch->filter ? ' ' : 'n';
	args[5] = CStringGetTextDatum(watch->search_path);
	args[6] = CStringGetTextDatum(on_delete_words[watch->on_delete]);
	if (cs_sql_execute(&statement, args, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("table \"%s\" is watched for that server already",
						get_rel_name(watch->source)),
				 errhint("Use contactsync_unwatch() first.")));
	watch->id = cs_sql_int(0, 1);
	if (watch->poll_column == NULL)
		cs_table_trigger_create(watch, always);
	cs_sql_leave(&scope);
	cs_shmem_reload_at_commit();
}

/*
 * Effect: stores key, mapping, filter, search_path and on_delete of a watch that
 * is there.  Within cs_sql_enter().
 */
void
cs_watch_store(const CsWatch *watch)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET key = $2, mapping = $3, filter = $4, on_delete = $5, search_path = $6"
		" WHERE id = $1",
		6, {INT4OID, NAMEARRAYOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		args[6];

	args[0] = Int32GetDatum(watch->id);
	args[1] = name_array(watch->nkeys, watch->keys);
	args[2] = cs_mapping_to_jsonb(watch);
	args[3] = watch->filter ? CStringGetTextDatum(watch->filter) : (Datum) 0;
	args[4] = CStringGetTextDatum(on_delete_words[watch->on_delete]);
	args[5] = CStringGetTextDatum(watch->search_path);
	cs_sql_execute(&statement, args, watch->filter ? NULL : "   n  ");
	cs_shmem_reload_at_commit();
}

/* Watches that this transaction dropped, if that has not been rolled back. */
static List *dropped = NIL;
static TransactionId dropped_in = InvalidTransactionId;

static void
note_dropped(int id)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	if (dropped_in != GetTopTransactionId())
		dropped = NIL;
	dropped_in = GetTopTransactionId();
	dropped = lappend_int(dropped, id);
	MemoryContextSwitchTo(old);
}

/*
 * Was the watch dropped by this transaction?  Cheap if none was.
 */
bool
cs_watch_is_dropped(int id)
{
	static CsStatement statement = {
		"SELECT FROM contactsync.watch WHERE id = $1", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(id);
	CsSqlScope	scope;
	bool		found;

	if (!TransactionIdIsValid(dropped_in) || dropped_in != GetTopTransactionIdIfAny() ||
		!list_member_int(dropped, id))
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());	/* there may be none, at a
													 * commit */
	cs_sql_enter(&scope);
	found = cs_sql_execute(&statement, &arg, NULL) > 0;
	cs_sql_leave(&scope);
	PopActiveSnapshot();
	return !found;
}

/*
 * Effect: removes what a table has of a watch, also what was committed since
 * the snapshot of our transaction was taken.
 */
static void
delete_of_watch(const char *table, int endpoint, int id)
{
	char	   *command = psprintf("DELETE FROM contactsync.%s WHERE watch = %d AND endpoint = %d",
								   table, id, endpoint);
	SPIPlanPtr	plan = SPI_prepare(command, 0, NULL);
	int			result = SPI_execute_snapshot(plan, NULL, NULL, GetLatestSnapshot(),
											  InvalidSnapshot, false, true, 0);

	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", command, SPI_result_code_string(result));
}

/*
 * Effect: removes all that is known of a watch that is dropped.  Within
 * cs_sql_enter().
 */
void
cs_watch_forget(int endpoint, int id)
{
	static const char *const tables[] = {"queue", "contact", "failure", "counter", "pause", "scan", "traced", "trace", "forgotten"};

	for (int i = 0; i < lengthof(tables); i++)
		delete_of_watch(tables[i], endpoint, id);
}

/*
 * Effect: removes the watch, its triggers, and all that is known of it.  What
 * this transaction has noted so far is not queued when it commits.
 */
void
cs_watch_drop(int endpoint, int id)
{
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_table_trigger_drop(id);
	cs_watch_forget(endpoint, id);
	cs_sql_execute_text("DELETE FROM contactsync.watch WHERE id = %d", id);
	cs_sql_leave(&scope);
	note_dropped(id);
	cs_shmem_reload_at_commit();
}

/*
 * Loading
 */

/* Columns of the query of cs_watch_load_all(). */
enum
{
	WATCH_ID = 1,
	WATCH_ENDPOINT,
	WATCH_SOURCE,
	WATCH_OWNER,
	WATCH_KEY,
	WATCH_MAPPING,
	WATCH_FILTER,
	WATCH_SEARCH_PATH,
	WATCH_ON_DELETE,
	WATCH_STATE,
	WATCH_RELEASED,
	WATCH_POLL_COLUMN,
	WATCH_POLL_EVERY,
	WATCH_POLL_OVERLAP,
	WATCH_RECONCILE_NEXT,
	WATCH_DOUBTED_AT,
	WATCH_AWAY
};

/* 0 for null. */
static double
number_of_row(int row, int column)
{
	bool		isnull;
	Datum		value = cs_sql_value(row, column, &isnull);

	return isnull ? 0 : DatumGetFloat8(value);
}

static CsWatch *
watch_of_row(int row)
{
	CsWatch    *watch = palloc0(sizeof(CsWatch));
	char	   *on_delete = cs_sql_text(row, WATCH_ON_DELETE);
	char	   *state = cs_sql_text(row, WATCH_STATE);
	bool		isnull;
	Datum		released;

	watch->id = cs_sql_int(row, WATCH_ID);
	watch->endpoint = cs_sql_int(row, WATCH_ENDPOINT);
	watch->source = DatumGetObjectId(cs_sql_value(row, WATCH_SOURCE, &isnull));
	watch->owner = DatumGetObjectId(cs_sql_value(row, WATCH_OWNER, &isnull));
	watch->keys = cs_sql_text_array(cs_sql_value(row, WATCH_KEY, &isnull), &watch->nkeys);
	cs_mapping_read(watch, DatumGetJsonbP(cs_sql_value(row, WATCH_MAPPING, &isnull)));
	watch->filter = cs_sql_text(row, WATCH_FILTER);
	watch->search_path = cs_sql_text(row, WATCH_SEARCH_PATH);
	for (int i = 0; i < lengthof(on_delete_words); i++)
		if (strcmp(on_delete, on_delete_words[i]) == 0)
			watch->on_delete = i;
	watch->broken = strcmp(state, "broken") == 0;
	watch->guarded = strcmp(state, "guarded") == 0;
	released = cs_sql_value(row, WATCH_RELEASED, &isnull);
	watch->released = isnull ? 0 : DatumGetUInt64(released);
	watch->poll_column = cs_sql_text(row, WATCH_POLL_COLUMN);
	watch->poll_every = number_of_row(row, WATCH_POLL_EVERY);
	watch->poll_overlap = cs_sql_text(row, WATCH_POLL_OVERLAP);
	watch->reconcile_next = number_of_row(row, WATCH_RECONCILE_NEXT);
	watch->away = DatumGetBool(cs_sql_value(row, WATCH_AWAY, &isnull));
	watch->stale_before = DatumGetTimestampTz(cs_sql_value(row, WATCH_DOUBTED_AT, &isnull));
	return watch;
}

#define SELECT_WATCH \
	"SELECT w.id, w.endpoint, w.source, e.role, w.key, w.mapping, w.filter, w.search_path, w.on_delete," \
	" w.state, w.released, w.poll_column, extract(epoch FROM w.poll_every)::float8, w.poll_overlap::text," \
	" extract(epoch FROM w.reconcile_next)::float8, e.stale_before, e.database <> contactsync.database_identity() FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint"

/* All watches, palloc'd in the current context.  Within cs_sql_enter(). */
List *
cs_watch_load_all(void)
{
	static CsStatement statement = {SELECT_WATCH " ORDER BY w.id"};
	MemoryContext context = CurrentMemoryContext;
	List	   *watches = NIL;
	uint64		n = cs_sql_execute(&statement, NULL, NULL);

	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
		watches = lappend(watches, watch_of_row(i));
	return watches;
}

/* For messages, also when there is no such table. */
static char *
table_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	return name ? psprintf("\"%s\"", name) : psprintf("with OID %u", relid);
}

/*
 * The watch of that table and server that is the role's own, or else of a role
 * that it is; palloc'd.  Errors: there is none, or several.
 */
CsWatch *
cs_watch_find(Oid source, const char *server, Oid roleid)
{
	static CsStatement statement = {
		SELECT_WATCH " WHERE w.source = $1 AND e.server = $2 AND pg_has_role($3, e.role, 'USAGE')"
		" ORDER BY e.role <> $3, w.id",
		3, {OIDOID, NAMEOID, OIDOID}
	};
	NameData	name;
	Datum		args[3] = {ObjectIdGetDatum(source), NameGetDatum(&name), ObjectIdGetDatum(roleid)};
	MemoryContext context = CurrentMemoryContext;
	CsWatch    *watch;
	CsSqlScope	scope;
	uint64		n;

	namestrcpy(&name, server);
	cs_sql_enter(&scope);
	n = cs_sql_execute(&statement, args, NULL);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no watch of yours mirrors table %s to server \"%s\"", table_name(source), server),
				 errhint("SELECT * FROM contactsync.watches shows yours.")));
	MemoryContextSwitchTo(context);
	watch = watch_of_row(0);
	if (n > 1 && watch->owner != roleid)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
				 errmsg("several roles that you are mirror table %s to server \"%s\"", table_name(source), server),
				 errhint("Use SET ROLE to become the one you mean.")));
	cs_sql_leave(&scope);
	return watch;
}

/*
 * Is there such a watch, and is the relation its source or a descendant of it?
 * Looks below SQL, for it is asked in the application's session.
 */
bool
cs_watch_covers(int endpoint, int id, Oid relid)
{
	Oid			schema = get_namespace_oid(CS_SCHEMA, true);
	Oid			watch_relid = OidIsValid(schema) ? get_relname_relid("watch", schema) : InvalidOid;
	Oid			source = InvalidOid;
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	if (!OidIsValid(watch_relid))
		return false;
	rel = table_open(watch_relid, AccessShareLock);
	ScanKeyInit(&key, WATCH_TABLE_ID, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
	scan = systable_beginscan(rel, RelationGetPrimaryKeyIndex(rel), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, WATCH_TABLE_ENDPOINT, RelationGetDescr(rel), &isnull);

		if (DatumGetInt32(value) == endpoint)
			source = DatumGetObjectId(heap_getattr(tuple, WATCH_TABLE_SOURCE, RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return OidIsValid(source) &&
		(source == relid || typeInheritsFrom(get_rel_type_id(relid), get_rel_type_id(source)));
}
