/*-------------------------------------------------------------------------
 *
 * queue_owner.c
 *		Who may deliver what is queued: the worker, or a session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "store/queue_owner.h"

/*
 * Unlike an advisory lock the lock on the queue cannot be taken by SQL, so that
 * nobody can keep us out.  But its method is that of an advisory lock: other session
 * locks are released when a transaction aborts, and are left in the PGPROC of a
 * process that exits between transactions.
 */
static void
set_lock_tag(LOCKTAG *tag, uint16 which)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, ExtensionRelationId,
					   get_extension_oid(CS_EXTENSION, false), which);
	tag->locktag_lockmethodid = USER_LOCKMETHOD;
}

/* The same for one endpoint.  The view status looks for the number 3. */
static void
set_endpoint_tag(LOCKTAG *tag, int endpoint, uint16 which)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, get_extension_oid(CS_EXTENSION, false), (uint32) endpoint, which);
	tag->locktag_lockmethodid = USER_LOCKMETHOD;
}

/*
 * The owner of the queue has the first as a session lock.  No process becomes the
 * owner while another has the second, which the owner takes as a transaction lock
 * while it might lose the first.  There are two, so that a lock held on the first is
 * known to be the session lock.
 */
static LOCKTAG held_tag;
static LOCKTAG guard_tag;

/* Take both, or return false. */
static bool
take_locks(void)
{
	if (LockAcquire(&held_tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	if (LockAcquire(&guard_tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&held_tag, ExclusiveLock, true);
	return false;
}

/* Is a lock held by another session? */
static bool
is_taken(const LOCKTAG *tag)
{
	if (LockAcquire(tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(tag, ShareLock, false);
	return false;
}

/*
 * Own the queue until cs_queue_unlock() or the end of the session.  Return false if
 * another session owns it.  Needs a transaction.
 */
bool
cs_queue_lock(void)
{
	set_lock_tag(&held_tag, 1);
	set_lock_tag(&guard_tag, 2);
	return take_locks();
}

/*
 * Own what is queued for one endpoint, likewise.  Who owns the queue does not take
 * this lock, but leaves alone what others had taken before; and who takes it looks
 * after that whether anybody owns the queue.  So of two that begin at once, at least
 * one sees the other.
 */
CsQueueOwner
cs_queue_lock_endpoint(int endpoint)
{
	LOCKTAG		queue_tag;

	set_lock_tag(&queue_tag, 1);
	if (is_taken(&queue_tag))
		return CS_QUEUE_WORKERS;
	set_endpoint_tag(&held_tag, endpoint, 3);
	set_endpoint_tag(&guard_tag, endpoint, 4);
	if (!take_locks())
		return CS_QUEUE_OTHERS;
	if (!is_taken(&queue_tag))
		return CS_QUEUE_OURS;
	cs_queue_unlock();
	return CS_QUEUE_WORKERS;
}

/* Does a session own what is queued for the endpoint? */
bool
cs_queue_endpoint_is_locked(int endpoint)
{
	LOCKTAG		tag;

	set_endpoint_tag(&tag, endpoint, 3);
	return is_taken(&tag);
}

/*
 * Keep the queue until the transaction ends, whatever a mapping calls.
 * pg_advisory_unlock_all() releases the session lock, which it takes for one of its
 * own, but cannot release a transaction lock.
 */
void
cs_queue_protect(void)
{
	(void) LockAcquire(&guard_tag, ExclusiveLock, false, false);
}

/*
 * Own the queue as before, in the transaction of cs_queue_protect().  In a worker all
 * other session locks are released: advisory locks that a mapping has left.
 */
void
cs_queue_recover(void)
{
	if (MyBackendType == B_BG_WORKER)
		LockReleaseSession(USER_LOCKMETHOD);

	/* another session may hold it briefly, until it finds the second taken */
	(void) LockAcquire(&held_tag, ExclusiveLock, true, false);
}

void
cs_queue_unlock(void)
{
	/* each recovery has taken it once more */
	while (cs_lock_held(&held_tag, ExclusiveLock) && LockRelease(&held_tag, ExclusiveLock, true))
		;
}
