/*-------------------------------------------------------------------------
 *
 * remaining.h
 *		Rows that were forgotten and are still there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_REMAINING_H
#define CS_DELIVERY_REMAINING_H

#include "postgres.h"

#include "delivery/account.h"
#include "delivery/array.h"
#include "delivery/change.h"
#include "store/contact_state.h"

/* What is to be stored of them, of one lane. */
typedef struct CsRemaining
{
	CsArray		reread;			/* of char *: keys of rows that were read, if
								 * some had been forgotten */
	CsArray		gone;			/* likewise, that are not there */
	CsArray		forgotten;		/* of CsRemainingRow: rows that were forgotten
								 * while a call for them was in flight */
} CsRemaining;

/* A change ends: its row was read, or was forgotten meanwhile.  What is noted of that is
 * allocated in the context. */
extern void cs_remaining_end(CsRemaining *remaining, MemoryContext context, const CsChange *change);

/* Needs the scope of cs_sql_enter(). */
extern void cs_remaining_store(CsLane *lane, const CsRemaining *remaining);

/* May such a row stand for the contact, which is to be removed or moved? */
extern bool cs_remaining_stands(const CsAccount *account, const CsKnown *known);

#endif							/* CS_DELIVERY_REMAINING_H */
