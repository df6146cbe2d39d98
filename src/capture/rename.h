/*-------------------------------------------------------------------------
 *
 * rename.h
 *		The new names of columns in the expressions of a watch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_CAPTURE_RENAME_H
#define CS_CAPTURE_RENAME_H

#include "postgres.h"

#include "store/table_trigger.h"

/*
 * Return an expression over a table with the new names of its columns, palloc'd;
 * unchanged if it is written in a way that is not understood.
 */
extern char *cs_rename_in_expression(char *expression, const char *table, const CsRenames *renames);

#endif							/* CS_CAPTURE_RENAME_H */
