/*-------------------------------------------------------------------------
 *
 * related.h
 *		Finding the rows of a source that use changed rows of related tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_RELATED_H
#define CS_DELIVERY_RELATED_H

#include "postgres.h"

#include "delivery/lane.h"

/*
 * Queue the rows of the source that use what has changed in related tables, as changes
 * of the transaction that made these, as far as they are few.  Needs a transaction that
 * may write, with an active snapshot, and a current context that is reset after it.
 */
extern void cs_related_resolve_small(CsLane *lane, double now);

/*
 * Queue about that many of them, of one related change.  Return how many.
 */
extern int	cs_related_resolve(CsLane *lane, int room, double now);

/* When that can be done: "now", later, or DBL_MAX if there is nothing to do. */
extern double cs_related_ready_at(const CsLane *lane, double now);

#endif							/* CS_DELIVERY_RELATED_H */
