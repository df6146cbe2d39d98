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

/*
 * What becomes of the pace at a 429, and in a second of successes.  In a simulation this
 * keeps token buckets and sliding windows used to 91 % and more, with at most 1.2 % of
 * calls refused, or 2.7 % where four share a limit; "test/bench/run.sh pace" measures it.
 */
#define LOWERED			0.85
#define RAISED			0.005
#define LEAST			0.05	/* of what is configured */

/* A throttle that is not said to end at a time is tried after so long at most (s), or that
 * part of the time that it has lasted: what is waited in vain is lost. */
#define THROTTLED_LAST	8.0
#define THROTTLED_PART	0.125

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

/*
 * A call that was sent then came too fast.  Return whether the pace is lowered: not by
 * the other calls that were in flight when it last was.
 */
bool
cs_pace_lower(CsLearnedPace *learned, double configured, double sent_at, double now)
{
	double		rate = learned->rate > 0 ? learned->rate : configured;

	if (sent_at <= learned->lowered_at)
		return false;
	learned->rate = Max(rate * LOWERED, configured * LEAST);
	learned->lowered_at = learned->raised_at = now;
	if (learned->nlowered++ == 0)
	{
		learned->throttled_at = now;
		learned->lowered_once = learned->rate;
	}
	return true;
}

/*
 * A throttle has ended.  While it lasted each 429 lowered the pace, though all say the
 * same: what the provider accepted since the last one ended, in that time, it will
 * accept.  But once the pace is lowered.
 */
static void
end_throttle(CsLearnedPace *learned, double now)
{
	double		accepted = learned->ended_at > 0 ? learned->naccepted / (now - learned->ended_at) : 0;

	if (learned->nlowered > 1)
	{
		learned->rate = Max(learned->rate, Min(accepted, learned->lowered_once));
		learned->raised_at = now;
	}
	learned->nlowered = 0;
	learned->ended_at = now;
	learned->naccepted = 0;
}

/*
 * A call did not come too fast, which raises a pace that was lowered.  A time without
 * calls counts as little more than one.
 */
void
cs_pace_accept(CsLearnedPace *learned, double most, double now)
{
	if (learned->nlowered > 0 || learned->ended_at == 0)
		end_throttle(learned, now);
	learned->naccepted++;
	if (learned->rate > 0)
	{
		double		seconds = Max(Min(now - learned->raised_at, 1 + 1 / learned->rate), 0);

		learned->rate = Min(learned->rate * (1 + RAISED * seconds), most);
		learned->raised_at = now;
	}
}

/* Seconds to wait after that many failures in a row, at least 1, with jitter. */
double
cs_pace_backoff(int failures)
{
	double		delay = BACKOFF_FIRST * exp2(Min(Max(failures, 1), 16) - 1);

	return Min(delay, BACKOFF_LAST) + cs_pace_jitter();
}

/* The same after a 429 that does not say how long. */
double
cs_pace_throttled_backoff(const CsLearnedPace *learned, int failures, double now)
{
	double		most = Max(THROTTLED_LAST, (now - learned->throttled_at) * THROTTLED_PART);

	return Min(cs_pace_backoff(failures), most + cs_pace_jitter());
}

/* Up to half a second, so that what stopped together does not start together. */
double
cs_pace_jitter(void)
{
	return pg_prng_double(&pg_global_prng_state) * JITTER_MAX;
}
