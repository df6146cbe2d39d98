/*-------------------------------------------------------------------------
 *
 * notify.h
 *		NOTIFY, for whoever wants to be told rather than to look.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_NOTIFY_H
#define CS_STORE_NOTIFY_H

#include "postgres.h"

/*
 * Effect: "halted", "recovered" or "failures" of an endpoint, or with a watch
 * that is not 0 of that, is told when the transaction commits.  Of the reason,
 * which may be NULL, only its class is; "failed" is told if it is not 0.  Needs
 * the scope of cs_sql_enter().
 */
extern void cs_notify(const char *event, int endpoint, int watch, const char *reason, int64 failed);

#endif							/* CS_STORE_NOTIFY_H */
