/*-------------------------------------------------------------------------
 *
 * sql.c
 *		Running our own statements on our own tables.
 *
 * They run as the owner of the extension, whoever called, with nothing but
 * pg_catalog in the search_path, so that nobody can have an operator of their
 * own used.  Their plans use indexes only, so that neither missing statistics
 * nor dead rows that a snapshot keeps make them slow.  For the same reason a
 * join with a list of keys is a LATERAL (... OFFSET 0).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/contactsync.h"
#include "base/sql.h"
#include "base/statement.h"
#include "base/text.h"

typedef struct CsExtension
{
	Oid			owner;
	bool		current;		/* its tables are those that this library
								 * knows */
} CsExtension;

/* Return false if there is no extension.  Needs a transaction. */
static bool
find_extension(CsExtension *extension)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(CS_EXTENSION));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);
		bool		isnull;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		extension->owner = form->extowner;
		extension->current = !isnull && strcmp(TextDatumGetCString(version), CS_VERSION) == 0;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Return whether the extension is there, and of the version of this library.  A
 * new library that was installed before ALTER EXTENSION UPDATE captures changes
 * and does nothing else.  Needs a transaction.
 */
bool
cs_sql_is_ready(void)
{
	CsExtension extension;

	return find_extension(&extension) && extension.current && !creating_extension;
}

/*
 * Return whether somebody has locked a table that every delivery writes, so that a
 * statement would wait.  This one does not.  Needs a transaction.
 */
bool
cs_sql_table_is_locked(void)
{
	static const char *const tables[] = {
		"endpoint", "watch", "queue", "contact", "source_row", "departure", "account", "counter", "call", "failure"
	};
	Oid			schema = get_namespace_oid("contactsync", true);

	for (int i = 0; i < lengthof(tables); i++)
	{
		Oid			table = get_relname_relid(tables[i], schema);

		if (!OidIsValid(table))
			continue;
		if (!ConditionalLockRelationOid(table, RowExclusiveLock))
			return true;
		UnlockRelationOid(table, RowExclusiveLock);
	}
	return false;
}

/* Find the extension, or raise an error where there is none. */
static void
require_extension(CsExtension *extension)
{
	if (!find_extension(extension))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", CS_EXTENSION)));
}

/*
 * Have plans use indexes only, in the innermost level of settings: plans are made
 * when a table is small, or has no statistics, and kept.
 */
void
cs_sql_plan_by_index(void)
{
	static const char *const settings[][2] = {
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"jit", "off"},
		{"plan_cache_mode", "force_generic_plan"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

static Oid
become_owner(CsSqlScope *scope, Oid owner)
{
	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	SetUserIdAndSecContext(owner, scope->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	scope->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	cs_sql_plan_by_index();
	SPI_connect();
	return scope->userid;
}

/*
 * Become the owner of the extension, with settings of our own and a connection
 * to SPI, until cs_sql_leave() or the end of the transaction.  Raise an error
 * where the tables are not of the library's version.  Return the role that we
 * were: what it may see or change is for it to decide, and GetUserId() is the
 * owner until then.
 */
Oid
cs_sql_enter(CsSqlScope *scope)
{
	CsExtension extension;

	require_extension(&extension);
	if (!extension.current)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the library of extension \"%s\" is of version %s, but its tables are not",
						CS_EXTENSION, CS_VERSION),
				 errhint("%s", CS_UPDATE_HINT)));
	return become_owner(scope, extension.owner);
}

/*
 * Do the same whatever version the tables are of.  The caller reads only what no
 * version changes; test/README.md lists it.
 */
Oid
cs_sql_enter_any_version(CsSqlScope *scope)
{
	CsExtension extension;

	require_extension(&extension);
	return become_owner(scope, extension.owner);
}

void
cs_sql_leave(CsSqlScope *scope)
{
	SPI_finish();
	AtEOXact_GUC(true, scope->guc_level);
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
}

/*
 * Run a statement, within cs_sql_enter().  Return the number of rows, which are
 * in SPI_tuptable.
 */
uint64
cs_sql_execute(CsStatement *statement, Datum *args, const char *nulls)
{
	int			result;

	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->text, statement->nargs, statement->types);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", statement->text,
				 SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep the plan of \"%s\"", statement->text);
		statement->plan = plan;
	}
	result = SPI_execute_plan(statement->plan, args, nulls, false, 0);
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", statement->text,
			 SPI_result_code_string(result));
	return SPI_processed;
}

/* Do the same with a command that is built each time; statement.c has the format. */
uint64
cs_sql_execute_command(const char *fmt,...)
{
	va_list		args;
	char	   *command;
	int			result;

	va_start(args, fmt);
	command = cs_statement_build(fmt, args);
	va_end(args);
	result = SPI_execute(command, false, 0);
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", command, SPI_result_code_string(result));
	return SPI_processed;
}

/* Return a column (from 1) of a row (from 0) of the last result. */
Datum
cs_sql_value(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

/* Return its text, palloc'd in SPI's context; NULL for null. */
char *
cs_sql_text(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

/* Return an integer; 0 for null. */
int
cs_sql_int(int row, int column)
{
	bool		isnull;
	Datum		value = cs_sql_value(row, column, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

/* Return a time; 0 for null. */
TimestampTz
cs_sql_time(int row, int column)
{
	bool		isnull;
	Datum		value = cs_sql_value(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/* Return the elements of a text[] or name[] without nulls, palloc'd. */
char	  **
cs_sql_text_array(Datum array, int *n)
{
	ArrayType  *value = DatumGetArrayTypeP(array);
	Datum	   *elements;
	char	  **texts;
	bool		is_name = ARR_ELEMTYPE(value) == NAMEOID;

	deconstruct_array(value, ARR_ELEMTYPE(value), is_name ? NAMEDATALEN : -1, false,
					  is_name ? TYPALIGN_CHAR : TYPALIGN_INT, &elements, NULL, n);
	texts = palloc(Max(*n, 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
		texts[i] = is_name ? pstrdup(NameStr(*DatumGetName(elements[i]))) :
			TextDatumGetCString(elements[i]);
	pfree(elements);
	return texts;
}

/* Return a text[] of texts in the database's encoding; NULL becomes null. */
Datum
cs_sql_make_text_array(int n, char *const *texts)
{
	Datum	   *elements = palloc(Max(n, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(n, 1) * sizeof(bool));
	int			lower = 1;

	for (int i = 0; i < n; i++)
	{
		nulls[i] = texts[i] == NULL;
		elements[i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
	}
	return PointerGetDatum(construct_md_array(elements, nulls, 1, &n, &lower, TEXTOID, -1, false,
											  TYPALIGN_INT));
}

/* Return a text argument and set its mark for cs_sql_execute(); NULL becomes null. */
Datum
cs_sql_text_or_null(const char *text, char *isnull)
{
	*isnull = text ? ' ' : 'n';
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/* Do the same with a text that is UTF-8. */
Datum
cs_sql_utf8_or_null(const char *utf8, char *isnull)
{
	return cs_sql_text_or_null(utf8 ? cs_text_from_utf8(utf8) : NULL, isnull);
}

/* Do the same with a message, which is to be seen whole. */
Datum
cs_sql_message_or_null(const char *utf8, char *isnull)
{
	return cs_sql_utf8_or_null(utf8 ? cs_text_make_visible(utf8) : NULL, isnull);
}
