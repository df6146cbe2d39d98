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

/* Which rows, and in which order; all zero: all rows in the order of the key. */
typedef struct CsPageOrder
{
	const char *filter;			/* an expression that was checked, or NULL */
	const char *column;			/* to order by before the key, or NULL; rows
								 * where it is null are left out */
	const char *overlap;		/* an interval by which it begins earlier */
	const char *since;			/* ... but only after this value; or NULL */
} CsPageOrder;

/* The place of a row in the order. */
typedef struct CsPagePosition
{
	char	   *value;			/* of order.column */
	char	   *key;			/* NULL: from the value on, or from the start */
} CsPagePosition;

/*
 * Needs a transaction with an active snapshot.  The watch must live as long as the
 * result.  Raises an error if the table no longer has the key, or the owner has lost
 * a privilege.
 */
extern CsPages *cs_source_page_open(const CsWatch *watch, const CsPageOrder *order);
extern void cs_source_page_close(CsPages *pages);

/*
 * Read the next rows after a position, at most "limit", in order; palloc'd in the
 * current context.  The filter of the watch is not applied.  Return how many; fewer
 * than "limit" means that this is the end.  Any session can continue from a position
 * alone.  Raises the errors of the order's filter, and one if it takes longer than
 * source_timeout.
 */
extern int	cs_source_page_next(CsPages *pages, const CsPagePosition *after, int limit, CsPagePosition *rows);

/* Return how many rows there are; if very many, the planner's estimate. */
extern int64 cs_source_page_estimate(CsPages *pages);

#endif							/* CS_STORE_SOURCE_PAGE_H */
