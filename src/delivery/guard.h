/*-------------------------------------------------------------------------
 *
 * guard.h
 *		Keeps many contacts at once from setting off mail to people.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_GUARD_H
#define CS_DELIVERY_GUARD_H

#include "postgres.h"

#include "delivery/lane.h"
#include "provider/endpoint.h"
#include "store/watch.h"

/*
 * What could happen to people if many contacts of the watch were sent at once,
 * as a sentence; NULL: nothing, or the option bulk_guard says to take no care.
 */
extern const char *cs_guard_risk_of(const CsEndpoint *endpoint, const CsWatch *watch);

/* The same of a lane, and how many contacts are many. */
extern const char *cs_guard_risk(const CsLane *lane);
extern int	cs_guard_limit(const CsLane *lane);

/* Effect: nothing of the lane is sent from now on, for "n" contacts are too
 * many.  Needs a transaction that will be committed. */
extern void cs_guard_stop(CsLane *lane, int64 n);

/* Effect: the same, if more changes wait in the lane, or came in a short time,
 * than may go at once. */
extern void cs_guard_check(CsLane *lane, double now);

/* Effect: an error unless it is what can be said about automations. */
extern void cs_guard_check_word(const char *automations);

/* Effect: a watch that is held goes on with all that is queued, and its scans
 * as well.  Returns false if it was not held. */
extern bool cs_guard_release(int endpoint, int watch, const char *automations);

#endif							/* CS_DELIVERY_GUARD_H */
