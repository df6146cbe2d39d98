/*-------------------------------------------------------------------------
 *
 * opposite.h
 *		Rows that say yes and no of a contact in one transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_OPPOSITE_H
#define CS_DELIVERY_OPPOSITE_H

#include "postgres.h"

#include "delivery/standing.h"

typedef enum CsOpposite
{
	CS_OPPOSITE_NONE,			/* no other row says no */
	CS_OPPOSITE_NO,				/* one does */
	CS_OPPOSITE_UNREAD,			/* one may, and is read soon */
	CS_OPPOSITE_UNKNOWN			/* one may, but too many wait for that */
} CsOpposite;

/*
 * Did a transaction of the change have another row say no for the contact, or the
 * address, of rows[self]?  "stored": rows may be stored that stand for it, or for the
 * contact "elsewhere", unless that is NULL.  Needs a transaction.
 */
extern CsOpposite cs_opposite_find(const CsChange *change, const CsRowsNow *now, int self,
								   bool stored, const char *elsewhere);

#endif							/* CS_DELIVERY_OPPOSITE_H */
