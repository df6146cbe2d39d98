/*-------------------------------------------------------------------------
 *
 * source.c
 *		Reading source rows as contacts, as the owner of the watch.
 *
 * Mapping and filter are somebody's SQL.  They run with the rights of the
 * watch's owner, row security included, in a security-restricted, read-only
 * operation, with the search_path of the session that made the watch, and
 * within a time limit: the same precautions as for an index expression.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/typcache.h"

#include "base/contactsync.h"
#include "base/encoding.h"
#include "base/settings.h"
#include "base/sql.h"
#include "http/json.h"
#include "store/source.h"

/* How the value of a mapped expression becomes part of a contact. */
typedef enum CsConversion
{
	CS_AS_TEXT,					/* cast to text */
	CS_AS_BOOLEAN,
	CS_AS_JSON,					/* to_jsonb() */
	CS_AS_NUMBER,				/* its output is a JSON number, or a word */
	CS_AS_STRING				/* text that becomes a JSON string */
} CsConversion;

/* Everybody's delivery stands still while a locked table is waited for. */
#define LOCK_TIMEOUT	"100ms"

typedef struct CsColumn
{
	const CsMapped *mapped;
	CsConversion conversion;
	bool		varlena;		/* what it is converted to */
	FmgrInfo	output;			/* of CS_AS_NUMBER */
} CsColumn;

struct CsSource
{
	const CsWatch *watch;
	MemoryContext context;
	SPIPlanPtr	plan;
	CsColumn   *columns;		/* one per watch->mapped */
};

/*
 * Effect: until cs_source_leave() we are the owner of the watch, and may only read.
 * An aborting (sub)transaction puts all of it back by itself.
 */
void
cs_source_enter(const CsWatch *watch, CsOwnerScope *scope)
{
	/* one row is one contact, whoever delivers it */
	static const char *const settings[][2] = {
		{"bytea_output", "hex"},
		{"datestyle", "ISO, YMD"},
		{"extra_float_digits", "1"},
		{"intervalstyle", "postgres"},
		{"row_security", "on"},
		{"timezone", "UTC"},
	};

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(watch->owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the owner of the watch does not exist any more")));
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	SetUserIdAndSecContext(watch->owner, scope->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	scope->guc_level = NewGUCNestLevel();
	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("search_path", watch->search_path, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	cs_sql_plan_by_index();
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	scope->read_only = XactReadOnly;
	XactReadOnly = true;
	SPI_connect();
}

void
cs_source_leave(const CsOwnerScope *scope)
{
	SPI_finish();
	XactReadOnly = scope->read_only;
	AtEOXact_GUC(false, scope->guc_level);	/* theirs as well as ours */
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
}

/*
 * Expressions
 */

/* Does the clause list of "SELECT ..." hold one bare value and nothing else? */
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
 * Effect: an error unless the text is one expression and nothing else.  It is
 * parsed by itself, so that what the error quotes is what the user wrote.
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

/* A query over the source under its own name, as the expressions expect it. */
char *
cs_source_from(Oid source)
{
	char	   *name = get_rel_name(source);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the watched table does not exist any more")));
	return psprintf("%s AS %s",
					quote_qualified_identifier(get_namespace_name(get_rel_namespace(source)), name),
					quote_identifier(name));
}

typedef struct CsVarWalk
{
	Bitmapset  *columns;
	int			depth;
	bool		locks;			/* a subquery is FOR UPDATE or the like */
} CsVarWalk;

/* Collects the columns of the first relation of the outermost query. */
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

/* The plan of "SELECT (expression) FROM source".  Errors: as SPI_prepare(). */
static CachedPlanSource *
prepare_expression(Oid source, const char *expression)
{
	char	   *query = psprintf("SELECT (%s\n) FROM %s", expression, cs_source_from(source));
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", query,
			 SPI_result_code_string(SPI_result));
	return (CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan));
}

Oid
cs_source_check_expression(Relation source, const char *expression, const char *what,
						   Bitmapset **columns)
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
		plan = prepare_expression(RelationGetRelid(source), expression);
		query = linitial_node(Query, plan->query_list);
		if (query->hasAggs || query->hasWindowFuncs || query->hasTargetSRFs)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("an expression over one row cannot have aggregate, window or set-returning functions"),
					 errhint("A subquery can.")));
		type = TupleDescAttr(plan->resultDesc, 0)->atttypid;
		collect_columns((Node *) query, &walk);
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
				 error->hint ? errhint("%s", error->hint) : 0));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	*columns = bms_union(*columns, walk.columns);
	SPI_finish();
	return type;
}

/*
 * The query of a watch
 */

/* Attributes keep their JSON type; what has none becomes what to_jsonb() says. */
static CsConversion
conversion_of_attribute(Oid type)
{
	switch (getBaseType(type))
	{
		case BOOLOID:
			return CS_AS_BOOLEAN;
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			return CS_AS_NUMBER;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return CS_AS_STRING;
		default:
			return CS_AS_JSON;
	}
}

static CsConversion
conversion_of(const CsMapped *mapped, Oid type)
{
	switch (mapped->field)
	{
		case CS_ATTRIBUTES:
			return conversion_of_attribute(type);
		case CS_OPT_IN:
			return CS_AS_BOOLEAN;
		case CS_TAGS:
		case CS_TOPICS:
			return CS_AS_JSON;
		default:
			return CS_AS_TEXT;
	}
}

static const char *
cast_of(CsConversion conversion)
{
	switch (conversion)
	{
		case CS_AS_TEXT:
		case CS_AS_STRING:
			return "(%s\n)::pg_catalog.text";
		case CS_AS_BOOLEAN:
			return "(%s\n)::pg_catalog.bool";
		case CS_AS_JSON:
			return "pg_catalog.to_jsonb((%s\n))";
		case CS_AS_NUMBER:
			return "(%s\n)";
	}
	return NULL;
}

/* "schema"."type" without its length. */
static char *
type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

/* The "=" of a type's values, by which its indexes go, wherever it lives. */
static char *
equality_of(Oid type)
{
	Oid			operator = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *result;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify an equality operator for type %s",
						format_type_be(type))));
	form = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					  NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return result;
}

/* Effect: appends that a column of the source is the text "value". */
static void
append_key_condition(StringInfo query, Oid source, const char *column, const char *value)
{
	AttrNumber	attnum = get_attnum(source, column);
	Oid			type = attnum > 0 ? get_atttype(source, attnum) : InvalidOid;

	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("the key column \"%s\" does not exist any more", column)));
	type = getBaseType(type);
	appendStringInfo(query, "%s.%s %s %s::%s", quote_identifier(get_rel_name(source)),
					 quote_identifier(column), equality_of(type), value, type_name(type));
}

/*
 * The query: for the n-th key, whether the filter lets the row through, and
 * the mapped values.  The source stands alone in its own subquery, so that no
 * name of ours gets between an expression and the columns it means; OFFSET 0
 * keeps it there, so that it is looked up key by key whatever the statistics
 * say, and no expression sees any other row.
 */
static char *
build_query(CsSource *source)
{
	const CsWatch *watch = source->watch;
	const char *keys = strcmp(get_rel_name(watch->source), "contactsync_keys") == 0 ? "contactsync_keys_" : "contactsync_keys";
	StringInfoData query;

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT %s.n, s.* FROM ROWS FROM (", keys);
	for (int i = 0; i < watch->nkeys; i++)
		appendStringInfo(&query, "%spg_catalog.unnest($%d::pg_catalog.text[])", i ? ", " : "", i + 1);
	appendStringInfo(&query, ") WITH ORDINALITY AS %s (", keys);
	for (int i = 0; i < watch->nkeys; i++)
		appendStringInfo(&query, "k%d, ", i);
	appendStringInfoString(&query, "n), LATERAL (SELECT ");
	for (int i = 0; i < watch->nmapped; i++)
	{
		appendStringInfoString(&query, i ? ", " : "");
		appendStringInfo(&query, cast_of(source->columns[i].conversion),
						 watch->mapped[i].expression);
	}
	appendStringInfo(&query, " FROM %s WHERE ", cs_source_from(watch->source));
	for (int i = 0; i < watch->nkeys; i++)
	{
		appendStringInfoString(&query, i ? " AND " : "");
		append_key_condition(&query, watch->source, watch->keys[i], psprintf("%s.k%d", keys, i));
	}
	if (watch->filter)
		appendStringInfo(&query, " AND (%s\n)", watch->filter);
	appendStringInfoString(&query, " OFFSET 0) AS s");
	return query.data;
}

/* Effect: finds out how each mapped value is to be converted. */
static void
read_columns(CsSource *source)
{
	const CsWatch *watch = source->watch;

	source->columns = MemoryContextAllocZero(source->context,
											 Max(watch->nmapped, 1) * sizeof(CsColumn));
	for (int i = 0; i < watch->nmapped; i++)
	{
		CsColumn   *column = &source->columns[i];
		CachedPlanSource *plan = prepare_expression(watch->source, watch->mapped[i].expression);
		Oid			type = TupleDescAttr(plan->resultDesc, 0)->atttypid;
		Oid			output;
		bool		is_varlena;

		column->mapped = &watch->mapped[i];
		column->conversion = conversion_of(column->mapped, type);
		column->varlena = column->conversion != CS_AS_BOOLEAN && column->conversion != CS_AS_NUMBER;
		getTypeOutputInfo(type, &output, &is_varlena);
		fmgr_info_cxt(output, &column->output, source->context);
	}
}

CsSource *
cs_source_open(const CsWatch *watch)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync source",
												  ALLOCSET_SMALL_SIZES);
	CsSource   *source = MemoryContextAllocZero(context, sizeof(CsSource));
	Oid			types[INDEX_MAX_KEYS];
	CsOwnerScope scope;

	source->watch = watch;
	source->context = context;
	cs_source_enter(watch, &scope);
	read_columns(source);
	for (int i = 0; i < watch->nkeys; i++)
		types[i] = TEXTARRAYOID;
	source->plan = SPI_prepare(build_query(source), watch->nkeys, types);
	if (source->plan == NULL || SPI_keepplan(source->plan) != 0)
		elog(ERROR, "could not prepare to read a source: %s",
			 SPI_result_code_string(SPI_result));
	cs_source_leave(&scope);
	MemoryContextSetParent(context, TopMemoryContext);
	return source;
}

void
cs_source_close(CsSource *source)
{
	SPI_freeplan(source->plan);
	MemoryContextDelete(source->context);
}

/*
 * Rows as contacts
 */

/* UTF-8 of a text in the database's encoding, palloc'd. */
static char *
text_to_utf8(Datum datum)
{
	text	   *packed = DatumGetTextPP(datum);

	return cs_encoding_to_utf8(VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
}

static char *
quote_json(const char *utf8)
{
	StringInfoData out;

	initStringInfo(&out);
	cs_json_quote(&out, utf8);
	return out.data;
}

/* The number, or NaN and Infinity as strings, as to_jsonb() has them. */
static char *
number_to_json(CsColumn *column, Datum datum)
{
	char	   *text = OutputFunctionCall(&column->output, datum);

	if (strchr(text, 'N') || strchr(text, 'I'))
		return quote_json(text);
	return text;
}

static char *
jsonb_to_utf8(Datum datum)
{
	Jsonb	   *jsonb = DatumGetJsonbP(datum);
	char	   *text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));

	if (GetDatabaseEncoding() != PG_UTF8)
		return pg_server_to_any(text, strlen(text), PG_UTF8);
	return text;
}

/* Effect: sets one field or attribute; the texts are in the current context. */
static void
set_field(CsContact *contact, CsColumn *column, Datum datum, bool isnull)
{
	const CsMapped *mapped = column->mapped;
	bool		is_attribute = mapped->attribute != NULL;
	char	   *value = NULL;

	/* what would be refused anyway need not be unpacked, a thousand times */
	if (!isnull && column->varlena &&
		toast_raw_datum_size(datum) > VARHDRSZ + CS_CONTACT_MAX_BYTES)
		contact->too_large = isnull = true;
	if (isnull)
		value = is_attribute ? pstrdup("null") : NULL;
	else
		switch (column->conversion)
		{
			case CS_AS_TEXT:
				value = text_to_utf8(datum);
				break;
			case CS_AS_STRING:
				value = quote_json(text_to_utf8(datum));
				break;
			case CS_AS_BOOLEAN:
				value = pstrdup(DatumGetBool(datum) ? "true" : "false");
				break;
			case CS_AS_NUMBER:
				value = number_to_json(column, datum);
				break;
			case CS_AS_JSON:
				value = jsonb_to_utf8(datum);
				break;
		}
	if (is_attribute)
		cs_contact_add_attribute(contact, mapped->attribute, value);
	else
		cs_contact_set(contact, mapped->field, value);
}

static CsContact *
contact_of_row(CsSource *source, HeapTuple tuple, TupleDesc desc)
{
	CsContact  *contact = palloc0(sizeof(CsContact));

	contact->action = CS_UPSERT;
	for (int i = 0; i < source->watch->nmapped; i++)
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, i + 2, desc, &isnull);

		set_field(contact, &source->columns[i], datum, isnull);
	}
	return contact;
}

/* One text[] per key column. */
static void
key_arrays(const CsWatch *watch, int n, char **keys, Datum *args)
{
	Datum	   *elements = palloc(n * sizeof(Datum));
	bool	   *nulls = palloc0(n * sizeof(bool));
	int			lower = 1;

	for (int column = 0; column < watch->nkeys; column++)
	{
		for (int i = 0; i < n; i++)
		{
			const char *part = keys[i];

			if (watch->nkeys > 1)
				part = cs_json_string(cs_json_item(cs_json_parse(keys[i], strlen(keys[i])), column));
			nulls[i] = part == NULL;
			elements[i] = part ? CStringGetTextDatum(part) : (Datum) 0;
		}
		args[column] = PointerGetDatum(construct_md_array(elements, nulls, 1, &n, &lower,
														  TEXTOID, -1, false, TYPALIGN_INT));
	}
}

/*
 * Effect: runs a query, within source_timeout.  An error must not leave the
 * timer behind, which would cancel something else later.
 */
void
cs_source_execute(SPIPlanPtr plan, Datum *args)
{
	bool		own_timeout = !get_timeout_active(STATEMENT_TIMEOUT);
	volatile int result = 0;

	if (own_timeout)
		enable_timeout_after(STATEMENT_TIMEOUT, cs_source_timeout);
	PG_TRY();
	{
		/* not older than the one that the queue was read with */
		PushActiveSnapshot(GetTransactionSnapshot());
		result = SPI_execute_plan(plan, args, NULL, true, 0);
		PopActiveSnapshot();
	}
	PG_CATCH();
	{
		bool		expired = own_timeout && !get_timeout_active(STATEMENT_TIMEOUT) &&
		geterrcode() == ERRCODE_QUERY_CANCELED;

		if (own_timeout)
			disable_timeout(STATEMENT_TIMEOUT, false);
		if (!expired)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(CS_ERRCODE_SOURCE_TIMEOUT),
				 errmsg("mapping and filter took longer than contactsync.source_timeout")));
	}
	PG_END_TRY();
	if (own_timeout)
		disable_timeout(STATEMENT_TIMEOUT, false);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not read a source: %s", SPI_result_code_string(result));
}

void
cs_source_read(CsSource *source, int n, char **keys, CsSourceRow *rows)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		args[INDEX_MAX_KEYS];
	CsOwnerScope scope;

	if (n > 0)
		memset(rows, 0, n * sizeof(CsSourceRow));
	cs_source_enter(source->watch, &scope);
	key_arrays(source->watch, n, keys, args);
	cs_source_execute(source->plan, args);

	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int64		index = DatumGetInt64(heap_getattr(tuple, 1, desc, &isnull)) - 1;

		if (index >= 0 && index < n)
			rows[index].contact = contact_of_row(source, tuple, desc);
	}
	cs_source_leave(&scope);
}
