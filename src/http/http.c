/*-------------------------------------------------------------------------
 *
 * http.c
 *		Many HTTP calls at once, without blocking; hides libcurl.
 *
 * libcurl announces through callbacks which sockets it waits for and until when.
 * cs_http_wait() waits for those together with the process latch; nothing polls.
 *
 * The callbacks fill malloc'd memory and return.  They must not ereport, because
 * that would longjmp over libcurl's frames.  All of CsHttp is malloc'd for the
 * same reason, so cs_http_close() can be called from a PG_CATCH block and at
 * process exit.
 *
 * libcurl resolves names in threads, which inherit the signal mask.  Signals are
 * blocked around every call that may start a thread, so that signal handlers run
 * in the main thread only.  A thread that hangs in the resolver is abandoned when
 * its call ends, so it delays nothing.
 *
 * Handles and connections are reused.  If a reused connection turns out to be
 * closed before the first byte of an answer, libcurl repeats the request on a new
 * connection; no other request is ever repeated here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "http/http.h"
#include "http/transfer.h"

#define EVENTS_AT_ONCE	16		/* per system call */
#define FIRST_SOCKETS	16		/* sockets that room is made for at first */
#define KEPT_CALLS		64		/* idle calls with their handles */
#define KEPT_CONNECTIONS	8	/* at least, for servers that alternate */
#define OTHER_DESCRIPTORS	16	/* such as of connections about to be closed */
#define RETRY_MS		100		/* after libcurl could not act */
#define NEVER			PG_INT64_MAX

typedef struct WatchedSocket
{
	pgsocket	fd;
	uint32		events;			/* WL_SOCKET_... */
} WatchedSocket;

/*
 * The sockets that libcurl waits for.  A zeroed one is valid and empty.
 *
 * A WaitEventSet cannot drop a socket, so it is rebuilt when the sockets have
 * changed since the last wait.  That takes a few microseconds, at most twice a
 * call, and works on every platform.  Once built, the set keeps its file
 * descriptor and cannot run out of them.
 */
typedef struct SocketSet
{
	WatchedSocket *watched;		/* malloc'd */
	int			nwatched;
	int			room;
	WaitEventSet *set;			/* NULL, or out of date if stale */
	bool		stale;
} SocketSet;

struct CsHttp
{
	CURLM	   *multi;
	SocketSet	sockets;
	int64		timer;			/* when libcurl wants to be called, or NEVER */

	dlist_head	flying;			/* calls that libcurl has got */
	dlist_head	ended;			/* to be harvested */
	dlist_head	idle;
	int			nflying;
	int			nended;
	int			nidle;
	int			max_connections;	/* kept open; the largest number of calls
									 * at once so far */
	int			most;			/* calls at once */
};

/* Return the monotonic clock in milliseconds. */
static int64
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---------- sockets ---------- */

/*
 * Wait for these WL_SOCKET_* events of a socket from now on; for none if events
 * is 0, which is required before the socket is closed.  Called by libcurl, so it
 * neither pallocs nor reports errors; returns false when out of memory.
 */
static bool
watch_socket(SocketSet *set, pgsocket fd, uint32 events)
{
	int			i;

	for (i = 0; i < set->nwatched && set->watched[i].fd != fd; i++)
		;
	set->stale = true;

	if (events == 0)
	{
		if (i < set->nwatched)
			set->watched[i] = set->watched[--set->nwatched];
		return true;
	}
	if (i == set->room)
	{
		int			room = Max(set->room * 2, FIRST_SOCKETS);
		WatchedSocket *grown = realloc(set->watched, room * sizeof(WatchedSocket));

		if (grown == NULL)
			return false;
		set->watched = grown;
		set->room = room;
	}
	set->watched[i].fd = fd;
	set->watched[i].events = events;
	set->nwatched = Max(set->nwatched, i + 1);
	return true;
}

/*
 * Rebuild the WaitEventSet if the sockets have changed.  If that fails, it stays
 * stale and is rebuilt the next time.
 */
static void
refresh_sockets(SocketSet *set)
{
	WaitEventSet *old = set->set;
	int			i;

	if (old != NULL && !set->stale)
		return;

	set->stale = true;
	set->set = NULL;
	if (old != NULL)
		FreeWaitEventSet(old);

	set->set = cs_create_wait_event_set(set->nwatched + 2);
	AddWaitEventToSet(set->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	if (IsUnderPostmaster)
		AddWaitEventToSet(set->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (i = 0; i < set->nwatched; i++)
		AddWaitEventToSet(set->set, set->watched[i].events, set->watched[i].fd, NULL, NULL);
	set->stale = false;
}

/*
 * Like WaitEventSetWait(), for the sockets and the process latch, which is not
 * reset.  Exits when the postmaster has died.
 */
static int
wait_for_sockets(SocketSet *set, long timeout, WaitEvent *events, int nevents, uint32 wait_event)
{
	refresh_sockets(set);
	return WaitEventSetWait(set->set, timeout, events, nevents, wait_event);
}

static void
free_sockets(SocketSet *set)
{
	if (set->set != NULL)
		FreeWaitEventSet(set->set);
	free(set->watched);
	memset(set, 0, sizeof(SocketSet));
}

/* ---------- callbacks of libcurl: no ereport, no palloc ---------- */

/* libcurl asks to be called in timeout_ms, or not at all (-1). */
static int
timer_callback(CURLM *multi, long timeout_ms, void *arg)
{
	CsHttp	   *http = arg;

	http->timer = timeout_ms < 0 ? NEVER : now_ms() + timeout_ms;
	return 0;
}

/* libcurl changes the events that it waits for on a socket. */
static int
socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	CsHttp	   *http = arg;
	uint32		events = 0;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_WRITEABLE;
	return watch_socket(&http->sockets, fd, events) ? 0 : -1;
}

/* ---------- opening and closing ---------- */

/* Have libcurl tell about sockets and times; return false if it cannot. */
static bool
set_callbacks(CsHttp *http)
{
	return curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, socket_callback) == CURLM_OK &&
		curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http) == CURLM_OK &&
		curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, timer_callback) == CURLM_OK &&
		curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http) == CURLM_OK;
}

/*
 * Initialize libcurl, once per process.  Never done in the postmaster, because
 * its children would share the state.
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

CsHttp *
cs_http_open(void)
{
	CsHttp	   *http;

	initialize_library();
	http = calloc(1, sizeof(CsHttp));
	if (http != NULL)
		http->multi = curl_multi_init();
	if (http == NULL || http->multi == NULL || !set_callbacks(http))
	{
		if (http != NULL && http->multi != NULL)
			curl_multi_cleanup(http->multi);
		free(http);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	http->timer = NEVER;

	/*
	 * fd.c leaves us a third of all descriptors, some of which are not for
	 * calls
	 */
	http->most = Max(max_safe_fds / 3 - OTHER_DESCRIPTORS, 2);
	curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) http->most + OTHER_DESCRIPTORS / 2);
	dlist_init(&http->flying);
	dlist_init(&http->ended);
	dlist_init(&http->idle);
	PG_TRY();
	{
		refresh_sockets(&http->sockets);
	}
	PG_CATCH();
	{
		cs_http_close(http);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return http;
}

/* Remove a call from libcurl, and from its list. */
static void
detach(CsHttp *http, CsHttpCall *call)
{
	WITH_SIGNALS_BLOCKED(curl_multi_remove_handle(http->multi, call->easy));
	dlist_delete(&call->node);
	call->flying = false;
	http->nflying--;
}

void
cs_http_cancel(CsHttp *http, CsHttpCall *call)
{
	if (call->flying)
		detach(http, call);
	else
	{
		dlist_delete(&call->node);
		http->nended--;
	}
	cs_transfer_free(call);
}

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
	free_sockets(&http->sockets);
	free(http);
}

/* ---------- calls ---------- */

/*
 * Let libcurl act on an event of a socket, or on its timer
 * (CURL_SOCKET_TIMEOUT).
 */
static void
drive(CsHttp *http, curl_socket_t fd, int mask)
{
	int			running;
	CURLMcode	rc;

	if (fd == CURL_SOCKET_TIMEOUT)
		http->timer = NEVER;
	WITH_SIGNALS_BLOCKED(rc = curl_multi_socket_action(http->multi, fd, mask, &running));
	if (rc != CURLM_OK)
		http->timer = now_ms() + RETRY_MS;
}

/* Move the calls that libcurl has finished to the list of ended ones. */
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

		detach(http, call);
		cs_transfer_end(call, rc);
		dlist_push_tail(&http->ended, &call->node);
		http->nended++;
	}
}

/*
 * Keep a call that is in no list for a later request, or free it if enough are
 * kept.
 */
static void
recycle(CsHttp *http, CsHttpCall *call)
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

bool
cs_http_has_room(const CsHttp *http, bool first)
{
	return http->nflying < (first ? http->most : http->most / 2);
}

/* Let libcurl keep as many idle connections as there are calls at once. */
static void
keep_connections(CsHttp *http)
{
	int			wanted = Max(http->nflying, KEPT_CONNECTIONS);

	if (wanted <= http->max_connections)
		return;
	http->max_connections = wanted;
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long) wanted);
}

CsHttpCall *
cs_http_start(CsHttp *http, const CsHttpOptions *options, const CsRequest *request,
			  const char *authorization, void *owner)
{
	CsHttpCall *call;
	CURLcode	rc = CURLE_OUT_OF_MEMORY;

	cs_transfer_check(options, request, authorization);
	if (dlist_is_empty(&http->idle))
		call = cs_transfer_new();
	else
	{
		call = dlist_container(CsHttpCall, node, dlist_pop_head_node(&http->idle));
		http->nidle--;
	}
	if (call != NULL)
		rc = cs_transfer_prepare(call, options, request, authorization);
	if (rc == CURLE_OK && curl_multi_add_handle(http->multi, call->easy) != CURLM_OK)
		rc = CURLE_OUT_OF_MEMORY;
	if (rc != CURLE_OK)
	{
		if (call != NULL)
			cs_transfer_free(call);
		ereport(ERROR,
				(errcode(rc == CURLE_OUT_OF_MEMORY ? ERRCODE_OUT_OF_MEMORY : ERRCODE_SYSTEM_ERROR),
				 errmsg("could not prepare a request to server \"%s\": %s",
						options->server_name, curl_easy_strerror(rc))));
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

int
cs_http_in_flight(const CsHttp *http)
{
	return http->nflying + http->nended;
}

/* ---------- waiting ---------- */

/*
 * Sleep until an event or "until", and let libcurl act on the events.  If the
 * latch is set, reset it and return true.
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
	n = wait_for_sockets(&http->sockets, timeout, events, EVENTS_AT_ONCE, wait_event);
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
	recycle(http, call);
	return owner;
}
