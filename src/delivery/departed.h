/*-------------------------------------------------------------------------
 *
 * departed.h
 *		Rows that have gone, until all is read that may be the same rows under
 *		other keys.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_DEPARTED_H
#define CS_DELIVERY_DEPARTED_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "delivery/change.h"

/* The rows are a list, which is changed in place; it and what it holds are in "context". */

/*
 * The row with that key has gone, which said true of a contact that was last said not to;
 * or which said no.
 */
extern void cs_departed_add(List **rows, MemoryContext context, const char *key, const char *upsert_key,
							char said);

/* Rows that said no may have gone, of any contact: nothing is known of what was read before. */
extern void cs_departed_add_unknown(List **rows, MemoryContext context);

/* All of the queue is in memory, as these changes. */
extern void cs_departed_queue_is_read(List **rows, const CsChangeSet *changes);

/* Another row is taken for one that said true of that contact and has gone.  Return whether
 * there is one. */
extern bool cs_departed_take(List **rows, const char *upsert_key);

/* May a row that said no of that contact come back under another key? */
extern bool cs_departed_has_no(const List *rows, const char *upsert_key);

/* Another row is taken for that one. */
extern void cs_departed_forget(List **rows, const char *key);

#endif							/* CS_DELIVERY_DEPARTED_H */
