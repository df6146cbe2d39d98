/*-------------------------------------------------------------------------
 *
 * removal_guard.h
 *		Asks somebody before many contacts are removed at once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_REMOVAL_GUARD_H
#define CS_DELIVERY_REMOVAL_GUARD_H

#include "postgres.h"

#include "delivery/lane.h"

/* All need the scope of cs_sql_enter(). */

/* Close the watch of a lane if too many of its contacts are about to be removed. */
extern void cs_removal_guard_check(CsLane *lane);

/* Ereports what is not a word of contactsync_resume(). */
extern void cs_removal_guard_check_word(const char *removals);

/* Let the removals of a watch go, or keep these contacts, for a role; false if none is
 * held. */
extern bool cs_removal_guard_release(int endpoint, int watch, const char *removals, const char *by);

#endif							/* CS_DELIVERY_REMOVAL_GUARD_H */
