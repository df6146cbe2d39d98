/*-------------------------------------------------------------------------
 *
 * shmem.h
 *		What backends, launcher and workers know of each other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_SHMEM_H
#define CS_BASE_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Legal transitions are noted at each member. */
typedef enum CsSlotState
{
	CS_SLOT_FREE,				/* -> UNKNOWN: the database was seen */
	CS_SLOT_UNKNOWN,			/* -> STARTING */
	CS_SLOT_STARTING,			/* -> RUNNING, ABSENT, BACKOFF */
	CS_SLOT_RUNNING,			/* -> ABSENT, BACKOFF, LEAVING */
	CS_SLOT_ABSENT,				/* no extension there; -> UNKNOWN when it is
								 * made */
	CS_SLOT_BACKOFF				/* died or was asked to leave; -> STARTING */
} CsSlotState;

extern void cs_shmem_init(void);	/* from _PG_init, while preloading */
extern bool cs_shmem_ready(void);	/* was the library preloaded? */

/* Any backend. */
extern void cs_shmem_wake(void);	/* this database's worker, or have it
									 * started */
extern void cs_shmem_wake_at_commit(void);
extern void cs_shmem_wake_late_at_commit(void); /* ... when catalog caches are
												 * told as well */
extern bool cs_shmem_is_absent(void);
extern void cs_shmem_launch(void);
extern void cs_shmem_launch_at_commit(void);	/* as above, whatever was
												 * known */
extern bool cs_shmem_ask_to_leave(Oid dboid);
extern void cs_shmem_let_return(Oid dboid);
extern bool cs_shmem_ask_to_refresh(Oid serverid, Oid mapping_roleid);
extern const char *cs_shmem_worker_state(void);

/* The launcher. */
extern void cs_shmem_attach_launcher(void);
extern void cs_shmem_note_database(Oid dboid);
extern void cs_shmem_forget_databases(const Oid *dboids, int n);
extern bool cs_shmem_next_to_start(TimestampTz now, Oid *dboid, TimestampTz *wake_at);
extern void cs_shmem_start_failed(Oid dboid, TimestampTz until);
extern void cs_shmem_reap(Oid dboid);

/* The worker of a database. */
extern void cs_shmem_attach_worker(Oid dboid);
extern void cs_shmem_detach_worker(bool absent);
extern bool cs_shmem_asked_to_leave(void);
extern bool cs_shmem_take_news(void);
extern bool cs_shmem_take_stale_token(Oid *serverid, Oid *mapping_roleid);
extern bool cs_shmem_may_sleep(void);
extern void cs_shmem_publish(int endpoint, int in_flight, double pace);

/* Visits what the worker of this database published. */
extern void cs_shmem_published(void (*visit) (int endpoint, int in_flight, double pace, void *arg), void *arg);

#endif							/* CS_BASE_SHMEM_H */
