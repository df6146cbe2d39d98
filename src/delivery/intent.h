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

#include "delivery/lane.h"
#include "store/contact_state.h"
#include "store/row_state.h"

typedef struct CsIntents CsIntents;

/* Gather what calls of up to n changes of a lane could leave behind. */
extern CsIntents *cs_intent_begin(const CsLane *lane, int n);

/* Add a change that is to be sent, if that is needed; row and contact are as stored. */
extern void cs_intent_add(CsIntents *intents, const CsChange *change, const CsRowState *row,
						  const CsKnown *known);

/*
 * Store it durably, with the transaction.  Return false if somebody has a lock on it.
 * Needs a transaction.
 */
extern bool cs_intent_store(CsIntents *intents);

#endif							/* CS_DELIVERY_INTENT_H */
