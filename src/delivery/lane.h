/*-------------------------------------------------------------------------
 *
 * lane.h
 *		The changes of one watch, or the direct upserts of one endpoint, as
 *		far as they are in memory.
 *
 * A lane reads the queue a window at a time, so that its memory does not depend
 * on the backlog, and one lane does not stand in the way of another.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_LANE_H
#define CS_DELIVERY_LANE_H

#include "postgres.h"

#include "lib/ilist.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "provider/contact.h"
#include "store/queue.h"
#include "store/source_row.h"
#include "store/watch.h"

/* A row of the queue that was read; it can go when nothing of it is left. */
typedef struct CsQueueRef
{
	CsQueuePosition position;
	int			outstanding;
} CsQueueRef;

typedef enum CsChangeState
{
	CS_CHANGE_PENDING,			/* in lane->pending; -> ACTIVE */
	CS_CHANGE_ACTIVE,			/* read, in a call or about to be; -> PENDING,
								 * BLOCKED, or done */
	CS_CHANGE_BLOCKED			/* another holds its upsert key; -> PENDING */
} CsChangeState;

/* What a change may hold: each slot something. */
#define CS_LOCK_KEY			0	/* its upsert key */
#define CS_LOCK_EMAIL		1	/* the e-mail address, where that is another
								 * one */
#define CS_LOCK_PREVIOUS	2	/* the upsert key that the row had before */
#define CS_CHANGE_LOCKS		3

struct CsIdentityLock;

/* A row, or a contact, that may differ from what the provider has. */
typedef struct CsChange
{
	dlist_node	node;			/* of lane->pending, or of a hold's waiters */
	struct CsLane *lane;
	CsChangeState state;
	char	   *key;
	List	   *refs;			/* of CsQueueRef: what it is due to */
	List	   *next_refs;		/* what came while it was not PENDING */
	uint64		id;				/* of the newest of refs; the same after a
								 * crash */
	uint64		place;			/* in line; rises with each that joins it */
	uint64		latest_sequence;	/* of the newest of refs, on the same
									 * count: more than place if that came
									 * later */
	uint64		next_latest_sequence;	/* of next_refs */
	bool		unconfirmed;	/* it may have been sent, or somebody wants it
								 * sent: send whatever is known */
	bool		next_unconfirmed;	/* of next_refs */
	bool		withdrawn;		/* it may have been sent as an opt-out:
								 * consent is to be told anew */
	bool		guarded;		/* one of lane->guard.waiting */
	Jsonb	   *direct;			/* contactsync_upsert(): the contact itself */
	int			attempts;
	double		failed_at;		/* when it was first tried in vain; 0: not yet */
	bool		last;			/* behind the others, when it is pending again */
	double		not_before;
	struct CsIdentityLock *locks[CS_CHANGE_LOCKS];

	/* while ACTIVE */
	struct CsReadBatch *read_batch; /* whose memory the contact is in */
	CsContact  *contact;
	pg_uuid_t	digest;
} CsChange;

/* What guard.c counts, lest many contacts at once set off mail. */
typedef struct CsGuard
{
	bool		closed;			/* nothing is sent; stored in watch.state */
	uint64		released;		/* what earlier transactions queued is not
								 * counted: somebody let it go on */
	int			waiting;		/* changes that are counted */
	int			arrived;		/* of them, since it was last looked at */
	int			recent;			/* that came since "since" */
	int			before;			/* and in the minute before it */
	double		since;
	bool		opened;			/* it was looked at before */
} CsGuard;

typedef struct CsLane
{
	struct CsAccount *account;
	int			endpoint_id;
	int			watch_id;		/* 0: direct upserts */
	CsWatch    *watch;			/* NULL for direct upserts */
	CsSource   *source;			/* NULL until it is first read */
	CsQueueCursor cursor;
	bool		exhausted;		/* the queue had no more when it was last read */
	uint64		unconfirmed_below;	/* rows of earlier transactions may have
									 * been sent by a process that did not
									 * live to say so */
	struct changeset_hash *changes;
	struct refset_hash *refs;	/* rows of the queue that these are due to */
	dlist_head	pending;		/* may be read now */
	dlist_head	postponed;		/* PENDING, but not_before is to come */
	double		postponed_until;	/* the least of them */
	uint64		places;			/* in line, given out so far */
	dlist_head	superseded;		/* holds whose last owner sent something newer
								 * than its place in line; by latest_sequence */
	int			nchanges;
	double		not_before;		/* nothing is read before */
	bool		paused;			/* somebody told it to wait: nothing is read */
	bool		broken;			/* and "reason" is why; stored in watch.state */
	bool		broken_changed; /* since it was last stored */
	bool		source_error;	/* ... for its rows could not be read */
	char	   *reason;
	int			read_size;		/* rows at a time, by how large they were */
	int			max_read;		/* rows at a time, after a timeout; 0: no
								 * limit */
	bool		has_failures;	/* there may be rows in contactsync.failure */
	CsGuard		guard;
	List	   *scans;			/* of the watch that are running; scan.c */
	uint64		scan_xact;		/* that last queued keys for one of them */
	double		reconcile_at;	/* when the next one begins by itself; 0: not */
	struct CsLaneOutcomes *outcomes;	/* to be stored, or NULL */
	MemoryContext context;
} CsLane;

extern void cs_lane_begin(MemoryContext context);
extern CsLane *cs_lane_create(struct CsAccount *account, int endpoint_id, int watch_id,
							  CsWatch *watch);
extern void cs_lane_carry_over(CsLane *lane, const CsLane *before);
extern void cs_lane_load(CsLane *lane);
extern CsChange *cs_lane_next(CsLane *lane, double now);
extern double cs_lane_ready_at(CsLane *lane, double now);
extern bool cs_lane_is_empty(const CsLane *lane);
extern void cs_lane_break(CsLane *lane, const char *reason, double until);
extern void cs_lane_repair(CsLane *lane);

extern bool cs_change_lock(CsChange *change, Oid serverid, const char *upsert_key, int slot);
extern const char *cs_change_locked_identity(const CsChange *change, int slot);
extern bool cs_change_is_outdated(const CsChange *change);
extern void cs_change_note_sent(CsChange *change);
extern void cs_change_postpone(CsChange *change, double not_before, bool first);
extern void cs_change_finish(CsChange *change,
							 void (*done) (CsLane *lane, CsQueuePosition position, void *arg),
							 void *arg);

#endif							/* CS_DELIVERY_LANE_H */
