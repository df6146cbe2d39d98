/*-------------------------------------------------------------------------
 *
 * twin.h
 *		Contacts that may be another one by now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_TWIN_H
#define CS_DELIVERY_TWIN_H

#include "postgres.h"

#include "delivery/known.h"

/* Read item->twin, once item->known has been read.  Needs a transaction. */
extern void cs_twin_read(int endpoint, CsItem *item);

/* Put what that means into the change, and into its contact. */
extern void cs_twin_apply(const CsItem *item);

#endif							/* CS_DELIVERY_TWIN_H */
