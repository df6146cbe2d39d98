/*-------------------------------------------------------------------------
 *
 * email.h
 *		Normalisation and validation of e-mail addresses; pure, UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_EMAIL_H
#define CS_PROVIDER_EMAIL_H

#include "postgres.h"

/*
 * Trimmed of every kind of white space and =20-like artefacts at the ends, and
 * lower-cased; palloc'd.  Twice gives the same as once.  Text that is not valid
 * UTF-8 must not be passed: see cs_email_problem().
 */
extern char *cs_email_normalize(const char *email);
extern char *cs_email_trim(const char *email);	/* the same in its letter case */

/* NULL if a provider can be expected to take the normalised address, else
 * what is wrong with it, as the end of a sentence "the address ...". */
extern const char *cs_email_problem(const char *email);

#endif							/* CS_PROVIDER_EMAIL_H */
