/*-------------------------------------------------------------------------
 *
 * contact_state.h
 *		contactsync.contact: what the provider has of every contact.
 *
 * One row per endpoint and upsert key.  Source rows come and go, take other keys
 * and share contacts; what the provider has, and what was claimed of a person's
 * consent, stays with the contact.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_CONTACT_STATE_H
#define CS_STORE_CONTACT_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/uuid.h"

#include "provider/contact.h"
#include "store/row_state.h"

/* What is known of a contact; texts of ours in the database's encoding. */
typedef struct CsKnown
{
	bool		found;
	ItemPointerData tid;		/* where its row is; it may be elsewhere by
								 * the time that it is stored */
	bool		has_digest;		/* false: what the provider has is not known */
	pg_uuid_t	digest;
	char		action;			/* 'u' upserted, 'n' unsubscribed, 'd' perhaps
								 * deleted */
	TimestampTz synced_at;		/* 0: a first call may be under way */
	TimestampTz spoke_at;		/* when the row that was sent last said so: it
								 * may have been sent again since */
	TimestampTz changed_at;		/* when that row changed, if others may stand
								 * for the contact; or 0 */
	char	   *upsert_key;
	char	   *email;			/* NULL: it is the upsert key */
	int			watch;			/* the row that was sent last; 0: of
								 * contactsync_upsert() */
	char	   *key;			/* or NULL */
	char		opt_in;			/* CS_CONSENT_..., that it was sent with */
	char		left_opt_in;	/* '\0', or that of its address, if it may
								 * have left that: opt_in is of the other one */
	TimestampTz opt_in_at;		/* the person's last word, where it is mapped */
	bool		claimed;		/* consent was claimed, and stands as far as
								 * we know */
	bool		claim_again;	/* ... and may be claimed again */
	bool		is_stale;		/* whether the provider has it is not trusted */
	bool		opted_out;		/* the person opted out at the provider */
	TimestampTz opted_out_at;	/* ... as an answer told then; or 0 */
	bool		held;			/* a claim was held back */
	bool		inherited;		/* the claim was another contact's, which had
								 * the address before */
	bool		direct;			/* contactsync_upsert() made it */
	bool		direct_no;		/* ... and said false or null last */
	uint64		yes_left;		/* 0, or the transaction that stored that a
								 * row which said true has gone since consent
								 * was refused */
	char	   *remote_id;		/* UTF-8, like the next */
	char	   *topics;
	bytea	   *fields;			/* hashes of what it was last sent with, or
								 * NULL; see provider/field_hash.h */
	char	   *twin;			/* the contact that it may have become, or the
								 * one that may have become it, by a call that
								 * was not answered; or NULL */
} CsKnown;

/* A contact as the provider has it now. */
typedef struct CsContactStored
{
	const CsContact *contact;
	ItemPointerData tid;		/* where it was found, or not valid */
	const char *upsert_key;		/* in the database's encoding, as is all text
								 * of ours; the provider's texts are UTF-8 */
	int			watch;
	const char *key;
	pg_uuid_t	digest;
	TimestampTz spoke_at;		/* when the row said so, if it is sent again,
								 * or 0 */
	TimestampTz changed_at;		/* when it changed, if others may stand for
								 * the contact, or 0 */
	char		opt_in;
	bool		claimed;
	bool		opted_out;
	bool		left;			/* ... as this answer told, and not we did */
	bool		only_consent;	/* what else the provider has stays */
	bool		has_others_digest;	/* ... and is known */
	bool		held;
	bool		inherited;
	const char *remote_id;
	const char *remote_status;
	const char *remote_updated_at;	/* as the provider writes it */
	const char *topics;
	const char *note;
	bytea	   *fields;			/* hashes of its fields, or NULL */
} CsContactStored;

/* What is about to be sent, stored before it can be. */
typedef struct CsContactIntent
{
	const char *upsert_key;
	const char *email;			/* NULL: it is the upsert key */
	int			watch;
	const char *key;
	char		opt_in;			/* what is said, of a contact that is not
								 * known */
	bool		upserts;		/* rather than removes */
	bool		deletes;
	bool		withdraws;		/* a row says no */
	TimestampTz withdrawn_at;	/* ... since then; 0: it is not known */
	bool		ends_claim;		/* ... and consent that was claimed is over */
	bool		leaves_address; /* what is said is of another address than the
								 * contact has */
	bool		claims;			/* consent is claimed by a word */
	bool		direct_no;		/* contactsync_upsert() says false or null */
	const char *moved_from;		/* the contact that is to become this one, or
								 * NULL */
} CsContactIntent;

/*
 * All need a transaction.  known[i] is for upsert_keys[i], palloc'd in the
 * current context; a NULL key is not found.
 */
extern void cs_contact_state_read(int endpoint, int n, char **upsert_keys, CsKnown *known);

/*
 * The contacts of those addresses at an endpoint, whatever they are keyed by, other
 * than the one with the upsert key but[i]; "but" is NULL to leave out none.  If an
 * address has several, what they know of consent is taken together.  emails[i] may
 * be NULL.
 */
extern void cs_contact_state_read_addresses(int endpoint, int n, char **emails, char **but,
											CsKnown *known);

/* The contact does not leave its address: what was said last is what was said at that. */
extern void cs_contact_state_stays(CsKnown *known);

/* Store contacts as the provider has them; no key is there twice. */
extern void cs_contact_state_store(int endpoint, int n, const CsContactStored *stored);

/*
 * Store that calls about these contacts may change them: what the provider has is
 * not known until their outcome is.  A contact that is not known is made.
 */
extern void cs_contact_state_intend(int endpoint, int n, const CsContactIntent *intents);

/* What the provider has of these contacts is not known any more. */
extern void cs_contact_state_invalidate(int endpoint, int n, char **upsert_keys);

/* Rows that said true of these contacts, which were last said not to, have gone. */
extern void cs_contact_state_note_yes_left(int endpoint, int n, char **upsert_keys);

/* Another row, which says the same, speaks for the contact from now on. */
extern void cs_contact_state_set_speaker(int endpoint, const char *upsert_key, int watch,
										 const char *key);

/* Remove the contacts, of which nobody is left and the provider has none. */
extern void cs_contact_state_remove(int endpoint, int n, char **upsert_keys);

#endif							/* CS_STORE_CONTACT_STATE_H */
