/*-------------------------------------------------------------------------
 *
 * html.h
 *		Text, numbers and times in a page of HTML.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_API_HTML_H
#define CS_API_HTML_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

/* Append to the page.  Text is escaped. */
extern void cs_html_text(StringInfo page, const char *text);
extern void cs_html_discreet(StringInfo page, const char *value, bool personal);
extern void cs_html_pill(StringInfo page, const char *text, const char *look);
extern void cs_html_count(StringInfo page, int64 count);
extern void cs_html_data(StringInfo page, int64 count);
extern void cs_html_latency(StringInfo page, double seconds);
extern void cs_html_duration(StringInfo page, double seconds);
extern void cs_html_time(StringInfo page, const char *format, TimestampTz time);

extern void cs_html_begin(StringInfo page, const char *title);
extern void cs_html_end(StringInfo page);

#endif							/* CS_API_HTML_H */
