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

#include "delivery/account.h"

extern void cs_scan_load(CsLane *lane, bool changed);
extern void cs_scan_close(CsLane *lane);
extern void cs_scan_poll_now(CsLane *lane);

extern bool cs_scan_is_walking(const CsLane *lane);
extern double cs_scan_ready_at(const CsAccount *account, double now);
extern bool cs_scan_run(CsAccount *account, int calls, double now);

extern bool cs_scan_lane_has_work(const CsLane *lane, double now);

#endif							/* CS_DELIVERY_SCAN_H */
