/*-------------------------------------------------------------------------
 *
 * bounded.h
 *		A byte buffer with a limit, for code that must not ereport.
 *
 * It is malloc'd, so it neither belongs to a memory context nor can longjmp
 * out of a library's callback.  A zeroed one is valid and empty.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BOUNDED_H
#define CS_BOUNDED_H

#include "postgres.h"

typedef struct CsBounded
{
	char	   *data;			/* not zero-terminated */
	size_t		len;
	size_t		room;
} CsBounded;

typedef enum CsBoundedResult
{
	CS_BOUNDED_OK,
	CS_BOUNDED_FULL,			/* it would exceed the limit */
	CS_BOUNDED_NO_MEMORY
} CsBoundedResult;

/* What does not fit is not appended at all. */
extern CsBoundedResult cs_bounded_append(CsBounded *buffer, const char *data,
										 size_t len, size_t limit);

/* Empty it, and give the memory back if that is more than "keep" bytes. */
extern void cs_bounded_reset(CsBounded *buffer, size_t keep);

#endif							/* CS_BOUNDED_H */
