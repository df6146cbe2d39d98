/*-------------------------------------------------------------------------
 *
 * forgotten.h
 *		What is queued or in flight when contactsync_forget() erases it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_FORGOTTEN_H
#define CS_DELIVERY_FORGOTTEN_H

#include "postgres.h"

#include "delivery/account.h"

extern void cs_forgotten_mark(CsAccount *account, List *notes);

#endif							/* CS_DELIVERY_FORGOTTEN_H */
