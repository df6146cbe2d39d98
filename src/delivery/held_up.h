/*-------------------------------------------------------------------------
 *
 * held_up.h
 *		Accounts that a lock of somebody else holds up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_HELD_UP_H
#define CS_DELIVERY_HELD_UP_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* The lists are of CsHeldUp; those returned replace them. */
extern List *cs_held_up_note(List *all, int endpoint, double now);
extern double cs_held_up_wait(const List *all, int endpoint, double now);
extern List *cs_held_up_forget(List *all, int endpoint);
extern double cs_held_up_until(const List *all, int endpoint);

#endif							/* CS_DELIVERY_HELD_UP_H */
