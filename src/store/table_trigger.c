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
 * A trigger is identified by its function and arguments: it may be renamed, and a
 * partition that is detached keeps its trigger.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_trigger.h"
#include "nodes/bitmapset.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/sql.h"
#include "store/table_trigger.h"

/* Conditions on a row of pg_trigger: is it ours, and of which watch? */
#define IS_OURS(t)	t ".tgfoid = 'contactsync.capture'::regproc AND " t ".tgparentid = 0"
#define WATCH_OF(t)	"split_part(encode(" t ".tgargs, 'escape'), chr(92) || '000', 2)"

/* Run the commands that a query returns. */
static void
execute_result(const char *query)
{
	uint64		n = cs_sql_execute_text("%s", query);
	char	  **commands = palloc(Max(n, 1) * sizeof(char *));

	for (uint64 i = 0; i < n; i++)
		commands[i] = cs_sql_text(i, 1);
	for (uint64 i = 0; i < n; i++)
		cs_sql_execute_text("%s", commands[i]);
}

/* Return the arguments of a trigger as capture.c reads them: of char *, palloc'd. */
static List *
trigger_arguments(const CsWatch *watch)
{
	List	   *args = list_make3(psprintf("%d", watch->endpoint), psprintf("%d", watch->id),
								  psprintf("%d", watch->nkeys));
	int			column = -1;

	for (int i = 0; i < watch->nkeys; i++)
		args = lappend(args, watch->keys[i]);
	/* a whole row or a system column means all columns: name none */
	while ((column = bms_next_member(watch->used, column)) >= 0)
		if (column + FirstLowInvalidHeapAttributeNumber <= 0)
			return args;
	column = -1;
	while ((column = bms_next_member(watch->used, column)) >= 0)
		args = lappend(args, get_attname(watch->source, column + FirstLowInvalidHeapAttributeNumber, false));
	return args;
}

/* Return the same as literals separated by commas. */
static char *
quoted_arguments(const CsWatch *watch)
{
	StringInfoData quoted;
	ListCell   *lc;
	List	   *args = trigger_arguments(watch);

	initStringInfo(&quoted);
	foreach(lc, args)
		appendStringInfo(&quoted, "%s%s", foreach_current_index(lc) > 0 ? ", " : "",
						 quote_literal_cstr(lfirst(lc)));
	return quoted.data;
}

/* Create the triggers of a watch on its table and on all tables that inherit from it. */
void
cs_table_trigger_create(const CsWatch *watch, bool always)
{
	char	   *args = quoted_arguments(watch);
	char	   *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(watch->source)),
												   get_rel_name(watch->source));

	cs_sql_execute_text("CREATE TRIGGER contactsync_%d AFTER INSERT OR UPDATE OR DELETE ON %s"
						" FOR EACH ROW EXECUTE FUNCTION contactsync.capture(%s)",
						watch->id, table, args);
	cs_sql_execute_text("CREATE TRIGGER contactsync_%d_truncate AFTER TRUNCATE ON %s"
						" FOR EACH STATEMENT EXECUTE FUNCTION contactsync.capture(%s)",
						watch->id, table, args);
	if (always)
		cs_sql_execute_text("ALTER TABLE %s ENABLE ALWAYS TRIGGER contactsync_%d,"
							" ENABLE ALWAYS TRIGGER contactsync_%d_truncate",
							table, watch->id, watch->id);
	cs_table_trigger_follow();
}

const char *
cs_table_trigger_new_name(const CsRenames *renames, const char *older)
{
	for (int i = 0; i < renames->n; i++)
		if (strcmp(renames->older[i], older) == 0)
			return renames->newer[i];
	return NULL;
}

/* Return the arguments of an existing trigger: of char *, palloc'd. */
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

/*
 * Change the arguments of a trigger in the catalog.  To create the trigger again is
 * not possible while it has pending events, and takes locks that a session that
 * renames a column may not expect.
 */
static void
write_arguments(Relation catalog, HeapTuple tuple, List *args)
{
	Datum		values[Natts_pg_trigger] = {0};
	bool		nulls[Natts_pg_trigger] = {0};
	bool		replaced[Natts_pg_trigger] = {0};
	StringInfoData bytes;
	ListCell   *lc;

	initStringInfo(&bytes);
	appendStringInfoSpaces(&bytes, VARHDRSZ);
	foreach(lc, args)
		appendBinaryStringInfo(&bytes, lfirst(lc), strlen(lfirst(lc)) + 1);
	SET_VARSIZE(bytes.data, bytes.len);
	values[Anum_pg_trigger_tgargs - 1] = PointerGetDatum(bytes.data);
	values[Anum_pg_trigger_tgnargs - 1] = Int16GetDatum(list_length(args));
	replaced[Anum_pg_trigger_tgargs - 1] = replaced[Anum_pg_trigger_tgnargs - 1] = true;
	CatalogTupleUpdate(catalog, &tuple->t_self,
					   heap_modify_tuple(tuple, RelationGetDescr(catalog), values, nulls, replaced));
	CacheInvalidateRelcacheByRelid(((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid);
}

/* Give a trigger these arguments; if they are NIL, rename columns in those it has. */
static void
update_trigger(Relation catalog, Oid oid, List *args, const CsRenames *renames)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	ListCell   *lc;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		if (args == NIL)
		{
			args = read_arguments(catalog, tuple);
			/* the first three are numbers */
			for_each_from(lc, args, 3)
			{
				const char *name = cs_table_trigger_new_name(renames, lfirst(lc));

				if (name)
					lfirst(lc) = pstrdup(name);
			}
		}
		write_arguments(catalog, tuple, args);
	}
	systable_endscan(scan);
}

/* Do the same with all triggers of a watch, wherever they are. */
static void
update_triggers(int watch, List *args, const CsRenames *renames)
{
	uint64		n = cs_sql_execute_text("SELECT t.oid FROM pg_trigger t"
										" WHERE t.tgfoid = 'contactsync.capture'::regproc AND " WATCH_OF("t") " = '%d'",
										watch);
	Relation	catalog = table_open(TriggerRelationId, RowExclusiveLock);
	Oid		   *oids = palloc(Max(n, 1) * sizeof(Oid));
	bool		isnull;

	for (uint64 i = 0; i < n; i++)
		oids[i] = DatumGetObjectId(cs_sql_value(i, 1, &isnull));
	for (uint64 i = 0; i < n; i++)
		update_trigger(catalog, oids[i], args, renames);
	table_close(catalog, RowExclusiveLock);
	CommandCounterIncrement();
}

/* Have the triggers refer to columns by their new names. */
void
cs_table_trigger_rename(int watch, const CsRenames *renames)
{
	update_triggers(watch, NIL, renames);
}

/* Have the triggers look at the columns that the watch uses now. */
void
cs_table_trigger_alter(const CsWatch *watch)
{
	update_triggers(watch->id, trigger_arguments(watch), NULL);
}

/* Have the triggers fire for rows that logical replication applies, or not. */
void
cs_table_trigger_enable(int watch, bool always)
{
	execute_result(psprintf("SELECT format('ALTER TABLE ONLY %%s ENABLE %s TRIGGER %%I', t.tgrelid::regclass, t.tgname)"
							" FROM pg_trigger t WHERE t.tgfoid = 'contactsync.capture'::regproc AND " WATCH_OF("t")
							" = '%d' ORDER BY t.tgrelid, t.oid", always ? "ALWAYS" : "", watch));
}

/* Drop the triggers of a watch, wherever they are. */
void
cs_table_trigger_drop(int watch)
{
	execute_result(psprintf("SELECT format('DROP TRIGGER %%I ON %%s', t.tgname, t.tgrelid::regclass)"
							" FROM pg_trigger t WHERE " IS_OURS("t") " AND " WATCH_OF("t") " = '%d'"
							" ORDER BY t.tgrelid, t.oid", watch));
}

/*
 * Create the triggers of watched tables on the tables that inherit from them, unless
 * the server has cloned them.  In a database that is being restored the dump creates
 * them.
 */
void
cs_table_trigger_follow(void)
{
	execute_result("WITH RECURSIVE tree AS ("
				   "SELECT w.id::text AS watch, w.source::oid AS source, w.source::oid AS relid FROM contactsync.watch w"
				   " JOIN contactsync.endpoint e ON e.id = w.endpoint AND e.database = contactsync.database_identity()"
				   " UNION SELECT t.watch, t.source, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.relid)"
				   ", missing AS (SELECT c.oid::regclass AS relation, p.tgname AS name, p.tgenabled = 'A' AS always,"
				   " p.tgtype & 32 <> 0 AS is_truncate,"
				   " substring(pg_get_triggerdef(p.oid) FROM 'EXECUTE FUNCTION .*') AS execute"
				   " FROM tree t JOIN pg_class c ON c.oid = t.relid AND c.relkind IN ('r', 'p')"
				   " JOIN pg_trigger p ON p.tgrelid = t.source AND " IS_OURS("p") " AND " WATCH_OF("p") " = t.watch"
				   " WHERE (NOT c.relispartition OR p.tgtype & 32 <> 0) AND NOT EXISTS ("
				   "SELECT FROM pg_trigger o WHERE o.tgrelid = c.oid AND o.tgtype = p.tgtype AND " IS_OURS("o")
				   " AND " WATCH_OF("o") " = t.watch)"
				   " ORDER BY c.oid, p.oid)"
				   " SELECT format('CREATE TRIGGER %I AFTER %s ON %s FOR EACH %s %s', name,"
				   " CASE WHEN is_truncate THEN 'TRUNCATE' ELSE 'INSERT OR UPDATE OR DELETE' END, relation,"
				   " CASE WHEN is_truncate THEN 'STATEMENT' ELSE 'ROW' END, execute) FROM missing"
				   " UNION ALL SELECT format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', relation, name)"
				   " FROM missing WHERE always");
}
