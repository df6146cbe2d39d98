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
#ifndef CS_PROVIDER_PROVIDER_H
#define CS_PROVIDER_PROVIDER_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "base/contactsync.h"
#include "http/json.h"
#include "http/message.h"
#include "provider/contact.h"
#include "provider/endpoint.h"
#include "provider/lookup.h"
#include "provider/option.h"

/* Contacts that travel in one call; all have the same action. */
typedef struct CsBatch
{
	CsAction	action;
	int			step;			/* the provider's own numbering, 0 first */
	int			ncontacts;
	CsContact **contacts;
	int64		number;			/* unique and rising per endpoint: JSON-RPC id */
	int			rekeys;			/* how often the verdict was REKEY */
	const char *provider_state; /* of the endpoint when the request was built */
} CsBatch;

typedef enum CsVerdict
{
	CS_DONE,					/* look at each outcome */
	CS_STEP,					/* the same contacts go on with next_step, as
								 * many a call as cs_provider_batch_limit()
								 * says; remote_id and note of the outcomes
								 * stay */
	CS_RETRY,					/* the same call again, later */
	CS_REKEY,					/* the same contacts with a new idempotency
								 * key */
	CS_REAUTH,					/* refresh the token, then the same call; HALT
								 * if there is nothing to refresh or it was
								 * done */
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
	const char *remote_updated_at;	/* as the provider writes times */
	const char *note;			/* worth storing beside a success, e.g.
								 * "topic: 404" */
	const char *topics;			/* whose membership was asked for, now or
								 * before, as in CsContact */
	bool		consent_sent;	/* the provider was told that the person wants
								 * mail, now or before; preset by opt_in */
	bool		opted_out;		/* the provider has an opt-out that is not
								 * ours; preset by what is known, and over
								 * when opt_in says false itself: what comes
								 * after that is a new word of the person */
} CsOutcome;

typedef struct CsJudgement
{
	CsVerdict	verdict;
	double		retry_after;	/* seconds; -1: it did not say, back off */
	bool		throttled;		/* RETRY that uses up no try (429) */
	bool		mapping_error;	/* HALT: of this watch's mapping, not the
								 * account */
	bool		maybe_contact;	/* HALT: but what one contact holds may have
								 * caused it (a firewall's page), so probe
								 * with another one too */
	int			next_step;
	const char *reason;			/* of the call: CS_REASON_ word, or for HALT a
								 * class such as "unauthorized" */
	const char *code;
	const char *message;
	const char *field;
	const char *request_id;
	const char *provider_state; /* a word that the endpoint is to remember for
								 * all later calls, see CsEndpoint; or NULL */
	int			created;		/* -1: it did not say */
	int			updated;
	CsOutcome  *outcomes;		/* as many as contacts, preset to OK with DONE */
} CsJudgement;

typedef enum CsAuth
{
	CS_AUTH_BEARER,				/* cs_bearer_options: api_key */
	CS_AUTH_OAUTH				/* cs_oauth_options; the provider's own table
								 * presets token_url; kept fresh by token.c */
} CsAuth;

/*
 * Why a server is halted, as stored in contactsync.endpoint.reason: words a
 * person can act on; the judgement's message says the rest.
 */
#define CS_HALT_UNAUTHORIZED	"unauthorized"	/* key or token */
#define CS_HALT_FORBIDDEN		"forbidden"
#define CS_HALT_SCOPE			"missing_scope"
#define CS_HALT_TENANT			"wrong_tenant"
#define CS_HALT_ADDRESS			"address_not_allowed"	/* of this machine */
#define CS_HALT_PLAN			"plan_too_low"
#define CS_HALT_QUOTA			"quota_exceeded"
#define CS_HALT_URL				"wrong_url"
#define CS_HALT_REDIRECT		"redirected"
#define CS_HALT_NOT_API			"not_the_api"	/* a web page answers */
#define CS_HALT_REQUEST			"request_refused"	/* whatever contact it is */
#define CS_HALT_FIELD			"unknown_field"
#define CS_HALT_TOPIC			"unknown_topic"
#define CS_HALT_FORM			"unknown_form"

/* What the provider can do beyond an upsert. */
#define CS_CAN_DELETE			0x0001
#define CS_CAN_UNSUBSCRIBE		0x0002
#define CS_CAN_FOLLOW_EMAIL		0x0004	/* an e-mail change keeps the contact */
#define CS_HAS_IDEMPOTENCY		0x0008	/* build() makes an idempotency key */
#define CS_UNIQUE_EMAIL			0x0010	/* keyed otherwise, but one e-mail
										 * address must not be twice in a
										 * batch */

typedef struct CsProvider
{
	/* facts: MUST be set */
	const char *name;			/* as in the option provider */
	const char *title;			/* as people write it */
	const char *base_url;		/* NULL: the option is required */
	int			max_batch;
	double		pace;			/* calls a second, documented or well below */
	double		burst;
	double		throttled_pace; /* calls a second after the first 429, for
								 * good; 0: as before */
	int			concurrency;
	int			max_retries;
	CsAuth		auth;
	const char *auth_header;	/* the secret travels in this header; NULL:
								 * "Authorization" */
	const char *auth_scheme;	/* ... after this word; NULL: "Bearer", "":
								 * none */
	uint32		fields;			/* CS_FIELD_BIT()s that it can carry */
	uint32		required;		/* ... and that it cannot do without */
	int			abilities;		/* CS_CAN_ / CS_HAS_ */
	const CsOption *options;	/* its own, without those that come with
								 * "auth"; ends with a NULL name */

	/* behaviour: MUST be set */
	void		(*build) (const CsEndpoint *endpoint, const CsBatch *batch,
						  CsRequest *request);
	void		(*judge) (const CsEndpoint *endpoint, const CsBatch *batch,
						  const CsResponse *response, CsJudgement *judgement);

	/*
	 * MUST be set: check and complete one contact (normalise further, refuse
	 * what the documents say cannot be taken, and an action that is not among
	 * the abilities) and name its upsert key. Returns NULL when it can be
	 * sent.  Fields of an unsubscription or a deletion may be missing; its
	 * upsert_key is set then.
	 */
	CsRefusal  *(*prepare) (const CsEndpoint *endpoint, CsContact *contact);

	/*
	 * MAY be set: contacts that one call of that action and step can carry,
	 * when that is not max_batch
	 */
	int			(*batch_limit) (CsAction action, int step);

	/*
	 * MAY be set: calls a second, when options or the provider_state allow
	 * less; 0: not
	 */
	double		(*pace_limit) (const CsEndpoint *endpoint);

	/* MAY be set: its options, parsed once, for cs_provider_settings() */
	const void *(*configure) (const CsEndpoint *endpoint);

	/* MAY be set: refuse options that do not go together; the message */
	const char *(*check_options) (const CsEndpoint *endpoint);

	/*
	 * MAY be set: refuse a mapping for what it would do to people; "fields"
	 * are the mapped ones.  Returns the message, and a hint.
	 */
	const char *(*check_mapping) (const CsEndpoint *endpoint, uint32 fields,
								  const char **hint);

	/*
	 * MAY be set: what could happen to people if many contacts with these
	 * fields were upserted at once, as a sentence; NULL: nothing that sends
	 * mail
	 */
	const char *(*bulk_risk) (const CsEndpoint *endpoint, uint32 fields);

	/* MAY be set: what is doubtful about an attribute's name, for a WARNING */
	const char *(*check_attribute) (const CsEndpoint *endpoint, const char *name);

	/*
	 * MAY be set, both: the n-th question (from 0) to set beside what we
	 * hold.  build_check() returns false when there are no more, and leaves
	 * the method NULL for one that cannot be asked.  judge_check() is given
	 * answers of 2xx ("doc" is NULL if that is not JSON), or none for what
	 * was not asked; it names the finding, which is UNAVAILABLE at first.
	 */
	bool		(*build_check) (const CsEndpoint *endpoint, int n, CsRequest *request);
	void		(*judge_check) (const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
								const CsResponse *response, CsJson *doc, CsFinding *finding);

	/*
	 * MAY be set: which check, from 1, tells whether a mapping suits the
	 * account; 0: none.  It is made when a watch is, unless the option
	 * check_fields is 'false'.
	 */
	int			mapping_check;

	/*
	 * MAY be set: look up one contact, which is prepared.  False if it cannot
	 * be found by what is known of it.
	 */
	bool		(*build_lookup) (const CsEndpoint *endpoint, const CsContact *contact,
								 CsRequest *request);

	/* MAY be set: read what a lookup brought; false if it is no contact */
	bool		(*read_contact) (const CsEndpoint *endpoint, CsJson *doc, CsRemote *remote);

	/* MAY be set, both: list the contacts that changed at the provider */
	void		(*build_pull) (const CsEndpoint *endpoint, const CsPull *pull, CsRequest *request);
	void		(*judge_pull) (const CsEndpoint *endpoint, const CsPull *pull, CsJson *doc,
							   CsPulled *pulled);
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
									 const char *fmt,...) cs_attribute_printf(3, 4);

/* How many contacts one call may carry, at least 1. */
extern int	cs_provider_batch_limit(const CsEndpoint *endpoint, CsAction action, int step);

/* What configure() made of the options; kept with the endpoint, whose memory
 * context (the one it was palloc'd in) it shares. */
extern const void *cs_provider_settings(const CsEndpoint *endpoint);

/* Zeroed, with outcomes for every contact; verdict DONE. */
extern void cs_provider_begin_judgement(const CsBatch *batch, CsJudgement *judgement);

/*
 * Delivery's way to judge: begins the judgement, asks the provider, and keeps
 * every text in it short, printable and in UTF-8.
 */
extern void cs_provider_judge(const CsEndpoint *endpoint, const CsBatch *batch,
							  const CsResponse *response, CsJudgement *judgement);

/*
 * A name-based UUID (version 5) for a batch whose body is built: from the first
 * and last external_id, the body, what changes it is due to, and rekeys.  The
 * same batch made again after a crash has the same key; a row that went from
 * one value to another and back has not.
 */
extern char *cs_provider_idempotency_key(const CsBatch *batch, const StringInfoData *body);

/*
 * The header that has the secret: its name, and its value, palloc'd, which is
 * NULL if the user mapping has no secret.  Wipe that after use.
 */
extern const char *cs_provider_auth_header(const CsProvider *provider);
extern char *cs_provider_auth_value(const CsEndpoint *endpoint);
extern void cs_provider_auth_wipe(char *value);

/* The same with something else in the place of the secret; palloc'd. */
extern char *cs_provider_auth_format(const CsProvider *provider, const char *secret);

/* Characters of a UTF-8 text. */
extern size_t cs_provider_utf8_length(const char *text);

/* The position of an option's value among words that its check let pass, or 0. */
extern int	cs_provider_option_word(const CsEndpoint *endpoint, const char *name,
									const char *const *words);

/* Refuse "." and "..", which would lead a URL's path elsewhere. */
extern CsRefusal *cs_provider_check_path(const char *field, const char *text);

/* ---------- answer.c: help for judge() ---------- */

/*
 * What all HTTP services have in common: no answer, 408, 425, 429, 5xx, 401,
 * 407, 3xx, a web page.  Returns false when the provider has to look for itself
 * (2xx, 400, 402, 403, 404, 409, 422 ...).  "doc" is the parsed body or NULL.
 */
extern bool cs_provider_judge_common(const CsEndpoint *endpoint, const CsResponse *response,
									 CsJson *doc, CsJudgement *judgement);

/*
 * A status of 400 and above that says nothing special to the provider: a fault
 * of the configuration (402, 403, 404, 405, 406, 415), else of a contact: bisect
 * the batch, or reject it if it is alone.
 */
extern void cs_provider_judge_refusal(const CsEndpoint *endpoint, const CsBatch *batch,
									  const CsResponse *response, CsJson *doc,
									  CsJudgement *judgement);

/* A 2xx that does not say what happened: never a success, unless "accept". */
extern void cs_provider_judge_unreadable(const CsEndpoint *endpoint, const CsBatch *batch,
										 const CsResponse *response, bool accept,
										 CsJudgement *judgement);

extern void cs_provider_conclude(CsJudgement *judgement, CsVerdict verdict, const char *reason,
								 const char *fmt,...) cs_attribute_printf(4, 5);
extern void cs_provider_reject_one(CsOutcome *outcome, const char *reason, const char *code,
								   const char *message);

/* What an error's body says, wherever services usually put it; or NULL. */
extern const char *cs_provider_error_message(CsJson *doc);

/* A text that the provider sent, short, printable and without our secrets. */
extern char *cs_provider_clean(const CsEndpoint *endpoint, const char *text);

/* Case-insensitive, for messages of services that give no code. */
extern bool cs_provider_mentions(const char *message, const char *phrase);

#endif							/* CS_PROVIDER_PROVIDER_H */
