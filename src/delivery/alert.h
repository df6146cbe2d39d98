/*-------------------------------------------------------------------------
 *
 * alert.h
 *		Telling alert_url of trouble of an account, and of its end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ALERT_H
#define CS_DELIVERY_ALERT_H

#include "postgres.h"

#include "delivery/account.h"
#include "http/http.h"
#include "store/alert.h"

/* One message, from when it was taken to be sent until it is stored what became of it. */
typedef struct CsAlertCall
{
	CsRequestOwner owner;
	CsAccount  *account;
	MemoryContext context;
	CsAlert    *alert;
	const CsEndpoint *endpoint; /* with the options that it is sent by; only
								 * until it is sent */
	bool		restricted;		/* as in CsHttpOptions */
	const char *secret_url;		/* alert_url, if that is a secret, or NULL */
	CsHttpCall *transfer;		/* while it is in flight, or NULL */
	bool		answered;
	const char *error;			/* why it was not taken; NULL: it was */
	double		not_before;		/* it is not sent again before */
} CsAlertCall;

/* These need a transaction. */
extern void cs_alert_load(List *accounts);
extern void cs_alert_check(List *accounts, int only);
extern void cs_alert_prepare(CsAccount *account, double now);
extern void cs_alert_store(CsAccount *account);

/* These need none. */
extern void cs_alert_stored(CsAccount *account);
extern double cs_alert_ready_at(const CsAccount *account);
extern void cs_alert_send(CsAccount *account, CsHttp *http, double now);
extern void cs_alert_answered(CsAlertCall *call, const CsResponse *response, double now);
extern void cs_alert_abort(CsAccount *account, CsHttp *http);

#endif							/* CS_DELIVERY_ALERT_H */
