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
#ifndef CS_HTTP_BOUNDED_H
#define CS_HTTP_BOUNDED_H

#include "postgres.h"

typedef struct CsBuffer
{
	char	   *data;			/* not zero-terminated */
	size_t		len;
	size_t		room;
} CsBuffer;

typedef enum CsBufferResult
{
	CS_BUFFER_OK,
	CS_BUFFER_FULL,				/* it would exceed the limit */
	CS_BUFFER_NO_MEMORY
} CsBufferResult;

/* What does not fit is not appended at all. */
extern CsBufferResult cs_buffer_append(CsBuffer *buffer, const char *data,
									   size_t len, size_t limit);

/* Empty it, and give the memory back if that is more than "keep" bytes. */
extern void cs_buffer_reset(CsBuffer *buffer, size_t keep);

#endif							/* CS_HTTP_BOUNDED_H */
