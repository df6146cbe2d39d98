/*-------------------------------------------------------------------------
 *
 * citus.h
 *		Tables whose rows are in shards, as Citus has them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_CITUS_H
#define CS_STORE_CITUS_H

#include "postgres.h"

/* Is it a distributed, a reference, or a local table of Citus?  Needs a transaction. */
extern bool cs_citus_has(Oid relid);

/* Raise an error if it is: triggers do not tell of its changes. */
extern void cs_citus_check_triggers(Oid relid);

#endif							/* CS_STORE_CITUS_H */
