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

#include "lib/ilist.h"

/* All locks of one delivery: an identity belongs to an endpoint. */
typedef struct CsIdentityLocks CsIdentityLocks;

typedef struct CsIdentityLock
{
	char	   *key;			/* endpoint, kind and identity */
	void	   *owner;			/* NULL: kept for sent_sequence alone */
	dlist_head	waiters;		/* who wants it; of the owners' own nodes */

	/*
	 * If not 0, something was sent ahead of its place in a line, and was as
	 * new as this.  Sequences of different lines do not compare.
	 */
	uint64		sent_sequence;
	bool		sent_word;		/* it claimed consent, which its row had just
								 * given */
	dlist_head *sent_ahead;		/* the list of that line */
	dlist_node	node;			/* of sent_ahead */
} CsIdentityLock;

extern CsIdentityLocks *cs_identity_lock_create(MemoryContext context);
extern char *cs_identity_lock_key(int endpoint, const char *kind, const char *identity);
extern const char *cs_identity_lock_identity(const CsIdentityLock *lock);

extern CsIdentityLock *cs_identity_lock_find(CsIdentityLocks *locks, const char *key);
extern void cs_identity_lock_release(CsIdentityLocks *locks, CsIdentityLock *lock);

extern void cs_identity_lock_mark_sent(CsIdentityLock *lock, dlist_head *sent_ahead, uint64 sequence,
									   bool is_word);
extern uint64 cs_identity_lock_sent(const CsIdentityLock *lock, const dlist_head *sent_ahead);
extern void cs_identity_lock_forget_sent(CsIdentityLocks *locks, dlist_head *sent_ahead, uint64 sequence);

#endif							/* CS_DELIVERY_IDENTITY_LOCK_H */
