/*-------------------------------------------------------------------------
 *
 * option.h
 *		Options of servers and user mappings, and the checks of their values.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_OPTION_H
#define CS_PROVIDER_OPTION_H

#include "postgres.h"

/* Options of a server can be read by everybody; secrets are on user mappings. */
typedef enum CsOptionPlace
{
	CS_ON_SERVER,
	CS_ON_MAPPING
} CsOptionPlace;

/*
 * A check returns NULL if the value is valid, else what a valid one is: the rest
 * of a sentence that begins 'invalid value for option "x": ', in the form "must
 * be ..." (palloc'd or constant).  It must not quote the value, which may be
 * secret.  It is never called for an empty value.
 */
typedef const char *(*CsOptionCheck) (const char *value);

typedef struct CsOption
{
	const char *name;			/* NULL ends a table */
	CsOptionPlace place;
	CsOptionCheck check;		/* NULL: any text that is not empty */
	const char *preset;			/* the default value, or NULL */
	bool		required;
	bool		secret;			/* never shown */
	const char *help;			/* completes "This option sets ..." */
	bool		names_file;		/* only for roles that may read server files */
	const char *const *words;	/* its values; NULL: others */
	bool		payload;		/* what is sent depends on it, so it is part
								 * of CsEndpoint.payload */
	bool		aside;			/* delivery does not depend on it, so an
								 * invalid value does not halt it */
} CsOption;

/*
 * The options of a provider are in three tables, and the first table that has a
 * name wins: the provider's own, then the one of its kind of authorization, then
 * the common one.
 */
extern const CsOption cs_option_common[];
extern const CsOption cs_option_bearer[];
extern const CsOption cs_option_oauth[];
extern const CsOption cs_option_basic[];
extern const CsOption cs_option_signing[];

/* Check a value; see CsOptionCheck for what is returned. */
extern const char *cs_option_check(const CsOption *option, const char *value);

/* Is its value a URL that is called? */
extern bool cs_option_is_url(const CsOption *option);

/*
 * Return the unit of an option's value, GUC_UNIT_MS or GUC_UNIT_S, or 0 if it is
 * not a time.
 */
extern int	cs_option_unit(const CsOption *option);

/* Checks for the tables of providers. */
extern const char *cs_option_check_positive_int(const char *value);
extern const char *cs_option_check_boolean(const char *value);
extern const char *cs_option_check_url(const char *value);
extern const char *cs_option_check_header(const char *value);
extern const char *cs_option_check_pace(const char *value);
extern const char *cs_option_check_base_url(const char *value);
extern const char *cs_option_check_milliseconds(const char *value);
extern const char *cs_option_check_label(const char *value);
extern const char *cs_option_check_line(const char *value);
extern const char *cs_option_check_integer(const char *value);
extern const char *cs_option_check_words(const char *value, const char *const *words);

/* The values of alert_format, as cs_endpoint_option_word() counts them. */
extern const char *const cs_option_alert_formats[];

/* The values of on_opt_out, as cs_endpoint_option_word() counts them, and their check. */
extern const char *const cs_option_opt_out_words[];
#define CS_OPT_OUT_DELETE	1
extern const char *cs_option_check_opt_out(const char *value);

#endif							/* CS_PROVIDER_OPTION_H */
