/*-------------------------------------------------------------------------
 *
 * condition.h
 *		Conditions of a definition.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_CONDITION_H
#define CS_PROVIDER_DEFINED_CONDITION_H

#include "postgres.h"

#include "provider/defined/definition.h"
#include "provider/defined/fault.h"

/* Compile a condition: a word such as "known", or an object such as {"has": "phone"}. */
extern void cs_condition_compile(CsCompiler *compiler, CsJson *json, CsCondition *condition);

extern bool cs_condition_holds(const CsCondition *condition, const CsScope *scope);

/* May this sending say that the person wants mail, and does it say the contrary? */
extern bool cs_condition_claims(const CsContact *contact);
extern bool cs_condition_claims_if_new(const CsContact *contact);
extern bool cs_condition_withdraws(const CsContact *contact);

#endif							/* CS_PROVIDER_DEFINED_CONDITION_H */
