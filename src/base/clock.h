/*-------------------------------------------------------------------------
 *
 * clock.h
 *		The time that pacing and backoff go by, which tests can speed up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_CLOCK_H
#define CS_BASE_CLOCK_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Return microseconds on a clock that nobody sets, and that all processes share.  Only
 * differences mean anything; they are never to be stored in a table.
 */
extern TimestampTz cs_clock_steady(void);

/*
 * Return Unix seconds on our clock, which goes on evenly from when the process asked
 * first, whatever the system's clock is set to; or contactsync.clock_speed times as
 * fast.
 */
extern double cs_clock_now(void);

/* Convert seconds on our clock to milliseconds of real time, rounded up, for a wait. */
extern long cs_clock_wait_ms(double seconds);

/* Convert a real time to Unix seconds on our clock; 0 stays 0. */
extern double cs_clock_of(TimestampTz real);

/* Convert a real time to Unix seconds. */
extern double cs_clock_unix(TimestampTz real);

/* Convert a time on our clock to a timestamp to show or to store. */
extern TimestampTz cs_clock_timestamp(double unix_seconds);

/* Convert back what that has made, in Unix seconds; 0 stays 0. */
extern double cs_clock_of_stored(double unix_seconds);

#endif							/* CS_BASE_CLOCK_H */
