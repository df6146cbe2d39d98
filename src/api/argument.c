/*-------------------------------------------------------------------------
 *
 * argument.c
 *		Arguments of SQL functions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "api/argument.h"
#include "base/sql.h"
#include "base/text.h"
#include "http/json.h"
#include "store/row_key.h"

void
cs_argument_require(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"%s\" must not be null", name)));
}

char *
cs_argument_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/*
 * Keys of source rows
 */

/* Convert a value to text. */
static char *
value_text(Datum value, Oid type)
{
	Oid			output;
	bool		is_varlena;

	if (type == UNKNOWNOID)
		return DatumGetCString(value);
	getTypeOutputInfo(type, &output, &is_varlena);
	return OidOutputFunctionCall(output, value);
}

/* Return the columns of a key that is an array, or NULL if one of them is null. */
static char **
texts_of_array(Datum value, Oid element_type, int *n)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *elements;
	bool	   *nulls;
	char	  **texts;
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(element_type, &length, &by_value, &align);
	deconstruct_array(array, element_type, length, by_value, align, &elements, &nulls, n);
	texts = palloc(Max(*n, 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			return NULL;
		texts[i] = value_text(elements[i], element_type);
	}
	return texts;
}

/* Return the columns of a key that is a JSON array, as the views show it, or NULL. */
static char **
texts_of_json(const char *text, int *n)
{
	char	   *utf8 = cs_text_to_utf8(text, strlen(text));
	CsJson	   *array = cs_json_parse(utf8, strlen(utf8));
	char	  **texts;

	*n = cs_json_length(array);
	if (*n < 0)
		return NULL;
	texts = palloc(Max(*n, 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
	{
		const char *element = cs_json_text(cs_json_item(array, i));

		if (element == NULL)
			return NULL;
		texts[i] = cs_text_from_utf8(element);
	}
	return texts;
}

/* Return the key that a value denotes, in the form in which keys are stored. */
static char *
key_of_value(Relation source, const CsWatch *watch, Datum value, Oid type)
{
	Oid			element_type = get_element_type(type);
	char	  **texts;
	char	   *text;
	int			n = 1;

	if (OidIsValid(element_type))
		texts = texts_of_array(value, element_type, &n);
	else
	{
		text = value_text(value, type);
		texts = watch->nkeys == 1 ? &text : texts_of_json(text, &n);
	}
	if (texts == NULL || n != watch->nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg_plural("key of table \"%s\" has %d column", "key of table \"%s\" has %d columns",
							   watch->nkeys, RelationGetRelationName(source), watch->nkeys),
				 watch->nkeys == 1 ? 0 :
				 errhint("Pass them as an array, such as ARRAY['a', 'b'], or as contactsync.contacts shows them.")));
	return cs_row_key_from_texts(source, n, watch->keys, texts);
}

char	  **
cs_argument_keys(FunctionCallInfo fcinfo, int arg, const CsWatch *watch, int *n)
{
	Relation	source = table_open(watch->source, AccessShareLock);
	Datum	   *values;
	Oid		   *types;
	bool	   *nulls;
	char	  **keys;

	*n = extract_variadic_args(fcinfo, arg, false, &values, &types, &nulls);
	keys = palloc(Max(*n, 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("key must not be null")));
		keys[i] = key_of_value(source, watch, values[i], types[i]);
	}
	table_close(source, AccessShareLock);
	return keys;
}

char *
cs_argument_key(FunctionCallInfo fcinfo, int arg, const CsWatch *watch)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, arg);
	Relation	source;
	char	   *key;

	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key must not be null")));
	source = table_open(watch->source, AccessShareLock);
	key = key_of_value(source, watch, PG_GETARG_DATUM(arg), type);
	table_close(source, AccessShareLock);
	return key;
}

char	  **
cs_argument_key_array(ArrayType *array, const CsWatch *watch, int *n)
{
	bool		by_column = watch->nkeys > 1 && ARR_NDIM(array) == 2 && ARR_DIMS(array)[1] == watch->nkeys;
	Relation	source = table_open(watch->source, AccessShareLock);
	int			ntexts;
	char	  **texts = texts_of_array(PointerGetDatum(array), ARR_ELEMTYPE(array), &ntexts);
	char	  **keys = palloc(Max(ntexts, 1) * sizeof(char *));

	if (texts == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key must not be null")));
	*n = by_column ? ntexts / watch->nkeys : ntexts;
	for (int i = 0; i < *n; i++)
		keys[i] = by_column ? cs_row_key_from_texts(source, watch->nkeys, watch->keys, texts + i * watch->nkeys) :
			key_of_value(source, watch, CStringGetTextDatum(texts[i]), TEXTOID);
	table_close(source, AccessShareLock);
	return keys;
}

List *
cs_argument_names(ArrayType *array)
{
	int			n;
	char	  **names = cs_sql_text_array(PointerGetDatum(array), &n);
	List	   *list = NIL;

	for (int i = 0; i < n; i++)
		list = lappend(list, names[i]);
	return list;
}

char
cs_argument_fires(FunctionCallInfo fcinfo, int arg)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, arg);
	const char *word;
	bool		always;

	if (PG_ARGISNULL(arg))
		return TRIGGER_FIRES_ON_ORIGIN;
	if (type == BOOLOID)
		return PG_GETARG_BOOL(arg) ? TRIGGER_FIRES_ALWAYS : TRIGGER_FIRES_ON_ORIGIN;
	word = type == UNKNOWNOID ? PG_GETARG_CSTRING(arg) : type == TEXTOID ? text_to_cstring(PG_GETARG_TEXT_PP(arg)) : format_type_be(type);
	if (strcmp(word, "replica") == 0)
		return TRIGGER_FIRES_ON_REPLICA;
	if (!parse_bool(word, &always))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"always\": \"%s\"", word),
				 errhint("Use true, false or 'replica', which is for those rows only that replication applies.")));
	return always ? TRIGGER_FIRES_ALWAYS : TRIGGER_FIRES_ON_ORIGIN;
}
