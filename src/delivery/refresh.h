/*-------------------------------------------------------------------------
 *
 * refresh.h
 *		The access token of an account at work, kept fresh.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_REFRESH_H
#define CS_DELIVERY_REFRESH_H

#include "postgres.h"

#include "delivery/account.h"
#include "delivery/exchange.h"
#include "delivery/token.h"
#include "http/http.h"

typedef struct CsRefresh
{
	CsRequestOwner owner;
	CsAccount  *account;
	MemoryContext context;
	bool		received;		/* "token" is there, and nowhere else */
	CsToken		token;
} CsRefresh;

/* Is a refresh due, wanted or under way?  No call about contacts starts then. */
extern bool cs_refresh_is_due(const CsAccount *account, double now);
extern double cs_refresh_ready_at(const CsAccount *account, double now);

/* Starts one, unless one is under way or has to wait. */
extern void cs_refresh_start(CsAccount *account, CsHttp *http, double now);
extern void cs_refresh_answered(CsRefresh *refresh, const CsResponse *response, double now);

/* Has a token been received that is not stored? */
extern bool cs_refresh_has_to_store(const CsAccount *account);

/*
 * Stores it and reads the endpoint anew.  Needs a transaction, which is to be
 * committed at once.  When it cannot be stored the token is kept, to be stored
 * again.
 */
extern void cs_refresh_store(CsAccount *account, double now);

/* Uses what another account, with the same user mapping, has just stored. */
extern void cs_refresh_share(CsAccount *account, double now);

#endif							/* CS_DELIVERY_REFRESH_H */
