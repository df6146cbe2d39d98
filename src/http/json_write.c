/*-------------------------------------------------------------------------
 *
 * json_write.c
 *		Writing of JSON, piece by piece, into a StringInfo.
 *
 * PostgreSQL's escape_json() thinks in the database encoding; this takes and
 * makes UTF-8.  It is on the path of every contact that is sent, so runs of
 * bytes that need no escape are copied whole.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/json.h"

/* Must this byte be escaped inside a JSON string?  UTF-8 passes as it is. */
static inline bool
needs_escape(unsigned char c)
{
	return c < 0x20 || c == '"' || c == '\\';
}

static void
escape(StringInfo out, unsigned char c)
{
	switch (c)
	{
		case '"':
			appendBinaryStringInfo(out, "\\\"", 2);
			break;
		case '\\':
			appendBinaryStringInfo(out, "\\\\", 2);
			break;
		case '\n':
			appendBinaryStringInfo(out, "\\n", 2);
			break;
		case '\r':
			appendBinaryStringInfo(out, "\\r", 2);
			break;
		case '\t':
			appendBinaryStringInfo(out, "\\t", 2);
			break;
		default:
			appendStringInfo(out, "\\u%04x", c);
			break;
	}
}

/*
 * Text that has something to escape; "clean" bytes of it are known to have
 * nothing.
 */
static void
quote_escaping(StringInfo out, const char *utf8, size_t clean)
{
	const char *start = utf8;
	const char *p = utf8 + clean;

	appendStringInfoCharMacro(out, '"');
	for (; *p; p++)
	{
		if (!needs_escape((unsigned char) *p))
			continue;
		appendBinaryStringInfo(out, start, (int) (p - start));
		escape(out, (unsigned char) *p);
		start = p + 1;
	}
	appendBinaryStringInfo(out, start, (int) (p - start));
	appendStringInfoCharMacro(out, '"');
}

/* Most text has nothing to escape and is copied at once. */
void
cs_json_quote(StringInfo out, const char *utf8)
{
	size_t		len = 0;
	char	   *to;

	while (!needs_escape((unsigned char) utf8[len]))
		len++;
	if (utf8[len] != '\0')
	{
		quote_escaping(out, utf8, len);
		return;
	}
	enlargeStringInfo(out, (int) len + 2);
	to = out->data + out->len;
	to[0] = '"';
	memcpy(to + 1, utf8, len);
	to[len + 1] = '"';
	to[len + 2] = '\0';
	out->len += (int) len + 2;
}

void
cs_json_comma(StringInfo out)
{
	char		last = out->len > 0 ? out->data[out->len - 1] : '{';

	if (last != '{' && last != '[')
		appendStringInfoCharMacro(out, ',');
}

void
cs_json_key(StringInfo out, const char *name)
{
	cs_json_comma(out);
	cs_json_quote(out, name);
	appendStringInfoCharMacro(out, ':');
}

void
cs_json_member(StringInfo out, const char *name, const char *utf8)
{
	cs_json_key(out, name);
	if (utf8)
		cs_json_quote(out, utf8);
	else
		appendBinaryStringInfo(out, "null", 4);
}

void
cs_json_member_raw(StringInfo out, const char *name, const char *json)
{
	cs_json_key(out, name);
	appendBinaryStringInfo(out, json, (int) strlen(json));
}
