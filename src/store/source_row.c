/*-------------------------------------------------------------------------
 *
 * source_row.c
 *		Reading source rows as contacts, as the owner of the watch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"

#include "base/sql.h"
#include "base/text.h"
#include "http/json.h"
#include "store/citus.h"
#include "store/related_source.h"
#include "store/row_key.h"
#include "store/source.h"
#include "store/source_row.h"
#include "store/trust.h"

/* How the value of a mapped expression becomes part of a contact. */
typedef enum CsConversion
{
	CS_AS_TEXT,					/* cast to text */
	CS_AS_BOOLEAN,
	CS_AS_TIMESTAMP,			/* ISO 8601 in UTC */
	CS_AS_JSON,					/* to_jsonb() */
	CS_AS_NUMBER,				/* its output is a JSON number or a word */
	CS_AS_STRING				/* text that becomes a JSON string */
} CsConversion;

/* Conversions of attributes whose type differs at the provider. */
typedef struct CsCast
{
	CsValueType wanted;
	char		category;		/* of the SQL type */
	CsConversion conversion;
	Oid			type;			/* of the cast */
	const char *cast;
} CsCast;

typedef struct CsColumn
{
	const CsMapped *mapped;
	CsConversion conversion;
	const char *cast;
	bool		varlena;		/* after conversion */
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
 * The query of a watch
 */

/* Attributes keep their JSON type; for a type without one, to_jsonb() decides. */
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
		case CS_OPT_IN_AT:
			return CS_AS_TIMESTAMP;
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
		case CS_AS_TIMESTAMP:
			return "pg_catalog.to_char(((%s\n)::pg_catalog.timestamptz) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
		case CS_AS_JSON:
			return "pg_catalog.to_jsonb((%s\n))";
		case CS_AS_NUMBER:
			return "(%s\n)";
	}
	return NULL;
}

/*
 * Return the cast for an attribute, or NULL if there is none or need be none: such a
 * value is sent as it is, and the provider may refuse it.
 */
static const CsCast *
find_cast(CsValueType wanted, Oid type)
{
#define TEXT_OF		"(pg_catalog.to_jsonb((%s\n)) OPERATOR(pg_catalog.#>>) '{}')"
	static const CsCast casts[] = {
		{CS_VALUE_TEXT, TYPCATEGORY_NUMERIC, CS_AS_STRING, TEXTOID, TEXT_OF},
		{CS_VALUE_TEXT, TYPCATEGORY_BOOLEAN, CS_AS_STRING, TEXTOID, TEXT_OF},
		{CS_VALUE_TEXT, TYPCATEGORY_DATETIME, CS_AS_STRING, TEXTOID, TEXT_OF},
		{CS_VALUE_TEXT, TYPCATEGORY_USER, CS_AS_STRING, TEXTOID, TEXT_OF},
		{CS_VALUE_NUMBER, TYPCATEGORY_STRING, CS_AS_NUMBER, NUMERICOID, "((%s\n)::pg_catalog.text)::pg_catalog.numeric"},
		{CS_VALUE_BOOLEAN, TYPCATEGORY_STRING, CS_AS_BOOLEAN, BOOLOID, "((%s\n)::pg_catalog.text)::pg_catalog.bool"},
		{CS_VALUE_BOOLEAN, TYPCATEGORY_NUMERIC, CS_AS_BOOLEAN, BOOLOID, "((%s\n)::pg_catalog.numeric OPERATOR(pg_catalog.<>) 0)"},
		{CS_VALUE_TIME, TYPCATEGORY_STRING, CS_AS_JSON, JSONBOID, "pg_catalog.to_jsonb(((%s\n)::pg_catalog.text)::pg_catalog.timestamptz)"},
		{CS_VALUE_TIME, TYPCATEGORY_DATETIME, CS_AS_JSON, JSONBOID, "pg_catalog.to_jsonb((%s\n)::pg_catalog.timestamptz)"},
	};
	Oid			base = getBaseType(type);
	char		category;
	bool		preferred;

	get_type_category_preferred(base, &category, &preferred);
	if (wanted == CS_VALUE_TIME && category == TYPCATEGORY_DATETIME &&
		base != DATEOID && base != TIMESTAMPOID && base != TIMESTAMPTZOID)
		return NULL;			/* a time of day */
	for (int i = 0; i < lengthof(casts); i++)
		if (casts[i].wanted == wanted && casts[i].category == category)
			return &casts[i];
	return NULL;
}

/* Append the condition that a column of the source equals the text "value". */
static void
append_key_condition(StringInfo query, const CsWatch *watch, const char *column, const char *value)
{
	Oid			source = watch->source;
	AttrNumber	attnum = get_attnum(source, column);
	Oid			type = attnum > 0 ? get_atttype(source, attnum) : InvalidOid;

	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("the key column \"%s\" does not exist any more", column)));
	type = getBaseType(type);
	appendStringInfo(query, "%s.%s %s %s::%s", quote_identifier(cs_source_alias(watch)),
					 quote_identifier(column), cs_source_equality(type), value, cs_source_type_name(type));
}

/*
 * Return the query: for each key whose row passes the filter, its number and the
 * mapped values.  The source stands alone in a subquery, so that no name of ours
 * hides a column from an expression.  OFFSET 0 keeps it there, so that rows are
 * looked up key by key whatever the statistics say, and expressions see no other
 * row.  Citus refuses that, and looks the keys up in the shards.
 */
static char *
build_query(CsSource *source)
{
	const CsWatch *watch = source->watch;
	const char *keys = strcmp(cs_source_alias(watch), "contactsync_keys") == 0 ? "contactsync_keys_" : "contactsync_keys";
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
		appendStringInfo(&query, source->columns[i].cast, watch->mapped[i].expression);
	}
	appendStringInfo(&query, " FROM %s WHERE ", cs_source_from(watch));
	for (int i = 0; i < watch->nkeys; i++)
	{
		appendStringInfoString(&query, i ? " AND " : "");
		append_key_condition(&query, watch, watch->keys[i], psprintf("%s.k%d", keys, i));
	}
	if (watch->filter)
		appendStringInfo(&query, " AND (%s\n)", watch->filter);
	appendStringInfoString(&query, cs_citus_has(watch->source) ? ") AS s" : " OFFSET 0) AS s");
	return query.data;
}

/* Find out how each mapped value is to be converted. */
static void
read_columns(CsSource *source)
{
	const CsWatch *watch = source->watch;

	source->columns = MemoryContextAllocZero(source->context,
											 Max(watch->nmapped, 1) * sizeof(CsColumn));
	for (int i = 0; i < watch->nmapped; i++)
	{
		CsColumn   *column = &source->columns[i];
		Oid			type = cs_source_expression_type(watch, watch->mapped[i].expression);
		const CsCast *cast = watch->mapped[i].attribute ? find_cast(watch->mapped[i].type, type) : NULL;
		Oid			output;
		bool		is_varlena;

		column->mapped = &watch->mapped[i];
		column->conversion = cast ? cast->conversion : conversion_of(column->mapped, type);
		column->cast = cast ? cast->cast : cast_of(column->conversion);
		type = cast ? cast->type : type;
		column->varlena = column->conversion != CS_AS_BOOLEAN && column->conversion != CS_AS_NUMBER;
		getTypeOutputInfo(type, &output, &is_varlena);
		fmgr_info_cxt(output, &column->output, source->context);
	}
}

CsSource *
cs_source_row_open(const CsWatch *watch)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync source",
												  ALLOCSET_SMALL_SIZES);
	CsSource   *source = MemoryContextAllocZero(context, sizeof(CsSource));
	Oid			types[INDEX_MAX_KEYS];
	CsOwnerScope scope;

	/* one that is being made was asked, and may be polled, or read only once */
	if (watch->id != 0 && watch->poll_column == NULL)
		cs_citus_check_triggers(watch->source);
	source->watch = watch;
	source->context = context;
	cs_source_enter(watch, &scope);
	cs_trust_check_tree(watch->source, scope.reader);
	cs_trust_check_types(watch);
	cs_related_source_check(watch);
	read_columns(source);
	for (int i = 0; i < watch->nkeys; i++)
		types[i] = TEXTARRAYOID;
	source->plan = cs_source_prepare(build_query(source), watch->nkeys, types, scope.reader);
	if (SPI_keepplan(source->plan) != 0)
		elog(ERROR, "could not prepare to read a source: %s",
			 SPI_result_code_string(SPI_result));
	cs_source_leave(&scope);
	MemoryContextSetParent(context, TopMemoryContext);
	return source;
}

/* Is everything that the source was prepared for as it was? */
bool
cs_source_row_is_valid(const CsSource *source)
{
	return SPI_plan_is_valid(source->plan);
}

void
cs_source_row_close(CsSource *source)
{
	SPI_freeplan(source->plan);
	MemoryContextDelete(source->context);
}

/*
 * Rows as contacts
 */

/* Return the UTF-8 of a text, palloc'd; NULL if it cannot be converted. */
static char *
text_to_utf8(Datum datum)
{
	text	   *packed = DatumGetTextPP(datum);

	return cs_text_try_to_utf8(VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
}

/* The same as JSON; NULL for NULL. */
static char *
quote_json(const char *utf8)
{
	StringInfoData out;

	if (utf8 == NULL)
		return NULL;
	initStringInfo(&out);
	cs_json_quote(&out, utf8);
	return out.data;
}

/* Return the number, or a string for NaN and Infinity, as to_jsonb() does. */
static char *
number_to_json(CsColumn *column, Datum datum)
{
	char	   *text = OutputFunctionCall(&column->output, datum);

	if (strchr(text, 'N') || strchr(text, 'I'))
		return quote_json(text);
	return text;
}

/* Return the UTF-8 of a document; NULL if it cannot be converted. */
static char *
jsonb_to_utf8(Datum datum)
{
	Jsonb	   *jsonb = DatumGetJsonbP(datum);
	char	   *text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));

	return GetDatabaseEncoding() == PG_UTF8 ? text : cs_text_try_to_utf8(text, strlen(text));
}

/* Set one field, or the attribute of that name; texts are palloc'd in the current context. */
static void
set_field(CsContact *contact, CsColumn *column, const char *attribute, Datum datum, bool isnull)
{
	const CsMapped *mapped = column->mapped;
	bool		is_attribute = attribute != NULL;
	char	   *value = NULL;

	/* what is refused anyway need not be decompressed */
	if (!isnull && column->varlena &&
		toast_raw_datum_size(datum) > VARHDRSZ + CS_CONTACT_MAX_BYTES)
		contact->too_large = isnull = true;
	if (isnull)
		value = is_attribute ? pstrdup("null") : NULL;
	else
		switch (column->conversion)
		{
			case CS_AS_TIMESTAMP:
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
	if (value == NULL && !isnull)
	{
		contact->undecodable = is_attribute ? attribute : cs_contact_field_name(mapped->field);
		value = is_attribute ? pstrdup("null") : NULL;
	}
	if (is_attribute)
		cs_contact_add_attribute(contact, attribute, value);
	else
	{
		cs_contact_set(contact, mapped->field, value);
		if (mapped->type == CS_VALUE_NUMBER)
			contact->numbers |= CS_FIELD_BIT(mapped->field);
	}
}

/*
 * The names of the attributes that are mapped, NULL for fields, for the contacts that
 * are read now: they outlive the watch if that is altered while they are in flight.
 */
static const char **
copy_attribute_names(const CsWatch *watch)
{
	const char **names = palloc0((watch->nmapped + 1) * sizeof(char *));

	for (int i = 0; i < watch->nmapped; i++)
	{
		if (watch->mapped[i].attribute)
			names[i] = pstrdup(watch->mapped[i].attribute_utf8);
	}
	return names;
}

static CsContact *
contact_of_row(CsSource *source, const char **attributes, HeapTuple tuple, TupleDesc desc)
{
	CsContact  *contact = palloc0(sizeof(CsContact));

	contact->action = CS_UPSERT;
	for (int i = 0; i < source->watch->nmapped; i++)
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, i + 2, desc, &isnull);

		set_field(contact, &source->columns[i], attributes[i], datum, isnull);
	}
	return contact;
}

/* Fill args with one text[] per key column. */
static void
key_arrays(const CsWatch *watch, int n, char **keys, Datum *args)
{
	char	  **parts = palloc(n * sizeof(char *));

	for (int column = 0; column < watch->nkeys; column++)
	{
		for (int i = 0; i < n; i++)
			parts[i] = watch->nkeys == 1 ? keys[i] : cs_row_key_part(keys[i], column);
		args[column] = cs_sql_make_text_array(n, parts);
	}
}

void
cs_source_row_read(CsSource *source, int n, char **keys, CsSourceRow *rows)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		args[INDEX_MAX_KEYS];
	CsOwnerScope scope;
	const char **attributes = copy_attribute_names(source->watch);

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
			rows[index].contact = contact_of_row(source, attributes, tuple, desc);
	}
	cs_source_leave(&scope);
}
