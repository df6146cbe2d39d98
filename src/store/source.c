/*-------------------------------------------------------------------------
 *
 * source.c
 *		Running a watch's SQL over its source, as the owner of the watch.
 *
 * Mapping and filter are a user's SQL.  They run with the privileges of the watch's
 * owner, row security included, in a security-restricted, read-only operation, with
 * the search_path of the session that made the watch, and within a time limit: the
 * precautions that the server takes for an index expression.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_operator.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/interrupt.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/try.h"
#include "store/citus.h"
#include "store/reads.h"
#include "store/source.h"
#include "store/trust.h"

/*
 * Become the owner of the watch, read-only and connected to SPI, until
 * cs_source_leave() or until the (sub)transaction aborts.
 */
void
cs_source_enter(const CsWatch *watch, CsOwnerScope *scope)
{
	/*
	 * a row is the same contact, and an expression the same, whichever
	 * session delivers it
	 */
	static const char *const settings[][2] = {
		{"array_nulls", "on"},
		{"bytea_output", "hex"},
		{"datestyle", "ISO, YMD"},
		{"default_text_search_config", "pg_catalog.simple"},
		{"extra_float_digits", "1"},
		{"intervalstyle", "postgres"},
		{"lc_monetary", "C"},
		{"lc_numeric", "C"},
		{"lc_time", "C"},
		{"row_security", "on"},
		{"standard_conforming_strings", "on"},
		{"timezone", "UTC"},
		{"transform_null_equals", "off"},
		{"xmlbinary", "base64"},
		{"xmloption", "content"},
	};

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(watch->owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the owner of the watch does not exist any more")));
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	scope->guc_level = NewGUCNestLevel();
	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("search_path", watch->search_path, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	cs_sql_plan_by_index();
	if (cs_citus_has(watch->source))
		(void) set_config_option("plan_cache_mode", "force_custom_plan", PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	/* all deliveries stop while this process waits for a lock on a table */
	(void) set_config_option("lock_timeout", CS_LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(watch->source, AccessShareLock);
	scope->reader = cs_trust_reader(watch->source, watch->owner);
	SetUserIdAndSecContext(scope->reader, scope->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	scope->read_only = XactReadOnly;
	XactReadOnly = true;
	SPI_connect();
	scope->timed = cs_interrupt_begin(cs_source_timeout);
}

/* Raise an error if the SQL took too long, even if it caught what should have ended it. */
void
cs_source_leave(const CsOwnerScope *scope)
{
	bool		believed = !scope->timed || cs_interrupt_end();

	SPI_finish();
	XactReadOnly = scope->read_only;
	AtEOXact_GUC(false, scope->guc_level);	/* also what the SQL has set */
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
	if (!believed)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("%s", CS_TRY_TIMEOUT_MESSAGE)));
}

/* Prepare a query as the reader, who can trust all of its code. */
SPIPlanPtr
cs_source_prepare(const char *query, int nargs, Oid *types, Oid reader)
{
	SPIPlanPtr	plan = SPI_prepare(query, nargs, types);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", query, SPI_result_code_string(SPI_result));
	cs_trust_check_plan(plan, reader);
	return plan;
}

/* Run a query.  Raise an error if what it was prepared for has changed: it is to be
 * prepared again then, for that code may not be trusted. */
void
cs_source_execute(SPIPlanPtr plan, Datum *args)
{
	int			result;

	if (!SPI_plan_is_valid(plan))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION),
				 errmsg("a table, or something else that the watch uses, was changed while it was read")));

	/* a snapshot no older than that with which the queue was read */
	PushActiveSnapshot(GetTransactionSnapshot());
	result = SPI_execute_plan(plan, args, NULL, true, 0);
	PopActiveSnapshot();
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not read a source: %s", SPI_result_code_string(result));
}

/*
 * Expressions
 */

/* Return "schema"."type", without the type's length. */
char *
cs_source_type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

/* Return OPERATOR(schema.name); "kind" is for the error if there is none. */
static char *
operator_name(Oid operator, Oid type, const char *kind)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *result;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify an %s operator for type %s", kind, format_type_be(type))));
	form = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					  NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return result;
}

/* Return the "=" by which indexes of the type go, wherever it lives. */
char *
cs_source_equality(Oid type)
{
	return operator_name(lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr, type, "equality");
}

/* Return the ">" of the type, wherever it lives. */
char *
cs_source_greater_than(Oid type)
{
	return operator_name(lookup_type_cache(type, TYPECACHE_GT_OPR)->gt_opr, type, "ordering");
}

/* Return the name by which expressions call the source, which is not that of today if
 * the table was renamed since they were written. */
char *
cs_source_alias(const CsWatch *watch)
{
	return watch->alias ? watch->alias : get_rel_name(watch->source);
}

/* Return "schema.table AS alias". */
char *
cs_source_from(const CsWatch *watch)
{
	char	   *name = get_rel_name(watch->source);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the watched table does not exist any more")));
	return psprintf("%s AS %s",
					quote_qualified_identifier(get_namespace_name(get_rel_namespace(watch->source)), name),
					quote_identifier(cs_source_alias(watch)));
}

char *
cs_source_typed(Oid source, const char *server)
{
	char	   *table = DatumGetCString(DirectFunctionCall1(regclassout, ObjectIdGetDatum(source)));

	return psprintf("%s, %s", quote_literal_cstr(table), quote_literal_cstr(server));
}

static void
read_any_row(void *arg)
{
	CsOwnerScope scope;
	const CsWatch *watch = *(const CsWatch **) arg;
	SPIPlanPtr	plan;

	cs_source_enter(watch, &scope);
	plan = cs_source_prepare(psprintf("SELECT 1 FROM %s LIMIT 1", cs_source_from(watch)), 0, NULL,
							 scope.reader);
	cs_source_execute(plan, NULL);
	if (SPI_processed > 0)
		*(const CsWatch **) arg = NULL;
	cs_source_leave(&scope);
}

bool
cs_source_is_empty(const CsWatch *watch)
{
	return cs_try(read_any_row, &watch, NULL, NULL) == CS_TRY_OK && watch != NULL;
}

/* Return whether "SELECT ..." has one bare value and nothing else. */
static bool
is_one_value(const SelectStmt *select)
{
	ResTarget  *target;

	if (select->op != SETOP_NONE || list_length(select->targetList) != 1 ||
		select->distinctClause || select->fromClause || select->whereClause ||
		select->groupClause || select->havingClause || select->windowClause ||
		select->sortClause || select->limitCount || select->limitOffset ||
		select->lockingClause)
		return false;
	target = linitial_node(ResTarget, select->targetList);
	return target->name == NULL &&
		!(IsA(target->val, ColumnRef) && IsA(llast(((ColumnRef *) target->val)->fields), A_Star));
}

/*
 * Raise an error unless the text is a single expression.  It is parsed by itself, so
 * that the error quotes what the user wrote.
 */
static void
check_is_expression(const char *expression)
{
	List	   *statements = raw_parser(expression, RAW_PARSE_PLPGSQL_EXPR);

	if (!is_one_value(castNode(SelectStmt, linitial_node(RawStmt, statements)->stmt)))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("\"%s\" is not a single expression", expression)));
}

typedef struct CsVarWalk
{
	Bitmapset  *columns;
	int			depth;
	bool		locks;			/* a subquery is FOR UPDATE or the like */
} CsVarWalk;

/* Collect the columns of the first relation of the outermost query. */
static bool
collect_columns(Node *node, void *arg)
{
	CsVarWalk  *walk = arg;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varno == 1 && (int) var->varlevelsup == walk->depth)
			walk->columns = bms_add_member(walk->columns,
										   var->varattno - FirstLowInvalidHeapAttributeNumber);
		return false;
	}
	if (IsA(node, Query))
	{
		bool		result;

		walk->locks |= ((Query *) node)->rowMarks != NIL;
		walk->depth++;
		result = query_tree_walker((Query *) node, collect_columns, walk, 0);
		walk->depth--;
		return result;
	}
	return expression_tree_walker(node, collect_columns, walk);
}

/* Plan "SELECT (expression) FROM source". */
static CachedPlanSource *
prepare_expression(const CsWatch *watch, const char *expression)
{
	char	   *query = psprintf("SELECT (%s\n) FROM %s", expression, cs_source_from(watch));
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", query,
			 SPI_result_code_string(SPI_result));
	return (CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan));
}

/* Return the type of an expression over the source, as the current user. */
Oid
cs_source_expression_type(const CsWatch *watch, const char *expression)
{
	return TupleDescAttr(prepare_expression(watch, expression)->resultDesc, 0)->atttypid;
}

Oid
cs_source_check_expression(const CsWatch *watch, const char *expression, const char *what,
						   const char *meant, Bitmapset **columns)
{
	MemoryContext context = CurrentMemoryContext;
	volatile Oid type = InvalidOid;
	CsVarWalk	walk = {.depth = -1};

	SPI_connect();
	PG_TRY();
	{
		CachedPlanSource *plan;
		Query	   *query;

		check_is_expression(expression);
		plan = prepare_expression(watch, expression);
		query = linitial_node(Query, plan->query_list);
		if (query->hasAggs || query->hasWindowFuncs || query->hasTargetSRFs)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("an expression over one row cannot have aggregate, window or set-returning functions"),
					 errhint("A subquery can.")));
		type = TupleDescAttr(plan->resultDesc, 0)->atttypid;
		collect_columns((Node *) query, &walk);
		if (watch->reads)
			cs_reads_add(watch->reads, plan->query_list);
		if (walk.locks)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a subquery cannot lock rows")));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(ERROR,
				(errcode(error->sqlerrcode),
				 errmsg("%s is not valid: %s", what, error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) :
				 meant && error->sqlerrcode == ERRCODE_UNDEFINED_COLUMN ?
				 errhint("Perhaps you meant the column \"%s\".", meant) : 0));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	*columns = bms_union(*columns, walk.columns);
	SPI_finish();
	return type;
}
