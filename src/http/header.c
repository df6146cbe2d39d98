/*-------------------------------------------------------------------------
 *
 * header.c
 *		The header of an answer as it came, made fit to be searched and shown;
 *		pure.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "http/header.h"

/*
 * May the character be in a field name (RFC 9110, token)?
 */
static bool
is_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		(c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/*
 * Append without white space around it, and with '?' for what cannot be shown.
 */
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

/*
 * Append one line, if it is a field; tells whether it was.  The newline is left
 * to whoever knows that the field does not go on.
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
cs_header_normalize(const char *raw, size_t len)
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
			/* the rest of a folded field, or of something that was none */
			if (open)
			{
				appendStringInfoChar(&out, ' ');
				append_printable(&out, line, end);
			}
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
cs_header_printable(const char *raw, size_t len, size_t limit)
{
	StringInfoData out;

	initStringInfo(&out);
	append_printable(&out, raw, raw + Min(len, limit));
	return out.data;
}
