/*-------------------------------------------------------------------------
 *
 * change_add.c
 *		Adding what was queued to the changes of a lane, and counting it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/settings.h"
#include "base/text.h"
#include "delivery/change_add.h"

static List *
append_row(CsChangeSet *set, List *rows, CsReadRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(set->context);

	rows = lappend(rows, row);
	MemoryContextSwitchTo(old);
	return rows;
}

/*
 * Make the key PENDING on account of a queue row, now or when it is not ACTIVE
 * any more.  "forced": send it whatever is stored of it.
 */
static CsChange *
add_key(CsChangeSet *set, const char *key, CsReadRow *row, bool forced, uint16 origin,
		TimestampTz queued_at)
{
	bool		found;
	CsChange   *change = cs_change_make(set, key, &found);

	if (change->state == CS_CHANGE_ACTIVE)
	{
		if (change->next_rows == NIL || cs_change_is_renewed(change->next_origins, origin))
			change->next_latest_sequence = ++set->last_sequence;
		change->next_rows = append_row(set, change->next_rows, row);
		change->next_unconfirmed |= forced;
		change->next_origins |= origin;
		change->next_forgotten = false;
	}
	else
	{
		change->rows = append_row(set, change->rows, row);
		if (!found)
		{
			change->latest_sequence = change->sequence;
			row->unread++;
		}
		else if (cs_change_is_renewed(change->origins, origin))
			change->latest_sequence = ++set->last_sequence;
		change->origins |= origin;
		change->queue_id = cs_queue_position_id(&row->position);
		change->unconfirmed |= forced;
		change->forgotten = false;
	}
	if (change->queued_at == 0)
		change->queued_at = queued_at;
	/* what was found of a related change can be older than what came before */
	if (cs_change_is_renewed(change->origins, origin))
		change->last_queued_at = Max(change->last_queued_at, queued_at);
	row->unfinished++;
	return change;
}

static void
set_direct(CsChange *change, Jsonb *contact)
{
	MemoryContext old;

	if (change->direct)
		return;
	old = MemoryContextSwitchTo(change->set->context);
	change->direct = (Jsonb *) PG_DETOAST_DATUM_COPY(PointerGetDatum(contact));
	MemoryContextSwitchTo(old);
}

/* Was the key counted lately?  From now on it was. */
static bool
is_recent(CsChangeSet *set, const char *key)
{
	HASHCTL		ctl = {.keysize = sizeof(uint64),.entrysize = sizeof(uint64),.hcxt = MemoryContextGetParent(set->context)};
	uint64		hash = cs_text_hash(key, 0);
	bool		found;

	if (set->recent == NULL)
		set->recent = hash_create("contactsync recent keys", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	/* no guard allows more */
	if (hash_get_num_entries(set->recent) >= cs_max_pending)
		return hash_search(set->recent, &hash, HASH_FIND, NULL) != NULL;
	(void) hash_search(set->recent, &hash, HASH_ENTER, &found);
	return found;
}

void
cs_change_forget_recent(CsChangeSet *set)
{
	if (set->recent)
		hash_destroy(set->recent);
	set->recent = NULL;
}

static void
count_change(CsChange *change)
{
	if (change->is_counted)
		return;
	change->is_counted = true;
	change->set->counted++;
	if (!is_recent(change->set, change->key))
		change->set->newly_counted++;
}

static void
recount(CsChange *change, void *arg)
{
	uint64		released = *(uint64 *) arg;
	bool		counted = false;
	ListCell   *lc;

	foreach(lc, change->rows)
		counted |= ((CsReadRow *) lfirst(lc))->position.xact >= released;
	foreach(lc, change->next_rows)
		counted |= ((CsReadRow *) lfirst(lc))->position.xact >= released;
	if (counted || !change->is_counted)
		return;
	change->is_counted = false;
	change->set->counted--;
}

/* Do not count what transactions before that one queued. */
void
cs_change_recount(CsChangeSet *set, uint64 released)
{
	cs_change_visit(set, recount, &released);
}

void
cs_change_note_no(CsChange *change, uint64 xact, const char *upsert_key)
{
	change->set->nrefusing += (xact != 0) - (change->no_xact != 0);
	change->no_xact = xact;
	change->no_contact = xact != 0 ? cs_text_hash(upsert_key, 0) : 0;
}

typedef struct FindNo
{
	uint64		contact;
	const CsChange *but;
	bool		found;
} FindNo;

static void
find_no(CsChange *change, void *arg)
{
	FindNo	   *find = arg;

	find->found |= change != find->but && change->no_xact != 0 && change->no_contact == find->contact;
}

bool
cs_change_says_no(CsChangeSet *set, const char *upsert_key, const CsChange *but)
{
	FindNo		find = {.contact = cs_text_hash(upsert_key, 0),.but = but};

	if (set->nrefusing > 0)
		cs_change_visit(set, find_no, &find);
	return find.found;
}

static void
find_unread(CsChange *change, void *arg)
{
	TimestampTz *oldest = arg;

	if (change->next_rows != NIL || change->read_sequence != change->latest_sequence)
		*oldest = Min(*oldest, change->queued_at);
}

TimestampTz
cs_change_oldest_unread(CsChangeSet *set)
{
	TimestampTz oldest = PG_INT64_MAX;

	cs_change_visit(set, find_unread, &oldest);
	return oldest;
}

/* Were all queue rows of the change written before that transaction? */
bool
cs_change_is_before(const CsChange *change, uint64 xact)
{
	ListCell   *lc;

	foreach(lc, change->rows)
		if (((CsReadRow *) lfirst(lc))->position.xact >= xact)
		return false;
	return true;
}

/* The transaction that queued the change last; 0: none did. */
uint64
cs_change_xact(const CsChange *change)
{
	return change->rows == NIL ? 0 : ((CsReadRow *) llast(change->rows))->position.xact;
}

/*
 * The row has gone, and nothing is stored of it: if it was queued before that transaction,
 * it may have had its outcome before a crash.
 */
void
cs_change_note_gone(const CsChange *change, uint64 since)
{
	ListCell   *lc;

	foreach(lc, change->rows)
	{
		CsReadRow  *row = lfirst(lc);

		row->may_be_done |= row->has_others && row->position.xact < since;
	}
}

/*
 * May a row that was queued together with the change have had its outcome before a crash,
 * which was that it has gone?  Nothing tells then what it said.
 */
bool
cs_change_may_be_partly_done(const CsChange *change)
{
	ListCell   *lc;

	foreach(lc, change->rows)
		if (((CsReadRow *) lfirst(lc))->may_be_done)
		return true;
	return false;
}

/* Are rows that were queued together with the change yet to be read? */
bool
cs_change_is_ahead(const CsChange *change)
{
	ListCell   *lc;

	foreach(lc, change->rows)
		if (((CsReadRow *) lfirst(lc))->unread > 0)
		return true;
	return false;
}

/* Does one of the rows of the queue stem from that transaction? */
static bool
has_xact(const List *rows, uint64 xact)
{
	ListCell   *lc;

	foreach(lc, rows)
		if (((CsReadRow *) lfirst(lc))->position.xact == xact)
		return true;
	return false;
}

/* Did the transaction queue the change? */
bool
cs_change_is_of(const CsChange *change, uint64 xact)
{
	return has_xact(change->rows, xact);
}

/* Did a transaction queue both? */
bool
cs_change_is_of_same(const CsChange *change, const CsChange *other)
{
	ListCell   *lc;

	foreach(lc, change->rows)
		if (has_xact(other->rows, ((CsReadRow *) lfirst(lc))->position.xact))
		return true;
	return false;
}

/* ... and has the row of the other one not been read since? */
bool
cs_change_is_unread_of_same(const CsChange *change, const CsChange *other)
{
	ListCell   *lc;

	if (other->read_sequence != other->latest_sequence && cs_change_is_of_same(change, other))
		return true;
	foreach(lc, change->rows)
		if (has_xact(other->next_rows, ((CsReadRow *) lfirst(lc))->position.xact))
		return true;
	return false;
}

static uint16
origin_of(const CsQueueRow *row)
{
	switch (row->origin)
	{
		case CS_QUEUE_SCAN:
			return CS_ORIGIN_SCAN;
		case CS_QUEUE_TOUCH:
			return CS_ORIGIN_SCAN | CS_ORIGIN_TOUCH;
		case CS_QUEUE_RETRY:
			return CS_ORIGIN_LIVE | CS_ORIGIN_RETRY;
		case CS_QUEUE_SPEAKER:
			return CS_ORIGIN_SCAN | CS_ORIGIN_SPEAKER;
		case CS_QUEUE_CLAIMS:
			return CS_ORIGIN_SCAN | CS_ORIGIN_CLAIMS;
		default:
			return CS_ORIGIN_LIVE;
	}
}

/*
 * Add the keys of a queue row, or its contact.  "unconfirmed": they may have
 * been sent before; "counted": the bulk guard counts them.
 */
void
cs_change_add_row(CsChangeSet *set, const CsQueueRow *row, bool unconfirmed, bool counted)
{
	int			n = row->nkeys == 0 && row->contact ? 1 : row->nkeys;
	bool		found;
	CsReadRow  *read = cs_read_row_add(set->rows, row->position, &found);

	if (found && !read->kept)
		return;					/* read twice */
	read->has_others = n > 1;
	for (int i = 0; i < n; i++)
	{
		CsChange   *change;

		if (found && row->nkeys > 0 && !cs_read_row_is_aside(read, row->keys[i]))
			continue;
		if (row->nkeys > 0)
			change = add_key(set, row->keys[i], read, row->contact != NULL, origin_of(row),
							 row->queued_at);
		else
		{
			change = add_key(set, psprintf(INT64_FORMAT, row->position.id), read, false,
							 CS_ORIGIN_LIVE | (origin_of(row) & CS_ORIGIN_RETRY), row->queued_at);
			set_direct(change, row->contact);
		}
		change->unconfirmed |= unconfirmed;
		if (counted)
			count_change(change);
	}
	cs_read_row_take_aside(set->rows, read);
	if (read->unfinished == 0)
		(void) cs_read_row_end(set->rows, read);
}

/*
 * Add a contact that is to be removed, unless it is there.  It has no queue row:
 * contactsync.departure has it until it is removed.
 */
void
cs_change_add_removal(CsChangeSet *set, const char *upsert_key, int watch, const char *key,
					  TimestampTz departed_at, char action, bool erases)
{
	bool		found;
	CsChange   *change = cs_change_make(set, upsert_key, &found);

	if (found)
		return;
	change->queue_id = (uint64) departed_at;
	change->removal_watch = watch;
	change->removal_key = MemoryContextStrdup(set->context, key);
	change->removal_action = action;
	change->removal_erases = erases;
}
