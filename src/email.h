/*-------------------------------------------------------------------------
 *
 * email.h
 *		Normalisation and validation of e-mail addresses; pure, UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_EMAIL_H
#define CS_EMAIL_H

#include "postgres.h"

/* Trimmed of every kind of white space and =20-like artefacts at the ends,
 * lower-cased; palloc'd. */
extern char *cs_email_normalize(const char *email);

/* NULL if a provider can be expected to take the normalised address, else
 * what is wrong with it, as the end of a sentence "the address ...". */
extern const char *cs_email_problem(const char *email);

#endif							/* CS_EMAIL_H */
