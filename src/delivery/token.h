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
extern bool cs_token_refreshable(const CsEndpoint *endpoint);

/* When it is to be refreshed, in Unix seconds on our clock; 0: at once,
 * infinity: never. */
extern double cs_token_due_at(const CsEndpoint *endpoint, double now);

/* The request; its body has the refresh token in it, so wipe it. */
extern void cs_token_build(const CsEndpoint *endpoint, CsRequest *request);
extern void cs_token_wipe_request(CsRequest *request);

/* Verdict DONE (and a token), RETRY or HALT; no text in it has a secret. */
extern void cs_token_judge(const CsEndpoint *endpoint, const CsResponse *response,
						   CsJudgement *judgement, CsToken *token);

/*
 * Write the token into the user mapping, to be on disk when the caller commits,
 * whatever synchronous_commit says.  Needs a transaction.  False, and nothing
 * written, when the mapping has got another refresh token or is gone: somebody
 * signed in anew.  Errors: a concurrent ALTER USER MAPPING.
 */
extern bool cs_token_store(const CsEndpoint *endpoint, const CsToken *token);

extern void cs_token_wipe(CsToken *token);

#endif							/* CS_DELIVERY_TOKEN_H */
