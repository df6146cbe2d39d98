/*-------------------------------------------------------------------------
 *
 * source_page.c
 *		Walking a source in the order of its key, a page at a time.
 *
 * A scan of a whole table must not hold a snapshot for hours, nor keep more in
 * memory than it works on, and it continues after a crash.  So it remembers only
 * the last key, as text, and each page is a query that uses the key's index.
 * Rows that are inserted or deleted during the scan do not matter to it: capture
 * queues them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "nodes/plannodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"

#include "store/row_key.h"
#include "store/source.h"
#include "store/source_page.h"

/*
 * How many rows are counted rather than estimated: that takes about 100 ms at most,
 * and a table that was just filled has no statistics.
 */
#define COUNT_LIMIT		1000000

struct CsPages
{
	const CsWatch *watch;
	MemoryContext context;
	CsPageOrder order;
	int			ncolumns;		/* to order by */
	const char *names[INDEX_MAX_KEYS + 1];
	CsKeyColumn columns[INDEX_MAX_KEYS + 1];	/* of the result; the key last */
	SPIPlanPtr	first;
	SPIPlanPtr	from;			/* from a value on, or NULL */
	SPIPlanPtr	next;
};

/* Return the n-th part of a position as a value of its column. */
static char *
parameter(const CsPages *pages, int n)
{
	Oid			type = pages->columns[n].type;

	return psprintf("$%d::%s", n + 1,
					cs_source_type_name(type));
}

/* "table"."column" */
static char *
column(const CsPages *pages, int n)
{
	return psprintf("%s.%s", quote_identifier(cs_source_alias(pages->watch)),
					quote_identifier(pages->names[n]));
}

/*
 * Append the condition that the row comes after the parameters.  An index of
 * several columns is searched by a comparison of rows, for which their operators
 * must have one name.
 */
static void
append_after(StringInfo query, const CsPages *pages)
{
	StringInfoData left;
	StringInfoData right;
	char	   *operator = cs_source_greater_than(pages->columns[0].type);

	initStringInfo(&left);
	initStringInfo(&right);
	for (int i = 0; i < pages->ncolumns; i++)
	{
		if (strcmp(cs_source_greater_than(pages->columns[i].type), operator) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the key columns of table \"%s\" have no ordering in common",
							get_rel_name(pages->watch->source)),
					 errdetail("Their operators are %s and %s.", operator,
							   cs_source_greater_than(pages->columns[i].type)),
					 errhint("Name another key when you make the watch: key => '{id}'.")));
		appendStringInfo(&left, "%s%s", i ? ", " : "", column(pages, i));
		appendStringInfo(&right, "%s%s", i ? ", " : "", parameter(pages, i));
	}
	if (pages->ncolumns == 1)
		appendStringInfo(query, "%s %s %s", left.data, operator, right.data);
	else
		appendStringInfo(query, "ROW(%s) %s ROW(%s)", left.data, operator, right.data);
}

/* Append the condition that the row is not before the parameter minus the overlap. */
static void
append_from(StringInfo query, const CsPages *pages)
{
	const CsPageOrder *order = &pages->order;
	char	   *type = cs_source_type_name(pages->columns[0].type);

	appendStringInfo(query, "%s %s GREATEST((%s OPERATOR(pg_catalog.-) %s::pg_catalog.interval)::%s, %s::%s)",
					 column(pages, 0), cs_source_greater_than(pages->columns[0].type), parameter(pages, 0),
					 quote_literal_cstr(order->overlap ? order->overlap : "0"), type,
					 order->since ? quote_literal_cstr(order->since) : "NULL", type);
}

typedef enum CsPageStart
{
	CS_AT_FIRST,				/* no parameter */
	CS_AT_VALUE,				/* the value minus the overlap */
	CS_AFTER_ROW				/* all columns */
} CsPageStart;

/* Append the conditions and the order. */
static void
append_conditions(StringInfo query, const CsPages *pages, CsPageStart start)
{
	const char *and = " WHERE ";

	if (pages->order.filter)
	{
		appendStringInfo(query, "%s(%s\n)", and, pages->order.filter);
		and = " AND ";
	}
	if (pages->order.column)
	{
		/* the key of a view may be null, too */
		for (int i = 0; i < pages->ncolumns; i++)
		{
			appendStringInfo(query, "%s%s IS NOT NULL", and, column(pages, i));
			and = " AND ";
		}
	}
	if (start != CS_AT_FIRST)
		appendStringInfoString(query, and);
	if (start == CS_AT_VALUE)
		append_from(query, pages);
	else if (start == CS_AFTER_ROW)
		append_after(query, pages);
	for (int i = 0; i < pages->ncolumns; i++)
		appendStringInfo(query, "%s%s", i ? ", " : " ORDER BY ", column(pages, i));
}

static SPIPlanPtr
prepare(const CsPages *pages, CsPageStart start, Oid reader)
{
	int			nargs = start == CS_AT_FIRST ? 0 : start == CS_AT_VALUE ? 1 : pages->ncolumns;
	Oid			types[INDEX_MAX_KEYS + 2];
	StringInfoData query;
	SPIPlanPtr	plan;

	initStringInfo(&query);
	for (int i = 0; i < pages->ncolumns; i++)
		appendStringInfo(&query, "%s%s", i ? ", " : "SELECT ", column(pages, i));
	appendStringInfo(&query, " FROM %s", cs_source_from(pages->watch));
	append_conditions(&query, pages, start);
	appendStringInfo(&query, " LIMIT $%d", nargs + 1);

	for (int i = 0; i < nargs; i++)
		types[i] = TEXTOID;
	types[nargs] = INT8OID;
	plan = cs_source_prepare(query.data, nargs + 1, types, reader);
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", query.data, SPI_result_code_string(SPI_result));
	return plan;
}

/* Fill pages->columns with what is needed of the columns of the result. */
static void
read_columns(CsPages *pages)
{
	const CsWatch *watch = pages->watch;
	Relation	rel = table_open(watch->source, AccessShareLock);

	if (pages->order.column)
		pages->names[pages->ncolumns++] = pages->order.column;
	for (int i = 0; i < watch->nkeys; i++)
		pages->names[pages->ncolumns++] = watch->keys[i];
	for (int i = 0; i < pages->ncolumns; i++)
	{
		if (!cs_row_key_read_column(rel, pages->names[i], &pages->columns[i], pages->context))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("the %s column \"%s\" does not exist any more",
							pages->order.column && i == 0 ? "poll" : "key", pages->names[i])));
		pages->columns[i].attnum = i + 1;
	}
	table_close(rel, NoLock);
}

CsPages *
cs_source_page_open(const CsWatch *watch, const CsPageOrder *order)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync pages",
												  ALLOCSET_SMALL_SIZES);
	CsPages    *pages = MemoryContextAllocZero(context, sizeof(CsPages));
	CsOwnerScope scope;

	pages->watch = watch;
	pages->order = *order;
	pages->context = context;
	cs_source_enter(watch, &scope);
	read_columns(pages);
	pages->first = prepare(pages, CS_AT_FIRST, scope.reader);
	if (order->column)
		pages->from = prepare(pages, CS_AT_VALUE, scope.reader);
	pages->next = prepare(pages, CS_AFTER_ROW, scope.reader);
	cs_source_leave(&scope);
	return pages;
}

void
cs_source_page_close(CsPages *pages)
{
	SPI_freeplan(pages->first);
	if (pages->from)
		SPI_freeplan(pages->from);
	SPI_freeplan(pages->next);
	MemoryContextDelete(pages->context);
}

/* Fill args with the parts of a position and the limit.  Return the plan. */
static SPIPlanPtr
fill_args(const CsPages *pages, const CsPagePosition *position, int limit, Datum *args)
{
	int			nargs = 0;

	if (pages->order.column && position->value)
		args[nargs++] = CStringGetTextDatum(position->value);
	for (int i = 0; i < pages->watch->nkeys && position->key; i++)
	{
		const char *part = pages->watch->nkeys == 1 ? position->key : cs_row_key_part(position->key, i);

		if (part == NULL)
			elog(ERROR, "\"%s\" is not a key of table \"%s\"", position->key,
				 get_rel_name(pages->watch->source));
		args[nargs++] = CStringGetTextDatum(part);
	}
	args[nargs] = Int64GetDatum(limit);
	return position->key ? pages->next : nargs > 0 ? pages->from : pages->first;
}

/* Put the positions of the rows of the result into "rows".  Return how many. */
static int
collect_rows(CsPages *pages, CsPagePosition *rows, MemoryContext context)
{
	int			offset = pages->ncolumns - pages->watch->nkeys;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(SPI_tuptable->tupdesc, &TTSOpsHeapTuple);
	int			n = 0;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		text	   *key;

		ExecStoreHeapTuple(SPI_tuptable->vals[i], slot, false);
		key = cs_row_key_make(context, pages->watch->nkeys, pages->columns + offset, slot);
		if (key == NULL)
			continue;
		MemoryContextSwitchTo(context);
		rows[n].value = pages->order.column ?
			SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1) : NULL;
		rows[n++].key = text_to_cstring(key);
	}
	ExecDropSingleTupleTableSlot(slot);
	return n;
}

int
cs_source_page_next(CsPages *pages, const CsPagePosition *after, int limit, CsPagePosition *rows)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		args[INDEX_MAX_KEYS + 2];
	CsOwnerScope scope;
	SPIPlanPtr	plan;
	int			n;

	cs_source_enter(pages->watch, &scope);
	plan = fill_args(pages, after, limit, args);
	cs_source_execute(plan, args);
	n = collect_rows(pages, rows, context);
	cs_source_leave(&scope);
	MemoryContextSwitchTo(context);
	return n;
}

/* Count rows, up to COUNT_LIMIT. */
static int64
count_rows(const CsPages *pages, const char *from, Oid reader)
{
	bool		isnull;
	char	   *query = psprintf("SELECT pg_catalog.count(*) FROM (%s LIMIT %d) AS r", from, COUNT_LIMIT);
	SPIPlanPtr	plan = cs_source_prepare(query, 0, NULL, reader);

	cs_source_execute(plan, NULL);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/* Return how many rows the planner expects. */
static double
plan_rows(const char *query, Oid reader)
{
	SPIPlanPtr	plan = cs_source_prepare(query, 0, NULL, reader);
	CachedPlan *cached;
	double		rows;

	cached = SPI_plan_get_cached_plan(plan);
	rows = linitial_node(PlannedStmt, cached->stmt_list)->planTree->plan_rows;
	ReleaseCachedPlan(cached, NULL);	/* a plan that is not kept has no
										 * other owner */
	return rows;
}

int64
cs_source_page_estimate(CsPages *pages)
{
	StringInfoData query;
	CsOwnerScope scope;
	int64		rows;

	cs_source_enter(pages->watch, &scope);
	initStringInfo(&query);
	appendStringInfo(&query, "SELECT 1 FROM %s", cs_source_from(pages->watch));
	if (pages->order.filter)
		appendStringInfo(&query, " WHERE (%s\n)", pages->order.filter);
	rows = count_rows(pages, query.data, scope.reader);
	if (rows == COUNT_LIMIT)
		rows = Max(rows, (int64) plan_rows(query.data, scope.reader));
	cs_source_leave(&scope);
	return rows;
}
