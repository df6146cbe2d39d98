/*-------------------------------------------------------------------------
 *
 * known.c
 *		What is known of a contact that may be sent, and of its person's consent.
 *
 * claim.c has the rules of consent.  This file gathers the facts that they are
 * about, and puts into the contact what the provider's adapter goes by.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "common/hashfn.h"

#include "base/clock.h"
#include "base/text.h"
#include "delivery/account.h"
#include "delivery/change_add.h"
#include "delivery/claim.h"
#include "delivery/known.h"
#include "delivery/opposite.h"
#include "delivery/pull.h"
#include "delivery/remaining.h"
#include "delivery/remember.h"
#include "provider/email.h"
#include "provider/provider.h"
#include "store/contact_known.h"
#include "store/refused_address.h"
#include "store/row_state.h"

bool
cs_known_has_left(const CsItem *item)
{
	return item->row.found && item->upsert_key && strcmp(item->row.upsert_key, item->upsert_key) != 0;
}

int64
cs_known_address(const CsContact *contact)
{
	return contact->value[CS_EMAIL] ? cs_refused_address_hash(cs_text_from_utf8(contact->value[CS_EMAIL])) : 0;
}

void
cs_known_check_word(CsItem *item)
{
	CsChange   *change = item->change;
	bool		was_word = (change->origins & CS_ORIGIN_WORD) != 0;
	int64		address = was_word || item->row.word_address != 0 ? cs_known_address(item->contact) : 0;

	if (was_word && change->word_address != address)
		change->origins &= ~CS_ORIGIN_WORD;
	if (item->row.word_address != 0 && item->row.word_address != address)
		item->row.opt_in = CS_CONSENT_UNKNOWN;
}

bool
cs_known_was_refused(const CsItem *item)
{
	bool		said_not_true = item->known.found &&
	(item->known.opt_in == CS_CONSENT_NO || item->known.opt_in == CS_CONSENT_NULL);

	return item->row.found && cs_contact_says_yes(item->row.opt_in) && (said_not_true || item->row.withheld);
}

/* How long a word waits for rows to be read (us): one that waits for a call itself can take long. */
#define UNREAD_LIMIT	(10 * 60 * USECS_PER_SEC)

static bool
claims_all(const CsChange *change)
{
	return (change->origins & CS_ORIGIN_CLAIMS) != 0 ||
		(change->lane->watch && change->lane->watch->claims_all);
}

/*
 * Find out what other rows say of the contact, to which the row is new, and take the row for
 * one that said true and is leaving the contact, or has left it.
 */
static void
read_others(const CsItem *item, CsClaimOthers *others)
{
	CsChange   *change = item->change;
	const CsAccount *account = change->lane->account;

	cs_standing_read(change->lane, item->now, item->index,
					 item->person.elsewhere ? item->person.contact.upsert_key : NULL, others);
	change->origins |= (others->left_no ? CS_ORIGIN_LEFT_NO : 0) | (others->left_not_true ? CS_ORIGIN_LEFT_NOT_TRUE : 0);
	others->left_no = (change->origins & CS_ORIGIN_LEFT_NO) != 0;
	others->left_not_true = (change->origins & CS_ORIGIN_LEFT_NOT_TRUE) != 0;
	if (change->origins & CS_ORIGIN_RENAMED)
		return;
	if (others->left_key)
		cs_standing_rename(account, others->left_watch, others->left_key);
	else if (!cs_standing_take_departed(account, item->upsert_key))
		return;
	change->origins |= CS_ORIGIN_RENAMED;
}

/* Is the contact withheld, because a row said no of the address? */
static bool
is_withheld(const CsItem *item)
{
	return item->known.synced_at == 0 && item->person.remembered && item->person.memory.state == CS_MEMORY_SAID_NO &&
		cs_provider_mails_whoever_exists(item->change->lane->account->endpoint) != NULL;
}

static bool
is_found_by_address(const CsItem *item)
{
	return strcmp(item->upsert_key, cs_text_from_utf8(cs_email_normalize(item->contact->value[CS_EMAIL]))) == 0;
}

/*
 * May a row that said true have left the contact when this lane knew of none?  A contact that is withheld is not there to
 * remember it: the address does, if it is found by that.
 */
static bool
may_have_left(const CsItem *item)
{
	bool		withheld = is_withheld(item);
	uint64		left = withheld ? item->person.memory.yes_left : item->known.yes_left;

	if (withheld && !is_found_by_address(item))
		return true;
	/* a transaction of the future is that of a server whose dump was restored */
	return left != 0 && (left < item->change->lane->known_since || left >= U64FromFullTransactionId(ReadNextFullTransactionId()));
}

/*
 * Decide whether the contact may claim consent.  What other rows say is kept with
 * the change, since they may have gone when it is read again.
 */
static CsClaim
decide_claim(const CsItem *item, CsClaimFacts *facts)
{
	CsChange   *change = item->change;
	bool		asks = (cs_claim_asks_others(facts) || cs_claim_asks_for_all(facts)) &&
	(item->known.found || item->person.elsewhere || item->person.remembered || item->now->any_leaves);
	CsClaim		claim;

	if (asks)
	{
		read_others(item, &facts->others);
		facts->others.is_renamed = (change->origins & CS_ORIGIN_RENAMED) != 0 ||
			(!facts->others.left_not_true && may_have_left(item) && cs_change_may_be_partly_done(change));
	}
	claim = cs_claim_decide(facts);
	if (asks && claim == CS_CLAIM && !cs_claim_asks_for_all(facts))
	{
		change->origins |= CS_ORIGIN_WORD;
		change->word_address = cs_known_address(item->contact);
	}
	return claim;
}

/*
 * Does a row only repeat that it says true, under another key, or because it speaks for
 * another one that has left?  It outdates nobody's no.
 */
static bool
repeats_yes(const CsItem *item, const CsClaimFacts *facts)
{
	bool		speaks_again = !facts->live && item->row.found && !cs_known_has_left(item) &&
	cs_contact_says_yes(item->row.opt_in) && cs_claim_said(facts) == CS_CONSENT_NO;

	return facts->consent == CS_CONSENT_YES && !facts->word && item->contact->claim != CS_CLAIM &&
		(facts->others.is_renamed || speaks_again);
}

/*
 * contactsync_upsert() without opt_in says nothing, even where everybody is taken to
 * consent, if what was said last for the address, or its rows, say otherwise.
 */
static void
mute_upsert(const CsItem *item, const CsClaimFacts *facts)
{
	CsContact  *contact = item->contact;
	CsClaimOthers others = {0};
	char		said = cs_claim_said(facts);

	if (item->change->lane->watch || contact->consent != CS_CONSENT_YES ||
		(contact->present & CS_FIELD_BIT(CS_OPT_IN)))
		return;
	if (said != CS_CONSENT_UNKNOWN)
		others.say_null = said == CS_CONSENT_NO || said == CS_CONSENT_NULL;
	else
		cs_standing_read(item->change->lane, item->now, item->index, NULL, &others);
	if ((others.say_no || others.say_null) && !others.say_yes)
		contact->consent = CS_CONSENT_NULL;
}

/*
 * Is the row new to a contact that was last said not to consent, and may a row that is yet
 * to be read be the one that said so, under another key, or say so as well?
 */
static bool
may_be_refused_anew(const CsItem *item)
{
	const CsPerson *person = &item->person;
	const CsAccount *account = item->change->lane->account;
	bool		is_new = !item->row.found || cs_known_has_left(item);
	bool		said_no = (item->known.found && item->known.opt_in == CS_CONSENT_NO) ||
	(person->elsewhere && person->contact.opt_in == CS_CONSENT_NO) ||
	(person->remembered && person->memory.state == CS_MEMORY_SAID_NO);

	return is_new && said_no &&
		(cs_change_is_ahead(item->change) || cs_standing_is_unread(account, item->now, item->change->last_queued_at) ||
		 cs_standing_may_return(account, item->upsert_key) ||
		 (person->elsewhere && cs_standing_may_return(account, person->contact.upsert_key)));
}

static bool
has_waited_long(const CsChange *change)
{
	return change->waiting_since != 0 && GetCurrentTimestamp() - change->waiting_since > UNREAD_LIMIT;
}

/* If the row, or contactsync_upsert(), newly says yes: what does another one of the same moment say? */
static CsOpposite
find_opposite(const CsItem *item)
{
	const CsChange *change = item->change;
	bool		is_old = item->row.found && !cs_known_has_left(item) && cs_contact_says_yes(item->row.opt_in);
	bool		is_known = item->known.found || item->person.elsewhere || item->person.remembered;
	CsOpposite	opposite;

	if ((change->origins & CS_ORIGIN_LIVE) == 0 || is_old)
		return CS_OPPOSITE_NONE;
	opposite = cs_opposite_find(change, item->now, item->index, is_known,
								item->person.elsewhere ? item->person.contact.upsert_key : NULL);
	if (opposite != CS_OPPOSITE_NONE || !may_be_refused_anew(item))
		return opposite;
	/* whether it is a word is decided then */
	item->change->origins &= ~CS_ORIGIN_WORD;
	return cs_change_may_wait(change->set) && !has_waited_long(change) ? CS_OPPOSITE_UNREAD : CS_OPPOSITE_UNKNOWN;
}

/*
 * Decide whether the contact may claim consent, unless that waits for another row.  If
 * another one says no at the same moment, this one says no as well; if it cannot be waited
 * for, nothing is claimed.  A row that repeats what it said, if only under another key,
 * claims nothing, so that it is not asked.
 */
static bool
decide_consent(const CsItem *item, CsClaimFacts *facts)
{
	CsContact  *contact = item->contact;
	CsOpposite	opposite;

	facts->consent = contact->consent;
	contact->claim = decide_claim(item, facts);
	opposite = contact->claim == CS_CLAIM_NOT ? CS_OPPOSITE_NONE : find_opposite(item);
	if (opposite == CS_OPPOSITE_NO)
	{
		facts->consent = contact->consent = CS_CONSENT_NO;
		contact->claim = CS_CLAIM_NOT;
		item->change->origins &= ~CS_ORIGIN_WORD;
	}
	if (opposite == CS_OPPOSITE_UNKNOWN)
		contact->claim = CS_CLAIM_NOT;
	return opposite != CS_OPPOSITE_UNREAD;
}

/* Does contactsync_upsert() say false or null?  Without opt_in, it says what it said last. */
static bool
is_direct_no(const CsItem *item)
{
	const CsContact *contact = item->contact;

	if (item->change->lane->watch || contact->consent == CS_CONSENT_YES)
		return false;
	return (contact->present & (CS_FIELD_BIT(CS_OPT_IN) | CS_FIELD_BIT(CS_STATUS))) != 0 || item->known.direct_no;
}

/*
 * A claim that the provider has to prove first: where contacts can be listed, that
 * they have been tells.
 */
static void
resolve_claim(const CsAccount *account, const CsListed *listed, bool moves_on, CsContact *contact)
{
	if (contact->claim == CS_CLAIM_IF_NEW && account->endpoint->provider->build_pull)
		contact->claim = account->learning == CS_LEARNING_DONE &&
			!(moves_on ? listed->address : listed->found) ? CS_CLAIM : CS_CLAIM_NOT;
}

/*
 * Is the contact new at the provider, and created without consent, which was claimed
 * for another contact with the address?  That one has left the address, where an
 * address has one contact.
 */
static bool
inherits_claim(const CsAccount *account, const CsItem *item)
{
	const CsContact *contact = item->contact;

	if (contact->claim == CS_CLAIM || !contact->claimed)
		return false;
	if (item->known.synced_at != 0)
		return item->known.inherited;
	return (account->endpoint->provider->abilities & CS_UNIQUE_EMAIL) &&
		account->consents.nendpoints == 1 &&
		account->learning == CS_LEARNING_DONE && !item->person.listed.found;
}

bool
cs_known_is_moving(const CsItem *item)
{
	return cs_contact_known_is_moving(&item->known, item->contact);
}

/*
 * Does a contact that only inherited its claim leave the address that it was claimed
 * for, or does another row give it its address?  Then a live change of the row is the
 * first one of another address.
 */
static bool
moves_on(const CsItem *item)
{
	return cs_known_is_moving(item) && !item->known.opted_out && item->known.email &&
		(item->change->origins & CS_ORIGIN_LIVE) != 0 &&
		(item->known.inherited || (item->change->lane->watch && !item->row.found));
}

/*
 * Does a contact, which is found by an ID, leave its opt-out behind with its address?  A
 * provider that does not list who opted out told nothing of it: it is what the address
 * remembers, and goes on remembering.
 */
static bool
leaves_opt_out(const CsItem *item)
{
	return cs_known_is_moving(item) && item->known.opted_out &&
		item->change->lane->account->endpoint->provider->build_pull == NULL;
}

/*
 * A contact that is to be moved takes along what is known of it.  The address that it
 * leaves keeps that, too.
 */
static void
apply_left(const CsItem *item)
{
	const CsLane *lane = item->change->lane;
	const CsProvider *provider = lane->account->endpoint->provider;
	CsContact  *contact = item->contact;

	if (!cs_known_has_left(item) || item->left.synced_at == 0 || item->left.action != 'u')
		return;
	contact->previous_key = cs_text_to_utf8(item->row.upsert_key, strlen(item->row.upsert_key));

	/*
	 * what is at the new address already does not become another contact; and
	 * nobody is mailed there again who said no
	 */
	contact->previous_shared = item->left.direct || item->known.synced_at != 0 ||
		(item->twin.found && strcmp(item->twin.upsert_key, item->row.upsert_key) != 0) ||
		(contact->opted_out && contact->claim != CS_CLAIM) ||
		cs_row_state_has_other(lane->endpoint_id, item->row.upsert_key, lane->watch_id, item->change->key) ||
		cs_remaining_stands(lane->account, &item->left);
	if (provider->moves == NULL || !provider->moves(lane->account->endpoint, contact))
		return;
	contact->remote_id = item->left.remote_id;
	contact->topics = item->left.topics;
	contact->claimed |= item->left.claimed;
	contact->opted_out |= item->left.opted_out;
	contact->known = true;
	if (contact->claim == CS_CLAIM_IF_NEW)
		contact->claim = CS_CLAIM_NOT;
	item->change->moved_from = cs_remember_left(item->row.upsert_key, &item->left);
}

/* If the contact gets another address, what is known of the old one is remembered. */
static void
note_left_address(const CsItem *item)
{
	const CsKnown *known = &item->known;

	if (!known->found && item->person.listed.other_address)
		item->change->left.address = item->person.listed.other_address;
	if (known->synced_at == 0 || !cs_known_is_moving(item))
		return;
	item->change->left = cs_remember_left(cs_contact_known_address(known), known);
}

/*
 * Is it not trusted that the provider still has the contact, so that it could be
 * created anew?  That would subscribe somebody who opted out, whose row does not say
 * yes, or at an address that its row does not have; or where an adapter can find out,
 * anybody.
 */
static bool
may_be_lost(const CsItem *item)
{
	const CsEndpoint *endpoint = item->change->lane->account->endpoint;

	return item->known.is_stale &&
		(cs_provider_mails_whoever_exists(endpoint) == NULL || item->contact->opted_out ||
		 item->contact->consent != CS_CONSENT_YES || cs_known_is_moving(item));
}

CsKnowledge
cs_known_apply(const CsItem *item)
{
	const CsChange *change = item->change;
	CsAccount  *account = change->lane->account;
	CsContact  *contact = item->contact;
	CsClaimFacts facts = {
		.opt_in_at = contact->opt_in_at,
		.has_times = (contact->present & CS_FIELD_BIT(CS_OPT_IN_AT)) != 0,
		.queued_at = change->last_queued_at,
		.read_at = change->last_read_at,
		.row = change->lane->watch ? &item->row : NULL,
		.rows_known = change->lane->watch && change->lane->watch->complete,
		.known = &item->known,
		.person = &item->person,
		.moves = cs_known_is_moving(item),
		.moves_on = moves_on(item),
		.leaves_opt_out = leaves_opt_out(item),
		.live = (change->origins & CS_ORIGIN_LIVE) != 0,
		.word = (change->origins & CS_ORIGIN_WORD) != 0,
		.all = claims_all(change)
	};
	char		says;			/* the row, whatever is made of it */

	mute_upsert(item, &facts);
	says = contact->consent;
	if (!decide_consent(item, &facts))
		return CS_KNOWN_AFTER_ROW;
	contact->direct_no = is_direct_no(item);
	contact->opt_in_at = cs_claim_word_at(&facts, contact->claim);
	item->change->is_word = contact->claim == CS_CLAIM && item->row.found && !cs_known_has_left(item) &&
		(item->row.opt_in == CS_CONSENT_NO || item->row.opt_in == CS_CONSENT_NULL);
	contact->claimed = cs_claim_stands(&facts) || (item->person.listed.opted_in && item->known.synced_at == 0);
	contact->opted_out = cs_claim_is_closed(&facts);
	contact->said_no = item->known.opt_in == CS_CONSENT_NO;
	contact->leaves_opt_out = facts.leaves_opt_out;
	contact->refused = cs_claim_is_refused(&facts);
	contact->was_held = item->person.remembered && item->person.memory.state == CS_MEMORY_HELD;
	contact->known = item->known.synced_at != 0 && item->known.action == 'u' && !may_be_lost(item);
	contact->remote_id = item->known.remote_id;
	contact->topics = item->known.topics;
	if (item->person.remembered)
		contact->change_id = hash_combine64(contact->change_id, item->person.memory.opt_in_at);

	/*
	 * libcurl repeats a call by itself if a connection ends that was used
	 * before
	 */
	contact->maybe_ours = change->unconfirmed || (change->origins & CS_ORIGIN_LIVE);
	contact->queued_at = cs_clock_of(change->queued_at);
	item->change->row_opt_in = says == CS_CONSENT_UNKNOWN ? CS_CONSENT_UNKNOWN :
		cs_contact_said(item->row.found ? item->row.opt_in : cs_claim_said(&facts), says);
	item->change->contact_opt_in = cs_contact_said(cs_claim_said(&facts),
												   repeats_yes(item, &facts) ? CS_CONSENT_UNKNOWN : contact->consent);
	note_left_address(item);
	if (cs_pull_has_to_wait(account, contact, cs_claim_is_remembered(&facts)))
		return CS_KNOWN_AFTER_PULL;
	resolve_claim(account, &item->person.listed, facts.moves_on, contact);
	contact->inherits = inherits_claim(account, item);
	contact->reopens = contact->claim == CS_CLAIM && item->person.remembered &&
		item->person.memory.state != CS_MEMORY_CLAIMED;
	apply_left(item);
	return CS_KNOWN;
}
