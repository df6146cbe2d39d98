/*-------------------------------------------------------------------------
 *
 * preview.h
 *		What previews have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_PREVIEW_H
#define CS_API_PREVIEW_H

#include "postgres.h"

#include "http/message.h"
#include "provider/provider.h"

/* Return a request as a curl command, in UTF-8, without the secret. */
extern char *cs_preview_curl(const CsProvider *provider, const CsRequest *request);

#endif							/* CS_API_PREVIEW_H */
