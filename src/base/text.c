/*-------------------------------------------------------------------------
 *
 * text.c
 *		Converting and formatting text.
 *
 * Contacts are UTF-8; what is stored is in the database's encoding.  The server's
 * own functions for that look up the conversion in the catalogs and the search path
 * each time, which takes a transaction.  Calls are made and answered outside
 * transactions, so here the conversion is looked up once in each process, and the
 * conversions are those of pg_catalog.
 *
 * In a database in SQL_ASCII, text that is valid UTF-8 is taken for UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_conversion.h"
#include "catalog/pg_namespace.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "base/text.h"

/* Conversions between the database's encoding and UTF-8; fn_oid is 0 if there is none. */
static struct
{
	bool		known;
	FmgrInfo	from_utf8;
	FmgrInfo	to_utf8;
}			conversions;

static void
look_up(FmgrInfo *function, int from, int to)
{
	Oid			oid = FindDefaultConversion(PG_CATALOG_NAMESPACE, from, to);

	if (OidIsValid(oid))
		fmgr_info_cxt(oid, function, TopMemoryContext);
}

void
cs_text_init(void)
{
	int			encoding = GetDatabaseEncoding();

	if (conversions.known)
		return;
	if (encoding != PG_UTF8 && encoding != PG_SQL_ASCII)
	{
		if (!IsTransactionState())
			elog(ERROR, "conversions were not looked up");
		look_up(&conversions.from_utf8, PG_UTF8, encoding);
		look_up(&conversions.to_utf8, encoding, PG_UTF8);
	}
	conversions.known = true;
}

static int
ascii_length(const char *text, int len)
{
	int			n = 0;

	while (n < len && !IS_HIGHBIT_SET(text[n]))
		n++;
	return n;
}

/*
 * Convert as much as possible.  Return how many bytes that were.  There must be room for
 * MAX_CONVERSION_GROWTH bytes for each, and a zero.
 */
static int
convert(FmgrInfo *function, int from, int to, const char *text, int len, char *result)
{
	int			n = ascii_length(text, len);

	if (n < len && OidIsValid(function->fn_oid))
		return DatumGetInt32(FunctionCall6(function, Int32GetDatum(from), Int32GetDatum(to),
										   CStringGetDatum(text), CStringGetDatum(result),
										   Int32GetDatum(len), BoolGetDatum(true)));
	memcpy(result, text, n);
	result[n] = '\0';
	return n;
}

static char *
room_for(size_t len)
{
	if (len > (MaxAllocSize - 1) / MAX_CONVERSION_GROWTH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a text of %zu bytes is too long to be converted", len)));
	return palloc(len * MAX_CONVERSION_GROWTH + 1);
}

/* Write a character that the database's encoding lacks.  Return its length. */
static int
write_code_point(const char *utf8, int len, char *out)
{
	int			length = pg_utf_mblen((const unsigned char *) utf8);

	if (length > len || !pg_utf8_islegal((const unsigned char *) utf8, length))
	{
		strcpy(out, "?");
		return 1;
	}
	StaticAssertStmt(MAX_CONVERSION_GROWTH * 2 >= 8, "<U+00E9> may take the place of two bytes");
	sprintf(out, "<U+%04X>", utf8_to_unicode((const unsigned char *) utf8));
	return length;
}

char *
cs_text_from_utf8(const char *utf8)
{
	int			encoding = GetDatabaseEncoding();
	int			len;
	int			done = 0;
	char	   *result;
	char	   *out;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return unconstify(char *, utf8);
	len = strlen(utf8);
	if (ascii_length(utf8, len) == len)
		return unconstify(char *, utf8);
	cs_text_init();
	result = out = room_for(len);
	for (;;)
	{
		done += convert(&conversions.from_utf8, PG_UTF8, encoding, utf8 + done, len - done, out);
		if (done >= len)
			return result;
		out += strlen(out);
		done += write_code_point(utf8 + done, len - done, out);
		out += strlen(out);
	}
}

bool
cs_text_is_storable(const char *utf8)
{
	char	   *stored = cs_text_from_utf8(utf8);
	char	   *again;

	if (stored == utf8)
		return true;
	again = cs_text_try_to_utf8(stored, strlen(stored));
	return again && strcmp(again, utf8) == 0;
}

char *
cs_text_try_to_utf8(const char *data, size_t len)
{
	int			encoding = GetDatabaseEncoding();
	char	   *result;

	if (encoding == PG_UTF8 || ascii_length(data, len) == len)
		return pnstrdup(data, len);
	if (encoding == PG_SQL_ASCII)
		return pg_verify_mbstr(PG_UTF8, data, len, true) ? pnstrdup(data, len) : NULL;
	cs_text_init();
	result = room_for(len);
	if (convert(&conversions.to_utf8, encoding, PG_UTF8, data, len, result) == len)
		return result;
	pfree(result);
	return NULL;
}

char *
cs_text_to_utf8(const char *data, size_t len)
{
	char	   *utf8 = cs_text_try_to_utf8(data, len);

	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 GetDatabaseEncoding() == PG_SQL_ASCII ?
				 errmsg("text in a database with encoding %s is not valid UTF-8",
						GetDatabaseEncodingName()) :
				 errmsg("text in encoding %s has a character that UTF-8 lacks",
						GetDatabaseEncodingName())));
	return utf8;
}

char *
cs_text_message_to_utf8(const char *message)
{
	char	   *utf8 = cs_text_try_to_utf8(message, strlen(message));

	if (utf8)
		return utf8;
	utf8 = pstrdup(message);
	for (char *c = utf8; *c; c++)
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	return utf8;
}

/*
 * Invisible characters: white space, control characters, and the marks for
 * joining, direction and byte order that are copied from documents along with
 * texts.
 */
static const struct
{
	pg_wchar	first;
	pg_wchar	last;
}			invisible[] = {
	{0x0000, 0x0020}, {0x007F, 0x00A0}, {0x00AD, 0x00AD}, {0x034F, 0x034F},
	{0x061C, 0x061C}, {0x115F, 0x1160}, {0x1680, 0x1680}, {0x17B4, 0x17B5},
	{0x180B, 0x180F}, {0x2000, 0x200F}, {0x2028, 0x202F}, {0x205F, 0x206F},
	{0x2800, 0x2800}, {0x3000, 0x3000}, {0x3164, 0x3164}, {0xFE00, 0xFE0F},
	{0xFEFF, 0xFEFF}, {0xFFA0, 0xFFA0}, {0xFFF0, 0xFFFB}, {0x1BCA0, 0x1BCA3},
	{0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF}
};

bool
cs_text_is_invisible(pg_wchar c)
{
	if (c > 0x20 && c < 0x7F)
		return false;
	for (int i = 0; i < lengthof(invisible); i++)
	{
		if (c <= invisible[i].last)
			return c >= invisible[i].first;
	}
	return false;
}

char *
cs_text_make_visible(const char *utf8)
{
	char	   *result = palloc(strlen(utf8) + 1);
	char	   *out = result;

	while (*utf8)
	{
		int			len = pg_utf_mblen((const unsigned char *) utf8);

		if (cs_text_is_invisible(utf8_to_unicode((const unsigned char *) utf8)))
			*out++ = ' ';
		else
		{
			memcpy(out, utf8, len);
			out += len;
		}
		utf8 += len;
	}
	*out = '\0';
	return result;
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

/*
 * The nearest name
 */

/* A name that differs by more letters is not taken for a misspelling. */
#define MAX_MISSPELLING		3

void
cs_text_begin_nearest(CsTextNearest *nearest, const char *name)
{
	nearest->name = name;
	nearest->distance = Min(MAX_MISSPELLING, (int) strlen(name) / 2) + 1;
	nearest->found = NULL;
}

void
cs_text_consider_nearest(CsTextNearest *nearest, const char *candidate)
{
	int			d;

	if (strlen(nearest->name) >= NAMEDATALEN)
		return;
	d = varstr_levenshtein_less_equal(nearest->name, strlen(nearest->name), candidate, strlen(candidate),
									  1, 1, 1, nearest->distance, true);
	if (d >= nearest->distance)
		return;
	nearest->distance = d;
	nearest->found = candidate;
}
