/*-------------------------------------------------------------------------
 *
 * shared.h
 *		Whether a row that was read speaks for a contact that several rows share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_SHARED_H
#define CS_DELIVERY_SHARED_H

#include "postgres.h"

#include "delivery/known.h"

/* What is known of the contact as it was sent last, whatever we knew it by then. */
extern const CsKnown *cs_shared_sent_last(const CsItem *item);

/* When did the row say what it says, as far as that is known?  To be sent again is to say
 * nothing. */
extern TimestampTz cs_shared_spoke_at(const CsItem *item);

/* Is what the row says stored of it? */
extern bool cs_shared_says_the_same(const CsItem *item);

/* Has the row gone that spoke for the contact last? */
extern bool cs_shared_is_unspoken(const CsItem *item);

/* Has the contact what the row says, or what a row said that changed later? */
extern bool cs_shared_is_unchanged(const CsItem *item);

/*
 * The same, but what the contact has is not known, so that the row that speaks for
 * it has to be sent again.  If that row cannot be sent, this one is queued to speak
 * for the contact.
 */
extern bool cs_shared_is_left_to_speaker(const CsItem *item);

/*
 * Does the row leave it to the one that speaks?  A scan makes no row speak that is
 * not known to have changed, and whose mapping may have, unless the one that speaks
 * cannot be sent.
 */
extern bool cs_shared_defers(const CsItem *item);

/*
 * Is a row, or contactsync_upsert(), tried again that failed as it is, and has another row
 * spoken for the contact since?
 */
extern bool cs_shared_is_overtaken(const CsItem *item);

/* Did the row that spoke last change after this one did? */
extern bool cs_shared_is_older(const CsItem *item);

/* The row that speaks for the contact was queued again, and says the same. */
extern void cs_shared_renew_speaker(const CsItem *item);

/* The row is about to speak for the contact: note it, if another one spoke before, or may wait to. */
extern void cs_shared_note_speaker(const CsItem *item);

#endif							/* CS_DELIVERY_SHARED_H */
