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
	int			nidle;			/* of these, have no change in memory */
};

CsReadRows *
cs_read_row_create(MemoryContext context)
{
	CsReadRows *rows = MemoryContextAllocZero(context, sizeof(CsReadRows));

	rows->context = context;
	rows->by_position = rowset_create(context, 16, NULL);
	return rows;
}

/* How many rows have changes in memory. */
int
cs_read_row_count(const CsReadRows *rows)
{
	return (int) rows->by_position->members - rows->nidle;
}

/* Is nothing kept of any row? */
bool
cs_read_row_is_empty(const CsReadRows *rows)
{
	return rows->by_position->members == 0;
}

/* Return the row at that position, added without changes unless it was found. */
CsReadRow *
cs_read_row_add(CsReadRows *rows, CsQueuePosition position, bool *found)
{
	CsReadRowSlot *slot = rowset_lookup(rows->by_position, position);
	CsReadRow  *row;
	bool		inserted;

	*found = slot != NULL;
	if (slot)
	{
		if (slot->row->idle)
			rows->nidle--;
		slot->row->idle = false;
		return slot->row;
	}
	row = MemoryContextAllocZero(rows->context, sizeof(CsReadRow));
	row->position = position;
	rowset_insert(rows->by_position, position, &inserted)->row = row;
	return row;
}

static uint32
hash_of(const char *key)
{
	return hash_bytes((const unsigned char *) key, strlen(key));
}

/* The change of that key, which the row has, is set aside. */
void
cs_read_row_set_aside(CsReadRows *rows, CsReadRow *row, const char *key)
{
	if (row->has_others)
	{
		if (row->aside == NULL)
			row->aside = MemoryContextAlloc(rows->context, sizeof(uint32));
		else
			row->aside = repalloc(row->aside, (row->naside + 1) * sizeof(uint32));
		row->aside[row->naside++] = hash_of(key);
	}
	row->kept = true;
}

/* Was the change of that key set aside?  By chance it is true of one that was not. */
bool
cs_read_row_is_aside(const CsReadRow *row, const char *key)
{
	uint32		hash = hash_of(key);

	if (!row->has_others)
		return true;
	for (int i = 0; i < row->naside; i++)
		if (row->aside[i] == hash)
			return true;
	return false;
}

/* What was set aside of the row is in memory again. */
void
cs_read_row_take_aside(CsReadRows *rows, CsReadRow *row)
{
	row->kept = false;
	row->naside = 0;
	if (row->aside)
		pfree(row->aside);
	row->aside = NULL;
}

/* No change of the row is in memory.  Return false if some were set aside. */
bool
cs_read_row_end(CsReadRows *rows, CsReadRow *row)
{
	bool		kept = row->kept;

	if (kept && row->has_others)
	{
		row->idle = true;
		rows->nidle++;
		return false;
	}
	rowset_delete(rows->by_position, row->position);
	pfree(row);
	return !kept;
}
