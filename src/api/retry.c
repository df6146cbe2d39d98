/*-------------------------------------------------------------------------
 *
 * retry.c
 *		SQL functions that send contacts again, and that ignore failures.
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
#include "base/sql.h"
#include "base/wakeup.h"
#include "provider/server.h"
#include "store/failure.h"
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

/* Queue the caller's failures that a filter selects, and return how many. */
static int64
retry(CsFailureFilter *filter)
{
	CsSqlScope	scope;
	int64		n;

	filter->roleid = cs_sql_enter(&scope);
	n = cs_failure_retry(filter);
	cs_sql_leave(&scope);
	cs_wakeup_at_commit();
	return n;
}

/* contactsync_retry(server) */
Datum
contactsync_retry(PG_FUNCTION_ARGS)
{
	CsFailureFilter filter = {.server = PG_GETARG_NAME(0)};

	(void) cs_server_find(NameStr(*filter.server), GetUserId());
	PG_RETURN_INT64(retry(&filter));
}

/* contactsync_retry(source, server) */
Datum
contactsync_retry_watch(PG_FUNCTION_ARGS)
{
	CsFailureFilter filter = {0};

	filter.watch = cs_watch_find(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), GetUserId())->id;
	PG_RETURN_INT64(retry(&filter));
}

/* contactsync_retry_reason(server, reason) */
Datum
contactsync_retry_reason(PG_FUNCTION_ARGS)
{
	CsFailureFilter filter = {.server = PG_GETARG_NAME(0),.reason = PG_GETARG_TEXT_PP(1)};

	(void) cs_server_find(NameStr(*filter.server), GetUserId());
	PG_RETURN_INT64(retry(&filter));
}

/* contactsync_retry(failures) */
Datum
contactsync_retry_failures(PG_FUNCTION_ARGS)
{
	CsFailureFilter filter = {.ids = PG_GETARG_ARRAYTYPE_P(0)};

	PG_RETURN_INT64(retry(&filter));
}

/* contactsync_ignore(failures): they are shown and counted again when they change. */
Datum
contactsync_ignore(PG_FUNCTION_ARGS)
{
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	int64		n = cs_failure_ignore(roleid, PG_GETARG_ARRAYTYPE_P(0));

	cs_sql_leave(&scope);
	PG_RETURN_INT64(n);
}

/* Queue keys of a watch, to be sent even if nothing has changed. */
static void
queue_touched(const CsWatch *watch, int n, char **keys)
{
	CsQueueWriter *writer = cs_queue_begin_write(NULL);
	Jsonb	   *marker = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("true")));

	if (writer == NULL)
		elog(ERROR, "table contactsync.queue does not exist");
	for (int i = 0; i < n; i += KEYS_PER_ROW)
	{
		int			count = Min(n - i, KEYS_PER_ROW);

		cs_queue_write(writer, watch->endpoint, watch->id, count,
					   DatumGetArrayTypeP(cs_sql_make_text_array(count, keys + i)), marker, CS_QUEUE_TOUCH);
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
	cs_wakeup_at_commit();
	PG_RETURN_INT64(n);
}
