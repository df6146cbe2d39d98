/*-------------------------------------------------------------------------
 *
 * tally.c
 *		What was done, counted, until it is stored.
 *
 * To add to the statistics costs as much for one call as for a thousand.  So where
 * outcomes are stored many times a second, they are counted in memory, and added once
 * a second.  A crash loses the counts of that second, and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "utils/memutils.h"

#include "base/settings.h"
#include "delivery/outcomes.h"
#include "delivery/tally.h"
#include "store/failure.h"
#include "store/notify.h"
#include "store/stats.h"

/* How long counts stay in memory (s). */
#define PERIOD	1.0

void
cs_tally_init(CsTally *tally, MemoryContext parent)
{
	tally->context = AllocSetContextCreate(parent, "contactsync tally", ALLOCSET_SMALL_SIZES);
	tally->stats = NIL;
	tally->due_at = DBL_MAX;
}

/* The counts of an endpoint, added if there are none. */
static CsStats *
stats_of(CsTally *tally, int endpoint)
{
	CsStats    *stats;
	ListCell   *lc;

	foreach(lc, tally->stats)
	{
		stats = lfirst(lc);
		if (stats->endpoint == endpoint)
			return stats;
	}
	stats = palloc0(sizeof(CsStats));
	stats->endpoint = endpoint;
	tally->stats = lappend(tally->stats, stats);
	return stats;
}

void
cs_tally_add(CsTally *tally, const List *lanes, const List *calls, double now)
{
	MemoryContext old = MemoryContextSwitchTo(tally->context);
	ListCell   *lc;

	foreach(lc, calls)
	{
		const CsCallRecord *record = lfirst(lc);

		cs_stats_add_call(stats_of(tally, record->endpoint), record);
	}
	foreach(lc, lanes)
	{
		const CsLaneOutcomes *outcomes = lfirst(lc);
		CsStats    *stats = stats_of(tally, outcomes->lane->endpoint_id);

		stats->synced += outcomes->synced;
		stats->unchanged += outcomes->unchanged;
		for (int i = 0; i < outcomes->failed.n; i++)
			cs_stats_add_failure(stats, ((CsFailureStored *) outcomes->failed.items)[i].reason);
	}
	MemoryContextSwitchTo(old);
	if (tally->stats != NIL)
		tally->due_at = Min(tally->due_at, now + PERIOD);
}

void
cs_tally_store(const CsTally *tally)
{
	ListCell   *lc;

	foreach(lc, tally->stats)
	{
		const CsStats *stats = lfirst(lc);
		int64		failed = cs_stats_store(stats);

		if (cs_notify_failures > 0 && failed >= cs_notify_failures &&
			failed - stats->failed < cs_notify_failures)
			cs_notify("failures", stats->endpoint, 0, NULL, failed);
	}
}

void
cs_tally_clear(CsTally *tally)
{
	MemoryContextReset(tally->context);
	tally->stats = NIL;
	tally->due_at = DBL_MAX;
}
