/*-------------------------------------------------------------------------
 *
 * outcomes.h
 *		What is to be stored of one lane.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_OUTCOMES_H
#define CS_DELIVERY_OUTCOMES_H

#include "postgres.h"

#include "delivery/account.h"
#include "delivery/array.h"
#include "delivery/lane.h"
#include "delivery/refusals.h"
#include "delivery/remaining.h"
#include "provider/provider.h"
#include "store/consent.h"

/* A contact that the provider has no more. */
typedef struct CsRemoved
{
	const char *upsert_key;
	CsConsent	consent;		/* what is remembered; state '\0': nothing */
} CsRemoved;

/* A contact that a row, which was not sent, speaks for from now on. */
typedef struct CsTakenOver
{
	const char *upsert_key;
	const char *key;
} CsTakenOver;

typedef struct CsLaneOutcomes
{
	CsLane	   *lane;
	MemoryContext context;		/* of this and all in it */
	List	   *read_batches;	/* of CsReadBatch that are used here */
	List	   *renamed;		/* of char *: keys of rows that have left a
								 * contact, for which other rows are taken */
	HTAB	   *refusals;		/* what rows said no for, or NULL */
	List	   *locks;			/* of CsIdentityLock that are held until it is
								 * stored */
	double		not_before;		/* somebody has a lock on it; 0: nobody */
	double		pause;			/* ... and how long it was waited for that */
	bool		stored;
	int			synced;			/* contacts that were sent */
	int			unchanged;
	CsArray		contacts;		/* of CsContactStored */
	CsArray		rows;			/* of CsRowStored */
	CsArray		gone;			/* of char *: keys of rows that stand for
								 * nobody */
	CsRemaining remaining;		/* rows that were forgotten */
	CsArray		yes_left;		/* of char *: upsert keys of contacts that
								 * rows left which said true */
	CsArray		departures;		/* of CsDeparture */
	CsArray		unknown;		/* of char *: upsert keys of contacts of which
								 * it is not known what the provider has */
	CsArray		removed;		/* of CsRemoved */
	CsArray		removed_for;	/* of int: watches that removals were sent for */
	CsArray		decided;		/* of char *: upsert keys of departures */
	CsArray		refused;		/* likewise, that could not be removed */
	CsArray		left_to;		/* of CsLeftTo */
	CsArray		taken_over;		/* of CsTakenOver */
	CsArray		reopened;		/* of CsConsent: closed before this word */
	CsArray		consented;		/* of char *: addresses, by this word */
	CsArray		speakers;		/* of CsRowKey: rows to be sent again */
	CsArray		remembered;		/* of CsConsent: of addresses that no contact
								 * has any more, or never had */
	CsArray		standing;		/* of char *: contacts of rows, if a removal
								 * has failed */
	bool		relearns;		/* it is not known whom a call may have
								 * created */
	CsArray		freed;			/* of char *: addresses that contacts had,
								 * where an address has one contact */
	CsArray		failed;			/* of CsFailureStored */
	CsArray		cleared;		/* of char *: keys whose failure is over */
	CsArray		done;			/* of CsQueuePosition: rows to delete */
	CsArray		logged;			/* of CsLoggedOutcome */
	const char *last_error;
} CsLaneOutcomes;

extern CsLaneOutcomes *cs_outcomes_create(MemoryContext parent, CsLane *lane);
extern void cs_outcomes_free(CsLaneOutcomes *outcomes);

/* Each ends an ACTIVE change; it may be PENDING again when they return. */
extern void cs_outcomes_add_synced(CsLaneOutcomes *outcomes, CsChange *change,
								   const CsOutcome *outcome);
extern void cs_outcomes_add_unchanged(CsLaneOutcomes *outcomes, CsChange *change, bool record);
extern void cs_outcomes_add_left_to(CsLaneOutcomes *outcomes, CsChange *change, int watch, const char *key);
extern void cs_outcomes_add_deferred(CsLaneOutcomes *outcomes, CsChange *change, const char *speaks_for,
									 bool is_known);
extern void cs_outcomes_add_outdated(CsLaneOutcomes *outcomes, CsChange *change);
extern void cs_outcomes_add_withheld(CsLaneOutcomes *outcomes, CsChange *change);
extern void cs_outcomes_add_absent(CsLaneOutcomes *outcomes, CsChange *change);
extern void cs_outcomes_add_kept(CsLaneOutcomes *outcomes, CsChange *change, bool decided);
extern void cs_outcomes_add_gone(CsLaneOutcomes *outcomes, CsChange *change);
extern void cs_outcomes_add_failed(CsLaneOutcomes *outcomes, CsChange *change,
								   const CsOutcome *outcome, const char *request_id);

#endif							/* CS_DELIVERY_OUTCOMES_H */
