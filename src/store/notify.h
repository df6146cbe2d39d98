/*-------------------------------------------------------------------------
 *
 * notify.h
 *		Events that are announced by NOTIFY.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_NOTIFY_H
#define CS_STORE_NOTIFY_H

#include "postgres.h"

/*
 * Announce "halted", "recovered" or "failures" of an endpoint, or of a watch that is
 * not 0, when the transaction commits.  Only the class of the reason is announced,
 * which may be NULL, and "failed" only if it is not 0.  Needs the scope of
 * cs_sql_enter().
 */
extern void cs_notify(const char *event, int endpoint, int watch, const char *reason, int64 failed);

#endif							/* CS_STORE_NOTIFY_H */
