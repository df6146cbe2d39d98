/*-------------------------------------------------------------------------
 *
 * shared.c
 *		Whether a row that was read speaks for a contact that several rows share.
 *
 * The row that changed last speaks for the contact.  A row that did not change does
 * not speak, whatever the others said meanwhile.  What a scan reads need not have
 * changed, nor need what is tried again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/account.h"
#include "delivery/shared.h"
#include "delivery/spoken.h"
#include "provider/provider.h"
#include "store/contact_known.h"
#include "store/contact_state.h"
#include "store/failure.h"
#include "store/row_state.h"

/*
 * Where the provider has one contact for an address, we can know it by the address and
 * by an ID: what is known of it is what was sent last.
 */
static bool
is_known_as_alias(const CsItem *item)
{
	const CsProvider *provider = item->change->lane->account->endpoint->provider;
	const CsKnown *alias = &item->person.alias;

	return (provider->abilities & CS_UNIQUE_EMAIL) != 0 && alias->found && alias->action == 'u' &&
		(alias->email == NULL || strcmp(item->upsert_key, alias->email) == 0) &&
		alias->key && alias->synced_at > item->known.synced_at &&
		cs_row_state_stands(alias->watch, alias->key, alias->upsert_key);
}

const CsKnown *
cs_shared_sent_last(const CsItem *item)
{
	return is_known_as_alias(item) ? &item->person.alias : &item->known;
}

/* Did another row speak for the contact last? */
static bool
another_spoke(const CsItem *item)
{
	const CsKnown *known = cs_shared_sent_last(item);

	return known->key &&
		!cs_contact_known_is_speaker(known, item->change->lane->watch_id, item->change->key);
}

/* ... and does it still stand for it? */
static bool
another_speaks(const CsItem *item)
{
	const CsKnown *known = cs_shared_sent_last(item);

	return another_spoke(item) && cs_row_state_stands(known->watch, known->key, known->upsert_key);
}

bool
cs_shared_is_unspoken(const CsItem *item)
{
	return another_spoke(item) && !another_speaks(item);
}

bool
cs_shared_says_the_same(const CsItem *item)
{
	return item->row.has_digest &&
		memcmp(&item->row.digest, &item->change->digest, sizeof(pg_uuid_t)) == 0;
}

/*
 * Did it change after what the other one said, and before that was sent?  Only if what it
 * says was read since: what is queued later need not have changed it.
 */
static bool
has_changed_since(const CsItem *item)
{
	const CsChange *change = item->change;

	return (change->origins & CS_ORIGIN_LIVE) != 0 && item->row.spoke_at > change->last_queued_at &&
		cs_spoken_is_older(change->lane->account->spoken, item->upsert_key, change->last_queued_at);
}

/* Has the row not changed, and does another one speak for the contact? */
static bool
is_silent(const CsItem *item)
{
	return item->change->lane->watch && !cs_known_has_left(item) && cs_shared_says_the_same(item) &&
		another_speaks(item) && !has_changed_since(item);
}

void
cs_shared_note_speaker(const CsItem *item)
{
	CsChange   *change = item->change;
	CsAccount  *account = change->lane->account;
	bool		another = another_spoke(item);

	change->known_changed_at = another ? 0 : cs_shared_sent_last(item)->changed_at;
	if (item->row.withheld && !cs_known_has_left(item))
		change->known_changed_at = Max(change->known_changed_at, item->row.spoke_at);
	if ((change->origins & CS_ORIGIN_LIVE) != 0 && (another || account->nwaiting > 0))
		cs_spoken_note(&account->spoken, account->context, item->upsert_key, change->last_queued_at);
}

void
cs_shared_renew_speaker(const CsItem *item)
{
	const CsChange *change = item->change;
	CsAccount  *account = change->lane->account;

	if ((change->origins & CS_ORIGIN_LIVE) != 0 && !another_spoke(item))
		cs_spoken_renew(&account->spoken, account->context, item->upsert_key, change->last_queued_at);
}

bool
cs_shared_is_older(const CsItem *item)
{
	const CsChange *change = item->change;

	/* one that is to speak, because another has left, is as old as that */
	if ((change->origins & (CS_ORIGIN_LIVE | CS_ORIGIN_SPEAKER)) == 0 ||
		((change->origins & CS_ORIGIN_LIVE) == 0 && cs_known_has_left(item)))
		return false;
	return change->lane->watch && another_speaks(item) &&
		(cs_shared_sent_last(item)->changed_at > change->last_queued_at ||
		 cs_spoken_is_newer(change->lane->account->spoken, item->upsert_key, change->last_queued_at));
}

/* Does it only say what the contact is to be? */
static bool
is_plain(const CsItem *item)
{
	return item->contact->action == CS_UPSERT && item->contact->claim != CS_CLAIM;
}

/*
 * Is the row known to have its outcome?  After a crash, what was queued with others that
 * had none is read again.  A row that does not speak is in doubt from before it is sent
 * until that has its outcome.
 */
static bool
is_settled(const CsItem *item)
{
	return !item->change->unconfirmed || (is_silent(item) && !is_known_as_alias(item));
}

/*
 * Is a row that has not changed to speak for the contact, because another had left it,
 * and has a third one spoken since?
 */
static bool
is_spoken_since(const CsItem *item)
{
	const CsChange *change = item->change;

	return (change->origins & CS_ORIGIN_SPEAKER) != 0 && (change->origins & CS_ORIGIN_LIVE) == 0 &&
		!cs_known_has_left(item) && another_speaks(item) &&
		(!item->row.has_digest || cs_shared_says_the_same(item));
}

bool
cs_shared_is_unchanged(const CsItem *item)
{
	const CsChange *change = item->change;
	const CsKnown *known = &item->known;
	bool		same = known->has_digest && known->action == 'u' &&
	memcmp(&known->digest, &change->digest, sizeof(pg_uuid_t)) == 0;

	if (!is_plain(item) || !is_settled(item))
		return false;
	return (same && !change->unconfirmed) ||
		(cs_shared_sent_last(item)->has_digest && (is_silent(item) || is_spoken_since(item)));
}

bool
cs_shared_is_left_to_speaker(const CsItem *item)
{
	return !cs_shared_sent_last(item)->has_digest && !(item->change->origins & CS_ORIGIN_SPEAKER) && is_plain(item) &&
		is_settled(item) && is_silent(item);
}

/* Can the row that speaks for the contact not be sent? */
static bool
speaker_has_failed(const CsItem *item)
{
	const CsKnown *known = cs_shared_sent_last(item);

	return cs_failure_upsert_key(item->change->lane->endpoint_id, known->watch, known->key) != NULL;
}

/* Read the failure of the row, or of contactsync_upsert(). */
static bool
read_failure(const CsItem *item, CsFailed *failed)
{
	MemoryContext context = CurrentMemoryContext;
	const CsLane *lane = item->change->lane;
	char	   *key = lane->watch ? (char *) item->change->key : item->upsert_key;

	memset(failed, 0, sizeof(CsFailed));
	if (lane->has_failures)
		cs_failure_read(lane->endpoint_id, lane->watch_id, 1, &key, failed);
	MemoryContextSwitchTo(context);
	return failed->found;
}

/* Did it fail as it is? */
static bool
has_failed(const CsItem *item, CsFailed *failed)
{
	return read_failure(item, failed) && failed->has_digest &&
		memcmp(&failed->digest, &item->change->digest, sizeof(pg_uuid_t)) == 0;
}

TimestampTz
cs_shared_spoke_at(const CsItem *item)
{
	const CsChange *change = item->change;
	const CsKnown *known = cs_known_has_left(item) ? &item->left : &item->known;
	TimestampTz spoke_at = 0;
	CsFailed	failed;

	if (cs_contact_known_is_speaker(known, change->lane->watch_id, change->key))
		spoke_at = known->spoke_at;
	if (cs_shared_says_the_same(item) || !read_failure(item, &failed))
		return spoke_at;
	return Max(spoke_at, failed.last_at);
}

/*
 * May the row have changed since the one that speaks for the contact did?  Another
 * mapping may have given it another contact, which it leaves to the row that spoke for
 * its previous one, or failed, later.
 */
static bool
has_changed(const CsItem *item)
{
	const CsChange *change = item->change;
	CsFailed	failed;

	if (cs_known_has_left(item))
		return (cs_contact_known_is_speaker(&item->left, change->lane->watch_id, change->key) || read_failure(item, &failed)) &&
			cs_shared_spoke_at(item) >= cs_shared_sent_last(item)->spoke_at;
	return item->row.has_digest && !cs_shared_says_the_same(item);
}

/* Is the row to speak for this contact?  Not for one that it comes to, if it was to do so
 * for another one. */
static bool
is_to_speak(const CsItem *item)
{
	return (item->change->origins & CS_ORIGIN_SPEAKER) != 0 && !cs_known_has_left(item) && !is_known_as_alias(item);
}

bool
cs_shared_defers(const CsItem *item)
{
	const CsChange *change = item->change;
	CsFailed	failed;

	if ((change->origins & CS_ORIGIN_LIVE) || change->lane->watch == NULL || is_to_speak(item) ||
		item->contact->action != CS_UPSERT || item->contact->claim == CS_CLAIM ||
		!item->row.found || (item->row.withheld && item->known.synced_at == 0) || has_changed(item))
		return false;
	return another_speaks(item) && !speaker_has_failed(item) &&
		!(has_failed(item, &failed) && failed.last_at >= cs_shared_sent_last(item)->spoke_at);
}

/* What was queued before it failed has not been sent since. */
bool
cs_shared_is_overtaken(const CsItem *item)
{
	const CsChange *change = item->change;
	CsFailed	failed;

	return change->lane->has_failures && is_plain(item) && another_speaks(item) &&
		has_failed(item, &failed) && !speaker_has_failed(item) &&
		failed.last_at < cs_shared_sent_last(item)->spoke_at &&
		(!change->unconfirmed || change->last_queued_at < failed.last_at);
}
