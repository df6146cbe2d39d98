/*-------------------------------------------------------------------------
 *
 * unique_key.c
 *		By which columns the rows of a table can be found again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "store/unique_key.h"

/* Return the names of the key columns of an index; NIL if it cannot be a key. */
static List *
columns_of_unique_index(Relation source, Oid indexid)
{
	Relation	index = index_open(indexid, AccessShareLock);
	Form_pg_index form = index->rd_index;
	List	   *columns = NIL;
	bool		usable = form->indisunique && form->indisvalid && form->indimmediate &&
	RelationGetIndexPredicate(index) == NIL;

	for (int i = 0; usable && i < form->indnkeyatts; i++)
	{
		AttrNumber	attnum = form->indkey.values[i];

		if (attnum <= 0 || !TupleDescAttr(RelationGetDescr(source), attnum - 1)->attnotnull)
			usable = false;
		else
			columns = lappend(columns, get_attname(RelationGetRelid(source), attnum, false));
	}
	index_close(index, AccessShareLock);
	return usable ? columns : NIL;
}

static bool
has_name(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
		if (strcmp(lfirst(lc), name) == 0)
		return true;
	return false;
}

/* Compare lists of names, in any order. */
static bool
same_columns(List *a, List *b)
{
	ListCell   *lc;

	if (list_length(a) != list_length(b))
		return false;
	foreach(lc, a)
		if (!has_name(b, lfirst(lc)))
		return false;
	foreach(lc, b)
		if (!has_name(a, lfirst(lc)))
		return false;
	return true;
}

bool
cs_unique_key_is_deferrable(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		bool		found = index->rd_index->indisprimary && !index->rd_index->indimmediate;

		index_close(index, AccessShareLock);
		if (found)
			return true;
	}
	return false;
}

List *
cs_unique_key_find(Relation rel)
{
	Oid			primary = cs_primary_key_index(rel);

	return OidIsValid(primary) ? columns_of_unique_index(rel, primary) : NIL;
}

bool
cs_unique_key_has(Relation rel, List *columns)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;

	foreach(lc, indexes)
		if (same_columns(columns, columns_of_unique_index(rel, lfirst_oid(lc))))
		return true;
	return false;
}
