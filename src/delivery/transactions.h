/*-------------------------------------------------------------------------
 *
 * transactions.h
 *		How the process that delivers begins and ends transactions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_TRANSACTIONS_H
#define CS_DELIVERY_TRANSACTIONS_H

#include "postgres.h"

typedef struct CsTransactions
{
	void		(*begin) (void);
	void		(*commit) (void);
	void		(*roll_back) (void);	/* after an error, outside of all of
										 * it; NULL: errors end the process's
										 * work */
} CsTransactions;

typedef struct CsDelivery CsDelivery;

#endif							/* CS_DELIVERY_TRANSACTIONS_H */
