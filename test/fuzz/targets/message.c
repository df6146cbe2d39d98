/*-------------------------------------------------------------------------
 *
 * message.c
 *		Targets json, headers, retry_after, dates and urls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>
#include <math.h>
#include <time.h>

#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/network.h"
#include "fuzz.h"
#include "http/url.h"

/* ---------- json ---------- */

bool
fuzz_is_json(const char *text, size_t len)
{
	volatile bool valid = false;
	MemoryContext context = CurrentMemoryContext;

	if (strlen(text) != len || !pg_verify_mbstr(PG_UTF8, text, len, true))
		return false;
	PG_TRY();
	{
		(void) DirectFunctionCall1(json_in, CStringGetDatum(text));
		valid = true;
	}
	PG_CATCH();
	{
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return valid;
}

static void read_value(CsJson *value);

static bool
read_member(const char *name, CsJson *value, void *arg)
{
	CsJson	   *object = arg;

	if (strchr(name, '.') == NULL && cs_json_path(object, name) != cs_json_get(object, name))
		fuzz_fail("a path does not lead to the member");
	read_value(value);
	return true;
}

/* Read a value with all readers. */
static void
read_value(CsJson *value)
{
	const char *text = cs_json_text(value);
	int64		whole;
	double		number;
	bool		truth;

	if (cs_json_int(value, &whole) && !cs_json_number(value, &number))
		fuzz_fail("a whole number is none");
	if (cs_json_number(value, &number) && !isfinite(number))
		fuzz_fail("a number is not finite");
	if (cs_json_bool(value, &truth) && strcmp(text, truth ? "true" : "false") != 0)
		fuzz_fail("a boolean is another one as text");
	if (text && !pg_verify_mbstr(PG_UTF8, text, strlen(text), true))
		fuzz_fail("a text is not UTF-8");
	for (int i = 0; i < cs_json_length(value); i++)
		read_value(cs_json_item(value, i));
	cs_json_each(value, read_member, value);
}

static void
run_json(char *data, size_t len)
{
	CsJson	   *doc = cs_json_parse(data, len);
	StringInfoData quoted;
	size_t		mark = cs_message_mark_length(data, len);
	char	   *dump;

	if (doc)
	{
		if (!fuzz_is_json(data + mark, len - mark))
			fuzz_fail("this is not JSON");
		read_value(doc);
		dump = cs_json_dump(doc);
		doc = cs_json_parse(dump, strlen(dump));
		if (doc == NULL || strcmp(cs_json_dump(doc), dump) != 0)
			fuzz_fail("what was written is read in another way: %s", dump);
	}
	if (!pg_verify_mbstr(PG_UTF8, data, strlen(data), true))
		return;
	initStringInfo(&quoted);
	cs_json_quote(&quoted, data);
	if (!fuzz_is_json(quoted.data, quoted.len) ||
		strcmp(cs_json_string(cs_json_parse(quoted.data, quoted.len)), data) != 0)
		fuzz_fail("what was quoted is read in another way: %s", quoted.data);
}

/* ---------- headers ---------- */

static void
run_headers(char *data, size_t len)
{
	CsResponse	response = {.headers = cs_message_normalize_headers(data, len)};
	char	   *again = cs_message_normalize_headers(response.headers, strlen(response.headers));
	char	   *lines = pstrdup(response.headers);

	if (strcmp(response.headers, again) != 0)
		fuzz_fail("what is normal is normalized: %s", response.headers);
	while (*lines)
	{
		char	   *line = fuzz_line(&lines);
		char	   *value = strstr(line, ": ");

		if (value == NULL || value == line)
			fuzz_fail("this is not a header: %s", line);
		for (char *c = line; *c; c++)
			if (*c < ' ' || *c > '~' || (c < value && *c >= 'A' && *c <= 'Z'))
				fuzz_fail("this is not printable, or not in lower case: %s", line);
		*value = '\0';
		if (cs_message_header(&response, line) == NULL)
			fuzz_fail("there is no header %s", line);
	}
	if (strlen(cs_message_printable(data, len, 100)) > 100)
		fuzz_fail("the text is longer than it may be");
}

/* ---------- dates ---------- */

/* Return the Unix time of an HTTP date by strptime(), or -1. */
static double
expected_date(const char *text)
{
	static const char *const formats[] = {
		"%a, %d %b %Y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"
	};

	for (int i = 0; i < lengthof(formats); i++)
	{
		struct tm	tm = {0};
		char		again[64];

		/* strptime() takes other white space, too */
		if (strptime(text, formats[i], &tm) && tm.tm_year >= 70 && tm.tm_year < 8000 && tm.tm_sec <= 60 &&
			strftime(again, sizeof(again), formats[i], &tm) > 0 && strcmp(again, text) == 0)
			return timegm(&tm);
	}
	return -1;
}

/* Headers that tell when to go on. */
static void
run_retry_after(char *data, size_t len)
{
	static const char *const names[] = {"retry-after", "x-ratelimit-reset", "date"};
	CsResponse	response = {.received_at = 784111777};
	double		waits[2];
	double		date;

	response.headers = cs_message_normalize_headers(data, len);
	waits[0] = cs_message_retry_after(&response);
	waits[1] = cs_message_reset_after(&response, "x-ratelimit-reset");
	date = cs_message_date(&response);
	for (int i = 0; i < lengthof(waits); i++)
	{
		if (!isfinite(waits[i]) || (waits[i] < 0 && waits[i] != -1))
			fuzz_fail("the wait for %s is %g", names[i], waits[i]);
		if (waits[i] >= 0 && cs_message_header(&response, names[i]) == NULL)
			fuzz_fail("there is no %s, and a wait of %g", names[i], waits[i]);
	}
	if (date >= 0 && cs_message_header(&response, "date") == NULL)
		fuzz_fail("there is no date");
}

/* The first line is a date of HTTP, the second one a time in ISO 8601. */
static void
run_dates(char *data, size_t len)
{
	char	   *http = fuzz_line(&data);
	char	   *iso = fuzz_line(&data);
	CsResponse	response = {0};
	double		expected;
	TimestampTz time;
	TimestampTz server;

	response.headers = psprintf("date: %s\n", http);
	expected = expected_date(http);
	if (expected >= 0 && cs_message_date(&response) != expected)
		fuzz_fail("the date is %f and not %f", cs_message_date(&response), expected);

	/* the server takes no fraction of a leap second, and no hundred digits */
	if (!cs_contact_parse_time(iso, &time) || strlen(iso) > 64 || strncmp(iso + strlen("0000-00-00T00:00:"), "60", 2) == 0)
		return;
	/* an error says that the server does not take it for a time */
	PG_TRY();
	{
		server = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(iso),
														 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		FlushErrorState();
		fuzz_fail("this is not a time: %s", iso);
	}
	PG_END_TRY();
	if (Abs(server - time) > 1)
		fuzz_fail("the time of %s is %s and not %s", iso, pstrdup(timestamptz_to_str(time)),
				  pstrdup(timestamptz_to_str(server)));
}

/* ---------- URLs ---------- */

/* Return a part of a URL as libcurl reads it, or NULL. */
static char *
curl_part(const char *url, CURLUPart part)
{
	CURLU	   *parsed = curl_url();
	char	   *value = NULL;
	char	   *copy = NULL;

	if (curl_url_set(parsed, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
		curl_url_get(parsed, part, &value, 0) == CURLUE_OK)
		copy = pstrdup(value);
	curl_free(value);
	curl_url_cleanup(parsed);
	return copy;
}

/* Has libcurl rewritten the host, as it does with 0x7f.1? */
static bool
is_same_host(const char *ours, const char *theirs)
{
	CsAddress	a;
	CsAddress	b;

	if (*theirs == '[')
		return cs_network_read_address(ours, &a) &&
			cs_network_read_address(pnstrdup(theirs + 1, strlen(theirs) - 2), &b) && memcmp(&a, &b, sizeof(a)) == 0;
	return pg_strcasecmp(ours, theirs) == 0 || strspn(ours, "0123456789abcdefABCDEFxX.") == strlen(ours);
}

static bool
is_loopback(const char *host)
{
	return pg_strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0;
}

/* Whatever is accepted is read by libcurl in the same way. */
static void
check_accepted(const char *url, bool allow_http)
{
	char	   *host = curl_part(url, CURLUPART_HOST);

	if (host == NULL)
		return;					/* libcurl calls nothing then */
	if (!is_same_host(cs_url_host(url), host))
		fuzz_fail("the host of %s is %s here and %s in libcurl", url, cs_url_host(url), host);
	if (curl_part(url, CURLUPART_USER) || curl_part(url, CURLUPART_PASSWORD))
		fuzz_fail("%s has a user name", url);
	if (!allow_http && pg_strncasecmp(url, "http:", 5) == 0 && !is_loopback(host))
		fuzz_fail("%s is plain http to another machine", url);
}

static void
check_networks(char *list)
{
	CsNetworks *networks = palloc0(offsetof(CsNetworks, network) + cs_network_count(list) * sizeof(CsNetwork));
	CsAddress	address;
	char		text[CS_NETWORK_TEXT];
	const char *item;
	int			len;

	if (cs_network_parse_list(list, networks, &item, &len) == NULL && networks->n > cs_network_count(list))
		fuzz_fail("there are more networks than room");
	if (cs_network_read_address(list, &address))
	{
		(void) cs_network_is_allowed(&address);
		(void) cs_network_print_address(&address, text);
	}
}

static void
run_urls(char *data, size_t len)
{
	char	   *encoded = cs_url_encode(data);
	char	   *decoded = curl_easy_unescape(NULL, encoded, 0, NULL);
	bool		same = strcmp(decoded, data) == 0;
	char	   *url = fuzz_line(&data);

	curl_free(decoded);
	if (!same)
		fuzz_fail("%s is decoded in another way", encoded);
	for (const char *c = encoded; *c; c++)
		if (*c < '%' || *c > '~' || strchr("&/?#@:", *c))
			fuzz_fail("%s has a special character", encoded);
	if (cs_url_problem(url, true) == NULL)
		check_accepted(url, cs_url_problem(url, false) != NULL);
	if (cs_url_base_problem(url, true) == NULL)
		check_accepted(psprintf("%s/contacts/%s", url, encoded), true);
	if (cs_url_proxy_problem(url) == NULL)
		check_accepted(url, true);
	if (strlen(cs_url_path(url)) > strlen(url) + 1)
		fuzz_fail("the path is longer than the URL");
	check_networks(url);
}

const FuzzTarget fuzz_message_targets[] = {
	{"json", run_json},
	{"headers", run_headers},
	{"retry_after", run_retry_after},
	{"dates", run_dates},
	{"urls", run_urls},
	{NULL}
};
