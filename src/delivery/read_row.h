/*-------------------------------------------------------------------------
 *
 * read_row.h
 *		The rows of the queue that have changes in memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_READ_ROW_H
#define CS_DELIVERY_READ_ROW_H

#include "postgres.h"

#include "store/queue.h"

/* It is deleted when its last change is finished. */
typedef struct CsReadRow
{
	CsQueuePosition position;
	int			unfinished;		/* changes */
	bool		kept;			/* not deleted then: one of its changes was
								 * set aside, to be read again */
} CsReadRow;

/* The rows of one lane. */
typedef struct CsReadRows CsReadRows;

extern CsReadRows *cs_read_row_create(MemoryContext context);
extern int	cs_read_row_count(const CsReadRows *rows);
extern CsReadRow *cs_read_row_add(CsReadRows *rows, CsQueuePosition position, bool *found);
extern void cs_read_row_free(CsReadRows *rows, CsReadRow *row);

#endif							/* CS_DELIVERY_READ_ROW_H */
