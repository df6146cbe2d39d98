/*-------------------------------------------------------------------------
 *
 * trigger_set.c
 *		Which triggers a watch has, and with which arguments.
 *
 * Those on its source are one set, and those on each of its related tables another.  A
 * set is on a table and on what inherits from that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "nodes/bitmapset.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "store/trigger_catalog.h"
#include "store/trigger_set.h"

/*
 * Trees of tables
 */

/* Fill "table"; return false unless it exists and can have triggers of ours. */
bool
cs_trigger_set_read_table(Oid relid, CsTable *table)
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

/* Return the OIDs of a table and of all that inherit from it, itself first; or NIL. */
List *
cs_trigger_set_tree(Oid relid)
{
	List	   *all;
	List	   *tables = NIL;
	CsTable		table;
	ListCell   *lc;

	if (!cs_trigger_set_read_table(relid, &table))
		return NIL;
	all = find_all_inheritors(relid, NoLock, NULL);

	foreach(lc, all)
		if (cs_trigger_set_read_table(lfirst_oid(lc), &table))
		tables = lappend_oid(tables, lfirst_oid(lc));
	return tables;
}

static int
related_of(const CsTriggerSet *set)
{
	return set->related ? cs_related_number(set->related) : CS_OF_SOURCE;
}

/* Return the triggers of a set on one table, or on all tables of its tree. */
List *
cs_trigger_set_on(const CsTriggerSet *set, Oid relid)
{
	return cs_trigger_catalog_of_table(relid, set->endpoint, set->watch, related_of(set));
}

List *
cs_trigger_set_triggers(const CsTriggerSet *set)
{
	List	   *tables = cs_trigger_set_tree(set->relid);
	List	   *triggers = NIL;
	ListCell   *lc;

	foreach(lc, tables)
		triggers = list_concat(triggers, cs_trigger_set_on(set, lfirst_oid(lc)));
	return triggers;
}

/*
 * Arguments
 */

/* Return the arguments that name the watch and the key of its source, or of a related table. */
static List *
key_arguments(const CsWatch *watch, const CsRelated *related)
{
	int			n = related ? related->n : watch->nkeys;
	List	   *args = list_make2(psprintf("%d", watch->endpoint), psprintf("%d", watch->id));

	if (related)
		args = lappend(args, psprintf("%d", cs_related_number(related)));
	args = lappend(args, psprintf("%d", n));
	for (int i = 0; i < n; i++)
		args = lappend(args, related ? related->related_columns[i] : watch->keys[i]);
	return args;
}

CsTriggerSet *
cs_trigger_set_make(const CsWatch *watch, const CsRelated *related)
{
	CsTriggerSet *set = palloc0(sizeof(CsTriggerSet));

	set->endpoint = watch->endpoint;
	set->watch = watch->id;
	set->related = related;
	set->relid = related ? related->relid : watch->source;
	set->key = key_arguments(watch, related);
	return set;
}

/* Return all sets of a watch. */
List *
cs_trigger_set_all(const CsWatch *watch)
{
	List	   *sets = NIL;
	CsTable		table;
	ListCell   *lc;

	/* a view has none */
	if (watch->poll_column == NULL && cs_trigger_set_read_table(watch->source, &table))
		sets = list_make1(cs_trigger_set_make(watch, NULL));
	foreach(lc, watch->related)
		sets = lappend(sets, cs_trigger_set_make(watch, lfirst(lc)));
	return sets;
}

/* Return the arguments of a trigger on the source as capture.c reads them: of char *. */
static List *
source_arguments(const CsWatch *watch, List *key)
{
	List	   *args = list_copy(key);
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

/* The same on a related table. */
static List *
related_arguments(const CsRelated *related, List *key)
{
	List	   *args = list_copy(key);
	int			column = -1;

	while (!related->all_used && (column = bms_next_member(related->used, column)) >= 0)
		args = lappend(args, get_attname(related->relid, column, false));
	return args;
}

/* Return the arguments of triggers of a watch that is being made. */
List *
cs_trigger_set_made_arguments(const CsWatch *watch, const CsTriggerSet *set)
{
	return set->related ? related_arguments(set->related, set->key) : source_arguments(watch, set->key);
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

bool
cs_trigger_set_same_arguments(List *a, List *b)
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
 * Return the arguments that the triggers of a stored watch have, by those on its table;
 * NIL if there are none.  Whoever may create triggers there may have added some, so
 * triggers whose key is not the watch's do not count, and of the others a column counts
 * that any of them uses.
 */
List *
cs_trigger_set_stored_arguments(const CsTriggerSet *set, char *fires)
{
	List	   *triggers = cs_trigger_set_on(set, set->relid);
	int			nkey = list_length(set->key);
	List	   *used = NIL;
	bool		all_columns = false;
	bool		found = false;
	ListCell   *lc;

	*fires = TRIGGER_FIRES_ON_ORIGIN;
	foreach(lc, triggers)
	{
		CsOwnTrigger *trigger = lfirst(lc);
		List	   *args = trigger->args;

		if (trigger->on_truncate || list_length(args) < nkey ||
			!cs_trigger_set_same_arguments(list_truncate(list_copy(args), nkey), set->key))
			continue;
		found = true;
		if (trigger->enabled == TRIGGER_FIRES_ALWAYS ||
			(trigger->enabled == TRIGGER_FIRES_ON_REPLICA && *fires != TRIGGER_FIRES_ALWAYS))
			*fires = trigger->enabled;
		all_columns |= list_length(args) == nkey;
		for (int i = nkey; i < list_length(args); i++)
			if (!has_argument(used, list_nth(args, i)))
				used = lappend(used, list_nth(args, i));
	}
	return !found ? NIL : all_columns ? set->key : list_concat(list_copy(set->key), used);
}
