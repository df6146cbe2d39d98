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

/* The worker of a database. */
extern void cs_shmem_attach_worker(Oid dboid);
extern void cs_shmem_detach_worker(bool absent, bool asked);
extern bool cs_shmem_is_worker(void);
extern void cs_shmem_show_lock(bool locked_out);
extern bool cs_shmem_asked_to_leave(void);
extern bool cs_shmem_has_news(void);
extern bool cs_shmem_take_news(void);
extern bool cs_shmem_take_stale_token(Oid *serverid, Oid *mapping_roleid);
extern bool cs_shmem_may_sleep(uint64 quiet);

#endif							/* CS_BASE_SHMEM_H */
