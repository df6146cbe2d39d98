/*-------------------------------------------------------------------------
 *
 * text.c
 *		Converting and formatting text.
 *
 * Contacts are UTF-8; what is stored is in the database's encoding.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"

#include "base/text.h"

char *
cs_text_from_utf8(const char *utf8)
{
	int			encoding = GetDatabaseEncoding();
	int			len = strlen(utf8);
	char	   *result;
	int			converted;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return unconstify(char *, utf8);
	result = palloc(len * MAX_CONVERSION_GROWTH + 1);
	converted = pg_do_encoding_conversion_buf(FindDefaultConversionProc(PG_UTF8, encoding),
											  PG_UTF8, encoding,
											  (unsigned char *) unconstify(char *, utf8), len,
											  (unsigned char *) result,
											  len * MAX_CONVERSION_GROWTH + 1, true);
	if (converted == len)
		return result;
	for (int i = 0; i <= len; i++)
		result[i] = IS_HIGHBIT_SET(utf8[i]) ? '?' : utf8[i];
	return result;
}

char *
cs_text_to_utf8(const char *data, size_t len)
{
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		char	   *utf8 = pg_server_to_any(data, len, PG_UTF8);

		if (utf8 != data)
			return utf8;
	}
	return pnstrdup(data, len);
}

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
