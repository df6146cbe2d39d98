/*-------------------------------------------------------------------------
 *
 * refused_address.h
 *		Addresses that contacts do not get, since nobody consented to them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_REFUSED_ADDRESS_H
#define CS_STORE_REFUSED_ADDRESS_H

#include "postgres.h"

#include "store/row_state.h"

/* What is stored of the address with a contact that keeps another one. */
extern int64 cs_refused_address_hash(const char *address);

/*
 * Find the contacts of an endpoint whose rows have one of these addresses, but that keep
 * others, and the rows that speak for them; palloc'd.  Needs a transaction, and the scope
 * of cs_sql_enter().
 */
extern int	cs_refused_address_find(int endpoint, int n, char **addresses, CsSpeaker **speakers);

#endif							/* CS_STORE_REFUSED_ADDRESS_H */
