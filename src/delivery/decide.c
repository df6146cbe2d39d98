/*-------------------------------------------------------------------------
 *
 * decide.c
 *		From changes to contacts that can be sent: what to send of a row that
 *		was read, if anything.
 *
 * Of each change one of these becomes true:
 *
 *	- it has to be sent: it has a contact, with locks on its identities;
 *	- it is settled without a call: what the provider has already is unchanged,
 *	  what cannot be sent fails, what is older than what was sent is outdated, a
 *	  row that has gone leaves its contact, and a contact that would be mailed
 *	  without consent is withheld;
 *	- it is BLOCKED: another change has a lock on the contact;
 *	- it waits for a pull: who opted out at the provider is to be learnt first.
 *
 * Several rows can stand for one contact: the one that changed last speaks for it.
 * A row that did not change does not speak, whatever the others said meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "base/text.h"
#include "delivery/change_add.h"
#include "delivery/change_lock.h"
#include "delivery/conflict.h"
#include "delivery/decide.h"
#include "delivery/intent.h"
#include "delivery/known.h"
#include "delivery/outcome_record.h"
#include "delivery/pull.h"
#include "delivery/shared.h"
#include "delivery/twin.h"
#include "delivery/withhold.h"
#include "provider/provider.h"
#include "store/contact_known.h"
#include "store/contact_state.h"
#include "store/failure.h"
#include "store/row_state.h"

/*
 * What is stored
 */

/* Prepare the contacts, so that it is known what the provider finds them by. */
static void
prepare(const CsLane *lane, int n, CsItem *items)
{
	for (int i = 0; i < n; i++)
	{
		CsItem	   *item = &items[i];
		CsContact  *contact = item->contact;

		if (item->change == NULL || contact == NULL)
			continue;
		contact->change_id = hash_combine64(item->change->queue_id, lane->account->stale_before);
		contact->retries = item->change->attempts;
		item->refusal = cs_provider_prepare(lane->account->endpoint, contact);
		if (item->refusal == NULL)
			item->upsert_key = cs_text_from_utf8(contact->upsert_key);
	}
}

/*
 * The contact of a row that has gone and was not removed, because that failed; or
 * NULL.  It is to be tried again.
 */
static char *
failed_key(const CsLane *lane, const CsItem *item)
{
	if (!lane->has_failures || lane->watch == NULL || item->change == NULL || item->contact)
		return NULL;
	return cs_failure_upsert_key(lane->endpoint_id, lane->watch_id, item->change->key);
}

/* Read what is stored of the rows and contacts. */
static void
read_states(const CsLane *lane, int n, CsItem *items)
{
	char	  **row_keys = palloc0(n * sizeof(char *));
	char	  **keys = palloc0(n * sizeof(char *));
	CsRowState *rows = palloc0(n * sizeof(CsRowState));
	CsKnown    *known = palloc(n * sizeof(CsKnown));

	for (int i = 0; i < n; i++)
		row_keys[i] = items[i].change ? items[i].change->key : NULL;
	if (lane->watch)
		cs_row_state_read(lane->watch_id, n, row_keys, rows);
	for (int i = 0; i < n; i++)
	{
		CsItem	   *item = &items[i];

		if (item->upsert_key == NULL)
			item->upsert_key = rows[i].found ? rows[i].upsert_key : failed_key(lane, item);
		keys[i] = item->change ? item->upsert_key : NULL;
	}
	cs_contact_state_read(lane->endpoint_id, n, keys, known);
	cs_contact_known_add_digests(lane->watch_id, n, row_keys, known, rows);
	cs_contact_known_expire(n, known, lane->account->stale_before);
	cs_contact_known_reclaim(n, known, lane->account->reclaim_before);
	for (int i = 0; i < n; i++)
	{
		items[i].row = rows[i];
		items[i].known = known[i];
		if (items[i].change && items[i].contact)
		{
			if (!cs_known_is_moving(&items[i]))
				cs_contact_state_stays(&items[i].known);
			cs_known_check_word(&items[i]);
		}
		if (cs_known_has_left(&items[i]))
			cs_contact_state_read(lane->endpoint_id, 1, &items[i].row.upsert_key, &items[i].left);
		cs_twin_read(lane->endpoint_id, &items[i]);
	}
	pfree(row_keys);
	pfree(keys);
	pfree(rows);
	pfree(known);
}

/* The transaction since which the row says no; 0: it does not, or that is not known. */
static uint64
said_no_since(const CsItem *item)
{
	if (item->contact == NULL || item->contact->consent != CS_CONSENT_NO)
		return 0;
	if (item->row.found && item->row.opt_in == CS_CONSENT_NO && !cs_known_has_left(item) && !item->change->unconfirmed)
		return item->row.no_xact;
	return cs_change_xact(item->change);
}

/* List the rows for each other, with keys that outlive the changes that end meanwhile. */
static void
list_rows(int n, CsItem *items)
{
	CsRowsNow  *now = palloc0(sizeof(CsRowsNow));

	now->n = n;
	now->rows = palloc0(n * sizeof(CsRowNow));
	for (int i = 0; i < n; i++)
	{
		CsItem	   *item = &items[i];
		CsRowNow   *row = &now->rows[i];

		item->now = now;
		item->index = i;
		row->before = &item->row;
		if (item->change == NULL || item->refusal)
			continue;
		if (item->contact == NULL && !item->row.found)
			cs_change_note_gone(item->change, item->change->lane->known_since);
		row->key = pstrdup(item->change->key);
		row->upsert_key = item->contact ? item->upsert_key : NULL;
		row->consent = item->contact ? item->contact->consent : CS_CONSENT_UNKNOWN;
		row->address = item->contact ? item->contact->value[CS_EMAIL] : NULL;
		cs_change_note_no(item->change, said_no_since(item), row->upsert_key);
		item->change->says_yes = row->consent == CS_CONSENT_YES;
		if (item->change->no_xact != 0)
			cs_refusals_add(&now->refusals, CurrentMemoryContext, row->upsert_key, row->address, item->change->no_xact);
		now->any_leaves |= item->row.found && (item->contact == NULL || cs_known_has_left(item));
	}
}

/* Read what is known of the persons whose consent the contacts speak of, or who have one
 * contact at the provider whatever we know it by. */
static void
read_people(const CsAccount *account, int n, CsItem *items)
{
	bool		is_unique = (account->endpoint->provider->abilities & CS_UNIQUE_EMAIL) != 0;
	CsContact **contacts = palloc0(n * sizeof(CsContact *));
	char	  **upsert_keys = palloc0(n * sizeof(char *));
	CsPerson   *people = palloc(n * sizeof(CsPerson));
	bool		any = false;

	for (int i = 0; i < n; i++)
	{
		const CsItem *item = &items[i];

		upsert_keys[i] = item->upsert_key;
		if (item->change && item->contact && !item->refusal &&
			(item->contact->consent != CS_CONSENT_UNKNOWN || is_unique))
			contacts[i] = item->contact;
		any |= contacts[i] != NULL;
	}
	if (!any)
		return;
	cs_person_read(&account->consents, account->endpoint, n, contacts, upsert_keys, people);
	for (int i = 0; i < n; i++)
		items[i].person = people[i];
	pfree(people);
}

/* Is what a row stored of itself true already? */
static bool
is_recorded(const CsItem *item)
{
	return !cs_known_has_left(item) && cs_shared_says_the_same(item) &&
		item->row.opt_in == item->change->row_opt_in;
}

/* Was the contact withheld with these values before? */
static bool
is_withheld_already(const CsItem *item)
{
	return item->row.withheld && is_recorded(item) && !item->known.found;
}

/*
 * Deciding
 */

/* Whether a row that may say the opposite has been read is looked at again after (s). */
#define UNREAD_PAUSE	0.2

static void
fail(CsSettlement *settlement, const CsItem *item, const char *reason, const char *message,
	 const char *field)
{
	CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED,.reason = reason,.message = message,.field = field};

	cs_settle_failed(settlement, item->change, &outcome, NULL);
}

/* The change has no contact; it will be read again. */
static bool
drop_contact(CsChange *change)
{
	change->contact = NULL;
	change->read_batch = NULL;
	return false;
}

/*
 * Wait for a pull that learns who opted out, or for a row that may say the opposite, and
 * is read soon.  Others may speak for the contact meanwhile.
 */
static bool
wait_for(CsChange *change, CsKnowledge what, double now)
{
	cs_change_let_go(change);	/* of what it had for an earlier call */
	cs_change_fall_behind(change, change->lane->account->id, change->contact->upsert_key);
	if (what == CS_KNOWN_AFTER_PULL)
		cs_pull_add_waiting(change->lane->account, change->contact);
	(void) drop_contact(change);
	if (what == CS_KNOWN_AFTER_PULL)
		cs_lane_set_aside(change->lane, change, now);
	else
		cs_change_wait(change, now + UNREAD_PAUSE);
	return false;
}

static bool
is_to_be_deleted(const CsItem *item)
{
	const CsEndpoint *endpoint = item->change->lane->account->endpoint;

	return (item->contact->known || item->known.action == 'd') && item->contact->consent == CS_CONSENT_NO &&
		cs_provider_deletes_opt_outs(endpoint);
}

/*
 * Does the row say no since then, of which what was sent instead of it knows nothing?
 * That is not outdated by other values of another row, but by a word.
 */
static bool
is_late_no(const CsItem *item)
{
	const CsChange *change = item->change;
	bool		is_new = !item->row.found || cs_known_has_left(item) || item->row.opt_in != CS_CONSENT_NO;

	return item->contact->consent == CS_CONSENT_NO &&
		(change->lane->account->endpoint->provider->abilities & CS_CAN_UNSUBSCRIBE) != 0 &&
		(is_new || change->unconfirmed) && !cs_change_word_was_sent(change);
}

/*
 * Is the row a word, of which what was sent instead of it knows nothing?  That is not
 * outdated by other values of another row, but by a no, by a word, or by another address.
 * A provider that forgets what it is not sent has to be sent all of the row.
 */
static bool
is_late_word(const CsItem *item)
{
	const CsChange *change = item->change;
	const CsEndpoint *endpoint = change->lane->account->endpoint;

	if (endpoint->provider->replaces && endpoint->provider->replaces(endpoint))
		return false;
	return item->contact->claim == CS_CLAIM && item->contact->known && !cs_known_is_moving(item) &&
		!cs_change_no_was_sent(change) && !(cs_change_word_was_sent(change) && item->contact->claimed);
}

/*
 * Was something newer sent already, so that nothing of the row is to be sent?  If the row
 * is late, only what it says of consent is.  What was sent while it waited without a lock
 * does not outdate a word of a contact that no other row speaks for.
 */
static bool
is_outdated(const CsItem *item)
{
	CsChange   *change = item->change;
	const CsContact *contact = item->contact;
	bool		is_there = item->known.key && item->known.action == 'u';
	bool		another = is_there && !cs_contact_known_is_speaker(&item->known, change->lane->watch_id, change->key);

	if (!cs_change_is_outdated(change) && !cs_change_is_overtaken(change) && !cs_shared_is_older(item))
		return false;
	/* whose row has gone, so that this one is to speak; but a no stands */
	if ((change->origins & CS_ORIGIN_SPEAKER) != 0 && cs_shared_is_unspoken(item) &&
		!(contact->claim == CS_CLAIM && cs_change_no_was_sent(change)))
		return false;
	change->is_late = (is_there && is_late_no(item)) || (another && is_late_word(item));
	return !change->is_late &&
		(cs_change_is_outdated(change) || contact->claim != CS_CLAIM || (another && contact->known) ||
		 cs_change_no_was_sent(change));
}

/* Only what the row says of consent is to be sent; another row goes on speaking. */
static void
leave_values(const CsItem *item)
{
	CsChange   *change = item->change;
	const CsKnown *known = &item->known;

	if (item->contact->consent == CS_CONSENT_NO)
		cs_withhold_other_address(change, known);
	else
		cs_contact_keep_consent(item->contact);
	change->others_watch = known->watch;
	change->others_key = known->key;
	change->spoke_at = known->spoke_at;
	change->known_changed_at = known->changed_at;
	change->has_others_digest = known->has_digest;
	change->others_digest = known->digest;
}

/* Have nobody mailed at an address that the contact gets without a consent for it. */
static void
withhold_from_address(const CsItem *item)
{
	const CsEndpoint *endpoint = item->change->lane->account->endpoint;
	bool		refused = cs_known_is_moving(item) && cs_standing_is_refused(item->now, item->index);

	cs_withhold_address(endpoint, item->change, &item->known, &item->person, refused);
	cs_withhold_consent(endpoint, item->contact, &item->known, &item->person, refused);
}

/* Has a call for another row the lock on the contact, so that what it says may not stay? */
static bool
is_locked_out(const CsItem *item)
{
	const CsChange *change = item->change;

	return (change->origins & CS_ORIGIN_LIVE) != 0 &&
		cs_change_is_locked_out(change, change->lane->endpoint_id, item->upsert_key);
}

/* Send the contact, unless the provider has it, or a newer value of it. */
static bool
decide_contact(CsSettlement *settlement, const CsItem *item, double now)
{
	CsChange   *change = item->change;
	CsContact  *contact = item->contact;
	const CsEndpoint *endpoint = change->lane->account->endpoint;
	CsKnowledge knowledge;
	bool		withheld;

	cs_contact_digest(contact, endpoint->payload, &change->digest);
	cs_twin_apply(item);
	knowledge = cs_known_apply(item);
	if (knowledge != CS_KNOWN)
		return wait_for(change, knowledge, now);
	change->is_recorded = item->row.found && !cs_known_has_left(item) && !item->row.withheld &&
		item->row.opt_in == change->row_opt_in;
	change->has_changed = (change->origins & (CS_ORIGIN_LIVE | CS_ORIGIN_RETRY)) == CS_ORIGIN_LIVE &&
		(cs_known_has_left(item) || !cs_shared_says_the_same(item));
	withheld = !is_to_be_deleted(item) && cs_withhold_applies(endpoint, contact);
	contact->withheld = withheld && cs_withhold_updates(endpoint, contact);
	if (withheld && !(contact->withheld ? !is_withheld_already(item) :
					  cs_withhold_may_be_there(endpoint, change, &item->known)))
	{
		/* a call for another row may be about to create it */
		if (!cs_conflict_lock(change, contact, &item->known))
			return drop_contact(change);
		cs_settle_withheld(settlement, change);
		return false;
	}
	if (cs_shared_is_overtaken(item))
	{
		/* a no that failed is a failure until it arrives */
		if (contact->consent == CS_CONSENT_NO)
			cs_settle_kept(settlement, change);
		else
			cs_settle_deferred(settlement, change, cs_shared_sent_last(item)->upsert_key, cs_shared_sent_last(item)->has_digest);
		return false;
	}
	if (cs_shared_is_unchanged(item))
	{
		/* a call for another row may be about to change what the provider has */
		if ((!cs_shared_says_the_same(item) || is_locked_out(item)) &&
			!cs_conflict_lock(change, contact, &item->known))
			return drop_contact(change);
		cs_shared_renew_speaker(item);
		change->takes_over = change->lane->watch && cs_shared_is_unspoken(item);
		cs_settle_unchanged(settlement, change, change->lane->watch && !is_recorded(item));
		return false;
	}
	if (cs_shared_is_left_to_speaker(item))
	{
		cs_settle_left_to(settlement, change, cs_shared_sent_last(item)->watch, cs_shared_sent_last(item)->key);
		return false;
	}
	if (cs_shared_defers(item))
	{
		cs_settle_deferred(settlement, change, cs_shared_sent_last(item)->upsert_key,
						   cs_shared_sent_last(item)->has_digest && !change->unconfirmed);
		return false;
	}
	withhold_from_address(item);
	if ((endpoint->provider->abilities & CS_UNIQUE_EMAIL) != 0 && item->person.alias.found)
		change->alias_key = item->person.alias.upsert_key;
	if (!cs_conflict_lock(change, contact, item->known.found ? &item->known : &item->left))
		return drop_contact(change);
	change->spoke_at = change->origins & CS_ORIGIN_LIVE ? 0 : cs_shared_spoke_at(item);
	if (is_outdated(item))
	{
		cs_settle_outdated(settlement, change);
		return false;
	}
	if (cs_conflict_waits(change, contact, now))
		return drop_contact(change);
	if (is_to_be_deleted(item))
		contact->action = CS_DELETE;
	else if ((change->is_late && contact->consent == CS_CONSENT_NO) || (withheld && !contact->withheld))
		contact->action = CS_UNSUBSCRIBE;
	if (change->is_late)
		leave_values(item);
	else
		cs_shared_note_speaker(item);
	return true;
}

/* The row has gone: keep what it said, as long as others may be the same row. */
static void
note_departed(const CsItem *item)
{
	if (item->row.found && item->row.opt_in == CS_CONSENT_NO)
		cs_standing_depart(item->change->lane, item->change->key, item->row.upsert_key, CS_CONSENT_NO);
	else if (cs_known_was_refused(item))
	{
		item->change->yes_left = true;
		if (!item->change->renamed)
			cs_standing_depart(item->change->lane, item->change->key, item->row.upsert_key, CS_CONSENT_YES);
	}
}

/* Return true if the change has to be sent. */
static bool
decide(CsSettlement *settlement, const CsItem *item, CsReadBatch *read_batch, double now)
{
	CsChange   *change = item->change;

	memset(&change->digest, 0, sizeof(change->digest));
	change->upsert_key = item->upsert_key;
	change->previous_key = cs_known_has_left(item) ? item->row.upsert_key : NULL;
	change->previous_maybe_sent = change->unconfirmed;
	change->has_row = item->row.found;
	change->was_known = item->known.synced_at != 0;
	change->contact_tid = item->known.tid;
	change->yes_left = false;
	change->known_changed_at = 0;
	if (change->lane->watch && strlen(change->key) > CS_KEY_MAX_BYTES)
	{
		fail(settlement, item, CS_REASON_INVALID_FIELD,
			 psprintf("the key of the row is longer than %d bytes", CS_KEY_MAX_BYTES), NULL);
		return false;
	}
	change->contact = item->contact;
	if (cs_settle_forgotten(settlement, change))
		return false;
	change->read_batch = item->contact ? read_batch : NULL;
	if (item->contact == NULL)
	{
		note_departed(item);
		cs_settle_gone(settlement, change);
		return false;
	}
	if (item->refusal)
	{
		change->refused = true;
		fail(settlement, item, item->refusal->reason, item->refusal->message, item->refusal->field);
		return false;
	}
	return decide_contact(settlement, item, now);
}

/*
 * Decide on ACTIVE changes of a lane and the rows that were read for them, which
 * are allocated in the read batch; changes[i] may be NULL.  Those that have to be
 * sent come first in "changes" then, with a contact, and their number is
 * returned.  The read batch is the current context, and is so again.
 */
int
cs_decide_changes(CsLane *lane, int n, CsChange **changes, CsSourceRow *rows,
				  CsReadBatch *read_batch, CsSettlement *settlement, double now)
{
	CsItem	   *items = palloc0(n * sizeof(CsItem));
	CsItem	  **kept = palloc(n * sizeof(CsItem *));
	int			nkept = 0;

	for (int i = 0; i < n; i++)
	{
		items[i].change = changes[i];
		items[i].contact = rows[i].contact;
	}
	prepare(lane, n, items);
	read_states(lane, n, items);
	read_people(lane->account, n, items);
	list_rows(n, items);
	MemoryContextSwitchTo(read_batch->context);
	cs_outcome_record_prepare(lane, n, items);
	for (int i = 0; i < n; i++)
		if (items[i].change && decide(settlement, &items[i], read_batch, now))
			kept[nkept++] = &items[i];
	if (!cs_intent_store(lane, nkept, kept))
	{
		for (int i = nkept - 1; i >= 0; i--)
		{
			cs_change_postpone(kept[i]->change, now + CS_LOCKED_PAUSE, true);
			(void) drop_contact(kept[i]->change);
		}
		nkept = 0;
	}
	MemoryContextSwitchTo(read_batch->context);
	for (int i = 0; i < nkept; i++)
		changes[i] = kept[i]->change;
	/* what they name is kept with the contacts */
	if (n > 0)
		pfree(items[0].now->rows);
	pfree(items);
	pfree(kept);
	return nkept;
}
