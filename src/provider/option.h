/*-------------------------------------------------------------------------
 *
 * option.h
 *		The options of servers and user mappings: one table with checks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_OPTION_H
#define CS_PROVIDER_OPTION_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "provider/check.h"

struct CsProvider;

typedef enum CsOptionPlace
{
	CS_ON_SERVER,
	CS_ON_MAPPING				/* user mapping: the secrets */
} CsOptionPlace;

/* See check.h for what it returns. */
typedef const char *(*CsOptionCheck) (const char *value);

typedef struct CsOption
{
	const char *name;			/* NULL ends a table */
	CsOptionPlace place;
	CsOptionCheck check;		/* NULL: any text that is not empty */
	const char *preset;			/* the value when it is not given, or NULL */
	bool		required;
	bool		secret;			/* never shown */
	const char *help;			/* one line, a noun phrase */
	bool		names_file;		/* only for roles that may read server files */
	bool		payload;		/* a change of it makes what was sent before
								 * another: see CsEndpoint.payload */
} CsOption;

/*
 * Three tables make up what a provider has, and the first to have a name wins:
 * its own, then that of its kind of authorization (api_key; access_token,
 * refresh_token, client_id ...), then the common one (base_url, pace ...).
 */
extern const CsOption cs_common_options[];
extern const CsOption cs_bearer_options[];
extern const CsOption cs_oauth_options[];

/* NULL, or what the value must be; see CsOptionCheck. */
extern const char *cs_option_check(const CsOption *option, const char *value);

/* Validate the options of one object; ereports.  List of DefElem. */
extern void cs_option_validate(List *options, Oid catalog);

/* All options of that provider, or of any if it is NULL, that have that place;
 * list of const CsOption *, no name twice. */
extern List *cs_option_list(const struct CsProvider *provider, CsOptionPlace place);

/* The entry of an option of that provider, or NULL. */
extern const CsOption *cs_option_find(const struct CsProvider *provider,
									  const char *name, CsOptionPlace place);

#endif							/* CS_PROVIDER_OPTION_H */
