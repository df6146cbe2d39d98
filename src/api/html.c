/*-------------------------------------------------------------------------
 *
 * html.c
 *		Text, numbers and times in a page of HTML.
 *
 * The page is ASCII whatever the encodings of the database and the client are:
 * other characters are written as numeric references.  In case text ever gets past
 * the escaping, the content security policy allows no scripts and loads nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_collation.h"
#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/text.h"
#include "api/html.h"

#define REPLACEMENT	0xFFFD

/* The style of the page: on paper, and on light, dark, narrow and wide screens. */
#define STYLE_DARK \
	"--page:#0d1117;--card:#161b22;--ink:#e6edf3;--soft:#9aa7b4;--line:#2d3540;--grid:#252c36;" \
	"--synced:#4c94f0;--failed:#f0685d;--fast:#3fb6a0;--slow:#b58cf5;--waiting:#d6a13c;" \
	"--good:#57b96b;--warn:#d6a13c;--bad:#f0685d;--calm:#8b98a5"

#define STYLE \
	":root{--page:#f4f6f8;--card:#fff;--ink:#17202a;--soft:#5b6773;--line:#dde2e8;--grid:#e8ecf0;" \
	"--synced:#2f6fd0;--failed:#cf3a30;--fast:#0f8a76;--slow:#8250df;--waiting:#b3780b;" \
	"--good:#1a7f37;--warn:#8f5f00;--bad:#c02b22;--calm:#5b6773}\n" \
	"@media screen and (prefers-color-scheme:dark){:root{" STYLE_DARK "}}\n" \
	"*{box-sizing:border-box}\n" \
	"body{margin:0 auto;max-width:1320px;padding:28px 24px 40px;background:var(--page);color:var(--ink);" \
	"font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',sans-serif;" \
	"font-variant-numeric:tabular-nums}\n" \
	"h1{font-size:26px;line-height:1.2;margin:0 0 4px}h2{font-size:20px;margin:0;overflow-wrap:anywhere}\n" \
	"h3{font-size:14px;margin:0 0 8px}p{margin:0}\n" \
	".soft,caption,th,.unit{color:var(--soft)}small,.soft{font-size:13px}\n" \
	"header{margin-bottom:20px}\n" \
	"section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;margin:0 0 20px}\n" \
	".name{display:flex;flex-wrap:wrap;gap:6px 12px;align-items:center}\n" \
	".pill{display:inline-block;border:1px solid;border-radius:99px;padding:0 10px;font-size:13px;font-weight:600;white-space:nowrap}\n" \
	".good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.calm{color:var(--calm)}\n" \
	".note{margin-top:10px;padding:8px 12px;border-left:3px solid;background:var(--page);border-radius:0 6px 6px 0}\n" \
	".note p{color:var(--ink);overflow-wrap:anywhere}code,.hint{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:12.5px}\n" \
	".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:10px;margin:16px 0 0}\n" \
	".tiles div{border:1px solid var(--line);border-radius:8px;padding:9px 12px;min-width:0}\n" \
	".tiles dt{font-size:12.5px;color:var(--soft)}.tiles dd{margin:0;font-size:21px;font-weight:650;line-height:1.3}\n" \
	".tiles dd small{display:block;font-size:12px;font-weight:400;color:var(--soft)}\n" \
	"dl{margin:0}\n" \
	".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:22px;margin-top:22px}\n" \
	".charts>*,.tables>*{min-width:0}figure{margin:0}figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 12px;margin-bottom:6px}\n" \
	"figcaption h3{margin:0}.legend{font-size:12.5px;color:var(--soft)}.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin:0 4px 0 10px}\n" \
	"svg{display:block;width:100%;height:auto;overflow:visible}svg text{font-size:12.5px;fill:var(--soft);font-family:inherit}\n" \
	".grid{stroke:var(--grid)}.axis{stroke:var(--line)}.y{text-anchor:end}.x{text-anchor:middle}\n" \
	".bar-synced{stroke:var(--synced)}.bar-failed{stroke:var(--failed)}.bar-fast{stroke:var(--fast)}.bar-slow{stroke:var(--slow)}.bar-waiting{stroke:var(--waiting)}\n" \
	".spark{width:110px;height:18px}.data td,.data th{white-space:nowrap}.data td{text-align:right}\n" \
	".back-synced{background:var(--synced)}.back-failed{background:var(--failed)}.back-fast{background:var(--fast)}.back-slow{background:var(--slow)}.back-waiting{background:var(--waiting)}\n" \
	".empty{padding:22px 12px;text-align:center;color:var(--soft);border:1px dashed var(--line);border-radius:8px}\n" \
	".tables{display:grid;grid-template-columns:minmax(0,1fr);gap:22px;margin-top:22px}\n" \
	".wide{overflow-x:auto;position:relative}\n" \
	"table{border-collapse:collapse;width:100%;font-size:13.5px}caption{text-align:left;font-size:13px;padding-bottom:4px}\n" \
	"th{font-weight:500;text-align:left;font-size:12.5px}td,th{padding:5px 14px 5px 0;border-bottom:1px solid var(--grid);vertical-align:top}\n" \
	"tbody tr:last-child>*{border-bottom:0}td,th{overflow-wrap:break-word}tbody th{color:var(--ink);font-size:13.5px}\n" \
	".n{text-align:right;white-space:nowrap}.time{white-space:nowrap}.key{max-width:26em;overflow-wrap:anywhere}\n" \
	".bars td:last-child{width:60%}.bar{display:block;height:12px;min-width:2px;border-radius:3px;background:var(--failed);margin-top:4px}\n" \
	"details{margin-top:16px}summary{cursor:pointer;color:var(--soft);font-size:13px}details table{margin-top:8px}\n" \
	"progress{accent-color:var(--synced);width:120px}footer{color:var(--soft);font-size:12.5px;overflow-wrap:anywhere}\n" \
	"@media (min-width:700px) and (max-width:1035px){.charts>:last-child{grid-column:1/-1}.charts>:last-child svg{max-height:200px}}\n" \
	"@media (max-width:520px){body{padding:16px 10px}section{padding:14px 13px;border-radius:10px}.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}}\n" \
	"@media print{body{max-width:none;padding:0;background:#fff;font-size:12px}section{border:0;padding:0 0 12px;break-inside:auto}" \
	"figure,.tiles,tr,.note,.name{break-inside:avoid}.name,h2,caption{break-after:avoid}.wide{overflow:visible}details:not([open]){display:none}" \
	"*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n"

/* Control characters, and those that change the direction of text, can disguise text. */
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

/* Append text in the encoding of the database, or nothing for NULL. */
void
cs_html_text(StringInfo page, const char *text)
{
	const unsigned char *p;
	const unsigned char *end;

	if (text == NULL)
		return;
	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		text = cs_text_to_utf8(text, strlen(text));
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

/* Append text; replace what looks like an address in it, unless "personal". */
void
cs_html_discreet(StringInfo page, const char *value, bool personal)
{
	if (value && !personal && strchr(value, '@'))
	{
		Datum		hidden = DirectFunctionCall4Coll(textregexreplace, C_COLLATION_OID, CStringGetTextDatum(value),
													 CStringGetTextDatum("[^[:space:]\"'<>(),;]*@[^[:space:]\"'<>(),;]*"),
													 CStringGetTextDatum("(address)"), CStringGetTextDatum("g"));

		value = TextDatumGetCString(hidden);
	}
	cs_html_text(page, value);
}

/* Append a short text in a frame; "look" is good, calm, warn or bad. */
void
cs_html_pill(StringInfo page, const char *text, const char *look)
{
	appendStringInfo(page, "<span class=\"pill %s\">", look);
	cs_html_text(page, text);
	appendStringInfoString(page, "</span>");
}

/* Append a number such as 1,234,567. */
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

/* Append a number as an element that programs can read. */
void
cs_html_data(StringInfo page, int64 count)
{
	appendStringInfo(page, "<data value=\"" INT64_FORMAT "\">", count);
	cs_html_count(page, count);
	appendStringInfoString(page, "</data>");
}

/* Append a time such as 85 ms, or a dash for NaN. */
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

/* Append a time such as 3 h 5 min, or a dash for NaN. */
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

/* Append a point in time in the session's time zone, in a format of strftime(). */
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
	appendStringInfoString(page, "</title>\n<style>\n" STYLE "</style>\n</head>\n<body>\n");
}

void
cs_html_end(StringInfo page)
{
	appendStringInfoString(page, "</body>\n</html>");
}
