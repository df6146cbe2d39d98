/*-------------------------------------------------------------------------
 *
 * related_change.h
 *		Changes of related tables whose rows of the source are yet to be found.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_RELATED_CHANGE_H
#define CS_DELIVERY_RELATED_CHANGE_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "store/queue.h"

/* A row of the queue that says that rows of a related table have changed. */
typedef struct CsRelatedChange
{
	CsQueuePosition position;
	TimestampTz queued_at;
	int			related;		/* id of the related table */
	int			nkeys;			/* 0: any row of it */
	char	  **keys;
	char	   *cursor;			/* key of the last row of the source that was
								 * found and queued, or NULL */
	bool		tried;			/* what could be done at once was; the rest
								 * gives way to live changes */
	int			nahead;			/* rows after the cursor that were found */
	char	  **ahead;			/* their keys, or NULL */
	bool		all_ahead;		/* there are no more */
	double		not_before;		/* it is not tried before, after an error, ... */
	double		pause;			/* ... which was that long ago */
} CsRelatedChange;

/* Add a row of the queue, unless it is there, to a list that lives in the context. */
extern void cs_related_change_add(List **changes, MemoryContext context, const CsQueueRow *row);

/* Remove and free one. */
extern void cs_related_change_remove(List **changes, CsRelatedChange *change);

/*
 * All rows up to the cursor, whose key is the last of n, are queued, and the rest has
 * that place in the queue.  What was found beyond is kept: whatever row uses the related
 * rows later changes itself.
 */
extern void cs_related_change_advance(CsRelatedChange *change, MemoryContext context, CsQueuePosition position,
									  int n, char **found, int nfound, bool all);

/* Return how much of the room for changes they take. */
extern int	cs_related_change_weight(const List *changes);

/* Return when the oldest was queued; PG_INT64_MAX if there is none. */
extern TimestampTz cs_related_change_oldest(const List *changes);

#endif							/* CS_DELIVERY_RELATED_CHANGE_H */
