/*-------------------------------------------------------------------------
 *
 * waitset.h
 *		Waiting for the process latch and any number of sockets that come and go.
 *
 * A zeroed one is valid and empty.  Once it was waited for, or refreshed, it
 * has its file descriptor for good and cannot run out of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_WAITSET_H
#define CS_HTTP_WAITSET_H

#include "postgres.h"

#include "storage/latch.h"

typedef struct CsWaitSet
{
	struct CsWatched *watched;	/* the sockets, malloc'd */
	int			nwatched;
	int			room;
	WaitEventSet *set;			/* NULL, or of an earlier state when stale */
	bool		stale;
} CsWaitSet;

/*
 * Wait for these WL_SOCKET_ events of a socket from now on, for none if 0.
 * Must be told before a socket is closed.  Neither palloc's nor ereports; false
 * when out of memory.
 */
extern bool cs_waitset_watch(CsWaitSet *set, pgsocket fd, uint32 events);

/*
 * As WaitEventSetWait(), for the sockets and the process latch (which is not
 * reset); exits when the postmaster is gone.  May ereport, and is intact then.
 */
extern int	cs_waitset_wait(CsWaitSet *set, long timeout, WaitEvent *events,
							int nevents, uint32 wait_event);

/* Get ready to wait; may ereport, and is intact then. */
extern void cs_waitset_refresh(CsWaitSet *set);

extern void cs_waitset_free(CsWaitSet *set);

#endif							/* CS_HTTP_WAITSET_H */
