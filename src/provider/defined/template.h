/*-------------------------------------------------------------------------
 *
 * template.h
 *		Bodies of requests: JSON with values in it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_TEMPLATE_H
#define CS_PROVIDER_DEFINED_TEMPLATE_H

#include "postgres.h"

#include "provider/defined/definition.h"
#include "provider/defined/fault.h"

/* Compile a template. */
extern CsNode *cs_template_compile(CsCompiler *compiler, CsJson *json);

/*
 * Must no attribute have this name?  It is that of a member beside which attributes are
 * written, such as the one that says what the person wants.
 */
extern bool cs_template_reserves(const CsNode *node, const char *name);

#endif							/* CS_PROVIDER_DEFINED_TEMPLATE_H */
