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

#include "base/invalidation.h"
#include "delivery/removal_guard.h"
#include "provider/option.h"
#include "store/departure.h"
#include "store/policy.h"
#include "store/row_state.h"
#include "store/watch_store.h"

/* As many removals are not few. */
#define FEW		10

/* Contacts that are named in the reason. */
#define NAMED	3

/* So many rows can stand for a contact, on average, that it is counted right. */
#define ROWS_PER_CONTACT	20

/* What stays is counted for people up to so many rows. */
#define MANY_ROWS	1000000

/* What is about to be removed of a watch. */
typedef struct CsRemovalCounts
{
	int64		removed;
	int64		recently;		/* that were removed within the last minute */
	char	   *first;			/* the first of "removed", for people */
} CsRemovalCounts;

/* Is that more than the share of all contacts?  No more rows are read than it takes. */
static bool
is_large(const CsLane *lane, double share, int64 removed)
{
	double		others = Min(removed / share - removed + 1, MANY_ROWS);
	int64		staying = cs_row_state_count(lane->watch_id, (int64) others * ROWS_PER_CONTACT);

	return removed > share * (removed + staying);
}

static bool
is_too_much(const CsLane *lane, const CsDeleteGuard *guard, const CsRemovalCounts *counts)
{
	int64		removed = counts->removed + counts->recently;

	if (counts->removed == 0)
		return false;
	if (guard->all && removed > FEW && cs_row_state_count(lane->watch_id, 1) == 0)
		return true;
	if (guard->share == 0)
		return removed > guard->contacts;
	return removed > guard->contacts && is_large(lane, guard->share, removed);
}

/* Say how many would be removed and how many would stay, and which are the first. */
static char *
reason_of(const CsLane *lane, const CsRemovalCounts *counts)
{
	int64		staying = cs_row_state_count(lane->watch_id, MANY_ROWS);
	char	   *after = counts->recently == 0 ? "" :
	psprintf(", after " INT64_FORMAT " within the last minute", counts->recently);

	return psprintf("removals: " INT64_FORMAT " contacts would be removed at the provider%s; " INT64_FORMAT
					"%s would stay. The first are %s."
					" contactsync_resume(..., removals => 'accepted') removes them, 'kept' keeps them.",
					counts->removed, after, staying, staying == MANY_ROWS ? " or more" : "", counts->first);
}

void
cs_removal_guard_check(CsLane *lane)
{
	CsDeleteGuard guard;
	CsRemovalCounts counts;

	if (lane->guard.closed || !cs_policy_parse_guard(lane->watch->delete_guard, &guard) || guard.off)
		return;
	counts.removed = cs_departure_count(lane->endpoint_id, lane->watch_id, NAMED, &counts.recently,
										&counts.first);
	if (!is_too_much(lane, &guard, &counts))
		return;
	cs_watch_store_guard(lane->endpoint_id, lane->watch_id, "removals", reason_of(lane, &counts),
						 counts.removed + counts.recently);
	lane->guard.closed = true;
	cs_lane_let_go(lane);
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
cs_removal_guard_release(int endpoint, int watch, const char *removals, const char *by)
{
	if (!cs_watch_store_release_removals(endpoint, watch, removals, by))
		return false;
	if (strcmp(removals, "kept") == 0)
		cs_departure_keep(endpoint, watch);
	cs_invalidation_send(CS_DEFINITIONS);
	return true;
}
