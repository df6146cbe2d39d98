/*-------------------------------------------------------------------------
 *
 * outcome_writer.c
 *		Storing the outcomes of one lane.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/outcome_writer.h"
#include "delivery/pull.h"
#include "delivery/speaker.h"
#include "store/consent.h"
#include "store/contact_state.h"
#include "store/departure.h"
#include "store/failure.h"
#include "store/outcome_log.h"
#include "store/queue.h"
#include "store/refused_address.h"
#include "store/row_state.h"
#include "store/stats.h"

static void
remember(CsAccount *account, int n, const CsConsent *consents)
{
	if (n == 0 || account->consents.account == 0)
		return;
	cs_consent_remember(account->consents.account, n, consents);
	account->consents.has_consents = true;
}

/* Forget contacts that the provider has no more, but what has to be remembered. */
static void
remove_contacts(CsLaneOutcomes *outcomes)
{
	CsAccount  *account = outcomes->lane->account;
	CsRemoved  *removed = outcomes->removed.items;
	char	  **keys = palloc(outcomes->removed.n * sizeof(char *));
	CsConsent  *consents = palloc(outcomes->removed.n * sizeof(CsConsent));
	int			n = 0;

	for (int i = 0; i < outcomes->removed.n; i++)
	{
		keys[i] = unconstify(char *, removed[i].upsert_key);
		if (removed[i].consent.state && removed[i].consent.address)
			consents[n++] = removed[i].consent;
	}
	cs_contact_state_remove(account->id, outcomes->removed.n, keys);
	remember(account, n, consents);
}

/* Rows that said true of contacts which were last said not to, or are withheld, have gone. */
static void
note_yes_left(const CsLaneOutcomes *outcomes)
{
	const CsAccount *account = outcomes->lane->account;

	cs_contact_state_note_yes_left(account->id, outcomes->yes_left.n, outcomes->yes_left.items);
	if (account->consents.has_consents && cs_provider_mails_whoever_exists(account->endpoint) != NULL)
		cs_consent_note_yes_left(account->consents.account, outcomes->yes_left.n, outcomes->yes_left.items);
}

/* Removals count for the watch whose row left the contact. */
static void
count_removals(const CsLaneOutcomes *outcomes)
{
	const int  *watches = outcomes->removed_for.items;
	const CsFailureStored *failed = outcomes->failed.items;
	int			endpoint = outcomes->lane->endpoint_id;

	for (int i = 0, n; i < outcomes->removed_for.n; i += n)
	{
		for (n = 1; i + n < outcomes->removed_for.n && watches[i + n] == watches[i];)
			n++;
		cs_stats_count(endpoint, watches[i], n, 0, 0, NULL);
	}
	for (int i = 0; i < outcomes->failed.n; i++)
		cs_stats_count(endpoint, failed[i].watch, 0, 0, 1,
					   failed[i].message && !failed[i].erases ? failed[i].message : failed[i].reason);
}

/*
 * Contacts that did not get an address get it now that a word has consented, where
 * creating a contact claims consent.
 */
static void
give_addresses(const CsLaneOutcomes *outcomes)
{
	const CsLane *lane = outcomes->lane;
	CsSpeaker  *speakers;
	int			n;

	if (outcomes->consented.n == 0 || cs_provider_mails_whoever_exists(lane->account->endpoint) == NULL)
		return;
	n = cs_refused_address_find(lane->endpoint_id, outcomes->consented.n, outcomes->consented.items, &speakers);
	for (int i = 0; i < n; i++)
	{
		char	   *upsert_key = unconstify(char *, speakers[i].upsert_key);

		cs_contact_state_invalidate(lane->endpoint_id, 1, &upsert_key);
		cs_speaker_queue(lane, speakers[i].watch, speakers[i].key);
	}
}

/* Rows that were withheld speak for contacts that were created for rows which changed before. */
static void
leave_to_withheld(const CsLaneOutcomes *outcomes)
{
	const CsLane *lane = outcomes->lane;
	const CsContactStored *contacts = outcomes->contacts.items;

	if (lane->removals || outcomes->contacts.n == 0 || cs_provider_mails_whoever_exists(lane->account->endpoint) == NULL)
		return;
	for (int i = 0; i < outcomes->contacts.n; i++)
		if (!contacts[i].contact->known && contacts[i].contact->action == CS_UPSERT)
			cs_speaker_leave_to_withheld(lane, contacts[i].upsert_key, contacts[i].changed_at);
}

/* What was refused because a contact had one of these addresses is sent again. */
static void
retry_conflicts(const CsAccount *account, int n, char **addresses)
{
	ListCell   *lc;

	if (!cs_account_has_failures(account) || !cs_failure_retry_conflicts(account->id, n, addresses))
		return;
	foreach(lc, account->lanes)
		((CsLane *) lfirst(lc))->exhausted = false;
}

void
cs_outcome_writer_store(CsLaneOutcomes *outcomes)
{
	CsLane	   *lane = outcomes->lane;
	int			endpoint = lane->endpoint_id;
	const CsLeftTo *left = outcomes->left_to.items;
	const CsTakenOver *taken_over = outcomes->taken_over.items;

	cs_outcome_log_store(endpoint, outcomes->logged.n, outcomes->logged.items);
	cs_contact_state_invalidate(endpoint, outcomes->unknown.n, outcomes->unknown.items);
	cs_contact_state_store(endpoint, outcomes->contacts.n, outcomes->contacts.items);
	cs_row_state_store(endpoint, lane->watch_id, outcomes->rows.n, outcomes->rows.items);
	cs_row_state_remove(lane->watch_id, outcomes->gone.n, outcomes->gone.items);
	cs_remaining_store(lane, &outcomes->remaining);
	note_yes_left(outcomes);
	for (int i = 0; i < outcomes->taken_over.n; i++)
		cs_contact_state_set_speaker(endpoint, taken_over[i].upsert_key, lane->watch_id, taken_over[i].key);
	for (int i = 0; i < outcomes->left_to.n; i++)
		cs_speaker_leave(lane, &left[i]);
	for (int i = 0; i < outcomes->speakers.n; i++)
		cs_speaker_queue(lane, ((CsRowKey *) outcomes->speakers.items)[i].watch,
						 ((CsRowKey *) outcomes->speakers.items)[i].key);
	give_addresses(outcomes);
	leave_to_withheld(outcomes);
	cs_departure_store(endpoint, outcomes->departures.n, outcomes->departures.items);
	if (outcomes->departures.n > 0)
		lane->account->removals_at = 0;
	if (outcomes->removed.n > 0)
		remove_contacts(outcomes);
	remember(lane->account, outcomes->remembered.n, outcomes->remembered.items);
	if (outcomes->reopened.n > 0)
		cs_consent_reopen(&lane->account->consents, outcomes->reopened.n, outcomes->reopened.items);
	cs_departure_remove(endpoint, outcomes->decided.n, outcomes->decided.items);
	cs_departure_refuse(endpoint, outcomes->refused.n, outcomes->refused.items);
	if (outcomes->standing.n > 0)
		cs_failure_clear_removals(endpoint, outcomes->standing.n, (char **) outcomes->standing.items);
	if (outcomes->relearns)
		cs_pull_learn_again(lane->account);
	if (outcomes->freed.n > 0)
		retry_conflicts(lane->account, outcomes->freed.n, outcomes->freed.items);
	if (outcomes->cleared.n > 0)
		cs_failure_clear(endpoint, lane->watch_id, outcomes->cleared.n, outcomes->cleared.items);
	if (outcomes->failed.n > 0)
	{
		lane->has_failures = true;
		cs_failure_store(endpoint, outcomes->failed.n, outcomes->failed.items);
	}
	if (outcomes->done.n > 0)
		cs_queue_delete(endpoint, lane->watch_id, outcomes->done.n, outcomes->done.items);
	if (lane->removals)
		count_removals(outcomes);
	else
		cs_stats_count(endpoint, lane->watch_id, outcomes->synced, outcomes->unchanged,
					   outcomes->failed.n, outcomes->last_error);
}
