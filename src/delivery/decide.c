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
 *	  what cannot be sent fails, what is older than what was sent is outdated;
 *	- it is BLOCKED: another change has a lock on the contact.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/array.h"

#include "base/sql.h"
#include "base/text.h"
#include "delivery/decide.h"
#include "provider/provider.h"
#include "store/contact_state.h"
#include "store/queue.h"
#include "store/remote_contact.h"

/*
 * What is stored of the rows
 */

/* The key under which a contact of contactsync_upsert() is stored; "" if it
 * cannot be sent. */
static char *
direct_key(const CsLane *lane, CsContact *contact)
{
	if (contact == NULL || cs_provider_prepare(lane->account->endpoint, contact) != NULL)
		return "";
	return cs_text_from_utf8(contact->upsert_key);
}

/*
 * Do not trust the digest of a row if its contact was sent by
 * contactsync_upsert() since: the provider has something else.
 */
static void
distrust_older_than_direct(const CsLane *lane, int n, CsSourceRow *rows, CsKnown *known)
{
	CsKnown    *direct = palloc(n * sizeof(CsKnown));
	char	  **keys = palloc(n * sizeof(char *));

	for (int i = 0; i < n; i++)
		keys[i] = direct_key(lane, rows[i].contact);
	cs_contact_state_read(lane->endpoint_id, 0, n, keys, direct);
	for (int i = 0; i < n; i++)
		if (direct[i].found && direct[i].synced_at >= known[i].synced_at)
			known[i].has_digest = false;
}

/* What is stored of each, found by its key, or for direct upserts by the contact. */
static CsKnown *
read_known(const CsLane *lane, int n, CsChange **changes, CsSourceRow *rows)
{
	CsKnown    *known = palloc(n * sizeof(CsKnown));
	char	  **keys = palloc(n * sizeof(char *));

	for (int i = 0; i < n; i++)
		keys[i] = changes[i] == NULL ? "" : lane->watch ? changes[i]->key :
			direct_key(lane, rows[i].contact);
	cs_contact_state_read(lane->endpoint_id, lane->watch_id, n, keys, known);
	cs_contact_state_expire(n, known, lane->account->stale_before);
	if (lane->watch && lane->account->has_direct)
		distrust_older_than_direct(lane, n, rows, known);
	cs_remote_contact_apply(lane->account->endpoint, lane->endpoint_id, n, rows, known);
	return known;
}

/*
 * Contacts that several rows share
 */

/*
 * If another row was sent as the contact with that upsert key, queue that row to
 * be sent again after this one.  Return false if there is none.
 */
static bool
queue_sharer(const CsChange *change, const char *upsert_key)
{
	const CsLane *lane = change->lane;
	CsSqlScope	scope;
	CsQueueWriter *writer;
	char	   *key;
	int			watch;
	ListCell   *lc;

	cs_sql_enter(&scope);
	key = cs_contact_state_find_sharer(lane->endpoint_id, upsert_key, lane->watch_id, change->key,
									   &watch);
	if (key)
	{
		cs_contact_state_forget_digests(lane->endpoint_id, watch, 1, &key);
		writer = cs_queue_begin_write(NULL);
		cs_queue_write(writer, lane->endpoint_id, watch, 1,
					   DatumGetArrayTypeP(cs_sql_make_text_array(1, &key)), NULL);
		cs_queue_end_write(writer);
		foreach(lc, lane->account->lanes)
		{
			CsLane	   *other = lfirst(lc);

			if (other->watch_id == watch)
				other->exhausted = false;
		}
	}
	cs_sql_leave(&scope);
	return key != NULL;
}

/*
 * The row has gone, or has another upsert key.  If another row has the one that
 * was known, queue that row, and return true: the contact is left to it.
 */
static bool
leave_to_another(const CsChange *change, const CsKnown *known)
{
	if (change->lane->watch == NULL || !known->found || known->action != 'u' || known->email)
		return false;
	return queue_sharer(change, known->upsert_key);
}

/* If another row has the contact, leave it to that row, forget what is stored of
 * this one, and return true. */
static bool
part_from_contact(CsChange *change, const CsKnown *known)
{
	const CsLane *lane = change->lane;
	CsSqlScope	scope;

	if (!leave_to_another(change, known))
		return false;
	cs_sql_enter(&scope);
	cs_contact_state_forget(lane->endpoint_id, lane->watch_id, 1, &change->key);
	cs_sql_leave(&scope);
	return true;
}

/*
 * The contact
 */

/* The contact to be removed because its row has gone, or NULL if nothing is to be
 * sent. */
static CsContact *
contact_of_gone_row(const CsLane *lane, const CsChange *change, const CsKnown *known)
{
	bool		synced = known->found && known->action == 'u';
	const char *upsert_key = change->unconfirmed ? cs_change_locked_identity(change, CS_LOCK_KEY) : NULL;
	const char *email = change->unconfirmed ? cs_change_locked_identity(change, CS_LOCK_EMAIL) : NULL;
	CsContact  *contact;

	if (lane->watch == NULL || lane->watch->on_delete == CS_ON_DELETE_IGNORE ||
		(!synced && upsert_key == NULL))
		return NULL;
	contact = palloc0(sizeof(CsContact));
	contact->action = lane->watch->on_delete == CS_ON_DELETE_DELETE ? CS_DELETE : CS_UNSUBSCRIBE;
	/* otherwise it was sent, and the provider did not say what became of it */
	if (synced)
	{
		upsert_key = known->upsert_key;
		email = known->email;
	}
	contact->upsert_key = pstrdup(upsert_key);
	if (email && strcmp(email, upsert_key) != 0)
	{
		cs_contact_set(contact, CS_EXTERNAL_ID, contact->upsert_key);
		cs_contact_set(contact, CS_EMAIL, pstrdup(email));
	}
	return contact;
}

/* Prepare the contact, with what is stored of it. */
static CsRefusal *
prepare(const CsChange *change, CsContact *contact, const CsKnown *known)
{
	CsRefusal  *refusal;

	contact->change_id = change->queue_id;
	contact->retries = change->attempts;
	contact->remote_id = known->remote_id;
	contact->topics = known->topics;
	contact->opted_out = known->opted_out;
	contact->consent_sent = known->consent_sent && !change->withdrawn;
	refusal = cs_provider_prepare(change->lane->account->endpoint, contact);
	if (refusal)
		return refusal;
	if (known->found && known->upsert_key && strcmp(known->upsert_key, contact->upsert_key) != 0)
		contact->previous_key = known->upsert_key;
	return NULL;
}

/* Is the contact what was last sent? */
static bool
is_unchanged(const CsChange *change, const CsKnown *known)
{
	if (!known->has_digest || change->unconfirmed || change->contact->action != CS_UPSERT ||
		known->action != 'u')
		return false;
	return memcmp(&known->digest, &change->digest, sizeof(pg_uuid_t)) == 0;
}

/*
 * Locks
 */

/* Lock the identities of the contact.  Return false if the change is BLOCKED. */
static bool
lock_contact(CsChange *change)
{
	const CsEndpoint *endpoint = change->lane->account->endpoint;
	const CsContact *contact = change->contact;
	const char *email = contact->value[CS_EMAIL];

	if (!(endpoint->provider->abilities & CS_UNIQUE_EMAIL))
		email = NULL;
	return cs_change_lock(change, endpoint->serverid, contact->upsert_key, CS_LOCK_KEY) &&
		cs_change_lock(change, endpoint->serverid, email, CS_LOCK_EMAIL) &&
		cs_change_lock(change, endpoint->serverid, contact->previous_key, CS_LOCK_PREVIOUS);
}

/*
 * Lock the contact that the row was last sent as, so that of two rows that part
 * from it at once each sees what the other did.  Return false if the change is
 * BLOCKED.
 */
static bool
lock_known(CsChange *change, const CsKnown *known)
{
	if (!known->found || known->upsert_key == NULL)
		return true;
	return cs_change_lock(change, change->lane->account->serverid, known->upsert_key,
						  CS_LOCK_KEY);
}

/*
 * Deciding
 */

/* What cannot be stored is not sent. */
static void
fail_long_key(CsSettlement *settlement, CsChange *change)
{
	CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED};

	outcome.reason = CS_REASON_INVALID_FIELD;
	outcome.message = psprintf("the key of the row is longer than %d bytes", CS_KEY_MAX_BYTES);
	cs_settle_failed(settlement, change, &outcome, NULL);
}

/* The change is BLOCKED, and will be read again. */
static bool
drop_contact(CsChange *change)
{
	change->contact = NULL;
	change->read_batch = NULL;
	return false;
}

static void
refuse(CsSettlement *settlement, CsChange *change, const CsKnown *known, const CsRefusal *refusal)
{
	CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED};

	if (!lock_known(change, known))
	{
		(void) drop_contact(change);
		return;
	}
	outcome.reason = refusal->reason;
	outcome.message = refusal->message;
	outcome.field = refusal->field;
	(void) part_from_contact(change, known);
	cs_settle_failed(settlement, change, &outcome, NULL);
}

/* Send the contact, unless the provider has it, or a newer value of it. */
static bool
decide_contact(CsSettlement *settlement, CsChange *change, const CsKnown *known)
{
	CsContact  *contact = change->contact;

	cs_contact_digest(contact, change->lane->account->endpoint->payload, &change->digest);
	if (is_unchanged(change, known))
	{
		cs_settle_unchanged(settlement, change);
		return false;
	}
	if (!lock_contact(change))
		return drop_contact(change);
	/* if it parts from the contact that it was, the newer one is sent again */
	if (cs_change_is_outdated(change) &&
		(contact->previous_key == NULL || !queue_sharer(change, contact->upsert_key)))
	{
		cs_settle_outdated(settlement, change);
		return false;
	}
	if (contact->previous_key)
		contact->previous_shared = leave_to_another(change, known);
	return true;
}

/* Return true if the change has to be sent.  "contact" is what its row says; NULL:
 * the row has gone, or the filter keeps it out. */
static bool
decide(CsSettlement *settlement, CsChange *change, CsContact *contact, const CsKnown *known,
	   CsReadBatch *read_batch)
{
	const CsLane *lane = change->lane;
	CsRefusal  *refusal;

	memset(&change->digest, 0, sizeof(change->digest));
	if (lane->watch && strlen(change->key) > CS_KEY_MAX_BYTES)
	{
		fail_long_key(settlement, change);
		return false;
	}
	if (contact == NULL)
	{
		if (!lock_known(change, known))
			return false;
		if (!part_from_contact(change, known))
			contact = contact_of_gone_row(lane, change, known);
	}
	if (contact == NULL)
	{
		cs_settle_unchanged(settlement, change);
		return false;
	}
	change->contact = contact;
	change->read_batch = read_batch;
	refusal = prepare(change, contact, known);
	if (refusal)
	{
		refuse(settlement, change, known, refusal);
		return false;
	}
	return decide_contact(settlement, change, known);
}

/*
 * Decide on ACTIVE changes of a lane and the rows that were read for them, which
 * are allocated in the read batch; changes[i] may be NULL.  Those that have to be
 * sent come first in "changes" then, with a contact, and their number is
 * returned.  The read batch is the current context, and is so again.
 */
int
cs_decide_changes(CsLane *lane, int n, CsChange **changes, CsSourceRow *rows,
				  CsReadBatch *read_batch, CsSettlement *settlement)
{
	CsKnown    *known = read_known(lane, n, changes, rows);
	int			kept = 0;

	MemoryContextSwitchTo(read_batch->context);
	for (int i = 0; i < n; i++)
	{
		CsChange   *change = changes[i];

		if (change && decide(settlement, change, rows[i].contact, &known[i], read_batch))
			changes[kept++] = change;
	}
	return kept;
}
