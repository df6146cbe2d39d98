/*-------------------------------------------------------------------------
 *
 * call_log.c
 *		contactsync.call: the log of HTTP calls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/sql.h"
#include "base/text.h"
#include "store/call_log.h"

void
cs_call_log_add(const CsCallRecord *record)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.call (endpoint, started_at, duration, method, path, status, verdict, contacts,"
		" failed, attempt, sent, received, idempotency_key, request_id, error, created, updated)"
		" VALUES ($1, $2, make_interval(secs => $3), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
		17, {INT4OID, TIMESTAMPTZOID, FLOAT8OID, TEXTOID, TEXTOID, INT4OID, TEXTOID, INT4OID,
		INT4OID, INT4OID, INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID}
	};
	Datum		args[17];
	char		nulls[18] = "                 ";

	args[0] = Int32GetDatum(record->endpoint);
	args[1] = TimestampTzGetDatum(record->started_at);
	args[2] = Float8GetDatum(record->duration);
	args[3] = CStringGetTextDatum(record->method);
	args[4] = CStringGetTextDatum(cs_text_from_utf8(record->path));
	args[5] = Int32GetDatum(record->status);
	args[6] = CStringGetTextDatum(record->verdict);
	args[7] = Int32GetDatum(record->contacts);
	args[8] = Int32GetDatum(record->failed);
	args[9] = Int32GetDatum(record->attempt);
	args[10] = Int32GetDatum(record->sent);
	args[11] = Int32GetDatum(record->received);
	args[12] = cs_sql_utf8_or_null(record->idempotency_key, &nulls[12]);
	args[13] = cs_sql_utf8_or_null(record->request_id, &nulls[13]);
	args[14] = cs_sql_message_or_null(record->error, &nulls[14]);
	args[15] = Int32GetDatum(record->created);
	nulls[15] = record->created < 0 ? 'n' : ' ';
	args[16] = Int32GetDatum(record->updated);
	nulls[16] = record->updated < 0 ? 'n' : ' ';
	cs_sql_execute(&statement, args, nulls);
}

/* Delete calls that are older than call_log_age, and the oldest beyond call_log_rows. */
void
cs_call_log_prune(void)
{
	static CsStatement by_count = {
		"DELETE FROM contactsync.call WHERE id <= (SELECT max(id) FROM contactsync.call) - $1",
		1, {INT4OID}
	};
	static CsStatement by_age = {
		"DELETE FROM contactsync.call c USING (SELECT id FROM contactsync.call ORDER BY id LIMIT 10000) o"
		" WHERE c.id = o.id AND c.started_at < clock_timestamp() - make_interval(mins => $1)",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(cs_call_log_rows);

	cs_sql_execute(&by_count, &arg, NULL);
	arg = Int32GetDatum(cs_call_log_age);
	cs_sql_execute(&by_age, &arg, NULL);
}
