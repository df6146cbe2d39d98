/*-------------------------------------------------------------------------
 *
 * slots.h
 *		The slots of databases in shared memory, and which of them get a worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_SLOTS_H
#define CS_BASE_SLOTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#include "base/attention.h"

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

/* One database.  The lock of CsSlots protects all but "attention"; see attention.c. */
typedef struct CsSlot
{
	Oid			dboid;
	CsSlotState state;
	pid_t		pid;			/* of the worker, while RUNNING */
	int			procno;			/* its PGPROC's number */
	bool		leave;			/* asked to leave */
	bool		made_room;		/* ... for another database */
	bool		has_news;		/* something was committed while there was no
								 * worker; also set while the lock is shared */
	TimestampTz started_at;		/* of the last worker */
	TimestampTz ended_at;		/* ... or 0 */
	TimestampTz until;			/* end of a BACKOFF */
	int			failures;		/* workers that did not live long, in a row */
	bool		no_process;		/* there was none left for the worker */
	bool		locked_out;		/* somebody has locked what the worker needs */
	Oid			stale_server;	/* the access token of this server and user */
	Oid			stale_role;		/* ... mapping is to be refreshed */
	CsAttention attention;
} CsSlot;

typedef struct CsSlots
{
	LWLock	   *lock;
	int			launcher_procno;	/* -1: not running */
	int			nslots;			/* ever used; slots below may be FREE */
	CsSlot		slots[FLEXIBLE_ARRAY_MEMBER];	/* cs_max_databases */
} CsSlots;

/* NULL unless the library is preloaded. */
extern CsSlots *cs_slots;

/* Ask for shared memory; only while shared_preload_libraries are loaded. */
extern void cs_slots_init(void);

/* While the lock is held: the slot of a database, or NULL; whether any worker runs; have
 * a slot wait for its next worker, longer while workers die young, unasked. */
extern CsSlot *cs_slots_find(Oid dboid);
extern bool cs_slots_any_running(void);
extern void cs_slots_back_off(CsSlot *slot, bool asked);

/* Wake the process with that number; -1: none. */
extern void cs_slots_set_latch(int procno);

/* The launcher. */
extern void cs_slots_attach_launcher(void);
extern void cs_slots_note_database(Oid dboid);
extern void cs_slots_forget_databases(const Oid *dboids, int n);
extern bool cs_slots_next_to_start(TimestampTz now, Oid *dboid, TimestampTz *wake_at);
extern void cs_slots_start_failed(Oid dboid, TimestampTz now, TimestampTz until);
extern void cs_slots_make_room(TimestampTz now);
extern void cs_slots_reap(Oid dboid);

#endif							/* CS_BASE_SLOTS_H */
