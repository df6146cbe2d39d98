/*-------------------------------------------------------------------------
 *
 * account_store.h
 *		What is stored and shown of an account.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ACCOUNT_STORE_H
#define CS_DELIVERY_ACCOUNT_STORE_H

#include "postgres.h"

#include "delivery/account.h"

extern bool cs_account_has_to_store(const CsAccount *account);
extern void cs_account_store_health(const CsAccount *account);
extern void cs_account_health_stored(CsAccount *account);
extern bool cs_account_is_idle_but_busy(const CsAccount *account);
extern void cs_account_store_busy(CsAccount *account, bool busy);
extern void cs_account_publish(CsAccount *account);

#endif							/* CS_DELIVERY_ACCOUNT_STORE_H */
