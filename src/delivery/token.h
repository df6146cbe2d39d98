/*-------------------------------------------------------------------------
 *
 * token.h
 *		The OAuth access token of an account, kept fresh.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_TOKEN_H
#define CS_DELIVERY_TOKEN_H

#include "postgres.h"

#include "delivery/account.h"
#include "http/http.h"
#include "provider/provider.h"

/* What a refresh returned. */
typedef struct CsToken
{
	char	   *access_token;
	char	   *refresh_token;	/* NULL: the old one remains valid */
	double		issued_at;		/* Unix seconds on our clock */
	double		lifetime;		/* seconds; 0: unknown */
} CsToken;

/* A refresh that is under way, or whose token is not stored yet. */
typedef struct CsTokenRefresh
{
	CsRequestOwner owner;
	CsAccount  *account;
	MemoryContext context;
	CsHttpCall *transfer;		/* while it is under way */
	CsServerVersion *version;	/* that it was started under */
	bool		received;		/* "token" is here, and nowhere else */
	CsToken		token;
} CsTokenRefresh;

extern bool cs_token_is_refreshable(const CsEndpoint *endpoint);
extern bool cs_token_is_due(const CsAccount *account, double now);
extern double cs_token_ready_at(const CsAccount *account, double now);
extern void cs_token_take_stale(const List *accounts);

extern void cs_token_refresh(CsAccount *account, const List *accounts, CsHttp *http, double now);
extern void cs_token_answered(CsTokenRefresh *refresh, const CsResponse *response, double now);
extern void cs_token_abort(CsAccount *account, CsHttp *http);
extern bool cs_token_has_to_store(const CsAccount *account);
extern void cs_token_store(CsAccount *account, const List *accounts, double now);

#endif							/* CS_DELIVERY_TOKEN_H */
