/*-------------------------------------------------------------------------
 *
 * forgotten.c
 *		What is queued or in flight when contactsync_forget() erases it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/text.h"
#include "delivery/account.h"
#include "delivery/call.h"
#include "delivery/forgotten.h"
#include "provider/email.h"
#include "provider/provider.h"
#include "store/departure.h"
#include "store/forget.h"
#include "store/queue.h"

/* Is what is in flight, or was given to contactsync_upsert(), about the address? */
static bool
is_about(const CsChange *change, const char *key)
{
	const CsContact *contact = change->direct ? cs_contact_from_jsonb(change->direct) : change->contact;

	if (contact && contact->value[CS_EMAIL])
		return strcmp(cs_text_from_utf8(cs_email_normalize(contact->value[CS_EMAIL])), key) == 0;
	return change->upsert_key && strcmp(change->upsert_key, key) == 0;
}

/* Was the change forgotten? */
static bool
is_forgotten(const CsChange *change, const CsForgetNote *note)
{
	const CsLane *lane = change->lane;

	if (note->endpoint != lane->endpoint_id)
		return false;
	if (note->watch != 0)
		return note->watch == lane->watch_id && strcmp(note->key, change->key) == 0;
	if (change->direct)
		return is_about(change, note->key) &&
			!cs_queue_has_direct(lane->endpoint_id, strtoll(change->key, NULL, 10));
	return change->state == CS_CHANGE_ACTIVE && is_about(change, note->key);
}

/* Mark a change that was forgotten.  The removal of who is forgotten goes on. */
static void
forget_change(CsChange *change, void *arg)
{
	ListCell   *lc;

	foreach(lc, (List *) arg)
	{
		if (!is_forgotten(change, lfirst(lc)))
			continue;
		if (change->lane->removals && cs_departure_erases(change->lane->endpoint_id, change->key))
			change->removal_erases = true;
		else
		{
			/* what has changed again meanwhile may have gone */
			change->notes_row = ((CsForgetNote *) lfirst(lc))->notes && (change->notes_row || !change->forgotten) &&
				change->next_rows == NIL;
			change->forgotten = true;
			change->next_forgotten = change->next_rows != NIL;
		}
	}
}

/* Have nothing stored of what was forgotten, and is queued or in flight. */
void
cs_forgotten_mark(CsAccount *account, List *notes)
{
	ListCell   *lc;

	foreach(lc, account->lanes)
		cs_change_visit(&((CsLane *) lfirst(lc))->changes, forget_change, notes);
	foreach(lc, account->retired)
		cs_change_visit(&((CsLane *) lfirst(lc))->changes, forget_change, notes);
	cs_change_visit(&account->removals->changes, forget_change, notes);
	cs_call_withdraw(account, false, false);
}
