/*-------------------------------------------------------------------------
 *
 * trace.h
 *		Complete requests and answers of chosen contacts.
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
 * Start or stop tracing a contact: by its address or upsert key, or with a watch by
 * the key of its row.  Within cs_sql_enter().  Return false if nothing changed.
 */
extern bool cs_trace_set(int endpoint, int watch, const char *contact, bool on);

/* Load what is traced, in the process that delivers.  Needs a transaction. */
extern void cs_trace_load(void);

/* Return whether this contact is traced.  Cheap if none is. */
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

/* Make a trace, palloc'd in the context, without secrets, and cut where it is too long. */
extern CsTrace *cs_trace_make(MemoryContext context, const CsEndpoint *endpoint, int watch,
							  const char *key, const CsContact *contact,
							  const CsRequest *request, const CsResponse *response);

/* Within cs_sql_enter(). */
extern void cs_trace_store(const CsTrace *trace, const CsCallRecord *record);
extern void cs_trace_prune(void);

#endif							/* CS_STORE_TRACE_H */
