/*-------------------------------------------------------------------------
 *
 * definitions.h
 *		The accounts and lanes of a delivery, as they are defined.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_DEFINITIONS_H
#define CS_DELIVERY_DEFINITIONS_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "delivery/account.h"
#include "delivery/identity_lock.h"
#include "delivery/settle.h"
#include "http/http.h"

typedef struct CsDefinitions
{
	MemoryContext context;		/* of all that is defined */
	CsHttp	   *http;
	CsSettlement *settlement;
	CsIdentityLocks *locks;
	CsRoom	   *room;

	int			only;			/* the account of this endpoint; 0: all that
								 * no other session delivers to */
	List	   *elsewhere;		/* of int: endpoints that one does deliver to */

	List	   *accounts;		/* of CsAccount */
	List	   *held_up;		/* of CsHeldUp */
	List	   *budgets;		/* of CsBudget */
	double		follow_at;		/* a watch is to follow its table then; 0:
								 * none */
} CsDefinitions;

/* These need a transaction. */
extern void cs_definitions_load(CsDefinitions *definitions, double now);
extern void cs_definitions_read_servers(CsDefinitions *definitions, double now);
extern void cs_definitions_free_retired(CsDefinitions *definitions);

extern bool cs_definitions_any_returned(const CsDefinitions *definitions);

/* These need none. */
extern void cs_definitions_hold_up(CsDefinitions *definitions, CsAccount *account, double now);
extern void cs_definitions_go_on(CsDefinitions *definitions, CsAccount *account);
extern bool cs_definitions_any_to_free(const CsDefinitions *definitions);
extern void cs_definitions_close(CsDefinitions *definitions);

/*
 * Delete what earlier processes could not; "forgotten": and what calls in flight have
 * stored of those who were forgotten.  Return false if somebody has a lock on it.  Needs
 * a transaction.
 */
extern bool cs_definitions_sweep(const CsDefinitions *definitions, bool forgotten);

#endif							/* CS_DELIVERY_DEFINITIONS_H */
