/*-------------------------------------------------------------------------
 *
 * pause.h
 *		Servers and watches that somebody told to wait.
 *
 * All of it needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_PAUSE_H
#define CS_STORE_PAUSE_H

#include "postgres.h"

#include "nodes/pg_list.h"

/*
 * Of an endpoint, the whole of it with watch 0.  "by" is a role's name, or what
 * else did it; reason may be NULL.  Returns false if it was paused already,
 * which stays as it was.
 */
extern bool cs_pause_set(int endpoint, int watch, const char *by, const char *reason);

/* Returns false if it was not paused. */
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
