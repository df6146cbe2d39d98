/*-------------------------------------------------------------------------
 *
 * outcome_log.c
 *		contactsync.outcome: what became of contacts, and why they were sent.
 *
 * It has no address and no value of a contact: a keyed hash of the address, by which
 * what is known of a person is found and erased, and the names of fields.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/sql.h"
#include "provider/field_hash.h"
#include "store/consent.h"
#include "store/outcome_log.h"

/* Rows that are deleted in one transaction, which takes some 0.1 s. */
#define MAX_PRUNED	50000

/* The columns of a call, as arrays. */
enum
{
	ARG_ENDPOINT,
	ARG_WATCH,
	ARG_KEY,
	ARG_PERSON,
	ARG_UPSERT_KEY,
	ARG_OUTCOME,
	ARG_REASON,
	ARG_CAUSE,
	ARG_AGAIN,
	ARG_FIELDS,
	ARG_ATTEMPTS,
	ARG_QUEUED_AT,
	ARG_SEPARATOR,
	NARGS
};

/* An array with nulls where "values" has a 0 and the type is not an integer. */
static Datum
make_array(int n, Datum *values, Oid type)
{
	bool	   *nulls = palloc(n * sizeof(bool));
	int			bounds[1] = {1};
	int			dims[1] = {n};
	int16		len;
	bool		byval;
	char		align;

	get_typlenbyvalalign(type, &len, &byval, &align);
	for (int i = 0; i < n; i++)
		nulls[i] = values[i] == 0 && type != INT4OID;
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, bounds, type, len, byval, align));
}

static Datum
text_or_zero(const char *text)
{
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/* Fill the arrays. */
static void
fill(int n, const CsLoggedOutcome *outcomes, Datum *args)
{
	static const Oid types[NARGS] = {
		[ARG_WATCH] = INT4OID,[ARG_KEY] = TEXTOID,[ARG_PERSON] = BYTEAOID,[ARG_UPSERT_KEY] = TEXTOID,
		[ARG_OUTCOME] = TEXTOID,[ARG_REASON] = TEXTOID,[ARG_CAUSE] = TEXTOID,[ARG_AGAIN] = TEXTOID,
		[ARG_FIELDS] = TEXTOID,[ARG_ATTEMPTS] = INT4OID,[ARG_QUEUED_AT] = TIMESTAMPTZOID
	};
	Datum	   *columns[NARGS];
	char	  **addresses = palloc(n * sizeof(char *));

	for (int c = ARG_WATCH; c <= ARG_QUEUED_AT; c++)
		columns[c] = palloc(n * sizeof(Datum));
	for (int i = 0; i < n; i++)
	{
		const CsLoggedOutcome *one = &outcomes[i];

		addresses[i] = unconstify(char *, one->address);
		columns[ARG_WATCH][i] = Int32GetDatum(one->watch);
		columns[ARG_KEY][i] = text_or_zero(one->key);
		columns[ARG_UPSERT_KEY][i] = text_or_zero(one->upsert_key);
		columns[ARG_OUTCOME][i] = text_or_zero(one->outcome);
		columns[ARG_REASON][i] = text_or_zero(one->reason);
		columns[ARG_CAUSE][i] = text_or_zero(one->cause);
		columns[ARG_AGAIN][i] = text_or_zero(one->again);
		columns[ARG_FIELDS][i] = text_or_zero(one->fields);
		columns[ARG_ATTEMPTS][i] = Int32GetDatum(one->attempts);
		columns[ARG_QUEUED_AT][i] = TimestampTzGetDatum(one->queued_at);
	}
	cs_consent_hash_addresses(n, addresses, columns[ARG_PERSON]);
	for (int c = ARG_WATCH; c <= ARG_QUEUED_AT; c++)
		args[c] = make_array(n, columns[c], types[c]);
}

void
cs_outcome_log_store(int endpoint, int n, const CsLoggedOutcome *outcomes)
{
	/* of a row that has gone, the contact is still there */
	static CsStatement statement = {
		"INSERT INTO contactsync.outcome (at, endpoint, watch, key, person, outcome, reason, cause, again, fields, attempts, queued_at, run)"
		" SELECT clock_timestamp(), $1, u.watch, u.key, COALESCE(u.person, (SELECT contactsync.consent_hash(COALESCE(c.email, c.upsert_key))"
		" FROM contactsync.contact c WHERE c.endpoint = $1 AND c.upsert_key = u.upsert_key COLLATE \"C\")),"
		" u.outcome, u.reason, u.cause, u.again, string_to_array(u.fields, $13), u.attempts, u.queued_at,"
		" CASE WHEN u.cause = '" CS_CAUSE_SCAN "' THEN (SELECT r.id FROM contactsync.run r WHERE r.endpoint = $1 AND r.watch = u.watch"
		" AND r.kind IN ('import', 'reconcile') AND r.started_at <= u.queued_at ORDER BY r.id DESC LIMIT 1) END"
		" FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
		" AS u (watch, key, person, upsert_key, outcome, reason, cause, again, fields, attempts, queued_at)",
		NARGS, {INT4OID, INT4ARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
		TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID}
	};
	static const char separator[2] = {CS_FIELD_SEPARATOR, '\0'};
	Datum		args[NARGS];

	if (n == 0)
		return;
	fill(n, outcomes, args);
	args[ARG_ENDPOINT] = Int32GetDatum(endpoint);
	args[ARG_SEPARATOR] = CStringGetTextDatum(separator);
	cs_sql_execute(&statement, args, NULL);
}

bool
cs_outcome_log_prune(void)
{
	static CsStatement by_count = {
		"DELETE FROM contactsync.outcome WHERE id = ANY (ARRAY(SELECT id FROM contactsync.outcome"
		" WHERE id <= (SELECT max(id) FROM contactsync.outcome) - $1 ORDER BY id LIMIT $2))",
		2, {INT4OID, INT4OID}
	};
	static CsStatement by_age = {
		"DELETE FROM contactsync.outcome o USING (SELECT id FROM contactsync.outcome ORDER BY id LIMIT $2) f"
		" WHERE o.id = f.id AND o.at < clock_timestamp() - make_interval(mins => $1)",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(cs_contact_log_rows), Int32GetDatum(MAX_PRUNED)};
	bool		more = cs_sql_execute(&by_count, args, NULL) == MAX_PRUNED;

	args[0] = Int32GetDatum(cs_contact_log_age);
	more |= cs_sql_execute(&by_age, args, NULL) == MAX_PRUNED;
	return !more;
}
