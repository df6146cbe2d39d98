/*-------------------------------------------------------------------------
 *
 * signature.c
 *		Signing requests.
 *
 * The receiver computes the same, and so knows that the request is ours, is complete,
 * and is not an old one that is sent again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/digest.h"
#include "provider/signature.h"

void
cs_signature_add(const CsEndpoint *endpoint, CsRequest *request, double now)
{
	const CsSigning *signing = endpoint->provider->signing;
	const char *secret = cs_endpoint_option(endpoint, "signing_secret");
	const char *id = request->idempotency_key ? request->idempotency_key : "";
	char	   *timestamp = psprintf(INT64_FORMAT, (int64) now);
	StringInfoData text;
	char	   *signature;

	if (signing == NULL || secret == NULL)
		return;
	initStringInfo(&text);
	if (signing->id_header)
	{
		appendStringInfo(&text, "%s.", id);
		cs_message_add_header(request, signing->id_header, id);
	}
	if (signing->timestamp_header)
	{
		appendStringInfo(&text, "%s.", timestamp);
		cs_message_add_header(request, signing->timestamp_header, timestamp);
	}
	if (request->body.data)
		appendBinaryStringInfo(&text, request->body.data, request->body.len);
	signature = cs_digest_hmac(secret, text.data, text.len, signing->base64);
	cs_message_add_header(request, signing->header, psprintf("%s%s", signing->prefix, signature));
}
