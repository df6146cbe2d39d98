/*-------------------------------------------------------------------------
 *
 * intent.c
 *		What is stored before calls that could leave behind what nobody knows of.
 *
 * A contact that may be created, and would have to be removed when its row has
 * gone; one that another row would have to speak for again then; consent that may be
 * withdrawn; or a word that may be carried, which the next row of the contact must not
 * repeat.  Of all else the queue row is the doubt.  It takes one flush for all changes
 * that are read together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/account.h"
#include "delivery/intent.h"
#include "store/departure.h"

struct CsIntents
{
	const CsLane *lane;
	int			ncontacts;
	CsContactIntent *contacts;
	int			nrows;
	CsRowStored *rows;
	int			ndepartures;
	CsDeparture *departures;
};

CsIntents *
cs_intent_begin(const CsLane *lane, int n)
{
	CsIntents  *intents = palloc0(sizeof(CsIntents));

	intents->lane = lane;
	intents->contacts = palloc(n * sizeof(CsContactIntent));
	intents->rows = palloc(n * sizeof(CsRowStored));
	intents->departures = palloc0(n * sizeof(CsDeparture));
	return intents;
}

/* The row stands for the contact from now on, as far as that is known. */
static void
add_row(CsIntents *intents, const CsChange *change, const CsRowState *before, char opt_in)
{
	CsRowStored *row = &intents->rows[intents->nrows++];

	memset(row, 0, sizeof(CsRowStored));
	row->key = change->key;
	row->upsert_key = before->found ? before->upsert_key : change->upsert_key;
	row->opt_in = opt_in;
}

static void
add_departure(CsIntents *intents, const CsChange *change)
{
	CsDeparture *departure = &intents->departures[intents->ndepartures++];

	departure->upsert_key = change->upsert_key;
	departure->watch = intents->lane->watch_id;
	departure->key = change->key;
}

/*
 * Is the row new to a contact that is known, or that another row stands for?  If it
 * goes before the call is answered, nothing else tells that the contact may have its
 * values.
 */
static bool
is_new_to_contact(const CsLane *lane, const CsChange *change, const CsRowState *row,
				  const CsKnown *known)
{
	int			watch;
	char	   *key;

	if (lane->watch == NULL || (row->found && strcmp(row->upsert_key, change->upsert_key) == 0))
		return false;
	return known->found ||
		(!row->found && cs_row_state_find_other(lane->endpoint_id, change->upsert_key, lane->watch_id,
												change->key, &watch, &key));
}

/* Does a row's word claim consent of a contact that was said not to give it? */
static bool
carries_word(const CsChange *change, const CsKnown *known)
{
	return change->lane->watch && change->contact->claim == CS_CLAIM && known->synced_at != 0 &&
		(known->opt_in == CS_CONSENT_NO || known->opt_in == CS_CONSENT_NULL);
}

void
cs_intent_add(CsIntents *intents, const CsChange *change, const CsRowState *row,
			  const CsKnown *known)
{
	const CsLane *lane = intents->lane;
	const CsContact *contact = change->contact;
	bool		creates = lane->watch && lane->watch->on_delete != CS_ON_DELETE_IGNORE &&
	!known->found && contact->action == CS_UPSERT && !contact->withheld;
	bool		withdraws = contact->consent == CS_CONSENT_NO && known->found &&
	(known->claimed || known->opt_in != CS_CONSENT_NO);
	bool		claims = carries_word(change, known);
	CsContactIntent *intent;

	if (!creates && !withdraws && !claims && !is_new_to_contact(lane, change, row, known))
		return;
	intent = &intents->contacts[intents->ncontacts++];
	memset(intent, 0, sizeof(CsContactIntent));
	intent->upsert_key = change->upsert_key;
	intent->email = contact->value[CS_EMAIL] ? cs_text_from_utf8(contact->value[CS_EMAIL]) : NULL;
	if (intent->email && strcmp(intent->email, change->upsert_key) == 0)
		intent->email = NULL;
	intent->watch = lane->watch_id;
	intent->key = lane->watch ? change->key : NULL;
	intent->upserts = contact->action == CS_UPSERT;
	intent->withdraws = withdraws;
	intent->claims = claims;
	if (lane->watch == NULL)
		return;
	/* the word is this row's, which can repeat it: it has not said true yet */
	if (withdraws || claims || !row->found)
		add_row(intents, change, row, withdraws || claims ? CS_CONSENT_NO : CS_CONSENT_UNKNOWN);
	if (creates && row->found)
		add_departure(intents, change);
}

static void
store(void *arg)
{
	const CsIntents *intents = arg;
	const CsLane *lane = intents->lane;
	CsSqlScope	scope;

	cs_contact_state_intend(lane->endpoint_id, intents->ncontacts, intents->contacts);
	cs_row_state_store(lane->endpoint_id, lane->watch_id, intents->nrows, intents->rows);
	if (intents->ndepartures == 0)
		return;
	cs_sql_enter(&scope);
	cs_departure_store(lane->endpoint_id, intents->ndepartures, intents->departures);
	lane->account->removals_at = 0;
	cs_sql_leave(&scope);
}

bool
cs_intent_store(CsIntents *intents)
{
	if (intents->ncontacts == 0)
		return true;
	if (cs_try(store, intents, CS_LOCK_TIMEOUT, NULL) != CS_TRY_OK)
		return false;
	ForceSyncCommit();
	/* a departure that the call does not settle is to be looked at */
	if (intents->ndepartures > 0)
		intents->lane->account->removals_at = 0;
	return true;
}
