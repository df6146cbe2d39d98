/*-------------------------------------------------------------------------
 *
 * text.h
 *		Converting and formatting text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_TEXT_H
#define CS_BASE_TEXT_H

#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"

#include "base/contactsync.h"

/*
 * Look up the conversions, in a transaction.  The functions below do so when they are
 * first called; a process that calls them outside transactions must call this before.
 */
extern void cs_text_init(void);

/*
 * Return the text in the database's encoding: palloc'd, or the argument itself if
 * nothing has to be converted.  A character that the encoding lacks becomes its code
 * point, as in "<U+20AC>"; that is not an error.
 */
extern char *cs_text_from_utf8(const char *utf8);

/* Is the text the same after it was converted to the database's encoding and back? */
extern bool cs_text_is_storable(const char *utf8);

/*
 * Return the text in UTF-8, palloc'd.  If that is not possible, as for arbitrary bytes in
 * a database in SQL_ASCII, it is an error, or NULL.
 */
extern char *cs_text_to_utf8(const char *data, size_t len);
extern char *cs_text_try_to_utf8(const char *data, size_t len);

/* Return a message in UTF-8, palloc'd, with question marks if it cannot be converted. */
extern char *cs_text_message_to_utf8(const char *message);

/* Is it white space, a control character, or one that cannot be seen? */
extern bool cs_text_is_invisible(pg_wchar c);

/*
 * Return a copy of a message with a space for each invisible character, so that nobody
 * can hide what it says, or change its direction.  It must be valid UTF-8.
 */
extern char *cs_text_make_visible(const char *utf8);

/* The name that is nearest to what somebody wrote: begin, consider each, and look at "found". */
typedef struct CsTextNearest
{
	const char *name;
	int			distance;
	const char *found;			/* NULL: none is near */
} CsTextNearest;

extern void cs_text_begin_nearest(CsTextNearest *nearest, const char *name);
extern void cs_text_consider_nearest(CsTextNearest *nearest, const char *candidate);

/* A hash of a text, which is the same in every process. */
static inline uint64
cs_text_hash(const char *text, uint64 seed)
{
	return hash_bytes_extended((const unsigned char *) text, (int) strlen(text), seed);
}

/* psprintf(), for a function that has variable arguments itself. */
extern char *cs_text_format(const char *fmt, va_list args) cs_attribute_printf(1, 0);

#endif							/* CS_BASE_TEXT_H */
