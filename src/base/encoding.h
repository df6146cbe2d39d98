/*-------------------------------------------------------------------------
 *
 * encoding.h
 *		Contacts are UTF-8; what is stored is in the database's encoding.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_ENCODING_H
#define CS_BASE_ENCODING_H

#include "postgres.h"

/* palloc'd, or the argument itself where nothing is to be done.  What the
 * database cannot express is replaced, not an error. */
extern char *cs_encoding_from_utf8(const char *utf8);

/* palloc'd; errors when it has no UTF-8. */
extern char *cs_encoding_to_utf8(const char *data, size_t len);

#endif							/* CS_BASE_ENCODING_H */
