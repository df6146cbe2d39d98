/*-------------------------------------------------------------------------
 *
 * table_trigger.c
 *		The triggers of a watch.
 *
 * There are two, one for rows and one for TRUNCATE, on its source, unless that is polled,
 * and two for each of its related tables.  The server clones a row trigger
 * to the partitions of its table, present and future, but neither a trigger on
 * TRUNCATE, nor any to tables that inherit otherwise.  Those get theirs here, also if
 * they are created after the watch.
 *
 * Other roles own tables, create triggers of any name and with any arguments, and
 * lock what is theirs.  So only the tables of the watch's own trees are touched: its
 * source, its related tables, and what inherits from these.  Temporary tables are not part of it, since
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
#include "store/trigger_set.h"

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
	tables = cs_trigger_set_tree(source);
	foreach(lc, tables)
		LockRelationOid(lfirst_oid(lc), ShareRowExclusiveLock);
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

static const char *
function_of(const CsTriggerSet *set)
{
	return set->related ? "capture_related" : "capture";
}

static void
create_row_trigger(const CsTable *table, const CsTriggerSet *set, List *args)
{
	const char *name = free_name(table->relid, set->watch, set->related ? "_related" : "");

	cs_sql_execute_command("CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %R"
						   " FOR EACH ROW EXECUTE FUNCTION contactsync.%I(%A)",
						   name, table->relid, function_of(set), args);
}

static void
create_truncate_trigger(const CsTable *table, const CsTriggerSet *set, List *args)
{
	const char *name = free_name(table->relid, set->watch, set->related ? "_related_truncate" : "_truncate");

	cs_sql_execute_command("CREATE TRIGGER %I AFTER TRUNCATE ON %R"
						   " FOR EACH STATEMENT EXECUTE FUNCTION contactsync.%I(%A)",
						   name, table->relid, function_of(set), args);
}

/* Have triggers fire for rows that logical replication applies, too, or only, or not. */
static void
enable_triggers(List *triggers, char fires)
{
	ListCell   *lc;

	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);

		if (fires == TRIGGER_FIRES_ALWAYS)
			cs_sql_execute_command("ALTER TABLE ONLY %R ENABLE ALWAYS TRIGGER %I", trigger->relid, trigger->name);
		else if (fires == TRIGGER_FIRES_ON_REPLICA)
			cs_sql_execute_command("ALTER TABLE ONLY %R ENABLE REPLICA TRIGGER %I", trigger->relid, trigger->name);
		else
			cs_sql_execute_command("ALTER TABLE ONLY %R ENABLE TRIGGER %I", trigger->relid, trigger->name);
	}
}

/* Create triggers on a table and on all tables that inherit from it. */
static void
create_set(const CsTriggerSet *set, List *args, char fires)
{
	List	   *tables;
	CsTable		table;
	ListCell   *lc;

	cs_table_trigger_lock(set->relid);
	tables = cs_trigger_set_tree(set->relid);
	foreach(lc, tables)
	{
		if (!cs_trigger_set_read_table(lfirst_oid(lc), &table))
			continue;
		if (!table.is_partition || table.relid == set->relid)
			create_row_trigger(&table, set, args);
		create_truncate_trigger(&table, set, args);
	}
	if (fires != TRIGGER_FIRES_ON_ORIGIN)
		enable_triggers(cs_trigger_set_triggers(set), fires);
}

/* Create the triggers of a new watch. */
void
cs_table_trigger_create(const CsWatch *watch, char fires)
{
	List	   *sets = cs_trigger_set_all(watch);
	ListCell   *lc;

	foreach(lc, sets)
		create_set(lfirst(lc), cs_trigger_set_made_arguments(watch, lfirst(lc)), fires);
}

/* Create those on a related table that the watch has not had before. */
void
cs_table_trigger_create_related(const CsWatch *watch, const CsRelated *related, char fires)
{
	const CsTriggerSet *set = cs_trigger_set_make(watch, related);

	create_set(set, cs_trigger_set_made_arguments(watch, set), fires);
}

/* For which rows do the triggers of a watch fire? */
char
cs_table_trigger_fires(const CsWatch *watch)
{
	List	   *sets = cs_trigger_set_all(watch);
	char		fires = TRIGGER_FIRES_ON_ORIGIN;

	if (sets != NIL)
		(void) cs_trigger_set_stored_arguments(linitial(sets), &fires);
	return fires;
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

static void
rename_in_set(const CsTriggerSet *set, const CsRenames *renames)
{
	List	   *triggers = cs_trigger_set_triggers(set);
	ListCell   *lc;
	ListCell   *arg;

	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);

		/* the first ones are numbers */
		for_each_from(arg, trigger->args, set->related ? 4 : 3)
		{
			const char *name = cs_table_trigger_new_name(renames, lfirst(arg));

			if (name)
				lfirst(arg) = pstrdup(name);
		}
		cs_trigger_catalog_set_arguments(trigger, trigger->args);
	}
}

/* Have the triggers on the source, or on a related table, refer to columns by their new names. */
void
cs_table_trigger_rename(const CsWatch *watch, const CsRelated *related, const CsRenames *renames)
{
	rename_in_set(cs_trigger_set_make(watch, related), renames);
}

/* Have the triggers look at the columns that the watch uses now. */
void
cs_table_trigger_alter(const CsWatch *watch)
{
	List	   *sets = cs_trigger_set_all(watch);
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, sets)
	{
		List	   *triggers = cs_trigger_set_triggers(lfirst(lc));
		List	   *args = cs_trigger_set_made_arguments(watch, lfirst(lc));

		foreach(other, triggers)
			cs_trigger_catalog_set_arguments(lfirst(other), args);
	}
}

/* Have the triggers fire for rows that logical replication applies, too, or only, or not. */
void
cs_table_trigger_enable(const CsWatch *watch, char fires)
{
	List	   *sets = cs_trigger_set_all(watch);
	ListCell   *lc;

	foreach(lc, sets)
		enable_triggers(cs_trigger_set_triggers(lfirst(lc)), fires);
}

/*
 * Following
 */

/* A table that inherits from a watched one, and what its triggers should be. */
typedef struct CsHeir
{
	CsTable		table;
	const CsTriggerSet *set;
	List	   *args;
	char		fires;
} CsHeir;

/* Has the table both triggers, with these arguments? */
static bool
is_complete(const CsHeir *heir)
{
	List	   *triggers = cs_trigger_set_on(heir->set, heir->table.relid);
	bool		row = false;
	bool		truncate = false;
	ListCell   *lc;

	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);

		if (!cs_trigger_set_same_arguments(trigger->args, heir->args))
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
	bool		row;
	bool		truncate = false;
	List	   *triggers;
	ListCell   *lc;

	LockRelationOid(relid, ShareRowExclusiveLock);
	if (!cs_trigger_set_read_table(relid, &heir->table))
		return;
	row = heir->table.is_partition;
	triggers = cs_trigger_set_on(heir->set, relid);
	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);

		if (!cs_trigger_set_same_arguments(trigger->args, heir->args))
			cs_trigger_catalog_set_arguments(trigger, heir->args);
		if (trigger->on_truncate)
			truncate = true;
		else
			row = true;
	}
	if (!row)
		create_row_trigger(&heir->table, heir->set, heir->args);
	if (!truncate)
		create_truncate_trigger(&heir->table, heir->set, heir->args);
	if (heir->fires != TRIGGER_FIRES_ON_ORIGIN && !(row && truncate))
		enable_triggers(cs_trigger_set_on(heir->set, relid), heir->fires);
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

/* Create the triggers of a set on these tables, and on what inherits from them. */
static void
follow(const CsTriggerSet *set, List *tables)
{
	CsHeir		heir = {.set = set};
	ListCell   *lc;
	ListCell   *member;

	heir.args = cs_trigger_set_stored_arguments(set, &heir.fires);
	if (heir.args == NIL)
		return;
	foreach(lc, tables)
	{
		List	   *tree = cs_trigger_set_tree(lfirst_oid(lc));

		foreach(member, tree)
			if (cs_trigger_set_read_table(lfirst_oid(member), &heir.table) && !is_complete(&heir))
			complete_or_warn(&heir);
	}
}

/*
 * Create the triggers of a watch on tables of its trees that have none, unless the
 * server has cloned them: on a table and on what inherits from it, or with InvalidOid
 * on all of them.
 */
void
cs_table_trigger_follow(const CsWatch *watch, Oid relid)
{
	List	   *sets = cs_trigger_set_all(watch);
	ListCell   *lc;

	foreach(lc, sets)
	{
		const CsTriggerSet *set = lfirst(lc);

		if (!OidIsValid(relid))
			follow(set, list_make1_oid(set->relid));
		else if (list_member_oid(cs_trigger_set_tree(set->relid), relid))
			follow(set, list_make1_oid(relid));
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
	int			related;		/* or CS_OF_ANY */
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
	triggers = cs_trigger_catalog_of_table(left->relid, left->endpoint, left->watch, left->related);
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
	if (!cs_trigger_set_read_table(relid, &table))
	{
		table.relid = InvalidOid;
		table.owner = owner;
	}
	return table;
}

/* Drop triggers on a tree, waiting only for locks on tables of the root's owner. */
static void
drop_on_tree(CsLeft *left, Oid root, Oid owner)
{
	List	   *tree = OidIsValid(root) ? cs_trigger_set_tree(root) : NIL;
	CsTable		table;
	ListCell   *lc;

	foreach(lc, tree)
	{
		left->relid = lfirst_oid(lc);
		left->wait = left->relid == root || (cs_trigger_set_read_table(left->relid, &table) && table.owner == owner);
		if (left->wait)
			drop_triggers(left);
		else
			(void) cs_try(drop_triggers, left, CS_LOCK_TIMEOUT, NULL);
	}
	left->wait = false;
}

/* Drop the triggers of a watch on a related table. */
void
cs_table_trigger_drop_related(const CsWatch *watch, const CsRelated *related)
{
	CsLeft		left = {watch->endpoint, watch->id, cs_related_number(related)};
	CsTable		table;

	if (cs_trigger_set_read_table(related->relid, &table))
		drop_on_tree(&left, related->relid, table.owner);
}

/*
 * Drop the triggers of a watch: on its trees, and on tables of the same owner that have
 * left them.  Wait for locks on tables of that owner, as any DDL does that concerns
 * the tree.  Leave what is on tables of others if it cannot be dropped at once.
 */
void
cs_table_trigger_drop(int endpoint, int watch)
{
	CsTable		source = source_of(watch);
	List	   *related = cs_related_load(watch);
	List	   *elsewhere;
	CsLeft		left = {endpoint, watch, CS_OF_ANY};
	CsTable		table;
	ListCell   *lc;

	drop_on_tree(&left, source.relid, source.owner);
	foreach(lc, related)
		if (cs_trigger_set_read_table(((CsRelated *) lfirst(lc))->relid, &table))
		drop_on_tree(&left, table.relid, table.owner);
	elsewhere = cs_trigger_catalog_tables(endpoint, watch);
	foreach(lc, elsewhere)
	{
		left.relid = lfirst_oid(lc);
		if (cs_trigger_set_read_table(left.relid, &table) && table.owner == source.owner)
			(void) cs_try(drop_triggers, &left, CS_LOCK_TIMEOUT, NULL);
	}
}
