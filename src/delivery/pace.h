/*-------------------------------------------------------------------------
 *
 * pace.h
 *		How fast calls may go, and how long to wait after a failure; pure.
 *
 * Times are Unix seconds on the clock of clock.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_PACE_H
#define CS_DELIVERY_PACE_H

#include "postgres.h"

/* A token bucket: it holds up to "burst" tokens, and each call takes one. */
typedef struct CsPace
{
	double		rate;			/* tokens a second */
	double		burst;
	double		tokens;			/* at "at" */
	double		at;
} CsPace;

extern void cs_pace_set(CsPace *pace, double rate, double burst, double now);
extern bool cs_pace_take(CsPace *pace, double now);
extern int	cs_pace_available(const CsPace *pace, double now);
extern double cs_pace_ready_at(const CsPace *pace, double now);

/*
 * What 429s and successes taught us of the provider's limit, which others may use as
 * well, and which may be less than is configured.
 */
typedef struct CsLearnedPace
{
	double		rate;			/* calls a second; 0: as configured */
	double		lowered_at;
	double		raised_at;

	/* of the throttle that lasts: 429s without a success between them */
	int			nlowered;		/* how often it lowered the pace; 0: none
								 * lasts */
	double		throttled_at;	/* when it began */
	double		lowered_once;	/* the pace after the first time */

	/* since the last one ended */
	double		ended_at;		/* 0: not known yet */
	double		naccepted;		/* calls */
} CsLearnedPace;

extern bool cs_pace_lower(CsLearnedPace *learned, double configured, double sent_at, double now);
extern void cs_pace_accept(CsLearnedPace *learned, double most, double now);

extern double cs_pace_backoff(int failures);
extern double cs_pace_throttled_backoff(const CsLearnedPace *learned, int failures, double now);
extern double cs_pace_jitter(void);

#endif							/* CS_DELIVERY_PACE_H */
