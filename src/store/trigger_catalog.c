/*-------------------------------------------------------------------------
 *
 * trigger_catalog.c
 *		The rows of pg_trigger that belong to watches.
 *
 * A trigger is identified by its function and its first arguments, the endpoint,
 * the watch and the related table: it may be renamed.  Whoever may create triggers on a table can
 * create one with any arguments, so a caller looks at the triggers of tables that
 * it knows to belong to the watch, and treats all others as somebody else's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_trigger.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "base/contactsync.h"
#include "store/trigger_catalog.h"

/* The events of our row trigger. */
#define ROW_TYPE \
	(TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE)

/* Which triggers are looked for. */
typedef struct CsTriggerSearch
{
	int			endpoint;
	int			watch;
	int			related;		/* or CS_OF_SOURCE, CS_OF_ANY */
	Oid			of_source;		/* the functions */
	Oid			of_related;
} CsTriggerSearch;

static Oid
find_function(char *name)
{
	return LookupFuncName(list_make2(makeString(CS_SCHEMA), makeString(name)), 0, NULL, true);
}

/* Return the arguments of a trigger: of char *, palloc'd. */
static List *
read_arguments(Relation catalog, HeapTuple tuple)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, Anum_pg_trigger_tgargs, RelationGetDescr(catalog), &isnull);
	bytea	   *packed = DatumGetByteaPP(datum);
	const char *argument = VARDATA_ANY(packed);
	List	   *args = NIL;

	for (int i = 0; i < ((Form_pg_trigger) GETSTRUCT(tuple))->tgnargs; i++)
	{
		args = lappend(args, pstrdup(argument));
		argument += strlen(argument) + 1;
	}
	return args;
}

/* Does the trigger fire whenever ours do: no other events, no columns, no condition? */
static bool
fires_like_ours(Relation catalog, HeapTuple tuple)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	bool		unconditional;

	(void) heap_getattr(tuple, Anum_pg_trigger_tgqual, RelationGetDescr(catalog), &unconditional);
	return (form->tgtype == ROW_TYPE || form->tgtype == TRIGGER_TYPE_TRUNCATE) &&
		form->tgattr.dim1 == 0 && unconditional;
}

static bool
is_number(const char *argument, int number)
{
	return strcmp(argument, psprintf("%d", number)) == 0;
}

/* Does the search ask for triggers with that function and these arguments? */
static bool
is_wanted(const CsTriggerSearch *search, Oid function, List *args)
{
	bool		of_related = function == search->of_related;

	if (!is_number(linitial(args), search->endpoint) || !is_number(lsecond(args), search->watch))
		return false;
	if (search->related == CS_OF_ANY)
		return true;
	return of_related ? is_number(lthird(args), search->related) : search->related == CS_OF_SOURCE;
}

/* Return the trigger if it is one of those, palloc'd, or else NULL. */
static CsOwnTrigger *
read_trigger(Relation catalog, HeapTuple tuple, const CsTriggerSearch *search)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	CsOwnTrigger *trigger;
	List	   *args;

	if ((form->tgfoid != search->of_source && form->tgfoid != search->of_related) || form->tgnargs < 4 ||
		!fires_like_ours(catalog, tuple))
		return NULL;
	args = read_arguments(catalog, tuple);
	if (!is_wanted(search, form->tgfoid, args))
		return NULL;
	trigger = palloc(sizeof(CsOwnTrigger));
	trigger->oid = form->oid;
	trigger->relid = form->tgrelid;
	trigger->name = pstrdup(NameStr(form->tgname));
	trigger->on_truncate = form->tgtype == TRIGGER_TYPE_TRUNCATE;
	trigger->is_clone = OidIsValid(form->tgparentid);
	trigger->enabled = form->tgenabled;
	trigger->args = args;
	return trigger;
}

/* Return the triggers of a watch on a table, or with InvalidOid on all tables. */
static List *
find_triggers(Oid relid, int endpoint, int watch, int related)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	CsTriggerSearch search = {endpoint, watch, related, find_function("capture"), find_function("capture_related")};
	List	   *triggers = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, OidIsValid(relid), NULL,
							  OidIsValid(relid) ? 1 : 0, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		CsOwnTrigger *trigger = read_trigger(catalog, tuple, &search);

		if (trigger)
			triggers = lappend(triggers, trigger);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return triggers;
}

/* Return the triggers on a table that are of a watch: of CsOwnTrigger *. */
List *
cs_trigger_catalog_of_table(Oid relid, int endpoint, int watch, int related)
{
	return find_triggers(relid, endpoint, watch, related);
}

/* Return the OIDs of all tables that have such triggers, in ascending order. */
List *
cs_trigger_catalog_tables(int endpoint, int watch)
{
	List	   *triggers = find_triggers(InvalidOid, endpoint, watch, CS_OF_ANY);
	List	   *tables = NIL;
	ListCell   *lc;

	foreach(lc, triggers)
		tables = lappend_oid(tables, ((CsOwnTrigger *) lfirst(lc))->relid);
	list_sort(tables, list_oid_cmp);
	list_deduplicate_oid(tables);
	return tables;
}

static bytea *
pack_arguments(List *args)
{
	StringInfoData bytes;
	ListCell   *lc;

	initStringInfo(&bytes);
	appendStringInfoSpaces(&bytes, VARHDRSZ);
	foreach(lc, args)
		appendBinaryStringInfo(&bytes, lfirst(lc), strlen(lfirst(lc)) + 1);
	SET_VARSIZE(bytes.data, bytes.len);
	return (bytea *) bytes.data;
}

/*
 * Change the arguments of a trigger in the catalog.  To create the trigger again is
 * not possible while it has pending events, and takes locks that a session that
 * renames a column may not expect.
 */
void
cs_trigger_catalog_set_arguments(const CsOwnTrigger *trigger, List *args)
{
	Relation	catalog = table_open(TriggerRelationId, RowExclusiveLock);
	Datum		values[Natts_pg_trigger] = {0};
	bool		nulls[Natts_pg_trigger] = {0};
	bool		replaced[Natts_pg_trigger] = {0};
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	values[Anum_pg_trigger_tgargs - 1] = PointerGetDatum(pack_arguments(args));
	values[Anum_pg_trigger_tgnargs - 1] = Int16GetDatum(list_length(args));
	replaced[Anum_pg_trigger_tgargs - 1] = replaced[Anum_pg_trigger_tgnargs - 1] = true;
	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger->oid));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		CatalogTupleUpdate(catalog, &tuple->t_self,
						   heap_modify_tuple(tuple, RelationGetDescr(catalog), values, nulls, replaced));
		CacheInvalidateRelcacheByRelid(trigger->relid);
	}
	systable_endscan(scan);
	table_close(catalog, RowExclusiveLock);
	CommandCounterIncrement();
}
