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

#include "delivery/transactions.h"

extern CsDelivery *cs_delivery_open(const CsTransactions *transactions, int only);
extern void cs_delivery_load(CsDelivery *delivery);
extern void cs_delivery_reload(CsDelivery *delivery);
extern void cs_delivery_close(CsDelivery *delivery);

extern void cs_delivery_run(CsDelivery *delivery);
extern void cs_delivery_wait(CsDelivery *delivery, long timeout);
extern bool cs_delivery_drain(CsDelivery *delivery, long timeout);

extern bool cs_delivery_waits_for_session(const CsDelivery *delivery);
extern bool cs_delivery_session_has_ended(CsDelivery *delivery);
extern bool cs_delivery_is_done(const CsDelivery *delivery);
extern bool cs_delivery_is_refreshing(const CsDelivery *delivery);

#endif							/* CS_DELIVERY_DELIVERY_H */
