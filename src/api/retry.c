/*-------------------------------------------------------------------------
 *
 * retry.c
 *		SQL functions that send again, and that ignore what failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "api/argument.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "provider/endpoint.h"
#include "provider/server.h"
#include "store/queue.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_retry);
CS_FUNCTION(contactsync_retry_watch);
CS_FUNCTION(contactsync_retry_reason);
CS_FUNCTION(contactsync_retry_failures);
CS_FUNCTION(contactsync_ignore);
CS_FUNCTION(contactsync_touch);

/* Keys in a row of the queue. */
#define KEYS_PER_ROW	200

/* Of the roles that the caller is: NULL and 0 where it does not matter. */
typedef struct CsWhich
{
	Name		server;
	int			watch;
	text	   *reason;
	ArrayType  *ids;			/* also those that are ignored */
} CsWhich;

/*
 * Effect: failures are queued again; they stay failures until they have another
 * outcome.  Returns how many.
 */
static int64
retry(const CsWhich *which)
{
	static CsStatement statement = {
		"WITH f AS (SELECT f.endpoint, f.watch, f.key, f.contact FROM contactsync.failure f"
		" JOIN contactsync.endpoint e ON e.id = f.endpoint"
		" WHERE pg_has_role($1, e.role, 'USAGE') AND ($2 IS NULL OR e.server = $2) AND ($3 = 0 OR f.watch = $3)"
		" AND ($4 IS NULL OR f.reason = $4) AND ($5 IS NULL AND NOT f.ignored OR f.id = ANY ($5))),"
		" queued AS (INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys, contact)"
		" SELECT endpoint, watch, pg_current_xact_id(),"
		" nextval('contactsync.queue_id') * CASE WHEN watch <> 0 THEN -1 ELSE 1 END, clock_timestamp(), 1,"
		" CASE WHEN watch <> 0 THEN ARRAY[key] END, contact FROM f WHERE watch <> 0 OR contact IS NOT NULL"
		" RETURNING 1) SELECT count(*) FROM queued",
		5, {OIDOID, NAMEOID, INT4OID, TEXTOID, INT8ARRAYOID}
	};
	Datum		args[5];
	char		nulls[6] = "     ";
	CsSqlScope	scope;
	bool		isnull;
	int64		n;

	args[0] = ObjectIdGetDatum(GetUserId());
	args[1] = which->server ? NameGetDatum(which->server) : (Datum) 0;
	nulls[1] = which->server ? ' ' : 'n';
	args[2] = Int32GetDatum(which->watch);
	args[3] = PointerGetDatum(which->reason);
	nulls[3] = which->reason ? ' ' : 'n';
	args[4] = PointerGetDatum(which->ids);
	nulls[4] = which->ids ? ' ' : 'n';
	cs_sql_enter(&scope);
	cs_sql_execute(&statement, args, nulls);
	n = DatumGetInt64(cs_sql_value(0, 1, &isnull));
	cs_sql_leave(&scope);
	cs_shmem_wake_at_commit();
	return n;
}

/* contactsync_retry(server) */
Datum
contactsync_retry(PG_FUNCTION_ARGS)
{
	CsWhich		which = {.server = PG_GETARG_NAME(0)};

	(void) cs_server_find(NameStr(*which.server), GetUserId());
	PG_RETURN_INT64(retry(&which));
}

/* contactsync_retry(source, server) */
Datum
contactsync_retry_watch(PG_FUNCTION_ARGS)
{
	CsWhich		which = {0};

	which.watch = cs_watch_find(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), GetUserId())->id;
	PG_RETURN_INT64(retry(&which));
}

/* contactsync_retry_reason(server, reason) */
Datum
contactsync_retry_reason(PG_FUNCTION_ARGS)
{
	CsWhich		which = {.server = PG_GETARG_NAME(0),.reason = PG_GETARG_TEXT_PP(1)};

	(void) cs_server_find(NameStr(*which.server), GetUserId());
	PG_RETURN_INT64(retry(&which));
}

/* contactsync_retry(failures) */
Datum
contactsync_retry_failures(PG_FUNCTION_ARGS)
{
	CsWhich		which = {.ids = PG_GETARG_ARRAYTYPE_P(0)};

	PG_RETURN_INT64(retry(&which));
}

/* contactsync_ignore(failures): they are shown and counted when they change. */
Datum
contactsync_ignore(PG_FUNCTION_ARGS)
{
	static CsStatement statement = {
		"UPDATE contactsync.failure f SET ignored = true FROM contactsync.endpoint e"
		" WHERE e.id = f.endpoint AND pg_has_role($1, e.role, 'USAGE') AND f.id = ANY ($2) AND NOT f.ignored",
		2, {OIDOID, INT8ARRAYOID}
	};
	Datum		args[2] = {ObjectIdGetDatum(GetUserId()), PG_GETARG_DATUM(0)};
	CsSqlScope	scope;
	uint64		n;

	cs_sql_enter(&scope);
	n = cs_sql_execute(&statement, args, NULL);
	cs_sql_leave(&scope);
	PG_RETURN_INT64((int64) n);
}

/* Effect: queues keys of a watch, to be sent whatever was sent before. */
static void
queue_touched(const CsWatch *watch, int n, char **keys)
{
	CsQueueWriter *writer = cs_queue_begin_write(NULL);
	Jsonb	   *marker = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("true")));
	Datum	   *elements = palloc(n * sizeof(Datum));

	if (writer == NULL)
		elog(ERROR, "table contactsync.queue does not exist");
	for (int i = 0; i < n; i++)
		elements[i] = CStringGetTextDatum(keys[i]);
	for (int i = 0; i < n; i += KEYS_PER_ROW)
	{
		int			count = Min(n - i, KEYS_PER_ROW);

		cs_queue_write(writer, watch->endpoint, watch->id, count,
					   construct_array(elements + i, count, TEXTOID, -1, false, TYPALIGN_INT), marker);
	}
	cs_queue_end_write(writer);
}

/* contactsync_touch(source, server, key, ...) */
Datum
contactsync_touch(PG_FUNCTION_ARGS)
{
	CsWatch    *watch;
	char	  **keys;
	int			n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	watch = cs_watch_find(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), GetUserId());
	keys = cs_argument_keys(fcinfo, 2, watch, &n);
	if (n > 0)
		queue_touched(watch, n, keys);
	cs_shmem_wake_at_commit();
	PG_RETURN_INT64(n);
}
