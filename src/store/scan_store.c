/*-------------------------------------------------------------------------
 *
 * scan_store.c
 *		contactsync.scan: walks over whole sources, and how far they are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/sql.h"
#include "store/run_log.h"
#include "store/scan_store.h"
#include "store/watch_store.h"

static const char *const kinds[] = {"import", "reconcile", "poll"};
static const char *const phases[] = {"counting", "comparing", "missing"};

static int
find_word(const char *const *words, int n, const char *word)
{
	for (int i = 0; i < n; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	elog(ERROR, "contactsync.scan has an unknown word \"%s\"", word);
}

static double
float_value(int row, int column)
{
	bool		isnull;
	Datum		value = cs_sql_value(row, column, &isnull);

	return isnull ? 0 : DatumGetFloat8(value);
}

static bool
bool_value(int row, int column)
{
	bool		isnull;
	Datum		value = cs_sql_value(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

/* The watches that have scans that are running, as a list of integers. */
List *
cs_scan_store_watches(void)
{
	static CsStatement statement = {
		"SELECT DISTINCT watch FROM contactsync.scan WHERE state = 'running'"
	};
	MemoryContext context = CurrentMemoryContext;
	uint64		n = cs_sql_execute(&statement, NULL, NULL);
	List	   *watches = NIL;

	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
		watches = lappend_int(watches, cs_sql_int(i, 1));
	return watches;
}

/* The scans of a watch that are running, as a list of CsScanRow. */
List *
cs_scan_store_load(int endpoint, int watch)
{
	static CsStatement statement = {
		"SELECT id, kind, phase, value, cursor, watermark, filter, rate, automations IS NOT NULL, changes,"
		" extract(epoch FROM next_at)::float8, since, claims = 'all' FROM contactsync.scan"
		" WHERE endpoint = $1 AND watch = $2 AND state = 'running' ORDER BY kind <> 'poll', id",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(watch)};
	MemoryContext context = CurrentMemoryContext;
	uint64		n = cs_sql_execute(&statement, args, NULL);
	List	   *rows = NIL;

	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
	{
		CsScanRow  *row = palloc0(sizeof(CsScanRow));
		bool		isnull;

		row->id = cs_sql_int(i, 1);
		row->kind = find_word(kinds, lengthof(kinds), cs_sql_text(i, 2));
		row->phase = find_word(phases, lengthof(phases), cs_sql_text(i, 3));
		row->position.value = cs_sql_text(i, 4);
		row->position.key = cs_sql_text(i, 5);
		row->watermark = cs_sql_text(i, 6);
		row->filter = cs_sql_text(i, 7);
		row->rate = float_value(i, 8);
		row->accepted = bool_value(i, 9);
		row->changes = DatumGetInt64(cs_sql_value(i, 10, &isnull));
		row->next_at = cs_clock_of_stored(float_value(i, 11));
		row->since = cs_sql_text(i, 12);
		row->claims_all = bool_value(i, 13);
		rows = lappend(rows, row);
	}
	return rows;
}

/*
 * Create a scan and return its id; 0 if an import or reconciliation of the watch
 * is running.  Ended scans of the same kind are deleted.  "by" is the role that wants
 * it; NULL: it is due.
 */
int
cs_scan_store_create(const CsWatch *watch, CsScanKind kind, const char *filter, double rate,
					 const char *automations, const char *claims, int64 total, const char *by)
{
	static CsStatement forget = {
		"DELETE FROM contactsync.scan WHERE endpoint = $1 AND watch = $2 AND kind = $3 AND state <> 'running'",
		3, {INT4OID, INT4OID, TEXTOID}
	};
	static CsStatement create = {
		"INSERT INTO contactsync.scan (endpoint, watch, kind, phase, filter, rate, automations, total, claims)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
		" ON CONFLICT (watch) WHERE state = 'running' AND kind <> 'poll' DO NOTHING RETURNING id",
		9, {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, FLOAT8OID, TEXTOID, INT8OID, TEXTOID}
	};
	Datum		args[9];
	char		nulls[10] = "         ";
	int			id;

	args[0] = Int32GetDatum(watch->endpoint);
	args[1] = Int32GetDatum(watch->id);
	args[2] = CStringGetTextDatum(kinds[kind]);
	cs_sql_execute(&forget, args, NULL);
	args[3] = CStringGetTextDatum(phases[automations ? CS_SCAN_COMPARING : CS_SCAN_COUNTING]);
	args[4] = cs_sql_text_or_null(filter, &nulls[4]);
	args[5] = Float8GetDatum(rate);
	nulls[5] = rate > 0 ? ' ' : 'n';
	args[6] = cs_sql_text_or_null(automations, &nulls[6]);
	args[7] = Int64GetDatum(total);
	args[8] = cs_sql_text_or_null(claims, &nulls[8]);
	if (cs_sql_execute(&create, args, nulls) == 0)
		return 0;
	id = cs_sql_int(0, 1);
	cs_run_log_begin_scan(id, by);
	return id;
}

/* Lock a scan that is running, without waiting. */
CsScanLock
cs_scan_store_lock(int id)
{
	static CsStatement lock = {
		"SELECT FROM contactsync.scan WHERE id = $1 AND state = 'running' FOR UPDATE SKIP LOCKED", 1, {INT4OID}
	};
	static CsStatement exists = {
		"SELECT FROM contactsync.scan WHERE id = $1 AND state = 'running'", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(id);

	if (cs_sql_execute(&lock, &arg, NULL) > 0)
		return CS_SCAN_LOCKED;
	return cs_sql_execute(&exists, &arg, NULL) > 0 ? CS_SCAN_BUSY : CS_SCAN_ENDED;
}

/* Store how far the scan is, and add what it found on a page. */
void
cs_scan_store_step(const CsScanRow *row, const CsScanStep *step)
{
	static CsStatement statement = {
		"UPDATE contactsync.scan SET value = $2, cursor = $3, watermark = $4, changes = $5, next_at = $6,"
		" done = done + $7, new = new + $8, changed = changed + $9, unchanged = unchanged + $10,"
		" refused = refused + $11, withheld = withheld + $12, invalid = invalid + $13, filtered = filtered + $14,"
		" gone = gone + $15,"
		" updated_at = clock_timestamp() WHERE id = $1",
		15, {INT4OID, TEXTOID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID}
	};
	Datum		args[15];
	char		nulls[16] = "               ";

	args[0] = Int32GetDatum(row->id);
	args[1] = cs_sql_text_or_null(row->position.value, &nulls[1]);
	args[2] = cs_sql_text_or_null(row->position.key, &nulls[2]);
	args[3] = cs_sql_text_or_null(row->watermark, &nulls[3]);
	args[4] = Int64GetDatum(row->changes);
	args[5] = TimestampTzGetDatum(cs_clock_timestamp(row->next_at));
	nulls[5] = row->next_at > 0 ? ' ' : 'n';
	args[6] = Int64GetDatum(step->rows);
	for (int i = 0; i < CS_DIFFERENCES; i++)
		args[7 + i] = Int64GetDatum(step->found[i]);
	cs_sql_execute(&statement, args, nulls);
}

/* Store that the scan is at the beginning of row->phase.  A total of -1 leaves the
 * total as it is. */
void
cs_scan_store_begin_phase(const CsScanRow *row, int64 total)
{
	static CsStatement statement = {
		"UPDATE contactsync.scan SET phase = $2, automations = CASE WHEN $3 THEN automations END, value = $4,"
		" cursor = NULL, changes = 0, done = 0, total = COALESCE($5, total)"
		" WHERE id = $1",
		5, {INT4OID, TEXTOID, BOOLOID, TEXTOID, INT8OID}
	};
	Datum		args[5];
	char		nulls[6] = "     ";

	args[0] = Int32GetDatum(row->id);
	args[1] = CStringGetTextDatum(phases[row->phase]);
	args[2] = BoolGetDatum(row->accepted);
	args[3] = cs_sql_text_or_null(row->position.value, &nulls[3]);
	args[4] = Int64GetDatum(total);
	nulls[4] = total >= 0 ? ' ' : 'n';
	cs_sql_execute(&statement, args, nulls);
}

/* A round of polling has ended: the next one counts anew. */
void
cs_scan_store_end_round(int id)
{
	static CsStatement statement = {
		"UPDATE contactsync.scan SET new = 0, changed = 0, unchanged = 0, refused = 0, withheld = 0, invalid = 0, filtered = 0,"
		" gone = 0 WHERE id = $1", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(id);

	cs_run_log_end_scan(id, "done", NULL, NULL);
	cs_sql_execute(&statement, &arg, NULL);
}

/* End a scan.  "reason" says why it failed; NULL: it has come to its end. */
void
cs_scan_store_end(int id, const char *reason)
{
	static CsStatement statement = {
		"UPDATE contactsync.scan SET state = CASE WHEN $2 IS NULL THEN 'done' ELSE 'failed' END, reason = $2,"
		" finished_at = clock_timestamp() WHERE id = $1 RETURNING CASE WHEN filter IS NULL THEN watch END",
		2, {INT4OID, TEXTOID}
	};
	Datum		args[2];
	char		nulls[3] = "  ";
	uint64		n;
	Datum		watch;
	bool		isnull;

	args[0] = Int32GetDatum(id);
	args[1] = cs_sql_message_or_null(reason, &nulls[1]);
	n = cs_sql_execute(&statement, args, nulls);
	if (n == 0)
		return;
	watch = cs_sql_value(0, 1, &isnull);
	cs_run_log_end_scan(id, reason ? "failed" : "done", reason, NULL);
	if (reason == NULL && !isnull)
		cs_watch_store_complete(DatumGetInt32(watch));
}

/* How many contacts the scan has found: about as many as the watch has synced. */
int64
cs_scan_store_total_known(int id)
{
	static CsStatement statement = {
		"SELECT new + changed + unchanged + gone FROM contactsync.scan WHERE id = $1", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(id);
	bool		isnull;

	cs_sql_execute(&statement, &arg, NULL);
	return DatumGetInt64(cs_sql_value(0, 1, &isnull));
}

/* Store what the user says of automations, for the scans of a watch that are
 * running. */
void
cs_scan_store_accept(int endpoint, int watch, const char *automations)
{
	static CsStatement statement = {
		"UPDATE contactsync.scan SET automations = $3 WHERE watch = $1 AND endpoint = $2 AND state = 'running'",
		3, {INT4OID, INT4OID, TEXTOID}
	};
	Datum		args[3] = {Int32GetDatum(watch), Int32GetDatum(endpoint), CStringGetTextDatum(automations)};

	cs_sql_execute(&statement, args, NULL);
}

/* Cancel the import or reconciliation of a watch, for a role.  Return false if none
 * runs. */
bool
cs_scan_store_cancel(int endpoint, int watch, const char *by)
{
	static CsStatement statement = {
		"UPDATE contactsync.scan SET state = 'canceled', finished_at = clock_timestamp()"
		" WHERE endpoint = $1 AND watch = $2 AND state = 'running' AND kind <> 'poll' RETURNING id",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(watch)};

	if (cs_sql_execute(&statement, args, NULL) == 0)
		return false;
	cs_run_log_end_scan(cs_sql_int(0, 1), "canceled", NULL, by);
	return true;
}

/* Store when the next reconciliation is due, and return it in Unix seconds; 0: none
 * is configured. */
double
cs_scan_store_next_reconcile(int watch, double now)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET reconcile_next = CASE WHEN reconcile_at IS NULL THEN $2 + reconcile_every"
		" ELSE ($2 + reconcile_every)::date + reconcile_at END WHERE id = $1"
		" RETURNING extract(epoch FROM reconcile_next)::float8",
		2, {INT4OID, TIMESTAMPTZOID}
	};
	Datum		args[2] = {Int32GetDatum(watch), TimestampTzGetDatum(cs_clock_timestamp(now))};

	return cs_sql_execute(&statement, args, NULL) > 0 ? cs_clock_of_stored(float_value(0, 1)) : 0;
}
