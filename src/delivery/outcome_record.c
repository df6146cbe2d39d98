/*-------------------------------------------------------------------------
 *
 * outcome_record.c
 *		What is to be logged of contacts, and why they were sent.
 *
 * Nothing is done of this unless the option log_contacts of the server is on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/text.h"
#include "delivery/known.h"
#include "delivery/outcome_record.h"
#include "provider/field_hash.h"
#include "store/consent.h"
#include "store/contact_state.h"
#include "store/outcome_log.h"

/* Why the change would be sent whatever is stored, or NULL. */
static const char *
again_of(const CsChange *change, const CsKnown *known)
{
	if ((change->origins & CS_ORIGIN_TOUCH) != 0)
		return "forced";
	if (change->unconfirmed)
		return "unconfirmed";
	return known->is_stale ? "stale" : NULL;
}

/* All fields differ from those of a contact that was not sent yet. */
static const char *
differences(const CsContact *contact, const bytea *now, const CsKnown *known)
{
	if (known->fields == NULL && known->synced_at != 0)
		return NULL;
	return cs_field_hash_differences(contact, now, known->fields);
}

void
cs_outcome_record_prepare(const CsLane *lane, int n, CsItem *items)
{
	bool		logs = lane->account->endpoint->log_contacts;
	uint64		secret = logs ? cs_consent_secret() : 0;

	for (int i = 0; i < n; i++)
	{
		CsItem	   *item = &items[i];
		CsChange   *change = item->change;

		if (change == NULL)
			continue;
		change->fields = NULL;
		change->differences = NULL;
		change->again = NULL;
		if (!logs || item->contact == NULL || item->refusal)
			continue;
		change->fields = cs_field_hash_make(item->contact, secret);
		change->differences = differences(item->contact, change->fields, &item->known);
		change->again = again_of(change, &item->known);
	}
}

/* What had the change read. */
static const char *
cause_of(const CsLane *lane, const CsChange *change)
{
	if (lane->removals)
		return "removal";
	if ((change->origins & CS_ORIGIN_RETRY) != 0)
		return "retry";
	if ((change->origins & CS_ORIGIN_LIVE) != 0)
		return lane->watch ? "change" : "upsert";
	if ((change->origins & CS_ORIGIN_TOUCH) != 0)
		return "touch";
	return (change->origins & CS_ORIGIN_SPEAKER) != 0 ? "shared" : CS_CAUSE_SCAN;
}

static const char *
copy(MemoryContext context, const char *text)
{
	return text ? MemoryContextStrdup(context, text) : NULL;
}

void
cs_outcome_record_add(CsLaneOutcomes *outcomes, const CsChange *change, const char *outcome,
					  const char *reason)
{
	const CsLane *lane = outcomes->lane;
	const CsEndpoint *endpoint = lane->account->endpoint;
	const char *address = change->contact ? change->contact->value[CS_EMAIL] : NULL;
	CsLoggedOutcome *logged;

	if (endpoint == NULL || !endpoint->log_contacts || change->removal_erases)
		return;
	logged = cs_array_add(&outcomes->logged, outcomes->context, sizeof(CsLoggedOutcome));
	logged->watch = lane->removals ? change->removal_watch : lane->watch_id;
	if (lane->removals || lane->watch)
		logged->key = copy(outcomes->context, lane->removals ? change->removal_key : change->key);
	logged->upsert_key = copy(outcomes->context, change->upsert_key);
	if (address)
		logged->address = copy(outcomes->context, cs_text_from_utf8(address));
	else if (change->contact)
		logged->address = logged->upsert_key;
	logged->outcome = outcome;
	logged->reason = reason;
	logged->cause = cause_of(lane, change);
	logged->again = change->again;
	if (change->differences)
		logged->fields = copy(outcomes->context, cs_text_from_utf8(change->differences));
	logged->attempts = change->attempts;
	logged->queued_at = change->queued_at;
}
