/*-------------------------------------------------------------------------
 *
 * source_page.h
 *		Walking a source in the order of its key, a page at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_SOURCE_PAGE_H
#define CS_STORE_SOURCE_PAGE_H

#include "postgres.h"

#include "store/watch.h"

typedef struct CsPages CsPages;

/* Which rows, and in which order; all zero: every row in the order of its key. */
typedef struct CsPageOrder
{
	const char *filter;			/* an expression that was checked, or NULL */
	const char *column;			/* to be walked by before the key, or NULL;
								 * where it is null the row is left out */
	const char *overlap;		/* an interval that it begins earlier */
	const char *since;			/* ... but no row up to that value, or NULL */
} CsPageOrder;

/* Where a row is. */
typedef struct CsPagePosition
{
	char	   *value;			/* of order.column */
	char	   *key;			/* NULL: from the value on, or the first row */
} CsPagePosition;

/*
 * Needs a transaction with an active snapshot.  The watch must live as long.
 * Ereports when the table has not the key any more, or the owner lost a right.
 */
extern CsPages *cs_source_page_open(const CsWatch *watch, const CsPageOrder *order);
extern void cs_source_page_close(CsPages *pages);

/*
 * The next rows after a position, at most "limit" of them, in their order;
 * palloc'd in the current context.  The filter of the watch is not looked at.
 * Returns how many; less than "limit" is the end.  Nothing but the position has
 * to be remembered to go on, in whatever session.  Ereports what the filter of
 * the order can, and when it takes longer than source_timeout.
 */
extern int	cs_source_page_next(CsPages *pages, const CsPagePosition *after, int limit, CsPagePosition *rows);

/* How many rows there are; of very many, as the planner estimates it. */
extern int64 cs_source_page_estimate(CsPages *pages);

#endif							/* CS_STORE_SOURCE_PAGE_H */
