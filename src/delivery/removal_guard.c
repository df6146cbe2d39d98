/*-------------------------------------------------------------------------
 *
 * removal_guard.c
 *		Asks somebody before many contacts are removed at once.
 *
 * A view that is empty for a moment, a TRUNCATE, a filter with a mistake or a
 * row-security policy can have every contact removed, some of them for good.  So
 * the watch is closed before the first removal when more than its delete_guard are
 * about to be removed within a minute, or by one scan.  What contactsync_forget()
 * erases is not counted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/invalidation.h"
#include "base/sql.h"
#include "delivery/removal_guard.h"
#include "provider/option.h"
#include "store/notify.h"
#include "store/policy.h"
#include "store/watch_store.h"

/* As many removals are not few. */
#define FEW		10

/* Contacts that are named in the reason. */
#define NAMED	3

/* What is about to be removed of a watch, and what stays. */
typedef struct CsRemovalCounts
{
	int64		removed;		/* with those of the last minute */
	char	   *first;			/* the first of them, for people */
	int64		staying;		/* not more than is of interest */
} CsRemovalCounts;

static void
count(const CsLane *lane, CsRemovalCounts *counts)
{
	static CsStatement removed = {
		"SELECT count(*) + COALESCE(max(CASE WHEN w.removed_since > clock_timestamp() - interval '1 min'"
		" THEN w.removed END), 0), array_to_string((array_agg(d.upsert_key ORDER BY d.departed_at, d.upsert_key))[1:$3], ', ')"
		" FROM contactsync.departure d JOIN contactsync.watch w ON w.id = d.watch"
		" WHERE d.endpoint = $1 AND d.watch = $2 AND NOT d.erase"
		" AND COALESCE(d.action::text, w.on_delete) <> 'ignore'"
		" AND d.departed_at > COALESCE(w.removals_until, '-infinity')"
		" AND NOT EXISTS (SELECT FROM contactsync.source_row s WHERE s.upsert_key = d.upsert_key"
		" AND s.endpoint = d.endpoint)",
		3, {INT4OID, INT4OID, INT4OID}
	};
	static CsStatement staying = {
		"SELECT count(*) FROM (SELECT FROM contactsync.source_row WHERE watch = $1 AND NOT withheld LIMIT $2) s",
		2, {INT4OID, INT8OID}
	};
	Datum		args[3] = {Int32GetDatum(lane->endpoint_id), Int32GetDatum(lane->watch_id), Int32GetDatum(NAMED)};
	bool		isnull;

	cs_sql_execute(&removed, args, NULL);
	counts->removed = DatumGetInt64(cs_sql_value(0, 1, &isnull));
	counts->first = cs_sql_text(0, 2);
	args[0] = Int32GetDatum(lane->watch_id);
	args[1] = Int64GetDatum(counts->removed * 1000 + 1);
	cs_sql_execute(&staying, args, NULL);
	counts->staying = DatumGetInt64(cs_sql_value(0, 1, &isnull));
}

static bool
is_too_much(const CsDeleteGuard *guard, const CsRemovalCounts *counts)
{
	double		all = (double) counts->removed + counts->staying;
	bool		many = counts->removed > guard->contacts;
	bool		large = counts->removed > guard->share * all;

	if (guard->off || counts->removed == 0)
		return false;
	if (guard->all && counts->staying == 0 && counts->removed > FEW)
		return true;
	if (guard->contacts > 0 && guard->share > 0)
		return many && large;
	return guard->share > 0 ? large : many;
}

void
cs_removal_guard_check(CsLane *lane)
{
	CsDeleteGuard guard;
	CsRemovalCounts counts;
	char	   *reason;

	if (lane->guard.closed || !cs_policy_parse_guard(lane->watch->delete_guard, &guard) || guard.off)
		return;
	count(lane, &counts);
	if (!is_too_much(&guard, &counts))
		return;
	reason = psprintf("removals: " INT64_FORMAT " contacts would be removed at the provider, " INT64_FORMAT
					  "%s would stay. The first are %s."
					  " contactsync_resume(..., removals => 'accepted') removes them, 'kept' keeps them.",
					  counts.removed, counts.staying,
					  counts.staying > counts.removed * 1000 ? " or more" : "", counts.first);
	cs_watch_store_guard(lane->watch_id, reason);
	cs_notify("guarded", lane->endpoint_id, lane->watch_id, "removals", counts.removed);
	lane->guard.closed = true;
}

void
cs_removal_guard_count(int watch, int n)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET removed = $2 + CASE WHEN removed_since > clock_timestamp() - interval '1 min'"
		" THEN removed ELSE 0 END, removed_since = CASE WHEN removed_since > clock_timestamp() - interval '1 min'"
		" THEN removed_since ELSE clock_timestamp() END WHERE id = $1",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(watch), Int32GetDatum(n)};

	if (n > 0)
		cs_sql_execute(&statement, args, NULL);
}

void
cs_removal_guard_check_word(const char *removals)
{
	static const char *const words[] = {"accepted", "kept", NULL};

	if (cs_option_check_words(removals, words) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"removals\": \"%s\"", removals),
				 errhint("Use 'accepted' to remove the contacts at the provider, or 'kept' to keep them there.")));
}

bool
cs_removal_guard_release(int endpoint, int watch, const char *removals)
{
	static CsStatement accept = {
		"UPDATE contactsync.watch SET state = 'running', reason = NULL, since = NULL, removals_until = clock_timestamp()"
		" WHERE id = $1 AND endpoint = $2 AND state = 'guarded'",
		2, {INT4OID, INT4OID}
	};
	static CsStatement keep = {
		"DELETE FROM contactsync.departure WHERE watch = $1 AND endpoint = $2 AND NOT erase", 2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(watch), Int32GetDatum(endpoint)};

	if (cs_sql_execute(&accept, args, NULL) == 0)
		return false;
	if (strcmp(removals, "kept") == 0)
		cs_sql_execute(&keep, args, NULL);
	cs_invalidation_send(CS_DEFINITIONS);
	return true;
}
