/*-------------------------------------------------------------------------
 *
 * provider.h
 *		The contract between delivery and the providers.
 *
 * A provider is a constant table of facts, and functions.  build() makes the
 * request for a batch, judge() reads the answer.  Neither does HTTP or SQL, reads
 * a clock or sees a secret: delivery adds the authorization, and the response
 * carries the time at which it arrived.  All functions palloc in the current
 * memory context, and must not report an error because of data.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_PROVIDER_H
#define CS_PROVIDER_PROVIDER_H

#include "postgres.h"

#include "base/contactsync.h"
#include "http/json.h"
#include "http/message.h"
#include "provider/contact.h"
#include "provider/endpoint.h"
#include "provider/option.h"

/* ---------- sending contacts ---------- */

/* The contacts of one call; all have the same action. */
typedef struct CsBatch
{
	CsAction	action;
	int			step;			/* numbered by the provider; begins with 0 */
	int			ncontacts;
	CsContact **contacts;
	int64		number;			/* unique and rising per endpoint: JSON-RPC id */
	int			rekeys;			/* how often the verdict was REKEY */
	int			polls;			/* how often it was repeated because a job
								 * went on */
	const char *limitation;		/* of the endpoint when the request was built */
} CsBatch;

typedef enum CsVerdict
{
	CS_DONE,					/* see the outcome of each contact */
	CS_STEP,					/* continue the same contacts with next_step,
								 * or that of their outcome, in calls of
								 * cs_provider_batch_limit(); remote_id and
								 * note of the outcomes are kept */
	CS_RETRY,					/* repeat the call later */
	CS_REKEY,					/* repeat it with a new idempotency key */
	CS_REAUTH,					/* refresh the token and repeat the call; HALT
								 * if there is no refresh token, or that was
								 * done already */
	CS_SPLIT,					/* the batch was refused as a whole: bisect
								 * it; a single contact is rejected */
	CS_REJECT,					/* every contact fails, for this reason */
	CS_HALT						/* fault of the configuration: no contact
								 * fails */
} CsVerdict;

typedef enum CsOutcomeKind
{
	CS_OUTCOME_OK,
	CS_OUTCOME_REJECTED,
	CS_OUTCOME_RETRY			/* send the contact again, in a later call */
} CsOutcomeKind;

/* With which step a contact goes on. */
#define CS_NEXT_ALL		(-1)	/* as the judgement says for all */
#define CS_NEXT_NONE	(-2)	/* none: it is done */

/* What a call said about one contact; strings are NULL where it said nothing. */
typedef struct CsOutcome
{
	CsOutcomeKind kind;
	const char *reason;			/* CS_REASON_ word */
	const char *code;			/* the provider's own code */
	const char *message;
	const char *field;
	const char *remote_id;
	const char *remote_status;
	const char *remote_updated_at;	/* in the provider's notation */
	const char *job;			/* to be asked for by the next step; kept for
								 * it */
	bool		is_new;			/* the provider did not know the contact; kept
								 * for the next step, initially what an
								 * earlier one said */
	int			next_step;		/* STEP: the step of this contact, CS_NEXT_ALL
								 * or CS_NEXT_NONE */
	const char *note;			/* to be stored with a success, e.g. "topic:
								 * 404" */
	const char *topics;			/* as in CsContact, after this call */
	bool		claimed;		/* the provider was told, now or before, that
								 * the person wants mail; initially as
								 * CsContact.claim says */
	bool		moved;			/* the contact of previous_key has become this
								 * one */
	const char *address;		/* that the contact has and keeps, since it is
								 * withheld */
	bool		untouched;		/* the contact has not changed since it was
								 * created */
	bool		withheld;		/* the provider does not have the contact, and
								 * it is not created */
	bool		ours;			/* REJECTED, but not by the provider, which
								 * may have done what it was asked to */
	bool		written;		/* REJECTED, but for its consent the provider
								 * has the contact as it was sent */
	bool		opted_out;		/* the provider has an opt-out that did not
								 * come from here; initially what is known,
								 * unless this sending may claim */
	bool		complained;		/* ... which is a complaint */
} CsOutcome;

typedef struct CsJudgement
{
	CsVerdict	verdict;
	double		retry_after;	/* seconds; -1: not said, back off */
	bool		throttled;		/* RETRY that uses up no try (429) */
	bool		blocked;		/* ... and is not because of too many calls */
	bool		waits;			/* RETRY of this very call, because a job goes
								 * on: uses up no try, and keeps no other call
								 * waiting */
	bool		mapping_error;	/* HALT: the mapping of the watch is at fault,
								 * not the account */
	bool		contact_suspected;	/* HALT: a contact may be at fault instead
									 * (a firewall's page): find out on which
									 * it depends, if on any */
	bool		ours;			/* REJECT: the decision is ours, see CsOutcome */
	int			next_step;
	const char *reason;			/* of the call: CS_REASON_ word, or CS_HALT_
								 * word */
	const char *code;
	const char *message;
	const char *field;
	const char *request_id;
	const char *limitation;		/* to be remembered for all later calls of the
								 * endpoint, "" to forget it; NULL: as before */
	int			created;		/* -1: not said */
	int			updated;		/* -1: not said */
	CsOutcome  *outcomes;		/* one per contact, initially OK */
} CsJudgement;

/* Why a server is halted, as stored in contactsync.endpoint.reason. */
#define CS_HALT_UNAUTHORIZED	"unauthorized"	/* key or token */
#define CS_HALT_FORBIDDEN		"forbidden"
#define CS_HALT_SCOPE			"missing_scope"
#define CS_HALT_TENANT			"wrong_tenant"
#define CS_HALT_ADDRESS			"address_not_allowed"	/* of this machine */
#define CS_HALT_NETWORK			"network_not_allowed"	/* see base/network.h */
#define CS_HALT_PLAN			"plan_too_low"
#define CS_HALT_QUOTA			"quota_exceeded"
#define CS_HALT_URL				"wrong_url"
#define CS_HALT_REDIRECT		"redirected"
#define CS_HALT_NOT_API			"not_the_api"	/* a web page answers */
#define CS_HALT_REQUEST			"request_refused"	/* whatever the contact */
#define CS_HALT_FIELD			"unknown_field"
#define CS_HALT_REFUSALS		"refused_alike" /* contacts, one like another */
#define CS_HALT_TOPIC			"unknown_topic"
#define CS_HALT_FORM			"unknown_form"

/* ---------- reading what the provider has ---------- */

/* What we believe an account holds. */
typedef struct CsLocalCounts
{
	int64		contacts;
	uint32		fields;			/* CS_FIELD_BIT()s that are mapped */
	int			nattributes;
	const char **attributes;	/* names of those that are mapped */
} CsLocalCounts;

typedef enum CsFindingResult
{
	CS_FINDING_UNAVAILABLE,		/* the provider does not tell */
	CS_FINDING_OK,
	CS_FINDING_DIFFERS
} CsFindingResult;

/* The result of one check; strings are NULL where there is nothing to say. */
typedef struct CsFinding
{
	const char *name;
	CsFindingResult result;
	const char *ours;
	const char *theirs;
	const char *detail;
} CsFinding;

/* A contact as the provider has it. */
typedef struct CsRemoteContact
{
	CsContact  *contact;		/* "present" are the fields that it shows */
	const char *id;
	const char *updated_at;		/* in the provider's notation */
} CsRemoteContact;

/* A position in the list of changed contacts, which is read page by page. */
typedef struct CsPull
{
	const char *since;			/* ISO 8601 in UTC; NULL: list all contacts */
	int			page;			/* from 1 */
	const char *cursor;			/* from the previous page, or NULL */
} CsPull;

/* A page of that list. */
typedef struct CsPullPage
{
	CsJson	   *items;			/* an array, for read_contact(); NULL: the
								 * answer has another form */
	int64		total;			/* contacts on all pages; -1: not said */
	const char *next_cursor;	/* NULL: continue with the next page number */
	bool		last;
} CsPullPage;

/* ---------- the provider ---------- */

typedef enum CsAuth
{
	CS_AUTH_BEARER,				/* option api_key; see cs_option_bearer */
	CS_AUTH_OAUTH,				/* see cs_option_oauth; the provider's own
								 * table presets token_url */
	CS_AUTH_BASIC,				/* options username and password */
	CS_AUTH_QUERY,				/* option api_key, as the parameter of the
								 * query that auth_header names */
	CS_AUTH_NONE
} CsAuth;

/*
 * A signature of each request: a HMAC with SHA-256, whose key is the option
 * signing_secret, over the body, or over timestamp and body, or over ID, timestamp
 * and body, with dots in between.
 */
typedef struct CsSigning
{
	const char *header;			/* that carries it */
	const char *prefix;			/* of its value */
	bool		base64;			/* else hexadecimal */
	const char *timestamp_header;	/* NULL: no timestamp */
	const char *id_header;		/* carries the idempotency key; NULL: no ID */
} CsSigning;

/* What the provider can do beyond an upsert. */
#define CS_CAN_DELETE			0x0001
#define CS_CAN_UNSUBSCRIBE		0x0002
#define CS_HAS_IDEMPOTENCY		0x0004	/* build() makes an idempotency key */
#define CS_UNIQUE_EMAIL			0x0008	/* has another key, but an email
										 * address must not be in a batch
										 * twice */

typedef struct CsProvider
{
	/* facts: MUST be set */
	const char *name;			/* value of the option provider */
	const char *title;			/* as people write it */
	const char *base_url;		/* NULL: the option base_url is required */
	int			max_batch;
	double		pace;			/* calls per second, as documented or well
								 * below */
	double		burst;
	double		throttled_pace; /* calls per second after the first 429, for
								 * good; 0: pace */
	int			concurrency;
	int			max_retries;
	CsAuth		auth;
	const char *auth_header;	/* header that carries the secret; NULL:
								 * "Authorization" */
	const char *auth_scheme;	/* word before the secret; NULL: "Bearer", "":
								 * none */
	uint32		fields;			/* CS_FIELD_BIT()s that it can carry */
	uint32		required;		/* CS_FIELD_BIT()s that it requires */
	int			abilities;		/* CS_CAN_ and CS_HAS_ */
	const CsOption *options;	/* its own, without those that come with
								 * "auth"; ends with a NULL name */

	/* facts: MAY be set */
	const CsSigning *signing;	/* how requests are signed; NULL: they are not */
	uint64		hash;			/* of its definition; 0: it is built in */
	uint64		payload;		/* of what it sends of a contact: part of
								 * CsEndpoint.payload */

	/* behaviour: MUST be set */
	void		(*build) (const CsEndpoint *endpoint, const CsBatch *batch,
						  CsRequest *request);
	void		(*judge) (const CsEndpoint *endpoint, const CsBatch *batch,
						  const CsResponse *response, CsJudgement *judgement);

	/*
	 * MUST be set: check and complete one contact.  Normalize it further, set
	 * its upsert_key, and refuse what the documents say is not accepted, and
	 * actions that are not among the abilities.  Return NULL if it can be
	 * sent. In an unsubscription or a deletion, fields may be missing; the
	 * upsert_key is set already.
	 */
	CsRefusal  *(*prepare) (const CsEndpoint *endpoint, CsContact *contact);

	/*
	 * MAY be set: number of contacts that a call of this action and step can
	 * carry, if it is not max_batch
	 */
	int			(*batch_limit) (const CsEndpoint *endpoint, CsAction action, int step);

	/*
	 * MAY be set: with which step a contact begins; only those that begin
	 * with the same one share a call
	 */
	int			(*first_step) (const CsEndpoint *endpoint, const CsContact *contact);

	/*
	 * MAY be set: calls per second, if options or limitation allow fewer;
	 * returns 0 if they do not
	 */
	double		(*pace_limit) (const CsEndpoint *endpoint);

	/*
	 * MAY be set: parse the options; cs_provider_settings() returns the
	 * result
	 */
	const void *(*configure) (const CsEndpoint *endpoint);

	/*
	 * MAY be set: return the base URL, which depends on options; used if the
	 * option base_url is not set
	 */
	char	   *(*expand_url) (const CsEndpoint *endpoint);

	/* MAY be set: return a message if the options contradict each other */
	const char *(*check_options) (const CsEndpoint *endpoint);

	/*
	 * MAY be set: refuse a mapping for what it would do to people.  "fields"
	 * are the mapped ones.  Returns the message, and sets the hint.
	 */
	const char *(*check_mapping) (const CsEndpoint *endpoint, uint32 fields,
								  const char **hint);

	/*
	 * MAY be set: return a sentence that says what could happen to people if
	 * many contacts with these fields were upserted at once; NULL: nothing
	 * that sends mail
	 */
	const char *(*bulk_risk) (const CsEndpoint *endpoint, uint32 fields);

	/*
	 * MAY be set: is a contact to be deleted whose opt_in is not true any
	 * more?
	 */
	bool		(*deletes_opt_outs) (const CsEndpoint *endpoint);

	/*
	 * MAY be set: why creating a contact is enough to make somebody mailable,
	 * as a sentence; who did not consent is not created then
	 */
	const char *mails_whoever_exists;

	/* MAY be set: does the user say that this is not so at the account? */
	bool		(*mails_by_consent) (const CsEndpoint *endpoint);

	/* MAY be set: the option without which opt_in cannot be mapped */
	const char *consent_option;

	/*
	 * MAY be set: can a contact that is withheld be updated where it exists,
	 * without being created?  build() and judge() then see it.
	 */
	bool		(*updates_withheld) (const CsEndpoint *endpoint, const CsContact *contact);

	/* MAY be set: is an opt-out recorded with the contact, which it keeps? */
	bool		(*records_opt_outs) (const CsEndpoint *endpoint);

	/* MAY be set: does every contact without opt_in claim consent? */
	bool		(*implies_consent) (const CsEndpoint *endpoint);

	/* MAY be set: does an upsert clear the fields that it does not have? */
	bool		(*replaces) (const CsEndpoint *endpoint);

	/* MAY be set: is the contact of previous_key to become this one? */
	bool		(*moves) (const CsEndpoint *endpoint, const CsContact *contact);

	/*
	 * MAY be set: what happens to a contact whose row now has another key,
	 * whatever on_delete says; CS_UPSERT: as on_delete says
	 */
	CsAction	(*left_behind) (const CsEndpoint *endpoint);

	/*
	 * MAY be set: the option that tells accounts at one base_url apart, if
	 * that is not "account"
	 */
	const char *account_option;

	/* MAY be set: an option beside base_url that decides where calls go */
	const char *url_option;

	/*
	 * MAY be set: return what is doubtful about an attribute's name, for a
	 * WARNING
	 */
	const char *(*check_attribute) (const CsEndpoint *endpoint, const char *name);

	/*
	 * MAY be set, both: compare what the provider has with what we believe.
	 * build_check() makes the n-th request, from 0; it returns false if there
	 * are no more checks, and leaves the method NULL if the n-th cannot be
	 * asked.  judge_check() gets answers of 2xx ("doc" is NULL if the body is
	 * not JSON), and NULLs for a check that was not asked.  It sets the name
	 * of the finding, whose result is UNAVAILABLE at first.
	 */
	bool		(*build_check) (const CsEndpoint *endpoint, int n, CsRequest *request);
	void		(*judge_check) (const CsEndpoint *endpoint, int n, const CsLocalCounts *local,
								const CsResponse *response, CsJson *doc, CsFinding *finding);

	/*
	 * MAY be set: which check, from 1, tells whether a mapping suits the
	 * account; 0: none.  It is made when a watch is created, unless the
	 * option check_fields is 'false'.
	 */
	int			mapping_check;

	/*
	 * MAY be set, with mapping_check: the type of a field, or of an attribute
	 * if its name is given, according to the answer to that check
	 */
	CsValueType (*value_type) (const CsEndpoint *endpoint, CsJson *doc, CsField field,
							   const char *attribute);

	/*
	 * MAY be set: make the request that looks up a prepared contact; return
	 * false if what is known of it is not enough to find it
	 */
	bool		(*build_lookup) (const CsEndpoint *endpoint, const CsContact *contact,
								 CsRequest *request);

	/*
	 * MAY be set: read the answer to a lookup; return false if it is no
	 * contact
	 */
	bool		(*read_contact) (const CsEndpoint *endpoint, CsJson *doc, CsRemoteContact *remote);

	/* MAY be set, both: list the contacts that changed at the provider */
	void		(*build_pull) (const CsEndpoint *endpoint, const CsPull *pull, CsRequest *request);
	void		(*judge_pull) (const CsEndpoint *endpoint, const CsPull *pull, CsJson *doc,
							   CsPullPage *pulled);
} CsProvider;

/* Declares an adapter, both where it is defined and in provider/registry.c. */
#define CS_ADAPTER(name) \
	extern const CsProvider name

/* ---------- provider.c ---------- */

/* Keep what a step said of a contact for the next one, in a memory context. */
extern void cs_provider_keep_outcome(CsContact *contact, const CsOutcome *outcome,
									 MemoryContext context);

/* Are both the same provider, however it is defined? */
extern bool cs_provider_is_same(const CsProvider *a, const CsProvider *b);

/*
 * Return why creating a contact is enough to make somebody mailable, or NULL if it is
 * not.
 */
extern const char *cs_provider_mails_whoever_exists(const CsEndpoint *endpoint);

/* Contacts begin with one of so many steps, from 0. */
#define CS_MAX_STEPS	12

/* Return with which step a contact begins. */
extern int	cs_provider_first_step(const CsEndpoint *endpoint, const CsContact *contact);

/* Return how many contacts one call may carry, at least 1. */
extern int	cs_provider_batch_limit(const CsEndpoint *endpoint, CsAction action, int step);

/*
 * Return what configure() made of the options.  It is made at the first call, in
 * the memory context of the endpoint, and kept with that.
 */
extern const void *cs_provider_settings(const CsEndpoint *endpoint);

/* Is a contact to be deleted whose opt_in is not true any more? */
extern bool cs_provider_deletes_opt_outs(const CsEndpoint *endpoint);

/*
 * Return the value of the option that tells accounts at one base_url apart; NULL: the
 * server's name does, as it was when the account was first used.
 */
extern const char *cs_provider_account_name(const CsEndpoint *endpoint);

/* Return a hash of provider, URL and that name, which is never 0: equal ones mean one account. */
extern uint64 cs_provider_account_hash(const CsEndpoint *endpoint);

/* Return the name of the header that carries the secret. */
extern const char *cs_provider_auth_header(const CsProvider *provider);

/* Is there such a header, rather than a parameter of the query or nothing? */
extern bool cs_provider_has_auth_header(const CsProvider *provider);

/*
 * Return the value of that header, palloc'd, or NULL if the user mapping has no
 * secret.  Pass it to cs_provider_auth_wipe() after use.
 */
extern char *cs_provider_auth_value(const CsEndpoint *endpoint);
extern void cs_provider_auth_wipe(char *value);

/* Return the value of that header for another secret, palloc'd. */
extern char *cs_provider_auth_format(const CsProvider *provider, const char *secret);

/*
 * Normalize and check a contact, first as all providers require it (email,
 * required fields, encoding, sizes), then by prepare().  Return NULL if it can be
 * sent; contact->upsert_key is set then.
 */
extern CsRefusal *cs_provider_prepare(const CsEndpoint *endpoint, CsContact *contact);

/*
 * Make a name-based UUID (version 5) for a batch whose body is built, from the
 * upsert keys of the first and last contact, the body, the changes that the
 * contacts are sent for, and rekeys.  A batch that is built again after a crash
 * has the same key; a row that changed from one value to another and back has
 * not.
 */
extern char *cs_provider_idempotency_key(const CsBatch *batch, const StringInfoData *body);

/* The words for verdicts, and NULL. */
extern const char *const cs_provider_verdict_names[];

/* Return the word for a verdict. */
extern const char *cs_provider_verdict_name(CsVerdict verdict);

/* Zero a judgement; set the verdict to DONE, and an outcome for every contact. */
extern void cs_provider_begin_judgement(const CsBatch *batch, CsJudgement *judgement);

/*
 * Judge an answer: begin the judgement, call judge(), and make every text in it
 * short, printable and valid UTF-8, without secrets.
 */
extern void cs_provider_judge(const CsEndpoint *endpoint, const CsBatch *batch,
							  const CsResponse *response, CsJudgement *judgement);

#endif							/* CS_PROVIDER_PROVIDER_H */
