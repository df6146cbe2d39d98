/*-------------------------------------------------------------------------
 *
 * table_trigger.c
 *		The triggers of a watch.
 *
 * There are two: one for rows and one for TRUNCATE.  The server clones a row trigger
 * to the partitions of its table, present and future, but neither a trigger on
 * TRUNCATE, nor any to tables that inherit otherwise.  Those get theirs here, also if
 * they are created after the watch.
 *
 * Other roles own tables, create triggers of any name and with any arguments, and
 * lock what is theirs.  So only the tables of the watch's own tree are touched: its
 * source and what inherits from that.  Temporary tables are not part of it, since
 * nobody but their session can read them.  A trigger elsewhere does nothing, and
 * whether it is dropped does not matter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "nodes/bitmapset.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/sql.h"
#include "base/try.h"
#include "store/table_trigger.h"
#include "store/trigger_catalog.h"

/*
 * The tree of a watch
 */

/* What matters here of a relation. */
typedef struct CsTable
{
	Oid			relid;
	Oid			owner;
	bool		is_partition;
} CsTable;

/* Fill "table"; return false unless it exists and can have triggers of ours. */
static bool
read_table(Oid relid, CsTable *table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	table->relid = relid;
	table->owner = form->relowner;
	table->is_partition = form->relispartition;
	result = (form->relkind == RELKIND_RELATION || form->relkind == RELKIND_PARTITIONED_TABLE) &&
		form->relpersistence != RELPERSISTENCE_TEMP;
	ReleaseSysCache(tuple);
	return result;
}

/* Return the OIDs of a table and of all tables that inherit from it, itself first. */
static List *
tree_of(Oid relid)
{
	List	   *all = find_all_inheritors(relid, NoLock, NULL);
	List	   *tables = NIL;
	CsTable		table;
	ListCell   *lc;

	foreach(lc, all)
		if (read_table(lfirst_oid(lc), &table))
		tables = lappend_oid(tables, lfirst_oid(lc));
	return tables;
}

/* Return the triggers of a watch on all tables of its tree. */
static List *
triggers_of(const CsWatch *watch)
{
	List	   *tables = tree_of(watch->source);
	List	   *triggers = NIL;
	ListCell   *lc;

	foreach(lc, tables)
		triggers = list_concat(triggers, cs_trigger_catalog_of_table(lfirst_oid(lc), watch->endpoint, watch->id));
	return triggers;
}

/*
 * Lock a table, and all tables that inherit from it, against writes: after that, all
 * changes that fired other triggers than there are now are committed.
 */
void
cs_table_trigger_lock(Oid source)
{
	List	   *tables;
	ListCell   *lc;

	/* after that, no table begins to inherit from it */
	LockRelationOid(source, ShareRowExclusiveLock);
	tables = tree_of(source);
	foreach(lc, tables)
		LockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock);
}

/*
 * Arguments
 */

/* Return the arguments that name the watch and its key. */
static List *
key_arguments(const CsWatch *watch)
{
	List	   *args = list_make3(psprintf("%d", watch->endpoint), psprintf("%d", watch->id),
								  psprintf("%d", watch->nkeys));

	for (int i = 0; i < watch->nkeys; i++)
		args = lappend(args, watch->keys[i]);
	return args;
}

/* Return the arguments of a trigger as capture.c reads them: of char *, palloc'd. */
static List *
trigger_arguments(const CsWatch *watch)
{
	List	   *args = key_arguments(watch);
	int			column = -1;

	/* a whole row or a system column means all columns: name none */
	while ((column = bms_next_member(watch->used, column)) >= 0)
		if (column + FirstLowInvalidHeapAttributeNumber <= 0)
			return args;
	column = -1;
	while ((column = bms_next_member(watch->used, column)) >= 0)
		args = lappend(args, get_attname(watch->source, column + FirstLowInvalidHeapAttributeNumber, false));
	return args;
}

static bool
has_argument(List *args, const char *name)
{
	ListCell   *lc;

	foreach(lc, args)
		if (strcmp(lfirst(lc), name) == 0)
		return true;
	return false;
}

static bool
same_arguments(List *a, List *b)
{
	ListCell   *lc;
	ListCell   *other;

	if (list_length(a) != list_length(b))
		return false;
	forboth(lc, a, other, b)
		if (strcmp(lfirst(lc), lfirst(other)) != 0)
		return false;
	return true;
}

/*
 * Return the arguments that the triggers of a stored watch have, by those on its
 * source; NIL if there are none.  Whoever may create triggers there may have added
 * some, so triggers whose key is not the watch's do not count, and of the others a
 * column counts that any of them uses.
 */
static List *
stored_arguments(const CsWatch *watch, bool *always)
{
	List	   *triggers = cs_trigger_catalog_of_table(watch->source, watch->endpoint, watch->id);
	List	   *key = key_arguments(watch);
	List	   *used = NIL;
	bool		all_columns = false;
	bool		found = false;
	ListCell   *lc;

	*always = false;
	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);
		List	   *args = trigger->args;

		if (trigger->on_truncate || list_length(args) < list_length(key) ||
			!same_arguments(list_truncate(list_copy(args), list_length(key)), key))
			continue;
		found = true;
		*always |= trigger->enabled == TRIGGER_FIRES_ALWAYS;
		all_columns |= list_length(args) == list_length(key);
		for (int i = list_length(key); i < list_length(args); i++)
			if (!has_argument(used, list_nth(args, i)))
				used = lappend(used, list_nth(args, i));
	}
	return !found ? NIL : all_columns ? key : list_concat(key, used);
}

/*
 * Creating
 */

/* Return a name that no trigger on a table, or on what inherits from it, has; palloc'd. */
static char *
free_name(Oid relid, int watch, const char *suffix)
{
	List	   *tables = find_all_inheritors(relid, NoLock, NULL);

	for (int i = 1;; i++)
	{
		char	   *name = i == 1 ? psprintf("contactsync_%d%s", watch, suffix) :
		psprintf("contactsync_%d_%d%s", watch, i, suffix);
		bool		taken = false;
		ListCell   *lc;

		foreach(lc, tables)
			taken |= OidIsValid(get_trigger_oid(lfirst_oid(lc), name, true));
		if (!taken)
			return name;
	}
}

static void
create_row_trigger(const CsTable *table, int watch, List *args)
{
	cs_sql_execute_command("CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %R"
						   " FOR EACH ROW EXECUTE FUNCTION contactsync.capture(%A)",
						   free_name(table->relid, watch, ""), table->relid, args);
}

static void
create_truncate_trigger(const CsTable *table, int watch, List *args)
{
	cs_sql_execute_command("CREATE TRIGGER %I AFTER TRUNCATE ON %R"
						   " FOR EACH STATEMENT EXECUTE FUNCTION contactsync.capture(%A)",
						   free_name(table->relid, watch, "_truncate"), table->relid, args);
}

/* Have triggers fire for rows that logical replication applies, or not. */
static void
enable_triggers(List *triggers, bool always)
{
	ListCell   *lc;

	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);

		if (always)
			cs_sql_execute_command("ALTER TABLE ONLY %R ENABLE ALWAYS TRIGGER %I", trigger->relid, trigger->name);
		else
			cs_sql_execute_command("ALTER TABLE ONLY %R ENABLE TRIGGER %I", trigger->relid, trigger->name);
	}
}

/* Create the triggers of a watch on its table and on all tables that inherit from it. */
void
cs_table_trigger_create(const CsWatch *watch, bool always)
{
	List	   *args = trigger_arguments(watch);
	List	   *tables;
	CsTable		table;
	ListCell   *lc;

	cs_table_trigger_lock(watch->source);
	tables = tree_of(watch->source);
	foreach(lc, tables)
	{
		if (!read_table(lfirst_oid(lc), &table))
			continue;
		if (!table.is_partition || table.relid == watch->source)
			create_row_trigger(&table, watch->id, args);
		create_truncate_trigger(&table, watch->id, args);
	}
	if (always)
		enable_triggers(triggers_of(watch), true);
}

/*
 * Altering
 */

const char *
cs_table_trigger_new_name(const CsRenames *renames, const char *older)
{
	for (int i = 0; i < renames->n; i++)
		if (strcmp(renames->older[i], older) == 0)
			return renames->newer[i];
	return NULL;
}

/* Have the triggers refer to columns by their new names. */
void
cs_table_trigger_rename(const CsWatch *watch, const CsRenames *renames)
{
	List	   *triggers = triggers_of(watch);
	ListCell   *lc;
	ListCell   *arg;

	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);

		/* the first three are numbers */
		for_each_from(arg, trigger->args, 3)
		{
			const char *name = cs_table_trigger_new_name(renames, lfirst(arg));

			if (name)
				lfirst(arg) = pstrdup(name);
		}
		cs_trigger_catalog_set_arguments(trigger, trigger->args);
	}
}

/* Have the triggers look at the columns that the watch uses now. */
void
cs_table_trigger_alter(const CsWatch *watch)
{
	List	   *triggers = triggers_of(watch);
	List	   *args = trigger_arguments(watch);
	ListCell   *lc;

	foreach(lc, triggers)
		cs_trigger_catalog_set_arguments(lfirst(lc), args);
}

/* Have the triggers fire for rows that logical replication applies, or not. */
void
cs_table_trigger_enable(const CsWatch *watch, bool always)
{
	enable_triggers(triggers_of(watch), always);
}

/*
 * Following
 */

/* A table that inherits from a watched one, and what its triggers should be. */
typedef struct CsHeir
{
	CsTable		table;
	const CsWatch *watch;
	List	   *args;
	bool		always;
} CsHeir;

/* Has the table both triggers, with these arguments? */
static bool
is_complete(const CsHeir *heir)
{
	List	   *triggers = cs_trigger_catalog_of_table(heir->table.relid, heir->watch->endpoint, heir->watch->id);
	bool		row = false;
	bool		truncate = false;
	ListCell   *lc;

	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);

		if (!same_arguments(trigger->args, heir->args))
			return false;
		if (trigger->on_truncate)
			truncate = true;
		else
			row = true;
	}
	return truncate && (row || heir->table.is_partition);
}

/* Create what is missing, and correct what is there: a table may have inherited before. */
static void
complete(void *arg)
{
	CsHeir	   *heir = arg;
	Oid			relid = heir->table.relid;
	int			watch = heir->watch->id;
	bool		row;
	bool		truncate = false;
	List	   *triggers;
	ListCell   *lc;

	LockRelationOid(relid, ShareRowExclusiveLock);
	if (!read_table(relid, &heir->table))
		return;
	row = heir->table.is_partition;
	triggers = cs_trigger_catalog_of_table(relid, heir->watch->endpoint, watch);
	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);

		if (!same_arguments(trigger->args, heir->args))
			cs_trigger_catalog_set_arguments(trigger, heir->args);
		if (trigger->on_truncate)
			truncate = true;
		else
			row = true;
	}
	if (!row)
		create_row_trigger(&heir->table, watch, heir->args);
	if (!truncate)
		create_truncate_trigger(&heir->table, watch, heir->args);
	if (heir->always && !(row && truncate))
		enable_triggers(cs_trigger_catalog_of_table(relid, heir->watch->endpoint, watch), true);
}

/* Do that, or warn: the command that somebody runs must not fail for us. */
static void
complete_or_warn(CsHeir *heir)
{
	ErrorData  *error;

	if (cs_try(complete, heir, CS_LOCK_TIMEOUT, &error) != CS_TRY_OK)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("contactsync could not create its triggers on table \"%s\": %s",
						get_rel_name(heir->table.relid), error->message),
				 errdetail("Changes of it are not captured."),
				 errhint("contactsync_alter_watch() creates the triggers that are missing.")));
}

/*
 * Create the triggers of a watch on tables of its tree that have none, unless the
 * server has cloned them: on these tables and on what inherits from them.
 */
void
cs_table_trigger_follow(const CsWatch *watch, List *tables)
{
	CsHeir		heir = {.watch = watch};
	ListCell   *lc;
	ListCell   *member;

	heir.args = stored_arguments(watch, &heir.always);
	if (heir.args == NIL)
		return;
	foreach(lc, tables)
	{
		List	   *tree = tree_of(lfirst_oid(lc));

		foreach(member, tree)
			if (read_table(lfirst_oid(member), &heir.table) && !is_complete(&heir))
			complete_or_warn(&heir);
	}
}

/*
 * Dropping
 */

/* A watch that is dropped, and a table that may have triggers of it. */
typedef struct CsLeft
{
	int			endpoint;
	int			watch;
	Oid			relid;
	bool		wait;			/* for a lock on the table */
} CsLeft;

static void
drop_triggers(void *arg)
{
	const CsLeft *left = arg;
	List	   *triggers;
	ListCell   *lc;

	if (left->wait)
		LockRelationOid(left->relid, AccessExclusiveLock);
	else if (!ConditionalLockRelationOid(left->relid, AccessExclusiveLock))
		return;
	triggers = cs_trigger_catalog_of_table(left->relid, left->endpoint, left->watch);
	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);

		if (!trigger->is_clone)
			cs_sql_execute_command("DROP TRIGGER %I ON %R", trigger->name, trigger->relid);
	}
}

/* Return the source of a watch, and its owner: that of the watch if the source is gone. */
static CsTable
source_of(int watch)
{
	static CsStatement statement = {
		"SELECT w.source::oid, e.role::oid FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint"
		" WHERE w.id = $1", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);
	CsTable		table = {0};
	Oid			owner;
	Oid			relid;
	bool		isnull;

	if (cs_sql_execute(&statement, &arg, NULL) == 0)
		return table;
	relid = DatumGetObjectId(cs_sql_value(0, 1, &isnull));
	owner = DatumGetObjectId(cs_sql_value(0, 2, &isnull));
	if (!read_table(relid, &table))
	{
		table.relid = InvalidOid;
		table.owner = owner;
	}
	return table;
}

/*
 * Drop the triggers of a watch: on its tree, and on tables of the same owner that have
 * left the tree.  Wait for locks on tables of that owner, as any DDL does that concerns
 * the tree.  Leave what is on tables of others if it cannot be dropped at once.
 */
void
cs_table_trigger_drop(int endpoint, int watch)
{
	CsTable		source = source_of(watch);
	List	   *tree = OidIsValid(source.relid) ? tree_of(source.relid) : NIL;
	List	   *elsewhere;
	CsLeft		left = {endpoint, watch};
	CsTable		table;
	ListCell   *lc;

	foreach(lc, tree)
	{
		left.relid = lfirst_oid(lc);
		left.wait = left.relid == source.relid || (read_table(left.relid, &table) && table.owner == source.owner);
		if (left.wait)
			drop_triggers(&left);
		else
			(void) cs_try(drop_triggers, &left, CS_LOCK_TIMEOUT, NULL);
	}
	left.wait = false;
	elsewhere = cs_trigger_catalog_tables(endpoint, watch);
	foreach(lc, elsewhere)
	{
		left.relid = lfirst_oid(lc);
		if (read_table(left.relid, &table) && table.owner == source.owner)
			(void) cs_try(drop_triggers, &left, CS_LOCK_TIMEOUT, NULL);
	}
}
