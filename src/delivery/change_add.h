/*-------------------------------------------------------------------------
 *
 * change_add.h
 *		Adding what was queued to the changes of a lane.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_CHANGE_ADD_H
#define CS_DELIVERY_CHANGE_ADD_H

#include "postgres.h"

#include "delivery/change.h"

extern void cs_change_add_row(CsChangeSet *set, const CsQueueRow *row, bool unconfirmed,
							  bool counted);
extern void cs_change_add_removal(CsChangeSet *set, const char *upsert_key, int watch,
								  const char *key, TimestampTz departed_at, char action, bool erases);

/* Forget which keys the bulk guard was told of. */
extern void cs_change_forget_recent(CsChangeSet *set);
extern void cs_change_recount(CsChangeSet *set, uint64 released);
extern bool cs_change_is_before(const CsChange *change, uint64 xact);

/* The row of the change says no of the contact since that transaction; 0: it does not. */
extern void cs_change_note_no(CsChange *change, uint64 xact, const char *upsert_key);

/* Does a row of the set, as it was read last, say no of the contact?  "but" is left out. */
extern bool cs_change_says_no(CsChangeSet *set, const char *upsert_key, const CsChange *but);

/* When the oldest change was queued that has not been read since; PG_INT64_MAX: all have. */
extern TimestampTz cs_change_oldest_unread(CsChangeSet *set);

/* Which transactions queued a change. */
extern uint64 cs_change_xact(const CsChange *change);
extern void cs_change_note_gone(const CsChange *change, uint64 since);
extern bool cs_change_may_be_partly_done(const CsChange *change);
extern bool cs_change_is_ahead(const CsChange *change);
extern bool cs_change_is_of(const CsChange *change, uint64 xact);
extern bool cs_change_is_of_same(const CsChange *change, const CsChange *other);
extern bool cs_change_is_unread_of_same(const CsChange *change, const CsChange *other);

#endif							/* CS_DELIVERY_CHANGE_ADD_H */
