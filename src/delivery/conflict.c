/*-------------------------------------------------------------------------
 *
 * conflict.c
 *		Contacts that wait for each other, because one has what the other is to
 *		have.
 *
 * Some providers find a contact by an external id, and let no two contacts have
 * the same address.  If one row leaves an address and another takes it, the first
 * has to be sent first.  Identity locks see to that once the first has been read;
 * if the other was, the provider refuses it.  It is then sent again when the first
 * has had its turn.  Two rows that exchange their addresses wait for each other,
 * so what is in conflict itself is not waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/text.h"
#include "delivery/change_lock.h"
#include "delivery/conflict.h"
#include "provider/provider.h"
#include "store/row_state.h"

/* Whether another contact has left an address is looked at again after (s). */
#define PAUSE	1.0

/* Will the contact that has the address leave it? */
typedef enum CsConflict
{
	CS_CONFLICT_STAYS,			/* not that we know of */
	CS_CONFLICT_PASSES,			/* a row that stands for it has changed, and
								 * is to be sent */
	CS_CONFLICT_ENTANGLED		/* likewise, but that is in conflict itself */
} CsConflict;

/*
 * Lock the identities that the contact is to have, and those that it has at present.
 * Return false if the change is BLOCKED.
 */
bool
cs_conflict_lock(CsChange *change, const CsContact *contact, const CsKnown *before)
{
	const CsAccount *account = change->lane->account;
	bool		unique = (account->endpoint->provider->abilities & CS_UNIQUE_EMAIL) != 0;
	const char *email = unique ? contact->value[CS_EMAIL] : NULL;
	const char *left = unique && before->found && before->email ?
	cs_text_to_utf8(before->email, strlen(before->email)) : NULL;
	const char *previous = contact->previous_key;

	if (previous == NULL && change->twin_key)
		previous = cs_text_to_utf8(change->twin_key, strlen(change->twin_key));

	if (left && email && strcmp(left, email) == 0)
		left = NULL;
	return cs_change_lock(change, account->id, contact->upsert_key, CS_LOCK_KEY) &&
		cs_change_lock(change, account->id, email, CS_LOCK_EMAIL) &&
		cs_change_lock(change, account->id, previous, CS_LOCK_PREVIOUS) &&
		cs_change_lock(change, account->id, left, CS_LOCK_PREVIOUS_EMAIL);
}

/* Is the row to be sent, of a watch that does not wait for somebody? */
static CsConflict
look_at_row(const CsLane *lane, const char *key)
{
	const CsChange *change;

	if (lane == NULL || cs_lane_is_stopped(lane))
		return CS_CONFLICT_STAYS;
	change = cs_change_find(&lane->changes, key);
	if (change)
		return change->conflicts > 0 ? CS_CONFLICT_ENTANGLED : CS_CONFLICT_PASSES;
	/* what is not in memory may be queued */
	return lane->exhausted && !lane->has_set_aside ? CS_CONFLICT_STAYS : CS_CONFLICT_PASSES;
}

/*
 * Find out about the contact of this endpoint that has the address of a contact
 * which the provider refused for a conflict.
 */
static CsConflict
find_conflict(CsChange *change, const CsContact *contact)
{
	const CsLane *lane = change->lane;
	CsConflict	result = CS_CONFLICT_STAYS;
	CsRowStanding *rows;
	int			n;

	if (contact->value[CS_EMAIL] == NULL)
		return CS_CONFLICT_STAYS;
	n = cs_row_state_find_holders(lane->endpoint_id, cs_text_from_utf8(contact->value[CS_EMAIL]),
								  change->upsert_key, &rows);
	change->conflicts_here = n > 0;
	for (int i = 0; i < n; i++)
	{
		CsConflict	found;

		if (rows[i].watch == lane->watch_id && strcmp(rows[i].key, change->key) == 0)
			continue;			/* the row itself, which is to leave that
								 * contact */
		found = look_at_row(cs_account_find_lane(lane->account, rows[i].watch), rows[i].key);
		if (found == CS_CONFLICT_PASSES)
			return found;
		if (found == CS_CONFLICT_ENTANGLED)
			result = found;
	}
	return result;
}

/*
 * If the provider has refused the contact because another one has its address, and
 * that one is going to leave it, postpone the change without its locks and return
 * true.  Needs a transaction.
 */
bool
cs_conflict_waits(CsChange *change, const CsContact *contact, double now)
{
	CsConflict	conflict;

	if (change->conflicts == 0)
		return false;
	conflict = find_conflict(change, contact);
	change->entangled = conflict == CS_CONFLICT_ENTANGLED;
	if (conflict != CS_CONFLICT_PASSES)
		return false;
	cs_change_let_go(change);
	cs_change_postpone(change, now + PAUSE, false);
	return true;
}
