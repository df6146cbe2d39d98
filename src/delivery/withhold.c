/*-------------------------------------------------------------------------
 *
 * withhold.c
 *		What a provider is not to have, because it would mail people.
 *
 * Where creating a contact is enough to have it mailed, a contact that nobody
 * consented to is not created.  Where such a contact is found by an ID, its address
 * is withheld likewise, since consent belongs to the address: a contact whose
 * address changes keeps the one that the provider has until there is a consent for
 * the new one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/text.h"
#include "delivery/withhold.h"
#include "provider/provider.h"
#include "store/contact_known.h"

bool
cs_withhold_applies(const CsEndpoint *endpoint, const CsContact *contact)
{
	if (cs_provider_mails_whoever_exists(endpoint) == NULL || contact->known)
		return false;
	return contact->consent == CS_CONSENT_NO || contact->consent == CS_CONSENT_NULL ||
		(contact->claim == CS_CLAIM_NOT && (contact->opted_out || contact->claimed));
}

bool
cs_withhold_updates(const CsEndpoint *endpoint, const CsContact *contact)
{
	return endpoint->provider->updates_withheld && endpoint->provider->updates_withheld(endpoint, contact);
}

bool
cs_withhold_may_be_there(const CsEndpoint *endpoint, const CsChange *change, const CsKnown *known)
{
	return (endpoint->provider->abilities & CS_CAN_UNSUBSCRIBE) != 0 &&
		(change->unconfirmed || (known->found && (known->synced_at == 0 || known->action == 'd')));
}

/* Is a contact, which is found by an ID, to be mailed at another address than before? */
static bool
is_other_address(const CsEndpoint *endpoint, const CsContact *contact, const CsKnown *known)
{
	return cs_provider_mails_whoever_exists(endpoint) && contact->action == CS_UPSERT &&
		known->synced_at != 0 && cs_contact_known_is_moving(known, contact);
}

/* Is it remembered that the person of the address said no? */
static bool
is_closed(const CsPerson *person)
{
	return (person->elsewhere && (person->contact.opted_out ||
								  (person->contact.opt_in == CS_CONSENT_NO && !person->contact.claimed))) ||
		(person->remembered && cs_consent_is_closed(&person->memory));
}

/* Have the contact keep its address, or opt out first, unless somebody consented to the new one. */
static void
keep_address(const CsEndpoint *endpoint, CsContact *contact, const CsKnown *known,
			 const CsPerson *person, bool refused)
{
	if (contact->claim == CS_CLAIM ||
		(contact->consent == CS_CONSENT_YES && !refused && !is_closed(person)))
		return;
	if (contact->consent == CS_CONSENT_NO && endpoint->provider->records_opt_outs &&
		endpoint->provider->records_opt_outs(endpoint))
	{
		/*
		 * whoever has opted out is not mailed, at whatever address; that it
		 * was recorded before does not mean that it still is
		 */
		contact->opts_out_first = true;
		return;
	}
	contact->refused_address = contact->value[CS_EMAIL];
	contact->value[CS_EMAIL] = known->email ? cs_text_to_utf8(known->email, strlen(known->email)) : NULL;
	if (known->email == NULL)
		contact->present &= ~CS_FIELD_BIT(CS_EMAIL);
	contact->keeps_address = true;
}

void
cs_withhold_address(const CsEndpoint *endpoint, CsChange *change, const CsKnown *known,
					const CsPerson *person, bool refused)
{
	CsContact  *contact = change->contact;

	if (!contact->known || contact->previous_key || !is_other_address(endpoint, contact, known))
		return;
	keep_address(endpoint, contact, known, person, refused);
	if (!contact->keeps_address)
		return;
	contact->omits_address = !known->has_digest || change->unconfirmed || change->attempts > 0;
	/* what is known of the other address does not concern this one */
	contact->claimed = known->claimed;
	contact->opted_out = known->opted_out;
	contact->leaves_opt_out = false;
	contact->opt_in_at = 0;
	change->contact_opt_in = known->opt_in;
	memset(&change->left, 0, sizeof(CsConsent));
}

void
cs_withhold_other_address(CsChange *change, const CsKnown *known)
{
	CsContact  *contact = change->contact;

	if (known->email == NULL || contact->value[CS_EMAIL] == NULL ||
		strcmp(known->email, cs_text_from_utf8(contact->value[CS_EMAIL])) == 0)
		return;
	contact->refused_address = contact->value[CS_EMAIL];
	contact->value[CS_EMAIL] = cs_text_to_utf8(known->email, strlen(known->email));
	memset(&change->left, 0, sizeof(CsConsent));
}

void
cs_withhold_consent(const CsEndpoint *endpoint, CsContact *contact, const CsKnown *known,
					const CsPerson *person, bool refused)
{
	if (cs_provider_mails_whoever_exists(endpoint) != NULL || contact->action != CS_UPSERT ||
		known->synced_at == 0 || !cs_contact_known_is_moving(known, contact))
		return;
	contact->drops_consent = contact->claim != CS_CLAIM &&
		(contact->consent == CS_CONSENT_NULL ||
		 (contact->consent == CS_CONSENT_YES && (refused || is_closed(person))));
}
