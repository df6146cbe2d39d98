/*-------------------------------------------------------------------------
 *
 * header.h
 *		The header of an answer as it came, made fit to be searched and shown;
 *		pure.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_HTTP_HEADER_H
#define CS_HTTP_HEADER_H

#include "postgres.h"

/*
 * Lines "name: value\n" in the order they came, palloc'd: names in lower case,
 * values trimmed, folded lines joined, all in printable ASCII.  Lines that are
 * no header fields are left out, repeated ones are kept.
 */
extern char *cs_header_normalize(const char *raw, size_t len);

/* Printable ASCII of any bytes, the rest as '?'; at most "limit" bytes, palloc'd. */
extern char *cs_header_printable(const char *raw, size_t len, size_t limit);

#endif							/* CS_HTTP_HEADER_H */
