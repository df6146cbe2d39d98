/*-------------------------------------------------------------------------
 *
 * person.c
 *		SQL functions that trace, show and erase what is held on a person.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "api/argument.h"
#include "base/compat.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "provider/email.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/forget.h"
#include "store/source_row.h"
#include "store/trace.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_trace);
CS_FUNCTION(contactsync_trace_row);
CS_FUNCTION(contactsync_find);
CS_FUNCTION(contactsync_forget_email);
CS_FUNCTION(contactsync_forget_row);

/* Return an email address in the form in which it is stored, and any other text as it is. */
static char *
contact_argument(FunctionCallInfo fcinfo, int arg)
{
	char	   *contact = text_to_cstring(PG_GETARG_TEXT_PP(arg));

	if (strchr(contact, '@') == NULL)
		return contact;
	return cs_text_from_utf8(cs_email_normalize(cs_text_to_utf8(contact, strlen(contact))));
}

/* contactsync_trace(server, contact, on) */
Datum
contactsync_trace(PG_FUNCTION_ARGS)
{
	Name		server = PG_GETARG_NAME(0);
	char	   *contact = contact_argument(fcinfo, 1);
	CsSqlScope	scope;
	Oid			roleid;
	List	   *endpoints;
	ListCell   *lc;

	(void) cs_server_find(NameStr(*server), GetUserId());
	roleid = cs_sql_enter(&scope);
	endpoints = cs_endpoint_state_ids(server, roleid);
	if (endpoints == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" has not sent anything to server \"%s\"",
						GetUserNameFromId(roleid, false), NameStr(*server)),
				 errhint("Use contactsync_watch() or contactsync_upsert() first.")));
	foreach(lc, endpoints)
		(void) cs_trace_set(lfirst_int(lc), 0, contact, PG_GETARG_BOOL(2));
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

/* contactsync_find(email) */
Datum
contactsync_find(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *email = contact_argument(fcinfo, 0);
	CsSqlScope	scope;
	Oid			roleid;
	uint64		n;

	InitMaterializedSRF(fcinfo, 0);
	roleid = cs_sql_enter(&scope);
	n = cs_forget_list(email, roleid);
	for (uint64 i = 0; i < n; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	cs_sql_leave(&scope);
	return (Datum) 0;
}

/*
 * contactsync_forget()
 */

/* Return the numbers of rows that were erased or redacted. */
static void
put_counts(FunctionCallInfo fcinfo, const int64 *forgotten)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	for (int i = 0; i < CS_FORGET_KINDS; i++)
	{
		Datum		values[2] = {CStringGetTextDatum(cs_forget_kinds[i]), Int64GetDatum(forgotten[i])};
		bool		nulls[2] = {0};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* What look_in_source() looks for, and what it finds. */
typedef struct CsSourceLookup
{
	const CsWatch *watch;
	char	   *key;
	const char *email;			/* NULL: whoever it is */
	CsForgetFate fate;
} CsSourceLookup;

static void
look_in_source(void *arg)
{
	CsSourceLookup *lookup = arg;
	CsSource   *source = cs_source_row_open(lookup->watch);
	CsSourceRow row = {0};
	const char *email;

	cs_source_row_read(source, 1, &lookup->key, &row);
	cs_source_row_close(source);
	if (row.contact == NULL)
	{
		lookup->fate = CS_FATE_GONE;
		return;
	}
	email = row.contact->value[CS_EMAIL];
	if (lookup->email && email && strchr(lookup->email, '@') &&
		strcmp(cs_text_from_utf8(cs_email_normalize(email)), lookup->email) != 0)
		lookup->fate = CS_FATE_OTHER;
	else
		lookup->fate = CS_FATE_HERE;
}

/* Return the watch of that id, palloc'd, or NULL. */
static CsWatch *
load_watch(int id)
{
	MemoryContext context = CurrentMemoryContext;
	CsWatch    *watch;
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	/* what is loaded outlives the scope */
	MemoryContextSwitchTo(context);
	watch = cs_watch_load(id);
	cs_sql_leave(&scope);
	return watch;
}

/*
 * Find out what has become of a row.  If the row cannot be read, it would not be
 * sent either.
 */
static void
look(CsForgetRow *row, const char *email)
{
	CsSourceLookup lookup = {.key = row->key,.email = email};

	if (row->watch == 0)
		return;
	lookup.watch = load_watch(row->watch);
	if (lookup.watch && cs_try(look_in_source, &lookup, NULL, NULL) == CS_TRY_OK)
		row->fate = lookup.fate;
}

/* Tell the user if a row still exists and would be sent again, or if that is not known. */
static void
notice_if_not_gone(const CsForgetRow *row)
{
	const CsWatch *watch = row->watch && row->fate != CS_FATE_GONE ? load_watch(row->watch) : NULL;

	if (watch == NULL || row->fate == CS_FATE_OTHER)
		return;
	if (row->fate == CS_FATE_UNKNOWN)
	{
		ereport(NOTICE,
				(errmsg("row \"%s\" of table \"%s\" cannot be read, so its contact is not removed at the provider", row->key,
						get_rel_name(watch->source)),
				 errhint("SELECT * FROM contactsync.status shows what is wrong with the watch. Delete the contact at the provider by hand.")));
		return;
	}
	ereport(NOTICE,
			(errmsg("row \"%s\" of table \"%s\" still exists and will be sent again when it changes", row->key,
					get_rel_name(watch->source)),
			 errhint("Delete the rows of a person before contactsync_forget(): a contact that is forgotten here is not removed at the provider when its row goes.")));
}

/* contactsync_forget(email, suppression) */
Datum
contactsync_forget_email(PG_FUNCTION_ARGS)
{
	char	   *email = contact_argument(fcinfo, 0);
	MemoryContext context = CurrentMemoryContext;
	int64		forgotten[CS_FORGET_KINDS] = {0};
	CsForgetRows rows;
	CsSqlScope	scope;
	Oid			roleid;

	InitMaterializedSRF(fcinfo, 0);
	roleid = cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	cs_forget_find_rows(email, roleid, &rows);
	cs_sql_leave(&scope);
	for (int i = 0; i < rows.n; i++)
		look(&rows.rows[i], email);
	cs_sql_enter(&scope);
	cs_forget_email(email, roleid, PG_GETARG_BOOL(1), &rows, forgotten);
	cs_sql_leave(&scope);
	put_counts(fcinfo, forgotten);
	for (int i = 0; i < rows.n; i++)
		notice_if_not_gone(&rows.rows[i]);
	return (Datum) 0;
}

/* contactsync_forget(source, server, key, suppression) */
Datum
contactsync_forget_row(PG_FUNCTION_ARGS)
{
	int64		forgotten[CS_FORGET_KINDS] = {0};
	CsForgetRow row = {0};
	CsSqlScope	scope;
	CsWatch    *watch;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3))
		return (Datum) 0;
	watch = cs_watch_find(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), GetUserId());
	row.endpoint = watch->endpoint;
	row.watch = watch->id;
	row.key = cs_argument_key(fcinfo, 2, watch);
	look(&row, NULL);
	cs_sql_enter(&scope);
	cs_forget_row(&row, PG_GETARG_BOOL(3), forgotten);
	cs_sql_leave(&scope);
	put_counts(fcinfo, forgotten);
	notice_if_not_gone(&row);
	return (Datum) 0;
}
