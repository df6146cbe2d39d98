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

#include "store/definition.h"
#include "fmgr.h"

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
