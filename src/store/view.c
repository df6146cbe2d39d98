/*-------------------------------------------------------------------------
 *
 * view.c
 *		Taking a view apart: by which of its tables are its changes noticed?
 *
 * A view has no triggers that tell of changes, but its tables have.  It is plain if
 *
 *	- its key is a unique key of one table, the base, and no outer join adds rows
 *	  without it: so what the view has of a key depends on that row of the base, and on
 *	  what is joined to it;
 *	- it has no rows that depend on rows with other keys: no window functions, no set
 *	  operations, no LIMIT;
 *	- each other table is joined by the equality of columns with columns of the base.
 *	  So a row of it concerns only those rows of the base that have its values there,
 *	  whatever else is in the condition, and also if it makes rows of the view come and
 *	  go.
 *
 * Aggregates and DISTINCT do not matter: where a column of a unique key is not
 * aggregated, each group is of one row of the base.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "store/related_type.h"
#include "store/unique_key.h"
#include "store/view.h"

/* A table in FROM. */
typedef struct CsFromTable
{
	int			rtindex;
	Oid			relid;
	bool		nullable;		/* an outer join can leave it out */
} CsFromTable;

/* A condition that is true for each row in which one of the tables is joined. */
typedef struct CsFromCondition
{
	Node	   *condition;
	List	   *tables;			/* their indexes */
} CsFromCondition;

typedef struct CsViewWalk
{
	Query	   *query;
	List	   *tables;			/* of CsFromTable */
	List	   *conditions;		/* of CsFromCondition */
	List	   *inner;			/* OIDs of tables in subqueries */
	const CsFromTable *base;
	const char *reason;			/* why it is not plain, or NULL */
} CsViewWalk;

static void
refuse(CsViewWalk *walk, const char *reason)
{
	if (walk->reason == NULL)
		walk->reason = reason;
}

/*
 * FROM
 */

static void
add_conditions(CsViewWalk *walk, Node *quals, List *tables)
{
	CsFromCondition *condition;
	ListCell   *lc;

	if (quals == NULL)
		return;
	if (IsA(quals, List))
	{
		foreach(lc, (List *) quals)
			add_conditions(walk, lfirst(lc), tables);
	}
	else if (IsA(quals, BoolExpr) && ((BoolExpr *) quals)->boolop == AND_EXPR)
		add_conditions(walk, (Node *) ((BoolExpr *) quals)->args, tables);
	else
	{
		condition = palloc(sizeof(CsFromCondition));
		condition->condition = quals;
		condition->tables = tables;
		walk->conditions = lappend(walk->conditions, condition);
	}
}

static void
add_table(CsViewWalk *walk, int rtindex, bool nullable)
{
	RangeTblEntry *entry = rt_fetch(rtindex, walk->query->rtable);
	CsFromTable *table = palloc(sizeof(CsFromTable));
	char		kind = entry->rtekind == RTE_RELATION ? get_rel_relkind(entry->relid) : '\0';

	if (entry->rtekind == RTE_SUBQUERY)
		refuse(walk, "It has a subquery in FROM.");
	else if (entry->rtekind == RTE_FUNCTION)
		refuse(walk, "It has a function in FROM.");
	else if (kind == RELKIND_VIEW || kind == RELKIND_MATVIEW || kind == RELKIND_FOREIGN_TABLE)
		refuse(walk, psprintf("It is made of \"%s\", which is not a table.", get_rel_name(entry->relid)));
	else if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) || entry->tablesample)
		refuse(walk, "It is made of something else than tables.");
	table->rtindex = rtindex;
	table->relid = entry->relid;
	table->nullable = nullable;
	walk->tables = lappend(walk->tables, table);
}

/*
 * Collect the tables of a part of FROM, and the conditions there; return the indexes of
 * the tables.  The condition of an outer join is true only for rows in which the tables
 * are joined that it can leave out.
 */
static List *
walk_from(CsViewWalk *walk, Node *node, bool nullable)
{
	JoinExpr   *join = (JoinExpr *) node;
	List	   *tables = NIL;
	List	   *left;
	List	   *right;
	ListCell   *lc;

	check_stack_depth();
	if (IsA(node, RangeTblRef))
	{
		add_table(walk, ((RangeTblRef *) node)->rtindex, nullable);
		return list_make1_int(((RangeTblRef *) node)->rtindex);
	}
	if (IsA(node, FromExpr))
	{
		foreach(lc, ((FromExpr *) node)->fromlist)
			tables = list_concat(tables, walk_from(walk, lfirst(lc), nullable));
		add_conditions(walk, ((FromExpr *) node)->quals, tables);
		return tables;
	}
	if (!IsA(node, JoinExpr) ||
		(join->jointype != JOIN_INNER && join->jointype != JOIN_LEFT && join->jointype != JOIN_RIGHT))
	{
		refuse(walk, "It has a FULL JOIN.");
		return NIL;
	}
	left = walk_from(walk, join->larg, nullable || join->jointype == JOIN_RIGHT);
	right = walk_from(walk, join->rarg, nullable || join->jointype == JOIN_LEFT);
	tables = list_concat_copy(left, right);
	add_conditions(walk, join->quals, join->jointype == JOIN_INNER ? tables : join->jointype == JOIN_LEFT ? right : left);
	return tables;
}

/* Collect the tables in subqueries. */
static bool
walk_subqueries(Node *node, void *arg)
{
	CsViewWalk *walk = arg;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, walk_subqueries, arg);
	if (node != (Node *) walk->query)
	{
		foreach(lc, ((Query *) node)->rtable)
		{
			RangeTblEntry *entry = lfirst_node(RangeTblEntry, lc);

			if (entry->rtekind == RTE_RELATION)
				walk->inner = list_append_unique_oid(walk->inner, entry->relid);
		}
	}
	return query_tree_walker((Query *) node, walk_subqueries, arg, 0);
}

/* What the query must not have. */
static void
check_query(CsViewWalk *walk)
{
	const Query *query = walk->query;

	if (query->setOperations)
		refuse(walk, "It has UNION, INTERSECT or EXCEPT.");
	if (query->hasWindowFuncs)
		refuse(walk, "It has window functions.");
	if (query->limitCount || query->limitOffset)
		refuse(walk, "It has LIMIT or OFFSET.");
	if (query->groupingSets)
		refuse(walk, "It has grouping sets.");
	if (query->cteList)
		refuse(walk, "It has WITH.");
	if (query->hasTargetSRFs)
		refuse(walk, "It has functions that return sets.");
	if (query->distinctClause && query->hasDistinctOn)
		refuse(walk, "It has DISTINCT ON.");
}

/*
 * Columns
 */

/* Return the column of a table in FROM that an expression is, or NULL. */
static const Var *
column_of(const CsViewWalk *walk, Node *node)
{
	const Var  *var;
	const RangeTblEntry *entry;
	List	   *grouped;

	while (node && IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	var = (const Var *) node;
	if (node == NULL || !IsA(node, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return NULL;
	entry = rt_fetch(var->varno, walk->query->rtable);
	grouped = cs_grouped_expressions(entry);
	if (entry->rtekind == RTE_JOIN || grouped)
		return column_of(walk, list_nth(grouped ? grouped : entry->joinaliasvars, var->varattno - 1));
	return entry->rtekind == RTE_RELATION ? var : NULL;
}

/* Return what a column of the view is. */
static const Var *
column_of_view(const CsViewWalk *walk, Oid view, const char *name)
{
	AttrNumber	attnum = get_attnum(view, name);
	ListCell   *lc;

	foreach(lc, walk->query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (!entry->resjunk && entry->resno == attnum)
			return IsA(entry->expr, Var) ? column_of(walk, (Node *) entry->expr) : NULL;
	}
	return NULL;
}

static const CsFromTable *
find_table(const CsViewWalk *walk, int rtindex)
{
	ListCell   *lc;

	foreach(lc, walk->tables)
		if (((CsFromTable *) lfirst(lc))->rtindex == rtindex)
		return lfirst(lc);
	return NULL;
}

/*
 * Tables
 */

static CsRelated *
create(const CsFromTable *table, char kind, int n)
{
	CsRelated  *related = palloc0(sizeof(CsRelated));

	related->relid = table->relid;
	related->name = get_rel_name(table->relid);
	related->kind = kind;
	related->derived = true;
	related->columns = palloc(Max(n, 1) * sizeof(char *));
	related->related_columns = palloc(Max(n, 1) * sizeof(char *));
	return related;
}

static void
add_columns(CsRelated *related, char *column, char *related_column)
{
	related->columns[related->n] = column;
	related->related_columns[related->n++] = related_column;
}

static bool
is_unique(Oid relid, const CsRelated *base)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	List	   *columns = NIL;
	bool		result;

	for (int i = 0; i < base->n; i++)
		columns = lappend(columns, base->related_columns[i]);
	result = cs_unique_key_has(rel, columns);
	relation_close(rel, NoLock);
	return result;
}

/* Find the base: the table that the key is of. */
static CsRelated *
find_base(CsViewWalk *walk, Oid view, int nkeys, char **keys)
{
	CsRelated  *base = NULL;

	for (int i = 0; i < nkeys && walk->reason == NULL; i++)
	{
		const Var  *var = column_of_view(walk, view, keys[i]);
		const CsFromTable *table = var ? find_table(walk, var->varno) : NULL;

		if (table == NULL)
			refuse(walk, psprintf("Its key column \"%s\" is no column of a table.", keys[i]));
		else if (walk->base && walk->base != table)
			refuse(walk, "Its key columns are of several tables.");
		else
		{
			walk->base = table;
			base = base ? base : create(table, CS_RELATED_BASE, nkeys);
			add_columns(base, pstrdup(keys[i]), get_attname(table->relid, var->varattno, false));
		}
	}
	if (walk->reason == NULL && walk->base->nullable)
		refuse(walk, psprintf("An outer join can leave out table \"%s\", which its key is of.", base->name));
	if (walk->reason == NULL && !is_unique(base->relid, base))
		refuse(walk, psprintf("Its key is no unique key of table \"%s\".", base->name));
	return base;
}

/* Does an operator compare for equality as indexes do? */
static bool
is_equality(const OpExpr *op)
{
	return IsA(op, OpExpr) && list_length(op->args) == 2 && get_mergejoin_opfamilies(op->opno) != NIL &&
		(!OidIsValid(op->inputcollid) || get_collation_isdeterministic(op->inputcollid));
}

/* If a condition says that a column of the table equals one of the base, add these. */
static void
add_equality(const CsViewWalk *walk, CsRelated *related, const CsFromTable *table, const OpExpr *op)
{
	const Var  *column;
	const Var  *other;

	if (!is_equality(op) || related->n == INDEX_MAX_KEYS)
		return;
	column = column_of(walk, linitial(op->args));
	other = column_of(walk, lsecond(op->args));
	if (column && column->varno == table->rtindex)
	{
		const Var  *swap = column;

		column = other;
		other = swap;
	}
	if (column == NULL || other == NULL || column->varno != walk->base->rtindex || other->varno != table->rtindex ||
		cs_related_type_equality(getBaseType(column->vartype), getBaseType(other->vartype)) == NULL)
		return;
	add_columns(related, get_attname(walk->base->relid, column->varattno, false),
				get_attname(table->relid, other->varattno, false));
}

/* Find out how a table is joined to the base. */
static CsRelated *
find_join(CsViewWalk *walk, const CsFromTable *table, List *named)
{
	CsRelated  *related = create(table, CS_RELATED_TO_BASE, INDEX_MAX_KEYS);
	ListCell   *lc;

	foreach(lc, walk->conditions)
	{
		const CsFromCondition *condition = lfirst(lc);

		if (list_member_int(condition->tables, table->rtindex))
			add_equality(walk, related, table, (OpExpr *) condition->condition);
	}
	if (related->n == 0 && !list_member_oid(named, table->relid))
		refuse(walk, psprintf("Table \"%s\" is not joined by the equality of a column with one of table \"%s\".",
							  related->name, get_rel_name(walk->base->relid)));
	return related->n > 0 ? related : NULL;
}

static void
check_subqueries(CsViewWalk *walk, List *named)
{
	ListCell   *lc;

	(void) walk_subqueries((Node *) walk->query, walk);
	foreach(lc, walk->inner)
		if (!list_member_oid(named, lfirst_oid(lc)))
		refuse(walk, psprintf("A subquery reads \"%s\", which \"related\" does not name.", get_rel_name(lfirst_oid(lc))));
}

/* Row security may show one role what it does not show another. */
static void
check_row_security(CsViewWalk *walk, const List *tables)
{
	ListCell   *lc;

	foreach(lc, tables)
	{
		const CsRelated *related = lfirst(lc);
		Relation	rel = relation_open(related->relid, AccessShareLock);

		if (rel->rd_rel->relrowsecurity)
			refuse(walk, psprintf("Row security is enabled for table \"%s\".", related->name));
		relation_close(rel, NoLock);
	}
}

/* Read FROM, and find the base.  Return NULL if the view is not plain. */
static CsRelated *
begin(CsViewWalk *walk, Relation view, int nkeys, char **keys)
{
	walk->query = get_view_query(view);
	check_query(walk);
	(void) walk_from(walk, (Node *) walk->query->jointree, false);
	return walk->reason ? NULL : find_base(walk, RelationGetRelid(view), nkeys, keys);
}

List *
cs_view_take_apart(Oid view, int nkeys, char **keys, List *named, const char **reason)
{
	CsViewWalk	walk = {0};
	Relation	rel = relation_open(view, AccessShareLock);
	CsRelated  *base = begin(&walk, rel, nkeys, keys);
	List	   *tables = base ? list_make1(base) : NIL;
	ListCell   *lc;

	foreach(lc, walk.tables)
	{
		CsRelated  *related;

		if (walk.reason || lfirst(lc) == walk.base)
			continue;
		related = find_join(&walk, lfirst(lc), named);
		if (related && cs_related_find_equal(tables, related) == NULL)
			tables = lappend(tables, related);
	}
	if (walk.reason == NULL)
		check_subqueries(&walk, named);
	if (walk.reason == NULL)
		check_row_security(&walk, tables);
	relation_close(rel, NoLock);
	*reason = walk.reason;
	return walk.reason ? NIL : tables;
}

char *
cs_view_column_of_base(Oid view, int nkeys, char **keys, const char *column)
{
	CsViewWalk	walk = {0};
	Relation	rel = relation_open(view, AccessShareLock);
	const Var  *var = NULL;

	(void) begin(&walk, rel, nkeys, keys);
	if (walk.reason == NULL)
		var = column_of_view(&walk, view, column);
	relation_close(rel, NoLock);
	return var && var->varno == walk.base->rtindex ? get_attname(walk.base->relid, var->varattno, false) : NULL;
}
