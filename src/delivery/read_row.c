/*-------------------------------------------------------------------------
 *
 * read_row.c
 *		The rows of the queue that have changes in memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "delivery/read_row.h"

typedef struct CsReadRowSlot
{
	CsQueuePosition position;
	CsReadRow  *row;
	char		status;
} CsReadRowSlot;

#define SH_PREFIX rowset
#define SH_ELEMENT_TYPE CsReadRowSlot
#define SH_KEY_TYPE CsQueuePosition
#define SH_KEY position
#define SH_HASH_KEY(tb, key) \
	hash_combine(murmurhash32((uint32) (key).xact), murmurhash32((uint32) (key).id))
#define SH_EQUAL(tb, a, b) ((a).xact == (b).xact && (a).id == (b).id)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct CsReadRows
{
	MemoryContext context;
	rowset_hash *by_position;
};

CsReadRows *
cs_read_row_create(MemoryContext context)
{
	CsReadRows *rows = MemoryContextAlloc(context, sizeof(CsReadRows));

	rows->context = context;
	rows->by_position = rowset_create(context, 256, NULL);
	return rows;
}

int
cs_read_row_count(const CsReadRows *rows)
{
	return (int) rows->by_position->members;
}

/* Return the row at that position, added without changes unless it was found. */
CsReadRow *
cs_read_row_add(CsReadRows *rows, CsQueuePosition position, bool *found)
{
	CsReadRowSlot *slot = rowset_insert(rows->by_position, position, found);

	if (!*found)
	{
		slot->row = MemoryContextAllocZero(rows->context, sizeof(CsReadRow));
		slot->row->position = position;
	}
	return slot->row;
}

void
cs_read_row_free(CsReadRows *rows, CsReadRow *row)
{
	rowset_delete(rows->by_position, row->position);
	pfree(row);
}
