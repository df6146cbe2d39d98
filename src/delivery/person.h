/*-------------------------------------------------------------------------
 *
 * person.h
 *		What is known of the consent of the person behind a contact.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_PERSON_H
#define CS_DELIVERY_PERSON_H

#include "postgres.h"

#include "provider/endpoint.h"
#include "store/consent.h"
#include "store/contact_state.h"

/* Beside what the contact itself knows. */
typedef struct CsPerson
{
	bool		elsewhere;		/* another contact of the address is known */
	CsKnown		contact;		/* ... and what it knows of consent */
	bool		remembered;		/* the address is, its contact has gone */
	CsConsent	memory;
	bool		listed;			/* a pull listed the address or id */
	bool		opted_out_there;	/* ... as opted out */
	bool		opted_in_there; /* ... as opted in */
} CsPerson;

/*
 * Find all that is known of an address, which may be NULL; of contacts of the
 * endpoint itself, others than that of "upsert_key".  Texts are in the database's
 * encoding.  Needs a transaction.
 */
extern void cs_person_read(const CsConsentScope *scope, const CsEndpoint *endpoint,
						   const char *address, const char *upsert_key, const char *external_id,
						   CsPerson *person);

#endif							/* CS_DELIVERY_PERSON_H */
