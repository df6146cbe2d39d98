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

/*
 * Store what calls about items of a lane, which are to be sent, could leave behind,
 * durably, with the transaction.  Return false if somebody has a lock on it.  Needs a
 * transaction.
 */
extern bool cs_intent_store(const CsLane *lane, int n, CsItem **items);

#endif							/* CS_DELIVERY_INTENT_H */
