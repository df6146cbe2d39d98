/*-------------------------------------------------------------------------
 *
 * alert.c
 *		Telling alert_url of trouble of an account, and of its end.
 *
 * What is to be told is in contactsync.alert, see store/alert.c.  A call is like any
 * other of this process, but it belongs to no contact: it takes nothing of the pace, has
 * its own short timeouts, and one account makes one at a time.  It is in the way of
 * nobody, and if it fails, that is shown, and nothing is halted.
 *
 * An account whose user mapping cannot be read is halted for that, so its server's
 * alert_url is called then, without a secret.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/network.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/alert.h"
#include "delivery/alert_body.h"
#include "http/url.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/stats.h"

/* How long a call may take (ms). */
#define CONNECT_TIMEOUT	5000
#define TIMEOUT			10000

/* The longest wait that a receiver may ask for (s). */
#define MAX_RETRY_AFTER	3600.0

/* What is shown in the place of a host that is secret. */
#define HIDDEN			"***"

/*
 * Options
 */

/* Return an option that may be on the user mapping, which counts more than the server, or NULL. */
static const CsOptionValue *
find_option(const CsEndpoint *endpoint, const char *name)
{
	const CsOptionValue *found = NULL;

	for (int i = 0; endpoint && i < endpoint->nvalues; i++)
		if (strcmp(endpoint->values[i].option->name, name) == 0 &&
			(found == NULL || endpoint->values[i].option->place == CS_ON_MAPPING))
			found = &endpoint->values[i];
	return found;
}

typedef struct CsReadJob
{
	Oid			serverid;
	CsEndpoint *endpoint;
} CsReadJob;

static void
read_unmapped(void *arg)
{
	CsReadJob  *job = arg;

	job->endpoint = cs_server_read_unmapped(job->serverid);
}

/* Return the options by which the account is told, or NULL.  Needs a transaction. */
static const CsEndpoint *
endpoint_of(const CsAccount *account)
{
	CsReadJob	job = {account->serverid};

	if (!account->unreadable)
		return account->endpoint;
	return cs_try(read_unmapped, &job, NULL, NULL) == CS_TRY_OK ? job.endpoint : NULL;
}

/*
 * May only some addresses be called?  That goes by who has set the URL: the owner of the
 * server, or the role of the user mapping.  Needs a transaction.
 */
static bool
is_restricted(const CsEndpoint *endpoint)
{
	const CsOption *option = find_option(endpoint, "alert_url")->option;

	return option->place == CS_ON_MAPPING && OidIsValid(endpoint->mapping_roleid) ?
		!superuser_arg(endpoint->mapping_roleid) : endpoint->http.restricted;
}

/* Return why the URL must not be called with these options, palloc'd, or NULL. */
static const char *
find_problem(const CsEndpoint *endpoint, bool restricted)
{
	static const char *const names[] = {"alert_url", "alert_key"};
	const char *url = find_option(endpoint, "alert_url")->value;
	const char *problem;
	CsAddress	address;

	for (int i = 0; i < lengthof(names); i++)
	{
		const CsOptionValue *value = find_option(endpoint, names[i]);

		problem = value ? cs_option_check(value->option, value->value) : NULL;
		if (problem)
			return psprintf("%s %s", names[i], problem);
	}
	problem = endpoint->http.proxy ? cs_url_proxied_problem(url, endpoint->http.proxy, cs_allow_http) : NULL;
	if (problem)
		return psprintf("alert_url %s", problem);
	if (restricted && cs_network_read_address(cs_url_host(url), &address) &&
		!cs_network_is_allowed(&address))
	{
		char		text[CS_NETWORK_TEXT];

		return psprintf("alert_url has an address that is " CS_NETWORK_REFUSAL "%s",
						cs_network_print_address(&address, text));
	}
	return NULL;
}

/*
 * When
 */

/* Learn when the accounts have something to tell, after it is noted what is over. */
void
cs_alert_load(List *accounts)
{
	int			n = list_length(accounts);
	int		   *endpoints = palloc(Max(n, 1) * sizeof(int));
	double	   *due_at = palloc(Max(n, 1) * sizeof(double));
	CsSqlScope	scope;

	for (int i = 0; i < n; i++)
		endpoints[i] = ((CsAccount *) list_nth(accounts, i))->id;
	cs_sql_enter(&scope);
	cs_alert_end_watches(n, endpoints);
	cs_alert_due(n, endpoints, due_at);
	cs_sql_leave(&scope);
	(void) cs_alert_take_news();
	for (int i = 0; i < n; i++)
	{
		CsAccount  *account = list_nth(accounts, i);

		if (account->alert)
			continue;
		account->alert_at = due_at[i];
		if (due_at[i] < DBL_MAX && find_option(endpoint_of(account), "alert_url") == NULL)
			account->alert_at = DBL_MAX;
	}
}

/* When the account can send a message; DBL_MAX: it has none, or one is under way. */
double
cs_alert_ready_at(const CsAccount *account)
{
	return account->alert ? DBL_MAX : account->alert_at;
}

/* Note what waits for the accounts, and what is beyond a threshold of theirs. */
void
cs_alert_check(List *accounts, int only)
{
	CsAlertThreshold *thresholds = palloc0(Max(list_length(accounts), 1) * sizeof(CsAlertThreshold));
	CsBacklogNote *notes;
	CsSqlScope	scope;
	ListCell   *lc;
	int			n = 0;
	int			nnotes;

	cs_sql_enter(&scope);
	nnotes = cs_stats_note_backlog(only, &notes);
	foreach(lc, accounts)
	{
		const CsAccount *account = lfirst(lc);
		CsAlertThreshold *one = &thresholds[n];

		if (account->endpoint == NULL)
			continue;
		one->endpoint = account->id;
		one->backlog_age = cs_endpoint_option_int(account->endpoint, "alert_backlog_age", 0);
		one->failures = cs_endpoint_option_int(account->endpoint, "alert_failures", 0);
		for (int i = 0; i < nnotes; i++)
		{
			if (notes[i].endpoint != account->id)
				continue;
			one->backlog = notes[i].contacts;
			one->oldest = notes[i].oldest;
		}
		n++;
	}
	cs_alert_compare(n, thresholds);
	cs_sql_leave(&scope);
}

/*
 * Sending
 */

/* Take the next message of the account. */
void
cs_alert_prepare(CsAccount *account, double now)
{
	/* of the transaction, until there is a message */
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "contactsync alert",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	const CsEndpoint *endpoint = endpoint_of(account);
	CsAlert    *alert = NULL;
	CsSqlScope	scope;

	account->alert_at = DBL_MAX;
	if (find_option(endpoint, "alert_url"))
	{
		cs_sql_enter(&scope);
		MemoryContextSwitchTo(context);
		alert = cs_alert_take(account->id, now);
		cs_sql_leave(&scope);
	}
	MemoryContextSwitchTo(context);
	if (alert)
	{
		CsAlertCall *call = palloc0(sizeof(CsAlertCall));

		call->owner.kind = CS_OWNER_ALERT;
		call->account = account;
		call->context = context;
		call->alert = alert;
		call->endpoint = endpoint;
		call->restricted = is_restricted(endpoint);
		call->error = find_problem(endpoint, call->restricted);
		call->answered = call->error != NULL;
		MemoryContextSetParent(context, account->context);
		account->alert = call;
		account->alert_at = 0;
	}
	MemoryContextSwitchTo(old);
	if (alert == NULL)
		MemoryContextDelete(context);
}

/* Start the call of a message that was taken. */
void
cs_alert_send(CsAccount *account, CsHttp *http, double now)
{
	CsAlertCall *call = account->alert;
	CsRequest	request = {.method = "POST"};
	CsHttpOptions options;
	const CsOptionValue *url;
	const CsOptionValue *key;
	CsAlertFormat format;
	char	   *authorization = NULL;
	MemoryContext old;

	if (call == NULL || call->answered || call->transfer)
		return;
	old = MemoryContextSwitchTo(call->context);
	url = find_option(call->endpoint, "alert_url");
	key = find_option(call->endpoint, "alert_key");
	format = cs_endpoint_option_word(call->endpoint, "alert_format", cs_option_alert_formats);
	request.url = url->value;
	call->secret_url = url->option->secret ? pstrdup(url->value) : NULL;
	cs_message_add_header(&request, "Content-Type", "application/json");
	initStringInfo(&request.body);
	cs_alert_body_write(&request.body, call->alert, format, key ? key->value : NULL);
	if (key && format != CS_ALERT_PAGERDUTY)
		authorization = psprintf("Bearer %s", key->value);
	options = call->endpoint->http;
	options.auth_header = "Authorization";
	options.ca_file = cs_endpoint_option(call->endpoint, "alert_ca_file");
	options.restricted = call->restricted;
	options.networks = call->restricted ? cs_allowed_networks->version : 0;
	options.connect_timeout = CONNECT_TIMEOUT;
	options.timeout = TIMEOUT;
	call->not_before = now;
	call->transfer = cs_http_start(http, &options, &request, authorization, call);
	cs_provider_auth_wipe(authorization);
	explicit_bzero(request.body.data, request.body.maxlen);
	call->endpoint = NULL;
	MemoryContextSwitchTo(old);
}

/* Return a copy of a text with the host of a URL hidden. */
static char *
hide_host(const char *text, const char *url)
{
	const char *host = cs_url_host(url);
	size_t		len = strlen(host);
	StringInfoData out;

	initStringInfo(&out);
	while (*text)
	{
		bool		hides = len > 0 && pg_strncasecmp(text, host, len) == 0;

		if (hides)
			appendStringInfoString(&out, HIDDEN);
		else
			appendStringInfoChar(&out, *text);
		text += hides ? len : 1;
	}
	return out.data;
}

/* The receiver has answered, or not: keep what became of the message, to be stored. */
void
cs_alert_answered(CsAlertCall *call, const CsResponse *response, double now)
{
	MemoryContext old = MemoryContextSwitchTo(call->context);
	double		wait = cs_message_retry_after(response);

	call->transfer = NULL;
	call->answered = true;
	call->account->alert_at = 0;
	call->not_before = now + Min(Max(wait, 0), MAX_RETRY_AFTER);
	if (response->status == 0)
		call->error = psprintf("no answer: %s", call->secret_url ? hide_host(response->error, call->secret_url) : response->error);
	else if (response->status < 200 || response->status >= 300)
		call->error = psprintf("HTTP status %d", response->status);
	MemoryContextSwitchTo(old);
}

/* Forget the message, and wipe where it was sent. */
static void
end_call(CsAlertCall *call)
{
	call->account->alert = NULL;
	if (call->secret_url)
		explicit_bzero(unconstify(char *, call->secret_url), strlen(call->secret_url));
	MemoryContextDelete(call->context);
}

/* End what is under way, without its outcome: the account is no more. */
void
cs_alert_abort(CsAccount *account, CsHttp *http)
{
	CsAlertCall *call = account->alert;

	if (call == NULL)
		return;
	if (call->transfer)
		cs_http_cancel(http, call->transfer);
	end_call(call);
}

/* What cs_alert_store() did is committed. */
void
cs_alert_stored(CsAccount *account)
{
	end_call(account->alert);
}

/* Store what became of the message that was answered. */
void
cs_alert_store(CsAccount *account)
{
	CsAlertCall *call = account->alert;
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	if (call->error == NULL)
		cs_alert_told(call->alert);
	else
		cs_alert_failed(call->alert, call->error, call->not_before);
	cs_sql_leave(&scope);
}
