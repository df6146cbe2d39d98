/*-------------------------------------------------------------------------
 *
 * answer.h
 *		What Spotzee's answers mean.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_SPOTZEE_ANSWER_H
#define CS_PROVIDER_SPOTZEE_ANSWER_H

#include "postgres.h"

#include "provider/provider.h"

/* Return the contact in an answer about one; the older API has it as it is, or calls it otherwise. */
extern CsJson *cs_spotzee_find_contact(CsJson *doc);

extern void cs_spotzee_judge(const CsEndpoint *endpoint, const CsBatch *batch,
							 const CsResponse *response, CsJudgement *judgement);

#endif							/* CS_PROVIDER_SPOTZEE_ANSWER_H */
