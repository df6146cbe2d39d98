/*-------------------------------------------------------------------------
 *
 * person.c
 *		SQL functions about one person: trace, find, forget.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "api/argument.h"
#include "base/compat.h"
#include "base/sql.h"
#include "base/try.h"
#include "provider/email.h"
#include "provider/endpoint.h"
#include "provider/server.h"
#include "store/forget.h"
#include "store/source_row.h"
#include "store/trace.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_trace);
CS_FUNCTION(contactsync_trace_row);
CS_FUNCTION(contactsync_find);
CS_FUNCTION(contactsync_forget_email);
CS_FUNCTION(contactsync_forget_row);

/* An address as it is stored; any other text is itself. */
static char *
contact_argument(FunctionCallInfo fcinfo, int arg)
{
	char	   *contact = text_to_cstring(PG_GETARG_TEXT_PP(arg));

	return strchr(contact, '@') ? cs_email_normalize(contact) : contact;
}

/* contactsync_trace(server, contact, on): for what the caller has there. */
Datum
contactsync_trace(PG_FUNCTION_ARGS)
{
	static CsStatement statement = {
		"SELECT id FROM contactsync.endpoint WHERE server = $1 AND pg_has_role($2, role, 'USAGE') ORDER BY id",
		2, {NAMEOID, OIDOID}
	};
	Datum		args[2] = {NameGetDatum(PG_GETARG_NAME(0)), ObjectIdGetDatum(GetUserId())};
	char	   *contact = contact_argument(fcinfo, 1);
	CsSqlScope	scope;
	uint64		n;
	int		   *ids;

	(void) cs_server_find(NameStr(*PG_GETARG_NAME(0)), GetUserId());
	cs_sql_enter(&scope);
	n = cs_sql_execute(&statement, args, NULL);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("you have sent nothing to server \"%s\"", NameStr(*PG_GETARG_NAME(0))),
				 errhint("Use contactsync_watch() or contactsync_upsert() first.")));
	ids = palloc(n * sizeof(int));
	for (uint64 i = 0; i < n; i++)
		ids[i] = cs_sql_int(i, 1);
	for (uint64 i = 0; i < n; i++)
		(void) cs_trace_set(ids[i], 0, contact, PG_GETARG_BOOL(2));
	cs_sql_leave(&scope);
	PG_RETURN_VOID();
}

/* contactsync_trace_row(source, server, key, on) */
Datum
contactsync_trace_row(PG_FUNCTION_ARGS)
{
	CsWatch    *watch;
	char	   *key;
	CsSqlScope	scope;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	watch = cs_watch_find(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), GetUserId());
	key = cs_argument_key(fcinfo, 2, watch);
	cs_sql_enter(&scope);
	(void) cs_trace_set(watch->endpoint, watch->id, key, PG_GETARG_BOOL(3));
	cs_sql_leave(&scope);
	PG_RETURN_VOID();
}

/* Effect: the rows of the last statement are the function's. */
static void
put_rows(FunctionCallInfo fcinfo, uint64 n)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
}

/* contactsync_find(email) */
Datum
contactsync_find(PG_FUNCTION_ARGS)
{
	char	   *email = contact_argument(fcinfo, 0);
	Oid			roleid = GetUserId();
	CsSqlScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	cs_sql_enter(&scope);
	put_rows(fcinfo, cs_forget_list(email, roleid));
	cs_sql_leave(&scope);
	return (Datum) 0;
}

/* Effect: the counts of what was forgotten are the function's rows. */
static void
put_counts(FunctionCallInfo fcinfo, const CsForgotten *forgotten)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	for (int i = 0; i < CS_FORGET_KINDS; i++)
	{
		Datum		values[2] = {CStringGetTextDatum(cs_forget_kinds[i]), Int64GetDatum(forgotten->rows[i])};
		bool		nulls[2] = {0};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* What look_in_source() looks for, and whether it is there. */
typedef struct CsSourceLookup
{
	const CsWatch *watch;
	char	   *key;
	bool		found;
} CsSourceLookup;

static void
look_in_source(void *arg)
{
	CsSourceLookup *lookup = arg;
	CsSource   *source = cs_source_row_open(lookup->watch);
	CsSourceRow row = {0};

	cs_source_row_read(source, 1, &lookup->key, &row);
	cs_source_row_close(source);
	lookup->found = row.contact != NULL;
}

/* Is there such a row, and would it be sent?  False also if that cannot be told. */
static bool
is_in_source(const CsWatch *watch, char *key)
{
	CsSourceLookup lookup = {watch, key};

	return cs_try(look_in_source, &lookup, NULL, NULL) == CS_TRY_OK && lookup.found;
}

/* Effect: says of a row that is still there that it will be sent again. */
static void
notice_if_in_source(int watch_id, char *key)
{
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	CsWatch    *watch = NULL;
	ListCell   *lc;

	cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	foreach(lc, cs_watch_load_all())
		if (((CsWatch *) lfirst(lc))->id == watch_id)
		watch = lfirst(lc);
	cs_sql_leave(&scope);
	if (watch && is_in_source(watch, key))
		ereport(NOTICE,
				(errmsg("the row \"%s\" is still in table \"%s\" and is sent again when it changes", key,
						get_rel_name(watch->source)),
				 errhint("Delete it there, and call this once more when that has been delivered.")));
}

/* contactsync_forget(email) */
Datum
contactsync_forget_email(PG_FUNCTION_ARGS)
{
	char	   *email = contact_argument(fcinfo, 0);
	Oid			roleid = GetUserId();
	MemoryContext context = CurrentMemoryContext;
	CsForgotten forgotten;
	CsSqlScope	scope;

	InitMaterializedSRF(fcinfo, 0);
	cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	cs_forget_email(email, roleid, &forgotten);
	cs_sql_leave(&scope);
	put_counts(fcinfo, &forgotten);
	for (int i = 0; i < forgotten.nrows; i++)
		notice_if_in_source(forgotten.watches[i], forgotten.keys[i]);
	return (Datum) 0;
}

/* contactsync_forget(source, server, key) */
Datum
contactsync_forget_row(PG_FUNCTION_ARGS)
{
	CsForgotten forgotten;
	CsSqlScope	scope;
	CsWatch    *watch;
	char	   *key;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	watch = cs_watch_find(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), GetUserId());
	key = cs_argument_key(fcinfo, 2, watch);
	cs_sql_enter(&scope);
	cs_forget_row(watch->endpoint, watch->id, key, &forgotten);
	cs_sql_leave(&scope);
	put_counts(fcinfo, &forgotten);
	notice_if_in_source(watch->id, key);
	return (Datum) 0;
}
