/*-------------------------------------------------------------------------
 *
 * check.h
 *		What the values of options must be.
 *
 * A check returns NULL, or what a right value would be: the end of a sentence
 * that begins 'invalid value for option "x": ', in the form "must be ..."
 * (palloc'd or constant).  It must not repeat the value, which may be secret.
 * An empty value never comes here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_CHECK_H
#define CS_PROVIDER_CHECK_H

#include "postgres.h"

extern const char *cs_check_positive_int(const char *value);
extern const char *cs_check_nonnegative_int(const char *value);
extern const char *cs_check_positive_number(const char *value);
extern const char *cs_check_boolean(const char *value);
extern const char *cs_check_url(const char *value);
extern const char *cs_check_header(const char *value);	/* printable ASCII */
extern const char *cs_check_words(const char *value, const char *const *words);

/* A time span such as '30s'.  A number alone is in the unit of the name, as
 * version 0.1 took it; it is refused when the option is set. */
extern const char *cs_check_milliseconds(const char *value);
extern const char *cs_check_seconds(const char *value);
extern const char *cs_check_timestamp(const char *value);	/* Unix seconds */

/* Of the common options. */
extern const char *cs_check_provider(const char *value);
extern const char *cs_check_base_url(const char *value);
extern const char *cs_check_proxy(const char *value);
extern const char *cs_check_pace(const char *value);
extern const char *cs_check_concurrency(const char *value);
extern const char *cs_check_retries(const char *value);
extern const char *cs_check_nulls(const char *value);

#endif							/* CS_PROVIDER_CHECK_H */
