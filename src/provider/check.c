/*-------------------------------------------------------------------------
 *
 * check.c
 *		What the values of options must be.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/settings.h"
#include "http/url.h"
#include "provider/check.h"
#include "provider/provider.h"

#define MAX_CONCURRENCY		1000
#define MAX_PACE			10000.0 /* calls a second */
#define MAX_RETRIES			100
#define MAX_SECONDS			86400
#define MAX_HEADER			4096	/* bytes; the longest tokens are JWTs */

/*
 * Is it a whole number within the bounds, and nothing else?
 */
static bool
is_int(const char *value, long min, long max)
{
	char	   *end;
	long		n;

	if (*value < '0' || *value > '9')
		return false;
	errno = 0;
	n = strtol(value, &end, 10);
	return errno == 0 && *end == '\0' && n >= min && n <= max;
}

const char *
cs_check_positive_int(const char *value)
{
	return is_int(value, 1, INT_MAX) ? NULL : "must be a whole number greater than 0";
}

const char *
cs_check_nonnegative_int(const char *value)
{
	return is_int(value, 0, INT_MAX) ? NULL : "must be a whole number, 0 or greater";
}

const char *
cs_check_positive_number(const char *value)
{
	double		number;

	if (!parse_real(value, &number, 0, NULL) || number <= 0 || isinf(number))
		return "must be a number greater than 0";
	return NULL;
}

const char *
cs_check_boolean(const char *value)
{
	bool		result;

	return parse_bool(value, &result) ? NULL : "must be \"true\" or \"false\"";
}

const char *
cs_check_words(const char *value, const char *const *words)
{
	StringInfoData problem;
	int			i;

	initStringInfo(&problem);
	appendStringInfoString(&problem, "must be ");
	for (i = 0; words[i] != NULL; i++)
	{
		if (strcmp(words[i], value) == 0)
			return NULL;
		appendStringInfo(&problem, "%s\"%s\"",
						 i == 0 ? "" : words[i + 1] != NULL ? ", " : " or ", words[i]);
	}
	return problem.data;
}

/*
 * Something that can be the value of an HTTP header, or a part of one.
 */
const char *
cs_check_header(const char *value)
{
	const char *c;

	for (c = value; *c > ' ' && *c <= '~'; c++)
		;
	if (*c != '\0')
		return "must consist of printable ASCII characters, without spaces";
	return c - value <= MAX_HEADER ? NULL : psprintf("must not be longer than %d bytes", MAX_HEADER);
}

const char *
cs_check_milliseconds(const char *value)
{
	int			result;

	if (!parse_int(value, &result, GUC_UNIT_MS, NULL) || result < 1 || result > MAX_SECONDS * 1000)
		return "must be a time such as \"30s\" or \"500ms\", up to a day";
	return NULL;
}

const char *
cs_check_seconds(const char *value)
{
	int			result;

	if (!parse_int(value, &result, GUC_UNIT_S, NULL) || result < 1 || result > MAX_SECONDS)
		return "must be a time such as \"50min\" or \"90s\", up to a day";
	return NULL;
}

const char *
cs_check_timestamp(const char *value)
{
	return is_int(value, 0, LONG_MAX) ? NULL : "must be a time in seconds since 1970";
}

const char *
cs_check_url(const char *value)
{
	return cs_url_problem(value, cs_allow_http);
}

const char *
cs_check_base_url(const char *value)
{
	return cs_url_base_problem(value, cs_allow_http);
}

const char *
cs_check_proxy(const char *value)
{
	return strcmp(value, "none") == 0 ? NULL : cs_url_proxy_problem(value);
}

const char *
cs_check_provider(const char *value)
{
	if (cs_provider_find(value) != NULL)
		return NULL;
	return psprintf("must be one of: %s", cs_provider_list());
}

const char *
cs_check_pace(const char *value)
{
	double		number;

	if (!parse_real(value, &number, 0, NULL) || number <= 0 || number > MAX_PACE)
		return psprintf("must be a number greater than 0, up to %.0f", MAX_PACE);
	return NULL;
}

const char *
cs_check_concurrency(const char *value)
{
	if (is_int(value, 1, MAX_CONCURRENCY))
		return NULL;
	return psprintf("must be a whole number from 1 to %d", MAX_CONCURRENCY);
}

const char *
cs_check_retries(const char *value)
{
	if (is_int(value, 0, MAX_RETRIES))
		return NULL;
	return psprintf("must be a whole number from 0 to %d", MAX_RETRIES);
}

const char *
cs_check_nulls(const char *value)
{
	static const char *const words[] = {"omit", "clear", NULL};

	return cs_check_words(value, words);
}
