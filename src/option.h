/*-------------------------------------------------------------------------
 *
 * option.h
 *		The options of servers and user mappings: one table with checks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_OPTION_H
#define CS_OPTION_H

#include "postgres.h"

#include "nodes/pg_list.h"

struct CsProvider;

typedef enum CsOptionPlace
{
	CS_ON_SERVER,
	CS_ON_MAPPING				/* user mapping: the secrets */
} CsOptionPlace;

/*
 * A check returns NULL, or what a right value would be: the end of a sentence
 * that begins 'invalid value for option "x": ' (palloc'd or constant).
 */
typedef const char *(*CsOptionCheck) (const char *value);

typedef struct CsOption
{
	const char *name;			/* NULL ends a table */
	CsOptionPlace place;
	CsOptionCheck check;		/* NULL: any text that is not empty */
	const char *preset;			/* the value when it is not given, or NULL */
	bool		required;
	bool		secret;			/* never shown */
	const char *help;			/* one line */
} CsOption;

/* Options that every provider has (base_url, pace, batch_size ...). */
extern const CsOption cs_common_options[];

/* Ready-made checks. */
extern const char *cs_check_positive_int(const char *value);
extern const char *cs_check_nonnegative_int(const char *value);
extern const char *cs_check_positive_number(const char *value);
extern const char *cs_check_boolean(const char *value);
extern const char *cs_check_url(const char *value);
extern const char *cs_check_header(const char *value);	/* printable ASCII */
extern const char *cs_check_words(const char *value, const char *const *words);

/* Validate the options of one object; ereports.  List of DefElem. */
extern void cs_option_validate(List *options, Oid catalog);

/* The entry of an option of that provider, or NULL. */
extern const CsOption *cs_option_find(const struct CsProvider *provider,
									  const char *name, CsOptionPlace place);

#endif							/* CS_OPTION_H */
