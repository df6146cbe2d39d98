/*-------------------------------------------------------------------------
 *
 * removal.h
 *		Contacts that no row stands for are removed, last.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_REMOVAL_H
#define CS_DELIVERY_REMOVAL_H

#include "postgres.h"

#include "delivery/account.h"
#include "delivery/settle.h"

/* Load what may be removed of an account into its lane of removals. */
extern void cs_removal_load(CsAccount *account, double now);

/* When that could find something to be done; DBL_MAX: not that is known. */
extern double cs_removal_ready_at(const CsAccount *account, double now);

/* Is there something to be removed that nobody has to wait for? */
extern bool cs_removal_has_work(const CsAccount *account, double now);

/*
 * Decide on ACTIVE changes of a lane of removals, in the memory of the read batch.
 * Those that have to be sent come first in "changes" then; returns how many.
 */
extern int	cs_removal_decide(CsLane *lane, int n, CsChange **changes, CsReadBatch *read_batch,
							  CsSettlement *settlement, double now);

#endif							/* CS_DELIVERY_REMOVAL_H */
