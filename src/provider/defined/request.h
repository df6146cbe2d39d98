/*-------------------------------------------------------------------------
 *
 * request.h
 *		What the service of a definition is sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_REQUEST_H
#define CS_PROVIDER_DEFINED_REQUEST_H

#include "postgres.h"

#include "provider/defined/definition.h"

/* Return the definition of an endpoint. */
extern const CsDefined *cs_request_definition(const CsEndpoint *endpoint);

/*
 * Return the step that a batch is at: the given one, or the one that its conditions
 * lead to; NULL if the action has no steps.
 */
extern const CsStep *cs_request_step(const CsEndpoint *endpoint, const CsBatch *batch);

/* Return the name of a value that a step's path needs and a contact lacks, or NULL. */
extern const char *cs_request_lacks(const CsEndpoint *endpoint, const CsStep *step, const CsContact *contact);

extern void cs_request_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request);

/*
 * Return the step with which a contact goes on that came to "step": that one, or
 * another one if its condition does not hold; CS_NEXT_NONE: none.
 */
extern int	cs_request_route(const CsEndpoint *endpoint, CsAction action, int step, const CsContact *contact);
extern int	cs_request_first_step(const CsEndpoint *endpoint, const CsContact *contact);

extern CsRefusal *cs_request_prepare(const CsEndpoint *endpoint, CsContact *contact);
extern int	cs_request_batch_limit(const CsEndpoint *endpoint, CsAction action, int step);

extern bool cs_request_build_lookup(const CsEndpoint *endpoint, const CsContact *contact, CsRequest *request);
extern void cs_request_build_pull(const CsEndpoint *endpoint, const CsPull *pull, CsRequest *request);

#endif							/* CS_PROVIDER_DEFINED_REQUEST_H */
