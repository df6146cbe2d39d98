/*-------------------------------------------------------------------------
 *
 * accounts.h
 *		What concerns all accounts of a delivery.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ACCOUNTS_H
#define CS_DELIVERY_ACCOUNTS_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "delivery/account.h"

extern void cs_accounts_load_pauses(const List *accounts);
extern void cs_accounts_reread_queue(const List *accounts);
extern void cs_accounts_poll_now(const List *accounts);

extern bool cs_accounts_any_refreshing(const List *accounts);
extern bool cs_accounts_any_to_store(const List *accounts);
extern bool cs_accounts_any_idle_but_busy(const List *accounts);
extern void cs_accounts_publish(const List *accounts);

extern double cs_accounts_ready_at(CsAccount *account, double now);
extern bool cs_accounts_has_work(CsAccount *account);
extern uint64 cs_accounts_quiet(const List *accounts, double now, double *until, bool *all_quiet);

#endif							/* CS_DELIVERY_ACCOUNTS_H */
