/*-------------------------------------------------------------------------
 *
 * scan_store.h
 *		contactsync.scan: walks over whole sources, and how far they are.
 *
 * All of it needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_SCAN_STORE_H
#define CS_DELIVERY_SCAN_STORE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "delivery/row_contact.h"
#include "store/source_page.h"

typedef enum CsScanKind
{
	CS_IMPORT,
	CS_RECONCILE,
	CS_POLL						/* without an end: again every poll_every */
} CsScanKind;

typedef enum CsScanPhase
{
	CS_SCAN_COUNTING,			/* how much would be sent; -> COMPARING */
	CS_SCAN_COMPARING,			/* rows are compared, and queued if they
								 * differ; -> MISSING, or the end */
	CS_SCAN_MISSING				/* known keys whose rows have gone are queued */
} CsScanPhase;

/* A row of contactsync.scan that is running. */
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
	bool		accepted;		/* automations may start, or cannot */
	int64		changes;		/* that were found in this phase so far */
	double		next_at;		/* CS_POLL: the next round, in Unix seconds */
} CsScanRow;

/* What one page adds to it. */
typedef struct CsScanStep
{
	int64		rows;
	int64		found[CS_DIFFERENCES];
} CsScanStep;

extern List *cs_scan_store_load(int endpoint, int watch);

/* The id of a new scan; 0 if one of the watch is running that is no poll. */
extern int	cs_scan_store_create(const CsWatch *watch, CsScanKind kind, const char *filter, double rate,
								 const char *automations, int64 total);

/* A scan that somebody is cancelling just now is BUSY, and may be asked again later. */
typedef enum CsScanLock
{
	CS_SCAN_LOCKED,				/* to the end of the transaction */
	CS_SCAN_BUSY,
	CS_SCAN_ENDED
} CsScanLock;

extern CsScanLock cs_scan_store_lock(int id);
extern void cs_scan_store_step(const CsScanRow *row, const CsScanStep *step);
extern void cs_scan_store_begin_phase(const CsScanRow *row, int64 total);
extern void cs_scan_store_end(int id, const char *reason);
extern int64 cs_scan_store_total_known(int id);
extern bool cs_scan_store_cancel(int endpoint, int watch);

/* Effect: the time of the next reconciliation is stored; it is due at "now". */
extern double cs_scan_store_next_reconcile(int watch, double now);

#endif							/* CS_DELIVERY_SCAN_STORE_H */
