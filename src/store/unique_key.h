/*-------------------------------------------------------------------------
 *
 * unique_key.h
 *		By which columns the rows of a table can be found again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_UNIQUE_KEY_H
#define CS_STORE_UNIQUE_KEY_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/rel.h"

/* Return the columns of the primary key, as names; NIL if there is none, or it is
 * deferrable. */
extern List *cs_unique_key_find(Relation rel);
extern bool cs_unique_key_is_deferrable(Relation rel);

/*
 * Is there a unique index on these columns and no others, in any order, all of them NOT
 * NULL, that is neither partial nor deferrable?
 */
extern bool cs_unique_key_has(Relation rel, List *columns);

#endif							/* CS_STORE_UNIQUE_KEY_H */
