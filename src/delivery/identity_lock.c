/*-------------------------------------------------------------------------
 *
 * identity_lock.c
 *		Locks on what a provider finds a contact by.
 *
 * Two rows can stand for one contact, so whoever sends a contact holds a lock on
 * each identity that the provider may find it by.  The locks live in the memory
 * of the process that delivers; a crash forgets them with everything else that
 * was under way.
 *
 * A row that changed again while it stood in line is sent in its old place with
 * its newest value.  Changes of other rows that stand for the same contact, and
 * came between the two, are outdated then.  The lock remembers how new the value
 * was that was sent, and is kept until the line has come that far.
 *
 * Who waits without its lock, because its row cannot be read or its watch waits for
 * somebody, is told what was sent meanwhile that is newer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "delivery/identity_lock.h"

typedef struct CsIdentityLockSlot
{
	const char *key;
	uint32		hash;
	CsIdentityLock *lock;
	char		status;
} CsIdentityLockSlot;

static uint32
hash_of(const char *key)
{
	return hash_bytes((const unsigned char *) key, strlen(key));
}

#define SH_PREFIX lockset
#define SH_ELEMENT_TYPE CsIdentityLockSlot
#define SH_KEY_TYPE const char *
#define SH_KEY key
#define SH_HASH_KEY(tb, key) hash_of(key)
#define SH_EQUAL(tb, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct CsIdentityLocks
{
	MemoryContext context;
	lockset_hash *by_key;
	int			nbehind;		/* how many wait without a lock */
};

/* Create an empty table of locks in the given context. */
CsIdentityLocks *
cs_identity_lock_create(MemoryContext context)
{
	CsIdentityLocks *locks = MemoryContextAlloc(context, sizeof(CsIdentityLocks));

	locks->context = context;
	locks->nbehind = 0;
	locks->by_key = lockset_create(context, 1024, NULL);
	return locks;
}

/* The key of the lock on an identity of that kind, which is one word; palloc'd. */
char *
cs_identity_lock_key(int endpoint, const char *kind, const char *identity)
{
	return psprintf("%d %s %s", endpoint, kind, identity);
}

/* The identity that a lock is on. */
const char *
cs_identity_lock_identity(const CsIdentityLock *lock)
{
	return strchr(strchr(lock->key, ' ') + 1, ' ') + 1;
}

/*
 * Return the lock with that key, made if there is none.  If it has no owner the
 * caller becomes that; otherwise it adds itself to the waiters.
 */
CsIdentityLock *
cs_identity_lock_find(CsIdentityLocks *locks, const char *key)
{
	CsIdentityLockSlot *slot = lockset_lookup(locks->by_key, key);
	CsIdentityLock *lock;
	bool		found;

	if (slot)
		return slot->lock;
	lock = MemoryContextAllocZero(locks->context, sizeof(CsIdentityLock));
	lock->key = MemoryContextStrdup(locks->context, key);
	dlist_init(&lock->waiters);
	dlist_init(&lock->behind);
	lockset_insert(locks->by_key, lock->key, &found)->lock = lock;
	return lock;
}

/* Return the lock with that key; NULL: there is none. */
const CsIdentityLock *
cs_identity_lock_look_up(const CsIdentityLocks *locks, const char *key)
{
	CsIdentityLockSlot *slot = lockset_lookup(locks->by_key, key);

	return slot ? slot->lock : NULL;
}

/* Free a lock unless somebody has it, or something is to be known of it. */
static void
free_unused(CsIdentityLocks *locks, CsIdentityLock *lock)
{
	if (lock->owner != NULL || lock->sent_sequence > 0 || !dlist_is_empty(&lock->behind))
		return;
	lockset_delete(locks->by_key, lock->key);
	pfree(lock->key);
	pfree(lock);
}

/* Release a lock; the caller has removed the waiters. */
void
cs_identity_lock_release(CsIdentityLocks *locks, CsIdentityLock *lock)
{
	Assert(dlist_is_empty(&lock->waiters));
	lock->owner = NULL;
	lock->is_taken = false;
	free_unused(locks, lock);
}

/*
 * Remember that a value as new as "sent" was sent ahead of its place in the line
 * whose list is sent_ahead.  The list is in the order of the sequences.
 */
void
cs_identity_lock_mark_sent(CsIdentityLock *lock, dlist_head *sent_ahead, const CsBehind *sent)
{
	dlist_node *before = &sent_ahead->head;

	if (lock->sent_sequence > 0)
		dlist_delete(&lock->node);
	lock->sent_sequence = sent->sequence;
	lock->sent_queued_at = sent->queued_at;
	lock->sent_word = sent->by_word;
	lock->sent_no = sent->by_no;
	lock->sent_ahead = sent_ahead;
	while (before->prev != &sent_ahead->head &&
		   dlist_container(CsIdentityLock, node, before->prev)->sent_sequence > sent->sequence)
		before = before->prev;
	dlist_insert_before(before, &lock->node);
}

/* How new what was sent ahead of its place in that line is; 0 if nothing was. */
uint64
cs_identity_lock_sent(const CsIdentityLock *lock, const dlist_head *sent_ahead)
{
	return lock->sent_ahead == sent_ahead ? lock->sent_sequence : 0;
}

/* The line has come to the given sequence: forget what was sent ahead of it. */
void
cs_identity_lock_forget_sent(CsIdentityLocks *locks, dlist_head *sent_ahead, uint64 sequence)
{
	while (!dlist_is_empty(sent_ahead))
	{
		CsIdentityLock *lock = dlist_head_element(CsIdentityLock, node, sent_ahead);

		if (lock->sent_sequence > sequence)
			break;
		dlist_delete(&lock->node);
		lock->sent_sequence = 0;
		free_unused(locks, lock);
	}
}

void
cs_identity_lock_fall_behind(CsIdentityLocks *locks, const char *key, CsBehind *behind)
{
	cs_identity_lock_catch_up(locks, behind);
	if (behind->hash != hash_of(key))
		behind->overtaken = behind->by_word = behind->by_no = false;
	behind->hash = hash_of(key);
	behind->lock = cs_identity_lock_find(locks, key);
	dlist_push_tail(&behind->lock->behind, &behind->node);
	locks->nbehind++;
}

void
cs_identity_lock_catch_up(CsIdentityLocks *locks, CsBehind *behind)
{
	CsIdentityLock *lock = behind->lock;

	if (lock == NULL)
		return;
	dlist_delete(&behind->node);
	behind->lock = NULL;
	locks->nbehind--;
	free_unused(locks, lock);
}

/* Was something newer sent of the identity of the lock, as which it waited? */
bool
cs_identity_lock_is_overtaken(const CsIdentityLock *lock, const CsBehind *behind)
{
	return behind->overtaken && behind->hash == hash_of(lock->key);
}

/* Sequences of different lines do not compare, but who was there already is older than
 * what was queued thereafter. */
void
cs_identity_lock_overtake(CsIdentityLocks *locks, const char *key, const CsBehind *sent)
{
	CsIdentityLockSlot *slot = locks->nbehind > 0 ? lockset_lookup(locks->by_key, key) : NULL;
	dlist_iter	iter;

	if (slot == NULL)
		return;
	dlist_foreach(iter, &slot->lock->behind)
	{
		CsBehind   *behind = dlist_container(CsBehind, node, iter.cur);

		if (behind->line == sent->line ? sent->sequence <= behind->sequence || sent->queued_at < behind->queued_at :
			sent->queued_at <= behind->since)
			continue;
		behind->overtaken = true;
		behind->by_word |= sent->by_word;
		behind->by_no |= sent->by_no;
	}
}
