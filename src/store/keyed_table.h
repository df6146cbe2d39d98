/*-------------------------------------------------------------------------
 *
 * keyed_table.h
 *		A table of the extension, read and written below SQL by an index.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_KEYED_TABLE_H
#define CS_STORE_KEYED_TABLE_H

#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/leaf.h"

/* Rows that are inserted at a time. */
#define CS_KEYED_INSERTS	200

/* The widest of these tables. */
#define CS_KEYED_COLUMNS	32

/* The columns by which one of them is searched, at most. */
#define CS_KEYED_KEYS	2

/* A table, opened to be searched by one of its indexes. */
typedef struct CsKeyedTable
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* the row that was found */
	Snapshot	snapshot;
	int			nkeys;
	ScanKeyData keys[CS_KEYED_KEYS];	/* of the last search */
	CsLeaf		leaf;
	bool		scanning;		/* the index is scanned: there may be more */
} CsKeyedTable;

/*
 * The same table, opened to be written.  Fill values and nulls, then say what is
 * to become of them.
 */
typedef struct CsKeyedWriter
{
	CsKeyedTable table;
	EState	   *estate;
	ResultRelInfo *result;
	TupleTableSlot *update_slot;
	TupleTableSlot *insert_slots[CS_KEYED_INSERTS];
	int			nslots;			/* that exist */
	int			ninserts;		/* of them, filled */
	Datum		values[CS_KEYED_COLUMNS];
	bool		nulls[CS_KEYED_COLUMNS];
} CsKeyedWriter;

/*
 * All need a transaction.  "index" names one of the table's indexes; NULL is the
 * primary key.  "nkeys" is how many columns a search gives.
 */
extern void cs_keyed_table_open(CsKeyedTable *table, const char *name, const char *index,
								int nkeys, LOCKMODE lockmode);
extern void cs_keyed_table_close(CsKeyedTable *table);

/* Set one column of a search: an integer, or a text of collation "C". */
extern void cs_keyed_table_int_key(ScanKey keys, int column, int value);
extern void cs_keyed_table_text_key(ScanKey keys, int column, const char *value);

/* Find the first, or the next, row; false if there is none. */
extern bool cs_keyed_table_find(CsKeyedTable *table, ScanKey keys);
extern bool cs_keyed_table_next(CsKeyedTable *table);

/*
 * The same, of a row that was at that place when it was found before.  If it is not there any
 * more, or the place is NULL or not valid, it is searched for.
 */
extern bool cs_keyed_table_find_at(CsKeyedTable *table, ItemPointer tid, ScanKey keys);

/* Columns, from 0, of the row that was found. */
extern char *cs_keyed_table_text(CsKeyedTable *table, int column);	/* palloc'd, or NULL */
extern bytea *cs_keyed_table_bytea(CsKeyedTable *table, int column);	/* likewise */
extern bool cs_keyed_table_bool(CsKeyedTable *table, int column);
extern int	cs_keyed_table_int(CsKeyedTable *table, int column);	/* 0 for null */
extern TimestampTz cs_keyed_table_time(CsKeyedTable *table, int column);	/* 0 for null */
extern uint64 cs_keyed_table_xact(CsKeyedTable *table, int column); /* 0 for null */

/* Copy a UUID; false for null. */
extern bool cs_keyed_table_uuid(CsKeyedTable *table, int column, pg_uuid_t *value);
extern char cs_keyed_table_char(CsKeyedTable *table, int column);	/* '\0' for null */
extern Datum cs_keyed_table_get(CsKeyedTable *table, int column, bool *isnull);

/*
 * Writing.  A search does not see what the same writer has inserted.  Ereports
 * ERRCODE_T_R_SERIALIZATION_FAILURE if another session changed the row.
 */
extern void cs_keyed_table_begin_write(CsKeyedWriter *writer, const char *name, int nkeys);
extern void cs_keyed_table_insert(CsKeyedWriter *writer);
extern void cs_keyed_table_update(CsKeyedWriter *writer);
extern void cs_keyed_table_delete(CsKeyedWriter *writer);
extern void cs_keyed_table_end_write(CsKeyedWriter *writer);

/* Set a column of values and nulls; NULL is null.  What is set is not copied. */
extern void cs_keyed_table_set_text(CsKeyedWriter *writer, int column, const char *text);
extern void cs_keyed_table_set_bytea(CsKeyedWriter *writer, int column, bytea *value);
extern void cs_keyed_table_set_time(CsKeyedWriter *writer, int column, TimestampTz time);
extern void cs_keyed_table_set_xact(CsKeyedWriter *writer, int column, uint64 xact);
extern void cs_keyed_table_set(CsKeyedWriter *writer, int column, Datum value);
extern void cs_keyed_table_set_null(CsKeyedWriter *writer, int column);

/* Keep a column of the row that was found, or all. */
extern void cs_keyed_table_keep(CsKeyedWriter *writer, int column);
extern void cs_keyed_table_keep_all(CsKeyedWriter *writer);

#endif							/* CS_STORE_KEYED_TABLE_H */
