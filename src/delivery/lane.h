/*-------------------------------------------------------------------------
 *
 * lane.h
 *		The way of one watch's changes, or of one endpoint's direct upserts,
 *		from the queue to the provider.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_LANE_H
#define CS_DELIVERY_LANE_H

#include "postgres.h"

#include "delivery/budget.h"
#include "delivery/change.h"
#include "delivery/guard.h"
#include "store/watch.h"
#include "store/source_row.h"

typedef struct CsLane
{
	struct CsAccount *account;
	int			endpoint_id;
	int			watch_id;		/* 0: direct upserts */
	CsWatch    *watch;			/* NULL for direct upserts */
	bool		removals;		/* neither: contacts that nobody stands for */
	uint64		barrier;		/* what came until then is to be decided on
								 * before contacts are removed */
	CsSource   *source;			/* NULL until it is first read */
	MemoryContext context;

	CsQueueCursor cursor;
	bool		exhausted;		/* the queue had no more when it was last read */
	bool		has_set_aside;	/* changes that wait for a pull */
	bool		reread;			/* they do not any more: read the queue anew */
	CsQueuePosition reread_until;	/* how far the queue had been read before */
	uint64		unconfirmed_below;	/* rows of earlier transactions may have
									 * been sent before a crash */
	CsChangeSet changes;
	List	   *related;		/* of CsRelatedChange: related tables; the
								 * rows that use them are yet to be found */
	int			needed;			/* changes that the bulk guard has to see */

	double		not_before;		/* nothing is read before */
	CsBudget   *budget;			/* of the role whose code reads rows; NULL:
								 * none is run */
	bool		paused;			/* by contactsync_pause() */
	bool		broken;			/* "reason" says why; stored in watch.state */
	bool		broken_changed; /* since it was last stored */
	bool		source_error;	/* broken because its rows cannot be read */
	char	   *reason;
	char	   *waits_for;		/* what keeps rows from being read for now, or
								 * NULL; stored in watch.reason */
	bool		waits_for_table;	/* ... and not single rows */
	double		waiting_since;
	double		waits_until;	/* of what is not heard by then, nothing is
								 * said any more */
	bool		waiting_changed;	/* since it was last stored */
	CsGuard		guard;

	int			read_size;		/* rows to read at a time, by their size */
	int64		row_bytes;		/* that a row took which was read */
	int			max_read;		/* the same after a timeout; 0: no limit */
	bool		has_failures;	/* there may be rows in contactsync.failure */

	List	   *scans;			/* of the watch that are running; scan.c */
	uint64		scan_xact;		/* the last that queued keys for one of them */
	double		reconcile_at;	/* when the next reconciliation is due; 0:
								 * never */
	struct CsLaneOutcomes *outcomes;	/* not stored yet; settle.c */
	uint64		known_since;	/* what earlier transactions queued may have
								 * been read by a lane before this one */
	List	   *departed;		/* rows that have gone; departed.c */
} CsLane;

extern CsLane *cs_lane_create(struct CsAccount *account, int endpoint_id, CsWatch *watch,
							  CsIdentityLocks *locks, CsRoom *room);
extern void cs_lane_use_watch(CsLane *lane, CsWatch *watch);
extern void cs_lane_start_anew(CsLane *lane);
extern void cs_lane_close(CsLane *lane);
extern void cs_lane_load(CsLane *lane);
extern void cs_lane_set_aside(CsLane *lane, CsChange *change, double now);
extern void cs_lane_reread(CsLane *lane);
extern CsChange *cs_lane_next(CsLane *lane, double now);
extern double cs_lane_ready_at(const CsLane *lane, double now);
extern bool cs_lane_is_empty(const CsLane *lane);
extern void cs_lane_break(CsLane *lane, const char *reason, double until);
extern void cs_lane_repair(CsLane *lane);
extern void cs_lane_wait(CsLane *lane, const char *key, const char *message, double now,
						 double until);
extern void cs_lane_wait_is_over(CsLane *lane);

extern bool cs_lane_is_stopped(const CsLane *lane);
extern void cs_lane_let_go(CsLane *lane);

#endif							/* CS_DELIVERY_LANE_H */
