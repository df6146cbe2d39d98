/*-------------------------------------------------------------------------
 *
 * rule.h
 *		Rules that say what an answer means.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_RULE_H
#define CS_PROVIDER_DEFINED_RULE_H

#include "postgres.h"

#include "provider/defined/definition.h"
#include "provider/defined/fault.h"

/* Compile an array of rules. */
extern void cs_rule_compile(CsCompiler *compiler, CsJson *json, int *n, CsRule **rules);

/* Find the place of a step by its name; sets a fault if there is none, or it is not a later one. */
extern int	cs_rule_find_step(CsCompiler *compiler, const char *name);

/* Return the first rule that holds for an answer, or NULL. */
extern const CsRule *cs_rule_find(int n, const CsRule *rules, const CsResponse *response, CsJson *doc,
								  const char *message);

#endif							/* CS_PROVIDER_DEFINED_RULE_H */
