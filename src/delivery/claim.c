/*-------------------------------------------------------------------------
 *
 * claim.c
 *		Whether a sending may claim a person's consent.
 *
 * Consent is claimed once per word of the person.  A word is a live change that
 * is seen to take opt_in of the address from not true to true, or a newer
 * opt_in_at.  An address that nothing is known of may be claimed if the provider
 * does not know it either.  Nothing else is a word: neither a key that changes, nor
 * a row that is inserted again, nor a watch that is made again, nor an import.
 *
 * A row that is new to its contact turns to true if the contact was last said to be
 * no or null, and no other row says no.  As many rows as said true and leave the
 * contact at the same time are taken for those rows under other keys.  A row that has
 * not been read before need not be new: all rows must have been, or one that did not
 * say true leaves at the same time.
 *
 * An opt-out counts from the answer that shows it: it is not lifted by a word that was
 * queued before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/claim.h"

/* Was opt_in seen to be something else than true? */
static bool
was_not_true(char consent)
{
	return consent == CS_CONSENT_NO || consent == CS_CONSENT_NULL;
}

/*
 * What was said last for the address by contacts that are there, or was withdrawn before.
 * A contact whose first call may be under way was said later than any other.
 */
static char
said_here(const CsClaimFacts *facts, char said)
{
	const CsKnown *other = &facts->person->contact;
	const CsKnown *known = facts->known;
	bool		is_later = known->found && (known->synced_at == 0 || known->synced_at >= other->synced_at);

	if (facts->person->remembered && facts->person->memory.state == CS_MEMORY_SAID_NO)
		said = cs_contact_said(CS_CONSENT_NO, said);
	if (!facts->person->elsewhere)
		return said;
	return is_later ? cs_contact_said(other->opt_in, said) : cs_contact_said(said, other->opt_in);
}

/* The same; what was said of a contact at another address does not count for this one. */
static char
said_of_contacts(const CsClaimFacts *facts)
{
	return said_here(facts, facts->known->found && !facts->moves ? facts->known->opt_in : CS_CONSENT_UNKNOWN);
}

char
cs_claim_said(const CsClaimFacts *facts)
{
	char		said = said_of_contacts(facts);

	return said == CS_CONSENT_UNKNOWN && facts->person->remembered ? facts->person->memory.said : said;
}

/* Did the row stand for the contact already, and was it seen what it says? */
static bool
is_of_contact(const CsClaimFacts *facts)
{
	return facts->row->found && facts->row->opt_in != CS_CONSENT_UNKNOWN &&
		(!facts->known->found || strcmp(facts->row->upsert_key, facts->known->upsert_key) == 0);
}

/* Did contactsync_forget() forget what rows of the address said?  It keeps no times. */
static bool
is_forgotten(const CsPerson *person)
{
	return person->remembered && person->memory.state == CS_MEMORY_CLOSED && person->memory.opt_in_at == 0;
}

/*
 * Was the last word for the address, whichever row said so, no or null?  Of rows that
 * were forgotten it is not known, but for a no that was seen since: null may have been
 * true before.  What rows said that leave a contact with another address concerns that.
 */
static bool
said_not_true(const CsClaimFacts *facts)
{
	char		said = said_of_contacts(facts);

	if (is_forgotten(facts->person))
		return facts->others.left_no && !facts->moves;
	if (said != CS_CONSENT_UNKNOWN)
		return was_not_true(said) && (facts->rows_known || facts->others.left_not_true);
	return facts->others.left_not_true && !facts->moves;
}

bool
cs_claim_asks_others(const CsClaimFacts *facts)
{
	char		said = said_of_contacts(facts);

	if (!facts->live || facts->word || facts->consent != CS_CONSENT_YES || facts->row == NULL ||
		is_of_contact(facts))
		return false;
	if (facts->row->found && cs_contact_says_yes(facts->row->opt_in))
		return false;
	return said == CS_CONSENT_UNKNOWN || was_not_true(said);
}

/* Does contactsync_upsert(), whose contact stands until it is forgotten, say no? */
static bool
says_no_by_upsert(const CsClaimFacts *facts)
{
	return (facts->known->direct_no || (facts->person->elsewhere && facts->person->contact.direct_no)) &&
		was_not_true(said_of_contacts(facts));
}

bool
cs_claim_asks_for_all(const CsClaimFacts *facts)
{
	return facts->all && facts->consent == CS_CONSENT_YES && !cs_claim_asks_others(facts) &&
		!cs_claim_stands(facts) && !cs_claim_is_closed(facts);
}

/*
 * Does the row, or the contact of contactsync_upsert(), turn to true?  Null says
 * nothing, so a row that takes it back says nothing new if another row had said yes.
 */
static bool
turns_true(const CsClaimFacts *facts)
{
	if (!facts->live)
		return false;
	if (facts->row == NULL)
		return was_not_true(cs_claim_said(facts));
	if (facts->word)
		return true;
	if (!is_of_contact(facts))
		return cs_claim_asks_others(facts) && said_not_true(facts) &&
			!facts->others.say_no && !facts->others.is_renamed && !says_no_by_upsert(facts);
	if (facts->row->opt_in == CS_CONSENT_NULL)
		return !cs_contact_says_yes(cs_claim_said(facts));
	if (facts->row->opt_in == CS_CONSENT_NULLED)
		return was_not_true(cs_claim_said(facts));
	return facts->row->opt_in == CS_CONSENT_NO;
}

/* Has another row, or contactsync_upsert(), withdrawn what this one says? */
static bool
another_withdrew(const CsClaimFacts *facts)
{
	return cs_claim_said(facts) == CS_CONSENT_NO &&
		!(facts->row && facts->row->found && facts->row->opt_in == CS_CONSENT_NO);
}

/* Is anything known of the person?  A contact whose first call may be under way is
 * not one that the provider had, and one that inherited its claim is of the address
 * that it leaves. */
bool
cs_claim_is_remembered(const CsClaimFacts *facts)
{
	return (facts->known->synced_at != 0 && !facts->moves_on) ||
		facts->person->elsewhere || facts->person->remembered;
}

/*
 * The person's last known word, or else when the contact was last synced; or rather when
 * its row was read for that, since a word that came later was not sent with it.
 */
static TimestampTz
last_word(const CsClaimFacts *facts)
{
	const CsPerson *person = facts->person;
	bool		other = facts->moves && (person->elsewhere || person->remembered);
	TimestampTz synced_at = facts->known->synced_at;
	TimestampTz at = other ? 0 : facts->known->opt_in_at;

	if (person->elsewhere)
		at = Max(at, person->contact.opt_in_at);
	if (person->remembered)
		at = Max(at, person->memory.opt_in_at);
	if (facts->read_at != 0)
		synced_at = Min(synced_at, facts->read_at);
	if (at == 0)
		at = Max(other ? 0 : synced_at, person->elsewhere ? person->contact.synced_at : 0);
	return at;
}

/* Where no time is known nothing is newer: what was forgotten stays closed. */
static bool
is_newer_word(const CsClaimFacts *facts)
{
	TimestampTz last = last_word(facts);

	return facts->opt_in_at != 0 && last != 0 && facts->opt_in_at > last;
}

/* Does the row, or contactsync_upsert(), say no, and did not before? */
static bool
is_new_no(const CsClaimFacts *facts)
{
	return facts->live && facts->consent == CS_CONSENT_NO &&
		!(facts->row && is_of_contact(facts) && facts->row->opt_in == CS_CONSENT_NO);
}

/* What a row keeps saying is as old as it was, whenever the row is sent. */
TimestampTz
cs_claim_word_at(const CsClaimFacts *facts, CsClaim claim)
{
	TimestampTz last = last_word(facts);

	if (!facts->has_times || is_newer_word(facts))
		return facts->opt_in_at;
	if (claim == CS_CLAIM || is_new_no(facts))
		return Max(facts->opt_in_at, facts->queued_at);
	if (last != 0)
		return last;
	return facts->opt_in_at ? facts->opt_in_at : facts->queued_at;
}

/*
 * Was consent withdrawn since, of which only the address remembers that it was claimed?
 * If the call of a word that came after it has no answer, it is not known that it was
 * claimed again.
 */
static bool
is_withdrawn(const CsClaimFacts *facts)
{
	const CsKnown *known = facts->known;
	bool		in_doubt = !known->has_digest && known->opt_in == CS_CONSENT_YES;

	return known->synced_at != 0 && !facts->moves && !known->claimed &&
		(known->opt_in == CS_CONSENT_NO || known->held || in_doubt);
}

bool
cs_claim_stands(const CsClaimFacts *facts)
{
	const CsPerson *person = facts->person;

	return (facts->known->claimed && !facts->moves_on) || (person->elsewhere && person->contact.claimed) ||
		(person->remembered && person->memory.state == CS_MEMORY_CLAIMED && !is_withdrawn(facts));
}

/* Did the person of the contact, at the address that it gets, opt out? */
static bool
is_opted_out(const CsClaimFacts *facts)
{
	return facts->known->opted_out && !facts->leaves_opt_out;
}

bool
cs_claim_is_closed(const CsClaimFacts *facts)
{
	const CsPerson *person = facts->person;

	return is_opted_out(facts) || (person->elsewhere && person->contact.opted_out) ||
		(person->remembered && cs_consent_is_closed(&person->memory)) ||
		(person->listed.opted_out && facts->known->synced_at == 0);
}

bool
cs_claim_is_refused(const CsClaimFacts *facts)
{
	const CsPerson *person = facts->person;

	return person->remembered && person->memory.state == CS_MEMORY_SAID_NO && !is_opted_out(facts) &&
		!(person->elsewhere && person->contact.opted_out) && !person->listed.opted_out;
}

/* Has an answer told of an opt-out since the row changed last? */
static bool
is_before_opt_out(const CsClaimFacts *facts)
{
	const CsPerson *person = facts->person;

	return (is_opted_out(facts) && facts->known->opted_out_at > facts->queued_at) ||
		(person->elsewhere && person->contact.opted_out && person->contact.opted_out_at > facts->queued_at);
}

/* What contactsync_mark_stale() says the provider has lost is claimed again. */
CsClaim
cs_claim_decide(const CsClaimFacts *facts)
{
	if (facts->consent != CS_CONSENT_YES)
		return CS_CLAIM_NOT;
	if ((turns_true(facts) && !is_before_opt_out(facts)) || (cs_claim_is_remembered(facts) && is_newer_word(facts)))
		return CS_CLAIM;
	if (cs_claim_is_closed(facts))
		return CS_CLAIM_NOT;
	if (facts->known->claim_again && !another_withdrew(facts))
		return CS_CLAIM;
	if (cs_claim_stands(facts))
		return CS_CLAIM_NOT;
	if (facts->all && !another_withdrew(facts) && !facts->others.say_no)
		return CS_CLAIM;
	return cs_claim_is_remembered(facts) ? CS_CLAIM_NOT : CS_CLAIM_IF_NEW;
}
