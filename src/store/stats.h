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

/* What waits for an endpoint. */
typedef struct CsBacklogNote
{
	int			endpoint;
	int64		contacts;
	double		oldest;			/* age of the oldest change that is not paused
								 * (s); 0: there is none */
} CsBacklogNote;

/*
 * Store for this minute what waits for each endpoint of this database, or for that one
 * if "only" is not 0.  Return how many have a backlog, with a note of each, palloc'd in
 * the current context.
 */
extern int	cs_stats_note_backlog(int only, CsBacklogNote **notes);

/* Delete minutes that are older than contactsync.history_age. */
extern void cs_stats_prune(void);

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
