/*-------------------------------------------------------------------------
 *
 * signature.h
 *		Signing requests.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_SIGNATURE_H
#define CS_PROVIDER_SIGNATURE_H

#include "postgres.h"

#include "provider/provider.h"

/*
 * Sign a request that is built, at a time in Unix seconds: add its headers.  Does
 * nothing if the provider has no signatures.
 */
extern void cs_signature_add(const CsEndpoint *endpoint, CsRequest *request, double now);

#endif							/* CS_PROVIDER_SIGNATURE_H */
