/*-------------------------------------------------------------------------
 *
 * departed.c
 *		Rows that have gone, until all is read that may be the same rows under
 *		other keys.
 *
 * A row can be read after the queue was, and have got another key meanwhile: then it
 * has gone, and what it has become is only read with the next part of the queue, when
 * nothing is stored of it any more.
 *
 * If it said true, what it has become is no word, as it is none if both are read together.
 * That matters only for a contact that was last said not to consent, because of another
 * row.  If it said no, a row that says yes takes its place only if it has gone for good.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/settings.h"
#include "delivery/departed.h"

/* Of more rows that said no, it is not known any more of which contacts. */
#define MOST_NO		1000

typedef struct CsDeparted
{
	uint64		barrier;		/* what came until then may be the row; 0: so
								 * may what is yet to be read */
	char		said;			/* CS_CONSENT_YES or ..._NO */
	int			watch;
	char	   *upsert_key;		/* NULL: any */
	char		key[FLEXIBLE_ARRAY_MEMBER];
} CsDeparted;

static void
free_row(CsDeparted *departed)
{
	if (departed->upsert_key)
		pfree(departed->upsert_key);
	pfree(departed);
}

static void
add(List **rows, MemoryContext context, int watch, const char *key, const char *upsert_key, char said)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	CsDeparted *departed = palloc(offsetof(CsDeparted, key) + strlen(key) + 1);

	departed->barrier = 0;
	departed->said = said;
	departed->watch = watch;
	departed->upsert_key = upsert_key ? pstrdup(upsert_key) : NULL;
	strcpy(departed->key, key);
	*rows = lappend(*rows, departed);
	MemoryContextSwitchTo(old);
}

/* Of more than are held in memory, the oldest that said true is forgotten. */
static void
add_yes(List **rows, MemoryContext context, int watch, const char *key, const char *upsert_key)
{
	const CsDeparted *oldest;

	cs_departed_forget(rows, watch, key);
	add(rows, context, watch, key, upsert_key, CS_CONSENT_YES);
	oldest = linitial(*rows);
	if (list_length(*rows) > cs_max_pending)
		cs_departed_forget(rows, oldest->watch, oldest->key);
}

static void
add_no(List **rows, MemoryContext context, int watch, const char *key, const char *upsert_key)
{
	int			n = 0;
	ListCell   *lc;

	foreach(lc, *rows)
	{
		const CsDeparted *departed = lfirst(lc);

		if (departed->said != CS_CONSENT_NO)
			continue;
		if (departed->upsert_key == NULL && departed->barrier == 0)
			return;
		n++;
	}
	add(rows, context, watch, key, n < MOST_NO ? upsert_key : NULL, CS_CONSENT_NO);
}

void
cs_departed_add(List **rows, MemoryContext context, int watch, const char *key, const char *upsert_key, char said)
{
	if (said == CS_CONSENT_NO)
		add_no(rows, context, watch, key, upsert_key);
	else
		add_yes(rows, context, watch, key, upsert_key);
}

void
cs_departed_add_unknown(List **rows, MemoryContext context)
{
	add_no(rows, context, 0, "", NULL);
}

/*
 * Whoever waits for a row that said no has been read, and need not be waited for itself;
 * whoever waits can be one that said true.
 */
void
cs_departed_queue_is_read(List **rows, const CsChangeSet *changes)
{
	uint64		oldest = *rows == NIL ? 0 : cs_change_oldest(changes, true);
	uint64		oldest_at_work = *rows == NIL ? 0 : cs_change_oldest(changes, false);
	ListCell   *lc;

	foreach(lc, *rows)
	{
		CsDeparted *departed = lfirst(lc);

		if (departed->barrier == 0)
			departed->barrier = changes->last_sequence;
		if (departed->barrier < (departed->said == CS_CONSENT_NO ? oldest_at_work : oldest))
		{
			*rows = foreach_delete_current(*rows, lc);
			free_row(departed);
		}
	}
}

bool
cs_departed_find_yes(const List *rows, const char *upsert_key, int *watch, const char **key)
{
	ListCell   *lc;

	foreach(lc, rows)
	{
		const CsDeparted *departed = lfirst(lc);

		if (departed->said != CS_CONSENT_YES || strcmp(departed->upsert_key, upsert_key) != 0)
			continue;
		*watch = departed->watch;
		*key = departed->key;
		return true;
	}
	return false;
}

bool
cs_departed_has_no(const List *rows, const char *upsert_key)
{
	ListCell   *lc;

	foreach(lc, rows)
	{
		const CsDeparted *departed = lfirst(lc);

		if (departed->said == CS_CONSENT_NO &&
			(departed->upsert_key == NULL || strcmp(departed->upsert_key, upsert_key) == 0))
			return true;
	}
	return false;
}

void
cs_departed_forget(List **rows, int watch, const char *key)
{
	ListCell   *lc;

	foreach(lc, *rows)
	{
		CsDeparted *departed = lfirst(lc);

		if (departed->said != CS_CONSENT_YES || departed->watch != watch || strcmp(departed->key, key) != 0)
			continue;
		*rows = foreach_delete_current(*rows, lc);
		free_row(departed);
		return;
	}
}
