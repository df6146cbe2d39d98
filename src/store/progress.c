/*-------------------------------------------------------------------------
 *
 * progress.c
 *		What is left to be delivered, and what keeps it from being delivered.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "store/departure.h"
#include "store/progress.h"

/*
 * Read what is left.  The changes of a dump from another cluster count whatever the
 * snapshot says: their transactions may be in the future here.
 */
void
cs_progress_read(Oid serverid, Oid roleid, const char *snapshot, TimestampTz until,
				 TimestampTz left_until, bool closed, CsProgress *progress)
{
	static CsStatement statement = {
		"SELECT COALESCE(sum(q.n), 0)::int8, (min(ARRAY[e.server::text, t.trouble]) FILTER (WHERE t.trouble IS NOT NULL))[1],"
		" (min(ARRAY[e.server::text, t.trouble]) FILTER (WHERE t.trouble IS NOT NULL))[2],"
		" COALESCE(sum(q.scans), 0)::int8, COALESCE(sum(q.removals), 0)::int8"
		" FROM contactsync.endpoint e JOIN LATERAL (SELECT watch, sum(n) AS n, sum(scans) AS scans, sum(removals) AS removals FROM ("
		"SELECT watch, greatest(n, 1) AS n, (n = 0)::int AS scans, 0 AS removals FROM contactsync.queue"
		" WHERE endpoint = e.id AND ($3 IS NULL OR e.database <> contactsync.database_identity()"
		" OR pg_visible_in_snapshot(xact, $3::pg_snapshot))"
		" UNION ALL SELECT watch, GREATEST(total - done, 1), 1, 0 FROM contactsync.scan"
		" WHERE endpoint = e.id AND state = 'running' AND kind <> 'poll' AND started_at <= $4"
		" AND ($6 OR NOT EXISTS (SELECT FROM pg_foreign_server f WHERE f.oid = e.server_oid"
		" AND contactsync.window_opens_at(f.srvoptions) IS NOT NULL))"
		" UNION ALL SELECT watch, 1, 0, 1 FROM " CS_DUE_REMOVALS " r"
		" WHERE endpoint = e.id AND departed_at <= $5 AND NOT waits) p"
		" GROUP BY watch) q ON true LEFT JOIN contactsync.watch w ON w.id = q.watch"
		" LEFT JOIN contactsync.pause p ON p.endpoint = e.id AND p.watch = 0"
		" LEFT JOIN contactsync.pause wp ON wp.endpoint = e.id AND wp.watch = q.watch AND q.watch <> 0,"
		" LATERAL (SELECT CASE WHEN e.database <> contactsync.database_identity() THEN 'this database was restored or copied'"
		" WHEN p.paused_at IS NOT NULL THEN concat_ws(': ', 'paused by ' || p.paused_by, p.reason)"
		" WHEN wp.paused_at IS NOT NULL THEN format('the watch on %s: %s', w.source,"
		" concat_ws(': ', 'paused by ' || wp.paused_by, wp.reason))"
		" WHEN e.state = 'halted' THEN e.reason"
		" WHEN w.state IN ('broken', 'guarded') THEN format('the watch on %s: %s', w.source, w.reason) END AS trouble) t"
		" WHERE ($1 = 0 OR e.server = (SELECT srvname FROM pg_foreign_server WHERE oid = $1)) AND pg_has_role($2, e.role, 'USAGE')",
		6, {OIDOID, OIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID}
	};
	Datum		args[6];
	char		nulls[7] = "      ";
	MemoryContext context = CurrentMemoryContext;
	bool		isnull;

	args[0] = ObjectIdGetDatum(serverid);
	args[1] = ObjectIdGetDatum(roleid);
	args[2] = cs_sql_text_or_null(snapshot, &nulls[2]);
	args[3] = TimestampTzGetDatum(until);
	args[4] = TimestampTzGetDatum(left_until);
	args[5] = BoolGetDatum(closed);
	cs_sql_execute(&statement, args, nulls);
	progress->left = DatumGetInt64(cs_sql_value(0, 1, &isnull));
	progress->scans = DatumGetInt64(cs_sql_value(0, 4, &isnull));
	progress->removals = DatumGetInt64(cs_sql_value(0, 5, &isnull));
	MemoryContextSwitchTo(context);
	progress->server = cs_sql_text(0, 2);
	progress->trouble = cs_sql_text(0, 3);
}

char *
cs_progress_snapshot(void)
{
	static CsStatement statement = {"SELECT pg_current_snapshot()::text"};
	MemoryContext context = CurrentMemoryContext;

	cs_sql_execute(&statement, NULL, NULL);
	MemoryContextSwitchTo(context);
	return cs_sql_text(0, 1);
}
