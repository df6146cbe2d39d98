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
	CS_STATUS,
	CS_TAGS,					/* text of a JSON array, valid JSON */
	CS_TOPICS,					/* text of a JSON array, valid JSON */
	CS_ATTRIBUTES,				/* in CsContact.attributes, not in value[] */
	CS_FIELD_COUNT
} CsField;

#define CS_FIELD_BIT(field)	(UINT32_C(1) << (field))

/* What is to happen to the contact at the provider. */
typedef enum CsAction
{
	CS_UPSERT,
	CS_UNSUBSCRIBE,				/* the source row has gone, on_delete says so */
	CS_DELETE					/* likewise */
} CsAction;

/* A free field: its name, and its value as the text of one JSON value. */
typedef struct CsAttribute
{
	char	   *name;
	char	   *json;			/* "null" for an SQL null; always valid JSON */
} CsAttribute;

/*
 * All text is UTF-8, whatever the database encoding.  A field that is not
 * mapped has no bit in "present"; one that is mapped and null has the bit and
 * a NULL value.
 */
typedef struct CsContact
{
	CsAction	action;
	uint32		present;		/* CS_FIELD_BIT()s */
	char	   *value[CS_FIELD_COUNT];
	int			nattributes;
	CsAttribute *attributes;
	bool		too_large;		/* a value was not even looked at */
	size_t		size;			/* bytes of text, once it is prepared */

	char	   *upsert_key;		/* what the provider matches on; NULL until
								 * cs_provider_prepare() */
	uint64		change_id;		/* of the newest change that this sending is
								 * due to, the same again after a crash */
	int			retries;		/* how often it was sent for that change
								 * already: a batch of the same contacts is
								 * another one then */

	/* what is stored of earlier calls; with previous_key, of that contact */
	char	   *remote_id;		/* the provider's own id, if it told us */
	char	   *previous_key;	/* the upsert key last sent for this source
								 * row, if it was another one */
	bool		previous_shared;	/* another row has that key still: what
									 * became of it is not to be told there */
	char	   *topics;			/* Owlat: those that membership was asked for,
								 * parted by spaces, or NULL */
	bool		opted_out;		/* the provider told us of an opt-out that is
								 * not ours: consent is not claimed again */
	bool		consent_sent;	/* the last delivered value claimed consent
								 * already: a provider that keeps what is left
								 * out is not told again */
	bool		direct;			/* from cs_contact_from_jsonb(), not a watch:
								 * a fault of its fields is only its own */
} CsContact;

/* Why a contact cannot be sent; all strings live in the current context. */
typedef struct CsRefusal
{
	const char *reason;			/* class, one of the CS_REASON_ words */
	char	   *message;		/* a sentence for the user */
	const char *field;			/* canonical field or attribute at fault, or
								 * NULL */
} CsRefusal;

/* Reason classes of failures, as stored in contactsync.failure.reason. */
#define CS_REASON_INVALID_EMAIL		"invalid_email"
#define CS_REASON_MISSING_FIELD		"missing_field"
#define CS_REASON_INVALID_FIELD		"invalid_field"
#define CS_REASON_MAPPING_ERROR		"mapping_error"
#define CS_REASON_REJECTED			"rejected"
#define CS_REASON_CONFLICT			"conflict"
#define CS_REASON_UNAVAILABLE		"unavailable"
#define CS_REASON_UNREADABLE		"unreadable_answer"

/* More text than this in one contact is refused by cs_provider_prepare(). */
#define CS_CONTACT_MAX_BYTES	(64 * 1024)

/* Longer keys, of rows or of contacts, do not fit into an index. */
#define CS_KEY_MAX_BYTES		2650

extern const char *cs_contact_field_name(CsField field);
extern bool cs_contact_field_by_name(const char *name, size_t len, CsField *field);

/* "email, external_id, ..." of these CS_FIELD_BIT()s; palloc'd */
extern char *cs_contact_field_list(uint32 fields);

/*
 * The contact that a JSON object describes, palloc'd.  Ereports (22023) when
 * it names a field that does not exist or gives one a wrong type.
 */
extern CsContact *cs_contact_from_jsonb(Jsonb *jsonb);

/* NULL: mapped and null.  Neither copies what it is given. */
extern void cs_contact_set(CsContact *contact, CsField field, const char *value);
extern void cs_contact_add_attribute(CsContact *contact, const char *name, const char *json);

/* Absent or null. */
extern bool cs_contact_is_null(const CsContact *contact, CsField field);

/* Present, not null, and exactly this. */
extern bool cs_contact_is(const CsContact *contact, CsField field, const char *value);

/* Does it tell the provider that the person wants no mail? */
extern bool cs_contact_withdraws_consent(const CsContact *contact);

/* NULL if it has none of that name. */
extern const CsAttribute *cs_contact_attribute(const CsContact *contact, const char *name);

/* Bytes of text: what it will roughly take in a request. */
extern size_t cs_contact_size(const CsContact *contact);

/*
 * Identifies what would be sent: action, fields and attributes, whatever their
 * order; and "payload", what else the request depends on (CsEndpoint).  Take it
 * after cs_provider_prepare(), which normalises.
 */
extern void cs_contact_digest(const CsContact *contact, uint64 payload, pg_uuid_t *digest);

/* Make a refusal; reason and field are not copied. */
extern CsRefusal *cs_contact_refuse(const char *reason, const char *field,
									const char *fmt,...) cs_attribute_printf(3, 4);

/* Refuse a text that is "." or "..", because it changes the meaning of a URL's path. */
extern CsRefusal *cs_contact_check_path(const char *field, const char *text);

/* Return the length of a UTF-8 text in characters. */
extern size_t cs_contact_text_length(const char *text);

/* Set a field from a provider's JSON, unless the value is absent or null. */
extern void cs_contact_set_json(CsContact *contact, CsField field, CsJson *value);

/*
 * Add every member of a provider's JSON object as an attribute.  Those that are
 * called names[field] set that field as well.
 */
extern void cs_contact_read_attributes(CsContact *contact, CsJson *object,
									   const char *const *names);

#endif							/* CS_PROVIDER_CONTACT_H */
