/*-------------------------------------------------------------------------
 *
 * text.h
 *		Formatting messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_TEXT_H
#define CS_BASE_TEXT_H

#include "postgres.h"

#include "base/contactsync.h"

extern char *cs_text_format(const char *fmt, va_list args) cs_attribute_printf(1, 0);

#endif							/* CS_BASE_TEXT_H */
