/*-------------------------------------------------------------------------
 *
 * reads.c
 *		Which tables and columns the expressions of a watch read.
 *
 * This is found in the queries as they are when views and row security have become
 * part of them.  What cannot be seen there, because a function may do it, counts as
 * read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/transam.h"
#include "catalog/pg_inherits.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_relation.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "store/reads.h"

CsReads *
cs_reads_create(void)
{
	CsReads    *reads = palloc0(sizeof(CsReads));

	reads->context = CurrentMemoryContext;
	return reads;
}

static CsReadTable *
find_table(CsReads *reads, Oid relid)
{
	CsReadTable *table;
	ListCell   *lc;

	foreach(lc, reads->tables)
	{
		table = lfirst(lc);
		if (table->relid == relid)
			return table;
	}
	table = palloc0(sizeof(CsReadTable));
	table->relid = relid;
	reads->tables = lappend(reads->tables, table);
	return table;
}

static void
add_table(CsReads *reads, Query *query, RangeTblEntry *entry)
{
	MemoryContext old = MemoryContextSwitchTo(reads->context);
	CsReadTable *table = find_table(reads, entry->relid);
	const Bitmapset *selected = cs_selected_columns(query, entry);
	int			member = -1;

	/* what policies read is not among what was selected */
	table->all |= entry->securityQuals != NIL;
	while ((member = bms_next_member(selected, member)) >= 0)
	{
		int			attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum > 0)
			table->columns = bms_add_member(table->columns, attnum);
		else
			table->all = true;
	}
	MemoryContextSwitchTo(old);
}

static bool
is_of_somebody(Oid function, void *arg)
{
	return function >= FirstUnpinnedObjectId;
}

static bool
add_node(Node *node, void *arg)
{
	CsReads    *reads = arg;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
	{
		reads->calls |= check_functions_in_node(node, is_of_somebody, NULL);
		return expression_tree_walker(node, add_node, arg);
	}
	foreach(lc, ((Query *) node)->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, lc);

		if (entry->rtekind == RTE_RELATION)
			add_table(reads, (Query *) node, entry);
	}
	return query_tree_walker((Query *) node, add_node, arg, 0);
}

void
cs_reads_add(CsReads *reads, List *queries)
{
	(void) add_node((Node *) queries, reads);
}

/* Are the rows of one table also those of the other, or the other way round? */
static bool
share_rows(Oid a, Oid b)
{
	return list_member_oid(find_all_inheritors(a, NoLock, NULL), b) ||
		list_member_oid(find_all_inheritors(b, NoLock, NULL), a);
}

Bitmapset *
cs_reads_columns(const CsReads *reads, Oid relid, bool *all)
{
	Bitmapset  *columns = NULL;
	bool		found = false;
	ListCell   *lc;

	*all = reads->calls;
	foreach(lc, reads->tables)
	{
		const CsReadTable *table = lfirst(lc);

		if (table->relid == relid)
		{
			found = true;
			*all |= table->all;
			columns = bms_copy(table->columns);
		}
		else if (share_rows(table->relid, relid))
			*all = true;
	}
	*all |= !found;
	return columns;
}
