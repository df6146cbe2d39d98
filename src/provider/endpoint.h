/*-------------------------------------------------------------------------
 *
 * endpoint.h
 *		A foreign server and a role's user mapping, read into one struct.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_ENDPOINT_H
#define CS_PROVIDER_ENDPOINT_H

#include "postgres.h"

#include "http/message.h"
#include "provider/option.h"

struct CsProvider;

typedef struct CsOptionValue
{
	const CsOption *option;
	char	   *value;
} CsOptionValue;

/* What is the same for all providers is parsed; the rest is kept as text. */
typedef struct CsEndpoint
{
	Oid			serverid;
	Oid			roleid;			/* who sends */
	Oid			mapping_roleid; /* whose user mapping that is: roleid, or
								 * InvalidOid for the one of PUBLIC */
	bool		has_mapping;	/* false only from cs_endpoint_read_server() */
	char	   *server_name;
	const struct CsProvider *provider;

	char	   *base_url;		/* without a slash at the end */
	int			batch_size;		/* contacts a call, 1 .. provider's maximum */
	double		pace;			/* calls a second */
	double		burst;			/* calls that may go at once after idling */
	int			concurrency;	/* calls in flight */
	int			max_retries;	/* of a 5xx or lost connection, per call */
	int			max_retry_after;	/* s to wait, however long the provider
									 * says */
	bool		nulls_clear;	/* nulls => 'clear': send them as the provider
								 * documents; else leave them out */
	CsHttpOptions http;			/* how its calls travel */

	int			nvalues;
	CsOptionValue *values;		/* given or preset, server and mapping */

	uint64		payload;		/* of the options that what is sent depends
								 * on, as far as they are not preset: it is
								 * part of the digest of a contact */
	const void *settings;		/* of cs_provider_settings(), at first NULL */
	const char *provider_state; /* what its judge() asked to be remembered, by
								 * contactsync.endpoint.provider_state; or
								 * NULL */
} CsEndpoint;

/* The server of that name; ereports when there is none, it is none of ours, or
 * the role may not use it. */
extern Oid	cs_endpoint_find_server(const char *name, Oid roleid);

/*
 * Reads catalogs, so a transaction must be open.  Returns palloc'd in the
 * current context, secrets included.  Ereports when the server is gone or none
 * of ours, the role may not use it, or an option is missing or wrong.
 */
extern CsEndpoint *cs_endpoint_read(Oid serverid, Oid roleid);

/* The same from the server alone, for preview: nobody's rights are looked at,
 * no secret is read. */
extern CsEndpoint *cs_endpoint_read_server(Oid serverid);

/*
 * Did a server or user mapping change since the last time that it was asked?
 * Needs a transaction.
 */
extern bool cs_endpoint_take_changes(void);

/* Do both say the same?  Either may be NULL: it could not be read. */
extern bool cs_endpoint_equal(const CsEndpoint *a, const CsEndpoint *b);

/* NULL when it is neither given nor has a preset; lives as the endpoint. */
extern const char *cs_endpoint_option(const CsEndpoint *endpoint, const char *name);
extern bool cs_endpoint_option_bool(const CsEndpoint *endpoint, const char *name);
extern int	cs_endpoint_option_int(const CsEndpoint *endpoint, const char *name, int otherwise);
extern double cs_endpoint_option_number(const CsEndpoint *endpoint, const char *name, double otherwise);

#endif							/* CS_PROVIDER_ENDPOINT_H */
