/*-------------------------------------------------------------------------
 *
 * leaf.c
 *		The leaf page of an index in which a row was looked for last.
 *
 * What is looked up together is often side by side in the index: the rows of an
 * import are, and so are contacts that were created together.  A scan of the index
 * begins at its root each time, which is most of what a look-up costs.  So the leaf
 * page of the last search stays pinned, and the next one begins there: if the key
 * belongs between two entries of that page, it is found, or is not there, after few
 * comparisons.  Otherwise the tree is descended for another page.
 *
 * A leaf page holds all entries from its low key, which it does not state, up to
 * its high key.  So a key belongs to it if an entry of it is lower, and another
 * one, or the high key, is higher.  That is checked each time under a lock, so it does
 * not matter what was inserted, split or deleted since.  What is less simple, such
 * as several entries with one key, is left to a scan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"

#include "base/compat.h"
#include "store/leaf.h"

/* How far from the last place another one is looked for, before the end of the page is. */
#define NEAR	8

void
cs_leaf_open(CsLeaf *leaf, Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
	leaf->heap = heap;
	leaf->index = index;
	leaf->snapshot = snapshot;
	leaf->key = _bt_mkscankey(index, NULL);
	leaf->key->keysz = nkeys;
	leaf->key->anynullkeys = false;
	for (int i = 0; i < nkeys; i++)
		leaf->key->scankeys[i].sk_flags &= ~SK_ISNULL;
	leaf->buffer = InvalidBuffer;
	leaf->near = false;
}

/* Unpin the page. */
static void
leave_page(CsLeaf *leaf)
{
	if (BufferIsValid(leaf->buffer))
		ReleaseBuffer(leaf->buffer);
	leaf->buffer = InvalidBuffer;
}

void
cs_leaf_close(CsLeaf *leaf)
{
	leave_page(leaf);
	pfree(leaf->key);
}

/* Descend to the page that the key belongs to, and lock it; false if the index is empty. */
static bool
descend(CsLeaf *leaf)
{
	leave_page(leaf);
	_bt_freestack(cs_bt_search(leaf->index, leaf->heap, leaf->key, &leaf->buffer, leaf->snapshot));
	return BufferIsValid(leaf->buffer);
}

static int
compare(const CsLeaf *leaf, OffsetNumber offset)
{
	return _bt_compare(leaf->index, leaf->key, BufferGetPage(leaf->buffer), offset);
}

/* The entries of a page among which the place of a key is still to be found. */
typedef struct CsRange
{
	OffsetNumber low;			/* all before this are lower than the key */
	OffsetNumber high;			/* this one, if it is on the page, is not */
} CsRange;

/* Compare the key with one more entry. */
static void
narrow(const CsLeaf *leaf, CsRange *range, OffsetNumber at)
{
	if (compare(leaf, at) > 0)
		range->low = at + 1;
	else
		range->high = at;
}

/* Look near the place where the last search ended, in steps that grow. */
static void
narrow_near(const CsLeaf *leaf, CsRange *range)
{
	OffsetNumber at = Min(Max(leaf->offset, range->low), range->high - 1);

	narrow(leaf, range, at);
	if (range->low > at)
	{
		for (int step = 0; step < NEAR && range->low + step < range->high; step = 2 * step + 1)
		{
			at = range->low + step;
			narrow(leaf, range, at);
			if (range->high == at)
				return;
		}
	}
	else
	{
		for (int step = 1; step <= NEAR && range->low + step <= range->high; step *= 2)
		{
			at = range->high - step;
			narrow(leaf, range, at);
			if (range->low > at)
				return;
		}
	}
}

/* Look at the end of the page that the key may be beyond. */
static void
narrow_by_end(const CsLeaf *leaf, CsRange *range, OffsetNumber first, OffsetNumber last)
{
	if (range->high > last && range->low <= last)
		narrow(leaf, range, last);
	if (range->low == first && range->high > first)
		narrow(leaf, range, first);
}

/* Is it certain that no page to the right has entries with the key? */
static bool
ends_here(const CsLeaf *leaf)
{
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(BufferGetPage(leaf->buffer));

	return P_RIGHTMOST(opaque) || compare(leaf, P_HIKEY) < 0;
}

/* Look at the entries from "offset" on, whose key is the one that was searched for. */
static CsLeafResult
take_entries(const CsLeaf *leaf, OffsetNumber offset, OffsetNumber last, ItemPointer tid)
{
	Page		page = BufferGetPage(leaf->buffer);
	bool		found = false;

	do
	{
		ItemId		item = PageGetItemId(page, offset);
		IndexTuple	entry = (IndexTuple) PageGetItem(page, item);

		if (ItemIdIsDead(item))
			continue;
		if (found || BTreeTupleIsPosting(entry))
			return CS_LEAF_UNSURE;
		found = true;
		*tid = entry->t_tid;
	} while (++offset <= last && compare(leaf, offset) == 0);
	if (offset > last && !ends_here(leaf))
		return CS_LEAF_UNSURE;
	return found ? CS_LEAF_ONE : CS_LEAF_ABSENT;
}

/*
 * Search the locked page.  "descended": it is the one that the key belongs to, and no
 * page to the left has entries with the key.
 */
static CsLeafResult
search_page(CsLeaf *leaf, bool descended, ItemPointer tid)
{
	Page		page = BufferGetPage(leaf->buffer);
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(page);
	OffsetNumber first = P_FIRSTDATAKEY(opaque);
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	CsRange		range = {first, last + 1};

	if (P_IGNORE(opaque) || !P_ISLEAF(opaque) || last < first)
		return CS_LEAF_UNSURE;
	if (!descended)
	{
		if (leaf->near)
			narrow_near(leaf, &range);
		narrow_by_end(leaf, &range, first, last);
		if ((range.high == first && !P_LEFTMOST(opaque)) || (range.low > last && !ends_here(leaf)))
			return CS_LEAF_UNSURE;
	}
	while (range.low < range.high)
		narrow(leaf, &range, range.low + (range.high - range.low) / 2);
	leaf->offset = range.low;
	if (range.low > last)
		return ends_here(leaf) ? CS_LEAF_ABSENT : CS_LEAF_UNSURE;
	if (compare(leaf, range.low) < 0)
		return CS_LEAF_ABSENT;
	return take_entries(leaf, range.low, last, tid);
}

CsLeafResult
cs_leaf_find(CsLeaf *leaf, ScanKey keys, ItemPointer tid)
{
	CsLeafResult result = CS_LEAF_UNSURE;

	/* a scan takes the locks that serializable transactions need */
	if (IsolationIsSerializable())
		return CS_LEAF_UNSURE;
	for (int i = 0; i < leaf->key->keysz; i++)
	{
		if (keys[i].sk_strategy != BTEqualStrategyNumber)
			return CS_LEAF_UNSURE;
		leaf->key->scankeys[i].sk_argument = keys[i].sk_argument;
	}
	if (BufferIsValid(leaf->buffer))
	{
		LockBuffer(leaf->buffer, BT_READ);
		result = search_page(leaf, false, tid);
		LockBuffer(leaf->buffer, BUFFER_LOCK_UNLOCK);
	}
	leaf->near = result != CS_LEAF_UNSURE;
	if (leaf->near)
		return result;
	if (!descend(leaf))
		return CS_LEAF_ABSENT;
	result = search_page(leaf, true, tid);
	LockBuffer(leaf->buffer, BUFFER_LOCK_UNLOCK);
	return result;
}
