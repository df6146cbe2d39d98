/*-------------------------------------------------------------------------
 *
 * message.c
 *		HTTP requests and responses and their headers.
 *
 * The functions here are pure.  A header that cannot be understood counts as
 * absent, so the caller backs off at its own pace.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "http/message.h"

#define MIN_SKEW	5			/* s by which clocks may differ unnoticed */

void
cs_message_add_header(CsRequest *request, const char *name, const char *value)
{
	Assert(request->nheaders < CS_MAX_HEADERS);
	request->headers[request->nheaders].name = name;
	request->headers[request->nheaders].value = value;
	request->nheaders++;
}

/* ---------- normalizing what the network delivers ---------- */

/* Is the character allowed in a field name (RFC 9110, token)? */
static bool
is_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		(c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Append a run of bytes, trimmed, with '?' for what is not printable ASCII. */
static void
append_printable(StringInfo out, const char *from, const char *end)
{
	while (from < end && (*from == ' ' || *from == '\t'))
		from++;
	while (end > from && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	for (; from < end; from++)
	{
		char		c = *from == '\t' ? ' ' : *from;

		appendStringInfoChar(out, c >= ' ' && c <= '~' ? c : '?');
	}
}

/* Append what continues a value, which ends with a space if it is empty. */
static void
append_folded(StringInfo out, const char *from, const char *end)
{
	int			start = out->len;
	bool		empty = out->data[start - 1] == ' ';

	if (!empty)
		appendStringInfoChar(out, ' ');
	append_printable(out, from, end);
	if (!empty && out->len == start + 1)
		out->data[out->len = start] = '\0';
}

/*
 * Append a line if it is a header field, and return whether it is.  The caller
 * appends the newline, once it knows that no folded line follows.
 */
static bool
append_field(StringInfo out, const char *line, const char *end)
{
	const char *colon = line;
	const char *c;

	while (colon < end && is_token(*colon))
		colon++;
	if (colon == line || colon == end || *colon != ':')
		return false;

	for (c = line; c < colon; c++)
		appendStringInfoChar(out, pg_ascii_tolower((unsigned char) *c));
	appendStringInfoString(out, ": ");
	append_printable(out, colon + 1, end);
	return true;
}

char *
cs_message_normalize_headers(const char *raw, size_t len)
{
	const char *stop = raw + len;
	const char *line;
	const char *next;
	bool		open = false;
	StringInfoData out;

	initStringInfo(&out);
	for (line = raw; line < stop; line = next)
	{
		const char *end = memchr(line, '\n', stop - line);

		if (end == NULL)
			end = stop;
		next = end + 1;
		if (end > line && end[-1] == '\r')
			end--;

		if (end > line && (*line == ' ' || *line == '\t'))
		{
			/* a folded line; drop it if what it continues was dropped */
			if (open)
				append_folded(&out, line, end);
			continue;
		}
		if (open)
			appendStringInfoChar(&out, '\n');
		open = append_field(&out, line, end);
	}
	if (open)
		appendStringInfoChar(&out, '\n');
	return out.data;
}

char *
cs_message_printable(const char *raw, size_t len, size_t limit)
{
	StringInfoData out;

	initStringInfo(&out);
	append_printable(&out, raw, raw + Min(len, limit));
	return out.data;
}

/* ---------- reading ---------- */

char *
cs_message_header(const CsResponse *response, const char *name)
{
	size_t		len = strlen(name);
	const char *line = response->headers;

	while (line && *line)
	{
		const char *end = line + strcspn(line, "\n");

		if (pg_strncasecmp(line, name, len) == 0 && line[len] == ':')
		{
			const char *value = line + len + 1;

			while (value < end && isspace((unsigned char) *value))
				value++;
			while (end > value && isspace((unsigned char) end[-1]))
				end--;
			return pnstrdup(value, end - value);
		}
		line = *end ? end + 1 : end;
	}
	return NULL;
}

static const char *const month_names[] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
};

/* Return 1 to 12, or 0 if it is not a month. */
static int
month_number(const char *name)
{
	for (int i = 0; i < 12; i++)
	{
		if (pg_strcasecmp(name, month_names[i]) == 0)
			return i + 1;
	}
	return 0;
}

/*
 * Parse an HTTP date into Unix seconds; return -1 if it is malformed.  RFC 9110
 * allows three forms:
 *
 *	Sun, 06 Nov 1994 08:49:37 GMT
 *	Sunday, 06-Nov-94 08:49:37 GMT
 *	Sun Nov  6 08:49:37 1994
 */
static double
http_date(const char *text)
{
	char		month[4] = "";
	int			y,
				m,
				d,
				hour,
				min,
				sec;
	const char *comma = strchr(text, ',');

	if (comma)
	{
		if (sscanf(comma + 1, " %2d%*1[- ]%3[A-Za-z]%*1[- ]%4d %2d:%2d:%2d",
				   &d, month, &y, &hour, &min, &sec) != 6)
			return -1;
	}
	else if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d",
					month, &d, &hour, &min, &sec, &y) != 6)
		return -1;

	if (y >= 0 && y < 100)
		y += (y < 70) ? 2000 : 1900;
	m = month_number(month);
	if (m == 0 || y < 1970 || y > 9999 || d < 1 || d > 31 ||
		hour < 0 || hour > 23 || min < 0 || min > 59 || sec < 0 || sec > 60)
		return -1;
	return (date2j(y, m, d) - UNIX_EPOCH_JDATE) * (double) SECS_PER_DAY +
		hour * SECS_PER_HOUR + min * SECS_PER_MINUTE + sec;
}

double
cs_message_date(const CsResponse *response)
{
	char	   *date = cs_message_header(response, "date");

	return date ? http_date(date) : -1;
}

double
cs_message_clock_ahead(const CsResponse *response)
{
	double		date = cs_message_date(response);
	double		ahead = date - timestamptz_to_time_t(GetCurrentTimestamp());

	return date < 0 || fabs(ahead) < MIN_SKEW ? 0 : ahead;
}

/*
 * Return the current time by the service's own clock if it sent a Date header,
 * by ours otherwise.  Absolute times of a service are compared with this, because
 * our clock may be wrong.
 */
static double
service_time(const CsResponse *response)
{
	double		now = cs_message_date(response);

	return now >= 0 ? now : response->received_at;
}

double
cs_message_retry_after(const CsResponse *response)
{
	char	   *value = cs_message_header(response, "retry-after");
	char	   *end;
	double		number;

	if (value == NULL || *value == '\0')
		return -1;
	if (isdigit((unsigned char) *value))
	{
		number = strtod(value, &end);
		if ((*end == '\0' || *end == 's') && isfinite(number))
			return number;
		return -1;
	}
	number = http_date(value);
	return number < 0 ? -1 : Max(0, number - service_time(response));
}

double
cs_message_reset_after(const CsResponse *response, const char *name)
{
	char	   *value = cs_message_header(response, name);
	char	   *end;
	double		number;

	if (value == NULL || !isdigit((unsigned char) *value))
		return -1;
	number = strtod(value, &end);
	if (*end != '\0' || !isfinite(number))
		return -1;
	if (number > 1e11)			/* milliseconds since 1970 */
		number /= 1000;
	if (number < 1e8)			/* too small for a date: seconds to wait */
		return number;
	return Max(0, number - service_time(response));
}
