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

/* Text of the contacts in one call, at which it is full. */
#define CS_CALL_BYTES	(4 * 1024 * 1024)

typedef struct CsCall
{
	CsRequestOwner owner;
	dlist_node	node;			/* of account->ready */
	CsAccount  *account;
	MemoryContext context;
	CsBatch		batch;
	CsChange  **changes;		/* those of batch.contacts, all ACTIVE */
	CsRequest	request;
	bool		keep;			/* may not be taken apart: a later step of it,
								 * or a part of what was refused as a whole */
	bool		reauthorized;
	int			attempts;		/* that count */
	double		not_before;
	double		started_at;
	TimestampTz started;
	CsHttpCall *http;
} CsCall;

extern CsCall *cs_call_create(CsAccount *account, int n, CsChange **changes, CsAction action,
							  int step);
extern void cs_call_make(CsAccount *account, CsChange **forming, int formed);
extern void cs_call_start(CsCall *call, CsHttp *http, double now);
extern void cs_call_withdraw_paused(CsAccount *account);
extern void cs_call_answered(CsCall *call, const CsResponse *response,
							 CsSettlement *settlement, double now);

#endif							/* CS_DELIVERY_CALL_H */
