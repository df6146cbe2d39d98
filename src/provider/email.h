/*-------------------------------------------------------------------------
 *
 * email.h
 *		Normalize and validate email addresses; pure, UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_EMAIL_H
#define CS_PROVIDER_EMAIL_H

#include "postgres.h"

/*
 * Trim all kinds of white space and artifacts such as "=20" from both ends, and
 * convert to lower case; palloc'd.  The function is idempotent.  The text must be
 * valid UTF-8.
 */
extern char *cs_email_normalize(const char *email);

/* The same without the conversion to lower case. */
extern char *cs_email_trim(const char *email);

/*
 * Return NULL if a provider can be expected to accept the normalized address,
 * else what is wrong with it, as the rest of a sentence "the address ...".
 */
extern const char *cs_email_problem(const char *email);

#endif							/* CS_PROVIDER_EMAIL_H */
