/*-------------------------------------------------------------------------
 *
 * remaining.c
 *		Rows that were forgotten and are still there.
 *
 * contactsync_forget() notes them.  Until one of them is read again, whatever it is
 * then, its contact is not removed.  The row of a call that was in flight is known to
 * nobody else, so it is noted when that call ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/invalidation.h"
#include "base/text.h"
#include "delivery/remaining.h"
#include "store/contact_known.h"
#include "store/remaining_row.h"

static void
note_row(CsRemaining *remaining, MemoryContext context, const CsChange *change)
{
	const char *address = change->contact->value[CS_EMAIL];
	CsRemainingRow *row = cs_array_add(&remaining->forgotten, context, sizeof(CsRemainingRow));

	row->key = MemoryContextStrdup(context, change->key);
	row->upsert_key = MemoryContextStrdup(context, change->upsert_key);
	row->address = address ? MemoryContextStrdup(context, cs_text_from_utf8(address)) : NULL;
}

/*
 * Are there notes of rows?  That some were forgotten may not have been learned yet: a row
 * that went after that may never be read again.
 */
static bool
may_be_noted(const CsChange *change)
{
	return change->lane->account->has_remaining || (change->gone && cs_invalidation_pending(CS_DEFINITIONS));
}

void
cs_remaining_end(CsRemaining *remaining, MemoryContext context, const CsChange *change)
{
	if (change->lane->watch == NULL)
		return;
	if (change->forgotten)
	{
		if (change->notes_row && change->contact && change->upsert_key)
			note_row(remaining, context, change);
	}
	else if (may_be_noted(change))
		*(char **) cs_array_add(change->gone ? &remaining->gone : &remaining->reread, context, sizeof(char *)) =
			MemoryContextStrdup(context, change->key);
}

void
cs_remaining_store(CsLane *lane, const CsRemaining *remaining)
{
	CsAccount  *account = lane->account;
	bool		any = false;

	if (remaining->reread.n > 0)
		any |= cs_remaining_row_remove(lane->watch_id, remaining->reread.n, remaining->reread.items, false);
	if (remaining->gone.n > 0)
		any |= cs_remaining_row_remove(lane->watch_id, remaining->gone.n, remaining->gone.items, true);
	if (any)
		account->removals_at = 0;
	if (remaining->forgotten.n == 0)
		return;
	cs_remaining_row_store(lane->endpoint_id, lane->watch_id, remaining->forgotten.n, remaining->forgotten.items);
	account->has_remaining = true;
}

bool
cs_remaining_stands(const CsAccount *account, const CsKnown *known)
{
	return account->has_remaining &&
		cs_remaining_row_stands(account->id, known->upsert_key, cs_contact_known_address(known));
}
