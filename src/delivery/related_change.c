/*-------------------------------------------------------------------------
 *
 * related_change.c
 *		Changes of related tables whose rows of the source are yet to be found.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "delivery/related_change.h"

void
cs_related_change_add(List **changes, MemoryContext context, const CsQueueRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	CsRelatedChange *change;
	ListCell   *lc;

	foreach(lc, *changes)
	{
		change = lfirst(lc);
		/* read twice */
		if (change->position.xact == row->position.xact && change->position.id == row->position.id)
		{
			MemoryContextSwitchTo(old);
			return;
		}
	}
	change = palloc0(sizeof(CsRelatedChange));
	change->position = row->position;
	change->queued_at = row->queued_at;
	change->related = row->related;
	change->nkeys = row->nkeys;
	change->keys = palloc(Max(row->nkeys, 1) * sizeof(char *));
	for (int i = 0; i < row->nkeys; i++)
		change->keys[i] = pstrdup(row->keys[i]);
	change->cursor = row->cursor ? pstrdup(row->cursor) : NULL;
	/* what was begun is large */
	change->tried = row->cursor != NULL;
	*changes = lappend(*changes, change);
	MemoryContextSwitchTo(old);
}

static void
free_texts(int n, char **texts)
{
	for (int i = 0; i < n; i++)
		pfree(texts[i]);
	if (texts)
		pfree(texts);
}

void
cs_related_change_remove(List **changes, CsRelatedChange *change)
{
	*changes = list_delete_ptr(*changes, change);
	free_texts(change->nkeys, change->keys);
	free_texts(change->nahead, change->ahead);
	if (change->cursor)
		pfree(change->cursor);
	pfree(change);
}

void
cs_related_change_advance(CsRelatedChange *change, MemoryContext context, CsQueuePosition position,
						  int n, char **found, int nfound, bool all)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	char	  **ahead = palloc(Max(nfound - n, 1) * sizeof(char *));
	char	   *cursor = pstrdup(found[n - 1]);

	for (int i = n; i < nfound; i++)
		ahead[i - n] = pstrdup(found[i]);
	free_texts(change->nahead, change->ahead);
	if (change->cursor)
		pfree(change->cursor);
	change->position = position;
	change->cursor = cursor;
	change->ahead = ahead;
	change->nahead = nfound - n;
	change->all_ahead = all;
	change->not_before = change->pause = 0;
	MemoryContextSwitchTo(old);
}

int
cs_related_change_weight(const List *changes)
{
	int			weight = 0;
	ListCell   *lc;

	foreach(lc, changes)
		weight += Max(((CsRelatedChange *) lfirst(lc))->nkeys, 1);
	return weight;
}

TimestampTz
cs_related_change_oldest(const List *changes)
{
	TimestampTz oldest = PG_INT64_MAX;
	ListCell   *lc;

	foreach(lc, changes)
		oldest = Min(oldest, ((CsRelatedChange *) lfirst(lc))->queued_at);
	return oldest;
}
