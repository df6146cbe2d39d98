/*-------------------------------------------------------------------------
 *
 * scan.h
 *		Imports, reconciliations and polling: walks over a whole source.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_SCAN_H
#define CS_DELIVERY_SCAN_H

#include "postgres.h"

#include "delivery/lane.h"

/* Effect: the lane has the scans of its watch that are running.  Within
 * cs_sql_enter(), in a context that lives as long as the lane. */
extern void cs_scan_load(CsLane *lane);
extern void cs_scan_close(CsLane *lane);

/* Effect: what is polled is looked at now, whenever it was the last time. */
extern void cs_scan_poll_now(CsLane *lane);

/* When a scan of the lane could go on: now, later, or DBL_MAX: there is none. */
extern double cs_scan_ready_at(CsLane *lane, double now);

/* Is there a scan that will end? */
extern bool cs_scan_is_under_way(const CsLane *lane, double now);

/*
 * Effect: a reconciliation that is due has begun, and one page of a scan was
 * walked: at most "room" keys of it are queued.  Returns how many.  Needs a
 * transaction that may write, with an active snapshot, and memory that goes
 * with it as the current context.
 */
extern int	cs_scan_run(CsLane *lane, int room, double now);

#endif							/* CS_DELIVERY_SCAN_H */
