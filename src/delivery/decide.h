/*-------------------------------------------------------------------------
 *
 * decide.h
 *		From changes to contacts that can be sent: what to send of a row that
 *		was read, if anything.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_DECIDE_H
#define CS_DELIVERY_DECIDE_H

#include "postgres.h"

#include "delivery/account.h"
#include "delivery/settle.h"

extern int	cs_decide_changes(CsLane *lane, int n, CsChange **changes, CsSourceRow *rows,
							  CsReadBatch *read_batch, CsSettlement *settlement, double now);

#endif							/* CS_DELIVERY_DECIDE_H */
