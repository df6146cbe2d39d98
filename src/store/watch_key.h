/*-------------------------------------------------------------------------
 *
 * watch_key.h
 *		By which columns the rows of a source are told apart.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_WATCH_KEY_H
#define CS_STORE_WATCH_KEY_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/rel.h"

/* The names of the key columns, of those asked for, or NIL; ereports why they
 * cannot be it.  What is polled need not have a unique index. */
extern List *cs_watch_key_find(Relation source, List *wanted, bool polled);

/* Effect: an error unless these are columns of the relation. */
extern void cs_watch_key_check_columns(Relation source, List *names, const char *argument);

#endif							/* CS_STORE_WATCH_KEY_H */
