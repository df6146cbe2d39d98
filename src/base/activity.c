/*-------------------------------------------------------------------------
 *
 * activity.c
 *		What workers are doing, for the view status.
 *
 * One row of shared memory per endpoint that a worker delivers for.  An endpoint
 * beyond the limit is delivered for all the same, but not shown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "base/activity.h"
#include "base/shmem.h"

/* Endpoints of a cluster that can be shown. */
#define MAX_ENDPOINTS	1024

/* Names the shared memory and its lock. */
#define ACTIVITY_NAME	"contactsync activity"

/* The lock protects all of it. */
typedef struct CsActivities
{
	LWLock	   *lock;
	int			n;				/* ever used; rows below may be free */
	CsActivity	rows[MAX_ENDPOINTS];
} CsActivities;

static CsActivities *shared = NULL;
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(CsActivities)));
	RequestNamedLWLockTranche(ACTIVITY_NAME, 1);
}

static void
startup_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(ACTIVITY_NAME, sizeof(CsActivities), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(CsActivities));
		shared->lock = &GetNamedLWLockTranche(ACTIVITY_NAME)->lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Ask for shared memory; only while shared_preload_libraries are loaded. */
void
cs_activity_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

/* Return the row of an endpoint of this database, or a free one; NULL if all are
 * used.  The lock is held. */
static CsActivity *
find_row(int endpoint)
{
	CsActivity *row = NULL;

	for (int i = 0; i < shared->n; i++)
	{
		CsActivity *other = &shared->rows[i];

		if (other->dboid == MyDatabaseId && other->endpoint == endpoint)
			return other;
		if (other->dboid == InvalidOid && row == NULL)
			row = other;
	}
	if (row == NULL && shared->n < MAX_ENDPOINTS)
		row = &shared->rows[shared->n++];
	return row;
}

/* Show this of an endpoint, of this database; in the worker only. */
void
cs_activity_publish(const CsActivity *activity)
{
	CsActivity *row;

	if (!cs_shmem_is_worker())
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	row = find_row(activity->endpoint);
	if (row)
	{
		*row = *activity;
		row->dboid = MyDatabaseId;
	}
	LWLockRelease(shared->lock);
}

/* Show nothing of this database any more. */
void
cs_activity_clear(void)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->n; i++)
		if (shared->rows[i].dboid == MyDatabaseId)
			shared->rows[i].dboid = InvalidOid;
	LWLockRelease(shared->lock);
}

/* Copy the rows, palloc'd. */
static CsActivity *
copy_rows(int *n)
{
	CsActivity *rows;

	*n = 0;
	if (shared == NULL)
		return NULL;
	rows = palloc(sizeof(CsActivity) * MAX_ENDPOINTS);
	LWLockAcquire(shared->lock, LW_SHARED);
	*n = shared->n;
	memcpy(rows, shared->rows, sizeof(CsActivity) * shared->n);
	LWLockRelease(shared->lock);
	return rows;
}

/* Visit what is shown of this database. */
void
cs_activity_visit(void (*visit) (const CsActivity *activity, void *arg), void *arg)
{
	int			n;
	CsActivity *rows = copy_rows(&n);

	for (int i = 0; i < n; i++)
		if (rows[i].dboid == MyDatabaseId)
			visit(&rows[i], arg);
	if (rows)
		pfree(rows);
}

Oid
cs_activity_other_database(uint64 account, Oid roleid)
{
	int			n;
	CsActivity *rows = copy_rows(&n);

	for (int i = 0; i < n; i++)
		if (OidIsValid(rows[i].dboid) && rows[i].dboid != MyDatabaseId && rows[i].account == account &&
			SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(rows[i].roleid)) && has_privs_of_role(roleid, rows[i].roleid))
			return rows[i].dboid;
	return InvalidOid;
}
