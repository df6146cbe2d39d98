/*-------------------------------------------------------------------------
 *
 * batch_results.h
 *		Answers to a batch that say contact by contact what became of it.
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
	int		   *by_external_id; /* contacts in the order of that, made when
								 * needed */
	int		   *by_email;
	bool	   *seen;			/* contacts that an entry was about */
	int			nseen;
	int			nfailed;		/* contacts that an entry says failed */
	int			norphans;		/* failures that name no contact of the batch */
	const char *orphan_message; /* of the first that had one */
} CsBatchResults;

extern void cs_batch_results_begin(CsBatchResults *items, const CsBatch *batch,
								   CsJudgement *judgement);

/*
 * Read a list of entries into the outcomes: an array, or an object whose names
 * are keys or positions.  In the first every entry is a failure; in the second
 * an entry says itself whether it is.  Other types are ignored.
 */
extern void cs_batch_results_read_failures(CsBatchResults *items, CsJson *list);
extern void cs_batch_results_read(CsBatchResults *items, CsJson *list);

#endif							/* CS_PROVIDER_BATCH_RESULTS_H */
