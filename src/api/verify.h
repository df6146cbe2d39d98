/*-------------------------------------------------------------------------
 *
 * verify.h
 *		Checking a mapping with the provider.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_VERIFY_H
#define CS_API_VERIFY_H

#include "postgres.h"

#include "provider/endpoint.h"
#include "store/watch.h"

/*
 * Raise an error if the provider lacks a field that the mapping of a new or altered
 * watch needs, and a warning if it does not answer.  Do nothing for providers that
 * cannot be asked, and with the server option check_fields off.
 */
extern void cs_verify_mapping(const CsEndpoint *endpoint, CsWatch *watch);

/*
 * Ask the provider the same for each that is mapped: return an array with what it says
 * of those that it lacks, and NULL for others; or NULL if it cannot be asked or does not
 * answer.
 */
extern const char **cs_verify_find_missing(const CsEndpoint *endpoint, const CsWatch *watch);

#endif							/* CS_API_VERIFY_H */
