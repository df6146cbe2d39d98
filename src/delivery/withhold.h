/*-------------------------------------------------------------------------
 *
 * withhold.h
 *		What a provider is not to have, because it would mail people.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_WITHHOLD_H
#define CS_DELIVERY_WITHHOLD_H

#include "postgres.h"

#include "delivery/change.h"
#include "delivery/person.h"

/*
 * Is the contact not to be created, because the provider would mail somebody who did
 * not consent, or somebody again without a word?
 */
extern bool cs_withhold_applies(const CsEndpoint *endpoint, const CsContact *contact);

/* Is it updated where it exists, without being created? */
extern bool cs_withhold_updates(const CsEndpoint *endpoint, const CsContact *contact);

/* May a call that was not answered have created it, and can that be made good? */
extern bool cs_withhold_may_be_there(const CsEndpoint *endpoint, const CsChange *change,
									 const CsKnown *known);

/*
 * Have the contact of a change keep the address that the provider has, if it would be
 * mailed at the new one and nobody consented to that; so it leaves none.  "refused":
 * another row says no for the new one at the same time.
 */
extern void cs_withhold_address(const CsEndpoint *endpoint, CsChange *change,
								const CsKnown *known, const CsPerson *person, bool refused);

/*
 * What is sent of the row is only that it says no: have the contact keep the address that
 * another row gave it since.  That the row said no for its own is remembered there.
 */
extern void cs_withhold_other_address(CsChange *change, const CsKnown *known);

/*
 * Where a contact takes its consent along to another address, have it taken back unless
 * the row says true, and nobody is known to have said no there, nor another row says so.
 * Whoever is mailed without consent, too, keeps the address instead, see above.
 */
extern void cs_withhold_consent(const CsEndpoint *endpoint, CsContact *contact, const CsKnown *known,
								const CsPerson *person, bool refused);

#endif							/* CS_DELIVERY_WITHHOLD_H */
