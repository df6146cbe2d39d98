/*-------------------------------------------------------------------------
 *
 * outcome_record.h
 *		What is to be logged of contacts, and why they were sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_OUTCOME_RECORD_H
#define CS_DELIVERY_OUTCOME_RECORD_H

#include "postgres.h"

#include "delivery/known.h"
#include "delivery/outcomes.h"

/*
 * Note of changes that were read which fields differ from what was sent last, and why
 * they would be sent in any case; nothing unless the server logs contacts.  What is
 * noted is palloc'd in the current context, that of the read batch.  Needs a
 * transaction.
 */
extern void cs_outcome_record_prepare(const CsLane *lane, int n, CsItem *items);

/* Note what has become of a change that is about to be finished.  "outcome" and
 * "reason" are constants. */
extern void cs_outcome_record_add(CsLaneOutcomes *outcomes, const CsChange *change,
								  const char *outcome, const char *reason);

#endif							/* CS_DELIVERY_OUTCOME_RECORD_H */
