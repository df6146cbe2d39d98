/*-------------------------------------------------------------------------
 *
 * statement.h
 *		Statements that are built from values.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_STATEMENT_H
#define CS_BASE_STATEMENT_H

#include "postgres.h"

extern char *cs_statement_build(const char *fmt, va_list args);
extern char *cs_statement_make(const char *fmt,...);

#endif							/* CS_BASE_STATEMENT_H */
