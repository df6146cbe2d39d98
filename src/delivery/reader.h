/*-------------------------------------------------------------------------
 *
 * reader.h
 *		From changes to contacts that can be sent: reading their rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_READER_H
#define CS_DELIVERY_READER_H

#include "postgres.h"

#include "delivery/account.h"
#include "delivery/settle.h"

extern int	cs_reader_read(CsAccount *account, int wanted, CsChange **changes,
						   CsSettlement *settlement, double now);
extern void cs_reader_check(const List *accounts, double now);

#endif							/* CS_DELIVERY_READER_H */
