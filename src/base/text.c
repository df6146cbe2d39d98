/*-------------------------------------------------------------------------
 *
 * text.c
 *		Formatting messages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/text.h"

/* psprintf(), for a function that has variable arguments itself. */
char *
cs_text_format(const char *fmt, va_list args)
{
	size_t		size = 128;

	for (;;)
	{
		char	   *result = palloc(size);
		va_list		copy;
		size_t		needed;

		va_copy(copy, args);
		needed = pvsnprintf(result, size, fmt, copy);
		va_end(copy);
		if (needed < size)
			return result;
		pfree(result);
		size = needed;
	}
}
