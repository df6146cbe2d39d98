/*-------------------------------------------------------------------------
 *
 * answer.h
 *		What Caramel's answers mean.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_CARAMEL_ANSWER_H
#define CS_PROVIDER_CARAMEL_ANSWER_H

#include "postgres.h"

#include "provider/provider.h"

/*
 * Return the document of an answer: its body or, if that is an event stream, the
 * last event that is an object.  NULL if there is none.
 */
extern CsJson *cs_caramel_parse(const CsResponse *response);

/* Return the message of an answer that is a refusal, else NULL. */
extern const char *cs_caramel_problem(CsJson *doc);

extern void cs_caramel_judge(const CsEndpoint *endpoint, const CsBatch *batch,
							 const CsResponse *response, CsJudgement *judgement);

#endif							/* CS_PROVIDER_CARAMEL_ANSWER_H */
