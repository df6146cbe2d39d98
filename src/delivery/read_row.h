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

/*
 * It is deleted when its last change is finished, unless changes of it were set
 * aside, to be read again.  Of a row with several keys, it stays in memory which
 * those are: the others have their outcomes, and are not to be sent again.
 */
typedef struct CsReadRow
{
	CsQueuePosition position;
	int			unfinished;		/* changes */
	int			unread;			/* ... that it made and whose rows have not
								 * been read yet */
	bool		kept;			/* changes were set aside */
	bool		idle;			/* ... and nothing else of it is in memory */
	bool		has_others;		/* it has more keys than one */
	bool		may_be_done;	/* ... and of one it is not known what it was:
								 * it may have gone before a crash */
	int			naside;
	uint32	   *aside;			/* hashes of the keys that were set aside */
} CsReadRow;

/* The rows of one lane. */
typedef struct CsReadRows CsReadRows;

extern CsReadRows *cs_read_row_create(MemoryContext context);
extern int	cs_read_row_count(const CsReadRows *rows);
extern bool cs_read_row_is_empty(const CsReadRows *rows);
extern CsReadRow *cs_read_row_add(CsReadRows *rows, CsQueuePosition position, bool *found);
extern void cs_read_row_set_aside(CsReadRows *rows, CsReadRow *row, const char *key);
extern bool cs_read_row_is_aside(const CsReadRow *row, const char *key);
extern void cs_read_row_take_aside(CsReadRows *rows, CsReadRow *row);
extern bool cs_read_row_end(CsReadRows *rows, CsReadRow *row);

#endif							/* CS_DELIVERY_READ_ROW_H */
