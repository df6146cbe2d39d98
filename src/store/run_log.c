/*-------------------------------------------------------------------------
 *
 * run_log.c
 *		contactsync.run: what was done with many contacts at once.
 *
 * What goes on is in other tables, which forget it: contactsync.scan keeps the last
 * scan of each kind, and contactsync.watch whether it is held.  This one says
 * afterwards who did what, when, and how it ended.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/sql.h"
#include "store/run_log.h"

/* Rows that are deleted at once. */
#define MAX_PRUNED	"10000"

void
cs_run_log_begin_scan(int scan, const char *by)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.run (endpoint, watch, kind, state, scan, started_by)"
		" SELECT s.endpoint, s.watch, s.kind, 'running', s.id, $2 FROM contactsync.scan s WHERE s.id = $1"
		" AND NOT EXISTS (SELECT FROM contactsync.run r WHERE r.watch = s.watch AND r.scan = s.id AND r.finished_at IS NULL)",
		2, {INT4OID, TEXTOID}
	};
	Datum		args[2] = {Int32GetDatum(scan)};
	char		nulls[3] = "  ";

	args[1] = cs_sql_text_or_null(by, &nulls[1]);
	cs_sql_execute(&statement, args, nulls);
}

void
cs_run_log_end_scan(int scan, const char *state, const char *reason, const char *by)
{
	static CsStatement statement = {
		"UPDATE contactsync.run r SET state = $2, reason = $3, finished_by = $4, finished_at = clock_timestamp(),"
		" outcomes = jsonb_strip_nulls(jsonb_build_object('new', NULLIF(s.new, 0), 'changed', NULLIF(s.changed, 0),"
		" 'unchanged', NULLIF(s.unchanged, 0), 'refused', NULLIF(s.refused, 0), 'withheld', NULLIF(s.withheld, 0),"
		" 'invalid', NULLIF(s.invalid, 0), 'filtered', NULLIF(s.filtered, 0), 'gone', NULLIF(s.gone, 0)))"
		" FROM contactsync.scan s WHERE s.id = $1 AND r.watch = s.watch AND r.scan = s.id AND r.finished_at IS NULL",
		4, {INT4OID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		args[4] = {Int32GetDatum(scan), CStringGetTextDatum(state)};
	char		nulls[5] = "    ";

	args[2] = cs_sql_message_or_null(reason, &nulls[2]);
	args[3] = cs_sql_text_or_null(by, &nulls[3]);
	cs_sql_execute(&statement, args, nulls);
}

void
cs_run_log_hold(int endpoint, int watch, const char *reason, int64 contacts)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.run (endpoint, watch, kind, state, reason, outcomes)"
		" VALUES ($1, $2, 'guard', 'held', $3, jsonb_build_object('held', $4))",
		4, {INT4OID, INT4OID, TEXTOID, INT8OID}
	};
	Datum		args[4] = {Int32GetDatum(endpoint), Int32GetDatum(watch), CStringGetTextDatum(reason), Int64GetDatum(contacts)};

	cs_sql_execute(&statement, args, NULL);
}

void
cs_run_log_release(int watch, const char *word, const char *by)
{
	static CsStatement statement = {
		"UPDATE contactsync.run SET state = $2, finished_by = $3, finished_at = clock_timestamp()"
		" WHERE watch = $1 AND kind = 'guard' AND finished_at IS NULL",
		3, {INT4OID, TEXTOID, TEXTOID}
	};
	Datum		args[3] = {Int32GetDatum(watch), CStringGetTextDatum(word), CStringGetTextDatum(by)};

	cs_sql_execute(&statement, args, NULL);
}

void
cs_run_log_pull(int endpoint, TimestampTz started_at, int64 listed, int64 opted_out,
				const char *reason, const char *by)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.run (endpoint, watch, kind, state, started_at, started_by, finished_at, outcomes, reason)"
		" VALUES ($1, 0, 'pull', CASE WHEN $6 IS NULL THEN 'done' ELSE 'failed' END, $2, $5, clock_timestamp(),"
		" jsonb_strip_nulls(jsonb_build_object('listed', $3, 'opted_out', NULLIF($4, 0))), $6)",
		6, {INT4OID, TIMESTAMPTZOID, INT8OID, INT8OID, TEXTOID, TEXTOID}
	};
	Datum		args[6] = {Int32GetDatum(endpoint), TimestampTzGetDatum(started_at), Int64GetDatum(listed), Int64GetDatum(opted_out)};
	char		nulls[7] = "      ";

	args[4] = cs_sql_text_or_null(by, &nulls[4]);
	args[5] = cs_sql_message_or_null(reason, &nulls[5]);
	cs_sql_execute(&statement, args, nulls);
}

void
cs_run_log_abandon(int watch, const char *kind, const char *reason)
{
	static CsStatement statement = {
		"UPDATE contactsync.run SET state = 'canceled', finished_at = clock_timestamp(), reason = $3"
		" WHERE watch = $1 AND finished_at IS NULL AND ($2 IS NULL OR kind = $2)",
		3, {INT4OID, TEXTOID, TEXTOID}
	};
	Datum		args[3] = {Int32GetDatum(watch)};
	char		nulls[4] = "   ";

	args[1] = cs_sql_text_or_null(kind, &nulls[1]);
	args[2] = CStringGetTextDatum(reason);
	cs_sql_execute(&statement, args, nulls);
}

void
cs_run_log_prune(void)
{
	/* so many rounds of polling do not take the place of an import */
	static CsStatement by_count = {
		"DELETE FROM contactsync.run WHERE id = ANY (ARRAY(SELECT r.id FROM"
		" (SELECT endpoint, watch, kind FROM contactsync.run GROUP BY endpoint, watch, kind HAVING count(*) > $1) k,"
		" LATERAL (SELECT o.id FROM contactsync.run o WHERE o.endpoint = k.endpoint AND o.watch = k.watch AND o.kind = k.kind"
		" AND o.finished_at IS NOT NULL ORDER BY o.id DESC OFFSET $1) r LIMIT " MAX_PRUNED "))",
		1, {INT4OID}
	};
	static CsStatement by_age = {
		"DELETE FROM contactsync.run WHERE id = ANY (ARRAY(SELECT id FROM contactsync.run"
		" WHERE finished_at < clock_timestamp() - make_interval(mins => $1) ORDER BY id LIMIT " MAX_PRUNED "))",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(cs_run_log_rows);

	cs_sql_execute(&by_count, &arg, NULL);
	arg = Int32GetDatum(cs_run_log_age);
	cs_sql_execute(&by_age, &arg, NULL);
}
