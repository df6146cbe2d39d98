/*-------------------------------------------------------------------------
 *
 * remote_contact.h
 *		contactsync.remote_contact: contacts as the provider has them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_REMOTE_CONTACT_H
#define CS_STORE_REMOTE_CONTACT_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "provider/endpoint.h"
#include "provider/provider.h"
#include "store/contact_state.h"
#include "store/source_row.h"

/* Whether a pull listed a contact. */
typedef struct CsListed
{
	bool		found;
	bool		address;		/* ... by the address */
	char	   *other_address;	/* of a contact with the ID, or NULL */
	bool		opted_in;		/* by one of the contacts that were found */
	bool		opted_out;
} CsListed;

/*
 * Find out whether a pull listed the addresses, or the IDs; either may be NULL.
 * Texts are in the database's encoding.  Needs a transaction.
 */
extern void cs_remote_contact_find(int endpoint_id, int n, char **emails, char **external_ids,
								   CsListed *listed);

/*
 * All below need the scope of cs_sql_enter().  A page is a JSON array in UTF-8 of
 * objects whose members have the names of the columns; pulled_at identifies the pull.
 */
extern void cs_remote_contact_store(int endpoint_id, const char *page, TimestampTz pulled_at);
extern bool cs_remote_contact_lock(int endpoint_id);
extern int64 cs_remote_contact_count(int endpoint_id, TimestampTz pulled_at);

/* Return the time of the newest change so far, minus some overlap, as ISO 8601 in UTC; NULL: none. */
extern char *cs_remote_contact_since(int endpoint_id);

/*
 * Make such a page of what the provider answered, in an empty buffer.  Return
 * false if the answer has another form.  Needs no transaction.
 */
extern bool cs_remote_contact_read_page(const CsEndpoint *endpoint, const CsPull *pull,
										CsJson *doc, CsPullPage *pulled, StringInfo page);

/* A pull has brought all contacts.  Return true if that is the first time. */
extern bool cs_remote_contact_complete(int endpoint_id, TimestampTz pulled_at);
extern void cs_remote_contact_advance(int endpoint_id, TimestampTz pulled_at);

/*
 * Mark contacts that we sent as opted out where that pull found them so.  "ahead":
 * how many seconds the provider's clock is ahead of ours.
 */
extern int64 cs_remote_contact_learn(int endpoint_id, TimestampTz pulled_at, double ahead);

#endif							/* CS_STORE_REMOTE_CONTACT_H */
