/*-------------------------------------------------------------------------
 *
 * tally.h
 *		What was done, counted, until it is stored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_TALLY_H
#define CS_DELIVERY_TALLY_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct CsTally
{
	MemoryContext context;		/* of the list and all in it */
	List	   *stats;			/* of CsStats, one for each endpoint */
	double		due_at;			/* when to store it; DBL_MAX: it is empty */
} CsTally;

extern void cs_tally_init(CsTally *tally, MemoryContext parent);

/* Add what was stored of these lanes (of CsLaneOutcomes), and these calls (of CsCallRecord). */
extern void cs_tally_add(CsTally *tally, const List *lanes, const List *calls, double now);

/*
 * Add it to the statistics, and notify listeners of too many failures; the tally stays as
 * it is.  Needs a transaction and the scope of cs_sql_enter().
 */
extern void cs_tally_store(const CsTally *tally);

extern void cs_tally_clear(CsTally *tally);

#endif							/* CS_DELIVERY_TALLY_H */
