/*-------------------------------------------------------------------------
 *
 * source_row.h
 *		Reading source rows as contacts, as the owner of the watch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_SOURCE_ROW_H
#define CS_STORE_SOURCE_ROW_H

#include "postgres.h"

#include "provider/contact.h"
#include "store/watch.h"

typedef struct CsSource CsSource;	/* a watch that is ready to be read */

/* The row of one key; contact is NULL if there is none that passes the filter. */
typedef struct CsSourceRow
{
	CsContact  *contact;
} CsSourceRow;

/*
 * Needs a transaction with an active snapshot.  Raises an error if the mapping or
 * filter no longer fits the table, or the owner has lost a privilege.
 */
extern CsSource *cs_source_row_open(const CsWatch *watch);
extern bool cs_source_row_is_valid(const CsSource *source);
extern void cs_source_row_close(CsSource *source);

/*
 * Read the rows of n keys, read-only, with the owner's privileges, and within
 * source_timeout.  rows[i] is for keys[i]; contacts are palloc'd in the current
 * context.  An expression may raise an error for a single row, so run it by
 * cs_try().
 */
extern void cs_source_row_read(CsSource *source, int n, char **keys, CsSourceRow *rows);

#endif							/* CS_STORE_SOURCE_ROW_H */
