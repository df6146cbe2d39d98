/*-------------------------------------------------------------------------
 *
 * call_log.c
 *		contactsync.call: the log of HTTP calls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/sql.h"
#include "base/text.h"
#include "store/call_log.h"
#include "store/keyed_table.h"

/* Columns of contactsync.call. */
enum
{
	CALL_ID,
	CALL_ENDPOINT,
	CALL_STARTED_AT,
	CALL_DURATION,
	CALL_METHOD,
	CALL_PATH,
	CALL_STATUS,
	CALL_VERDICT,
	CALL_CONTACTS,
	CALL_FAILED,
	CALL_ATTEMPT,
	CALL_SENT,
	CALL_RECEIVED,
	CALL_IDEMPOTENCY_KEY,
	CALL_REQUEST_ID,
	CALL_ERROR,
	CALL_CREATED,
	CALL_UPDATED
};

static Datum
make_duration(double seconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) rint(seconds * USECS_PER_SEC);
	return IntervalPGetDatum(interval);
}

static void
set_int(CsKeyedWriter *writer, int column, int value)
{
	cs_keyed_table_set(writer, column, Int32GetDatum(value));
}

/* Set a count that is negative if it is not known. */
static void
set_count(CsKeyedWriter *writer, int column, int value)
{
	set_int(writer, column, value);
	writer->nulls[column] = value < 0;
}

static void
set_utf8(CsKeyedWriter *writer, int column, const char *utf8)
{
	cs_keyed_table_set_text(writer, column, utf8 ? cs_text_from_utf8(utf8) : NULL);
}

static void
set_record(CsKeyedWriter *writer, const CsCallRecord *record)
{
	set_int(writer, CALL_ENDPOINT, record->endpoint);
	cs_keyed_table_set(writer, CALL_STARTED_AT, TimestampTzGetDatum(record->started_at));
	cs_keyed_table_set(writer, CALL_DURATION, make_duration(record->duration));
	cs_keyed_table_set_text(writer, CALL_METHOD, record->method);
	set_utf8(writer, CALL_PATH, record->path);
	set_int(writer, CALL_STATUS, record->status);
	cs_keyed_table_set_text(writer, CALL_VERDICT, record->verdict);
	set_int(writer, CALL_CONTACTS, record->contacts);
	set_int(writer, CALL_FAILED, record->failed);
	set_int(writer, CALL_ATTEMPT, record->attempt);
	set_int(writer, CALL_SENT, record->sent);
	set_int(writer, CALL_RECEIVED, record->received);
	set_utf8(writer, CALL_IDEMPOTENCY_KEY, record->idempotency_key);
	set_utf8(writer, CALL_REQUEST_ID, record->request_id);
	set_utf8(writer, CALL_ERROR, record->error ? cs_text_make_visible(record->error) : NULL);
	set_count(writer, CALL_CREATED, record->created);
	set_count(writer, CALL_UPDATED, record->updated);
}

/* Store a list of CsCallRecord. */
void
cs_call_log_store(const List *records)
{
	CsKeyedWriter writer;
	Oid			sequence;
	ListCell   *lc;

	if (records == NIL)
		return;
	cs_keyed_table_begin_write(&writer, "call", 1);
	sequence = get_relname_relid("call_id_seq", RelationGetNamespace(writer.table.rel));
	foreach(lc, records)
	{
		cs_keyed_table_set(&writer, CALL_ID, Int64GetDatum(nextval_internal(sequence, false)));
		set_record(&writer, lfirst(lc));
		cs_keyed_table_insert(&writer);
	}
	cs_keyed_table_end_write(&writer);
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
