/*-------------------------------------------------------------------------
 *
 * page.h
 *		Walking a source in the order of its key, a page at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PAGE_H
#define CS_PAGE_H

#include "postgres.h"

#include "definition.h"

typedef struct CsPages CsPages;

/*
 * Needs a transaction with an active snapshot.  The watch must live as long.
 * Ereports when the table has not the key any more, or the owner lost a right.
 */
extern CsPages *cs_pages_open(const CsWatch *watch);
extern void cs_pages_close(CsPages *pages);

/*
 * The keys of the next rows after that of "after" (NULL: from the first on), at
 * most "limit" of them, in their order; palloc'd in the current context.  The
 * filter of the watch is not looked at.  Returns how many; less than "limit"
 * is the end.  Nothing but the last key has to be remembered to go on, in
 * whatever session.
 */
extern int	cs_pages_next(CsPages *pages, const char *after, int limit, char **keys);

#endif							/* CS_PAGE_H */
