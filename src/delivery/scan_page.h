/*-------------------------------------------------------------------------
 *
 * scan_page.h
 *		One page of a scan: its rows are compared, and those that differ are
 *		queued.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_SCAN_PAGE_H
#define CS_DELIVERY_SCAN_PAGE_H

#include "postgres.h"

#include "delivery/account.h"
#include "store/scan_store.h"

/* A scan that is running. */
typedef struct CsScan
{
	MemoryContext context;		/* of this and all in it */
	CsScanRow	row;
	CsLane	   *lane;
	CsPace		pace;			/* by row.rate */
	double		not_before;
	int			page_size;
	CsPages    *pages;			/* NULL until it is first walked */
	CsWatch    *presence;		/* the watch without its mapping, for MISSING */
	CsSource   *presence_source;	/* likewise, NULL until then */
	bool		prepared_again; /* after an error that a change of the table
								 * may have caused */
	bool		over;
} CsScan;

/* One call of cs_scan_page_walk(). */
typedef struct CsScanPage
{
	CsScan	   *scan;
	int			room;			/* keys that may be queued */
	double		now;
	CsScanStep	step;
	int			queued;			/* keys that were */
	bool		ended;			/* the phase has */
} CsScanPage;

extern CsScan *cs_scan_page_make(CsLane *lane, const CsScanRow *row, double now);
extern void cs_scan_page_free(CsScan *scan);
extern bool cs_scan_page_lock(CsScan *scan, double now);
extern void cs_scan_page_walk(void *page);
extern bool cs_scan_page_unprepare(CsScan *scan);

#endif							/* CS_DELIVERY_SCAN_PAGE_H */
