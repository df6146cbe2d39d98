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

#include "base/text.h"
#include "delivery/person.h"
#include "provider/provider.h"

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
	person->contact.opted_out_at = Max(person->contact.opted_out_at, known->opted_out_at);
	person->contact.opt_in_at = Max(person->contact.opt_in_at, known->opt_in_at);
}

/* Return a field of the contacts in the database's encoding; NULL where there is none. */
static char **
texts_of(int n, CsContact **contacts, CsField field)
{
	char	  **texts = palloc0(n * sizeof(char *));

	for (int i = 0; i < n; i++)
		if (contacts[i] && contacts[i]->value[CS_EMAIL] && contacts[i]->value[field])
			texts[i] = cs_text_from_utf8(contacts[i]->value[field]);
	return texts;
}

void
cs_person_read(const CsConsentScope *scope, const CsEndpoint *endpoint, int n,
			   CsContact **contacts, char **upsert_keys, CsPerson *people)
{
	char	  **addresses = texts_of(n, contacts, CS_EMAIL);
	CsKnown    *known = palloc(n * sizeof(CsKnown));

	memset(people, 0, n * sizeof(CsPerson));
	for (int i = 0; i < scope->nendpoints; i++)
	{
		cs_contact_state_read_addresses(scope->endpoints[i], n, addresses, i == 0 ? upsert_keys : NULL, known);
		for (int j = 0; j < n; j++)
		{
			if (known[j].found)
				add_contact(&people[j], &known[j]);
			if (i == 0)
				people[j].alias = known[j];
		}
	}
	if (scope->has_consents)
	{
		CsConsent  *memories = palloc(n * sizeof(CsConsent));

		cs_consent_read(scope, n, addresses, memories);
		for (int i = 0; i < n; i++)
		{
			people[i].memory = memories[i];
			people[i].remembered = memories[i].state != '\0';
		}
	}
	if (endpoint->provider->build_pull)
	{
		CsListed   *listed = palloc(n * sizeof(CsListed));

		cs_remote_contact_find(scope->endpoints[0], n, addresses,
							   texts_of(n, contacts, CS_EXTERNAL_ID), listed);
		for (int i = 0; i < n; i++)
			people[i].listed = listed[i];
	}
}
