/*-------------------------------------------------------------------------
 *
 * sender.h
 *		Sending what accounts can send now, in turn.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_SENDER_H
#define CS_DELIVERY_SENDER_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "delivery/account.h"
#include "delivery/definitions.h"
#include "delivery/gather.h"
#include "delivery/settle.h"
#include "delivery/transactions.h"
#include "http/http.h"

struct CsDelivery
{
	const CsTransactions *transactions;
	MemoryContext context;
	MemoryContext run_context;	/* emptied by each run of the cycle */
	CsHttp	   *http;
	CsSettlement *settlement;
	CsDefinitions definitions;
	bool		forgetting;		/* what was forgotten is to be swept */
	bool		held_up;		/* an account was dropped, and is to be loaded */
	double		tables_locked_until;	/* a table was locked; look again then */
	int			next_slow;		/* index of the account of slow mappings whose
								 * turn it is */
	bool		draining;		/* no call starts any more */
	double		active_at;		/* when there was last something to do */
	double		sweep_at;		/* what could not be deleted is tried again;
								 * 0: nothing */
	TimestampTz queue_read_at;	/* when lanes were last told to read on */
	CsGather	reading;		/* the queue, and ... */
	CsGather	storing;		/* ... storing outcomes, of what comes fast */
	TimestampTz check_at;		/* when thresholds are looked at again, on the
								 * steady clock */
	TimestampTz checked_at;		/* when they last were */
	bool		alerts_stale;	/* what there is to tell is to be loaded again */
};

extern void cs_sender_commit(CsDelivery *delivery);
extern void cs_sender_commit_lazily(CsDelivery *delivery);
extern bool cs_sender_try(CsDelivery *delivery, CsAccount *account,
						  void (*run) (CsDelivery *delivery, CsAccount *account));
extern void cs_sender_send_all(CsDelivery *delivery);

#endif							/* CS_DELIVERY_SENDER_H */
