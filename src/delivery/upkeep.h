/*-------------------------------------------------------------------------
 *
 * upkeep.h
 *		What the process that delivers does beside delivery.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_UPKEEP_H
#define CS_DELIVERY_UPKEEP_H

#include "postgres.h"

#include "delivery/transactions.h"

/* Needs no transaction. */
extern void cs_upkeep_run(CsDelivery *delivery);

/* Definitions were loaded again. */
extern void cs_upkeep_reloaded(CsDelivery *delivery);

/* Look at thresholds in the next run. */
extern void cs_upkeep_check_now(CsDelivery *delivery);

/* When there is something to do; DBL_MAX: an answer comes first. */
extern double cs_upkeep_ready_at(const CsDelivery *delivery, double now);

/* Is there a message that has yet to be sent for the first time, or to be stored? */
extern bool cs_upkeep_has_work(const CsDelivery *delivery);

#endif							/* CS_DELIVERY_UPKEEP_H */
