/*-------------------------------------------------------------------------
 *
 * departed.c
 *		Rows that said true and have gone, until all is read that may be the
 *		same rows under other keys.
 *
 * A row can be read after the queue was, and have got another key meanwhile: then it
 * has gone, and what it has become is only read with the next part of the queue, when
 * nothing is stored of it any more.  That is no word, as it is none if both are read
 * together.  It matters only for a contact that was last said not to consent, because
 * of another row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/settings.h"
#include "delivery/departed.h"

typedef struct CsDeparted
{
	uint64		barrier;		/* what came until then may be the row; 0: so
								 * may what is yet to be read */
	char	   *upsert_key;
	char		key[FLEXIBLE_ARRAY_MEMBER];
} CsDeparted;

static void
free_row(CsDeparted *departed)
{
	pfree(departed->upsert_key);
	pfree(departed);
}

/* Remove the first row that has the key, or is of the contact; one of them is NULL.
 * Return false if there is none. */
static bool
remove_row(List **rows, const char *key, const char *upsert_key)
{
	ListCell   *lc;

	foreach(lc, *rows)
	{
		CsDeparted *departed = lfirst(lc);

		if ((key && strcmp(departed->key, key) == 0) || (upsert_key && strcmp(departed->upsert_key, upsert_key) == 0))
		{
			*rows = foreach_delete_current(*rows, lc);
			free_row(departed);
			return true;
		}
	}
	return false;
}

/* Of more than are held in memory, the oldest is forgotten. */
void
cs_departed_add(List **rows, MemoryContext context, const char *key, const char *upsert_key)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	CsDeparted *departed = palloc(offsetof(CsDeparted, key) + strlen(key) + 1);

	cs_departed_forget(rows, key);
	departed->barrier = 0;
	departed->upsert_key = pstrdup(upsert_key);
	strcpy(departed->key, key);
	*rows = lappend(*rows, departed);
	MemoryContextSwitchTo(old);
	if (list_length(*rows) > cs_max_pending)
	{
		free_row(linitial(*rows));
		*rows = list_delete_first(*rows);
	}
}

void
cs_departed_queue_is_read(List **rows, const CsChangeSet *changes)
{
	uint64		oldest = *rows == NIL ? 0 : cs_change_oldest(changes);
	ListCell   *lc;

	foreach(lc, *rows)
	{
		CsDeparted *departed = lfirst(lc);

		if (departed->barrier == 0)
			departed->barrier = changes->last_sequence;
		else if (departed->barrier < oldest)
		{
			*rows = foreach_delete_current(*rows, lc);
			free_row(departed);
		}
	}
}

bool
cs_departed_take(List **rows, const char *upsert_key)
{
	return remove_row(rows, NULL, upsert_key);
}

void
cs_departed_forget(List **rows, const char *key)
{
	(void) remove_row(rows, key, NULL);
}
