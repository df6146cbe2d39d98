/*-------------------------------------------------------------------------
 *
 * verify.h
 *		Asking a provider whether it has what we have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_VERIFY_H
#define CS_API_VERIFY_H

#include "postgres.h"

#include "provider/endpoint.h"
#include "store/watch.h"

/*
 * Effect: an error if the provider says that it cannot take what the watch,
 * which is being made, would send; a warning if it does not say.  Makes a
 * request to providers that can be asked, unless the server's options tell not
 * to.
 */
extern void cs_verify_mapping(const CsEndpoint *endpoint, const CsWatch *watch);

#endif							/* CS_API_VERIFY_H */
