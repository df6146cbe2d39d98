/*-------------------------------------------------------------------------
 *
 * consent.h
 *		contactsync.consent: what is remembered of a person's consent when the
 *		contact has gone.
 *
 * It belongs to an account at the provider and an address, and outlives rows,
 * keys, watches, servers, dumps and contactsync_forget().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_CONSENT_H
#define CS_STORE_CONSENT_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* What is remembered; the first wins over the others. */
#define CS_MEMORY_CLOSED	'o' /* opted out, unsubscribed, or forgotten */
#define CS_MEMORY_SAID_NO	'n' /* withdrawn: a row that says yes is a word */
#define CS_MEMORY_CLAIMED	'c'
#define CS_MEMORY_HELD		'h' /* said yes, and was not claimed */

typedef struct CsConsent
{
	const char *address;		/* in the database's encoding */
	char		state;
	char		said;			/* CS_CONSENT_..., as it was said last */
	TimestampTz opt_in_at;		/* 0: not known */
	uint64		yes_left;		/* 0, or the transaction that stored that a
								 * row which said true has gone since one said
								 * no */
} CsConsent;

/* Is consent closed, so that only a word opens it again? */
static inline bool
cs_consent_is_closed(const CsConsent *consent)
{
	return consent->state == CS_MEMORY_CLOSED || consent->state == CS_MEMORY_SAID_NO;
}

/* Whose memory counts for an endpoint. */
typedef struct CsConsentScope
{
	int			account;		/* contactsync.account.id; 0: not known yet */
	int			naccounts;
	int		   *accounts;		/* the same account, of roles that share */
	int			nendpoints;
	int		   *endpoints;		/* of these accounts, this one first */
	bool		has_consents;	/* something is remembered for one of them */
} CsConsentScope;

/*
 * All need a transaction and, except for cs_consent_read(), the scope of
 * cs_sql_enter().
 */

/* Load the scope of an endpoint; arrays are palloc'd in the current context.
 * "account" is what cs_consent_set_account() returned, or 0: as stored. */
extern void cs_consent_load_scope(int endpoint, int account, CsConsentScope *scope);

/* Make the key of the hashes if it is not there; for cs_try(). */
extern void cs_consent_make_key(void *arg);

/* Remember what all contacts of an endpoint know, before they are deleted. */
extern void cs_consent_remember_endpoint(int endpoint);

/*
 * Remember of contacts, and of an address at some endpoints, that consent is closed
 * and nothing else; or, unless "suppression", nothing at all.  int4[] and text[],
 * one by one, of the contacts; int4[] and text of the address, or ''.  With a role,
 * accounts that it has no endpoint of any more are included.
 */
extern void cs_consent_forget(Datum contact_endpoints, Datum upsert_keys, Datum endpoints, Datum address,
							  Oid roleid, bool suppression);

/* Return which account an endpoint is, and store it, unless somebody has locked the
 * endpoint; "name" is NULL to keep the name it has, if it is at that provider and URL,
 * or else "otherwise". */
extern int	cs_consent_set_account(int endpoint, const char *provider, const char *base_url,
								   const char *name, const char *otherwise, Oid roleid);

/* What is remembered of addresses, which may be NULL; the state is '\0' where nothing is. */
extern void cs_consent_read(const CsConsentScope *scope, int n, char **addresses, CsConsent *consents);

/* The persons gave consent after it was closed. */
extern void cs_consent_reopen(const CsConsentScope *scope, int n, const CsConsent *consents);

/*
 * Hash addresses as contactsync.consent_hash() does; a Datum of 0 for NULL.  Within
 * cs_sql_enter(); palloc'd in the current context.
 */
extern void cs_consent_hash_addresses(int n, char **addresses, Datum *hashes);

/* A number that only the owner of the extension can know, from the same key.  Needs a
 * transaction. */
extern uint64 cs_consent_secret(void);

extern void cs_consent_remember(int account, int n, const CsConsent *consents);

/* Rows that said true of these addresses, of which others said no, have gone. */
extern void cs_consent_note_yes_left(int account, int n, char **addresses);

#endif							/* CS_STORE_CONSENT_H */
