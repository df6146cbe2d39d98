/*-------------------------------------------------------------------------
 *
 * opposite.c
 *		Rows that say yes and no of a contact in one transaction.
 *
 * What is said in one transaction is said at one moment, so that no row said it
 * later than the others, whichever is read first: the no counts.  A row that said no
 * before, and still does, is older than a yes.
 *
 * Rows are read one after the other, and from several tables.  What those said that
 * were read before is stored with the transaction that had them say so; those that
 * stand for the contact, and are yet to be read, are waited for.  What a row says by now
 * counts: of what a row was queued for, it is not known which had it say yes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/account.h"
#include "delivery/change_add.h"
#include "delivery/opposite.h"
#include "delivery/outcomes.h"

/* Does one of the rows say no that are decided on together, or whose outcomes are yet to
 * be stored? */
static bool
is_refused(const CsChange *change, const CsRowsNow *now, int self, uint64 xact)
{
	const CsRowNow *row = &now->rows[self];
	ListCell   *lc;

	if (cs_refusals_has(now->refusals, row->upsert_key, row->address, xact))
		return true;
	foreach(lc, change->lane->account->lanes)
	{
		const CsLane *lane = lfirst(lc);

		if (lane->outcomes && cs_refusals_has(lane->outcomes->refusals, row->upsert_key, row->address, xact))
			return true;
	}
	return false;
}

/* What does a row say that is stored as standing for the contact? */
static CsOpposite
look_at(const CsChange *change, const CsRowStanding *row)
{
	const CsLane *lane = cs_account_find_lane(change->lane->account, row->watch);
	const CsChange *other = lane ? cs_change_find(&lane->changes, row->key) : NULL;

	if (other == change)
		return CS_OPPOSITE_NONE;
	if (other && cs_change_is_unread_of_same(change, other) && !cs_lane_is_stopped(lane))
		return CS_OPPOSITE_UNREAD;

	/*
	 * this one may have said yes together with that no, which is over if the
	 * other says yes by now
	 */
	if (row->no_xact != 0 && cs_change_is_of(change, row->no_xact) && !(other && other->says_yes))
		return CS_OPPOSITE_NO;
	if (other == NULL || cs_change_is_unread_of_same(change, other))
		return CS_OPPOSITE_NONE;
	/* what it said before is older */
	return other->no_xact != 0 && cs_change_is_of(other, other->no_xact) && cs_change_is_of_same(change, other) ?
		CS_OPPOSITE_NO : CS_OPPOSITE_NONE;
}

static CsOpposite
look_at_standing(const CsChange *change, const char *upsert_key)
{
	CsRowStanding *rows;
	int			n = cs_row_state_read_standing(change->lane->endpoint_id, upsert_key, &rows);
	CsOpposite	result = CS_OPPOSITE_NONE;

	for (int i = 0; i < n && result != CS_OPPOSITE_NO; i++)
	{
		CsOpposite	found = look_at(change, &rows[i]);

		result = found == CS_OPPOSITE_NONE ? result : found;
	}
	return result;
}

CsOpposite
cs_opposite_find(const CsChange *change, const CsRowsNow *now, int self, bool stored, const char *elsewhere)
{
	CsOpposite	here = CS_OPPOSITE_NONE;
	CsOpposite	there = CS_OPPOSITE_NONE;
	ListCell   *lc;

	foreach(lc, change->rows)
	{
		if (is_refused(change, now, self, ((CsReadRow *) lfirst(lc))->position.xact))
			return CS_OPPOSITE_NO;
	}
	if (stored)
		here = look_at_standing(change, now->rows[self].upsert_key);
	if (stored && elsewhere)
		there = look_at_standing(change, elsewhere);
	return here == CS_OPPOSITE_NO || there == CS_OPPOSITE_NONE ? here : there;
}
