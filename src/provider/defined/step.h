/*-------------------------------------------------------------------------
 *
 * step.h
 *		Compiling the steps of an action: requests, and what their answers mean.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_STEP_H
#define CS_PROVIDER_DEFINED_STEP_H

#include "postgres.h"

#include "provider/defined/definition.h"
#include "provider/defined/fault.h"

/* Compile the steps of an action: an array of objects, or a single one. */
extern void cs_step_compile_all(CsCompiler *compiler, CsJson *json, CsActionSteps *steps);

/* Compile a request without steps, which only has method, path, query and headers. */
extern void cs_step_compile_request(CsCompiler *compiler, CsJson *json, CsStep *step);

/* Does the step only read, so that no contact is refused by it? */
extern bool cs_step_only_reads(const CsStep *step);

/* The words for methods. */
extern const char *const cs_step_methods[];

#endif							/* CS_PROVIDER_DEFINED_STEP_H */
