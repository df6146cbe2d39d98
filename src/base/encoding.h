/*-------------------------------------------------------------------------
 *
 * encoding.h
 *		Converting between UTF-8, which contacts are in, and the database's encoding.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_ENCODING_H
#define CS_BASE_ENCODING_H

#include "postgres.h"

/*
 * Return the text in the database's encoding: palloc'd, or the argument itself if
 * nothing has to be converted.  A text that cannot be converted has its non-ASCII
 * bytes replaced; that is not an error.
 */
extern char *cs_encoding_from_utf8(const char *utf8);

/* Return the text in UTF-8, palloc'd; an error if it cannot be converted. */
extern char *cs_encoding_to_utf8(const char *data, size_t len);

#endif							/* CS_BASE_ENCODING_H */
