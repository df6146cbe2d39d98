/*-------------------------------------------------------------------------
 *
 * span.c
 *		What was done in a span of time, counted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/float.h"

#include "store/span.h"

/* Effect: all is added but the backlog, of which there is no sum. */
void
cs_stats_add_period(CsPeriodStats *sum, const CsPeriodStats *span)
{
	sum->calls += span->calls;
	sum->retries += span->retries;
	sum->throttled += span->throttled;
	sum->unanswered += span->unanswered;
	sum->synced += span->synced;
	sum->unchanged += span->unchanged;
	sum->failed += span->failed;
	for (int i = 0; i <= CS_LATENCY_BOUNDS; i++)
		sum->latency[i] += span->latency[i];
}

/*
 * It is estimated: between the bounds of the histogram a straight line is
 * taken.
 */
double
cs_stats_latency(const CsPeriodStats *span, double part)
{
	double		total = 0;
	double		below = 0;

	for (int i = 0; i <= CS_LATENCY_BOUNDS; i++)
		total += span->latency[i];
	for (int i = 0; i < CS_LATENCY_BOUNDS && total > 0; i++)
	{
		double		from = i > 0 ? cs_latency_bounds[i - 1] : 0;

		if (span->latency[i] > 0 && below + span->latency[i] >= part * total)
			return from + (cs_latency_bounds[i] - from) * (part * total - below) / span->latency[i];
		below += span->latency[i];
	}
	return total > 0 ? cs_latency_bounds[CS_LATENCY_BOUNDS - 1] : get_float8_nan();
}
