/*-------------------------------------------------------------------------
 *
 * waitset.c
 *		Waiting for the process latch and any number of sockets that come and go.
 *
 * A WaitEventSet cannot forget a socket, so it is made anew when the sockets
 * have changed since it was last waited for: a few microseconds, at most twice
 * a call, and independent of how the platform waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "http/waitset.h"

#define FIRST_ROOM	16

typedef struct CsWatched
{
	pgsocket	fd;
	uint32		events;			/* WL_SOCKET_... */
} CsWatched;

bool
cs_waitset_watch(CsWaitSet *set, pgsocket fd, uint32 events)
{
	int			i;

	for (i = 0; i < set->nwatched && set->watched[i].fd != fd; i++)
		;
	set->stale = true;

	if (events == 0)
	{
		if (i < set->nwatched)
			set->watched[i] = set->watched[--set->nwatched];
		return true;
	}
	if (i == set->room)
	{
		int			room = Max(set->room * 2, FIRST_ROOM);
		CsWatched  *grown = realloc(set->watched, room * sizeof(CsWatched));

		if (grown == NULL)
			return false;
		set->watched = grown;
		set->room = room;
	}
	set->watched[i].fd = fd;
	set->watched[i].events = events;
	set->nwatched = Max(set->nwatched, i + 1);
	return true;
}

/*
 * Make the set anew.  Whatever fails, it stays stale, and is freed next time.
 */
void
cs_waitset_refresh(CsWaitSet *set)
{
	WaitEventSet *old = set->set;
	int			i;

	if (old != NULL && !set->stale)
		return;

	set->stale = true;
	set->set = NULL;
	if (old != NULL)
		FreeWaitEventSet(old);

	set->set = cs_create_wait_event_set(set->nwatched + 2);
	AddWaitEventToSet(set->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	if (IsUnderPostmaster)
		AddWaitEventToSet(set->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (i = 0; i < set->nwatched; i++)
		AddWaitEventToSet(set->set, set->watched[i].events, set->watched[i].fd, NULL, NULL);
	set->stale = false;
}

int
cs_waitset_wait(CsWaitSet *set, long timeout, WaitEvent *events, int nevents, uint32 wait_event)
{
	cs_waitset_refresh(set);
	return WaitEventSetWait(set->set, timeout, events, nevents, wait_event);
}

void
cs_waitset_free(CsWaitSet *set)
{
	if (set->set != NULL)
		FreeWaitEventSet(set->set);
	free(set->watched);
	memset(set, 0, sizeof(CsWaitSet));
}
