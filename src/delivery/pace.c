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

/* What counts as a token, because rounding may leave one a little short. */
#define ALMOST_ONE		(1.0 - 1e-6)

static double
tokens_at(const CsPace *pace, double now)
{
	return Min(pace->burst, pace->tokens + Max(now - pace->at, 0) * pace->rate);
}

/* Set rate and size of the bucket.  At first it has the tokens that it was created with. */
void
cs_pace_set(CsPace *pace, double rate, double burst, double now)
{
	double		tokens = pace->rate > 0 ? tokens_at(pace, now) : pace->tokens;

	pace->rate = rate;
	pace->burst = Max(burst, 1.0);
	pace->tokens = Min(tokens, pace->burst);
	pace->at = now;
}

/* Take a token if there is one. */
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

/* When there will be a token. */
double
cs_pace_ready_at(const CsPace *pace, double now)
{
	double		tokens = tokens_at(pace, now);

	return tokens >= ALMOST_ONE ? now : now + (1.0 - tokens) / pace->rate;
}

/* Seconds to wait after that many failures in a row, at least 1, with jitter. */
double
cs_pace_backoff(int failures)
{
	double		delay = BACKOFF_FIRST * exp2(Min(Max(failures, 1), 16) - 1);

	return Min(delay, BACKOFF_LAST) + cs_pace_jitter();
}

/* Up to half a second, so that what stopped together does not start together. */
double
cs_pace_jitter(void)
{
	return pg_prng_double(&pg_global_prng_state) * JITTER_MAX;
}
