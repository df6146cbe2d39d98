/*-------------------------------------------------------------------------
 *
 * trace.h
 *		Requests and answers of chosen contacts, kept whole to be looked at.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_TRACE_H
#define CS_STORE_TRACE_H

#include "postgres.h"

#include "provider/contact.h"
#include "provider/endpoint.h"
#include "provider/provider.h"
#include "store/call_log.h"

/*
 * Effect: the next calls about a contact are kept, or no more: one that has this
 * address or upsert key, or with a watch the row of this key.  Within
 * cs_sql_enter().  Returns false if that was so already.
 */
extern bool cs_trace_set(int endpoint, int watch, const char *contact, bool on);

/* Whoever delivers: effect: knows what is to be kept.  Needs a transaction. */
extern void cs_trace_load(void);

/* Is it to be kept what is sent of this contact?  Cheap if none is. */
extern bool cs_trace_is_wanted(int endpoint, int watch, const char *key, const CsContact *contact);

/* A call about one contact, as it is kept. */
typedef struct CsTrace
{
	int			watch;
	char	   *key;
	char	   *upsert_key;
	char	   *email;
	char	   *url;
	char	   *request_headers;
	char	   *request;
	char	   *response_headers;
	char	   *response;
} CsTrace;

/* palloc'd in the context, secrets redacted, and cut where it is too long. */
extern CsTrace *cs_trace_make(MemoryContext context, const CsEndpoint *endpoint, int watch,
							  const char *key, const CsContact *contact,
							  const CsRequest *request, const CsResponse *response);

/* Within cs_sql_enter(). */
extern void cs_trace_store(const CsTrace *trace, const CsCallRecord *record);
extern void cs_trace_prune(void);

#endif							/* CS_STORE_TRACE_H */
