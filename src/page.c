/*-------------------------------------------------------------------------
 *
 * page.c
 *		Walking a source in the order of its key, a page at a time.
 *
 * A scan of a whole table must not hold a snapshot for hours, nor keep more in
 * memory than it works on, and it goes on after a crash.  So it remembers the
 * last key only, as text, and each page is a query by the index of the key.
 * Rows that come or go meanwhile are no concern of the walk: whoever changes
 * them has them queued.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "json.h"
#include "page.h"
#include "rowkey.h"
#include "source.h"

struct CsPages
{
	const CsWatch *watch;
	MemoryContext context;
	CsKeyColumn columns[INDEX_MAX_KEYS];	/* of the result */
	SPIPlanPtr	first;
	SPIPlanPtr	next;
};

/* The ">" of a type's values, wherever it lives. */
static char *
greater_than(Oid type)
{
	Oid			operator = lookup_type_cache(type, TYPECACHE_GT_OPR)->gt_opr;
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *result;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify an ordering operator for type %s",
						format_type_be(type))));
	form = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					  NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return result;
}

/* The n-th part of "after" as a value of its column. */
static char *
parameter(const CsPages *pages, int n)
{
	Oid			type = pages->columns[n].type;

	return psprintf("$%d::%s", n + 1,
					format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
}

/* "table"."column" */
static char *
column(const CsPages *pages, int n)
{
	return psprintf("%s.%s", quote_identifier(get_rel_name(pages->watch->source)),
					quote_identifier(pages->watch->keys[n]));
}

/*
 * Effect: appends that the key comes after the parameters.  A comparison of
 * rows is what an index of several columns is searched by; where the operators
 * of the columns differ, the first column alone has to do for that.
 */
static void
append_after(StringInfo query, const CsPages *pages, int nkeys)
{
	StringInfoData left;
	StringInfoData right;
	char	   *operator = greater_than(pages->columns[0].type);

	initStringInfo(&left);
	initStringInfo(&right);
	for (int i = 0; i < nkeys; i++)
	{
		if (strcmp(greater_than(pages->columns[i].type), operator) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the key columns of table \"%s\" have no ordering in common",
							get_rel_name(pages->watch->source)),
					 errdetail("Their operators are %s and %s.", operator,
							   greater_than(pages->columns[i].type)),
					 errhint("Name another key when you make the watch: key => '{id}'.")));
		appendStringInfo(&left, "%s%s", i ? ", " : "", column(pages, i));
		appendStringInfo(&right, "%s%s", i ? ", " : "", parameter(pages, i));
	}
	if (nkeys == 1)
		appendStringInfo(query, " WHERE %s %s %s", left.data, operator, right.data);
	else
		appendStringInfo(query, " WHERE ROW(%s) %s ROW(%s)", left.data, operator, right.data);
}

static SPIPlanPtr
prepare(const CsPages *pages, bool first)
{
	const CsWatch *watch = pages->watch;
	int			nargs = first ? 0 : watch->nkeys;
	Oid			types[INDEX_MAX_KEYS + 1];
	StringInfoData query;
	SPIPlanPtr	plan;

	initStringInfo(&query);
	for (int i = 0; i < watch->nkeys; i++)
		appendStringInfo(&query, "%s%s", i ? ", " : "SELECT ", column(pages, i));
	appendStringInfo(&query, " FROM %s", cs_source_from(watch->source));
	if (!first)
		append_after(&query, pages, watch->nkeys);
	for (int i = 0; i < watch->nkeys; i++)
		appendStringInfo(&query, "%s%s", i ? ", " : " ORDER BY ", column(pages, i));
	appendStringInfo(&query, " LIMIT $%d", nargs + 1);

	for (int i = 0; i < nargs; i++)
		types[i] = TEXTOID;
	types[nargs] = INT8OID;
	plan = SPI_prepare(query.data, nargs + 1, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", query.data, SPI_result_code_string(SPI_result));
	return plan;
}

/* Effect: pages->columns describe the columns of the result. */
static void
read_columns(CsPages *pages)
{
	Relation	rel = table_open(pages->watch->source, AccessShareLock);

	for (int i = 0; i < pages->watch->nkeys; i++)
	{
		if (!cs_rowkey_read_column(rel, pages->watch->keys[i], &pages->columns[i], pages->context))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("the key column \"%s\" does not exist any more",
							pages->watch->keys[i])));
		pages->columns[i].attnum = i + 1;
	}
	table_close(rel, NoLock);
}

CsPages *
cs_pages_open(const CsWatch *watch)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync pages",
												  ALLOCSET_SMALL_SIZES);
	CsPages    *pages = MemoryContextAllocZero(context, sizeof(CsPages));
	CsOwnerScope scope;

	pages->watch = watch;
	pages->context = context;
	cs_source_enter(watch, &scope);
	read_columns(pages);
	pages->first = prepare(pages, true);
	pages->next = prepare(pages, false);
	cs_source_leave(&scope);
	return pages;
}

void
cs_pages_close(CsPages *pages)
{
	SPI_freeplan(pages->first);
	SPI_freeplan(pages->next);
	MemoryContextDelete(pages->context);
}

/* Effect: args are the parts of a key, and the limit. */
static void
fill_args(const CsPages *pages, const char *after, int limit, Datum *args)
{
	int			nargs = after ? pages->watch->nkeys : 0;

	for (int i = 0; i < nargs; i++)
	{
		const char *part = after;

		if (nargs > 1)
			part = cs_json_string(cs_json_item(cs_json_parse(after, strlen(after)), i));
		if (part == NULL)
			elog(ERROR, "\"%s\" is not a key of table \"%s\"", after,
				 get_rel_name(pages->watch->source));
		args[i] = CStringGetTextDatum(part);
	}
	args[nargs] = Int64GetDatum(limit);
}

int
cs_pages_next(CsPages *pages, const char *after, int limit, char **keys)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		args[INDEX_MAX_KEYS + 1];
	CsOwnerScope scope;
	TupleTableSlot *slot;
	int			n = 0;

	cs_source_enter(pages->watch, &scope);
	fill_args(pages, after, limit, args);
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute_plan(after ? pages->next : pages->first, args, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read keys: %s", SPI_result_code_string(SPI_result));
	PopActiveSnapshot();
	slot = MakeSingleTupleTableSlot(SPI_tuptable->tupdesc, &TTSOpsHeapTuple);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		text	   *key;

		ExecStoreHeapTuple(SPI_tuptable->vals[i], slot, false);
		key = cs_rowkey_make(context, pages->watch->nkeys, pages->columns, slot);
		if (key == NULL)
			continue;
		MemoryContextSwitchTo(context);
		keys[n++] = text_to_cstring(key);
	}
	ExecDropSingleTupleTableSlot(slot);
	cs_source_leave(&scope);
	MemoryContextSwitchTo(context);
	return n;
}
