/*-------------------------------------------------------------------------
 *
 * change_lock.c
 *		Which of several changes of one contact is sent first, and which not at all.
 *
 * An ACTIVE change locks the identities of its contact.  A change whose row cannot be
 * read, or whose watch waits for somebody, has no lock: others may be sent before it,
 * and outdate it if they are newer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "delivery/change_add.h"
#include "delivery/change_lock.h"

/* The change waits without a lock: note what is sent meanwhile as the one with that key. */
static void
fall_behind(CsChange *change, const char *key)
{
	CsBehind   *behind = &change->behind;

	if (behind->sequence != change->latest_sequence)
		behind->overtaken = behind->by_word = behind->by_no = false;
	behind->line = &change->set->sent_ahead;
	behind->sequence = change->latest_sequence;
	behind->queued_at = change->last_queued_at;
	behind->since = GetCurrentTimestamp();
	cs_identity_lock_fall_behind(change->set->locks, key, behind);
}

/* The row of an ACTIVE change cannot be read: others may speak before for the contact
 * that it stood for. */
void
cs_change_fall_behind(CsChange *change, int endpoint, const char *upsert_key)
{
	if (change->locks[CS_LOCK_KEY] == NULL)
		fall_behind(change, cs_identity_lock_key(endpoint, "key", upsert_key));
}

/* Give up all locks of a change that waits for somebody. */
void
cs_change_let_go(CsChange *change)
{
	if (change->locks[CS_LOCK_KEY])
		fall_behind(change, change->locks[CS_LOCK_KEY]->key);
	cs_change_release_locks(change);
}

/*
 * Does its row say no, and did not before, as far as that is known?  Not if it is only taken to
 * say so because another row did: that one tells of itself.
 */
static bool
says_no_anew(const CsChange *change)
{
	return change->contact->consent == CS_CONSENT_NO && !change->says_yes &&
		(change->no_xact == 0 || cs_change_is_of(change, change->no_xact));
}

/* What an ACTIVE change says, and how new that is. */
static CsBehind
what_is_sent(const CsChange *change)
{
	CsBehind	sent = {
		.line = &change->set->sent_ahead,
		.sequence = change->latest_sequence,
		.queued_at = change->sent_queued_at,
		.by_word = change->is_word,
		.by_no = says_no_anew(change)
	};

	return sent;
}

/*
 * What an ACTIVE change says of its contact has its outcome: older changes that wait
 * without a lock are overtaken.  What is only sent again overtakes nobody.
 */
void
cs_change_overtake(const CsChange *change, int endpoint)
{
	const CsIdentityLock *lock = change->locks[CS_LOCK_KEY];
	CsBehind	sent = what_is_sent(change);

	if (change->origins & CS_ORIGIN_LIVE)
		cs_identity_lock_overtake(change->set->locks,
								  lock ? lock->key : cs_identity_lock_key(endpoint, "key", change->upsert_key), &sent);
}

/* Was something newer sent while the change waited without a lock? */
bool
cs_change_is_overtaken(const CsChange *change)
{
	const CsIdentityLock *lock = change->locks[CS_LOCK_KEY];

	return lock && change->behind.sequence == change->latest_sequence &&
		cs_identity_lock_is_overtaken(lock, &change->behind);
}

/*
 * Lock an identity for an ACTIVE change until it is finished or locks another
 * one in the same slot; NULL only releases what is there.  A row that returns to
 * an identity that it had may hold its lock in another slot since the last try.
 *
 * If another change has the lock, this one becomes BLOCKED and loses all its
 * locks, so that no two changes wait for each other, and false is returned.
 */
bool
cs_change_lock(CsChange *change, int endpoint, const char *identity, int slot)
{
	CsIdentityLock *held = change->locks[slot];
	CsIdentityLock *lock;
	char	   *key;

	if (identity == NULL)
	{
		cs_change_release_lock(change, slot);
		return true;
	}
	key = cs_identity_lock_key(endpoint, slot == CS_LOCK_EMAIL || slot == CS_LOCK_PREVIOUS_EMAIL ?
							   "email" : "key", identity);
	if (held && strcmp(held->key, key) == 0)
		return true;
	cs_change_release_lock(change, slot);
	lock = cs_identity_lock_find(change->set->locks, key);
	for (int i = 0; i < CS_CHANGE_LOCKS; i++)
		if (change->locks[i] == lock)
			change->locks[i] = lock->owner = NULL;
	if (lock->owner != NULL)
	{
		cs_change_let_go(change);
		if (slot == CS_LOCK_KEY)
			fall_behind(change, lock->key);
		change->state = CS_CHANGE_BLOCKED;
		dlist_push_tail(&lock->waiters, &change->node);
		return false;
	}
	lock->owner = change;
	change->locks[slot] = lock;
	return true;
}

bool
cs_change_is_locked_out(const CsChange *change, int endpoint, const char *upsert_key)
{
	const CsIdentityLock *lock = cs_identity_lock_look_up(change->set->locks, cs_identity_lock_key(endpoint, "key", upsert_key));

	return lock && lock->owner && lock->owner != change;
}

/* Was something newer sent already as the contact that the change has locked? */
bool
cs_change_is_outdated(const CsChange *change)
{
	const CsIdentityLock *lock = change->locks[CS_LOCK_KEY];

	return lock && cs_identity_lock_sent(lock, &change->set->sent_ahead) > change->latest_sequence &&
		lock->sent_queued_at >= change->last_queued_at;
}

/* Did what was sent instead claim consent that its row had just given? */
bool
cs_change_word_was_sent(const CsChange *change)
{
	return (cs_change_is_outdated(change) && change->locks[CS_LOCK_KEY]->sent_word) ||
		(cs_change_is_overtaken(change) && change->behind.by_word);
}

/* Did it say no, and did not before? */
bool
cs_change_no_was_sent(const CsChange *change)
{
	return (cs_change_is_outdated(change) && change->locks[CS_LOCK_KEY]->sent_no) ||
		(cs_change_is_overtaken(change) && change->behind.by_no);
}

/*
 * The provider has the value of the change.  If that is newer than its place in
 * line, the changes of the same contact in between are outdated.
 */
void
cs_change_mark_sent(CsChange *change)
{
	CsIdentityLock *lock = change->locks[CS_LOCK_KEY];
	CsBehind	sent = what_is_sent(change);

	if (lock && change->latest_sequence > change->sequence && !cs_change_is_outdated(change))
		cs_identity_lock_mark_sent(lock, &change->set->sent_ahead, &sent);
}

/* What is only sent again does not tell when its row changed. */
TimestampTz
cs_change_changed_at(const CsChange *change)
{
	if (change->is_late || (change->origins & CS_ORIGIN_LIVE) == 0)
		return change->known_changed_at;
	return Max(change->known_changed_at, change->sent_queued_at);
}

static void
release_if_pending(CsChange *change, void *arg)
{
	if (change->state == CS_CHANGE_PENDING)
		cs_change_let_go(change);
}

/* Have no change hold a lock, but for those in flight: the lane waits for somebody. */
void
cs_change_release_pending(CsChangeSet *set)
{
	cs_change_visit(set, release_if_pending, NULL);
}
