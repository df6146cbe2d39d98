/*-------------------------------------------------------------------------
 *
 * delivery.h
 *		The cycle: load, read, send, judge, settle.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_DELIVERY_H
#define CS_DELIVERY_DELIVERY_H

#include "postgres.h"

/* How the process that runs the cycle begins and ends transactions. */
typedef struct CsTransactions
{
	void		(*begin) (void);
	void		(*commit) (void);
} CsTransactions;

typedef struct CsDelivery CsDelivery;

extern CsDelivery *cs_delivery_open(const CsTransactions *transactions, Oid only_server,
									Oid roles_of, const CsDelivery *before);
extern void cs_delivery_close(CsDelivery *delivery);

/* One turn: does what can be done now. */
extern void cs_delivery_turn(CsDelivery *delivery);

/*
 * Waits for an answer, a wake-up or the time of the next call, but not longer
 * than "timeout" ms (-1: no limit).  No transaction is open meanwhile.
 */
extern void cs_delivery_wait(CsDelivery *delivery, long timeout);

/* Stops starting calls; true when none is in flight any more. */
extern bool cs_delivery_drain(CsDelivery *delivery, long timeout);

/* Everything that is queued has an outcome, but for what cannot go on by itself. */
extern bool cs_delivery_is_done(const CsDelivery *delivery);
extern bool cs_delivery_is_refreshing(const CsDelivery *delivery);
extern int	cs_delivery_in_flight(const CsDelivery *delivery);

#endif							/* CS_DELIVERY_DELIVERY_H */
