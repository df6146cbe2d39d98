/*-------------------------------------------------------------------------
 *
 * fetch.h
 *		Requests that a session makes itself, outside of delivery.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_FETCH_H
#define CS_API_FETCH_H

#include "postgres.h"

#include "http/json.h"
#include "http/http.h"
#include "provider/endpoint.h"

/* The problem with an answer that has the right status but cannot be read. */
#define CS_FETCH_UNDOCUMENTED	"the answer is not in the documented format"

typedef struct CsFetcher CsFetcher;

/*
 * Prepare for requests to a server, of which each is made at most "tries" times.
 * The connections are closed with the current memory context.  The endpoint must
 * include the secrets and live as long.
 */
extern CsFetcher *cs_fetch_open(const CsEndpoint *endpoint, int tries);

/*
 * Make a request with authorization and wait for the answer, which is palloc'd in
 * the current context whatever its status; the status 0 means that there was no
 * answer.  The request must not change anything at the provider, because it is
 * repeated after a 429, a 5xx or a lost connection.  Requests keep to the pace of
 * the endpoint.  The wait can be cancelled; an open transaction stays open.
 */
extern void cs_fetch(CsFetcher *fetcher, const CsRequest *request, CsResponse *response);

/*
 * Return why an answer cannot be used, for the user, or NULL if its status is 2xx.
 * "doc" is its parsed body or NULL.
 */
extern const char *cs_fetch_problem(const CsEndpoint *endpoint, const CsResponse *response, CsJson *doc);

#endif							/* CS_API_FETCH_H */
