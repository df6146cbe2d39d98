/*-------------------------------------------------------------------------
 *
 * source.h
 *		Reading source rows as contacts, as the owner of the watch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_SOURCE_H
#define CS_STORE_SOURCE_H

#include "postgres.h"

#include "executor/spi.h"
#include "utils/rel.h"

#include "provider/contact.h"
#include "store/definition.h"

/* What cs_source_read() ereports when it took longer than source_timeout. */
#define CS_ERRCODE_SOURCE_TIMEOUT	MAKE_SQLSTATE('C', 'S', '0', '0', '1')

typedef struct CsSource CsSource;	/* a watch made ready to be read */

/* What cs_source_enter() changed. */
typedef struct CsOwnerScope
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
	bool		read_only;
} CsOwnerScope;

/* What one key led to; contact is NULL when the row has gone or is filtered out. */
typedef struct CsSourceRow
{
	CsContact  *contact;
} CsSourceRow;

/*
 * Needs a transaction with an active snapshot.  Ereports when mapping, filter
 * or table do not go together any more, or the owner lost a right.
 */
extern CsSource *cs_source_open(const CsWatch *watch);
extern void cs_source_close(CsSource *source);

/*
 * Reads the rows of n keys; rows[i] is for keys[i], palloc'd in the current
 * context.  Read-only, under the owner's rights, within source_timeout.
 * Ereports what the expressions of a single row can, so call it in a
 * subtransaction.
 */
extern void cs_source_read(CsSource *source, int n, char **keys, CsSourceRow *rows);

/*
 * Checks one expression of a watch that is being made: its syntax, and its
 * meaning for the current user.  Returns its type; adds the columns of the
 * source that it uses to *columns (attribute numbers off by
 * FirstLowInvalidHeapAttributeNumber).  "what" names it in errors.
 */
extern Oid	cs_source_check_expression(Relation source, const char *expression,
									   const char *what, Bitmapset **columns);

/*
 * In between we are the owner of the watch, may only read, and are connected to
 * SPI; an abort puts all of it back.
 */
extern void cs_source_enter(const CsWatch *watch, CsOwnerScope *scope);
extern void cs_source_leave(const CsOwnerScope *scope);

/* Runs a query over a source, read-only, within source_timeout; in between these two. */
extern void cs_source_execute(SPIPlanPtr plan, Datum *args);

/* "schema.table AS table", for a query that expressions are part of. */
extern char *cs_source_from(Oid source);

#endif							/* CS_STORE_SOURCE_H */
