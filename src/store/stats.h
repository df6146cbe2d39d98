/*-------------------------------------------------------------------------
 *
 * stats.h
 *		What was done, counted: since a reset, and minute by minute.
 *
 * What reads or stores needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_STATS_H
#define CS_STORE_STATS_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "store/call_log.h"

/* Upper bounds of how long calls take; one more bucket holds those that take longer. */
#define CS_LATENCY_BOUNDS	12
extern const double cs_latency_bounds[CS_LATENCY_BOUNDS];	/* s */

typedef struct CsReasonCount
{
	const char *reason;
	int64		failed;
} CsReasonCount;

/* What is to be added for one endpoint. */
typedef struct CsStats
{
	int			endpoint;
	int64		calls;
	int64		retries;		/* calls that repeated an earlier one */
	int64		throttled;		/* calls that the provider deferred */
	int64		unanswered;		/* calls without an answer */
	int64		synced;			/* contacts */
	int64		unchanged;
	int64		failed;
	int64		sent;			/* bytes, of bodies */
	int64		received;
	double		seconds;		/* of all calls together */
	int64		latency[CS_LATENCY_BOUNDS + 1]; /* calls by duration */
	List	   *reasons;		/* of CsReasonCount */
} CsStats;

extern void cs_stats_add_call(CsStats *stats, const CsCallRecord *record);
extern void cs_stats_add_failure(CsStats *stats, const char *reason);

/* Store them.  Return how many contacts have failed in this minute, including these. */
extern int64 cs_stats_store(const CsStats *stats);

/*
 * Store the backlog of each endpoint of this database for this minute, and delete what
 * is older than contactsync.history_age.
 */
extern void cs_stats_tick(void);

/* Have the counters of the endpoints of the role and the roles it belongs to
 * begin at zero, at one server or, with NULL, at all. */
extern void cs_stats_reset(Name server, Oid roleid);

/* Count the backlog of each watch that the role may see: endpoint, watch,
 * contacts, oldest, as rows of the last statement.  Return how many. */
extern uint64 cs_stats_backlog(Oid roleid);

extern void cs_stats_count(int endpoint, int watch, int64 synced, int64 unchanged,
						   int64 failed, const char *last_error);

/* What was done in a period of time. */
typedef struct CsPeriodStats
{
	int64		calls;
	int64		retries;
	int64		throttled;
	int64		unanswered;
	int64		synced;
	int64		unchanged;
	int64		failed;
	double		backlog;		/* the highest; NaN: not known */
	int64		latency[CS_LATENCY_BOUNDS + 1];
} CsPeriodStats;

extern void cs_stats_add_period(CsPeriodStats *sum, const CsPeriodStats *span);
extern double cs_stats_latency(const CsPeriodStats *span, double part);

#endif							/* CS_STORE_STATS_H */
