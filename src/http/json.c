/*-------------------------------------------------------------------------
 *
 * json.c
 *		Read JSON with json-c, and write it into a StringInfo.
 *
 * All input is treated as hostile.  json-c does not bound what it allocates, so
 * size, encoding and the presence of what PostgreSQL's text type cannot hold are
 * checked before json-c sees the text.  A json-c document is malloc'd; a callback
 * of the memory context frees it, and is registered before parsing begins.
 *
 * json-c represents a JSON null by a NULL pointer, so "absent" and "null" are the
 * same here.
 *
 * Writing does not use json-c.  PostgreSQL's escape_json() works in the database
 * encoding; the functions here take and produce UTF-8.  They run for every
 * contact that is sent, so runs of bytes that need no escape are copied whole.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <json-c/json.h>
#include <math.h>

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "http/json.h"
#include "http/message.h"

/* What the callback of the memory context frees. */
typedef struct Owned
{
	MemoryContextCallback callback;
	struct json_tokener *tokener;
	struct json_object *root;
} Owned;

static inline struct json_object *
unwrap(CsJson *value)
{
	return (struct json_object *) value;
}

static inline CsJson *
wrap(struct json_object *value)
{
	return (CsJson *) value;
}

/* Free a document; called by the memory context, so it must not fail. */
static void
release(void *arg)
{
	Owned	   *owned = (Owned *) arg;

	if (owned->tokener)
		json_tokener_free(owned->tokener);
	if (owned->root)
		json_object_put(owned->root);
	owned->tokener = NULL;
	owned->root = NULL;
}

/*
 * Parse strictly, except with json-c 0.18, whose strict mode takes every byte
 * above 0x7f in a string for a control character (json-c issue 875).
 */
static int
tokener_flags(void)
{
	return json_c_version_num() == ((0 << 16) | (18 << 8)) ? 0 : JSON_TOKENER_STRICT;
}

static bool
is_space(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if (strchr(" \t\r\n", text[i]) == NULL)
			return false;
	}
	return true;
}

/*
 * Does the text contain \u0000?  json-c accepts it, but a C string would end
 * there.  A backslash that is itself escaped does not begin an escape.
 */
static bool
has_escaped_nul(const char *text, size_t len)
{
	const char *end = text + len;
	const char *p = text;

	while ((p = memchr(p, '\\', end - p)) != NULL)
	{
		if (end - p >= 6 && memcmp(p, "\\u0000", 6) == 0)
			return true;
		p += 2;
		if (p >= end)
			break;
	}
	return false;
}

/*
 * Could the document take too much memory?  Count the characters that begin
 * values.  Those inside strings are counted too, so the result errs slightly on
 * the safe side.
 */
static bool
is_too_large(const char *text, size_t len)
{
	size_t		containers = 0;
	size_t		values = 0;

	for (size_t i = 0; i < len; i++)
	{
		char		c = text[i];

		containers += (c == '{' || c == '[');
		values += (c == ',');
	}
	return containers > CS_JSON_MAX_CONTAINERS ||
		containers + values > CS_JSON_MAX_VALUES;
}

/*
 * Is the text JSON?  Only the server's parser is asked whether it is, because json-c
 * accepts more, such as "1." and NaN.
 */
static bool
is_json(const char *text, size_t len)
{
	JsonLexContext *lex = cs_json_lexer(text, len);

	return pg_parse_json(lex, &nullSemAction) == JSON_SUCCESS;
}

CsJson *
cs_json_parse(const char *text, size_t len)
{
	size_t		mark = text ? cs_message_mark_length(text, len) : 0;
	Owned	   *owned;
	size_t		end;

	text += mark;
	len -= mark;
	if (text == NULL || len == 0 || len >= PG_INT32_MAX)
		return NULL;
	if (!pg_verify_mbstr(PG_UTF8, text, (int) len, true))
		return NULL;			/* zero bytes are invalid as well */
	if (is_too_large(text, len) || has_escaped_nul(text, len))
		return NULL;

	owned = palloc0(sizeof(Owned));
	owned->callback.func = release;
	owned->callback.arg = owned;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &owned->callback);

	owned->tokener = json_tokener_new_ex(CS_JSON_MAX_DEPTH);
	if (owned->tokener == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	json_tokener_set_flags(owned->tokener, tokener_flags());
	owned->root = json_tokener_parse_ex(owned->tokener, text, (int) len);
	end = json_tokener_get_parse_end(owned->tokener);

	/* json-c waits for more digits after a number at the top level */
	if (json_tokener_get_error(owned->tokener) == json_tokener_continue)
	{
		owned->root = json_tokener_parse_ex(owned->tokener, "", 1);
		end = len;
	}
	if (json_tokener_get_error(owned->tokener) != json_tokener_success ||
		!is_space(text + end, len - end) || !is_json(text, len))
	{
		release(owned);
		return NULL;
	}
	json_tokener_free(owned->tokener);
	owned->tokener = NULL;
	return wrap(owned->root);
}

CsJson *
cs_json_get(CsJson *object, const char *name)
{
	struct json_object *value = NULL;

	if (!cs_json_is_object(object) ||
		!json_object_object_get_ex(unwrap(object), name, &value))
		return NULL;
	return wrap(value);
}

CsJson *
cs_json_path(CsJson *object, const char *dotted_path)
{
	char	   *path = pstrdup(dotted_path);
	char	   *rest = path;
	char	   *name;

	while (object != NULL && (name = strsep(&rest, ".")) != NULL)
		object = cs_json_get(object, name);
	pfree(path);
	return object;
}

CsJson *
cs_json_item(CsJson *array, int index)
{
	if (index < 0 || index >= cs_json_length(array))
		return NULL;
	return wrap(json_object_array_get_idx(unwrap(array), index));
}

int
cs_json_length(CsJson *array)
{
	if (!json_object_is_type(unwrap(array), json_type_array))
		return -1;
	return (int) json_object_array_length(unwrap(array));
}

bool
cs_json_is_object(CsJson *value)
{
	return json_object_is_type(unwrap(value), json_type_object);
}

bool
cs_json_has(CsJson *object, const char *name)
{
	return cs_json_is_object(object) && json_object_object_get_ex(unwrap(object), name, NULL);
}

bool
cs_json_is_null(CsJson *value)
{
	return value == NULL;
}

const char *
cs_json_text(CsJson *value)
{
	switch (json_object_get_type(unwrap(value)))
	{
		case json_type_string:
		case json_type_int:
		case json_type_double:
		case json_type_boolean:
			return json_object_get_string(unwrap(value));
		default:
			return NULL;
	}
}

const char *
cs_json_string(CsJson *value)
{
	if (!json_object_is_type(unwrap(value), json_type_string))
		return NULL;
	return json_object_get_string(unwrap(value));
}

bool
cs_json_number(CsJson *value, double *result)
{
	const char *text = cs_json_text(value);
	char	   *end;
	double		number;

	if (text == NULL || json_object_is_type(unwrap(value), json_type_boolean))
		return false;
	number = strtod(text, &end);
	if (end == text || *end != '\0' || !isfinite(number))
		return false;
	*result = number;
	return true;
}

bool
cs_json_int(CsJson *value, int64 *result)
{
	double		number;

	if (json_object_is_type(unwrap(value), json_type_int))
	{
		*result = json_object_get_int64(unwrap(value));
		return true;
	}
	if (!cs_json_number(value, &number) ||
		number != floor(number) || fabs(number) >= 9007199254740992.0)
		return false;
	*result = (int64) number;
	return true;
}

bool
cs_json_bool(CsJson *value, bool *result)
{
	if (!json_object_is_type(unwrap(value), json_type_boolean))
		return false;
	*result = json_object_get_boolean(unwrap(value));
	return true;
}

char *
cs_json_dump(CsJson *value)
{
	const char *text;

	if (value == NULL)
		return NULL;
	text = json_object_to_json_string_ext(unwrap(value),
										  JSON_C_TO_STRING_PLAIN |
										  JSON_C_TO_STRING_NOSLASHESCAPE);
	return text ? pstrdup(text) : NULL;
}

void
cs_json_each(CsJson *object, CsJsonVisitor visit, void *arg)
{
	struct json_object_iterator i;
	struct json_object_iterator end;

	if (!cs_json_is_object(object))
		return;
	i = json_object_iter_begin(unwrap(object));
	end = json_object_iter_end(unwrap(object));
	while (!json_object_iter_equal(&i, &end))
	{
		if (!visit(json_object_iter_peek_name(&i),
				   wrap(json_object_iter_peek_value(&i)), arg))
			break;
		json_object_iter_next(&i);
	}
}

/* ---------- writing ---------- */

/* Must this byte be escaped in a JSON string? */
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
 * Quote text that contains characters to escape; the first "clean" bytes
 * contain none.
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

/* Most text needs no escapes and is copied in one step. */
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

void
cs_json_end_member(StringInfo out, int start)
{
	if (out->data[out->len - 1] != '{')
	{
		appendStringInfoCharMacro(out, '}');
		return;
	}
	out->len = start;
	out->data[start] = '\0';
}
