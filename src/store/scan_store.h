/*-------------------------------------------------------------------------
 *
 * scan_store.h
 *		contactsync.scan: walks over whole sources, and how far they are.
 *
 * All of it needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_SCAN_STORE_H
#define CS_STORE_SCAN_STORE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "store/source_page.h"
#include "store/watch.h"

typedef enum CsScanKind
{
	CS_IMPORT,
	CS_RECONCILE,
	CS_POLL						/* without an end: again every poll_every */
} CsScanKind;

typedef enum CsScanPhase
{
	CS_SCAN_COUNTING,			/* how many rows would be sent; -> COMPARING */
	CS_SCAN_COMPARING,			/* rows that differ are queued; -> MISSING, or
								 * the end */
	CS_SCAN_MISSING				/* keys that were synced, and whose rows have
								 * gone, are queued */
} CsScanPhase;

/* A scan that is running, as stored. */
typedef struct CsScanRow
{
	int			id;
	CsScanKind	kind;
	CsScanPhase phase;
	CsPagePosition position;	/* how far it is in that phase */
	char	   *watermark;		/* CS_POLL: where the round began, or NULL */
	char	   *since;			/* CS_POLL: no row up to there, or NULL */
	char	   *filter;			/* only rows that pass it, or NULL */
	double		rate;			/* contacts queued a second; 0: no limit */
	bool		claims_all;		/* claims => 'all' */
	bool		accepted;		/* automations may start, or cannot */
	int64		changes;		/* that were found in this phase so far */
	double		next_at;		/* CS_POLL: the next round, in Unix seconds */
} CsScanRow;

/* How a row differs from what was last synced; each has its count. */
typedef enum CsDifference
{
	CS_IS_NEW,					/* it was never sent */
	CS_IS_CHANGED,				/* what was sent is different, or unknown */
	CS_IS_UNCHANGED,
	CS_IS_REFUSED,				/* the provider refused it as it is */
	CS_IS_WITHHELD,				/* the provider would mail somebody who did
								 * not consent */
	CS_IS_INVALID,				/* it cannot be sent */
	CS_IS_FILTERED,				/* the filter keeps it out */
	CS_IS_GONE,					/* likewise, or the row has gone, and it is to
								 * be removed at the provider */
	CS_DIFFERENCES
} CsDifference;

/* What one page adds to the counts. */
typedef struct CsScanStep
{
	int64		rows;
	int64		found[CS_DIFFERENCES];
} CsScanStep;

extern List *cs_scan_store_watches(void);
extern List *cs_scan_store_load(int endpoint, int watch);

extern int	cs_scan_store_create(const CsWatch *watch, CsScanKind kind, const char *filter, double rate,
								 const char *automations, const char *claims, int64 total,
								 const char *by);

typedef enum CsScanLock
{
	CS_SCAN_LOCKED,				/* until the end of the transaction */
	CS_SCAN_BUSY,				/* somebody else has it locked, and may be
								 * cancelling it */
	CS_SCAN_ENDED
} CsScanLock;

extern CsScanLock cs_scan_store_lock(int id);
extern void cs_scan_store_step(const CsScanRow *row, const CsScanStep *step);
extern void cs_scan_store_begin_phase(const CsScanRow *row, int64 total);
extern void cs_scan_store_end_round(int id);
extern void cs_scan_store_end(int id, const char *reason);
extern int64 cs_scan_store_total_known(int id);
extern void cs_scan_store_accept(int endpoint, int watch, const char *automations);
extern bool cs_scan_store_cancel(int endpoint, int watch, const char *by);

extern double cs_scan_store_next_reconcile(int watch, double now);

#endif							/* CS_STORE_SCAN_STORE_H */
