/*-------------------------------------------------------------------------
 *
 * trust.h
 *		Whose code runs as whom when the rows of a watch are read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_TRUST_H
#define CS_STORE_TRUST_H

#include "postgres.h"

#include "executor/spi.h"

#include "store/watch.h"

extern Oid	cs_trust_reader(Oid source, Oid owner);
extern void cs_trust_check_tree(Oid source, Oid reader);
extern void cs_trust_check_plan(SPIPlanPtr plan, Oid reader);
extern void cs_trust_check_types(const CsWatch *watch);

#endif							/* CS_STORE_TRUST_H */
