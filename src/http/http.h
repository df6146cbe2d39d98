/*-------------------------------------------------------------------------
 *
 * http.h
 *		Many HTTP calls at once, without blocking; hides libcurl.
 *
 * Nothing here needs a transaction, and nothing ereports from inside libcurl:
 * its callbacks fill malloc'd, bounded buffers.  cs_http_open() and
 * cs_http_start() ereport when out of memory or when a URL is not allowed, and
 * leave nothing behind then; cs_http_wait() and cs_http_harvest() may ereport
 * when the kernel or the memory fails them, and leave all calls as they were.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_HTTP_H
#define CS_HTTP_HTTP_H

#include "postgres.h"

#include "provider/provider.h"

typedef struct CsHttp CsHttp;	/* all connections of this process */
typedef struct CsHttpCall CsHttpCall;	/* one call in flight */

extern CsHttp *cs_http_open(void);
extern void cs_http_close(CsHttp *http);	/* ends all calls, never ereports */

/*
 * Start a call; request and endpoint are copied and need not live on, "owner"
 * must not be NULL.  The time-outs run on our clock (clock.h).
 * "authorization" is the value of the provider's header for it, or NULL; it is
 * wiped from memory when the call ends.  "owner" comes back with the answer.
 */
extern CsHttpCall *cs_http_start(CsHttp *http, const CsEndpoint *endpoint,
								 const CsRequest *request,
								 const char *authorization, void *owner);
extern void cs_http_cancel(CsHttp *http, CsHttpCall *call);
extern int	cs_http_in_flight(const CsHttp *http);

/*
 * Wait until a call has ended, the process latch is set, or "timeout" ms have
 * passed (-1: as long as it takes), whichever comes first; the latch is reset.
 * CHECK_FOR_INTERRUPTS() is the caller's.
 */
extern void cs_http_wait(CsHttp *http, long timeout, uint32 wait_event);

/*
 * The owner of the next call that has ended, or NULL.  The response is filled
 * in, copied into the current memory context, and the call is freed.  An answer
 * that breaks off, or has more than 8 MB of body or 64 kB of header, counts as
 * none.
 */
extern void *cs_http_harvest(CsHttp *http, CsResponse *response);

#endif							/* CS_HTTP_HTTP_H */
