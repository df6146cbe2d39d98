/*-------------------------------------------------------------------------
 *
 * batch_results.h
 *		Read answers to a batch that have a result for each contact.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_BATCH_RESULTS_H
#define CS_PROVIDER_BATCH_RESULTS_H

#include "postgres.h"

#include "http/json.h"
#include "provider/provider.h"

typedef struct CsBatchResults
{
	const CsBatch *batch;
	CsOutcome  *outcomes;
	int		   *by_external_id; /* contacts sorted by it; NULL until needed */
	int		   *by_email;		/* likewise */
	bool	   *seen;			/* contacts that have an entry */
	int			nseen;
	int			nfailed;		/* contacts that failed */
	int			nunattributed;	/* failures that name no contact of the batch */
	const char *unattributed_message;	/* the first message of those */
	int			nforeign;		/* successes of contacts that are not of the
								 * batch */
} CsBatchResults;

extern void cs_batch_results_begin(CsBatchResults *items, const CsBatch *batch,
								   CsJudgement *judgement);

/*
 * Read a list of entries into the outcomes: an array, or an object whose names
 * are keys or positions.  Other types are ignored.  Each entry says whether it is
 * a failure.
 */
extern void cs_batch_results_read(CsBatchResults *items, CsJson *list);

/* The same for a list that has failures only. */
extern void cs_batch_results_read_failures(CsBatchResults *items, CsJson *list);

#endif							/* CS_PROVIDER_BATCH_RESULTS_H */
