/*-------------------------------------------------------------------------
 *
 * reads.h
 *		Which tables and columns the expressions of a watch read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_READS_H
#define CS_STORE_READS_H

#include "postgres.h"

#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"

/* A table that is read, and its columns as numbers; with "all", any of them. */
typedef struct CsReadTable
{
	Oid			relid;
	bool		all;
	Bitmapset  *columns;
} CsReadTable;

typedef struct CsReads
{
	MemoryContext context;		/* of all of it */
	List	   *tables;			/* of CsReadTable */
	bool		calls;			/* a function of somebody, which may read
								 * anything */
} CsReads;

/* Return what nothing has been added to yet, in the current context. */
extern CsReads *cs_reads_create(void);

/* Add what queries read that have been analyzed and rewritten. */
extern void cs_reads_add(CsReads *reads, List *queries);

/*
 * Return which columns of a table may be read, as numbers, palloc'd; with *all set, any
 * of them.
 */
extern Bitmapset *cs_reads_columns(const CsReads *reads, Oid relid, bool *all);

#endif							/* CS_STORE_READS_H */
