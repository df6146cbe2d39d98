/*-------------------------------------------------------------------------
 *
 * fetch.c
 *		Requests that a session makes itself, outside of delivery.
 *
 * These requests read and change nothing, so they bypass the queue; but the
 * provider counts them like all others.  So they are made one after the other,
 * no faster than the pace of the endpoint, and wait as long as a 429 asks for,
 * within limits: the user is waiting, with a transaction open.
 *
 * An access token is never renewed here: that would invalidate the old one before
 * it is certain that this transaction commits, and the worker may be
 * renewing it at the same time.  The worker is asked to renew it, and the token
 * that it stores is used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "api/fetch.h"
#include "base/clock.h"
#include "base/shmem.h"
#include "delivery/token.h"
#include "http/http.h"
#include "provider/answer.h"
#include "provider/server.h"

/* How long to wait before a request is repeated, unless the provider says so (s). */
#define RETRY_PAUSE		1.0

/* How often to check whether the worker has renewed the token (s). */
#define REFRESH_PAUSE	0.05

/* The longest time to wait before a request is repeated (s). */
#define MAX_PAUSE		60.0

struct CsFetcher
{
	const CsEndpoint *endpoint;
	MemoryContext context;
	CsHttp	   *http;
	int			tries;
	double		next_at;		/* when the next request may be made */
	bool		refreshed;		/* the worker was asked to renew the token */
	MemoryContextCallback callback;
};

static void
close_fetcher(void *arg)
{
	CsFetcher  *fetcher = arg;

	if (fetcher->http)
		cs_http_close(fetcher->http);
}

CsFetcher *
cs_fetch_open(const CsEndpoint *endpoint, int tries)
{
	CsFetcher  *fetcher = palloc0(sizeof(CsFetcher));

	fetcher->endpoint = endpoint;
	fetcher->context = CurrentMemoryContext;
	fetcher->tries = tries;
	fetcher->callback.func = close_fetcher;
	fetcher->callback.arg = fetcher;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &fetcher->callback);
	fetcher->http = cs_http_open();
	return fetcher;
}

static void
sleep_until(double time)
{
	for (;;)
	{
		double		left = time - cs_clock_now();

		CHECK_FOR_INTERRUPTS();
		if (left <= 0)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 cs_clock_wait_ms(left), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

static const char *
access_token(const CsEndpoint *endpoint)
{
	const char *token = cs_endpoint_option(endpoint, "access_token");

	return token ? token : "";
}

/*
 * Have the worker renew the access token, and use it.  Return false if there is
 * no worker, or if it takes too long.
 */
static bool
await_fresh_token(CsFetcher *fetcher)
{
	const CsEndpoint *endpoint = fetcher->endpoint;
	double		end = cs_clock_now() + endpoint->http.timeout / 1000.0;

	if (!cs_token_is_refreshable(endpoint) || fetcher->refreshed)
		return false;
	fetcher->refreshed = true;
	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(fetcher->context);
		CsEndpoint *fresh;

		AcceptInvalidationMessages();
		fresh = cs_server_read(endpoint->serverid, endpoint->roleid);
		MemoryContextSwitchTo(old);
		if (strcmp(access_token(fresh), access_token(endpoint)) != 0)
		{
			fetcher->endpoint = fresh;
			return true;
		}
		if (cs_clock_now() >= end ||
			!cs_shmem_ask_to_refresh(endpoint->serverid, endpoint->mapping_roleid))
			return false;
		sleep_until(cs_clock_now() + REFRESH_PAUSE);
	}
}

static void
fetch_once(CsFetcher *fetcher, const CsRequest *request, CsResponse *response)
{
	char	   *auth = cs_provider_auth_value(fetcher->endpoint);

	sleep_until(fetcher->next_at);
	fetcher->next_at = cs_clock_now() + 1 / fetcher->endpoint->pace;
	(void) cs_http_start(fetcher->http, &fetcher->endpoint->http, request, auth, fetcher);
	cs_provider_auth_wipe(auth);
	while (cs_http_harvest(fetcher->http, response) == NULL)
	{
		CHECK_FOR_INTERRUPTS();
		cs_http_wait(fetcher->http, -1, PG_WAIT_EXTENSION);
	}
}

/* Return the seconds after which a request should be repeated, or -1 if it should not. */
static double
pause_after(const CsResponse *response)
{
	double		seconds = cs_message_retry_after(response);

	if (response->refused || (response->status != 0 && response->status != 429 && response->status < 500))
		return -1;
	if (seconds < 0 && response->status == 429)
		seconds = cs_message_reset_after(response, "x-ratelimit-reset");
	if (seconds < 0)
		seconds = RETRY_PAUSE;
	return seconds <= MAX_PAUSE ? seconds : -1;
}

void
cs_fetch(CsFetcher *fetcher, const CsRequest *request, CsResponse *response)
{
	if (*access_token(fetcher->endpoint) == '\0')
		(void) await_fresh_token(fetcher);
	for (int try = 1;; try++)
	{
		double		pause;

		fetch_once(fetcher, request, response);
		if (response->status == 401 && await_fresh_token(fetcher))
			fetch_once(fetcher, request, response);
		pause = pause_after(response);
		if (pause < 0 || try >= fetcher->tries)
			return;
		fetcher->next_at = Max(fetcher->next_at, cs_clock_now() + pause);
	}
}

const char *
cs_fetch_problem(const CsEndpoint *endpoint, const CsResponse *response, CsJson *doc)
{
	const char *message = cs_answer_error_message(doc);

	if (response->status >= 200 && response->status < 300)
		return NULL;
	if (response->refused)
		return response->error;
	if (response->status == 0)
		return psprintf("no answer: %s",
						response->error ? cs_endpoint_clean(endpoint, response->error) : "unknown");
	if (response->status == 401 && endpoint->provider->auth == CS_AUTH_OAUTH)
		return "HTTP 401: the access token is invalid, and no worker renewed it";
	return psprintf("HTTP %d%s%s", response->status, message ? ": " : "",
					message ? cs_endpoint_clean(endpoint, message) : "");
}
