/*-------------------------------------------------------------------------
 *
 * definition.h
 *		A provider that is defined by data: what compiling it results in.
 *
 * The parts of a definition are compiled once, when an endpoint is read; they live as
 * long as that and never change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_DEFINITION_H
#define CS_PROVIDER_DEFINED_DEFINITION_H

#include "postgres.h"

#include "provider/provider.h"

/* A definition has at most so many bytes. */
#define CS_DEFINITION_MAX_BYTES		(64 * 1024)

#define CS_DEFINED_MAX_STEPS		CS_MAX_STEPS	/* of an action */
#define CS_DEFINED_MAX_BATCH		1000

/* Headers of a request, of which the engine adds five at most. */
#define CS_DEFINED_MAX_HEADERS		(CS_MAX_HEADERS - 5)

/* ---------- text with placeholders ---------- */

typedef enum CsSource
{
	CS_FROM_TEXT,				/* the text itself */
	CS_FROM_FIELD,
	CS_FROM_ATTRIBUTE,
	CS_FROM_OPTION,				/* of the server; never of a user mapping */
	CS_FROM_KEY,				/* the upsert key */
	CS_FROM_REMOTE_ID,
	CS_FROM_JOB,				/* what an earlier step gave to be polled */
	CS_FROM_NAME,				/* of the element of a list */
	CS_FROM_VALUE,				/* the element of a list */
	CS_FROM_CURSOR,				/* of a list of contacts */
	CS_FROM_SINCE,
	CS_FROM_PAGE,
	CS_FROM_OFFSET,
	CS_FROM_IDEMPOTENCY_KEY
} CsSource;

typedef enum CsFilter
{
	CS_FILTER_NONE,
	CS_FILTER_LOWER,
	CS_FILTER_MD5,
	CS_FILTER_SHA256,
	CS_FILTER_JSON,				/* as within a string of JSON */
	CS_FILTER_SQL				/* as within a string of SQL */
} CsFilter;

typedef struct CsPiece
{
	CsSource	source;
	CsFilter	filter;
	CsField		field;
	const char *text;			/* the text, or the name of an attribute or
								 * option */
} CsPiece;

/* Several pieces, one after the other. */
typedef struct CsText
{
	int			n;
	CsPiece    *pieces;
} CsText;

/* ---------- conditions ---------- */

typedef enum CsConditionKind
{
	CS_IF_CLAIMS,				/* this sending may claim consent */
	CS_IF_CLAIMS_IF_NEW,		/* it may, if the provider did not know the
								 * contact */
	CS_IF_WITHDRAWS,			/* the person wants no mail, or is removed */
	CS_IF_WANTS,				/* the person wants mail, whether that may be
								 * claimed or not */
	CS_IF_KNOWN,				/* the provider has the contact, as far as is
								 * known */
	CS_IF_NEW,					/* an earlier step showed that the provider
								 * did not know it */
	CS_IF_OPTED_OUT,			/* it is known that the person opted out */
	CS_IF_HAS,					/* there is a value */
	CS_IF_OPTION,				/* an option has a value */
	CS_IF_NOT,
	CS_IF_ALL,
	CS_IF_ANY
} CsConditionKind;

typedef struct CsCondition
{
	CsConditionKind kind;
	CsPiece		piece;			/* of HAS and OPTION */
	const char **values;		/* of OPTION: one of them; NULL: any */
	int			n;				/* of NOT, ALL and ANY */
	struct CsCondition *parts;
} CsCondition;

/* ---------- bodies ---------- */

typedef enum CsNodeKind
{
	CS_NODE_CONSTANT,			/* the text of a JSON value */
	CS_NODE_OBJECT,
	CS_NODE_ARRAY,
	CS_NODE_VALUE,				/* a piece, as a value of some type */
	CS_NODE_TEXT,				/* pieces, as a string */
	CS_NODE_EACH,				/* an array with an element for each contact */
	CS_NODE_LIST,				/* an array with an element for each tag,
								 * topic or attribute */
	CS_NODE_IF,
	CS_NODE_CONSENT				/* depends on what the person wants */
} CsNodeKind;

typedef enum CsNodeType
{
	CS_AS_IS,
	CS_AS_TEXT,
	CS_AS_NUMBER,
	CS_AS_BOOLEAN,
	CS_AS_DATE,					/* of a time, the date */
	CS_AS_UNIX,					/* a time in seconds since 1970 */
	CS_AS_MILLISECONDS,			/* likewise */
	CS_AS_LIST					/* of strings, their text with commas */
} CsNodeType;

typedef enum CsNullRule
{
	CS_NULL_AS_OPTION,			/* as the option nulls says */
	CS_NULL_OMIT,
	CS_NULL_SEND
} CsNullRule;

typedef struct CsNode CsNode;

typedef struct CsNodeMember
{
	const char *name;
	const char *key;			/* the quoted name and a colon */
	int			key_len;
	CsNode	   *node;
	bool		yields;			/* to an attribute of the same name */
} CsNodeMember;

struct CsNode
{
	CsNodeKind	kind;
	const char *json;			/* CONSTANT; VALUE: if there is no value */
	int			json_len;
	CsPiece		piece;			/* VALUE; LIST: what it is a list of */
	CsNodeType	type;
	CsNullRule	nulls;
	CsText		text;
	int			n;				/* OBJECT and ARRAY */
	CsNodeMember *members;
	bool		attributes;		/* OBJECT: and a member for each attribute */
	const char **except;		/* ... which must not be called so; or NULL */
	bool		keep;			/* OBJECT: even if nothing is in it */
	CsNode	   *inner;			/* EACH and LIST */
	CsCondition *condition;		/* IF */
	CsNode	   *yes;			/* IF, CONSENT; NULL: nothing */
	CsNode	   *no;
	CsNode	   *if_new;			/* CONSENT */
	CsNode	   *otherwise;
};

/* ---------- answers ---------- */

/* The place of a value in a document: a JSON pointer. */
typedef struct CsPointer
{
	int			n;
	const char **names;
} CsPointer;

typedef enum CsMatchKind
{
	CS_MATCH_EXISTS,
	CS_MATCH_ABSENT,			/* or null */
	CS_MATCH_IS,				/* one of some values */
	CS_MATCH_IS_NOT,			/* none of them */
	CS_MATCH_CONTAINS			/* a phrase, in any letter case */
} CsMatchKind;

typedef struct CsMatch
{
	CsMatchKind kind;
	const char **values;		/* IS, IS_NOT, CONTAINS */
} CsMatch;

/* A test of a value in a document, or of a header. */
typedef struct CsTest
{
	CsPointer  *at;
	const char *header;			/* in lower case */
	CsMatch		match;
} CsTest;

typedef struct CsTests
{
	int			n;
	CsTest	   *tests;
} CsTests;

#define CS_RULE_STATUSES	8

typedef struct CsRule
{
	int			nstatuses;
	int			low[CS_RULE_STATUSES];
	int			high[CS_RULE_STATUSES];
	CsTests		tests;
	const char **phrases;		/* one of them is in the error's message */

	CsVerdict	verdict;
	int			step;
	const char *reason;
	const char *message;
	const char *field;
	const char *note;
	double		after;			/* seconds; -1: as the answer says */
	bool		throttled;
	bool		polls;			/* the job goes on */
	bool		restarts;		/* the contacts begin with the first step
								 * again */
	bool		mapping;		/* the mapping is at fault */
} CsRule;

/* ---------- results of single contacts ---------- */

/* By what an entry of a list tells whose it is. */
typedef struct CsResults
{
	CsPointer  *at;
	CsPointer  *email;
	CsPointer  *external_id;
	CsPointer  *index;
	bool		by_position;	/* the n-th entry is the n-th contact's */
	bool		failures;		/* the list has failures only */
	bool		every;			/* each contact must have an entry */
	CsTests		failed;			/* n = 0: whatever says that it failed */
	CsTests		retry;
	CsTests		is_new;			/* the provider did not know the contact */
	bool		unlisted_new;	/* ... nor any that has no entry */
	CsTests		done;			/* nothing more is to be sent of the contact */
	CsTests		opt_out;		/* the person wants no mail */
	CsPointer  *id;
	CsPointer  *code;
	CsPointer  *message;
	CsPointer  *field;
} CsResults;

typedef struct CsCounts
{
	int			nsucceeded;		/* 0: none are given */
	CsPointer **succeeded;
	int			nfailed;
	CsPointer **failed;
} CsCounts;

/* ---------- requests ---------- */

typedef struct CsPair
{
	const char *name;
	CsText		text;			/* left out if a piece has no value */
	bool		each;			/* the text is for each contact of a batch */
	CsText		before;			/* ... and this before, between and after them */
	CsText		between;
	CsText		after;
} CsPair;

typedef struct CsStep
{
	const char *name;
	int			method;
	int			batch;
	CsCondition *condition;		/* else go to "otherwise" at once */
	int			otherwise;		/* CS_NEXT_NONE: nothing more is to be done */
	CsText		path;
	uint32		needs;			/* CS_FIELD_BIT()s that a contact must have */
	int			nquery;
	CsPair	   *query;
	int			nheaders;
	CsPair	   *headers;
	int			nform;
	CsPair	   *form;
	CsNode	   *body;
	const char *content_type;	/* NULL: as the kind of the body */
	double		poll_every;		/* seconds; 0: it does not poll */
	int			poll_times;

	int			nrules;
	CsRule	   *rules;
	CsTests		success;		/* n = 0: it does not say that it failed */
	bool		may_be_empty;
	int			nresults;
	CsResults  *results;
	CsCounts	counts;
	CsPointer  *email;			/* whose contact it is */
	CsPointer  *external_id;
	CsPointer  *id;
	CsPointer  *status;
	CsPointer  *updated_at;
	CsPointer  *job;
	CsTests		opt_out;		/* the person wants no mail */
	CsTests		opt_in;
	CsTests		mailable;		/* it can be mailed, or will be once the
								 * person confirms; n = 0: as opt_in says */
	bool		consent_told;	/* one of them is given */
	int			next;			/* step that follows a success; -1: none */
	bool		claims;			/* it says that a person wants mail */
	bool		claims_if_new;
	bool		withdraws;
	int			constants;		/* bytes of constant text of the body */
	int			references;		/* to values of a contact */
	int			lists;			/* loops over lists, and the constant text in
								 * them */
	int			list_constants;
} CsStep;

typedef struct CsActionSteps
{
	int			n;
	CsStep	   *steps;
	const char **names;
} CsActionSteps;

/* How a contact of the provider is read. */
typedef struct CsReading
{
	CsPointer  *at;
	CsPointer  *id;
	CsPointer  *updated_at;
	CsPointer  *fields[CS_FIELD_COUNT];
	CsPointer  *attributes;
	CsTests		opt_in;
	CsTests		opt_out;
} CsReading;

typedef struct CsListing
{
	CsStep		request;
	CsPointer  *items;
	CsPointer  *total;
	CsPointer  *cursor;
	const char *cursor_parameter;	/* it is this parameter of a URL; NULL: it
									 * is the cursor itself */
	int			page_size;		/* fewer are on the last page; 0: not known */
} CsListing;

/* ---------- the whole ---------- */

typedef enum CsIdentity
{
	CS_BY_EMAIL,
	CS_BY_EXTERNAL_ID,
	CS_BY_EITHER				/* the external ID if there is one */
} CsIdentity;

typedef struct CsFieldRule
{
	int			max_length;		/* characters; 0: any */
	const char **words;			/* those that are accepted; NULL: any */
	int			unlisted;		/* of another word: see below */
} CsFieldRule;

enum
{
	CS_UNLISTED_REJECT,
	CS_UNLISTED_OMIT,
	CS_UNLISTED_BASE			/* its part before the first "-" or "_", else
								 * omit it */
};

typedef struct CsDefined
{
	CsProvider	provider;		/* its facts and functions; must be first */
	uint64		hash;			/* of the text */
	uint64		payload;		/* of what is sent of a contact */

	CsText		base_url;
	CsIdentity	identity;
	CsFieldRule field_rules[CS_FIELD_COUNT];
	CsActionSteps actions[3];	/* by CsAction */
	int			nheaders;		/* of all requests */
	CsPair	   *headers;
	CsStep	   *lookup;
	CsReading  *reading;
	CsListing  *listing;
	CsPointer  *error_message;
	CsPointer  *error_code;
	CsPointer  *error_field;
	const char *request_id;		/* header */
	const char *wait_header;	/* that tells when to go on */
	int			wait_unit;		/* CS_WAIT_ */
	const char *bulk_risk;
	bool		deletes_opt_outs;
	CsCondition *mails_by_consent;	/* of options: creating subscribes nobody;
									 * NULL: never */
	bool		replaces;
} CsDefined;

enum
{
	CS_WAIT_SECONDS,
	CS_WAIT_MILLISECONDS,
	CS_WAIT_UNIX
};

/* What a template is rendered for. */
typedef struct CsScope
{
	const CsEndpoint *endpoint;
	const CsBatch *batch;		/* NULL: none */
	const CsContact *contact;	/* NULL: none */
	const CsPull *pull;			/* NULL: none */
	int			page_size;
	const char *idempotency_key;
	const char *name;			/* of the element of a list */
	const char *json;			/* the element */
} CsScope;

#endif							/* CS_PROVIDER_DEFINED_DEFINITION_H */
