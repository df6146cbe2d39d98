/*-------------------------------------------------------------------------
 *
 * identity_lock.h
 *		Locks on what a provider finds a contact by.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_IDENTITY_LOCK_H
#define CS_DELIVERY_IDENTITY_LOCK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"

/* All locks of one delivery: an identity belongs to an endpoint. */
typedef struct CsIdentityLocks CsIdentityLocks;

typedef struct CsIdentityLock
{
	char	   *key;			/* endpoint, kind and identity */
	void	   *owner;			/* NULL: kept for sent_sequence alone */
	bool		is_taken;		/* the owner is the set of a change that has
								 * its outcome, which is yet to be stored */
	dlist_head	waiters;		/* who wants it; of the owners' own nodes */

	/*
	 * If not 0, something was sent ahead of its place in a line, and was as
	 * new as this.  Sequences of different lines do not compare.
	 */
	uint64		sent_sequence;
	TimestampTz sent_queued_at; /* and it was queued then: transactions need
								 * not end in the order of the line */
	bool		sent_word;		/* it claimed consent, which its row had just
								 * given */
	bool		sent_no;		/* it said no, and did not before */
	dlist_head *sent_ahead;		/* the list of that line */
	dlist_node	node;			/* of sent_ahead */
	dlist_head	behind;			/* of CsBehind: who waits without the lock */
} CsIdentityLock;

/* Somebody whose turn it was, and who waits without a lock, so that others who are
 * newer may be sent before. */
typedef struct CsBehind
{
	CsIdentityLock *lock;		/* on the identity that it has; NULL: none */
	dlist_node	node;
	const dlist_head *line;		/* of which the sequence is */
	uint64		sequence;		/* how new it is */
	TimestampTz queued_at;		/* ... which it was queued with */
	TimestampTz since;			/* it was there by then */
	uint32		hash;			/* of the key of the lock that it has, or had */
	bool		overtaken;		/* something newer was sent */
	bool		by_word;		/* ... that claimed consent, as sent_word */
	bool		by_no;			/* ... that said no, as sent_no */
} CsBehind;

extern CsIdentityLocks *cs_identity_lock_create(MemoryContext context);
extern char *cs_identity_lock_key(int endpoint, const char *kind, const char *identity);
extern const char *cs_identity_lock_identity(const CsIdentityLock *lock);

extern CsIdentityLock *cs_identity_lock_find(CsIdentityLocks *locks, const char *key);
extern const CsIdentityLock *cs_identity_lock_look_up(const CsIdentityLocks *locks, const char *key);
extern void cs_identity_lock_release(CsIdentityLocks *locks, CsIdentityLock *lock);

extern void cs_identity_lock_mark_sent(CsIdentityLock *lock, dlist_head *sent_ahead, const CsBehind *sent);
extern uint64 cs_identity_lock_sent(const CsIdentityLock *lock, const dlist_head *sent_ahead);
extern void cs_identity_lock_forget_sent(CsIdentityLocks *locks, dlist_head *sent_ahead, uint64 sequence);

/* "behind" stays in place until it catches up; what has overtaken it is kept. */
extern void cs_identity_lock_fall_behind(CsIdentityLocks *locks, const char *key, CsBehind *behind);
extern void cs_identity_lock_catch_up(CsIdentityLocks *locks, CsBehind *behind);

extern bool cs_identity_lock_is_overtaken(const CsIdentityLock *lock, const CsBehind *behind);

/*
 * Something was sent, or is refused to be, of the identity with that key.  It is as new in
 * its line as "sent" says, and was queued at "since" of that.
 */
extern void cs_identity_lock_overtake(CsIdentityLocks *locks, const char *key, const CsBehind *sent);

#endif							/* CS_DELIVERY_IDENTITY_LOCK_H */
