/*-------------------------------------------------------------------------
 *
 * row_key.c
 *		The key of a source row as text.
 *
 * It identifies the row for as long as the row is queued, known or failed, in any
 * session, so it must not depend on settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "store/row_key.h"

/*
 * Return whether the text of a type is the same under any DateStyle, IntervalStyle,
 * TimeZone, extra_float_digits and the like.
 */
static bool
type_is_canonical(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case BPCHAROID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NAMEOID:
		case NUMERICOID:
		case OIDOID:
		case TEXTOID:
		case UUIDOID:
		case VARCHAROID:
			return true;
		default:
			return false;
	}
}

/* Fill in a key column.  Return false if the relation has no such column. */
bool
cs_row_key_read_column(Relation rel, const char *name, CsKeyColumn *column, MemoryContext context)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);
	Oid			function;
	bool		is_varlena;

	if (attnum <= 0)
		return false;
	column->attnum = attnum;
	column->type = getBaseType(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid);
	column->canonical = type_is_canonical(column->type);
	getTypeOutputInfo(column->type, &function, &is_varlena);
	fmgr_info_cxt(function, &column->output, context);
	return true;
}

/* Return the text of a value, whatever the session's settings are; palloc'd. */
static char *
canonical_output(CsKeyColumn *column, Datum value)
{
	/* as in cs_source_enter(), which reads it again */
	static const char *const settings[][2] = {
		{"bytea_output", "hex"},
		{"datestyle", "ISO, YMD"},
		{"extra_float_digits", "3"},
		{"intervalstyle", "postgres"},
		{"lc_monetary", "C"},
		{"timezone", "UTC"},
	};
	char	   *result;
	int			nest_level;

	if (column->canonical)
		return OutputFunctionCall(&column->output, value);

	nest_level = NewGUCNestLevel();
	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	result = OutputFunctionCall(&column->output, value);
	AtEOXact_GUC(true, nest_level);
	return result;
}

static text *
make_key(MemoryContext context, const char *data, size_t len)
{
	text	   *key = MemoryContextAlloc(context, VARHDRSZ + len);

	SET_VARSIZE(key, VARHDRSZ + len);
	memcpy(VARDATA(key), data, len);
	return key;
}

/* Make a key of one column: its text. */
static text *
make_single_key(MemoryContext context, CsKeyColumn *column, Datum value)
{
	char		buffer[MAXINT8LEN + 1];
	int			len;
	text	   *packed;
	char	   *string;

	switch (column->type)
	{
		case INT4OID:
			len = pg_lltoa(DatumGetInt32(value), buffer);
			return make_key(context, buffer, len);
		case INT8OID:
			len = pg_lltoa(DatumGetInt64(value), buffer);
			return make_key(context, buffer, len);
		case TEXTOID:
		case VARCHAROID:
			packed = DatumGetTextPP(value);
			return make_key(context, VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
		default:
			string = canonical_output(column, value);
			return make_key(context, string, strlen(string));
	}
}

/* Make a key of several columns: a JSON array of their texts. */
static text *
make_composite_key(MemoryContext context, int ncolumns, CsKeyColumn *columns,
				   TupleTableSlot *slot)
{
	StringInfoData json;
	bool		isnull;

	initStringInfo(&json);
	for (int i = 0; i < ncolumns; i++)
	{
		Datum		value = slot_getattr(slot, columns[i].attnum, &isnull);

		if (isnull)
			return NULL;
		appendStringInfoString(&json, i == 0 ? "[" : ", ");
		escape_json(&json, canonical_output(&columns[i], value));
	}
	appendStringInfoChar(&json, ']');
	return make_key(context, json.data, json.len);
}

/* Return the key of a row, palloc'd in the context; NULL if a column is null. */
text *
cs_row_key_make(MemoryContext context, int ncolumns, CsKeyColumn *columns, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		value;

	if (ncolumns != 1)
		return make_composite_key(context, ncolumns, columns, slot);
	value = slot_getattr(slot, columns[0].attnum, &isnull);
	return isnull ? NULL : make_single_key(context, &columns[0], value);
}

/* Append what a backslash and the next character stand for.  Return the rest. */
static const char *
read_escape(const char *c, StringInfo part)
{
	static const char letters[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	const char *letter = *c ? strchr(letters, *c) : NULL;
	unsigned int code;

	if (*c == 'u' && strspn(c + 1, "0123456789abcdefABCDEF") >= 4 && sscanf(c + 1, "%4x", &code) == 1)
	{
		appendStringInfoChar(part, (char) code);
		return c + 5;
	}
	appendStringInfoChar(part, letter ? meanings[letter - letters] : *c);
	return *c ? c + 1 : c;
}

/*
 * Read one text of an array that escape_json() made.  All encodings of servers leave
 * ASCII characters alone, so this is done without converting anything, which may not be
 * possible.
 */
static const char *
read_part(const char *c, StringInfo part)
{
	resetStringInfo(part);
	while (*c && *c != '"')
	{
		if (*c == '\\')
			c = read_escape(c + 1, part);
		else
			appendStringInfoChar(part, *c++);
	}
	return c;
}

char *
cs_row_key_part(const char *key, int column)
{
	StringInfoData part;
	const char *c = key;

	initStringInfo(&part);
	for (int i = 0; i <= column; i++)
	{
		/* the text before ended at a quotation mark */
		c = strchr(i == 0 ? c : c + 1, '"');
		if (c == NULL)
			return NULL;
		c = read_part(c + 1, &part);
		if (*c == '\0')
			return NULL;
	}
	return part.data;
}

char *
cs_row_key_from_texts(Relation rel, int ncolumns, char **names, char **texts)
{
	StringInfoData json;

	initStringInfo(&json);
	for (int i = 0; i < ncolumns; i++)
	{
		CsKeyColumn column;
		Form_pg_attribute attribute;
		Oid			input;
		Oid			parameter;
		char	   *text;

		if (!cs_row_key_read_column(rel, names[i], &column, CurrentMemoryContext))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"%s\" does not exist", names[i],
							RelationGetRelationName(rel))));
		attribute = TupleDescAttr(RelationGetDescr(rel), column.attnum - 1);
		getTypeInputInfo(attribute->atttypid, &input, &parameter);
		text = canonical_output(&column, OidInputFunctionCall(input, texts[i], parameter,
															  attribute->atttypmod));
		if (ncolumns == 1)
			return text;
		appendStringInfoString(&json, i == 0 ? "[" : ", ");
		escape_json(&json, text);
	}
	appendStringInfoChar(&json, ']');
	return json.data;
}
