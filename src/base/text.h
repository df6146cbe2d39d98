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

#include "base/contactsync.h"

/*
 * Return the text in the database's encoding: palloc'd, or the argument itself if
 * nothing has to be converted.  A text that cannot be converted has its non-ASCII
 * bytes replaced; that is not an error.
 */
extern char *cs_text_from_utf8(const char *utf8);

/* Return the text in UTF-8, palloc'd; an error if it cannot be converted. */
extern char *cs_text_to_utf8(const char *data, size_t len);

/* psprintf(), for a function that has variable arguments itself. */
extern char *cs_text_format(const char *fmt, va_list args) cs_attribute_printf(1, 0);

#endif							/* CS_BASE_TEXT_H */
