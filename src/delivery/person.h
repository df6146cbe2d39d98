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
#include "store/remote_contact.h"

/* Beside what the contact itself knows. */
typedef struct CsPerson
{
	bool		elsewhere;		/* another contact of the address is known */
	CsKnown		contact;		/* ... and what it knows of consent */
	bool		remembered;		/* the address is, its contact has gone */
	CsConsent	memory;
	CsKnown		alias;			/* another contact of the address at this
								 * endpoint, the one sent last; where an
								 * address has one contact there, it is this */
	CsListed	listed;			/* by a pull, the address or the ID */
} CsPerson;

/*
 * Find all that is known of the persons of contacts, which may be NULL; of contacts
 * of the endpoint itself, others than that of the upsert key, which is in the
 * database's encoding.  Needs a transaction.
 */
extern void cs_person_read(const CsConsentScope *scope, const CsEndpoint *endpoint, int n,
						   CsContact **contacts, char **upsert_keys, CsPerson *people);

#endif							/* CS_DELIVERY_PERSON_H */
