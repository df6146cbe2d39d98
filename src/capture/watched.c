/*-------------------------------------------------------------------------
 *
 * watched.c
 *		Whether a command can concern a watch, for the event triggers.
 *
 * Most commands concern none, whoever runs them, so this is to cost next to
 * nothing, however many watches there are: it looks up the tables that the command
 * names, and those that they inherit from or that inherit from them, by indexes on
 * contactsync.watch and contactsync.related, without SQL.  What is not certain counts
 * as watched.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_inherits.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "base/contactsync.h"
#include "capture/watched.h"
#include "store/keyed_table.h"

/* Columns of pg_event_trigger_dropped_objects(). */
#define DROPPED_CLASSID		1
#define DROPPED_OBJID		2
#define DROPPED_OBJSUBID	3

/* The tables of watches and of related tables, by relation. */
typedef struct CsWatchedTables
{
	CsKeyedTable watches;
	CsKeyedTable related;
} CsWatchedTables;

/* Open them, unless there are none or somebody has locked one. */
static bool
open_watches(CsWatchedTables *tables)
{
	static const char *const names[] = {"watch", "watch_source_endpoint_key", "related", "related_relation"};
	Oid			schema = get_namespace_oid(CS_SCHEMA, true);

	if (!OidIsValid(schema))
		return false;
	for (int i = 0; i < lengthof(names); i++)
	{
		Oid			relid = get_relname_relid(names[i], schema);

		if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessShareLock))
			return false;
	}
	cs_keyed_table_open(&tables->watches, names[0], names[1], 1, AccessShareLock);
	cs_keyed_table_open(&tables->related, names[2], names[3], 1, AccessShareLock);
	return true;
}

static void
close_watches(CsWatchedTables *tables)
{
	cs_keyed_table_close(&tables->related);
	cs_keyed_table_close(&tables->watches);
}

/* Is there any watch? */
static bool
has_watches(CsWatchedTables *tables)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_OIDGE, ObjectIdGetDatum(InvalidOid));
	return cs_keyed_table_find(&tables->watches, &key);
}

/* Is it a source, or a related table? */
static bool
is_watched(CsWatchedTables *tables, Oid relid)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	return cs_keyed_table_find(&tables->watches, &key) || cs_keyed_table_find(&tables->related, &key);
}

/* Append the tables that a table inherits from directly, unless they are there. */
static List *
add_parents(List *relids, Oid relid)
{
	Relation	rel = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		relids = list_append_unique_oid(relids, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return relids;
}

/* Is a table, one that it inherits from, or one that inherits from it, watched? */
static bool
is_in_watched_tree(CsWatchedTables *watches, Oid relid)
{
	List	   *relids = list_make1_oid(relid);

	for (int i = 0; i < list_length(relids); i++)
	{
		if (is_watched(watches, list_nth_oid(relids, i)))
			return true;
		relids = add_parents(relids, list_nth_oid(relids, i));
	}
	relids = find_all_inheritors(relid, NoLock, NULL);
	for (int i = 1; i < list_length(relids); i++)
		if (is_watched(watches, list_nth_oid(relids, i)))
			return true;
	return false;
}

/*
 * Return the tables by whose names the command can be judged, as RangeVars; NIL if it
 * cannot.  The names have to mean the same after the command: one that renames or moves
 * a table cannot be judged, and a new table is judged by those that it inherits from,
 * because its own name may now be that of a temporary table.
 */
static List *
tables_of_command(const Node *parsetree)
{
	if (IsA(parsetree, CreateStmt))
		return ((const CreateStmt *) parsetree)->inhRelations;
	if (IsA(parsetree, AlterTableStmt))
		return list_make1(((const AlterTableStmt *) parsetree)->relation);
	if (IsA(parsetree, RenameStmt) && ((const RenameStmt *) parsetree)->renameType == OBJECT_COLUMN)
		return list_make1(((const RenameStmt *) parsetree)->relation);
	return NIL;
}

/* Does the command concern a watch, of which there are some? */
static bool
names_watched(CsWatchedTables *watches, const Node *parsetree)
{
	List	   *tables = tables_of_command(parsetree);
	ListCell   *lc;

	foreach(lc, tables)
	{
		Oid			relid = RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true);

		if (!OidIsValid(relid) || is_in_watched_tree(watches, relid))
			return true;
	}
	return tables == NIL;
}

/* Does the command make a table that inherits from none, or a view that was not there?  No
 * watch can concern it. */
static bool
makes_new_table(const Node *parsetree)
{
	const CreateStmt *create = (const CreateStmt *) parsetree;

	if (IsA(parsetree, ViewStmt))
		return !((const ViewStmt *) parsetree)->replace;
	return IsA(parsetree, CreateStmt) && create->inhRelations == NIL && create->partbound == NULL;
}

bool
cs_watched_by_command(const Node *parsetree)
{
	CsWatchedTables watches;
	bool		watched;

	if (makes_new_table(parsetree))
		return false;
	if (!open_watches(&watches))
		return true;
	watched = has_watches(&watches) && names_watched(&watches, parsetree);
	close_watches(&watches);
	return watched;
}

/* Put what is being dropped into a tuplestore, of which *slot is a row. */
static Tuplestorestate *
read_dropped(TupleTableSlot **slot)
{
	LOCAL_FCINFO(fcinfo, 0);
	FmgrInfo	function;
	ReturnSetInfo result = {.type = T_ReturnSetInfo,.allowedModes = SFRM_Materialize};

	result.econtext = CreateStandaloneExprContext();
	fmgr_info(F_PG_EVENT_TRIGGER_DROPPED_OBJECTS, &function);
	InitFunctionCallInfoData(*fcinfo, &function, 0, InvalidOid, NULL, (Node *) &result);
	(void) FunctionCallInvoke(fcinfo);
	FreeExprContext(result.econtext, true);
	*slot = MakeSingleTupleTableSlot(result.setDesc, &TTSOpsMinimalTuple);
	return result.setResult;
}

/* Is one of the dropped objects a source, a related table, or a server? */
static bool
drops_watched(CsWatchedTables *watches)
{
	TupleTableSlot *slot;
	Tuplestorestate *dropped = read_dropped(&slot);
	bool		watched = false;

	while (!watched && tuplestore_gettupleslot(dropped, true, false, slot))
	{
		bool		isnull;
		Oid			classid = DatumGetObjectId(slot_getattr(slot, DROPPED_CLASSID, &isnull));
		Oid			objid = DatumGetObjectId(slot_getattr(slot, DROPPED_OBJID, &isnull));

		if (classid == ForeignServerRelationId)
			watched = true;
		else if (classid == RelationRelationId &&
				 DatumGetInt32(slot_getattr(slot, DROPPED_OBJSUBID, &isnull)) == 0)
			watched = is_watched(watches, objid);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(dropped);
	return watched;
}

bool
cs_watched_by_drop(void)
{
	CsWatchedTables watches;
	bool		watched;

	if (!open_watches(&watches))
		return true;
	watched = drops_watched(&watches);
	close_watches(&watches);
	return watched;
}
