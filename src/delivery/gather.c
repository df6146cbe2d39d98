/*-------------------------------------------------------------------------
 *
 * gather.c
 *		Doing at once what comes fast.
 *
 * To read the queue, or to store outcomes, costs a transaction, whether of one
 * change or of a hundred.  While changes come one by one it is done at once, so that
 * they arrive at once.  When they come fast, a few milliseconds of them are done
 * together: the less often, the less is taken from the applications, which may use
 * the same processors.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/gather.h"

/* What follows the time before within SOON seconds after it could, FAST times in
 * succession, comes fast, and is gathered for PERIOD seconds. */
#define SOON	0.010
#define FAST	8
#define PERIOD	0.020

bool
cs_gather_is_fast(const CsGather *gather)
{
	return gather->nfast >= FAST;
}

double
cs_gather_until(const CsGather *gather)
{
	return cs_gather_is_fast(gather) ? gather->done_at + PERIOD : 0;
}

void
cs_gather_done(CsGather *gather, double now)
{
	gather->nfast = now - Max(gather->done_at, cs_gather_until(gather)) < SOON ? Min(gather->nfast + 1, FAST) : 0;
	gather->done_at = now;
}
