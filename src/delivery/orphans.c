/*-------------------------------------------------------------------------
 *
 * orphans.c
 *		Drop what belongs to roles, servers or tables that do not exist any more.
 *
 * A role that is dropped has no event trigger, and a command that drops a table or
 * a server leaves here what somebody has locked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/try.h"
#include "delivery/orphans.h"
#include "store/endpoint_state.h"
#include "store/watch_store.h"

static void
drop_watch(void *arg)
{
	const CsOrphan *orphan = arg;

	cs_watch_store_drop(orphan->endpoint, orphan->watch);
}

static void
abandon_watch(void *arg)
{
	const CsOrphan *orphan = arg;

	cs_watch_store_abandon(orphan->endpoint, orphan->watch);
}

static void
drop_endpoint(void *arg)
{
	cs_endpoint_state_drop(((const CsOrphan *) arg)->endpoint);
}

/*
 * Drop a watch; if somebody has a lock on its table, leave the triggers there,
 * which do nothing then.  Return false if somebody has a lock on what is stored of
 * it: it goes the next time.
 */
static bool
drop_watch_or_row(CsOrphan *orphan)
{
	return cs_try(drop_watch, orphan, CS_LOCK_TIMEOUT, NULL) == CS_TRY_OK ||
		cs_try(abandon_watch, orphan, CS_LOCK_TIMEOUT, NULL) == CS_TRY_OK;
}

void
cs_orphans_drop(void)
{
	CsOrphan   *orphans;
	int			n = cs_endpoint_state_find_orphans(&orphans);
	bool		dropped = true;

	/*
	 * wait only once for what somebody has locked; the rest goes the next
	 * time
	 */
	for (int i = 0; i < n && dropped; i++)
	{
		if (orphans[i].watch != 0)
			dropped &= drop_watch_or_row(&orphans[i]);
		if (i + 1 < n && orphans[i + 1].endpoint == orphans[i].endpoint)
			continue;
		if (orphans[i].whole && dropped)
			dropped = cs_try(drop_endpoint, &orphans[i], CS_LOCK_TIMEOUT, NULL) == CS_TRY_OK;
	}
}
