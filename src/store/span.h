/*-------------------------------------------------------------------------
 *
 * span.h
 *		What was done in a span of time, counted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_SPAN_H
#define CS_STORE_SPAN_H

#include "postgres.h"

#include "store/stats.h"

/* What was done in a part of the period, or in all of it. */
typedef struct CsPeriodStats
{
	int64		calls;
	int64		retries;
	int64		throttled;
	int64		unanswered;
	int64		synced;
	int64		unchanged;
	int64		failed;
	double		backlog;		/* the highest; NaN: none was seen */
	int64		latency[CS_LATENCY_BOUNDS + 1];
} CsPeriodStats;

extern void cs_stats_add_period(CsPeriodStats *sum, const CsPeriodStats *span);

/* Such a part of the calls took no longer, in seconds; NaN: there were none. */
extern double cs_stats_latency(const CsPeriodStats *span, double part);

#endif							/* CS_STORE_SPAN_H */
