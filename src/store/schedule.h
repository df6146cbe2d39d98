/*-------------------------------------------------------------------------
 *
 * schedule.h
 *		What is done about a watch by itself: polling and reconciliation.
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

/* What is done by itself, as contactsync_watch() or contactsync_alter_watch() is told. */
typedef struct CsSchedule
{
	bool		poll;			/* instead of triggers */
	const char *poll_column;
	Interval   *poll_every;
	Interval   *poll_overlap;
	Interval   *reconcile_every;	/* NULL: not */
	const TimeADT *reconcile_at;	/* the time of day, or NULL */
	bool		poll_anew;		/* how it is polled was altered */
	bool		other_column;	/* ... poll_column as well */
} CsSchedule;

/* Reads contactsync_watch()'s arguments from "arg" on; ereports what is wrong. */
extern void cs_schedule_read(FunctionCallInfo fcinfo, int arg, CsSchedule *schedule);

/* Reads contactsync_alter_watch()'s arguments from "arg" on: what is not given is
 * as it is stored with the watch, palloc'd; ereports what is wrong. */
extern void cs_schedule_alter(FunctionCallInfo fcinfo, int arg, const CsWatch *watch, CsSchedule *schedule);

/* Effect: stored with a watch that was just made; polling begins with what is
 * in the source now.  Needs an active snapshot. */
extern void cs_schedule_store(const CsWatch *watch, const CsSchedule *schedule);

/* Effect: stored with a watch that was there, and takes the place of what was
 * stored.  Needs an active snapshot. */
extern void cs_schedule_store_altered(const CsWatch *watch, const CsSchedule *schedule);

#endif							/* CS_STORE_SCHEDULE_H */
