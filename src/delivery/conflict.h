/*-------------------------------------------------------------------------
 *
 * conflict.h
 *		Contacts that wait for each other, because one has what the other is to
 *		have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_CONFLICT_H
#define CS_DELIVERY_CONFLICT_H

#include "postgres.h"

#include "delivery/account.h"
#include "store/contact_state.h"

extern bool cs_conflict_lock(CsChange *change, const CsContact *contact, const CsKnown *before);
extern bool cs_conflict_waits(CsChange *change, const CsContact *contact, double now);

#endif							/* CS_DELIVERY_CONFLICT_H */
