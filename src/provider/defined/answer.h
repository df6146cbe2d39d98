/*-------------------------------------------------------------------------
 *
 * answer.h
 *		What the answers of a defined service mean.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_ANSWER_H
#define CS_PROVIDER_DEFINED_ANSWER_H

#include "postgres.h"

#include "provider/defined/definition.h"

extern void cs_defined_answer_judge(const CsEndpoint *endpoint, const CsBatch *batch,
									const CsResponse *response, CsJudgement *judgement);

#endif							/* CS_PROVIDER_DEFINED_ANSWER_H */
