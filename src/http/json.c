/*-------------------------------------------------------------------------
 *
 * json.c
 *		Reading of answers, on json-c.
 *
 * What comes in is hostile until shown otherwise.  Size, encoding and what
 * PostgreSQL's text cannot hold are checked before json-c sees the text, for
 * json-c does not bound what it allocates.  A document is malloc'd, so it
 * hangs on the memory context by a callback that is registered before there is
 * anything to lose.
 *
 * A null in JSON is a NULL pointer in json-c, hence "absent or null" is one
 * question here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <json-c/json.h>
#include <math.h>

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "http/json.h"

/* What the memory context has to free. */
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

/* The callback of the memory context; must not fail. */
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
 * Strict, but for json-c 0.18, which then takes every byte above 0x7f of a
 * string for a control character (its issue 875).
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
 * Has the text a \u0000?  json-c would take it, and every string function
 * after it would stop there.  A backslash that is itself escaped is none.
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
 * Could the document be larger in memory than we want to pay for?  Counts the
 * bytes that begin values, those inside strings too, which errs on the safe
 * side and by little.
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

CsJson *
cs_json_parse(const char *text, size_t len)
{
	Owned	   *owned;
	size_t		end;

	if (text == NULL || len == 0 || len >= PG_INT32_MAX)
		return NULL;
	if (!pg_verify_mbstr(PG_UTF8, text, (int) len, true))
		return NULL;			/* refuses zero bytes as well */
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

	/* a number at the top may go on, as far as json-c knows */
	if (json_tokener_get_error(owned->tokener) == json_tokener_continue)
	{
		owned->root = json_tokener_parse_ex(owned->tokener, "", 1);
		end = len;
	}
	if (json_tokener_get_error(owned->tokener) != json_tokener_success ||
		!is_space(text + end, len - end))
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

/* Does nothing with what is not an object. */
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
