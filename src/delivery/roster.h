/*-------------------------------------------------------------------------
 *
 * roster.h
 *		The accounts and lanes that a delivery works on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ROSTER_H
#define CS_DELIVERY_ROSTER_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "delivery/account.h"

extern List *cs_accounts_load(MemoryContext context, Oid only_server, Oid roles_of,
							  const List *before);
extern void cs_accounts_close(const List *accounts);

/* Whether calls may be under way is stored, for whoever comes after a crash. */
extern void cs_accounts_store_busy(CsAccount *account);
extern bool cs_accounts_is_idle_but_busy(const List *accounts);
extern void cs_accounts_store_idle(List *accounts);

extern void cs_accounts_publish(const List *accounts);
extern void cs_accounts_note_news(const List *accounts);
extern void cs_accounts_note_pauses(const List *accounts);
extern bool cs_accounts_is_paused(const List *accounts);
extern void cs_accounts_poll_now(const List *accounts);

extern bool cs_accounts_has_something(CsAccount *account, double now);
extern double cs_accounts_ready_at(CsAccount *account, double now);
extern double cs_accounts_scans_ready_at(const CsAccount *account, double now);
extern bool cs_accounts_run_scans(CsAccount *account, int calls, double now);

#endif							/* CS_DELIVERY_ROSTER_H */
