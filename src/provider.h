/*-------------------------------------------------------------------------
 *
 * provider.h
 *		The contract between delivery and the providers.
 *
 * A provider is a const table of facts and two pure functions: build() makes
 * the request for a batch, judge() reads the answer.  Neither does HTTP, SQL,
 * looks at a clock or sees a secret: delivery adds the authorization, and the
 * response carries the time at which it came.  Both palloc in the current
 * memory context and must not ereport on account of data.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_H
#define CS_PROVIDER_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "contact.h"
#include "endpoint.h"
#include "option.h"

/* Contacts that travel in one call; all have the same action. */
typedef struct CsBatch
{
	CsAction	action;
	int			step;			/* the provider's own numbering, 0 first */
	int			ncontacts;
	CsContact **contacts;
	int64		number;			/* unique and rising per endpoint: JSON-RPC id */
	const char *idempotency_key;	/* or NULL; set if the provider has_idempotency */
} CsBatch;

typedef struct CsHeader
{
	const char *name;
	const char *value;
} CsHeader;

#define CS_MAX_HEADERS	8

typedef struct CsRequest
{
	const char *method;			/* "POST", "PUT", "GET", "DELETE", "PATCH" */
	char	   *url;
	int			nheaders;		/* Authorization is not among them */
	CsHeader	headers[CS_MAX_HEADERS];
	StringInfoData body;		/* data == NULL: no body */
} CsRequest;

typedef struct CsResponse
{
	int			status;			/* HTTP status; 0: no answer */
	const char *error;			/* why there was none, or NULL */
	const char *headers;		/* lines "name: value\n", names in lower case */
	const char *body;			/* zero-terminated as well */
	size_t		body_len;
	double		received_at;	/* Unix seconds */
} CsResponse;

typedef enum CsVerdict
{
	CS_DONE,					/* look at each outcome */
	CS_STEP,					/* the same contacts go on with next_step */
	CS_RETRY,					/* the same call again, later */
	CS_REKEY,					/* the same contacts with a new idempotency key */
	CS_REAUTH,					/* refresh the token, then the same call; HALT if
								 * there is nothing to refresh or it was done */
	CS_SPLIT,					/* the batch was refused as a whole; bisect; a
								 * single contact is rejected */
	CS_REJECT,					/* every contact fails, for this reason */
	CS_HALT						/* configuration fault: nobody's failure */
} CsVerdict;

typedef enum CsOutcomeKind
{
	CS_OUTCOME_OK,
	CS_OUTCOME_REJECTED,
	CS_OUTCOME_RETRY			/* this contact again, in a later call */
} CsOutcomeKind;

/* What a call said about one contact; strings NULL where it said nothing. */
typedef struct CsOutcome
{
	CsOutcomeKind kind;
	const char *reason;			/* CS_REASON_ word */
	const char *code;			/* the provider's own code */
	const char *message;
	const char *field;
	const char *remote_id;
	const char *remote_status;
	const char *note;			/* worth storing beside a success, e.g. "topic: 404" */
	bool		topic_added;
} CsOutcome;

typedef struct CsJudgement
{
	CsVerdict	verdict;
	double		retry_after;	/* seconds; -1: it did not say, back off */
	bool		throttled;		/* RETRY that uses up no try (429) */
	int			next_step;
	const char *reason;			/* of the call: CS_REASON_ word, or for HALT a
								 * class such as "unauthorized" */
	const char *code;
	const char *message;
	const char *field;
	const char *request_id;
	int			created;		/* -1: it did not say */
	int			updated;
	CsOutcome  *outcomes;		/* as many as contacts, preset to OK with DONE */
} CsJudgement;

typedef enum CsAuth
{
	CS_AUTH_BEARER,				/* user mapping option api_key */
	CS_AUTH_OAUTH				/* access_token, kept fresh by token.c */
} CsAuth;

/* What the provider can do beyond an upsert. */
#define CS_CAN_DELETE			0x0001
#define CS_CAN_UNSUBSCRIBE		0x0002
#define CS_CAN_FOLLOW_EMAIL		0x0004	/* an e-mail change keeps the contact */
#define CS_HAS_IDEMPOTENCY		0x0008	/* wants batch.idempotency_key */

typedef struct CsProvider
{
	/* facts: MUST be set */
	const char *name;			/* as in the option provider */
	const char *title;			/* as people write it */
	const char *base_url;		/* NULL: the option is required */
	int			max_batch;
	double		pace;			/* calls a second, documented or well below */
	double		burst;
	int			concurrency;
	int			max_retries;
	CsAuth		auth;
	uint32		fields;			/* CS_FIELD_BIT()s that it can carry */
	uint32		required;		/* ... and that it cannot do without */
	int			abilities;		/* CS_CAN_ / CS_HAS_ */
	const CsOption *options;	/* its own; ends with a NULL name */

	/* behaviour: MUST be set */
	void		(*build) (const CsEndpoint *endpoint, const CsBatch *batch,
						  CsRequest *request);
	void		(*judge) (const CsEndpoint *endpoint, const CsBatch *batch,
						  const CsResponse *response, CsJudgement *judgement);

	/*
	 * MUST be set: check and complete one contact (normalise further, refuse
	 * what the documents say cannot be taken) and name its upsert key.
	 * Returns NULL when it can be sent.
	 */
	CsRefusal  *(*prepare) (const CsEndpoint *endpoint, CsContact *contact);

	/* MAY be set: refuse options that do not go together; the message */
	const char *(*check_options) (const CsEndpoint *endpoint);

	/*
	 * MAY be set: refuse a mapping for what it would do to people; "fields"
	 * are the mapped ones.  Returns the message, and a hint.
	 */
	const char *(*check_mapping) (const CsEndpoint *endpoint, uint32 fields,
								  const char **hint);
} CsProvider;

extern const CsProvider *const cs_providers[];	/* ends with NULL */

extern const CsProvider *cs_provider_find(const char *name);
extern char *cs_provider_list(void);

/*
 * Normalise and check a contact for all providers alike (e-mail, required
 * fields, encoding, sizes), then as the provider wants it.  Returns NULL when
 * it can be sent; contact->upsert_key is set then.
 */
extern CsRefusal *cs_provider_prepare(const CsEndpoint *endpoint, CsContact *contact);
extern CsRefusal *cs_provider_refuse(const char *reason, const char *field,
									 const char *fmt,...) pg_attribute_printf(3, 4);

/* Zeroed, with outcomes for every contact; verdict DONE. */
extern void cs_provider_begin_judgement(const CsBatch *batch, CsJudgement *judgement);

/*
 * What all HTTP services have in common: no answer, 408, 425, 429, 5xx, 401,
 * 3xx, an answer that is not what was asked for.  Returns false when the
 * provider has to look for itself (2xx, 400, 403, 404, 409, 422 ...).
 */
extern bool cs_provider_judge_common(const CsResponse *response, CsJudgement *judgement);

extern void cs_provider_add_header(CsRequest *request, const char *name, const char *value);
extern const char *cs_provider_header(const CsResponse *response, const char *name);

/* Seconds by Retry-After (number, 0, HTTP date) or -1. */
extern double cs_provider_retry_after(const CsResponse *response);

/* Percent-encode all but RFC 3986 unreserved characters. */
extern char *cs_provider_url_encode(const char *text);

#endif							/* CS_PROVIDER_H */
