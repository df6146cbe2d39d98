/*-------------------------------------------------------------------------
 *
 * settle.h
 *		Outcomes are gathered, then stored in one transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_SETTLE_H
#define CS_DELIVERY_SETTLE_H

#include "postgres.h"

#include "delivery/account.h"
#include "delivery/lane.h"
#include "provider/provider.h"
#include "store/call_log.h"

typedef struct CsSettlement CsSettlement;

extern CsSettlement *cs_settle_create(void);
extern bool cs_settle_is_empty(const CsSettlement *settlement);

/* Each ends an ACTIVE change; it may be PENDING again when they return. */
extern void cs_settle_synced(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome);
extern void cs_settle_unchanged(CsSettlement *settlement, CsChange *change, bool record);

/* The row has not changed; that of "watch" and "key" speaks for the contact, and is sent again. */
extern void cs_settle_left_to(CsSettlement *settlement, CsChange *change, int watch, const char *key);
extern void cs_settle_deferred(CsSettlement *settlement, CsChange *change, const char *speaks_for,
							   bool is_known);
extern void cs_settle_outdated(CsSettlement *settlement, CsChange *change);
extern void cs_settle_withheld(CsSettlement *settlement, CsChange *change);
extern void cs_settle_kept(CsSettlement *settlement, CsChange *change);

/* Of a removal: it is read again when it can be decided on. */
extern void cs_settle_waiting(CsSettlement *settlement, CsChange *change);
extern void cs_settle_gone(CsSettlement *settlement, CsChange *change);
extern void cs_settle_failed(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome,
							 const char *request_id);

/*
 * End a change that contactsync_forget() has forgotten meanwhile, of which nothing is
 * stored.  Return false if it has not.
 */
extern bool cs_settle_forgotten(CsSettlement *settlement, CsChange *change);

extern void cs_settle_drop(CsSettlement *settlement, CsLane *lane);

/* Are calls about the contact to be kept in full? */
extern bool cs_settle_is_traced(const CsChange *change);

/* What to keep of a call for each contact that is traced; for its record. */
extern List *cs_settle_make_traces(CsSettlement *settlement, const CsEndpoint *endpoint, int n,
								   CsChange **changes, const CsRequest *request,
								   const CsResponse *response);

/* Copies the record, but for its traces. */
extern void cs_settle_call(CsSettlement *settlement, const CsCallRecord *record);

/*
 * When there is something to store; DBL_MAX: there is nothing.  "count_later": what was
 * done is added to the statistics once a second.
 */
extern double cs_settle_due_at(const CsSettlement *settlement, bool count_later);

/*
 * Stores all that nobody else has locked, and what changed in the accounts.  Needs
 * a transaction; call cs_settle_free_stored() when that has committed.
 */
extern void cs_settle_store(CsSettlement *settlement, List *accounts, bool count_later, double now);
extern void cs_settle_free_stored(CsSettlement *settlement);

#endif							/* CS_DELIVERY_SETTLE_H */
