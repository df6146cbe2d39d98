/*-------------------------------------------------------------------------
 *
 * verdict.h
 *		What the answer to a call means for its contacts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_VERDICT_H
#define CS_DELIVERY_VERDICT_H

#include "postgres.h"

#include "delivery/call.h"
#include "delivery/settle.h"

extern void cs_verdict_take(CsCall *call, const CsResponse *response, CsSettlement *settlement,
							double now);

#endif							/* CS_DELIVERY_VERDICT_H */
