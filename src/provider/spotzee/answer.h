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

extern void cs_spotzee_judge(const CsEndpoint *endpoint, const CsBatch *batch,
							 const CsResponse *response, CsJudgement *judgement);

#endif							/* CS_PROVIDER_SPOTZEE_ANSWER_H */
