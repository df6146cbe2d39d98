/*-------------------------------------------------------------------------
 *
 * change_lock.h
 *		Which of several changes of one contact is sent first, and which not at all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_CHANGE_LOCK_H
#define CS_DELIVERY_CHANGE_LOCK_H

#include "delivery/change.h"

extern bool cs_change_lock(CsChange *change, int endpoint, const char *identity, int slot);
extern void cs_change_let_go(CsChange *change);

/* Has another change the lock on the contact? */
extern bool cs_change_is_locked_out(const CsChange *change, int endpoint, const char *upsert_key);
extern void cs_change_release_pending(CsChangeSet *set);

extern bool cs_change_is_outdated(const CsChange *change);
extern bool cs_change_word_was_sent(const CsChange *change);
extern bool cs_change_no_was_sent(const CsChange *change);
extern void cs_change_mark_sent(CsChange *change);

/* When the row changed that speaks for the contact once the change has its outcome, or 0. */
extern TimestampTz cs_change_changed_at(const CsChange *change);

extern void cs_change_fall_behind(CsChange *change, int endpoint, const char *upsert_key);
extern void cs_change_overtake(const CsChange *change, int endpoint);
extern bool cs_change_is_overtaken(const CsChange *change);

#endif							/* CS_DELIVERY_CHANGE_LOCK_H */
