/*-------------------------------------------------------------------------
 *
 * refusals.h
 *		Which contacts and addresses rows said no for, and in which transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_REFUSALS_H
#define CS_DELIVERY_REFUSALS_H

#include "postgres.h"

#include "utils/hsearch.h"

/* The two texts may be NULL.  *refusals is NULL as long as there are none; it is made in
 * the context. */
extern void cs_refusals_add(HTAB **refusals, MemoryContext context, const char *upsert_key,
							const char *address, uint64 xact);

/* Did the transaction have a row say no for the contact, or the address? */
extern bool cs_refusals_has(HTAB *refusals, const char *upsert_key, const char *address, uint64 xact);

#endif							/* CS_DELIVERY_REFUSALS_H */
