/*-------------------------------------------------------------------------
 *
 * pause.h
 *		contactsync.pause: servers and watches that are paused.
 *
 * What reads or stores needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_PAUSE_H
#define CS_STORE_PAUSE_H

#include "postgres.h"

#include "nodes/pg_list.h"

/*
 * Pause a watch, or with 0 the whole endpoint.  "by" names the role, or what else
 * did it; reason may be NULL.  Return false if it was paused already; that pause is
 * kept.
 */
extern bool cs_pause_set(int endpoint, int watch, const char *by, const char *reason);

/* End a pause.  Return false if there was none. */
extern bool cs_pause_end(int endpoint, int watch);

/* A row of contactsync.pause. */
typedef struct CsPause
{
	int			endpoint;
	int			watch;
} CsPause;

extern List *cs_pause_load(void);
extern bool cs_pause_includes(const List *pauses, int endpoint, int watch);

#endif							/* CS_STORE_PAUSE_H */
