/*-------------------------------------------------------------------------
 *
 * fetch.h
 *		Requests outside of the cycle, in the session of whoever asks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_FETCH_H
#define CS_API_FETCH_H

#include "postgres.h"

#include "provider/provider.h"

typedef struct CsFetcher CsFetcher;

/*
 * Its connections end with the current memory context.  A request is made at
 * most "tries" times.  The endpoint must live as long, and have its secrets.
 */
extern CsFetcher *cs_fetch_open(const CsEndpoint *endpoint, int tries);

/*
 * Makes the request, with the authorization, and waits for the answer, which is
 * palloc'd in the current context whatever it says; status 0 is none.  It must
 * change nothing at the provider, for it is repeated after a 429, a 5xx or a
 * lost connection.  Keeps to the pace of the endpoint.  Can be cancelled; a
 * transaction that is open stays open all the while.
 */
extern void cs_fetch(CsFetcher *fetcher, const CsRequest *request, CsResponse *response);

/*
 * Why the answer is of no use, for a person, or NULL if it is a 2xx.  "doc" is
 * its parsed body or NULL.
 */
extern const char *cs_fetch_problem(const CsEndpoint *endpoint, const CsResponse *response, CsJson *doc);

#endif							/* CS_API_FETCH_H */
