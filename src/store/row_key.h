/*-------------------------------------------------------------------------
 *
 * row_key.h
 *		The key of a source row as text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_ROW_KEY_H
#define CS_STORE_ROW_KEY_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/rel.h"

/* A column of a key. */
typedef struct CsKeyColumn
{
	AttrNumber	attnum;
	Oid			type;			/* base type */
	bool		canonical;		/* output does not depend on settings */
	FmgrInfo	output;
} CsKeyColumn;

extern bool cs_row_key_read_column(Relation rel, const char *name, CsKeyColumn *column,
								   MemoryContext context);
extern text * cs_row_key_make(MemoryContext context, int ncolumns, CsKeyColumn *columns,
							  TupleTableSlot *slot);

/*
 * Return the text of a column (from 0) of a key of several columns, palloc'd; NULL if
 * there is none.
 */
extern char *cs_row_key_part(const char *key, int column);

/*
 * Return the key of a row whose key columns have these texts, palloc'd.  Raises an
 * error if the table has no such column, or its type no such value.
 */
extern char *cs_row_key_from_texts(Relation rel, int ncolumns, char **names, char **texts);

#endif							/* CS_STORE_ROW_KEY_H */
