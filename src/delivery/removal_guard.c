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
#include "store/notify.h"
#include "store/policy.h"
#include "store/row_state.h"
#include "store/watch_store.h"

/* As many removals are not few. */
#define FEW		10

/* Contacts that are named in the reason. */
#define NAMED	3

/* What is about to be removed of a watch, and what stays. */
typedef struct CsRemovalCounts
{
	int64		removed;
	int64		recently;		/* that were removed within the last minute */
	char	   *first;			/* the first of "removed", for people */
	int64		staying;		/* not more than is of interest */
} CsRemovalCounts;

static void
count(const CsLane *lane, CsRemovalCounts *counts)
{
	counts->removed = cs_departure_count(lane->endpoint_id, lane->watch_id, NAMED, &counts->recently,
										 &counts->first);
	counts->staying = cs_row_state_count(lane->watch_id, (counts->removed + counts->recently) * 1000 + 1);
}

static bool
is_too_much(const CsDeleteGuard *guard, const CsRemovalCounts *counts)
{
	int64		removed = counts->removed + counts->recently;
	double		all = (double) removed + counts->staying;
	bool		many = removed > guard->contacts;
	bool		large = removed > guard->share * all;

	if (guard->off || counts->removed == 0)
		return false;
	if (guard->all && counts->staying == 0 && removed > FEW)
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
	char	   *after;

	if (lane->guard.closed || !cs_policy_parse_guard(lane->watch->delete_guard, &guard) || guard.off)
		return;
	count(lane, &counts);
	if (!is_too_much(&guard, &counts))
		return;
	after = counts.recently == 0 ? "" :
		psprintf(", after " INT64_FORMAT " within the last minute", counts.recently);
	reason = psprintf("removals: " INT64_FORMAT " contacts would be removed at the provider%s; " INT64_FORMAT
					  "%s would stay. The first are %s."
					  " contactsync_resume(..., removals => 'accepted') removes them, 'kept' keeps them.",
					  counts.removed, after, counts.staying,
					  counts.staying > (counts.removed + counts.recently) * 1000 ? " or more" : "", counts.first);
	cs_watch_store_guard(lane->watch_id, reason);
	cs_notify("guarded", lane->endpoint_id, lane->watch_id, "removals", counts.removed + counts.recently);
	lane->guard.closed = true;
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
	if (!cs_watch_store_release_removals(endpoint, watch))
		return false;
	if (strcmp(removals, "kept") == 0)
		cs_departure_keep(endpoint, watch);
	cs_invalidation_send(CS_DEFINITIONS);
	return true;
}
