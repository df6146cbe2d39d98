/*-------------------------------------------------------------------------
 *
 * results.h
 *		What an answer to a batch says of its single contacts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_RESULTS_H
#define CS_PROVIDER_DEFINED_RESULTS_H

#include "postgres.h"

#include "provider/defined/definition.h"

typedef struct CsResultsRead
{
	bool	   *seen;			/* contacts that have an entry */
	int			nseen;
	int			nfailed;		/* contacts that failed */
	int			nunattributed;	/* failures of nobody in particular, or of
								 * contacts that should have had an entry */
	const char *message;		/* of the first of those */
	int			nforeign;		/* entries of contacts that are not of the
								 * batch */
	bool		missing;		/* a list that must be there is not */
} CsResultsRead;

/* Does a list tell whether the service knew a contact before? */
extern bool cs_results_tell_new(const CsResults *results);

/* Read the results into the outcomes. */
extern void cs_results_read(const CsStep *step, const CsBatch *batch, CsJson *doc, CsJudgement *judgement,
							CsResultsRead *read);

/*
 * Read the numbers of successes and failures.  Return false if they cannot be those of
 * the batch; set *failed, or -1 if there are none.
 */
extern bool cs_results_count(const CsStep *step, const CsBatch *batch, CsJson *doc, int *failed);

#endif							/* CS_PROVIDER_DEFINED_RESULTS_H */
