/*-------------------------------------------------------------------------
 *
 * compile.h
 *		Compiling a definition into a provider.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_COMPILE_H
#define CS_PROVIDER_DEFINED_COMPILE_H

#include "postgres.h"

#include "provider/defined/definition.h"

/* What is wrong with a definition. */
typedef struct CsDefinitionFault
{
	const char *path;			/* JSON pointer; "" is the whole */
	const char *problem;		/* the end of a sentence that begins with the
								 * path */
} CsDefinitionFault;

/*
 * Compile the text of a definition, in UTF-8, into the current memory context.  Return
 * NULL, and what is wrong, if there is something wrong with it.  Raises no error because
 * of what the definition says.
 */
extern CsProvider *cs_compile_definition(const char *name, const char *utf8, CsDefinitionFault *fault);

/* Is it a name that a definition can have? */
extern bool cs_compile_is_name(const char *name);

#endif							/* CS_PROVIDER_DEFINED_COMPILE_H */
