/*-------------------------------------------------------------------------
 *
 * clock.c
 *		The time that pacing and backoff go by.
 *
 * It starts at real time when the process first asks and runs
 * contactsync.clock_speed times as fast from there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/settings.h"

double
cs_clock_unix(TimestampTz real)
{
	return (double) real / USECS_PER_SEC +
		(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (double) SECS_PER_DAY;
}

double
cs_clock_now(void)
{
	static double started_at = 0;
	double		now = cs_clock_unix(GetCurrentTimestamp());

	if (cs_clock_speed == 1.0)
		return now;
	if (started_at == 0)
		started_at = now;
	return started_at + (now - started_at) * cs_clock_speed;
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

TimestampTz
cs_clock_timestamp(double unix_seconds)
{
	return (TimestampTz) ((unix_seconds - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
						   (double) SECS_PER_DAY) * USECS_PER_SEC);
}
