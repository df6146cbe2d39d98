/*-------------------------------------------------------------------------
 *
 * pause.c
 *		contactsync.pause: servers and watches that are paused.
 *
 * They are in a table of their own, not in the rows of endpoint and watch.  The
 * worker updates those, and must not wait for a session that pauses and leaves its
 * transaction open.  A pause is not a state of health either: neither a halt nor a
 * recovery ends it.
 *
 * Changes are still captured, and calls that are in flight are completed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/invalidation.h"
#include "base/sql.h"
#include "store/pause.h"

bool
cs_pause_set(int endpoint, int watch, const char *by, const char *reason)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.pause (endpoint, watch, paused_by, paused_at, reason)"
		" VALUES ($1, $2, $3, clock_timestamp(), $4) ON CONFLICT (endpoint, watch) DO NOTHING",
		4, {INT4OID, INT4OID, TEXTOID, TEXTOID}
	};
	Datum		args[4];
	char		nulls[5] = "    ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = CStringGetTextDatum(by);
	args[3] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	nulls[3] = reason ? ' ' : 'n';
	cs_invalidation_send(CS_DEFINITION_PAUSES);
	return cs_sql_execute(&statement, args, nulls) > 0;
}

bool
cs_pause_end(int endpoint, int watch)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.pause WHERE endpoint = $1 AND watch = $2", 2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(watch)};

	cs_invalidation_send(CS_DEFINITION_PAUSES);
	return cs_sql_execute(&statement, args, NULL) > 0;
}

/* Return a list of CsPause, palloc'd in the current context. */
List *
cs_pause_load(void)
{
	static CsStatement statement = {"SELECT endpoint, watch FROM contactsync.pause"};
	MemoryContext context = CurrentMemoryContext;
	List	   *pauses = NIL;
	uint64		n;

	n = cs_sql_execute(&statement, NULL, NULL);

	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
	{
		CsPause    *pause = palloc(sizeof(CsPause));

		pause->endpoint = cs_sql_int(i, 1);
		pause->watch = cs_sql_int(i, 2);
		pauses = lappend(pauses, pause);
	}
	return pauses;
}

/* Return whether this watch, or with 0 the endpoint as a whole, is among them. */
bool
cs_pause_includes(const List *pauses, int endpoint, int watch)
{
	ListCell   *lc;

	foreach(lc, pauses)
	{
		const CsPause *pause = lfirst(lc);

		if (pause->endpoint == endpoint && pause->watch == watch)
			return true;
	}
	return false;
}
