/*-------------------------------------------------------------------------
 *
 * gather.h
 *		Doing at once what comes fast.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_GATHER_H
#define CS_DELIVERY_GATHER_H

#include "postgres.h"

/* Something that costs almost the same for one as for many; zero at first. */
typedef struct CsGather
{
	double		done_at;		/* when it was done last, by the clock of
								 * clock.h */
	int			nfast;			/* how often in succession it was done soon
								 * after the time before */
} CsGather;

/* When is it to be done at the earliest?  In the past if it does not come fast. */
extern double cs_gather_until(const CsGather *gather);

extern bool cs_gather_is_fast(const CsGather *gather);

/* It is done now. */
extern void cs_gather_done(CsGather *gather, double now);

#endif							/* CS_DELIVERY_GATHER_H */
