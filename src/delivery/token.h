/*-------------------------------------------------------------------------
 *
 * token.h
 *		Keeping an OAuth access token fresh.
 *
 * A refresh is a call like any other, made with cs_http_start() and without an
 * authorization.  One at a time per user mapping, and this is its order:
 *
 *		cs_token_due() or a verdict of REAUTH
 *		-> cs_token_build() -> HTTP -> cs_token_judge()
 *		-> DONE: a transaction with cs_token_store(), committed before use,
 *				 then read the endpoint anew
 *		   RETRY: the same again, later
 *		   HALT: only a human helps
 *
 * The provider rotates the refresh token: once it has answered, the old one is
 * void, and the new one is nowhere but in CsToken.  When storing it fails, keep
 * it and store it again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_TOKEN_H
#define CS_DELIVERY_TOKEN_H

#include "postgres.h"

#include "delivery/account.h"
#include "http/http.h"
#include "provider/provider.h"

/* What a refresh brought; strings as the memory context of the judgement. */
typedef struct CsToken
{
	char	   *access_token;
	char	   *refresh_token;	/* NULL: the old one goes on */
	double		issued_at;		/* Unix seconds on our clock */
	double		lifetime;		/* seconds; 0: it did not say */
} CsToken;

/* Is there anything to refresh?  Not for API keys. */
extern bool cs_token_is_refreshable(const CsEndpoint *endpoint);

typedef struct CsTokenRefresh
{
	CsRequestOwner owner;
	CsAccount  *account;
	MemoryContext context;
	bool		received;		/* "token" is there, and nowhere else */
	CsToken		token;
} CsTokenRefresh;

/* Is a refresh due, wanted or under way?  No call about contacts starts then. */
extern bool cs_token_is_due(const CsAccount *account, double now);
extern double cs_token_ready_at(const CsAccount *account, double now);

/* Starts one, unless one is under way or has to wait. */
extern void cs_token_refresh(CsAccount *account, CsHttp *http, double now);
extern void cs_token_answered(CsTokenRefresh *refresh, const CsResponse *response, double now);

/* Has a token been received that is not stored? */
extern bool cs_token_has_to_store(const CsAccount *account);

/*
 * Stores it and reads the endpoint anew.  Needs a transaction, which is to be
 * committed at once.  When it cannot be stored the token is kept, to be stored
 * again.
 */
extern void cs_token_store(CsAccount *account, double now);

/* Uses what another account, with the same user mapping, has just stored. */
extern void cs_token_share(CsAccount *account, double now);

#endif							/* CS_DELIVERY_TOKEN_H */
