/*-------------------------------------------------------------------------
 *
 * facts.h
 *		The facts of a definition: options, authorization, fields, limits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_FACTS_H
#define CS_PROVIDER_DEFINED_FACTS_H

#include "postgres.h"

#include "provider/defined/definition.h"
#include "provider/defined/fault.h"

/* Compile "options" into a table.  "presets" is room for options that other facts preset. */
extern CsOption *cs_facts_compile_options(CsCompiler *compiler, CsJson *json);

/* Add an option that has another default in this definition. */
extern void cs_facts_preset(CsOption *options, const CsOption *common, const char *name, const char *preset);

extern void cs_facts_compile_auth(CsCompiler *compiler, CsJson *json, CsDefined *definition);
extern void cs_facts_compile_signing(CsCompiler *compiler, CsJson *json, CsDefined *definition);
extern void cs_facts_compile_fields(CsCompiler *compiler, CsJson *json, CsDefined *definition);
extern void cs_facts_compile_limits(CsCompiler *compiler, CsJson *json, CsDefined *definition);
extern uint32 cs_facts_compile_field_list(CsCompiler *compiler, CsJson *json);

#endif							/* CS_PROVIDER_DEFINED_FACTS_H */
