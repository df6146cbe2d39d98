/*-------------------------------------------------------------------------
 *
 * watch_key.c
 *		By which columns the rows of a source are told apart.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "store/watch_key.h"

/* Names of the key columns of an index; NIL if it cannot be a key. */
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

/* In whatever order, and each once. */
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

static bool
has_deferrable_primary_key(List *indexes)
{
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

/* Effect: an error unless these are columns of the relation. */
void
cs_watch_key_check_columns(Relation source, List *names, const char *argument)
{
	ListCell   *lc;

	foreach(lc, names)
		if (get_attnum(RelationGetRelid(source), lfirst(lc)) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of \"%s\" does not exist in table \"%s\"",
						(char *) lfirst(lc), argument, RelationGetRelationName(source))));
}

/* The columns of the primary key, or those asked for if they are unique. */
static List *
find_key(Relation source, List *wanted)
{
	List	   *indexes = RelationGetIndexList(source);
	Oid			primary = RelationGetPrimaryKeyIndex(source);
	const char *table = RelationGetRelationName(source);
	ListCell   *lc;

	if (wanted == NIL && OidIsValid(primary))
		return columns_of_unique_index(source, primary);
	if (wanted == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 has_deferrable_primary_key(indexes) ?
				 errmsg("the primary key of table \"%s\" is deferrable", table) :
				 errmsg("table \"%s\" has no primary key", table),
				 errhint("Add a primary key that is not deferrable, or name the columns of such a unique index whose columns are NOT NULL: key => '{id}'.")));
	cs_watch_key_check_columns(source, wanted, "key");
	foreach(lc, indexes)
		if (same_columns(wanted, columns_of_unique_index(source, lfirst_oid(lc))))
		return wanted;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no unique index on the columns of \"key\" of table \"%s\"", table),
			 errdetail("It must have these columns and no others, all of them NOT NULL, no WHERE, and not be deferrable.")));
}

/*
 * The key of a source that is polled: nothing can vouch for that of a view, so
 * it is taken on the word of whoever names it.
 */
static List *
find_polled_key(Relation source, List *wanted)
{
	char		kind = source->rd_rel->relkind;

	if (wanted == NIL && (kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE))
		return find_key(source, wanted);
	if (wanted == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" has no primary key", RelationGetRelationName(source)),
				 errhint("Name the columns that identify a row: key => '{id}'.")));
	cs_watch_key_check_columns(source, wanted, "key");
	return wanted;
}

List *
cs_watch_key_find(Relation source, List *wanted, bool polled)
{
	return polled ? find_polled_key(source, wanted) : find_key(source, wanted);
}
