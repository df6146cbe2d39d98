/*-------------------------------------------------------------------------
 *
 * definition_cache.h
 *		Definitions that this process has compiled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINITION_CACHE_H
#define CS_PROVIDER_DEFINITION_CACHE_H

#include "postgres.h"

#include "provider/defined/compile.h"

/*
 * Is this version of a definition compiled?  The stamp tells it from all other versions,
 * and from the definitions of the same name that others have.
 */
extern bool cs_definition_cache_has(const char *name, const char *stamp);

/*
 * Return the compiled definition, compiling the text if that was not done; NULL, and what
 * is wrong, if it is faulty.  The result lives as long as the current memory context, at
 * least, and never changes.
 */
extern const CsProvider *cs_definition_cache_get(const char *name, const char *stamp, const char *utf8,
												 CsDefinitionFault *fault);

#endif							/* CS_PROVIDER_DEFINITION_CACHE_H */
