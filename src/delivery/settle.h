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

/* The memory of contacts that were read together; freed when nobody uses it. */
typedef struct CsReadBatch
{
	MemoryContext context;
	int			users;
} CsReadBatch;

extern CsReadBatch *cs_read_batch_create(MemoryContext parent);
extern void cs_read_batch_retain(CsReadBatch *read_batch);
extern void cs_read_batch_release(CsReadBatch *read_batch);

typedef struct CsSettlement CsSettlement;

extern CsSettlement *cs_settle_begin(void);
extern bool cs_settle_is_empty(const CsSettlement *settlement);

/* Each ends an ACTIVE change; it may be pending again when it returns. */
extern void cs_settle_synced(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome);
extern void cs_settle_unchanged(CsSettlement *settlement, CsChange *change);
extern void cs_settle_outdated(CsSettlement *settlement, CsChange *change);
extern void cs_settle_failed(CsSettlement *settlement, CsChange *change, const CsOutcome *outcome,
							 const char *request_id);

/* Copies what it is given, but for the traces: they are made in this context. */
extern MemoryContext cs_settle_call_context(const CsSettlement *settlement);
extern void cs_settle_call(CsSettlement *settlement, const CsCallRecord *record);

/*
 * Stores all of it that nobody has a lock on, and what changed in the accounts'
 * health.  Needs a transaction, and only when that has committed is what was
 * stored forgotten.
 */
extern void cs_settle_store(CsSettlement *settlement, List *accounts, double now);
extern void cs_settle_forget(CsSettlement *settlement);

/* When there is something to store; DBL_MAX: not yet. */
extern double cs_settle_due_at(const CsSettlement *settlement);

#endif							/* CS_DELIVERY_SETTLE_H */
