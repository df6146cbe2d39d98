/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *		An account at a provider as one role uses it, with its options.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/text.h"
#include "provider/endpoint.h"

/* Texts that come from outside are cut off after this many bytes. */
#define MAX_TEXT	500

/* What is shown in the place of a secret. */
#define REDACTED	"***"

/* A definition that was read again is the same if it says the same. */
static bool
is_same_provider(const CsEndpoint *a, const CsEndpoint *b)
{
	return a->provider == b->provider || (a->definition != 0 && a->definition == b->definition);
}

bool
cs_endpoint_equal(const CsEndpoint *a, const CsEndpoint *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	if (a->serverid != b->serverid || a->roleid != b->roleid ||
		a->mapping_roleid != b->mapping_roleid || !is_same_provider(a, b) ||
		a->http.allow_http != b->http.allow_http || a->http.restricted != b->http.restricted ||
		a->http.networks != b->http.networks || a->nvalues != b->nvalues)
		return false;
	for (int i = 0; i < a->nvalues; i++)
		if (strcmp(a->values[i].option->name, b->values[i].option->name) != 0 ||
			strcmp(a->values[i].value, b->values[i].value) != 0)
			return false;
	return true;
}

/* ---------- options ---------- */

const char *
cs_endpoint_option(const CsEndpoint *endpoint, const char *name)
{
	int			i;

	for (i = 0; i < endpoint->nvalues; i++)
	{
		if (strcmp(endpoint->values[i].option->name, name) == 0)
			return endpoint->values[i].value;
	}
	return NULL;
}

bool
cs_endpoint_option_bool(const CsEndpoint *endpoint, const char *name)
{
	const char *value = cs_endpoint_option(endpoint, name);
	bool		result;

	return value != NULL && parse_bool(value, &result) && result;
}

int
cs_endpoint_option_int(const CsEndpoint *endpoint, const char *name, int otherwise)
{
	for (int i = 0; i < endpoint->nvalues; i++)
	{
		const CsOptionValue *value = &endpoint->values[i];
		int			result;

		if (strcmp(value->option->name, name) == 0 &&
			parse_int(value->value, &result, cs_option_unit(value->option), NULL))
			return result;
	}
	return otherwise;
}

double
cs_endpoint_option_number(const CsEndpoint *endpoint, const char *name, double otherwise)
{
	const char *value = cs_endpoint_option(endpoint, name);
	double		result;

	return value != NULL && parse_real(value, &result, 0, NULL) ? result : otherwise;
}

int
cs_endpoint_option_word(const CsEndpoint *endpoint, const char *name, const char *const *words)
{
	const char *value = cs_endpoint_option(endpoint, name);

	for (int i = 0; value && words[i]; i++)
	{
		if (strcmp(value, words[i]) == 0)
			return i;
	}
	return 0;
}

/* ---------- texts from outside ---------- */

/* Return the length of the longest secret that a text begins with, or 0. */
static size_t
secret_length(const CsEndpoint *endpoint, const char *text)
{
	size_t		longest = 0;

	for (int i = 0; i < endpoint->nvalues; i++)
	{
		const CsOptionValue *value = &endpoint->values[i];
		size_t		len = value->option->secret ? strlen(value->value) : 0;

		if (len > longest && strncmp(text, value->value, len) == 0)
			longest = len;
	}
	return longest;
}

/* Does a text contain a secret? */
static bool
has_secret(const CsEndpoint *endpoint, const char *text)
{
	for (int i = 0; i < endpoint->nvalues; i++)
	{
		const CsOptionValue *value = &endpoint->values[i];

		if (value->option->secret && strstr(text, value->value) != NULL)
			return true;
	}
	return false;
}

/*
 * Nearly all texts contain no secret and are copied at once.  The others are
 * read in one pass, so that what is inserted is not searched again.
 */
char *
cs_endpoint_redact(const CsEndpoint *endpoint, const char *text)
{
	StringInfoData out;

	if (!has_secret(endpoint, text))
		return pstrdup(text);
	initStringInfo(&out);
	while (*text)
	{
		size_t		len = secret_length(endpoint, text);

		if (len > 0)
			appendStringInfoString(&out, REDACTED);
		else
			appendStringInfoCharMacro(&out, *text);
		text += Max(len, 1);
	}
	return out.data;
}

char *
cs_endpoint_clean(const CsEndpoint *endpoint, const char *text)
{
	int			len;
	char	   *copy;

	if (text == NULL)
		return NULL;
	copy = cs_endpoint_redact(endpoint, text);
	len = (int) strlen(copy);
	if (len > MAX_TEXT)
		len = pg_encoding_mbcliplen(PG_UTF8, copy, len, MAX_TEXT);
	copy[len] = '\0';
	if (!pg_verify_mbstr(PG_UTF8, copy, len, true))
		for (int i = 0; i < len; i++)
			if (IS_HIGHBIT_SET(copy[i]))
				copy[i] = '?';
	return cs_text_make_visible(copy);
}
