/*-------------------------------------------------------------------------
 *
 * shmem.h
 *		What backends, the launcher and workers know of each other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_SHMEM_H
#define CS_BASE_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Each member lists the states that may follow. */
typedef enum CsSlotState
{
	CS_SLOT_FREE,				/* -> UNKNOWN: the database was seen */
	CS_SLOT_UNKNOWN,			/* -> STARTING */
	CS_SLOT_STARTING,			/* -> RUNNING, ABSENT, BACKOFF */
	CS_SLOT_RUNNING,			/* -> ABSENT, BACKOFF */
	CS_SLOT_ABSENT,				/* without the extension; -> UNKNOWN when it
								 * is created */
	CS_SLOT_BACKOFF				/* died or was asked to leave; -> STARTING */
} CsSlotState;

extern void cs_shmem_init(void);
extern bool cs_shmem_ready(void);

/* Any backend. */
extern void cs_shmem_wake(uint64 endpoints);
extern void cs_shmem_interrupt(void);
extern bool cs_shmem_is_absent(void);
extern void cs_shmem_launch(void);
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
extern void cs_shmem_detach_worker(bool absent, bool asked);
extern bool cs_shmem_is_worker(void);
extern void cs_shmem_show_lock(bool locked_out);
extern bool cs_shmem_asked_to_leave(void);
extern bool cs_shmem_take_news(void);
extern bool cs_shmem_take_stale_token(Oid *serverid, Oid *mapping_roleid);
extern bool cs_shmem_may_sleep(uint64 quiet);

#endif							/* CS_BASE_SHMEM_H */
