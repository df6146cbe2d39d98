/*-------------------------------------------------------------------------
 *
 * intent.h
 *		What is stored before calls that could leave behind what nobody knows of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_INTENT_H
#define CS_DELIVERY_INTENT_H

#include "postgres.h"

#include "delivery/known.h"
#include "delivery/lane.h"

/* What somebody has locked is tried again after (s). */
#define CS_LOCKED_PAUSE	1.0

/*
 * Store what calls about items of a lane, which are to be sent, could leave behind,
 * durably, with the transaction.  Return false if somebody has a lock on it.  Needs a
 * transaction.
 */
extern bool cs_intent_store(const CsLane *lane, int n, CsItem **items);

/* The same for those of the changes that delete their contacts. */
extern bool cs_intent_store_deletions(const CsLane *lane, int n, CsChange **changes);

#endif							/* CS_DELIVERY_INTENT_H */
