/*-------------------------------------------------------------------------
 *
 * leaf.h
 *		The leaf page of an index in which a row was looked for last.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_LEAF_H
#define CS_STORE_LEAF_H

#include "postgres.h"

#include "access/itup.h"
#include "access/nbtree.h"
#include "access/skey.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

/* Opened with cs_leaf_open(), and closed before the index is. */
typedef struct CsLeaf
{
	Relation	index;
	Relation	heap;
	Snapshot	snapshot;
	BTScanInsert key;
	Buffer		buffer;			/* pinned, or InvalidBuffer */
	OffsetNumber offset;		/* where the last search ended in it */
	bool		near;			/* the last search needed no other page */
} CsLeaf;

typedef enum CsLeafResult
{
	CS_LEAF_ABSENT,				/* the index has no such key */
	CS_LEAF_ONE,				/* it has one entry with it */
	CS_LEAF_UNSURE				/* search the index as usual */
} CsLeafResult;

/* "nkeys" is how many columns of the index, a btree, a search gives. */
extern void cs_leaf_open(CsLeaf *leaf, Relation heap, Relation index, Snapshot snapshot, int nkeys);
extern void cs_leaf_close(CsLeaf *leaf);

/*
 * Search for keys, none of them null.  *tid is that of the entry; its row need not be
 * visible.
 */
extern CsLeafResult cs_leaf_find(CsLeaf *leaf, ScanKey keys, ItemPointer tid);

#endif							/* CS_STORE_LEAF_H */
