/*-------------------------------------------------------------------------
 *
 * ddl.c
 *		What becomes of watches when tables and servers change.
 *
 * Event triggers do this in the transaction that makes the change, whether or not
 * a worker runs.  Unless the change concerns something that is watched, they do
 * nothing that could fail.
 *
 * A watch stores its table's columns by their numbers, which no ALTER TABLE
 * changes.  So whoever looks later sees which were renamed, and puts the new name
 * into the key, the triggers' arguments and the expressions (rename.c).  Of a related
 * table, it stores the numbers of those columns by which rows are related.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/invalidation.h"
#include "base/sql.h"
#include "base/try.h"
#include "capture/ddl.h"
#include "capture/rename.h"
#include "capture/watched.h"
#include "store/endpoint_state.h"
#include "store/related.h"
#include "store/source.h"
#include "store/table_trigger.h"
#include "store/watch.h"
#include "store/watch_store.h"

CS_FUNCTION(contactsync_note_ddl);
CS_FUNCTION(contactsync_note_drop);

/*
 * Columns that are renamed
 */

static void
store_poll_column(int watch, const char *name)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET poll_column = $2 WHERE id = $1", 2, {INT4OID, TEXTOID}
	};
	Datum		args[2] = {Int32GetDatum(watch), CStringGetTextDatum(name)};

	cs_sql_execute(&statement, args, NULL);
}

/* Put the new names into the watch, its stored definition and its triggers. */
static void
rename_in_watch(CsWatch *watch, const CsRenames *renames)
{
	const char *table = cs_source_alias(watch);

	for (int i = 0; i < watch->nkeys; i++)
	{
		const char *name = cs_table_trigger_new_name(renames, watch->keys[i]);

		if (name)
			watch->keys[i] = pstrdup(name);
	}
	for (int i = 0; i < watch->nmapped; i++)
		watch->mapped[i].expression = cs_rename_in_expression(watch->mapped[i].expression, table, renames);
	if (watch->filter)
		watch->filter = cs_rename_in_expression(watch->filter, table, renames);
	cs_watch_store_changed(watch);
	if (watch->poll_column && cs_table_trigger_new_name(renames, watch->poll_column))
		store_poll_column(watch->id, cs_table_trigger_new_name(renames, watch->poll_column));
	if (watch->poll_column == NULL)
		cs_table_trigger_rename(watch, NULL, renames);
}

/* Put the new names of columns into related tables and into their triggers. */
static void
rename_in_related(int id)
{
	const CsWatch *before = cs_watch_load(id);
	const CsWatch *after;
	ListCell   *lc;
	ListCell   *other;

	if (!cs_related_follow(id))
		return;
	after = cs_watch_load(id);
	forboth(lc, before->related, other, after->related)
	{
		const CsRelated *older = lfirst(lc);
		const CsRelated *newer = lfirst(other);
		CsRenames	renames = {older->n, older->related_columns, newer->related_columns};

		if (!cs_related_equal(older, newer))
			cs_table_trigger_rename(after, newer, &renames);
	}
}

/* The columns of a watch's table whose names are not those that are stored. */
static CsRenames *
renames_of(int watch)
{
	static CsStatement statement = {
		"SELECT o.name::text, a.attname::text FROM contactsync.watch w,"
		" unnest(w.columns) WITH ORDINALITY AS o (name, number), pg_attribute a"
		" WHERE w.id = $1 AND a.attrelid = w.source AND a.attnum = o.number AND NOT a.attisdropped"
		" AND a.attname <> o.name",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);
	CsRenames  *renames = palloc(sizeof(CsRenames));

	renames->n = (int) cs_sql_execute(&statement, &arg, NULL);
	renames->older = palloc(Max(renames->n, 1) * sizeof(char *));
	renames->newer = palloc(Max(renames->n, 1) * sizeof(char *));
	for (int i = 0; i < renames->n; i++)
	{
		renames->older[i] = cs_sql_text(i, 1);
		renames->newer[i] = cs_sql_text(i, 2);
	}
	return renames;
}

/* The names of a table's columns by number, null where one was dropped. */
#define COLUMNS_OF(table) \
	"(SELECT array_agg(a.attname ORDER BY n) FROM pg_class c, generate_series(1, c.relnatts::int4) n" \
	" LEFT JOIN pg_attribute a ON a.attrelid = " table " AND a.attnum = n AND NOT a.attisdropped" \
	" WHERE c.oid = " table ")"

/* Have a watch follow columns that were renamed. */
static void
follow_columns(void *arg)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch w SET columns = " COLUMNS_OF("w.source") " WHERE w.id = $1", 1, {INT4OID}
	};
	int			id = *(int *) arg;
	Datum		number = Int32GetDatum(id);
	CsRenames  *renames = renames_of(id);

	if (renames->n > 0)
		rename_in_watch(cs_watch_load(id), renames);
	rename_in_related(id);
	cs_sql_execute(&statement, &number, NULL);
}

/*
 * Have watches follow columns that were renamed: one, or with 0 all.  Return false if
 * somebody has locked a watch that would follow.  One watch that cannot follow holds up
 * no other.  Within cs_sql_enter().
 */
bool
cs_ddl_follow_renames(int watch)
{
	static CsStatement statement = {
		"SELECT w.id, e.role::oid::int4 FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint"
		" WHERE ($1 = 0 OR w.id = $1) AND e.database = contactsync.database_identity()"
		" AND (w.columns IS DISTINCT FROM " COLUMNS_OF("w.source") " OR " CS_RELATED_IS_RENAMED ")",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);
	uint64		n = cs_sql_execute(&statement, &arg, NULL);
	int		   *ids = palloc(Max(n, 1) * sizeof(int));
	int		   *roles = palloc(Max(n, 1) * sizeof(int));
	List	   *locked = NIL;	/* of roles */

	for (uint64 i = 0; i < n; i++)
	{
		ids[i] = cs_sql_int(i, 1);
		roles[i] = cs_sql_int(i, 2);
	}
	for (uint64 i = 0; i < n; i++)
	{
		ErrorData  *error;
		CsTryResult result;

		if (list_member_int(locked, roles[i]))
			continue;
		result = cs_try(follow_columns, &ids[i], CS_LOCK_TIMEOUT, &error);
		/* wait once for what a role has locked, not for each of its watches */
		if (result == CS_TRY_LATER)
			locked = lappend_int(locked, roles[i]);
		if (result != CS_TRY_OK)
			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 errmsg("contactsync could not follow the renamed columns of a watched table: %s", error->message)));
	}
	return locked == NIL;
}

/*
 * Store the columns of an endpoint's watches as they are now: in a database that
 * was restored they may have other numbers.  Within cs_sql_enter().
 */
void
cs_ddl_reset_columns(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch w SET columns = " COLUMNS_OF("w.source") " WHERE w.endpoint = $1", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	cs_sql_execute(&statement, &arg, NULL);
	cs_related_reset(endpoint);
}

/*
 * Event triggers
 */

static void
require_event_trigger(FunctionCallInfo fcinfo, const char *name)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as an event trigger", name)));
}

/* A watch that a command concerns, and the table by which; InvalidOid if that is neither
 * the source, nor a related table, nor one that inherits from these. */
typedef struct CsConcern
{
	int			watch;
	Oid			relid;
} CsConcern;

/*
 * Find the watches that the tables of a command concern: they inherit from the source or
 * a related table, or these from them.  Those of other tables are left alone.  Return
 * how many.
 */
static int
find_concerns(CsConcern **concerns)
{
	static CsStatement statement = {
		"WITH RECURSIVE command AS MATERIALIZED (SELECT DISTINCT objid FROM pg_event_trigger_ddl_commands()"
		" WHERE classid = 'pg_class'::regclass AND EXISTS (SELECT FROM contactsync.watch)),"
		" above (relid, objid) AS (SELECT objid, objid FROM command UNION"
		" SELECT i.inhparent, a.objid FROM above a JOIN pg_inherits i ON i.inhrelid = a.relid),"
		" below (relid) AS (SELECT objid FROM command UNION"
		" SELECT i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.relid),"
		" concern (source, objid) AS (SELECT relid, objid FROM above UNION ALL"
		" SELECT relid, 0::oid FROM below WHERE relid NOT IN (SELECT objid FROM command))"
		" SELECT w.id, c.objid FROM concern c,"
		" LATERAL (SELECT id, endpoint FROM contactsync.watch WHERE source = c.source"
		" UNION SELECT watch, endpoint FROM contactsync.related WHERE relation = c.source OFFSET 0) w"
		" JOIN contactsync.endpoint e ON e.id = w.endpoint AND e.database = contactsync.database_identity()"
		" ORDER BY w.id, c.objid"
	};
	int			n = (int) cs_sql_execute(&statement, NULL, NULL);
	bool		isnull;

	*concerns = palloc(Max(n, 1) * sizeof(CsConcern));
	for (int i = 0; i < n; i++)
	{
		(*concerns)[i].watch = cs_sql_int(i, 1);
		(*concerns)[i].relid = DatumGetObjectId(cs_sql_value(i, 2, &isnull));
	}
	return n;
}

/* Follow the new names of servers; return whether a command concerns one. */
static bool
follow_servers(void)
{
	static CsStatement statement = {
		"SELECT FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_foreign_server'::regclass"
		" AND EXISTS (SELECT FROM contactsync.watch) LIMIT 1"
	};

	if (cs_sql_execute(&statement, NULL, NULL) == 0)
		return false;
	cs_endpoint_state_follow_servers();
	return true;
}

/*
 * After DDL: follow the new names of columns and servers, and give tables that inherit
 * from watched ones their triggers.
 */
static void
follow_commands(void)
{
	CsConcern  *concerns;
	int			n = find_concerns(&concerns);
	const CsWatch *watch = NULL;

	for (int i = 0; i < n; i++)
	{
		if (watch == NULL || watch->id != concerns[i].watch)
		{
			(void) cs_ddl_follow_renames(concerns[i].watch);
			watch = cs_watch_load(concerns[i].watch);
		}
		if (OidIsValid(concerns[i].relid))
			cs_table_trigger_follow(watch, concerns[i].relid);
	}
	/* to see at once what broke or works again */
	if (follow_servers() || n > 0)
		cs_invalidation_send(CS_DEFINITIONS);
}

static void
follow_commands_as_owner(void *arg)
{
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	follow_commands();
	cs_sql_leave(&scope);
}

/*
 * Do not let a command fail for us: warn instead.  Whoever delivers is told, to look
 * at columns and servers again.
 */
static void
try_to_follow_commands(void)
{
	ErrorData  *error;

	if (cs_try(follow_commands_as_owner, NULL, CS_LOCK_TIMEOUT, &error) == CS_TRY_OK)
		return;
	cs_invalidation_send(CS_DEFINITIONS);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("contactsync could not follow this command: %s", error->message)));
}

/* contactsync.note_ddl(), on ddl_command_end */
Datum
contactsync_note_ddl(PG_FUNCTION_ARGS)
{
	static bool busy = false;	/* what we do is DDL as well */
	EventTriggerData *trigger = (EventTriggerData *) fcinfo->context;

	require_event_trigger(fcinfo, "contactsync.note_ddl");
	if (busy || !cs_watched_by_command(trigger->parsetree) || !cs_sql_is_ready())
		PG_RETURN_VOID();
	busy = true;
	PG_TRY();
	{
		try_to_follow_commands();
	}
	PG_FINALLY();
	{
		busy = false;
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}

/* Is the dropped object d the server of an endpoint? */
#define IS_SERVER_OF(e) \
	"CASE WHEN " e ".database = contactsync.database_identity() THEN d.objid = " e ".server_oid" \
	" ELSE d.address_names[1] = " e ".server END"

/* Is the command a DROP SERVER without CASCADE? */
static bool
keeps_watches(const EventTriggerData *trigger)
{
	const DropStmt *drop = (const DropStmt *) trigger->parsetree;

	return IsA(drop, DropStmt) && drop->removeType == OBJECT_FOREIGN_SERVER &&
		drop->behavior == DROP_RESTRICT;
}

/* Raise an error if tables are watched for a server that was dropped. */
static void
refuse_to_drop_watches(void)
{
	static CsStatement statement = {
		"SELECT e.server, string_agg(w.source::regclass::text, ', ' ORDER BY w.id)"
		" FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint"
		" JOIN pg_event_trigger_dropped_objects() d ON d.classid = 'pg_foreign_server'::regclass AND " IS_SERVER_OF("e")
		" GROUP BY e.server ORDER BY e.server LIMIT 1"
	};

	if (cs_sql_execute(&statement, NULL, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop server \"%s\" because tables are watched for it", cs_sql_text(0, 1)),
				 errdetail("Watched tables: %s.", cs_sql_text(0, 2)),
				 errhint("End the watches with contactsync_unwatch(), or use DROP SERVER ... CASCADE to end them, too.")));
}

/* The watches and endpoints whose table or server was dropped. */
typedef struct CsDropped
{
	int			nwatches;
	int		   *watches;
	int		   *endpoints_of_watches;
	int			nendpoints;
	int		   *endpoints;
} CsDropped;

/* Find them.  This waits for nobody. */
static void
find_dropped(CsDropped *dropped)
{
	static CsStatement watches = {
		"WITH dropped AS MATERIALIZED (SELECT classid, objid, address_names FROM pg_event_trigger_dropped_objects()"
		" WHERE objsubid = 0 AND classid IN ('pg_class'::regclass, 'pg_foreign_server'::regclass))"
		" SELECT w.id, w.endpoint FROM dropped d,"
		" LATERAL (SELECT id, endpoint FROM contactsync.watch WHERE source = d.objid OFFSET 0) w"
		" WHERE d.classid = 'pg_class'::regclass UNION"
		" SELECT w.id, w.endpoint FROM dropped d JOIN contactsync.endpoint e ON " IS_SERVER_OF("e")
		" JOIN contactsync.watch w ON w.endpoint = e.id WHERE d.classid = 'pg_foreign_server'::regclass"
	};
	static CsStatement endpoints = {
		"SELECT e.id FROM contactsync.endpoint e, pg_event_trigger_dropped_objects() d"
		" WHERE d.classid = 'pg_foreign_server'::regclass AND " IS_SERVER_OF("e")
	};

	dropped->nwatches = (int) cs_sql_execute(&watches, NULL, NULL);
	dropped->watches = palloc(Max(dropped->nwatches, 1) * sizeof(int));
	dropped->endpoints_of_watches = palloc(Max(dropped->nwatches, 1) * sizeof(int));
	for (int i = 0; i < dropped->nwatches; i++)
	{
		dropped->watches[i] = cs_sql_int(i, 1);
		dropped->endpoints_of_watches[i] = cs_sql_int(i, 2);
	}
	dropped->nendpoints = (int) cs_sql_execute(&endpoints, NULL, NULL);
	dropped->endpoints = palloc(Max(dropped->nendpoints, 1) * sizeof(int));
	for (int i = 0; i < dropped->nendpoints; i++)
		dropped->endpoints[i] = cs_sql_int(i, 1);
}

/* Was a related table dropped?  Its watch is broken then. */
static bool
drops_related(void)
{
	static CsStatement statement = {
		"SELECT FROM pg_event_trigger_dropped_objects() d JOIN contactsync.related r ON r.relation = d.objid"
		" WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0 LIMIT 1"
	};

	return cs_sql_execute(&statement, NULL, NULL) > 0;
}

/* Drop what is stored of them. */
static void
drop_stored(void *arg)
{
	const CsDropped *dropped = arg;

	for (int i = 0; i < dropped->nwatches; i++)
		cs_watch_store_drop(dropped->endpoints_of_watches[i], dropped->watches[i]);
	for (int i = 0; i < dropped->nendpoints; i++)
		cs_endpoint_state_drop(dropped->endpoints[i]);
}

static void
end_watches(void *arg)
{
	CsSqlScope	scope;
	CsDropped	dropped;

	cs_sql_enter(&scope);
	if (keeps_watches(arg))
		refuse_to_drop_watches();
	find_dropped(&dropped);
	if (dropped.nwatches + dropped.nendpoints > 0)
	{
		(void) cs_try(drop_stored, &dropped, CS_LOCK_TIMEOUT, NULL);
		cs_invalidation_send(CS_DEFINITIONS);
	}
	else if (drops_related())
		cs_invalidation_send(CS_DEFINITIONS);
	cs_sql_leave(&scope);
}

/*
 * contactsync.note_drop(), on sql_drop: a watch goes with its table, or with its
 * server if CASCADE says so.  A command does not wait for what somebody has locked of
 * it: whoever delivers drops that later.  Only where that has to be known, it fails.
 */
Datum
contactsync_note_drop(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigger = (EventTriggerData *) fcinfo->context;
	ErrorData  *error;
	CsTryResult result;

	require_event_trigger(fcinfo, "contactsync.note_drop");
	if (!cs_sql_is_ready() || !cs_watched_by_drop())
		PG_RETURN_VOID();
	result = cs_try(end_watches, trigger, CS_LOCK_TIMEOUT, &error);
	if (result == CS_TRY_LATER && !keeps_watches(trigger))
		cs_invalidation_send(CS_DEFINITIONS);
	else if (result != CS_TRY_OK)
		ReThrowError(error);
	PG_RETURN_VOID();
}
