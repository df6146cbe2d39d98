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

/*
 * The rows are a list, which is changed in place; it and what it holds are in "context".
 * Each lane of an account has one, with the rows of all of them: another watch may have
 * what they have become.
 */

/*
 * The row of the watch with that key has gone, which said true of a contact that was last
 * said not to; or which said no.
 */
extern void cs_departed_add(List **rows, MemoryContext context, int watch, const char *key,
							const char *upsert_key, char said);

/* Rows that said no may have gone, of any contact: nothing is known of what was read before. */
extern void cs_departed_add_unknown(List **rows, MemoryContext context);

/* All of the queue is in memory, as these changes. */
extern void cs_departed_queue_is_read(List **rows, const CsChangeSet *changes);

/* Find a row that said true of that contact and has gone; the key is that of the list. */
extern bool cs_departed_find_yes(const List *rows, const char *upsert_key, int *watch, const char **key);

/* May a row that said no of that contact come back under another key? */
extern bool cs_departed_has_no(const List *rows, const char *upsert_key);

/* Another row is taken for that one, which said true. */
extern void cs_departed_forget(List **rows, int watch, const char *key);

#endif							/* CS_DELIVERY_DEPARTED_H */
