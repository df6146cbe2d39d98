/*-------------------------------------------------------------------------
 *
 * registry.h
 *		Which providers there are, and which options each of them has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_REGISTRY_H
#define CS_PROVIDER_REGISTRY_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "provider/provider.h"

/* Return NULL if there is no provider of that name. */
extern const CsProvider *cs_registry_find(const char *name);

/* Return the names of all providers for a hint, "a, b, c", palloc'd. */
extern char *cs_registry_names(void);

/*
 * List the options in a place, those of one provider or, if it is NULL, of all;
 * a list of const CsOption *, without duplicate names.
 */
extern List *cs_registry_options(const CsProvider *provider, CsOptionPlace place);

/* Find an option of one provider or, if it is NULL, of any; else return NULL. */
extern const CsOption *cs_registry_find_option(const CsProvider *provider, const char *name,
											   CsOptionPlace place);

#endif							/* CS_PROVIDER_REGISTRY_H */
