/*-------------------------------------------------------------------------
 *
 * progress.h
 *		What is left to be delivered, and what keeps it from being delivered.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_PROGRESS_H
#define CS_STORE_PROGRESS_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* What is left at the endpoints of a role and of the roles whose privileges it has. */
typedef struct CsProgress
{
	int64		left;			/* contacts that are queued, to be scanned or
								 * removed */
	int64		removals;		/* that are due, and counted in "left" */
	int64		scans;			/* that are running, and counted in "left",
								 * and markers of TRUNCATE, which stand for
								 * keys as well */
	char	   *server;			/* of "trouble" */
	char	   *trouble;		/* what has to be fixed first, or NULL */
} CsProgress;

/*
 * Read what is left at a server, or with InvalidOid at all servers: of the changes
 * that a snapshot sees, or all of them with NULL, of the scans that were started
 * no later than a time, and of the removals that are due of contacts that were
 * left no later than another.  Scans that wait for the send_window of their server
 * count only if "closed".  Texts are palloc'd in the current context.  Needs the scope
 * of cs_sql_enter().
 */
extern void cs_progress_read(Oid serverid, Oid roleid, const char *snapshot, TimestampTz until,
							 TimestampTz left_until, bool closed, CsProgress *progress);

/*
 * Return the snapshot of a new transaction as text, palloc'd in the current
 * context.  Needs the scope of cs_sql_enter().
 */
extern char *cs_progress_snapshot(void);

#endif							/* CS_STORE_PROGRESS_H */
