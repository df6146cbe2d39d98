/*-------------------------------------------------------------------------
 *
 * imagine.h
 *		Calls that are not made: their server, contacts and answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_IMAGINE_H
#define CS_API_IMAGINE_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "provider/provider.h"

/*
 * Return the endpoint that a server of a definition would be, or of the provider that a
 * role finds under a name, if the JSON is a string.  "options" may be NULL.
 */
extern CsEndpoint *cs_imagine_endpoint(Jsonb *definition, Jsonb *options, Oid roleid);

/* Return a contact for an answer without contacts: the first sample that can be sent. */
extern Jsonb *cs_imagine_contact(const CsEndpoint *endpoint);

/*
 * Make a batch of an array of contacts, or a single one, as a call could have it.  "state"
 * is what would be known of them, or NULL.  Errors out if they cannot be sent.
 */
extern CsBatch *cs_imagine_batch(const CsEndpoint *endpoint, Jsonb *contacts, int step, const char *action,
								 Jsonb *state);

/* Make an answer; "headers" may be NULL. */
extern void cs_imagine_response(int status, Jsonb *headers, const char *body, CsResponse *response);

#endif							/* CS_API_IMAGINE_H */
