/*-------------------------------------------------------------------------
 *
 * http.c
 *		Many HTTP calls at once, without blocking; hides libcurl.
 *
 * libcurl tells by callbacks which sockets it waits for and until when; they are
 * waited for together with the process latch.  Nothing here polls.
 *
 * All that libcurl may call fills malloc'd memory and returns: an ereport from
 * there would longjmp over frames that are not ours.  For the same reason all
 * of CsHttp is malloc'd, and cs_http_close() can be called from a PG_CATCH or
 * when the process leaves.
 *
 * libcurl resolves names in threads.  They inherit the signal mask, so signals
 * are blocked around every call that may start one: the handlers of the process
 * must run in its main thread only.  A thread that hangs in the resolver is left
 * to itself when its call ends, so that it holds up nobody.
 *
 * Handles and connections are used again.  libcurl itself repeats a request, on
 * a new connection, when one that it used again turns out to be closed before
 * the first byte of an answer; no other call is ever made twice here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "miscadmin.h"

#include "http/http.h"
#include "http/transfer.h"
#include "http/waitset.h"

#define EVENTS_AT_ONCE	16		/* per system call */
#define KEPT_CALLS		64		/* idle calls with their handles */
#define KEPT_CONNECTIONS	8	/* at least, for servers that take turns */
#define NEVER			PG_INT64_MAX

struct CsHttp
{
	CURLM	   *multi;
	CsWaitSet	sockets;		/* that libcurl waits for */
	int64		timer;			/* when libcurl wants to be called, or NEVER */

	dlist_head	flying;
	dlist_head	ended;			/* to be harvested */
	dlist_head	idle;
	int			nflying;
	int			nended;
	int			nidle;
	int			max_connections;	/* kept open; at most as many as ever flew */
};

/*
 * Milliseconds that only ever rise.
 */
static int64
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---------- callbacks of libcurl: no ereport, no palloc ---------- */

/*
 * libcurl wants to be called in timeout_ms, or not at all (-1).
 */
static int
timer_callback(CURLM *multi, long timeout_ms, void *arg)
{
	CsHttp	   *http = arg;

	http->timer = timeout_ms < 0 ? NEVER : now_ms() + timeout_ms;
	return 0;
}

/*
 * libcurl wants to be told of other events on a socket, or of none.
 */
static int
socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	CsHttp	   *http = arg;
	uint32		events = 0;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_WRITEABLE;
	return cs_waitset_watch(&http->sockets, fd, events) ? 0 : -1;
}

/* ---------- opening and closing ---------- */

/*
 * Initialize libcurl, once per process; never in the postmaster, whose children
 * would share it.
 */
static void
initialize_library(void)
{
	static bool done = false;
	CURLcode	rc;

	if (done)
		return;
	WITH_SIGNALS_BLOCKED(rc = curl_global_init(CURL_GLOBAL_DEFAULT));
	if (rc != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not initialize libcurl: %s", curl_easy_strerror(rc))));
	done = true;
}

/*
 * All connections of this process; lives until cs_http_close().  Ereports when
 * out of memory or of file descriptors.
 */
CsHttp *
cs_http_open(void)
{
	CsHttp	   *http;

	initialize_library();
	http = calloc(1, sizeof(CsHttp));
	if (http != NULL)
		http->multi = curl_multi_init();
	if (http == NULL || http->multi == NULL)
	{
		free(http);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	http->timer = NEVER;
	dlist_init(&http->flying);
	dlist_init(&http->ended);
	dlist_init(&http->idle);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	PG_TRY();
	{
		cs_waitset_refresh(&http->sockets);
	}
	PG_CATCH();
	{
		cs_http_close(http);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return http;
}

/*
 * End all calls and close all connections; the calls are freed.  May be called
 * with an error or an exit under way, but not from within a callback.
 */
void
cs_http_close(CsHttp *http)
{
	while (!dlist_is_empty(&http->flying))
		cs_http_cancel(http, dlist_head_element(CsHttpCall, node, &http->flying));
	while (!dlist_is_empty(&http->ended))
		cs_http_cancel(http, dlist_head_element(CsHttpCall, node, &http->ended));
	while (!dlist_is_empty(&http->idle))
		cs_transfer_free(dlist_container(CsHttpCall, node, dlist_pop_head_node(&http->idle)));
	WITH_SIGNALS_BLOCKED(curl_multi_cleanup(http->multi));
	cs_waitset_free(&http->sockets);
	free(http);
}

/* ---------- calls ---------- */

/*
 * Give libcurl a turn: something happened on a socket, or its time has come
 * (CURL_SOCKET_TIMEOUT).
 */
static void
drive(CsHttp *http, curl_socket_t fd, int mask)
{
	int			running;

	if (fd == CURL_SOCKET_TIMEOUT)
		http->timer = NEVER;
	WITH_SIGNALS_BLOCKED(curl_multi_socket_action(http->multi, fd, mask, &running));
}

/*
 * Take a call out of libcurl; it is in no list then.
 */
static void
land(CsHttp *http, CsHttpCall *call)
{
	WITH_SIGNALS_BLOCKED(curl_multi_remove_handle(http->multi, call->easy));
	dlist_delete(&call->node);
	call->flying = false;
	http->nflying--;
}

/*
 * Move the calls that libcurl is done with to the ended ones.
 */
static void
collect(CsHttp *http)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(http->multi, &left)) != NULL)
	{
		CURLcode	rc = message->data.result;
		CsHttpCall *call;
		char	   *private;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		call = (CsHttpCall *) private;

		land(http, call);
		cs_transfer_end(call, rc);
		dlist_push_tail(&http->ended, &call->node);
		http->nended++;
	}
}

/*
 * Keep a call that is in no list for the next request, or free it if enough are
 * kept.
 */
static void
retire(CsHttp *http, CsHttpCall *call)
{
	if (http->nidle >= KEPT_CALLS)
	{
		cs_transfer_free(call);
		return;
	}
	cs_transfer_shrink(call);
	dlist_push_head(&http->idle, &call->node);
	http->nidle++;
}

/*
 * Let libcurl keep as many connections as there are calls at once, so that they
 * can be used again.
 */
static void
keep_connections(CsHttp *http)
{
	int			wanted = Max(http->nflying, KEPT_CONNECTIONS);

	if (wanted <= http->max_connections)
		return;
	http->max_connections = wanted;
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long) wanted);
}

/*
 * Start a call; request and endpoint are copied.  It is on its way when this
 * returns, and may even have ended.  Ereports when out of memory or when the
 * request must not be sent, and leaves nothing behind then.
 */
CsHttpCall *
cs_http_start(CsHttp *http, const CsEndpoint *endpoint, const CsRequest *request,
			  const char *authorization, void *owner)
{
	CsHttpCall *call;
	CURLcode	rc = CURLE_OUT_OF_MEMORY;

	cs_transfer_check(endpoint, request, authorization);
	if (dlist_is_empty(&http->idle))
		call = cs_transfer_new();
	else
	{
		call = dlist_container(CsHttpCall, node, dlist_pop_head_node(&http->idle));
		http->nidle--;
	}
	if (call != NULL)
		rc = cs_transfer_prepare(call, endpoint, request, authorization);
	if (rc == CURLE_OK && curl_multi_add_handle(http->multi, call->easy) != CURLM_OK)
		rc = CURLE_OUT_OF_MEMORY;
	if (rc != CURLE_OK)
	{
		if (call != NULL)
			cs_transfer_free(call);
		ereport(ERROR,
				(errcode(rc == CURLE_OUT_OF_MEMORY ? ERRCODE_OUT_OF_MEMORY : ERRCODE_SYSTEM_ERROR),
				 errmsg("could not prepare a request to server \"%s\": %s",
						endpoint->server_name, curl_easy_strerror(rc))));
	}

	call->owner = owner;
	call->flying = true;
	dlist_push_tail(&http->flying, &call->node);
	http->nflying++;
	keep_connections(http);
	drive(http, CURL_SOCKET_TIMEOUT, 0);
	collect(http);
	return call;
}

/*
 * End a call whose answer nobody waits for any more; it is freed.
 */
void
cs_http_cancel(CsHttp *http, CsHttpCall *call)
{
	if (call->flying)
		land(http, call);
	else
	{
		dlist_delete(&call->node);
		http->nended--;
	}
	cs_transfer_free(call);
}

/*
 * Calls that were started and neither harvested nor cancelled.
 */
int
cs_http_in_flight(const CsHttp *http)
{
	return http->nflying + http->nended;
}

/* ---------- waiting ---------- */

/*
 * Sleep until something happens or "until", and hand on what happened.  Returns
 * whether the latch was set; it is reset then.
 */
static bool
wait_once(CsHttp *http, int64 until, uint32 wait_event)
{
	WaitEvent	events[EVENTS_AT_ONCE];
	int64		wake_at = Min(until, http->timer);
	long		timeout = -1;
	bool		latch_set = false;
	int			n;
	int			i;

	if (wake_at != NEVER)
		timeout = Min(Max(wake_at - now_ms(), 0), INT_MAX);
	n = cs_waitset_wait(&http->sockets, timeout, events, EVENTS_AT_ONCE, wait_event);
	for (i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			latch_set = true;
		}
		if (events[i].events & (WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE))
			drive(http, events[i].fd,
				  ((events[i].events & WL_SOCKET_READABLE) ? CURL_CSELECT_IN : 0) |
				  ((events[i].events & WL_SOCKET_WRITEABLE) ? CURL_CSELECT_OUT : 0));
	}
	if (http->timer <= now_ms())
		drive(http, CURL_SOCKET_TIMEOUT, 0);
	collect(http);
	return latch_set;
}

/*
 * Wait until a call has ended, the latch is set, or "timeout" ms have passed
 * (-1: without end).  Exits when the postmaster is gone.  May ereport when the
 * kernel refuses to wait, with all calls intact.
 */
void
cs_http_wait(CsHttp *http, long timeout, uint32 wait_event)
{
	int64		until = timeout < 0 ? NEVER : now_ms() + timeout;

	while (dlist_is_empty(&http->ended))
	{
		if (wait_once(http, until, wait_event))
			break;
		if (until <= now_ms())
			break;
	}
}

/*
 * The owner of the next call that has ended, or NULL; the response is palloc'd
 * in the current memory context and the call is gone.  When it ereports, the
 * call can be harvested again.
 */
void *
cs_http_harvest(CsHttp *http, CsResponse *response)
{
	CsHttpCall *call;
	void	   *owner;

	if (dlist_is_empty(&http->ended))
		return NULL;
	call = dlist_head_element(CsHttpCall, node, &http->ended);
	owner = call->owner;
	cs_transfer_answer(call, response);

	dlist_delete(&call->node);
	http->nended--;
	retire(http, call);
	return owner;
}
