/*-------------------------------------------------------------------------
 *
 * http.h
 *		Many HTTP calls at once, without blocking; hides libcurl.
 *
 * Nothing here needs a transaction.  If cs_http_open() or cs_http_start()
 * reports an error, it leaves nothing behind; if cs_http_wait() or
 * cs_http_harvest() does, all calls are as they were.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_HTTP_H
#define CS_HTTP_HTTP_H

#include "postgres.h"

#include "http/message.h"

typedef struct CsHttp CsHttp;	/* all connections of this process */
typedef struct CsHttpCall CsHttpCall;	/* one call in flight */

/* Errors out when there is no memory or no file descriptor left. */
extern CsHttp *cs_http_open(void);

/*
 * End all calls and close all connections.  Never errors out; may be called
 * during an error or an exit, but not from a callback.
 */
extern void cs_http_close(CsHttp *http);

/*
 * Start a call; it may even have ended when this returns.  Request and options
 * are copied.  "authorization" is the value of the header that carries the
 * secret, or NULL; it is wiped from memory when the call ends.  "owner" must not
 * be NULL; cs_http_harvest() returns it.  Errors out when out of memory, or when
 * the request must not be sent.
 */
extern CsHttpCall *cs_http_start(CsHttp *http, const CsHttpOptions *options,
								 const CsRequest *request,
								 const char *authorization, void *owner);

/* End a call that is not harvested yet, and free it.  Never errors out. */
extern void cs_http_cancel(CsHttp *http, CsHttpCall *call);

/*
 * May another call start, without running out of file descriptors?  "first": of
 * somebody who has none in flight; for those some are left by the others.
 */
extern bool cs_http_has_room(const CsHttp *http, bool first);

/* Return the number of calls that are not harvested yet. */
extern int	cs_http_in_flight(const CsHttp *http);

/*
 * Wait until a call has ended, the process latch is set, or "timeout" ms have
 * passed (-1: no limit), and reset the latch.  Exits when the postmaster has
 * died.  The caller is responsible for CHECK_FOR_INTERRUPTS().
 */
extern void cs_http_wait(CsHttp *http, long timeout, uint32 wait_event);

/*
 * Return the owner of the next call that has ended, or NULL.  Fill in the
 * response, copied into the current memory context, and free the call.  An
 * answer that breaks off, or has more than 8 MB of body or 64 kB of headers,
 * counts as no answer.
 */
extern void *cs_http_harvest(CsHttp *http, CsResponse *response);

#endif							/* CS_HTTP_HTTP_H */
