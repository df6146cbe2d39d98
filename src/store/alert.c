/*-------------------------------------------------------------------------
 *
 * alert.c
 *		contactsync.alert: trouble of servers and watches, to be told to alert_url.
 *
 * A row is written in the transaction that stores the trouble, and there is one from its
 * beginning to its end, whatever restarts meanwhile.  So each is told once, and its end
 * is told if the beginning was, or may have been.  The process that delivers calls
 * alert_url later, outside of transactions; whatever becomes of that, delivery goes on.
 *
 * Of trouble only the names of server, table and role are told, the class of the reason
 * and numbers.  Names that look like addresses, as those of roles can, are left out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/text.h"
#include "store/alert.h"
#include "store/notify.h"

/* Trouble of an endpoint that is noted within an hour; the rest is not. */
#define MAX_PER_HOUR	"60"

/* The time between two calls with one message (s): at first, and at most. */
#define FIRST_PAUSE		"15"
#define MAX_PAUSE		"3600"

/* Rows that are deleted at once. */
#define MAX_PRUNED		"10000"

/* What ends trouble: it is told if its beginning was, or may have been. */
#define END \
	" SET ended_at = clock_timestamp(), attempts = 0, error = NULL," \
	" next_at = CASE WHEN told_at IS NOT NULL OR attempts > 0 THEN clock_timestamp() END"

/* A text without what looks like an address. */
#define PLAIN(text) "regexp_replace(" text ", '[^[:space:]\"''()<>,;]+@[^[:space:]\"''()<>,;]+', '(address)', 'g')"

#define UTC(time) "to_char(" time " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

static bool news = false;

bool
cs_alert_take_news(void)
{
	bool		result = news;

	news = false;
	return result;
}

void
cs_alert_begin(const char *event, int endpoint, int watch, const char *reason, int64 contacts)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.alert (endpoint, watch, event, reason, contacts)"
		" SELECT $2, $3, $1, split_part($4, ':', 1), $5 WHERE (SELECT count(*) FROM contactsync.alert a"
		" WHERE a.endpoint = $2 AND a.began_at > clock_timestamp() - interval '1 hour') < " MAX_PER_HOUR
		" ON CONFLICT (endpoint, watch, event) WHERE ended_at IS NULL DO NOTHING",
		5, {TEXTOID, INT4OID, INT4OID, TEXTOID, INT8OID}
	};
	Datum		args[5] = {CStringGetTextDatum(event), Int32GetDatum(endpoint), Int32GetDatum(watch)};
	char		nulls[6] = "     ";

	args[3] = cs_sql_message_or_null(reason, &nulls[3]);
	args[4] = Int64GetDatum(contacts);
	nulls[4] = contacts < 0 ? 'n' : ' ';
	news |= cs_sql_execute(&statement, args, nulls) > 0;
}

void
cs_alert_end_halt(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.alert" END " WHERE endpoint = $1 AND watch = 0 AND event IN ('halted', 'breaker')"
		" AND ended_at IS NULL",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	news |= cs_sql_execute(&statement, &arg, NULL) > 0;
}

static Datum
int_array(int n, const int *ints)
{
	Datum	   *elements = palloc(Max(n, 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		elements[i] = Int32GetDatum(ints[i]);
	return PointerGetDatum(construct_array(elements, n, INT4OID, 4, true, TYPALIGN_INT));
}

void
cs_alert_end_watches(int n, const int *endpoints)
{
	static CsStatement statement = {
		"UPDATE contactsync.alert a" END " WHERE a.endpoint = ANY ($1) AND a.event IN ('broken', 'guarded') AND a.ended_at IS NULL"
		" AND NOT EXISTS (SELECT FROM contactsync.watch w WHERE w.id = a.watch AND w.state = a.event)",
		1, {INT4ARRAYOID}
	};
	Datum		arg = int_array(n, endpoints);

	news |= cs_sql_execute(&statement, &arg, NULL) > 0;
}

/* Begin or end one kind of trouble of an endpoint.  Return whether that is news. */
static bool
set_trouble(const char *event, int endpoint, bool holds, int64 contacts)
{
	static CsStatement end = {
		"UPDATE contactsync.alert" END " WHERE endpoint = $1 AND watch = 0 AND event = $2 AND ended_at IS NULL",
		2, {INT4OID, TEXTOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), CStringGetTextDatum(event)};
	bool		before = news;
	bool		changed;

	news = false;
	if (holds)
		cs_alert_begin(event, endpoint, 0, NULL, contacts);
	else
		news = cs_sql_execute(&end, args, NULL) > 0;
	changed = news;
	news |= before;
	return changed;
}

void
cs_alert_compare(int n, const CsAlertThreshold *thresholds)
{
	static CsStatement count = {
		"SELECT COALESCE(sum(failed), 0)::int8 FROM contactsync.minute WHERE endpoint = $1"
		" AND at > clock_timestamp() - interval '1 hour'",
		1, {INT4OID}
	};

	for (int i = 0; i < n; i++)
	{
		const CsAlertThreshold *one = &thresholds[i];
		Datum		arg = Int32GetDatum(one->endpoint);
		bool		old = one->backlog_age > 0 && one->oldest > one->backlog_age;
		bool		isnull;
		int64		failed;

		cs_sql_execute(&count, &arg, NULL);
		failed = DatumGetInt64(cs_sql_value(0, 1, &isnull));
		set_trouble("failures", one->endpoint, one->failures > 0 && failed >= one->failures, failed);
		if (set_trouble("backlog", one->endpoint, old, one->backlog))
			cs_notify(old ? "backlog" : "recovered", one->endpoint, 0, old ? NULL : "backlog", old ? one->backlog : 0);
	}
}

void
cs_alert_due(int n, const int *endpoints, double *due_at)
{
	static CsStatement statement = {
		"SELECT endpoint, extract(epoch FROM min(next_at))::float8 FROM contactsync.alert"
		" WHERE endpoint = ANY ($1) AND next_at IS NOT NULL GROUP BY endpoint",
		1, {INT4ARRAYOID}
	};
	Datum		arg = int_array(n, endpoints);
	uint64		found = cs_sql_execute(&statement, &arg, NULL);
	bool		isnull;

	for (int i = 0; i < n; i++)
		due_at[i] = DBL_MAX;
	for (uint64 row = 0; row < found; row++)
		for (int i = 0; i < n; i++)
			if (endpoints[i] == cs_sql_int(row, 1))
				due_at[i] = cs_clock_of_stored(DatumGetFloat8(cs_sql_value(row, 2, &isnull)));
}

/* Return a text of the row, in UTF-8, or NULL. */
static const char *
text_of(int column)
{
	char	   *text = cs_sql_text(0, column);

	return text ? cs_text_message_to_utf8(text) : NULL;
}

/* Return a number of the row; -1 for null. */
static int64
number_of(int column)
{
	bool		isnull;
	Datum		value = cs_sql_value(0, column, &isnull);

	return isnull ? -1 : DatumGetInt64(value);
}

CsAlert *
cs_alert_take(int endpoint, double now)
{
	/* what has not been told when it ends, and was not tried, has no next_at */
	static CsStatement take = {
		"UPDATE contactsync.alert a SET attempts = a.attempts + 1, next_at = CASE WHEN a.attempts + 1 < $3"
		" THEN $2 + make_interval(secs => least(" FIRST_PAUSE " * 4 ^ a.attempts, " MAX_PAUSE ")) END"
		" WHERE a.id = (SELECT id FROM contactsync.alert WHERE endpoint = $1 AND next_at <= $2"
		" ORDER BY next_at, id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING a.id",
		3, {INT4OID, TIMESTAMPTZOID, INT4OID}
	};
	static CsStatement read = {
		"SELECT a.ended_at IS NOT NULL, a.attempts, a.event, a.reason, 'contactsync-' || a.key,"
		" " PLAIN("e.server::text") ", " PLAIN("w.source::text") ", " PLAIN("e.role::text") ","
		" " PLAIN("current_database()::text") ","
		" CASE WHEN a.ended_at IS NULL THEN " PLAIN("contactsync.hint("
													"CASE a.event WHEN 'breaker' THEN 'halted' WHEN 'failures' THEN 'idle' WHEN 'backlog' THEN e.state ELSE a.event END,"
													" a.reason || ': ', e.server::text, w.source::text, e.role, 'running',"
													" (a.event = 'failures')::int::int8)") " END,"
		" " UTC("a.began_at") ", " UTC("a.ended_at") ", a.contacts,"
		" (SELECT m.backlog FROM contactsync.minute m WHERE m.endpoint = e.id AND m.at > clock_timestamp() - interval '2 min'"
		" AND m.backlog IS NOT NULL ORDER BY m.at DESC LIMIT 1),"
		" (SELECT COALESCE(sum(m.failed), 0)::int8 FROM contactsync.minute m WHERE m.endpoint = e.id"
		" AND m.at > clock_timestamp() - interval '1 hour')"
		" FROM contactsync.alert a JOIN contactsync.endpoint e ON e.id = a.endpoint"
		" LEFT JOIN contactsync.watch w ON w.id = a.watch AND w.endpoint = a.endpoint WHERE a.id = $1",
		1, {INT8OID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), TimestampTzGetDatum(cs_clock_timestamp(now)),
	Int32GetDatum(CS_ALERT_ATTEMPTS)};
	MemoryContext context = CurrentMemoryContext;
	CsAlert    *alert;
	bool		isnull;
	Datum		id;

	if (cs_sql_execute(&take, args, NULL) == 0)
		return NULL;
	id = cs_sql_value(0, 1, &isnull);
	if (cs_sql_execute(&read, &id, NULL) == 0)
		return NULL;
	MemoryContextSwitchTo(context);
	alert = palloc0(sizeof(CsAlert));
	alert->id = DatumGetInt64(id);
	alert->ended = DatumGetBool(cs_sql_value(0, 1, &isnull));
	alert->attempt = cs_sql_int(0, 2);
	alert->event = text_of(3);
	alert->reason = text_of(4);
	alert->key = text_of(5);
	alert->server = text_of(6);
	alert->source = text_of(7);
	alert->owner = text_of(8);
	alert->database = text_of(9);
	alert->hint = text_of(10);
	alert->since = text_of(11);
	alert->until = text_of(12);
	alert->contacts = number_of(13);
	alert->backlog = number_of(14);
	alert->failed = number_of(15);
	return alert;
}

void
cs_alert_told(const CsAlert *alert)
{
	/* it may have ended while its beginning was told */
	static CsStatement begun = {
		"UPDATE contactsync.alert SET told_at = clock_timestamp(), error = NULL,"
		" attempts = CASE WHEN ended_at IS NULL THEN 0 ELSE attempts END,"
		" next_at = CASE WHEN ended_at IS NOT NULL THEN next_at END WHERE id = $1",
		1, {INT8OID}
	};
	static CsStatement ended = {
		"UPDATE contactsync.alert SET end_told_at = clock_timestamp(), error = NULL, attempts = 0, next_at = NULL WHERE id = $1",
		1, {INT8OID}
	};
	Datum		arg = Int64GetDatum(alert->id);

	cs_sql_execute(alert->ended ? &ended : &begun, &arg, NULL);
}

void
cs_alert_failed(const CsAlert *alert, const char *error, double not_before)
{
	static CsStatement statement = {
		"UPDATE contactsync.alert SET error = $2, next_at = greatest(next_at, CASE WHEN next_at IS NOT NULL THEN $3 END)"
		" WHERE id = $1 AND (ended_at IS NOT NULL) = $4",
		4, {INT8OID, TEXTOID, TIMESTAMPTZOID, BOOLOID}
	};
	Datum		args[4] = {Int64GetDatum(alert->id)};
	char		nulls[5] = "    ";

	args[1] = cs_sql_message_or_null(error, &nulls[1]);
	args[2] = TimestampTzGetDatum(cs_clock_timestamp(not_before));
	args[3] = BoolGetDatum(alert->ended);
	cs_sql_execute(&statement, args, nulls);
}

void
cs_alert_try_again(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.alert SET attempts = least(attempts, 1), next_at = clock_timestamp() WHERE endpoint = $1 AND attempts > 0"
		" AND began_at > clock_timestamp() - interval '1 day'",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	news |= cs_sql_execute(&statement, &arg, NULL) > 0;
}

void
cs_alert_prune(void)
{
	static CsStatement by_count = {
		"DELETE FROM contactsync.alert WHERE id = ANY (ARRAY(SELECT r.id FROM"
		" (SELECT endpoint FROM contactsync.alert GROUP BY endpoint HAVING count(*) > $1) k,"
		" LATERAL (SELECT o.id FROM contactsync.alert o WHERE o.endpoint = k.endpoint AND o.ended_at IS NOT NULL"
		" ORDER BY o.id DESC OFFSET $1) r LIMIT " MAX_PRUNED "))",
		1, {INT4OID}
	};
	static CsStatement by_age = {
		"DELETE FROM contactsync.alert WHERE id = ANY (ARRAY(SELECT id FROM contactsync.alert"
		" WHERE ended_at < clock_timestamp() - make_interval(mins => $1) ORDER BY id LIMIT " MAX_PRUNED "))",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(cs_run_log_rows);

	cs_sql_execute(&by_count, &arg, NULL);
	arg = Int32GetDatum(cs_run_log_age);
	cs_sql_execute(&by_age, &arg, NULL);
}
