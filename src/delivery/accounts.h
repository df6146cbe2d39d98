/*-------------------------------------------------------------------------
 *
 * accounts.h
 *		The accounts of a delivery, with their lanes: loaded from what is
 *		stored, and replaced when definitions change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ACCOUNTS_H
#define CS_DELIVERY_ACCOUNTS_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "delivery/identity_lock.h"

/* Which accounts: of one server and of the roles that a role belongs to, or all
 * where an OID is InvalidOid. */
typedef struct CsAccountsFilter
{
	Oid			serverid;
	Oid			member;
} CsAccountsFilter;

extern List *cs_accounts_load(MemoryContext context, const CsAccountsFilter *filter,
							  CsIdentityLocks *locks, const List *before);
extern void cs_accounts_close(const List *accounts);

extern void cs_accounts_load_pauses(const List *accounts);
extern bool cs_accounts_any_paused(const List *accounts);
extern void cs_accounts_reread_queue(const List *accounts);
extern void cs_accounts_poll_now(const List *accounts);

extern bool cs_accounts_any_idle_but_busy(const List *accounts);
extern void cs_accounts_store_idle(const List *accounts);
extern void cs_accounts_publish(const List *accounts);

extern double cs_accounts_lanes_ready_at(CsAccount *account, double now);
extern double cs_accounts_call_possible_at(const List *accounts, double now);

#endif							/* CS_DELIVERY_ACCOUNTS_H */
