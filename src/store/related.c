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
	if (a->relid != b->relid || a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++)
		if (strcmp(a->columns[i], b->columns[i]) != 0 || strcmp(a->related_columns[i], b->related_columns[i]) != 0)
			return false;
	return true;
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
	return related;
}

List *
cs_related_load(int watch)
{
	static CsStatement statement = {
		"SELECT id, relation::oid, name, columns::text[], related_columns::text[] FROM contactsync.related WHERE watch = $1 ORDER BY id",
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

void
cs_related_add(int endpoint, int watch, CsRelated *related)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.related (endpoint, watch, relation, name, columns, related_columns, numbers)"
		" SELECT $1, $2, $3, $4, $5::name[], $6::name[], (SELECT array_agg(a.attnum ORDER BY o.n) FROM unnest($6) WITH ORDINALITY AS o (name, n)"
		" JOIN pg_attribute a ON a.attrelid = $3 AND a.attname = o.name) RETURNING id",
		6, {INT4OID, INT4OID, OIDOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID}
	};
	Datum		args[6];

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = ObjectIdGetDatum(related->relid);
	args[3] = CStringGetTextDatum(related->name);
	args[4] = cs_sql_make_text_array(related->n, related->columns);
	args[5] = cs_sql_make_text_array(related->n, related->related_columns);
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

void
cs_related_rename_source(int watch, int n, char **older, char **newer)
{
	static CsStatement statement = {
		"UPDATE contactsync.related r SET columns = (SELECT array_agg(COALESCE(w.newer, o.name) ORDER BY o.n)"
		" FROM unnest(r.columns) WITH ORDINALITY AS o (name, n) LEFT JOIN unnest($2, $3) AS w (older, newer) ON w.older = o.name)"
		" WHERE r.watch = $1 AND r.columns && $2::name[]",
		3, {INT4OID, TEXTARRAYOID, TEXTARRAYOID}
	};
	Datum		args[3];

	args[0] = Int32GetDatum(watch);
	args[1] = cs_sql_make_text_array(n, older);
	args[2] = cs_sql_make_text_array(n, newer);
	cs_sql_execute(&statement, args, NULL);
}

bool
cs_related_follow(int watch)
{
	static CsStatement statement = {
		"UPDATE contactsync.related r SET related_columns = " CS_RELATED_NAMES
		" WHERE r.watch = $1 AND r.related_columns <> " CS_RELATED_NAMES,
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);

	return cs_sql_execute(&statement, &arg, NULL) > 0;
}

void
cs_related_reset(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.related r SET numbers = n.numbers FROM contactsync.related o, LATERAL"
		" (SELECT array_agg(a.attnum ORDER BY c.n) AS numbers FROM unnest(o.related_columns) WITH ORDINALITY AS c (name, n)"
		" JOIN pg_attribute a ON a.attrelid = o.relation AND a.attname = c.name) n"
		" WHERE r.endpoint = $1 AND o.id = r.id AND cardinality(n.numbers) = cardinality(r.numbers)",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	cs_sql_execute(&statement, &arg, NULL);
}
