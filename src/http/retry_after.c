/*-------------------------------------------------------------------------
 *
 * retry_after.c
 *		When a service says to come again, from the headers of its answer.
 *
 * What cannot be understood is as if it had not been said: the caller backs
 * off by itself then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "utils/datetime.h"

#include "provider/provider.h"

char *
cs_provider_header(const CsResponse *response, const char *name)
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

/* 1 to 12, or 0. */
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
 * Unix seconds of an HTTP date, or -1.  RFC 9110 has the three forms
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
cs_provider_answered_at(const CsResponse *response)
{
	char	   *date = cs_provider_header(response, "date");

	return date ? http_date(date) : -1;
}

/*
 * The service's own idea of now: a moment it names is compared with its clock,
 * if it sent that, for ours may be wrong.
 */
static double
service_time(const CsResponse *response)
{
	double		now = cs_provider_answered_at(response);

	return now >= 0 ? now : response->received_at;
}

double
cs_provider_retry_after(const CsResponse *response)
{
	char	   *value = cs_provider_header(response, "retry-after");
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
cs_provider_reset_after(const CsResponse *response, const char *name)
{
	char	   *value = cs_provider_header(response, name);
	char	   *end;
	double		number;

	if (value == NULL || !isdigit((unsigned char) *value))
		return -1;
	number = strtod(value, &end);
	if (*end != '\0' || !isfinite(number))
		return -1;
	if (number > 1e11)			/* milliseconds since 1970 */
		number /= 1000;
	if (number < 1e8)			/* so few can only be seconds to wait */
		return number;
	return Max(0, number - service_time(response));
}
