/*-------------------------------------------------------------------------
 *
 * clock.c
 *		The time that pacing and backoff go by.
 *
 * It starts at real time when the process first asks, and goes on by the system's
 * monotonic clock: setting the clock neither stops delivery nor lets it hurry.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>
#include <time.h>

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/settings.h"

double
cs_clock_unix(TimestampTz real)
{
	return (double) real / USECS_PER_SEC +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (double) SECS_PER_DAY;
}

TimestampTz
cs_clock_steady(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (TimestampTz) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

double
cs_clock_now(void)
{
	static double started_at = 0;
	static TimestampTz steady;

	if (started_at == 0)
	{
		started_at = cs_clock_unix(GetCurrentTimestamp());
		steady = cs_clock_steady();
	}
	return started_at + (cs_clock_steady() - steady) / (double) USECS_PER_SEC * cs_clock_speed;
}

double
cs_clock_of(TimestampTz real)
{
	double		ago = (double) (GetCurrentTimestamp() - real) / USECS_PER_SEC;

	return real == 0 ? 0 : cs_clock_now() - ago * cs_clock_speed;
}

long
cs_clock_wait_ms(double seconds)
{
	double		ms = seconds * 1000.0 / cs_clock_speed;

	if (ms <= 0)
		return 0;
	return ms > INT_MAX / 2 ? INT_MAX / 2 : (long) ceil(ms);
}

/* By how much the system's clock has been set ahead of ours, in seconds. */
static double
set_ahead(void)
{
	return cs_clock_speed == 1.0 ? cs_clock_unix(GetCurrentTimestamp()) - cs_clock_now() : 0;
}

TimestampTz
cs_clock_timestamp(double unix_seconds)
{
	double		real = unix_seconds + set_ahead();

	return (TimestampTz) ((real - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
						   (double) SECS_PER_DAY) * USECS_PER_SEC);
}

double
cs_clock_of_stored(double unix_seconds)
{
	return unix_seconds == 0 ? 0 : unix_seconds - set_ahead();
}
