/*-------------------------------------------------------------------------
 *
 * html.c
 *		Text, numbers and times in a page of HTML.
 *
 * The page is ASCII, whatever the encoding of the database or the client:
 * other characters are written as numbers.  Its policy allows no script and
 * nothing from elsewhere, were text ever to get past the escaping.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "pgtime.h"

#include "api/html.h"
#include "api/style.h"
#include "base/encoding.h"

#define REPLACEMENT	0xFFFD

/* Characters that turn the direction of what follows could make a text lie. */
static bool
is_harmless(pg_wchar c)
{
	return !(c < ' ' && c != '\n' && c != '\t') && !(c >= 0x7F && c < 0xA0) &&
		!(c >= 0x202A && c <= 0x202E) && !(c >= 0x2066 && c <= 0x2069);
}

static void
put_character(StringInfo page, pg_wchar c)
{
	if (!is_harmless(c))
		c = REPLACEMENT;
	if (c >= 0x80 || strchr("&<>\"'", (int) c))
		appendStringInfo(page, "&#%u;", (unsigned) c);
	else
		appendStringInfoCharMacro(page, (char) c);
}

/* Text in the encoding of the database; NULL is nothing. */
void
cs_html_text(StringInfo page, const char *text)
{
	const unsigned char *p;
	const unsigned char *end;

	if (text == NULL)
		return;
	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		text = cs_encoding_to_utf8(text, strlen(text));
	p = (const unsigned char *) text;
	end = p + strlen(text);
	while (p < end)
	{
		int			len = pg_utf_mblen(p);

		if (len <= end - p && pg_utf8_islegal(p, len))
			put_character(page, utf8_to_unicode(p));
		else
		{
			put_character(page, REPLACEMENT);
			len = 1;
		}
		p += len;
	}
}

/* As in 1,234,567. */
void
cs_html_count(StringInfo page, int64 count)
{
	char		digits[32];
	int			len = snprintf(digits, sizeof(digits), INT64_FORMAT, count);

	for (int i = 0; i < len; i++)
	{
		if (i > 0 && digits[i - 1] != '-' && (len - i) % 3 == 0)
			appendStringInfoCharMacro(page, ',');
		appendStringInfoCharMacro(page, digits[i]);
	}
}

/* The same, as an element that programs can read. */
void
cs_html_data(StringInfo page, int64 count)
{
	appendStringInfo(page, "<data value=\"" INT64_FORMAT "\">", count);
	cs_html_count(page, count);
	appendStringInfoString(page, "</data>");
}

/* As in 85 ms; NaN is a dash. */
void
cs_html_latency(StringInfo page, double seconds)
{
	if (isnan(seconds))
		appendStringInfoString(page, "&#8211;");
	else if (seconds < 0.01)
		appendStringInfo(page, "%.1f&#160;ms", seconds * 1000);
	else if (seconds < 1)
		appendStringInfo(page, "%.0f&#160;ms", seconds * 1000);
	else
		appendStringInfo(page, "%.1f&#160;s", seconds);
}

/* As in 3 h 5 min; NaN is a dash. */
void
cs_html_duration(StringInfo page, double seconds)
{
	static const struct
	{
		double		seconds;
		const char *name;
	}			units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
	int			i = 0;
	double		rest;

	if (isnan(seconds))
	{
		appendStringInfoString(page, "&#8211;");
		return;
	}
	seconds = floor(Max(seconds, 0));
	while (i < lengthof(units) - 1 && seconds < units[i].seconds)
		i++;
	appendStringInfo(page, "%.0f&#160;%s", floor(seconds / units[i].seconds), units[i].name);
	if (i == lengthof(units) - 1)
		return;
	rest = floor(fmod(seconds, units[i].seconds) / units[i + 1].seconds);
	if (rest > 0)
		appendStringInfo(page, "&#160;%.0f&#160;%s", rest, units[i + 1].name);
}

/* In the time zone of the session, by a format of strftime(). */
void
cs_html_time(StringInfo page, const char *format, TimestampTz time)
{
	pg_time_t	seconds = timestamptz_to_time_t(time);
	char		text[100];

	if (pg_strftime(text, sizeof(text), format, pg_localtime(&seconds, session_timezone)) > 0)
		cs_html_text(page, text);
}

void
cs_html_begin(StringInfo page, const char *title)
{
	appendStringInfoString(page,
						   "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
						   "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
						   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
						   "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
	cs_html_text(page, title);
	appendStringInfoString(page, "</title>\n<style>\n" CS_STYLE "</style>\n</head>\n<body>\n");
}

void
cs_html_end(StringInfo page)
{
	appendStringInfoString(page, "</body>\n</html>");
}
