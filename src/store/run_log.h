/*-------------------------------------------------------------------------
 *
 * run_log.h
 *		contactsync.run: what was done with many contacts at once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_RUN_LOG_H
#define CS_STORE_RUN_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * All need a transaction, within cs_sql_enter().  "by" is the name of the role that
 * asked for it; NULL: nobody did, the worker began or ended it by itself.
 */

/* A scan has begun.  One that is noted already, and has not ended, stays as it is. */
extern void cs_run_log_begin_scan(int scan, const char *by);

/* A scan, or a round of polling, has ended in that state, with what contactsync.scan
 * has counted. */
extern void cs_run_log_end_scan(int scan, const char *state, const char *reason, const char *by);

/* A guard holds so many contacts of the watch, because of that. */
extern void cs_run_log_hold(int endpoint, int watch, const char *reason, int64 contacts);

/* Somebody has let go what a guard held, with this word. */
extern void cs_run_log_release(int watch, const char *word, const char *by);

/* A pull has ended; "reason" says why it failed, NULL: it did not. */
extern void cs_run_log_pull(int endpoint, TimestampTz started_at, int64 listed, int64 opted_out,
							const char *reason, const char *by);

/* What goes on of that kind, or with NULL of all, ends since the watch was altered or
 * dropped, as "reason" says. */
extern void cs_run_log_abandon(int watch, const char *kind, const char *reason);

/* Delete what is older than run_log_age, and of each kind of a watch the oldest beyond
 * run_log_rows. */
extern void cs_run_log_prune(void);

#endif							/* CS_STORE_RUN_LOG_H */
