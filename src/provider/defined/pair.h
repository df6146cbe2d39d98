/*-------------------------------------------------------------------------
 *
 * pair.h
 *		Headers, and parameters of queries and forms.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_PAIR_H
#define CS_PROVIDER_DEFINED_PAIR_H

#include "postgres.h"

#include "http/message.h"
#include "provider/defined/definition.h"
#include "provider/defined/fault.h"
#include "provider/defined/place.h"

/* Compile an object of texts; in a query, a text can be for each contact of a batch. */
extern void cs_pair_compile(CsCompiler *compiler, CsJson *json, CsPlace place, int *n, CsPair **pairs);

/* Append a query or a form, in front of which "first" stands if there is any parameter. */
extern void cs_pair_append_query(StringInfo out, int n, const CsPair *pairs, const CsScope *scope, const char *first);

extern void cs_pair_add_headers(CsRequest *request, int n, const CsPair *pairs, const CsScope *scope);

/* Is there a header of this name? */
extern bool cs_pair_has_header(int n, const CsPair *pairs, const char *name);

/* Does a header carry the idempotency key? */
extern bool cs_pair_has_key(int n, const CsPair *pairs);

#endif							/* CS_PROVIDER_DEFINED_PAIR_H */
