/*-------------------------------------------------------------------------
 *
 * wakeup.c
 *		Waking the worker when the transaction at hand commits.
 *
 * The worker is woken for the queue when the transaction has ended for others, and
 * for a changed definition after the invalidation messages have been sent, which is
 * later than the callbacks of the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "base/attention.h"
#include "base/shmem.h"
#include "base/wakeup.h"

/* What is to be done when this transaction commits. */
static uint64 wake_pending = 0; /* for these endpoints */
static bool interrupt_pending = false;
static bool launch_pending = false;

static void
at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && wake_pending)
		cs_shmem_wake(wake_pending);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wake_pending = 0;
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		interrupt_pending = launch_pending = false;
}

static void
at_resource_release(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isTopLevel ||
		!(interrupt_pending || launch_pending))
		return;
	if (isCommit && launch_pending)
		cs_shmem_launch();
	if (isCommit)
		cs_shmem_interrupt();
	interrupt_pending = launch_pending = false;
}

void
cs_wakeup_init(void)
{
	RegisterXactCallback(at_xact_end, NULL);
	RegisterResourceReleaseCallback(at_resource_release, NULL);
}

void
cs_wakeup_at_commit(void)
{
	wake_pending = cs_shmem_ready() ? CS_ANY_ENDPOINT : 0;
}

void
cs_wakeup_for_endpoint_at_commit(int endpoint)
{
	if (cs_shmem_ready())
		wake_pending |= cs_attention_bit(endpoint);
}

void
cs_wakeup_interrupt_at_commit(void)
{
	interrupt_pending = cs_shmem_ready();
}

void
cs_wakeup_launch_at_commit(void)
{
	launch_pending = cs_shmem_ready();
}
