/*-------------------------------------------------------------------------
 *
 * schedule.h
 *		The schedule of a watch: polling and reconciliation.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_SCHEDULE_H
#define CS_STORE_SCHEDULE_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "store/watch.h"

/* As given to contactsync_watch() or contactsync_alter_watch(). */
typedef struct CsSchedule
{
	bool		poll;			/* instead of triggers */
	bool		only_reads;		/* ... but nothing is polled: rows are only
								 * read */
	const char *poll_column;
	Interval   *poll_every;
	Interval   *poll_overlap;
	Interval   *reconcile_every;	/* NULL: not */
	const TimeADT *reconcile_at;	/* the time of day, or NULL */
	bool		poll_changed;	/* an option of polling was altered */
	bool		other_column;	/* ... and poll_column, too */
} CsSchedule;

/* Read contactsync_watch()'s arguments from "arg" on; raise an error if one is wrong. */
extern void cs_schedule_read(FunctionCallInfo fcinfo, int arg, CsSchedule *schedule);

/*
 * Do the same with contactsync_alter_watch()'s arguments; what is not given is as
 * stored with the watch.  palloc'd.
 */
extern void cs_schedule_alter(FunctionCallInfo fcinfo, int arg, const CsWatch *watch, CsSchedule *schedule);

/*
 * Store the schedule of a new watch; polling begins with changes from now on.
 * Needs an active snapshot.
 */
extern void cs_schedule_store(const CsWatch *watch, const CsSchedule *schedule);

/* Replace the schedule of a watch.  Needs an active snapshot. */
extern void cs_schedule_store_altered(const CsWatch *watch, const CsSchedule *schedule);

#endif							/* CS_STORE_SCHEDULE_H */
