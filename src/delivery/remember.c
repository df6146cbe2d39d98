/*-------------------------------------------------------------------------
 *
 * remember.c
 *		What an address remembers of a person's consent.
 *
 * Contacts get other addresses, and are removed; consent belongs to the address, which
 * remembers it from then on.  Where no time is known, what comes later is newer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/text.h"
#include "delivery/remember.h"

static const char *
address_of(const CsContact *contact)
{
	return contact->value[CS_EMAIL] ? cs_text_from_utf8(contact->value[CS_EMAIL]) : NULL;
}

CsConsent
cs_remember_left(const char *address, const CsKnown *known)
{
	char		said = known->left_opt_in ? known->left_opt_in : known->opt_in;
	CsConsent	consent = {.address = address,.said = said};

	if (said == CS_CONSENT_NO)
		consent.state = CS_MEMORY_SAID_NO;
	else if (known->opted_out)
		consent.state = CS_MEMORY_CLOSED;
	else if (known->claimed)
		consent.state = CS_MEMORY_CLAIMED;
	else if (cs_contact_says_yes(said))
		consent.state = CS_MEMORY_HELD;
	consent.opt_in_at = known->opt_in_at ? known->opt_in_at : known->synced_at;
	return consent;
}

/*
 * If we deleted the contact, whatever the provider knew of an opt-out may have gone with
 * it, so that it does not prove anything later that the provider does not know the
 * address.
 */
static char
state_of_removed(const CsChange *change)
{
	const CsContact *contact = change->contact;

	if (change->contact_opt_in == CS_CONSENT_NO)
		return CS_MEMORY_SAID_NO;
	if (contact->action == CS_DELETE && !contact->claimed)
		return CS_MEMORY_CLOSED;
	if (contact->opted_out || contact->action == CS_UNSUBSCRIBE)
		return CS_MEMORY_CLOSED;
	return contact->claimed ? CS_MEMORY_CLAIMED :
		cs_contact_says_yes(change->contact_opt_in) ? CS_MEMORY_HELD : '\0';
}

/* Of who is forgotten, no time is kept. */
CsConsent
cs_remember_removed(const CsChange *change)
{
	CsConsent	consent = {.address = address_of(change->contact),.state = state_of_removed(change)};

	consent.said = change->removal_erases ? CS_CONSENT_UNKNOWN : change->contact_opt_in;
	consent.opt_in_at = change->contact->opt_in_at;
	if (consent.opt_in_at == 0 && !change->removal_erases)
		consent.opt_in_at = GetCurrentTimestamp();
	return consent;
}

/* No contact of the address remembers that a row said no, so the address does. */
CsConsent
cs_remember_withheld(const CsContact *contact)
{
	CsConsent	consent = cs_remember_word(contact);

	if (contact->refused_address)
		consent.address = cs_text_from_utf8(contact->refused_address);
	consent.state = contact->consent == CS_CONSENT_NO && consent.address ? CS_MEMORY_SAID_NO : '\0';
	consent.said = CS_CONSENT_NO;
	return consent;
}

CsConsent
cs_remember_word(const CsContact *contact)
{
	CsConsent	consent = {.address = address_of(contact),.state = CS_MEMORY_CLAIMED,.said = CS_CONSENT_YES};

	consent.opt_in_at = contact->opt_in_at ? contact->opt_in_at : GetCurrentTimestamp();
	return consent;
}

const char *
cs_remember_former_key(const CsChange *change, const CsOutcome *outcome)
{
	const char *id = outcome->remote_id ? outcome->remote_id : change->contact->remote_id;

	if (outcome->moved && change->previous_key)
		return change->previous_key;
	/* to unsubscribe a contact does not tell its address */
	if (change->contact->action == CS_UNSUBSCRIBE || change->twin_id == NULL || id == NULL)
		return NULL;
	return strcmp(change->twin_id, id) == 0 ? change->twin_key : NULL;
}
