/*-------------------------------------------------------------------------
 *
 * call.h
 *		One HTTP request about some contacts: making, starting and ending it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_CALL_H
#define CS_DELIVERY_CALL_H

#include "postgres.h"

#include "lib/ilist.h"

#include "delivery/account.h"
#include "http/http.h"
#include "provider/provider.h"

typedef struct CsCall
{
	CsRequestOwner owner;
	dlist_node	node;			/* of account->ready or account->flying */
	CsAccount  *account;
	MemoryContext context;
	CsBatch		batch;
	CsChange  **changes;		/* those of batch.contacts, all ACTIVE */
	CsRequest	request;
	bool		indivisible;	/* a later step, or a part of a batch that was
								 * refused: its contacts stay together */
	bool		reauthorized;	/* it was repeated with a fresh token */
	double		not_before;

	/* while in flight */
	CsHttpCall *transfer;
	CsServerVersion *version;	/* of the server, as it was at the start */
	double		started_at;
	TimestampTz started;
} CsCall;

extern void cs_call_make(CsAccount *account, int n, CsChange **changes);
extern CsCall *cs_call_create(CsAccount *account, int n, CsChange **changes, CsAction action,
							  int step);
extern CsReadBatch **cs_call_read_batches(const CsCall *call);
extern void cs_call_free(CsCall *call, CsReadBatch **read_batches);

extern void cs_call_start(CsCall *call, CsHttp *http, double now);
extern void cs_call_land(CsCall *call);

extern void cs_call_repeat(CsCall *call, double not_before);
extern void cs_call_release_contact(CsChange *change, double not_before, bool last);
extern void cs_call_release_contacts(CsCall *call, double not_before, bool last);

extern bool cs_call_is_abandoned(const CsCall *call);
extern void cs_call_withdraw_paused(CsAccount *account);
extern void cs_call_withdraw(CsAccount *account, bool all, bool steps);
extern void cs_call_abort_all(CsAccount *account, CsHttp *http);

#endif							/* CS_DELIVERY_CALL_H */
