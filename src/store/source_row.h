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

typedef struct CsSource CsSource;	/* a watch made ready to be read */

/* What one key led to; contact is NULL when the row has gone or is filtered out. */
typedef struct CsSourceRow
{
	CsContact  *contact;
} CsSourceRow;

/*
 * Needs a transaction with an active snapshot.  Ereports when mapping, filter
 * or table do not go together any more, or the owner lost a right.
 */
extern CsSource *cs_source_row_open(const CsWatch *watch);
extern void cs_source_row_close(CsSource *source);

/*
 * Reads the rows of n keys; rows[i] is for keys[i], palloc'd in the current
 * context.  Read-only, under the owner's rights, within source_timeout.
 * Ereports what the expressions of a single row can, so call it in a
 * subtransaction.
 */
extern void cs_source_row_read(CsSource *source, int n, char **keys, CsSourceRow *rows);

#endif							/* CS_STORE_SOURCE_ROW_H */
