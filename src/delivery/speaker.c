/*-------------------------------------------------------------------------
 *
 * speaker.c
 *		Which row speaks for a contact when others have left it.
 *
 * Several rows can stand for a contact; the one that changed last speaks for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "delivery/account.h"
#include "delivery/speaker.h"
#include "provider/provider.h"
#include "store/contact_known.h"
#include "store/contact_state.h"
#include "store/queue.h"
#include "store/row_state.h"

void
cs_speaker_queue(const CsLane *lane, int watch, const char *key)
{
	Datum		element = CStringGetTextDatum(key);
	CsQueueWriter *writer = cs_queue_begin_write(NULL);
	CsLane	   *speaker = cs_account_find_lane(lane->account, watch);

	cs_queue_write(writer, lane->endpoint_id, watch, 1,
				   construct_array(&element, 1, TEXTOID, -1, false, TYPALIGN_INT), NULL, CS_QUEUE_SPEAKER);
	cs_queue_end_write(writer);
	if (speaker)
		speaker->exhausted = false;
}

/*
 * Is the row that speaks for the contact to be sent again?  If a scan found another
 * row that has left it, the mapping may have changed what the provider finds the
 * contact by, and that row was sent over what the other says.
 */
static bool
is_speakers(const CsLeftTo *left, const CsKnown *known, bool spoke)
{
	return known->key && (left->is_speakers || left->is_moved_over ||
						  (left->is_scan && !spoke &&
						   cs_row_state_stands(known->watch, known->key, left->upsert_key)));
}

/*
 * No row of the contact is left.  Rows that know it by something else have it sent again,
 * since what they said was overwritten.
 */
static void
leave_to_alias(const CsLane *lane, const CsKnown *known)
{
	CsKnown		alias;
	int			watch;
	char	   *key;

	cs_contact_known_read_alias(lane->endpoint_id, known, &alias);
	if (alias.found && alias.synced_at < known->synced_at &&
		cs_row_state_find_speaker(lane->endpoint_id, alias.upsert_key, 0, "", &watch, &key))
		cs_speaker_queue(lane, watch, key);
}

/*
 * A contact whose last speaker has left is spoken for by another row that stands
 * for it: by one that says the same, such as that row under its new key, or else by
 * one that is queued.
 */
static void
leave_to_another(const CsLane *lane, const CsLeftTo *left)
{
	CsKnown		known;
	bool		spoke;
	bool		nobody_speaks;
	int			watch;
	char	   *key;

	cs_contact_state_read(lane->endpoint_id, 1, (char **) &left->upsert_key, &known);
	if (!known.found)
		return;
	spoke = cs_contact_known_is_speaker(&known, lane->watch_id, left->key);

	/*
	 * the one that was queued to speak for it may be this one, which leaves
	 * it as well
	 */
	nobody_speaks = !known.has_digest && known.key && !cs_row_state_stands(known.watch, known.key, left->upsert_key);
	if (is_speakers(left, &known, spoke))
	{
		if (!left->is_speakers)
			cs_contact_state_invalidate(lane->endpoint_id, 1, (char **) &left->upsert_key);
		cs_speaker_queue(lane, known.watch, known.key);
	}
	if (left->is_speakers || left->is_moved_over || (!spoke && !nobody_speaks && !left->maybe_sent))
		return;
	if (!left->maybe_sent && known.has_digest &&
		cs_row_state_find_same(lane->endpoint_id, left->upsert_key, lane->watch_id, left->key,
							   &known.digest, &watch, &key))
		cs_contact_state_set_speaker(lane->endpoint_id, left->upsert_key, watch, key);
	else if (cs_row_state_find_speaker(lane->endpoint_id, left->upsert_key, lane->watch_id,
									   left->key, &watch, &key))
	{
		cs_contact_state_invalidate(lane->endpoint_id, 1, (char **) &left->upsert_key);
		cs_speaker_queue(lane, watch, key);
	}
	else if (lane->account->endpoint->provider->abilities & CS_UNIQUE_EMAIL)
		leave_to_alias(lane, &known);
}

/*
 * A row whose address became invalid is not its contact's any more where other rows
 * are.  Where there are none, it may be a slip, and the contact stays.
 */
static void
end_standing(const CsLane *lane, const CsLeftTo *left)
{
	if (cs_row_state_stands(lane->watch_id, left->key, left->upsert_key) &&
		cs_row_state_has_other(lane->endpoint_id, left->upsert_key, lane->watch_id, left->key))
		cs_row_state_remove(lane->watch_id, 1, (char **) &left->key);
}

void
cs_speaker_leave(const CsLane *lane, const CsLeftTo *left)
{
	if (left->has_no_address)
		end_standing(lane, left);
	leave_to_another(lane, left);
}

void
cs_speaker_leave_to_withheld(const CsLane *lane, const char *upsert_key, TimestampTz changed_at)
{
	int			watch;
	char	   *key;

	if (!cs_row_state_find_withheld(lane->endpoint_id, upsert_key, changed_at, &watch, &key))
		return;
	cs_contact_state_invalidate(lane->endpoint_id, 1, (char **) &upsert_key);
	cs_speaker_queue(lane, watch, key);
}
