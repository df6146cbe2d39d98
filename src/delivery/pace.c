/*-------------------------------------------------------------------------
 *
 * pace.c
 *		How fast calls may go, and how long to wait after a failure.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "common/pg_prng.h"

#include "delivery/pace.h"

#define BACKOFF_FIRST	0.5		/* s */
#define BACKOFF_LAST	60.0	/* s */
#define JITTER_MAX		0.5		/* s */

/* Calls of a token that rounding has left a little short. */
#define ALMOST_ONE		(1.0 - 1e-6)

static double
tokens_at(const CsPace *pace, double now)
{
	return Min(pace->burst, pace->tokens + Max(now - pace->at, 0) * pace->rate);
}

/* Effect: the bucket has this rate from now on; it is full at first only. */
void
cs_pace_set(CsPace *pace, double rate, double burst, double now)
{
	double		tokens = pace->rate > 0 ? tokens_at(pace, now) : burst;

	pace->rate = rate;
	pace->burst = Max(burst, 1.0);
	pace->tokens = Min(tokens, pace->burst);
	pace->at = now;
}

/* Effect: takes a token if there is one. */
bool
cs_pace_take(CsPace *pace, double now)
{
	double		tokens = tokens_at(pace, now);

	if (tokens < ALMOST_ONE)
		return false;
	pace->tokens = Max(tokens - 1.0, 0);
	pace->at = now;
	return true;
}

/* How many tokens there are. */
int
cs_pace_available(const CsPace *pace, double now)
{
	double		tokens = tokens_at(pace, now);

	return tokens > INT_MAX ? INT_MAX : (int) (tokens + (1.0 - ALMOST_ONE));
}

/* The time at which there will be a token. */
double
cs_pace_ready_at(const CsPace *pace, double now)
{
	double		tokens = tokens_at(pace, now);

	return tokens >= ALMOST_ONE ? now : now + (1.0 - tokens) / pace->rate;
}

double
cs_pace_backoff(int failures)
{
	double		delay = BACKOFF_FIRST * exp2(Min(Max(failures, 1), 16) - 1);

	return Min(delay, BACKOFF_LAST) + cs_pace_jitter();
}

double
cs_pace_jitter(void)
{
	return pg_prng_double(&pg_global_prng_state) * JITTER_MAX;
}
