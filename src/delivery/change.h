/*-------------------------------------------------------------------------
 *
 * change.h
 *		What was queued for one lane, as far as it is in memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_CHANGE_H
#define CS_DELIVERY_CHANGE_H

#include "postgres.h"

#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "delivery/identity_lock.h"
#include "delivery/read_batch.h"
#include "delivery/read_row.h"
#include "delivery/room.h"
#include "provider/contact.h"
#include "store/consent.h"
#include "store/queue.h"

struct CsLane;

/* The identities that a change can hold a lock on, each in a slot of its own. */
#define CS_LOCK_KEY			0	/* its upsert key */
#define CS_LOCK_EMAIL		1	/* its e-mail address, if that identifies a
								 * contact as well */
#define CS_LOCK_PREVIOUS	2	/* the upsert key that the row had before */
#define CS_LOCK_PREVIOUS_EMAIL	3	/* the address that the contact has at
									 * present */
#define CS_CHANGE_LOCKS		4

/* Where a change comes from. */
#define CS_ORIGIN_LIVE		0x0001	/* a committed change, or a retry of one */
#define CS_ORIGIN_SCAN		0x0002
#define CS_ORIGIN_CLAIMS	0x0004	/* an import with claims => 'all' */
#define CS_ORIGIN_SPEAKER	0x0008	/* the row is to speak for its contact */
#define CS_ORIGIN_RETRY		0x0010	/* contactsync_retry(), beside LIVE */
#define CS_ORIGIN_TOUCH		0x0020	/* contactsync_touch(), beside SCAN */

/* Known of its row since a first reading: rows that tell may have gone by the next. */
#define CS_ORIGIN_WORD		0x0100	/* it has turned to true */
#define CS_ORIGIN_RENAMED	0x0200	/* a row that said true has gone with it */
#define CS_ORIGIN_LEFT_NO	0x0400	/* one that said no has left its contact */
#define CS_ORIGIN_LEFT_NOT_TRUE 0x0800	/* ... or null */
#define CS_ORIGIN_TOLD \
	(CS_ORIGIN_WORD | CS_ORIGIN_RENAMED | CS_ORIGIN_LEFT_NO | CS_ORIGIN_LEFT_NOT_TRUE)

typedef enum CsChangeState
{
	CS_CHANGE_PENDING,			/* waits to be read; -> ACTIVE */
	CS_CHANGE_ACTIVE,			/* was read, is in a call or about to be; ->
								 * PENDING, BLOCKED, or finished */
	CS_CHANGE_BLOCKED			/* waits for another one's lock; -> PENDING */
} CsChangeState;

/* The changes of one lane. */
typedef struct CsChangeSet
{
	struct CsLane *lane;
	CsIdentityLocks *locks;
	CsRoom	   *room;
	MemoryContext context;		/* of what is emptied when nothing is left */
	MemoryContext slab;			/* of the changes, whose size another context
								 * would round up to a power of 2 */
	struct changeset_hash *by_key;
	CsReadRows *rows;			/* queue rows that still have a change here */
	int			nchanges;
	int			nwaiting;		/* of these, have "waits" */
	int			nrefusing;		/* of these, have a no_xact */
	int			most;			/* of these, since "context" was emptied */
	bool		closed;			/* the lane is no more */
	dlist_head	pending;		/* PENDING, in the order of reading */
	dlist_head	postponed;		/* PENDING, but with a not_before */
	double		postponed_until;	/* the least not_before of these */
	uint64		last_sequence;	/* given out so far */
	dlist_head	sent_ahead;		/* identity locks with a sent_sequence */
	int			counted;		/* changes that the bulk guard counts */
	int			newly_counted;	/* keys of these, since the guard last looked,
								 * that are not in "recent" */
	struct HTAB *recent;		/* hashes of keys that it was told of lately,
								 * or NULL */
} CsChangeSet;

/* A row, or a contact, that may differ from what the provider has. */
typedef struct CsChange
{
	dlist_node	node;			/* of pending, postponed, or a lock's waiters */
	CsChangeSet *set;
	struct CsLane *lane;
	CsChangeState state;
	char	   *key;
	List	   *rows;			/* the queue rows that named the key */
	List	   *next_rows;		/* those that came while it was ACTIVE */

	/*
	 * queue_id identifies the newest of "rows", or when the contact that is
	 * removed was left, and is the same after a restart, so an idempotency
	 * key can be made of it.  The sequences count what happens to the lane in
	 * this process: "sequence" is the change's place in line, latest_sequence
	 * when the newest of "rows" came.  The latter is greater if the key was
	 * queued again while it waited.
	 */
	uint64		queue_id;
	uint64		sequence;
	uint64		latest_sequence;
	uint64		next_latest_sequence;	/* of next_rows */
	uint64		arrived;		/* when it came, as latest_sequence counts */
	TimestampTz queued_at;		/* of the oldest of "rows" */
	TimestampTz last_queued_at; /* of the newest that came, unless that only
								 * has the row sent again */
	TimestampTz sent_queued_at; /* of the newest of "rows", while ACTIVE */

	bool		unconfirmed;	/* it may have been sent before, or is to be
								 * sent again: send it whatever is stored */
	bool		next_unconfirmed;	/* of next_rows */
	uint16		origins;		/* CS_ORIGIN_... bits of rows */
	int64		word_address;	/* of CS_ORIGIN_WORD: a hash of the address */
	uint16		next_origins;	/* of next_rows */
	bool		is_counted;		/* one of set->counted */
	bool		forgotten;		/* contactsync_forget() took its queue rows:
								 * it ends, and nothing is stored of it */
	bool		next_forgotten; /* ... and next_rows */
	bool		notes_row;		/* ... but that its row is there, if it is */
	Jsonb	   *direct;			/* of contactsync_upsert(): the contact itself */
	int			attempts;
	int			later;			/* tries to read its row that a lock or the
								 * like ended */
	int			conflicts;		/* in a row: another contact has its address */
	bool		conflicts_here; /* ... and is a contact of another row of ours */
	bool		entangled;		/* ... whose change is in conflict, too */
	double		failed_at;		/* of the first failed attempt, or 0 */
	double		suspected_at;	/* when it was last counted in
								 * account->suspects, or 0 */
	bool		last;			/* goes behind the others when it is due */
	double		not_before;
	TimestampTz waiting_since;	/* when it began to do the next; 0: it never
								 * did */
	bool		waits;			/* for rows that are yet to be read */
	CsIdentityLock *locks[CS_CHANGE_LOCKS];
	CsBehind	behind;			/* if it waits without these */

	TimestampTz read_at;		/* when it became ACTIVE the last time, or 0 */
	TimestampTz last_read_at;	/* ... and the time before that */
	uint64		read_sequence;	/* latest_sequence when its row was read */

	/* while ACTIVE */
	CsReadBatch *read_batch;	/* that "contact" was allocated in */
	CsContact  *contact;
	pg_uuid_t	digest;
	const char *upsert_key;		/* of the contact, in the database's encoding */
	const char *previous_key;	/* that its row stood for, if it is another
								 * one; likewise */
	bool		previous_maybe_sent;	/* ... and was, perhaps without an
										 * answer, before this reading */
	CsConsent	left;			/* the address that the contact had, and what
								 * is to be remembered of it */
	CsConsent	moved_from;		/* the same, if the contact is moved to
								 * another address with its row, or was */
	const char *twin_key;		/* of a contact that is this one, if it has
								 * twin_id at the provider; or NULL */
	const char *twin_id;
	char		row_opt_in;		/* to be stored of the row; see
								 * cs_contact_said() */
	char		contact_opt_in; /* ... and of the contact */
	uint64		no_xact;		/* its row says no: since that transaction, or
								 * 0; kept until the change is finished */
	uint64		no_contact;		/* ... of the contact with this hash */
	bool		says_yes;		/* its row said true when it was read last */
	bool		is_word;		/* its row said no or null, and claims consent */
	TimestampTz known_changed_at;	/* when the row changed that was sent
									 * last, if it is this one or goes on
									 * speaking; or 0 */
	bool		is_late;		/* something newer was sent already: only what
								 * the row says of consent is to be sent */
	bool		has_others_digest;	/* ... and this is the digest of what was
									 * sent */
	pg_uuid_t	others_digest;
	int			others_watch;	/* ... and the row that it was sent of */
	const char *others_key;
	TimestampTz spoke_at;		/* when the row said what it says, of one that
								 * is sent again, or 0 */
	bool		has_row;		/* the row is stored in source_row already */
	bool		is_recorded;	/* ... as it will be when the contact is
								 * synced */
	bool		has_changed;	/* its row, by what was committed since it was
								 * stored what that says */
	bool		refused;		/* its row cannot be sent as it is */
	bool		takes_over;		/* nobody else speaks for the contact */
	bool		gone;			/* its row was read, and is not there */
	bool		renamed;		/* its row is leaving a contact, and another
								 * one is taken for it */
	bool		yes_left;		/* its row said true of a contact that was
								 * last said not to, and has gone */
	const char *alias_key;		/* of another contact of ours that is the same
								 * at the provider, or NULL */
	bool		was_known;		/* the contact is stored, and was synced */
	ItemPointerData contact_tid;	/* ... there, if it was found; or not
									 * valid */
	bool		was_unconfirmed;	/* before the call that is under way */
	bytea	   *fields;			/* hashes of fields, to be stored with the
								 * contact; or NULL.  See outcome_record.c */
	const char *differences;	/* names of those that differ from what was
								 * sent last, or NULL */
	const char *again;			/* why it is sent in any case, or NULL; a
								 * constant */

	/* of a removal: the row that stood for the contact last */
	int			removal_watch;
	char	   *removal_key;
	char		removal_action; /* 'n' or 'd' */
	bool		removal_erases; /* contactsync_forget() erased the person */
} CsChange;

extern void cs_change_create_set(CsChangeSet *set, struct CsLane *lane, CsIdentityLocks *locks,
								 CsRoom *room, MemoryContext context);

extern int	cs_change_room(const CsChangeSet *set, int needed);
extern bool cs_change_is_renewed(uint16 origins, uint16 queued);
extern CsChange *cs_change_find(const CsChangeSet *set, const char *key);
extern CsChange *cs_change_make(CsChangeSet *set, const char *key, bool *found);
extern void cs_change_visit(CsChangeSet *set, void (*visit) (CsChange *change, void *arg),
							void *arg);
extern uint64 cs_change_oldest(const CsChangeSet *set, bool or_waiting);
extern ArrayType *cs_change_active_keys(const CsChangeSet *set);

extern CsChange *cs_change_next(CsChangeSet *set, double now);
extern void cs_change_forget_sent(CsChangeSet *set);
extern double cs_change_ready_at(const CsChangeSet *set);

extern void cs_change_postpone(CsChange *change, double not_before, bool first);
extern void cs_change_wait(CsChange *change, double not_before);
extern bool cs_change_may_wait(const CsChangeSet *set);
extern bool cs_change_release_row(CsChange *change, CsQueuePosition *position);
extern List *cs_change_take_locks(CsChange *change, List *taken);
extern void cs_change_release_taken(CsIdentityLocks *locks, List *taken);
extern void cs_change_finish(CsChange *change);
extern void cs_change_set_aside(CsChange *change);

extern void cs_change_release_lock(CsChange *change, int slot);
extern void cs_change_release_locks(CsChange *change);
extern void cs_change_empty_set(CsChangeSet *set);
extern void cs_change_close_set(CsChangeSet *set);
extern void cs_change_drop_set(CsChangeSet *set);

#endif							/* CS_DELIVERY_CHANGE_H */
