/*-------------------------------------------------------------------------
 *
 * bounded.c
 *		A byte buffer with a limit, for code that must not ereport.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/bounded.h"

#define FIRST_ROOM	1024

CsBufferResult
cs_buffer_append(CsBuffer *buffer, const char *data, size_t len, size_t limit)
{
	if (len > limit || buffer->len > limit - len)
		return CS_BUFFER_FULL;

	if (buffer->len + len > buffer->room)
	{
		size_t		room = Max(Max(buffer->room * 2, buffer->len + len), FIRST_ROOM);
		char	   *grown = realloc(buffer->data, room);

		if (grown == NULL)
			return CS_BUFFER_NO_MEMORY;
		buffer->data = grown;
		buffer->room = room;
	}
	if (len > 0)
		memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
	return CS_BUFFER_OK;
}

void
cs_buffer_reset(CsBuffer *buffer, size_t keep)
{
	buffer->len = 0;
	if (buffer->room > keep)
	{
		free(buffer->data);
		buffer->data = NULL;
		buffer->room = 0;
	}
}
