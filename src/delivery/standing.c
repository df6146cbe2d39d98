/*-------------------------------------------------------------------------
 *
 * standing.c
 *		What other rows say that stand for a contact, or are about to leave it.
 *
 * What is stored of rows lags behind the rows that are decided on together: of
 * these counts what they say now, and whether they still stand for the contact.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/account.h"
#include "delivery/change_add.h"
#include "delivery/departed.h"
#include "delivery/outcomes.h"
#include "delivery/related_change.h"
#include "delivery/standing.h"

/* Did the row stand for the contact until now? */
static bool
is_leaving(const CsRowNow *row, const char *upsert_key)
{
	return row->key && row->before->found && strcmp(row->before->upsert_key, upsert_key) == 0 &&
		(row->upsert_key == NULL || strcmp(row->upsert_key, upsert_key) != 0);
}

/* Find a row of the watch among those that are decided on; NULL: it is none. */
static const CsRowNow *
find_row(const CsRowsNow *now, const char *key)
{
	for (int i = 0; i < now->n; i++)
		if (now->rows[i].key && strcmp(now->rows[i].key, key) == 0)
			return &now->rows[i];
	return NULL;
}

static void
add_consent(CsClaimOthers *others, char consent)
{
	others->say_no |= consent == CS_CONSENT_NO;
	others->say_null |= consent == CS_CONSENT_NULL;
	others->say_yes |= consent == CS_CONSENT_YES || consent == CS_CONSENT_NULLED;
}

/*
 * Find what is to be stored of a row: the contact that it stands for, or NULL if it has
 * gone.  Return false if nothing is.
 */
static bool
find_settled(const CsLaneOutcomes *outcomes, const char *key, const CsRowStored **row)
{
	const CsRowStored *rows = outcomes->rows.items;
	char	  **gone = outcomes->gone.items;

	*row = NULL;
	for (int i = 0; i < outcomes->gone.n; i++)
		if (strcmp(gone[i], key) == 0)
			return true;
	for (int i = outcomes->rows.n - 1; i >= 0 && *row == NULL; i--)
		if (strcmp(rows[i].key, key) == 0)
			*row = &rows[i];
	return *row != NULL;
}

static bool
is_settled(const CsLane *lane, const char *key)
{
	const CsRowStored *settled;

	return lane->outcomes && find_settled(lane->outcomes, key, &settled);
}

/* Is another row taken for this one, which is leaving its contact, already? */
static bool
is_renamed(const CsLane *lane, const char *key)
{
	const CsChange *change;
	ListCell   *lc;

	if (!is_settled(lane, key))
	{
		change = cs_change_find(&lane->changes, key);
		return change && change->renamed;
	}
	foreach(lc, lane->outcomes->renamed)
	{
		if (strcmp(lfirst(lc), key) == 0)
			return true;
	}
	return false;
}

/* The row that had gone has another key now. */
static void
forget_departed(const CsAccount *account, int watch, const char *key)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
		cs_departed_forget(&((CsLane *) lfirst(lc))->departed, watch, key);
}

void
cs_standing_rename(const CsAccount *account, int watch, const char *key)
{
	CsLane	   *lane = cs_account_find_lane(account, watch);
	MemoryContext old;
	CsChange   *change;

	forget_departed(account, watch, key);
	if (!is_settled(lane, key))
	{
		change = cs_change_find(&lane->changes, key);
		if (change)
			change->renamed = true;
		return;
	}
	old = MemoryContextSwitchTo(lane->outcomes->context);
	lane->outcomes->renamed = lappend(lane->outcomes->renamed, pstrdup(key));
	MemoryContextSwitchTo(old);
}

bool
cs_standing_take_departed(const CsAccount *account, const char *upsert_key)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
	{
		const CsLane *lane = lfirst(lc);
		const char *key;
		int			watch;

		if (cs_lane_is_stopped(lane) || !cs_departed_find_yes(lane->departed, upsert_key, &watch, &key))
			continue;
		key = pstrdup(key);
		forget_departed(account, watch, key);
		return true;
	}
	return false;
}

void
cs_standing_depart(const CsLane *lane, const char *key, const char *upsert_key, char said)
{
	ListCell   *lc;

	foreach(lc, lane->account->lanes)
	{
		CsLane	   *other = lfirst(lc);

		if (other->watch == NULL || cs_lane_is_stopped(other))
			continue;
		cs_departed_add(&other->departed, other->context, lane->watch_id, key, upsert_key, said);
		/* what is yet to be read ends with the next reading */
		other->exhausted = false;
	}
}

bool
cs_standing_may_return(const CsAccount *account, const char *upsert_key)
{
	bool		may_return = false;
	ListCell   *lc;

	foreach(lc, account->lanes)
	{
		CsLane	   *lane = lfirst(lc);

		if (cs_lane_is_stopped(lane) || !cs_departed_has_no(lane->departed, upsert_key))
			continue;
		may_return = true;
		lane->exhausted = false;
	}
	return may_return;
}

/* Add what a row said that is leaving the contact. */
static void
add_left(const CsLane *lane, const char *key, char before, CsClaimOthers *others)
{
	others->left_no |= before == CS_CONSENT_NO;
	others->left_not_true |= before == CS_CONSENT_NO || before == CS_CONSENT_NULL;
	if (others->left_key == NULL && cs_contact_says_yes(before) && !is_renamed(lane, key))
	{
		others->left_watch = lane->watch_id;
		others->left_key = key;
	}
}

/*
 * Add what a row says that is stored as standing for the contact.  Whether it left the
 * contact may have been decided in an earlier reading, and is not stored yet.
 */
static void
add_stored(const CsLane *lane, const CsRowsNow *now, const CsRowStanding *stored, const char *upsert_key,
		   CsClaimOthers *others)
{
	const CsRowNow *row = stored->watch == lane->watch_id ? find_row(now, stored->key) : NULL;
	const CsLane *other = cs_account_find_lane(lane->account, stored->watch);
	const CsRowStored *settled;

	if (row)
		add_consent(others, is_leaving(row, upsert_key) ? CS_CONSENT_UNKNOWN : row->consent);
	else if (other == NULL || other->outcomes == NULL ||
			 !find_settled(other->outcomes, stored->key, &settled))
		add_consent(others, stored->opt_in);
	else if (settled && strcmp(settled->upsert_key, upsert_key) == 0)
		add_consent(others, settled->opt_in);
	else
		add_left(other, stored->key, stored->opt_in, others);
}

/* Add what other rows say that are stored as standing for a contact. */
static void
add_standing(const CsLane *lane, const CsRowsNow *now, int self, const char *upsert_key,
			 CsClaimOthers *others)
{
	CsRowStanding *standing;
	int			nstanding = cs_row_state_read_standing(lane->endpoint_id, upsert_key, &standing);

	for (int i = 0; i < nstanding; i++)
		if (standing[i].watch != lane->watch_id || strcmp(standing[i].key, now->rows[self].key) != 0)
			add_stored(lane, now, &standing[i], upsert_key, others);
}

/* Do outcomes that are yet to be stored have another row say no of the contact? */
static bool
is_to_be_refused(const CsLaneOutcomes *outcomes, const char *upsert_key, const char *but_key)
{
	const CsRowStored *rows = outcomes->rows.items;

	for (int i = 0; i < outcomes->rows.n; i++)
		if (rows[i].opt_in == CS_CONSENT_NO && strcmp(rows[i].upsert_key, upsert_key) == 0 &&
			(but_key == NULL || strcmp(rows[i].key, but_key) != 0))
			return true;
	return false;
}

/*
 * Add what whoever has the lock on the contact says: a row whose call is under way, or
 * whose outcome is yet to be stored.  It can be stored as standing for the contact that
 * it leaves.
 */
static void
add_under_way(const CsLane *lane, const char *upsert_key, const char *key, CsClaimOthers *others)
{
	const CsIdentityLock *lock = cs_identity_lock_look_up(lane->changes.locks,
														  cs_identity_lock_key(lane->endpoint_id, "key", upsert_key));
	ListCell   *lc;

	if (lock == NULL || lock->owner == NULL)
		return;
	if (!lock->is_taken)
	{
		if (lock->owner != cs_change_find(&lane->changes, key))
			others->say_no |= ((const CsChange *) lock->owner)->no_xact != 0;
		return;
	}
	foreach(lc, lane->account->lanes)
	{
		const CsLane *other = lfirst(lc);

		if (other->outcomes)
			others->say_no |= is_to_be_refused(other->outcomes, upsert_key, other == lane ? key : NULL);
	}
}

/*
 * Add whether a row says no that was read, and waits to be sent: it may be stored nowhere.
 */
static void
add_waiting(const CsLane *lane, const char *upsert_key, const char *key, CsClaimOthers *others)
{
	ListCell   *lc;

	foreach(lc, lane->account->lanes)
	{
		CsLane	   *other = lfirst(lc);

		others->say_no |= cs_change_says_no(&other->changes, upsert_key, other == lane ? cs_change_find(&lane->changes, key) : NULL);
	}
}

void
cs_standing_read(const CsLane *lane, const CsRowsNow *now, int self, const char *elsewhere,
				 CsClaimOthers *others)
{
	const char *upsert_key = now->rows[self].upsert_key;

	memset(others, 0, sizeof(CsClaimOthers));
	for (int i = 0; i < now->n; i++)
	{
		const CsRowNow *row = &now->rows[i];

		if (i == self)
			continue;
		if (row->key && row->upsert_key && strcmp(row->upsert_key, upsert_key) == 0)
			add_consent(others, row->consent);
		if (is_leaving(row, upsert_key))
			add_left(lane, row->key, row->before->opt_in, others);
	}
	add_standing(lane, now, self, upsert_key, others);
	add_under_way(lane, upsert_key, now->rows[self].key, others);
	add_waiting(lane, upsert_key, now->rows[self].key, others);
	if (elsewhere == NULL)
		return;
	add_standing(lane, now, self, elsewhere, others);
	add_under_way(lane, elsewhere, now->rows[self].key, others);
	add_waiting(lane, elsewhere, now->rows[self].key, others);
}

bool
cs_standing_is_unread(const CsAccount *account, CsRowsNow *now, TimestampTz queued_at)
{
	ListCell   *lc;

	if (now->oldest_unread == 0)
	{
		now->oldest_unread = PG_INT64_MAX;
		foreach(lc, account->lanes)
		{
			CsLane	   *lane = lfirst(lc);

			if (lane->watch && !cs_lane_is_stopped(lane))
				now->oldest_unread = Min(now->oldest_unread, Min(cs_change_oldest_unread(&lane->changes),
																 cs_related_change_oldest(lane->related)));
		}
	}
	return now->oldest_unread < queued_at;
}

bool
cs_standing_is_refused(const CsRowsNow *now, int self)
{
	const char *address = now->rows[self].address;

	for (int i = 0; i < now->n; i++)
		if (i != self && address && now->rows[i].address && now->rows[i].consent == CS_CONSENT_NO &&
			strcmp(now->rows[i].address, address) == 0)
			return true;
	return false;
}
