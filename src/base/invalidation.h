/*-------------------------------------------------------------------------
 *
 * invalidation.h
 *		Being told that one of our small tables was changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HEED_H
#define CS_HEED_H

#include "postgres.h"

/* A table of the schema contactsync; declare it static. */
typedef struct CsHeeded
{
	const char *table;
	Oid			relid;			/* InvalidOid until it is heeded */
	bool		registered;
	bool		changed;
} CsHeeded;

/* Effect: from here on changes are noted; call it before the table is read.
 * Needs a transaction. */
extern void cs_heed_begin(CsHeeded *heeded);

/* Has it changed since the last time that it was asked? */
extern bool cs_heed_take_changes(CsHeeded *heeded);

/*
 * Effect: whoever delivers, the background worker or not, learns with its next
 * transaction that we changed the table, as it would of a server's options; and
 * has one soon.
 */
extern void cs_heed_tell(const CsHeeded *heeded);

#endif							/* CS_HEED_H */
