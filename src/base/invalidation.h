/*-------------------------------------------------------------------------
 *
 * invalidation.h
 *		Being told that one of our small tables was changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_INVALIDATION_H
#define CS_BASE_INVALIDATION_H

#include "postgres.h"

/* A table of the schema contactsync; declare it static. */
typedef struct CsInvalidation
{
	const char *table;
	Oid			relid;			/* InvalidOid until it is registered */
	bool		registered;
	bool		changed;
} CsInvalidation;

/* Effect: from here on changes are noted; call it before the table is read.
 * Needs a transaction. */
extern void cs_invalidation_register(CsInvalidation *invalidation);

/* Has it changed since the last time that it was asked? */
extern bool cs_invalidation_take(CsInvalidation *invalidation);

/*
 * Effect: whoever delivers, the background worker or not, learns with its next
 * transaction that we changed the table, as it would of a server's options; and
 * has one soon.
 */
extern void cs_invalidation_send(const CsInvalidation *invalidation);

#endif							/* CS_BASE_INVALIDATION_H */
