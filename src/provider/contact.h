/*-------------------------------------------------------------------------
 *
 * contact.h
 *		The canonical record that all providers share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_CONTACT_H
#define CS_PROVIDER_CONTACT_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "base/contactsync.h"
#include "http/json.h"

typedef enum CsField
{
	CS_EMAIL,
	CS_EXTERNAL_ID,
	CS_FIRST_NAME,
	CS_LAST_NAME,
	CS_PHONE,
	CS_LOCALE,
	CS_TIMEZONE,
	CS_OPT_IN,					/* "true" or "false" */
	CS_OPT_IN_AT,				/* when the person said so; never sent */
	CS_STATUS,
	CS_TAGS,					/* text of a JSON array, valid JSON */
	CS_TOPICS,					/* text of a JSON array, valid JSON */
	CS_ATTRIBUTES,				/* in CsContact.attributes, not in value[] */
	CS_FIELD_COUNT
} CsField;

#define CS_FIELD_BIT(field)	(UINT32_C(1) << (field))

/* What to do with the contact at the provider. */
typedef enum CsAction
{
	CS_UPSERT,
	CS_UNSUBSCRIBE,				/* its source row is gone; see on_delete */
	CS_DELETE					/* likewise */
} CsAction;

/* What a contact says of consent, and what was last seen of it. */
#define CS_CONSENT_UNKNOWN	'-' /* nothing */
#define CS_CONSENT_NULL		'n' /* it is mapped and null */
#define CS_CONSENT_NO		'f'
#define CS_CONSENT_YES		't'
#define CS_CONSENT_NULLED	'N' /* null, and true was the last word before */

/* Whether a sending may raise what the provider has of a person's consent. */
typedef enum CsClaim
{
	CS_CLAIM_NOT,
	CS_CLAIM_IF_NEW,			/* if the provider proves not to know the
								 * contact */
	CS_CLAIM
} CsClaim;

/* The type that a value has at the provider. */
typedef enum CsValueType
{
	CS_VALUE_ANY,				/* not known: it is sent as it is */
	CS_VALUE_TEXT,
	CS_VALUE_NUMBER,
	CS_VALUE_BOOLEAN,
	CS_VALUE_TIME				/* text in RFC 3339 */
} CsValueType;

/* A free field: its name, and its value as the text of one JSON value. */
typedef struct CsAttribute
{
	char	   *name;
	char	   *json;			/* "null" for an SQL null; always valid JSON */
} CsAttribute;

/*
 * All text is UTF-8, whatever the database encoding.  A field that is mapped has
 * its bit in "present"; if it is null, its value is NULL as well.
 */
typedef struct CsContact
{
	CsAction	action;
	uint32		present;		/* CS_FIELD_BIT()s */
	char	   *value[CS_FIELD_COUNT];
	uint32		numbers;		/* CS_FIELD_BIT()s of fields that are numbers
								 * at the provider */
	int			nattributes;
	CsAttribute *attributes;
	bool		too_large;		/* too large a value, which was not read */
	const char *undecodable;	/* field or attribute whose text cannot be
								 * converted to UTF-8, or NULL */
	size_t		size;			/* bytes of text, once it is prepared */

	char	   *upsert_key;		/* what the provider matches on; NULL until
								 * cs_provider_prepare() */
	uint64		change_id;		/* of the newest change that it is sent for;
								 * the same again after a crash, but not if
								 * the contact was removed or the database
								 * restored meanwhile */
	int			retries;		/* how often it was sent for that change
								 * before; makes its batch a different one */

	char		consent;		/* CS_CONSENT_..., once it is prepared */
	TimestampTz opt_in_at;		/* value of CS_OPT_IN_AT; 0: none */

	/* what is known of earlier calls */
	bool		known;			/* the provider has the contact */
	CsClaim		claim;			/* of this sending */
	char	   *remote_id;		/* the provider's own id, if it told us */
	char	   *previous_key;	/* the upsert key last sent for this source
								 * row, if it was another one */
	bool		previous_shared;	/* another row has that key still, or the
									 * provider has both contacts: what became
									 * of the row is not to be told there */
	bool		moved;			/* it has become this one already, in an
								 * earlier step */
	bool		in_doubt;		/* a call that was not answered may have given
								 * it another address, or have given this
								 * address to another one */
	char	   *job;			/* what an earlier step gave to be asked for,
								 * or NULL */
	bool		is_new;			/* an earlier step showed that the provider
								 * did not know it */
	char	   *topics;			/* Owlat: those that membership was asked for,
								 * parted by spaces, or NULL */
	bool		opted_out;		/* the person opted out there */
	bool		said_no;		/* what it was sent with last is a no */
	bool		refused;		/* ... or rather, a row said no, of which the
								 * provider has no trace */
	bool		leaves_opt_out; /* the opt-out known so far is of the previous
								 * address */
	bool		claimed;		/* consent was claimed, and stands as far as
								 * we know */
	bool		inherits;		/* ... for another contact, which had the
								 * address before */
	bool		was_held;		/* nothing is known but that the address had a
								 * contact, of which consent was not claimed */
	char	   *remote_status;	/* the provider's own status, or NULL */
	bool		withheld;		/* not to be created: updated where it exists */
	bool		reopens;		/* the claim ends what is remembered as closed */
	bool		keeps_address;	/* the address is the one that the provider
								 * has, since nobody consented to the new one */
	bool		omits_address;	/* ... and is not to be sent, since a call
								 * without an answer may have changed it */
	char	   *refused_address;	/* ... which is this; or of a row that
									 * only says no, while another one speaks */
	bool		drops_consent;	/* it was given for the previous address, and
								 * would pass to the new one */
	bool		opts_out_first; /* its opt-out is to be recorded before the
								 * address changes */
	bool		maybe_ours;		/* if it exists, a call about this change may
								 * have created it */
	double		queued_at;		/* when its change was queued, in Unix seconds
								 * on our clock; 0: not known */
	bool		untouched;		/* an earlier step showed that it has not
								 * changed since it was created */
	bool		direct;			/* from cs_contact_from_jsonb(), not a watch:
								 * there is no mapping that could be at fault */
	bool		direct_no;		/* ... which says false or null, or said so
								 * last */
} CsContact;

/* Why a contact cannot be sent; strings are palloc'd or constant. */
typedef struct CsRefusal
{
	const char *reason;			/* CS_REASON_ word */
	char	   *message;		/* for the user */
	const char *field;			/* field or attribute at fault, or NULL */
} CsRefusal;

/* Reasons of failures, as stored in contactsync.failure.reason. */
#define CS_REASON_INVALID_EMAIL		"invalid_email"
#define CS_REASON_MISSING_FIELD		"missing_field"
#define CS_REASON_INVALID_FIELD		"invalid_field"
#define CS_REASON_MAPPING_ERROR		"mapping_error"
#define CS_REASON_REJECTED			"rejected"
#define CS_REASON_CONFLICT			"conflict"
#define CS_REASON_UNAVAILABLE		"unavailable"
#define CS_REASON_UNREADABLE		"unreadable_answer"

/* cs_provider_prepare() refuses contacts with more text. */
#define CS_CONTACT_MAX_BYTES	(64 * 1024)

/* Longer keys, of rows or of contacts, do not fit into an index. */
#define CS_KEY_MAX_BYTES		2650

extern const char *cs_contact_field_name(CsField field);

/*
 * Find a field by its name, which need not be zero-terminated; return false if
 * there is none.
 */
extern bool cs_contact_field_by_name(const char *name, size_t len, CsField *field);

/* Return the name of the field that is nearest to what somebody wrote, or NULL. */
extern const char *cs_contact_nearest_field(const char *name);

/* List the names of fields, given as CS_FIELD_BIT()s: "email, external_id, ...". */
extern char *cs_contact_field_list(uint32 fields);

/*
 * Make a contact from a JSON object.  Errors out (22023) if the object has an
 * unknown field, or a value of a wrong type.
 */
extern CsContact *cs_contact_from_jsonb(Jsonb *jsonb);

/*
 * Set a field (NULL: mapped and null), or add an attribute, whose name must be
 * new.  The strings are not copied.
 */
extern void cs_contact_set(CsContact *contact, CsField field, const char *value);
extern void cs_contact_add_attribute(CsContact *contact, const char *name, const char *json);

/* Drop the fields that say neither whose contact it is, nor what of consent. */
extern void cs_contact_keep_consent(CsContact *contact);

/* Is a field absent or null? */
extern bool cs_contact_is_null(const CsContact *contact, CsField field);

/* Does a field have this value? */
extern bool cs_contact_is(const CsContact *contact, CsField field, const char *value);

/*
 * Read a time in ISO 8601, in UTC unless it names an offset.  Return false if it is
 * none.
 */
extern bool cs_contact_parse_time(const char *text, TimestampTz *time);

/* The same in Unix seconds; -1 if it is none, or NULL. */
extern double cs_contact_unix_time(const char *text);

/* What opt_in and status say: CS_CONSENT_... */
extern char cs_contact_consent(const CsContact *contact);

/*
 * What was said last, from what was and what is said.  Null says nothing, so true,
 * null, true is no change.
 */
extern char cs_contact_said(char before, char consent);

/* Was true the last word? */
static inline bool
cs_contact_says_yes(char said)
{
	return said == CS_CONSENT_YES || said == CS_CONSENT_NULLED;
}

/* Find an attribute by its name; return NULL if there is none. */
extern const CsAttribute *cs_contact_attribute(const CsContact *contact, const char *name);

/* Return the bytes of text, which is roughly the size in a request. */
extern size_t cs_contact_size(const CsContact *contact);

/*
 * Compute a digest of what is sent: action, fields, attributes in any order, and
 * the payload options (see CsEndpoint).  The contact must have been normalized by
 * cs_provider_prepare().
 */
extern void cs_contact_digest(const CsContact *contact, uint64 payload, pg_uuid_t *digest);

/* Make a refusal; reason and field are not copied. */
extern CsRefusal *cs_contact_refuse(const char *reason, const char *field,
									const char *fmt,...) cs_attribute_printf(3, 4);

/* Refuse a text that is "." or "..", because it changes the meaning of a URL's path. */
extern CsRefusal *cs_contact_check_path(const char *field, const char *text);

/* Return the length of a UTF-8 text in characters. */
extern size_t cs_contact_text_length(const char *text);

/* Refuse a field that has more characters than "max". */
extern CsRefusal *cs_contact_check_length(const CsContact *contact, CsField field, size_t max);

/* Set a field from a provider's JSON, unless the value is absent or null. */
extern void cs_contact_set_json(CsContact *contact, CsField field, CsJson *value);

/*
 * Add every member of a provider's JSON object as an attribute.  Those that are
 * called names[field] set that field as well.
 */
extern void cs_contact_read_attributes(CsContact *contact, CsJson *object,
									   const char *const *names);

#endif							/* CS_PROVIDER_CONTACT_H */
