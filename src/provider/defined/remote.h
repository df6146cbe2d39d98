/*-------------------------------------------------------------------------
 *
 * remote.h
 *		Reading what the service of a definition has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_DEFINED_REMOTE_H
#define CS_PROVIDER_DEFINED_REMOTE_H

#include "postgres.h"

#include "provider/defined/definition.h"
#include "provider/defined/fault.h"

/* Compile "contact", "lookup" and "pull"; NULL if the definition has none. */
extern void cs_remote_compile(CsCompiler *compiler, CsJson *contact, CsJson *lookup, CsJson *pull,
							  CsDefined *definition);

extern bool cs_remote_read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemoteContact *remote);
extern void cs_remote_judge_pull(const CsEndpoint *endpoint, const CsPull *pull, CsJson *doc,
								 CsPullPage *pulled);

#endif							/* CS_PROVIDER_DEFINED_REMOTE_H */
