/*-------------------------------------------------------------------------
 *
 * options.h
 *		The options of a server whose provider is a definition.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_OPTIONS_H
#define CS_PROVIDER_DEFINED_OPTIONS_H

#include "postgres.h"

#include "provider/defined/definition.h"

/* Return the base URL, palloc'd, with the options that are in it. */
extern char *cs_options_base_url(const CsEndpoint *endpoint);

/* Return what is wrong with the values of options in their places, or NULL. */
extern const char *cs_options_check(const CsEndpoint *endpoint);

#endif							/* CS_PROVIDER_DEFINED_OPTIONS_H */
