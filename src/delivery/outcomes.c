/*-------------------------------------------------------------------------
 *
 * outcomes.c
 *		What is to be stored of one lane.
 *
 * The identities of a contact stay locked until its outcome is stored, so that
 * whoever reads what is known of the contact knows all of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/text.h"
#include "delivery/change_lock.h"
#include "delivery/outcomes.h"
#include "delivery/remember.h"
#include "delivery/speaker.h"
#include "store/consent.h"
#include "store/contact_state.h"
#include "store/departure.h"
#include "store/failure.h"
#include "store/queue.h"
#include "store/row_state.h"
#include "store/stats.h"

CsLaneOutcomes *
cs_outcomes_create(MemoryContext parent, CsLane *lane)
{
	MemoryContext context = AllocSetContextCreate(parent, "contactsync outcomes of a lane",
												  ALLOCSET_DEFAULT_SIZES);
	CsLaneOutcomes *outcomes = MemoryContextAllocZero(context, sizeof(CsLaneOutcomes));

	outcomes->lane = lane;
	outcomes->context = context;
	return outcomes;
}

/* Free what has been stored; changes that waited for its locks are PENDING again. */
void
cs_outcomes_free(CsLaneOutcomes *outcomes)
{
	ListCell   *lc;

	foreach(lc, outcomes->read_batches)
		cs_read_batch_release(lfirst(lc));
	cs_change_release_taken(outcomes->lane->changes.locks, outcomes->locks);
	MemoryContextDelete(outcomes->context);
}

/*
 * Gathering
 */

/* A new item, zeroed, at the end of the array. */
static void *
add(CsLaneOutcomes *outcomes, CsArray *array, Size size)
{
	return cs_array_add(array, outcomes->context, size);
}

static char *
copy(CsLaneOutcomes *outcomes, const char *text)
{
	return text ? MemoryContextStrdup(outcomes->context, text) : NULL;
}

static void
add_text(CsLaneOutcomes *outcomes, CsArray *array, const char *text)
{
	*(const char **) add(outcomes, array, sizeof(char *)) = copy(outcomes, text);
}

/*
 * End a change that has its outcome.  Its read batch and its locks are kept until
 * that is stored, and queue rows that nothing else needs are deleted with it.
 */
static void
finish(CsLaneOutcomes *outcomes, CsChange *change)
{
	CsLane	   *lane = change->lane;
	CsQueuePosition position;
	MemoryContext old = MemoryContextSwitchTo(outcomes->context);

	cs_remaining_end(&outcomes->remaining, outcomes->context, change);
	if (change->read_batch && (outcomes->read_batches == NIL || llast(outcomes->read_batches) != change->read_batch))
	{
		outcomes->read_batches = lappend(outcomes->read_batches, change->read_batch);
		cs_read_batch_retain(change->read_batch);
	}
	change->read_batch = NULL;
	outcomes->locks = cs_change_take_locks(change, outcomes->locks);
	if (change->no_xact != 0 && change->contact)
		cs_refusals_add(&outcomes->refusals, outcomes->context, change->upsert_key, change->contact->value[CS_EMAIL], change->no_xact);
	if (change->renamed)
		outcomes->renamed = lappend(outcomes->renamed, pstrdup(change->key));
	MemoryContextSwitchTo(old);
	while (cs_change_release_row(change, &position))
		*(CsQueuePosition *) add(outcomes, &outcomes->done, sizeof(CsQueuePosition)) = position;
	cs_change_finish(change);
	if (lane->changes.nchanges == 0)
		lane->max_read = 0;
}

/*
 * What a failure is stored under: the key of the row; or for a direct upsert, or a
 * person who is to be erased, the contact, since another row may have that key.  As
 * much of it as fits, and one byte more than a key may have, so that it fails again
 * if it is retried.
 */
static const char *
failure_key(CsLaneOutcomes *outcomes, const CsChange *change)
{
	int			len;

	if (change->upsert_key && (change->direct || change->removal_erases))
		return copy(outcomes, change->upsert_key);
	if (outcomes->lane->removals)
		return copy(outcomes, change->removal_key);
	if (strlen(change->key) <= CS_KEY_MAX_BYTES)
		return copy(outcomes, change->key);
	len = pg_mbcliplen(change->key, strlen(change->key), CS_KEY_MAX_BYTES);
	return copy(outcomes, psprintf("%.*s%*s", len, change->key, CS_KEY_MAX_BYTES + 1 - len, "~"));
}

static void
clear_failure(CsLaneOutcomes *outcomes, const CsChange *change)
{
	const CsAccount *account = outcomes->lane->account;

	if ((account->removals->has_failures || outcomes->lane->has_failures) && outcomes->lane->watch &&
		change->upsert_key && change->contact)
		add_text(outcomes, &outcomes->standing, change->upsert_key);
	if (outcomes->lane->has_failures)
		*(const char **) add(outcomes, &outcomes->cleared, sizeof(char *)) = failure_key(outcomes, change);
}

/* The row stands for its contact, and does not speak for it. */
static CsRowStored *
record_row(CsLaneOutcomes *outcomes, const CsChange *change, bool withheld)
{
	CsRowStored *row;

	if (outcomes->lane->watch == NULL)
		return NULL;
	row = add(outcomes, &outcomes->rows, sizeof(CsRowStored));
	row->key = copy(outcomes, change->key);
	row->upsert_key = copy(outcomes, change->upsert_key);
	row->digest = change->digest;
	row->has_digest = true;
	row->opt_in = change->row_opt_in;
	row->no_xact = change->row_opt_in == CS_CONSENT_NO ? change->no_xact : 0;
	row->withheld = withheld;
	row->spoke_at = withheld && change->has_changed ? change->sent_queued_at : 0;
	return row;
}

/* The row stands for its contact, and speaks for it. */
static void
record_speaker(CsLaneOutcomes *outcomes, const CsChange *change)
{
	if (!change->is_recorded)
		record_row(outcomes, change, false)->has_digest = false;
}

/*
 * A row has left a contact, which may be the last one that did.  "maybe_sent": it may
 * have been sent as the contact without an answer.
 */
static CsLeftTo *
depart(CsLaneOutcomes *outcomes, const CsChange *change, const char *upsert_key, bool maybe_sent,
	   char action)
{
	const CsLane *lane = outcomes->lane;
	CsLeftTo   *left = add(outcomes, &outcomes->left_to, sizeof(CsLeftTo));
	CsDeparture *departure;

	left->upsert_key = copy(outcomes, upsert_key);
	left->key = copy(outcomes, change->key);
	left->maybe_sent = maybe_sent;
	if (lane->watch->on_delete == CS_ON_DELETE_IGNORE && action == '\0')
		return left;
	departure = add(outcomes, &outcomes->departures, sizeof(CsDeparture));
	departure->upsert_key = left->upsert_key;
	departure->watch = lane->watch_id;
	departure->key = left->key;
	departure->action = action;
	return left;
}

/* The row stands for another contact than before. */
static void
leave_previous(CsLaneOutcomes *outcomes, const CsChange *change)
{
	const CsEndpoint *endpoint = outcomes->lane->account->endpoint;
	const CsProvider *provider = endpoint->provider;
	CsAction	action = provider->left_behind ? provider->left_behind(endpoint) : CS_UPSERT;

	if (change->previous_key)
		depart(outcomes, change, change->previous_key, change->previous_maybe_sent,
			   action == CS_UNSUBSCRIBE ? 'n' : action == CS_DELETE ? 'd' : '\0')->is_scan =
			(change->origins & CS_ORIGIN_LIVE) == 0;
}

static CsRemoved *
add_removed(CsLaneOutcomes *outcomes, const CsChange *change)
{
	CsRemoved  *removed = add(outcomes, &outcomes->removed, sizeof(CsRemoved));

	removed->upsert_key = copy(outcomes, change->upsert_key);
	removed->consent = cs_remember_removed(change);
	removed->consent.address = copy(outcomes, removed->consent.address);
	return removed;
}

/* A contact that there is not, or that is another one now. */
static void
remove_unremembered(CsLaneOutcomes *outcomes, const char *upsert_key)
{
	CsRemoved  *removed = add(outcomes, &outcomes->removed, sizeof(CsRemoved));

	removed->upsert_key = copy(outcomes, upsert_key);
}

static void
remember(CsLaneOutcomes *outcomes, CsArray *array, CsConsent consent)
{
	if (consent.state == '\0')
		return;
	consent.address = copy(outcomes, consent.address);
	*(CsConsent *) add(outcomes, array, sizeof(CsConsent)) = consent;
}

/* Has the provider one contact for an address? */
static bool
is_unique(const CsLaneOutcomes *outcomes)
{
	return (outcomes->lane->account->endpoint->provider->abilities & CS_UNIQUE_EMAIL) != 0;
}

/*
 * The contact got another address.  What is known of the old one is remembered.  Where
 * the provider has one contact for an address, a contact that we know by the old one
 * was the same there, and has to be made again.
 */
static void
leave_address(CsLaneOutcomes *outcomes, const CsChange *change)
{
	if (change->left.address == NULL)
		return;
	if (is_unique(outcomes))
	{
		CsLeftTo   *left = add(outcomes, &outcomes->left_to, sizeof(CsLeftTo));

		add_text(outcomes, &outcomes->freed, change->left.address);
		left->upsert_key = copy(outcomes, change->left.address);
		left->is_moved_over = true;
	}
	remember(outcomes, &outcomes->remembered, change->left);
}

static void
add_contact(CsLaneOutcomes *outcomes, const CsChange *change, const CsOutcome *outcome)
{
	const CsContact *contact = change->contact;
	CsContactStored *stored = add(outcomes, &outcomes->contacts, sizeof(CsContactStored));

	leave_address(outcomes, change);
	if (contact->refused_address)
		remember(outcomes, &outcomes->remembered, cs_remember_withheld(contact));
	if (contact->reopens && outcome->claimed && contact->value[CS_EMAIL])
		remember(outcomes, &outcomes->reopened, cs_remember_word(contact));
	if (contact->claim == CS_CLAIM && outcome->claimed && contact->value[CS_EMAIL])
		add_text(outcomes, &outcomes->consented, cs_text_from_utf8(contact->value[CS_EMAIL]));
	stored->contact = contact;
	stored->tid = change->contact_tid;
	stored->upsert_key = copy(outcomes, change->upsert_key);
	if (outcomes->lane->removals || change->is_late)
	{
		stored->watch = change->is_late ? change->others_watch : change->removal_watch;
		stored->key = copy(outcomes, change->is_late ? change->others_key : change->removal_key);
	}
	else if (outcomes->lane->watch)
	{
		stored->watch = outcomes->lane->watch_id;
		stored->key = copy(outcomes, change->key);
	}
	stored->digest = change->digest;
	stored->spoke_at = change->spoke_at;
	stored->changed_at = cs_change_changed_at(change);
	stored->opt_in = contact->action == CS_UPSERT || change->is_late ? change->contact_opt_in : CS_CONSENT_UNKNOWN;
	stored->only_consent = change->is_late;
	stored->has_others_digest = change->has_others_digest;
	if (change->is_late)
		stored->digest = change->others_digest;
	stored->claimed = contact->action == CS_UPSERT && (contact->keeps_address ? contact->claimed : outcome->claimed);
	stored->opted_out = outcome->opted_out;
	stored->left = outcome->opted_out && (outcome->complained || !(contact->opted_out || contact->said_no));
	stored->held = contact->keeps_address ||
		(contact->action == CS_UPSERT && contact->consent == CS_CONSENT_YES &&
		 !outcome->claimed && !outcome->opted_out);
	stored->inherited = stored->claimed && contact->inherits;
	stored->remote_id = copy(outcomes, outcome->remote_id ? outcome->remote_id : contact->remote_id);
	stored->remote_status = copy(outcomes, outcome->remote_status);
	stored->remote_updated_at = copy(outcomes, outcome->remote_updated_at);
	stored->note = copy(outcomes, contact->keeps_address ?
						"the address is not changed without a consent for the new one" :
						contact->drops_consent ? "consent does not pass to the new address" : outcome->note);
	stored->topics = copy(outcomes, outcome->topics);
	if (contact->action == CS_UPSERT && !change->is_late)
		stored->fields = change->fields;
}

/* Queue the row that speaks for the contact. */
static void
speak_again(CsLaneOutcomes *outcomes, const char *upsert_key)
{
	CsLeftTo   *left = add(outcomes, &outcomes->left_to, sizeof(CsLeftTo));

	left->upsert_key = copy(outcomes, upsert_key);
	left->is_speakers = true;
}

void
cs_outcomes_add_synced(CsLaneOutcomes *outcomes, CsChange *change, const CsOutcome *outcome)
{
	const CsContact *contact = change->contact;
	const char *former = cs_remember_former_key(change, outcome);

	outcomes->synced++;
	if (outcomes->lane->removals)
		*(int *) add(outcomes, &outcomes->removed_for, sizeof(int)) = change->removal_watch;
	if (contact->action == CS_DELETE)
	{
		const char *address = add_removed(outcomes, change)->consent.address;

		if (is_unique(outcomes) && address)
			add_text(outcomes, &outcomes->freed, address);
	}
	else
		add_contact(outcomes, change, outcome);
	if (former)
	{
		remove_unremembered(outcomes, former);
		remember(outcomes, &outcomes->remembered, change->moved_from);
	}
	if (outcomes->lane->removals)
		add_text(outcomes, &outcomes->decided, change->upsert_key);
	else if (outcomes->lane->watch)
	{
		if (contact->action == CS_UPSERT && !change->is_late)
			record_speaker(outcomes, change);
		else
			record_row(outcomes, change, !change->is_late);
		if (change->is_late && !change->has_others_digest)
			speak_again(outcomes, change->upsert_key);
		if (former != change->previous_key)
			leave_previous(outcomes, change);
	}
	if (change->alias_key && contact->action == CS_DELETE)
		remove_unremembered(outcomes, change->alias_key);
	else if (change->alias_key)
		add_text(outcomes, &outcomes->unknown, change->alias_key);
	clear_failure(outcomes, change);
	cs_change_mark_sent(change);
	finish(outcomes, change);
}

/* The row speaks for the contact from now on. */
static void
take_over(CsLaneOutcomes *outcomes, const CsChange *change)
{
	CsTakenOver *taken_over = add(outcomes, &outcomes->taken_over, sizeof(CsTakenOver));

	taken_over->upsert_key = copy(outcomes, change->upsert_key);
	taken_over->key = outcomes->lane->watch ? copy(outcomes, change->key) : NULL;
}

/* No call was needed.  "record": what the row stands for has to be stored. */
void
cs_outcomes_add_unchanged(CsLaneOutcomes *outcomes, CsChange *change, bool record)
{
	outcomes->unchanged++;
	if (record)
	{
		record_row(outcomes, change, false);
		leave_previous(outcomes, change);
	}
	if (change->takes_over)
		take_over(outcomes, change);
	clear_failure(outcomes, change);
	finish(outcomes, change);
}

/* No call was needed for this row; the one that speaks for the contact is sent again. */
void
cs_outcomes_add_left_to(CsLaneOutcomes *outcomes, CsChange *change, int watch, const char *key)
{
	CsRowKey   *speaker = add(outcomes, &outcomes->speakers, sizeof(CsRowKey));

	speaker->watch = watch;
	speaker->key = copy(outcomes, key);
	cs_outcomes_add_unchanged(outcomes, change, false);
}

/*
 * Another row speaks for the contact.  If what the provider has is not known, that
 * one is to be sent.
 */
void
cs_outcomes_add_deferred(CsLaneOutcomes *outcomes, CsChange *change, const char *speaks_for,
						 bool is_known)
{
	outcomes->unchanged++;

	/*
	 * a row that still stands for that contact has it when the other one
	 * leaves it
	 */
	if (change->previous_key == NULL || strcmp(change->previous_key, speaks_for) != 0)
	{
		record_row(outcomes, change, false);
		leave_previous(outcomes, change);
	}
	if (!is_known)
	{
		speak_again(outcomes, speaks_for);
		add_text(outcomes, &outcomes->unknown, speaks_for);
	}
	clear_failure(outcomes, change);
	finish(outcomes, change);
}

/* Another row that changed later was sent as the contact already. */
void
cs_outcomes_add_outdated(CsLaneOutcomes *outcomes, CsChange *change)
{
	outcomes->synced++;
	record_row(outcomes, change, false);
	leave_previous(outcomes, change);
	clear_failure(outcomes, change);
	finish(outcomes, change);
}

/* The contact is not created. */
void
cs_outcomes_add_withheld(CsLaneOutcomes *outcomes, CsChange *change)
{
	outcomes->unchanged++;
	record_row(outcomes, change, true);
	remember(outcomes, &outcomes->remembered, cs_remember_withheld(change->contact));
	if (change->unconfirmed)
		add_text(outcomes, &outcomes->unknown, change->upsert_key);
	leave_previous(outcomes, change);
	clear_failure(outcomes, change);
	finish(outcomes, change);
}

/*
 * The provider does not have the contact, which is not created.  What it knew of an
 * opt-out may have gone with a contact that it had before.
 */
void
cs_outcomes_add_absent(CsLaneOutcomes *outcomes, CsChange *change)
{
	CsRemoved  *removed;

	outcomes->unchanged++;
	record_row(outcomes, change, true);
	if (change->was_known)
	{
		removed = add_removed(outcomes, change);
		if (removed->consent.state == '\0' || removed->consent.state == CS_MEMORY_HELD)
			removed->consent.state = CS_MEMORY_CLOSED;
	}
	else
	{
		remove_unremembered(outcomes, change->upsert_key);
		remember(outcomes, &outcomes->remembered, cs_remember_withheld(change->contact));
	}
	leave_previous(outcomes, change);
	clear_failure(outcomes, change);
	finish(outcomes, change);
}

/* A contact is not removed after all, or for now, or a change was forgotten: whether it
 * has been decided on is all that is stored. */
void
cs_outcomes_add_kept(CsLaneOutcomes *outcomes, CsChange *change, bool decided)
{
	if (outcomes->lane->removals && decided)
		add_text(outcomes, &outcomes->decided, change->key);
	finish(outcomes, change);
}

/*
 * The row has gone, or is filtered out.  What it was sent as without an answer may
 * be at the provider, whatever comes next.
 */
void
cs_outcomes_add_gone(CsLaneOutcomes *outcomes, CsChange *change)
{
	outcomes->unchanged++;
	if (change->unconfirmed && change->upsert_key)
		add_text(outcomes, &outcomes->unknown, change->upsert_key);
	outcomes->relearns |= change->unconfirmed && !change->was_known;
	if (change->has_row)
		add_text(outcomes, &outcomes->gone, change->key);
	if (change->yes_left)
		add_text(outcomes, &outcomes->yes_left, change->upsert_key);
	if (outcomes->lane->watch && change->upsert_key)
		depart(outcomes, change, change->upsert_key, change->unconfirmed, '\0');
	clear_failure(outcomes, change);
	finish(outcomes, change);
}

/* May a call of the change have arrived at the provider? */
static bool
is_maybe_sent(const CsChange *change, const char *reason)
{
	return change->unconfirmed || strcmp(reason, CS_REASON_UNAVAILABLE) == 0 ||
		strcmp(reason, CS_REASON_UNREADABLE) == 0;
}

/* The contact has what the row says, but for its consent. */
static void
record_written(CsLaneOutcomes *outcomes, const CsChange *change)
{
	take_over(outcomes, change);
	if (outcomes->lane->watch == NULL)
		return;
	record_row(outcomes, change, false);
	leave_previous(outcomes, change);
}

void
cs_outcomes_add_failed(CsLaneOutcomes *outcomes, CsChange *change, const CsOutcome *outcome,
					   const char *request_id)
{
	CsFailureStored *stored = add(outcomes, &outcomes->failed, sizeof(CsFailureStored));
	MemoryContext old;

	stored->watch = outcomes->lane->removals ? change->removal_watch : outcomes->lane->watch_id;
	stored->key = failure_key(outcomes, change);
	stored->upsert_key = copy(outcomes, change->upsert_key);
	stored->digest = change->digest;
	stored->reason = outcome->reason ? copy(outcomes, outcome->reason) : CS_REASON_REJECTED;
	stored->code = copy(outcomes, outcome->code);
	stored->message = copy(outcomes, outcome->message);
	stored->field = copy(outcomes, outcome->field);
	stored->request_id = copy(outcomes, request_id);
	if (strcmp(stored->reason, CS_REASON_CONFLICT) == 0 && change->conflicts_here && change->contact)
		stored->conflict = copy(outcomes, cs_text_from_utf8(change->contact->value[CS_EMAIL]));
	stored->removal = outcomes->lane->removals && !change->removal_erases;
	stored->attempts = Max(change->attempts, 1);
	stored->erases = change->removal_erases;
	if (change->direct)
	{
		old = MemoryContextSwitchTo(outcomes->context);
		stored->direct = (Jsonb *) PG_DETOAST_DATUM_COPY(PointerGetDatum(change->direct));
		MemoryContextSwitchTo(old);
	}
	outcomes->last_error = stored->message ? stored->message : stored->reason;
	if (outcomes->lane->removals)
		add_text(outcomes, &outcomes->refused, change->upsert_key);
	if (change->upsert_key && (outcome->written || is_maybe_sent(change, stored->reason)))
		add_text(outcomes, &outcomes->unknown, change->upsert_key);
	if (outcome->written)
		record_written(outcomes, change);
	else if (change->upsert_key && change->contact && !outcomes->lane->removals &&
			 !is_maybe_sent(change, stored->reason))
	{
		/* it was only intended */
		if (!change->was_known)
			remove_unremembered(outcomes, change->upsert_key);

		/*
		 * ... but no other row is taken to say yes instead of one that says
		 * no
		 */
		if (outcomes->lane->watch && !change->has_row && change->contact->consent == CS_CONSENT_NO)
			record_row(outcomes, change, false)->has_digest = false;
		else if (outcomes->lane->watch && !change->has_row)
			add_text(outcomes, &outcomes->gone, change->key);
	}
	/* another row can say what the contact is */
	if (change->has_row && change->refused)
	{
		CsLeftTo   *left = add(outcomes, &outcomes->left_to, sizeof(CsLeftTo));

		left->upsert_key = copy(outcomes, change->upsert_key);
		left->key = copy(outcomes, change->key);
		left->has_no_address = strcmp(stored->reason, CS_REASON_INVALID_EMAIL) == 0;
	}
	finish(outcomes, change);
}
