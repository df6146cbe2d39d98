/*-------------------------------------------------------------------------
 *
 * call.h
 *		One HTTP request about some contacts, from its making to its verdict.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_CALL_H
#define CS_DELIVERY_CALL_H

#include "postgres.h"

#include "lib/ilist.h"

#include "delivery/account.h"
#include "delivery/settle.h"
#include "http/http.h"

typedef struct CsCall
{
	CsRequestOwner owner;
	dlist_node	node;			/* of account->ready */
	CsAccount  *account;
	MemoryContext context;
	CsBatch		batch;
	CsChange  **changes;		/* those of batch.contacts, all ACTIVE */
	CsRequest	request;
	bool		indivisible;	/* a later step, or a part of a batch that was
								 * refused: its contacts stay together */
	bool		reauthorized;	/* it was repeated with a fresh token */
	double		not_before;
	double		started_at;
	TimestampTz started;
} CsCall;

extern void cs_call_make(CsAccount *account, int n, CsChange **changes);
extern void cs_call_start(CsCall *call, CsHttp *http, double now);
extern void cs_call_withdraw_paused(CsAccount *account);
extern void cs_call_answered(CsCall *call, const CsResponse *response,
							 CsSettlement *settlement, double now);

#endif							/* CS_DELIVERY_CALL_H */
