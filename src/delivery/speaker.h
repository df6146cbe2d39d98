/*-------------------------------------------------------------------------
 *
 * speaker.h
 *		Which row speaks for a contact when others have left it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_SPEAKER_H
#define CS_DELIVERY_SPEAKER_H

#include "postgres.h"

#include "delivery/lane.h"

/* A row that is to speak for its contact. */
typedef struct CsRowKey
{
	int			watch;
	const char *key;
} CsRowKey;

/* A contact that a row has left, or cannot speak for. */
typedef struct CsLeftTo
{
	const char *upsert_key;
	const char *key;			/* of that row */
	bool		has_no_address; /* the row stands for nobody */
	bool		maybe_sent;		/* ... and may have been sent as the contact
								 * without an answer */
	bool		is_scan;		/* a scan found that the row has left */
	bool		is_moved_over;	/* nobody left it, but its address was that of
								 * another contact, which took it along */
	bool		is_speakers;	/* nobody left it: its speaker is to be sent */
} CsLeftTo;

/*
 * All need the transaction that stores outcomes.
 */

/* Queue a row, of any lane of the account, to be sent again for its contact. */
extern void cs_speaker_queue(const CsLane *lane, int watch, const char *key);

/* Have another row, if there is one, speak for a contact that a row of the lane left. */
extern void cs_speaker_leave(const CsLane *lane, const CsLeftTo *left);

/*
 * A contact was created that had been withheld, for a row that changed then; 0: that is not
 * known.  Have a withheld row speak for it that changed later, and was read before.
 */
extern void cs_speaker_leave_to_withheld(const CsLane *lane, const char *upsert_key, TimestampTz changed_at);

#endif							/* CS_DELIVERY_SPEAKER_H */
