/*-------------------------------------------------------------------------
 *
 * endpoint.h
 *		An account at a provider as one role uses it, with its options.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_ENDPOINT_H
#define CS_PROVIDER_ENDPOINT_H

#include "postgres.h"

#include "http/message.h"
#include "provider/option.h"
#include "provider/window.h"

struct CsProvider;

typedef struct CsOptionValue
{
	const CsOption *option;
	char	   *value;
} CsOptionValue;

/* Options that all providers have are parsed; the others are kept as text. */
typedef struct CsEndpoint
{
	Oid			serverid;
	Oid			roleid;			/* the role that sends */
	Oid			mapping_roleid; /* the role of the user mapping: roleid, or
								 * InvalidOid for PUBLIC */
	char	   *server_name;
	const struct CsProvider *provider;
	uint64		definition;		/* hash of the provider's definition; 0: it is
								 * built in */

	char	   *base_url;		/* without a slash at the end */
	int			batch_size;		/* contacts per call, 1 .. provider's maximum */
	double		pace;			/* calls per second */
	double		burst;			/* calls that may start at once after idling */
	int			concurrency;	/* calls in flight */
	int			max_retries;	/* per call, after a 5xx or a lost connection */
	int			max_retry_after;	/* longest wait in s that the provider may
									 * ask for */
	bool		nulls_clear;	/* send nulls as the provider documents,
								 * rather than leaving them out */
	bool		log_contacts;	/* log what becomes of each contact */
	CsHttpOptions http;			/* how its calls travel */
	CsWindow	send_window;	/* in which scans go on */

	int			nvalues;
	CsOptionValue *values;		/* given or default, of server and mapping */

	uint64		payload;		/* hash of the options that what is sent
								 * depends on, where they differ from their
								 * defaults; part of a contact's digest */
	const void *settings;		/* see cs_provider_settings(); NULL at first */
	const char *limitation;		/* see CsJudgement; or NULL */
} CsEndpoint;

/* Are both the same?  NULL stands for an endpoint that could not be read. */
extern bool cs_endpoint_equal(const CsEndpoint *a, const CsEndpoint *b);

/*
 * Return an option's value, or NULL if it is neither given nor has a default;
 * it lives as long as the endpoint.
 */
extern const char *cs_endpoint_option(const CsEndpoint *endpoint, const char *name);

/* The same, parsed. */
extern bool cs_endpoint_option_bool(const CsEndpoint *endpoint, const char *name);
extern int	cs_endpoint_option_int(const CsEndpoint *endpoint, const char *name, int otherwise);
extern double cs_endpoint_option_number(const CsEndpoint *endpoint, const char *name, double otherwise);

/* Return the position of an option's value among the words that its check
 * allows, or 0. */
extern int	cs_endpoint_option_word(const CsEndpoint *endpoint, const char *name,
									const char *const *words);

/* Return a copy of a text with each of the endpoint's secrets replaced by "***". */
extern char *cs_endpoint_redact(const CsEndpoint *endpoint, const char *text);

/*
 * Return a copy of a text that came from outside, fit to be stored and shown:
 * redacted, at most 500 bytes, without invisible characters, and in UTF-8.
 * Returns NULL for NULL.
 */
extern char *cs_endpoint_clean(const CsEndpoint *endpoint, const char *text);

#endif							/* CS_PROVIDER_ENDPOINT_H */
