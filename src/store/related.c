/*-------------------------------------------------------------------------
 *
 * related.c
 *		contactsync.related: tables that the mapping of a watch uses.
 *
 * A related table is known by its OID and its columns by their numbers, so that both
 * may be renamed.  The number of the row itself, in triggers and in the queue, is not
 * used again: what was queued for a related table that the watch has no more is known
 * to be for that one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/sql.h"
#include "store/related.h"

/* The first columns of contactsync.related. */
enum
{
	RELATED_ID = 1,
	RELATED_ENDPOINT,
	RELATED_WATCH,
	RELATED_RELATION
};

bool
cs_related_equal(const CsRelated *a, const CsRelated *b)
{
	if (a->relid != b->relid || a->n != b->n || a->kind != b->kind)
		return false;
	for (int i = 0; i < a->n; i++)
		if (strcmp(a->columns[i], b->columns[i]) != 0 || strcmp(a->related_columns[i], b->related_columns[i]) != 0)
			return false;
	return true;
}

CsRelated *
cs_related_find_equal(const List *list, const CsRelated *related)
{
	ListCell   *lc;

	foreach(lc, list)
		if (cs_related_equal(lfirst(lc), related))
		return lfirst(lc);
	return NULL;
}

const CsRelated *
cs_related_base(const List *related)
{
	ListCell   *lc;

	foreach(lc, related)
		if (((CsRelated *) lfirst(lc))->kind == CS_RELATED_BASE)
		return lfirst(lc);
	return NULL;
}

bool
cs_related_covers(int endpoint, int watch, int id, Oid relid)
{
	Oid			schema = get_namespace_oid(CS_SCHEMA, true);
	Oid			table = OidIsValid(schema) ? get_relname_relid("related", schema) : InvalidOid;
	Oid			related = InvalidOid;
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	if (!OidIsValid(table))
		return false;
	rel = table_open(table, AccessShareLock);
	ScanKeyInit(&key, RELATED_ID, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
	scan = systable_beginscan(rel, cs_primary_key_index(rel), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		TupleDesc	desc = RelationGetDescr(rel);
		bool		isnull;

		if (DatumGetInt32(heap_getattr(tuple, RELATED_ENDPOINT, desc, &isnull)) == endpoint &&
			DatumGetInt32(heap_getattr(tuple, RELATED_WATCH, desc, &isnull)) == watch)
			related = DatumGetObjectId(heap_getattr(tuple, RELATED_RELATION, desc, &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return OidIsValid(related) &&
		(related == relid || typeInheritsFrom(get_rel_type_id(relid), get_rel_type_id(related)));
}

static CsRelated *
related_of_row(int row)
{
	CsRelated  *related = palloc0(sizeof(CsRelated));
	bool		isnull;

	related->id = cs_sql_int(row, 1);
	related->relid = DatumGetObjectId(cs_sql_value(row, 2, &isnull));
	related->name = cs_sql_text(row, 3);
	related->columns = cs_sql_text_array(cs_sql_value(row, 4, &isnull), &related->n);
	related->related_columns = cs_sql_text_array(cs_sql_value(row, 5, &isnull), &related->n);
	related->kind = DatumGetChar(cs_sql_value(row, 6, &isnull));
	related->derived = DatumGetBool(cs_sql_value(row, 7, &isnull));
	return related;
}

List *
cs_related_load(int watch)
{
	static CsStatement statement = {
		"SELECT id, relation::oid, name, columns::text[], related_columns::text[], kind, derived FROM contactsync.related WHERE watch = $1 ORDER BY id",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);
	MemoryContext context = CurrentMemoryContext;
	uint64		n = cs_sql_execute(&statement, &arg, NULL);
	List	   *result = NIL;

	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
		result = lappend(result, related_of_row(i));
	return result;
}

/* The numbers that columns have now. */
#define NUMBERS_OF(table, names) \
	"(SELECT array_agg(a.attnum ORDER BY m.n) FROM unnest(" names ") WITH ORDINALITY AS m (name, n)" \
	" JOIN pg_attribute a ON a.attrelid = " table " AND a.attname = m.name)"

/* The base of a view has to be added before what is related to it. */
void
cs_related_add(int endpoint, int watch, CsRelated *related)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.related (endpoint, watch, relation, name, columns, related_columns, kind, derived, numbers, column_numbers)"
		" SELECT r.*, " NUMBERS_OF("r.relation", "r.related_columns") ", " NUMBERS_OF(CS_RELATED_SOURCE("r"), "r.columns")
		" FROM (SELECT $1 AS endpoint, $2 AS watch, $3 AS relation, $4 AS name, $5::name[] AS columns, $6::name[] AS related_columns,"
		" $7 AS kind, $8 AS derived) r RETURNING id",
		8, {INT4OID, INT4OID, OIDOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, CHAROID, BOOLOID}
	};
	Datum		args[8];

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = ObjectIdGetDatum(related->relid);
	args[3] = CStringGetTextDatum(related->name);
	args[4] = cs_sql_make_text_array(related->n, related->columns);
	args[5] = cs_sql_make_text_array(related->n, related->related_columns);
	args[6] = CharGetDatum(related->kind);
	args[7] = BoolGetDatum(related->derived);
	cs_sql_execute(&statement, args, NULL);
	related->id = cs_sql_int(0, 1);
}

void
cs_related_delete(const CsRelated *related)
{
	static CsStatement statement = {"DELETE FROM contactsync.related WHERE id = $1", 1, {INT4OID}};
	Datum		arg = Int32GetDatum(related->id);

	cs_sql_execute(&statement, &arg, NULL);
}

bool
cs_related_follow(int watch)
{
	static CsStatement statement = {
		"UPDATE contactsync.related r SET related_columns = " CS_RELATED_NAMES ", columns = " CS_RELATED_SOURCE_NAMES
		" WHERE r.watch = $1 AND (r.related_columns <> " CS_RELATED_NAMES " OR r.columns <> " CS_RELATED_SOURCE_NAMES ")",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);

	return cs_sql_execute(&statement, &arg, NULL) > 0;
}

void
cs_related_reset(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.related r SET numbers = n.numbers, column_numbers = n.column_numbers FROM contactsync.related o, LATERAL"
		" (SELECT " NUMBERS_OF("o.relation", "o.related_columns") " AS numbers, " NUMBERS_OF(CS_RELATED_SOURCE("o"), "o.columns") " AS column_numbers) n"
		" WHERE r.endpoint = $1 AND o.id = r.id AND cardinality(n.numbers) = cardinality(r.numbers)"
		" AND cardinality(n.column_numbers) = cardinality(r.column_numbers)",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	cs_sql_execute(&statement, &arg, NULL);
}
