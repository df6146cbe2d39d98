/*-------------------------------------------------------------------------
 *
 * report_data.h
 *		What a report shows and contactsync_wait() says, read from the views.
 *
 * Every other function is called between cs_report_data_begin() and _end().  Queries return
 * their rows, of which there are numvals.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_REPORT_DATA_H
#define CS_API_REPORT_DATA_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/spi.h"

#include "store/stats.h"

/* What a report is about, divided into buckets of equal width. */
typedef struct CsReportPeriod
{
	TimestampTz start;
	TimestampTz end;
	double		width;			/* s, of a bucket */
	int			nbuckets;
} CsReportPeriod;

/* Connect to SPI, with settings for these queries.  Pass what it returns to _end(). */
extern int	cs_report_data_begin(void);
extern void cs_report_data_end(int level);

/* Return a column of a row as text, an integer or a number; null is NULL, 0 or NaN. */
extern char *cs_report_data_text(SPITupleTable *rows, uint64 row, const char *column);
extern int64 cs_report_data_count(SPITupleTable *rows, uint64 row, const char *column);
extern double cs_report_data_number(SPITupleTable *rows, uint64 row, const char *column);

/* Return the failures that happened last, the newest first. */
extern SPITupleTable *cs_report_data_failures(int limit);

/* Return contactsync.status, with the rows of each server next to each other. */
extern SPITupleTable *cs_report_data_status(void);

/*
 * Return what was done in each of so many parts of the period: server, owner, part (from
 * 0), calls, synced and failed; of all servers, without parts in which nothing was.
 */
extern SPITupleTable *cs_report_data_activity(const CsReportPeriod *period, int parts);

/*
 * Return what keeps the caller's changes from being delivered to a server, or with
 * InvalidOid to any: one row at most, and the state that is said rather than a guess.
 */
extern SPITupleTable *cs_report_data_obstacles(Oid serverid);

/* Return the imports and reconciliations of an owner's server that are running. */
extern SPITupleTable *cs_report_data_scans(const char *server, const char *owner);

/* Return how many contacts failed in the period, by reason, the most frequent first. */
extern SPITupleTable *cs_report_data_reasons(const CsReportPeriod *period, const char *server,
											 const char *owner);

/* Fill the buckets of an owner's server, and their sum. */
extern void cs_report_data_buckets(const CsReportPeriod *period, const char *server, const char *owner,
								   CsPeriodStats *buckets, CsPeriodStats *sum);

#endif							/* CS_API_REPORT_DATA_H */
