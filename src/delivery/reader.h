/*-------------------------------------------------------------------------
 *
 * reader.h
 *		From changes to contacts that can be sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_READER_H
#define CS_DELIVERY_READER_H

#include "postgres.h"

#include "delivery/account.h"
#include "delivery/settle.h"

/*
 * Reads n ACTIVE changes of a lane.  Those that have to be sent come first in
 * "changes", ACTIVE and with a contact, and their number is returned; the
 * others are unchanged, failed, blocked, or postponed with their lane.  Needs
 * a transaction with an active snapshot.
 */
extern int	cs_reader_read(CsLane *lane, int n, CsChange **changes,
						   CsSettlement *settlement, double now);

/*
 * Breaks those lanes whose watches cannot be read as they are, and mends the
 * others, whether or not there is something to be sent.  Needs the same.
 */
extern void cs_reader_check(const List *accounts, double now);

#endif							/* CS_DELIVERY_READER_H */
