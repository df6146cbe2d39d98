/*-------------------------------------------------------------------------
 *
 * statement.c
 *		Statements that are built from values.
 *
 * A statement that creates, alters or drops something cannot have parameters.
 * It is built here and nowhere else, from a constant format and from values:
 *
 *		%I	an identifier (const char *)
 *		%R	a relation, with its schema (Oid)
 *		%A	literals, separated by commas (List * of char *)
 *		%d	an integer (int)
 *
 * Each is quoted by what it is.  There is no conversion that copies a text as it
 * is, so no name that somebody chose can become part of the statement, and
 * definitions that the server prints are never taken apart.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/statement.h"

static void
append_relation(StringInfo out, Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	appendStringInfoString(out, quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name));
}

static void
append_literals(StringInfo out, List *texts)
{
	ListCell   *lc;

	foreach(lc, texts)
	{
		if (foreach_current_index(lc) > 0)
			appendStringInfoString(out, ", ");
		appendStringInfoString(out, quote_literal_cstr(lfirst(lc)));
	}
}

/* Return the statement, palloc'd. */
char *
cs_statement_build(const char *fmt, va_list args)
{
	StringInfoData out;

	initStringInfo(&out);
	for (const char *p = fmt; *p; p++)
	{
		if (*p != '%')
		{
			appendStringInfoChar(&out, *p);
			continue;
		}
		switch (*++p)
		{
			case 'I':
				appendStringInfoString(&out, quote_identifier(va_arg(args, const char *)));
				break;
			case 'R':
				append_relation(&out, va_arg(args, Oid));
				break;
			case 'A':
				append_literals(&out, va_arg(args, List *));
				break;
			case 'd':
				appendStringInfo(&out, "%d", va_arg(args, int));
				break;
			default:
				elog(ERROR, "invalid conversion in \"%s\"", fmt);
		}
	}
	return out.data;
}

char *
cs_statement_make(const char *fmt,...)
{
	va_list		args;
	char	   *statement;

	va_start(args, fmt);
	statement = cs_statement_build(fmt, args);
	va_end(args);
	return statement;
}
