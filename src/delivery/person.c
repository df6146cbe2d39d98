/*-------------------------------------------------------------------------
 *
 * person.c
 *		What is known of the consent of the person behind a contact.
 *
 * It belongs to the account at the provider and the address.  A contact can have
 * had another upsert key, or have been sent from another server of the same
 * account, or have gone; or the provider listed it to a pull.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/person.h"
#include "provider/provider.h"
#include "store/remote_contact.h"

static void
add_contact(CsPerson *person, const CsKnown *known)
{
	if (known->synced_at == 0)
		return;					/* nothing was heard of it */
	if (!person->elsewhere)
		person->contact = *known;
	person->elsewhere = true;
	person->contact.claimed |= known->claimed;
	person->contact.opted_out |= known->opted_out;
	person->contact.opt_in_at = Max(person->contact.opt_in_at, known->opt_in_at);
}

void
cs_person_read(const CsConsentScope *scope, const CsEndpoint *endpoint, const char *address,
			   const char *upsert_key, const char *external_id, CsPerson *person)
{
	CsKnown		known;

	memset(person, 0, sizeof(CsPerson));
	if (address == NULL)
		return;
	for (int i = 0; i < scope->nendpoints; i++)
		if (cs_contact_state_read_address(scope->endpoints[i], address, i == 0 ? upsert_key : NULL,
										  &known))
			add_contact(person, &known);
	if (scope->has_consents)
		person->remembered = cs_consent_read(scope, address, &person->memory);
	if (endpoint->provider->build_pull)
		person->listed = cs_remote_contact_find(scope->endpoints[0], address, external_id,
												&person->opted_in_there, &person->opted_out_there);
}
