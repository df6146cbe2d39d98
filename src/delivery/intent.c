/*-------------------------------------------------------------------------
 *
 * intent.c
 *		What is stored before calls that could leave behind what nobody knows of.
 *
 * A contact that may be created, or be there already, and would have to be removed
 * when its row has gone; one that another row would have to speak for again then; one
 * that may get another address, and become another contact; one that may be deleted,
 * which the next row must not take to be there; consent that may be withdrawn; a word
 * that may be carried, which the next row of the contact must not repeat; or that a row
 * speaks over another one, since only a row that is known not to have done so may be
 * left out after a crash.  Of all else the queue row is the doubt.  It takes one flush
 * for all changes that are read together.
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
#include "delivery/known.h"
#include "delivery/remember.h"
#include "store/contact_known.h"
#include "store/departure.h"

typedef struct CsIntents
{
	const CsLane *lane;
	int			ncontacts;
	CsContactIntent *contacts;
	int			nrows;
	CsRowStored *rows;
	int			ndepartures;
	CsDeparture *departures;
	int			nreopened;
	CsConsent  *reopened;
} CsIntents;

/* The row stands for the contact from now on, as far as that is known. */
static void
add_row(CsIntents *intents, const CsChange *change, const CsRowState *before, char opt_in, int64 word_address)
{
	CsRowStored *row = &intents->rows[intents->nrows++];

	memset(row, 0, sizeof(CsRowStored));
	row->key = change->key;
	row->upsert_key = before->found ? before->upsert_key : change->upsert_key;
	row->opt_in = opt_in;
	row->no_xact = opt_in == CS_CONSENT_NO ? change->no_xact : 0;
	row->word_address = word_address;
}

/* What the row says is not known until its call is answered. */
static void
add_doubt(CsIntents *intents, const CsItem *item)
{
	CsRowStored *row = &intents->rows[intents->nrows++];

	memset(row, 0, sizeof(CsRowStored));
	row->key = item->change->key;
	row->upsert_key = item->row.upsert_key;
	row->in_doubt = true;
	row->opt_in = item->row.opt_in;
	row->withheld = item->row.withheld;
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
 * May the call leave a contact that would have to be removed with its row, and is not
 * known?  It is created, or is there already, as one that is withheld can be.
 */
static bool
leaves_contact(const CsLane *lane, const CsItem *item)
{
	return lane->watch && lane->watch->on_delete != CS_ON_DELETE_IGNORE && !item->known.found &&
		item->contact->action == CS_UPSERT;
}

/* Did the row say yes before? */
static bool
said_yes(const CsItem *item)
{
	return item->row.found && !cs_known_has_left(item) && cs_contact_says_yes(item->row.opt_in);
}

/* May it withdraw consent, whichever row gave it?  Of a contact that is not known, the
 * address tells. */
static bool
withdraws(const CsItem *item)
{
	const CsContact *contact = item->contact;
	const CsKnown *known = &item->known;

	if (contact->consent != CS_CONSENT_NO)
		return false;
	if (!known->found)
		return item->person.remembered || item->person.elsewhere;
	return known->claimed || known->opt_in != CS_CONSENT_NO || said_yes(item);
}

/* Has the provider a call that ends consent? */
static bool
can_withdraw(const CsProvider *provider)
{
	return (provider->abilities & (CS_CAN_UNSUBSCRIBE | CS_CAN_DELETE)) != 0;
}

/*
 * Find out which rows are new to a contact that is known, or that another row stands
 * for.  If one goes before the call is answered, nothing else tells that the contact may
 * have its values.
 */
static void
find_new_to_contact(const CsLane *lane, int n, CsItem **items, bool *is_new)
{
	char	  **upsert_keys = palloc0(n * sizeof(char *));
	char	  **keys = palloc(n * sizeof(char *));

	for (int i = 0; i < n; i++)
	{
		const CsItem *item = items[i];

		keys[i] = item->change->key;
		if (!item->known.found && !item->row.found && !leaves_contact(lane, item))
			upsert_keys[i] = item->upsert_key;
	}
	cs_row_state_have_others(lane->endpoint_id, n, upsert_keys, lane->watch_id, keys, is_new);
	for (int i = 0; i < n; i++)
		is_new[i] |= items[i]->known.found && (!items[i]->row.found || cs_known_has_left(items[i]));
}

/* Does a row's word claim consent of a contact, or an address, that was said not to give it? */
static bool
claims(const CsLane *lane, const CsItem *item)
{
	const CsKnown *known = &item->known;

	if (lane->watch == NULL || item->contact->claim != CS_CLAIM)
		return false;
	if (!known->found || item->contact->reopens)
		return (item->change->origins & CS_ORIGIN_WORD) != 0;
	return known->synced_at != 0 &&
		(known->opt_in == CS_CONSENT_NO || known->opt_in == CS_CONSENT_NULL);
}

/* May the call have the contact that the row stood for become this one?  Of one that has
 * not been answered that is stored already. */
static bool
moves(const CsLane *lane, const CsItem *item)
{
	const CsEndpoint *endpoint = lane->account->endpoint;

	return endpoint->provider->moves && endpoint->provider->moves(endpoint, item->contact) &&
		(item->known.twin == NULL || strcmp(item->known.twin, item->row.upsert_key) != 0);
}

static void
add_contact(CsIntents *intents, const CsItem *item)
{
	const CsLane *lane = intents->lane;
	const CsContact *contact = item->contact;
	CsContactIntent *intent = &intents->contacts[intents->ncontacts++];

	memset(intent, 0, sizeof(CsContactIntent));
	intent->upsert_key = item->upsert_key;
	intent->email = contact->value[CS_EMAIL] ? cs_text_from_utf8(contact->value[CS_EMAIL]) : NULL;
	if (intent->email && strcmp(intent->email, item->upsert_key) == 0)
		intent->email = NULL;
	intent->watch = lane->watch_id;
	intent->key = lane->watch ? item->change->key : NULL;
	intent->opt_in = item->change->contact_opt_in;
	intent->upserts = contact->action == CS_UPSERT;
	intent->deletes = contact->action == CS_DELETE;
	intent->withdraws = withdraws(item);
	intent->leaves_address = cs_known_is_moving(item);
	/* the claim is of the address that it leaves */
	intent->ends_claim = intent->withdraws && !intent->leaves_address && can_withdraw(lane->account->endpoint->provider);
	intent->claims = claims(lane, item);
	intent->direct_no = contact->direct_no;
	intent->withdrawn_at = intent->withdraws ? contact->opt_in_at : 0;
	intent->moved_from = moves(lane, item) ? item->row.upsert_key : NULL;
}

/* The address is not remembered as closed any more, so that no other row repeats the word. */
static void
add_reopened(CsIntents *intents, const CsItem *item)
{
	intents->reopened[intents->nreopened++] = cs_remember_word(item->contact);
}

/*
 * What the row is stored to say until its call is answered.  A word is this row's, which
 * can repeat it for the same address: it has not said true yet.
 */
static char
said_by_row(const CsItem *item, bool is_word)
{
	if (is_word)
		return CS_CONSENT_NO;
	return item->contact->consent == CS_CONSENT_YES ? CS_CONSENT_UNKNOWN : item->change->row_opt_in;
}

/* Is it known what the row said, although another one speaks for the contact? */
static bool
speaks_over_another(const CsLane *lane, const CsItem *item)
{
	return lane->watch && item->row.found && item->row.has_digest && !item->row.in_doubt &&
		!cs_contact_known_is_speaker(&item->known, lane->watch_id, item->change->key);
}

/* Add an item, if that is needed. */
static void
add(CsIntents *intents, const CsItem *item, bool is_new)
{
	bool		is_word = withdraws(item) || claims(intents->lane, item);
	bool		is_left = leaves_contact(intents->lane, item);

	if (!is_word && speaks_over_another(intents->lane, item))
		add_doubt(intents, item);
	if (!is_left && !is_word && !is_new && item->contact->action != CS_DELETE && !moves(intents->lane, item))
		return;
	add_contact(intents, item);
	if (intents->lane->watch == NULL)
		return;
	if (item->contact->reopens && claims(intents->lane, item) && item->contact->value[CS_EMAIL])
		add_reopened(intents, item);
	if (is_word || !item->row.found)
		add_row(intents, item->change, &item->row, said_by_row(item, is_word),
				claims(intents->lane, item) ? cs_known_address(item->contact) : 0);
	if (is_left && item->row.found)
		add_departure(intents, item->change);
}

static void
store(void *arg)
{
	const CsIntents *intents = arg;
	const CsLane *lane = intents->lane;
	CsSqlScope	scope;

	cs_contact_state_intend(lane->endpoint_id, intents->ncontacts, intents->contacts);
	cs_row_state_store(lane->endpoint_id, lane->watch_id, intents->nrows, intents->rows);
	if (intents->ndepartures == 0 && intents->nreopened == 0)
		return;
	cs_sql_enter(&scope);
	if (intents->ndepartures > 0)
		cs_departure_store(lane->endpoint_id, intents->ndepartures, intents->departures);
	cs_consent_reopen(&lane->account->consents, intents->nreopened, intents->reopened);
	cs_sql_leave(&scope);
}

/* Store them durably; return false if somebody has a lock. */
static bool
store_durably(CsIntents *intents)
{
	if (cs_try(store, intents, CS_LOCK_TIMEOUT, NULL) != CS_TRY_OK)
		return false;
	ForceSyncCommit();
	return true;
}

bool
cs_intent_store_deletions(const CsLane *lane, int n, CsChange **changes)
{
	CsIntents	intents = {.lane = lane};

	intents.contacts = palloc0(n * sizeof(CsContactIntent));
	for (int i = 0; i < n; i++)
	{
		CsContactIntent *intent = &intents.contacts[intents.ncontacts];

		if (changes[i]->contact->action != CS_DELETE)
			continue;
		intent->upsert_key = changes[i]->upsert_key;
		intent->deletes = true;
		intents.ncontacts++;
	}
	return intents.ncontacts == 0 || store_durably(&intents);
}

bool
cs_intent_store(const CsLane *lane, int n, CsItem **items)
{
	CsIntents	intents = {.lane = lane};
	bool	   *is_new = palloc0(n * sizeof(bool));

	intents.contacts = palloc(n * sizeof(CsContactIntent));
	intents.rows = palloc(n * sizeof(CsRowStored));
	intents.departures = palloc0(n * sizeof(CsDeparture));
	intents.reopened = palloc0(n * sizeof(CsConsent));
	if (lane->watch && n > 0)
		find_new_to_contact(lane, n, items, is_new);
	for (int i = 0; i < n; i++)
		add(&intents, items[i], is_new[i]);
	if (intents.ncontacts == 0 && intents.nrows == 0)
		return true;
	if (!store_durably(&intents))
		return false;
	/* a departure that the call does not settle is to be looked at */
	if (intents.ndepartures > 0)
		lane->account->removals_at = 0;
	return true;
}
