/*-------------------------------------------------------------------------
 *
 * report_servers.h
 *		The servers of a report: which there are, in which order, and the table of all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_REPORT_SERVERS_H
#define CS_API_REPORT_SERVERS_H

#include "postgres.h"

#include "executor/spi.h"
#include "lib/stringinfo.h"

#include "api/report_data.h"

/* Parts of the period in the table of all servers. */
#define CS_REPORT_PARTS	24

/* One server of one owner. */
typedef struct CsReportServer
{
	char	   *name;
	char	   *owner;
	uint64		first;			/* its rows of status, up to before "end" */
	uint64		end;
	uint64		worst;			/* the row that says how it is */
	const char *state;
	int64		backlog;
	double		oldest;			/* s; NaN: nothing waits */
	int64		failures;		/* that are open */
	int64		calls;			/* in the period */
	int64		synced;
	int64		failed;
	double		contacts[CS_REPORT_PARTS];	/* synced or failed */
	bool		detailed;		/* it has a section of its own */
} CsReportServer;

/* Return how it is: "bad", "warn", "good" or "calm". */
extern const char *cs_report_servers_look(const char *state);

/* Does the state want somebody to do something, or to wait? */
extern bool cs_report_servers_is_trouble(const char *state);

/*
 * Return the servers that rows of status are about, palloc'd: those in trouble first,
 * the others after them, by their names, in which 2 comes before 10.  At most "details"
 * of them are detailed: those in trouble, and of the others those with the most calls.
 */
extern CsReportServer *cs_report_servers_read(SPITupleTable *rows, const CsReportPeriod *period,
											  int details, int *n);

/* Append the table of all servers. */
extern void cs_report_servers_put(StringInfo page, SPITupleTable *rows, const CsReportServer *servers,
								  int n, bool personal);

#endif							/* CS_API_REPORT_SERVERS_H */
