/*-------------------------------------------------------------------------
 *
 * dirty_set.c
 *		The keys of watched and related rows that a transaction changes.
 *
 * They are collected in memory.  Before the transaction commits or is prepared
 * they are written to contactsync.queue, many keys to a row.
 *
 * What a rolled back subtransaction changed must not be sent, so the set is a list
 * in the order of arrival, and a stack remembers where each subtransaction began.  A
 * set that has become large is written early: the keys of the current subtransaction
 * as they come, and, since each of many subtransactions may have few, also those of its
 * parent when it is about to commit.  Until it has, they are kept in memory as well.
 * So are those of savepoints within one another, for each of which the server itself
 * needs far more memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/array.h"
#include "utils/memutils.h"

#include "base/wakeup.h"
#include "capture/dirty_set.h"
#include "store/queue.h"
#include "store/watch_store.h"

/* When a subtransaction has so many keys in memory, they are written to the queue
 * early. */
#define MAX_KEYS	16384

/* So many are found by looking at each of them: most transactions change a row or two, and
 * a hash table costs more than these. */
#define FEW_KEYS	16

typedef struct CsDirtyKey
{
	int			endpoint;
	int			watch;
	int			related;		/* table that the row is of; 0: the source */
	uint32		hash;
	bool		written;		/* to the queue */
	text	   *key;
} CsDirtyKey;

/* An index into dirty.keys stands for the key there. */
typedef struct CsDirtySlot
{
	int			index;
	uint32		hash;
	char		status;
} CsDirtySlot;

static inline bool dirty_equal(int a, int b);
static inline uint32 dirty_hash_of(int index);

#define SH_PREFIX dirtyset
#define SH_ELEMENT_TYPE CsDirtySlot
#define SH_KEY_TYPE int
#define SH_KEY index
#define SH_HASH_KEY(tb, key) dirty_hash_of(key)
#define SH_EQUAL(tb, a, b) dirty_equal(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* A subtransaction that added keys, and where these begin. */
typedef struct CsLevel
{
	int			nest_level;
	int			start;
} CsLevel;

/* The last subtransaction that had a trigger's whole table looked at. */
typedef struct CsMarker
{
	Oid			tgoid;
	SubTransactionId subid;
} CsMarker;

/* All that is captured of this transaction; its memory goes with that. */
static struct
{
	MemoryContext context;		/* NULL: nothing was captured */
	MemoryContext key_context;	/* the keys themselves */
	dirtyset_hash *set;			/* of all keys; NULL: there were never more
								 * than FEW_KEYS */
	int			nkeys;
	int			max_keys;
	CsDirtyKey *keys;
	int			nlevels;
	int			max_levels;
	CsLevel    *levels;
	List	   *markers;		/* of CsMarker */
	int64		rows_written;	/* numbers the queue rows of the transaction */
	int			written_from;	/* keys from here on were written by a
								 * subtransaction that is about to commit; -1:
								 * none */
}			dirty;

static inline uint32
dirty_hash_of(int index)
{
	return dirty.keys[index].hash;
}

static inline bool
dirty_equal(int a, int b)
{
	CsDirtyKey *x = &dirty.keys[a];
	CsDirtyKey *y = &dirty.keys[b];

	return x->watch == y->watch && x->endpoint == y->endpoint && x->related == y->related &&
		VARSIZE(x->key) == VARSIZE(y->key) &&
		memcmp(VARDATA(x->key), VARDATA(y->key), VARSIZE(x->key) - VARHDRSZ) == 0;
}

/*
 * Adding
 */

static void
begin_set(void)
{
	MemoryContext old;

	dirty.context = AllocSetContextCreate(TopTransactionContext, "contactsync changes",
										  ALLOCSET_START_SMALL_SIZES);
	dirty.key_context = GenerationContextCreate(dirty.context, "contactsync keys",
												ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(dirty.context);
	dirty.set = NULL;
	dirty.nkeys = 0;
	dirty.max_keys = FEW_KEYS;
	dirty.keys = palloc(dirty.max_keys * sizeof(CsDirtyKey));
	dirty.nlevels = 0;
	dirty.max_levels = 8;
	dirty.levels = palloc(dirty.max_levels * sizeof(CsLevel));
	dirty.markers = NIL;
	dirty.rows_written = 0;
	dirty.written_from = -1;
	MemoryContextSwitchTo(old);
}

/* Have keys that are added from now on belong to the current subtransaction. */
static void
enter_level(void)
{
	int			nest_level = GetCurrentTransactionNestLevel();

	if (dirty.nlevels > 0 && dirty.levels[dirty.nlevels - 1].nest_level >= nest_level)
		return;
	cs_queue_prepare_write();
	if (dirty.nlevels == dirty.max_levels)
	{
		dirty.max_levels *= 2;
		dirty.levels = repalloc(dirty.levels, dirty.max_levels * sizeof(CsLevel));
	}
	dirty.levels[dirty.nlevels].nest_level = nest_level;
	dirty.levels[dirty.nlevels++].start = dirty.nkeys;
}

/* Remove the keys from "start" on. */
static void
drop_keys(int start)
{
	if (start == 0)
	{
		if (dirty.set)
			dirtyset_reset(dirty.set);
		MemoryContextReset(dirty.key_context);
	}
	else
		for (int i = start; i < dirty.nkeys; i++)
		{
			if (dirty.set)
				dirtyset_delete(dirty.set, i);
			pfree(dirty.keys[i].key);
		}
	dirty.nkeys = start;
}

/* Have keys found by their hashes from now on. */
static void
create_hash_table(void)
{
	bool		found;

	dirty.set = dirtyset_create(dirty.context, 256, NULL);
	for (int i = 0; i < dirty.nkeys; i++)
		dirtyset_insert_hash(dirty.set, i, dirty.keys[i].hash, &found);
}

/* Is the key that follows the last one in the set already?  If not, it is now found, too. */
static bool
is_known(void)
{
	const uint32 hash = dirty.keys[dirty.nkeys].hash;
	bool		found = false;

	if (dirty.set == NULL && dirty.nkeys >= FEW_KEYS)
		create_hash_table();
	if (dirty.set)
		dirtyset_insert_hash(dirty.set, dirty.nkeys, hash, &found);
	else
		for (int i = 0; i < dirty.nkeys && !found; i++)
			found = dirty.keys[i].hash == hash && dirty_equal(i, dirty.nkeys);
	return found;
}

static bool
same_table(const CsDirtyKey *a, const CsDirtyKey *b)
{
	return a->watch == b->watch && a->endpoint == b->endpoint && a->related == b->related;
}

/* Write those of the keys from "start" on that are of the same lane and table as the
 * first, mark them as written by their watch, and return how many they are. */
static int
write_lane(CsQueueWriter *writer, int start, Datum *elements)
{
	const CsDirtyKey first = dirty.keys[start];
	CsQueueEntry entry = {.endpoint = first.endpoint,.watch = first.watch,.related = first.related};
	bool		wanted = !cs_watch_store_is_dropped(first.watch);
	int			written = 0;
	int			n = 0;
	Size		size = 0;

	for (int i = start; i <= dirty.nkeys; i++)
	{
		CsDirtyKey *key = i < dirty.nkeys ? &dirty.keys[i] : NULL;
		Size		key_size;

		if (key && (key->written || !same_table(key, &first)))
			continue;
		key_size = key ? INTALIGN(VARSIZE(key->key)) : 0;
		if (n > 0 && (key == NULL || size + key_size > CS_QUEUE_ROW_BYTES))
		{
			entry.n = n;
			entry.keys = construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT);
			if (wanted)
			{
				cs_queue_write_row(writer, &entry);
				cs_wakeup_for_endpoint_at_commit(entry.endpoint);
			}
			pfree(entry.keys);
			n = 0;
			size = 0;
		}
		if (key == NULL)
			break;
		elements[n++] = PointerGetDatum(key->key);
		size += key_size;
		key->written = true;
		written++;
	}
	return written;
}

/* Write the keys from "start" on to the queue, in the current (sub)transaction, but
 * keep them in the set. */
static void
write_and_keep(int start)
{
	MemoryContext old;
	CsQueueWriter *writer;
	Datum	   *elements;
	int			left = dirty.nkeys - start;

	if (left == 0)
		return;
	writer = cs_queue_begin_write(&dirty.rows_written);
	if (writer == NULL)
		return;
	old = MemoryContextSwitchTo(dirty.context);
	elements = palloc(sizeof(Datum) * left);
	for (int i = start; left > 0; i++)
		if (!dirty.keys[i].written)
			left -= write_lane(writer, i, elements);
	pfree(elements);
	MemoryContextSwitchTo(old);
	cs_queue_end_write(writer);
}

/* The same, and remove them from the set. */
static void
write_keys(int start)
{
	write_and_keep(start);
	drop_keys(start);
}

/* Add the key of a row.  When there are many, write them to the queue early. */
void
cs_dirty_set_add(int endpoint, int watch, int related, int ncolumns, CsKeyColumn *columns,
				 TupleTableSlot *slot)
{
	CsDirtyKey *key;

	if (dirty.context == NULL)
		begin_set();
	enter_level();
	if (dirty.nkeys == dirty.max_keys)
	{
		dirty.max_keys *= 2;
		dirty.keys = repalloc_huge(dirty.keys, dirty.max_keys * sizeof(CsDirtyKey));
	}

	key = &dirty.keys[dirty.nkeys];
	key->endpoint = endpoint;
	key->watch = watch;
	key->related = related;
	key->written = false;
	key->key = cs_row_key_make(dirty.key_context, ncolumns, columns, slot);
	if (key->key == NULL)
		return;
	key->hash = hash_bytes((unsigned char *) VARDATA(key->key),
						   VARSIZE(key->key) - VARHDRSZ) ^ watch ^ (related << 16);
	if (is_known())
	{
		pfree(key->key);
		return;
	}
	dirty.nkeys++;
	if (dirty.nkeys - dirty.levels[dirty.nlevels - 1].start >= MAX_KEYS)
		write_keys(dirty.levels[dirty.nlevels - 1].start);
}

static CsMarker *
find_marker(Oid tgoid)
{
	MemoryContext old;
	CsMarker   *marker;
	ListCell   *lc;

	foreach(lc, dirty.markers)
	{
		marker = lfirst(lc);
		if (marker->tgoid == tgoid)
			return marker;
	}
	old = MemoryContextSwitchTo(dirty.context);
	marker = palloc(sizeof(CsMarker));
	marker->tgoid = tgoid;
	marker->subid = InvalidSubTransactionId;
	dirty.markers = lappend(dirty.markers, marker);
	MemoryContextSwitchTo(old);
	return marker;
}

/*
 * Queue a marker that has the worker look at every contact that is stored of the
 * watch, or at every row that refers to the related table.  One for a trigger is
 * enough, but a subtransaction may be rolled back.
 */
void
cs_dirty_set_mark(int endpoint, int watch, int related, Oid tgoid)
{
	CsQueueEntry entry = {.endpoint = endpoint,.watch = watch,.related = related};
	CsMarker   *marker;
	CsQueueWriter *writer;

	if (dirty.context == NULL)
		begin_set();
	marker = find_marker(tgoid);
	if (marker->subid == GetCurrentSubTransactionId())
		return;
	marker->subid = GetCurrentSubTransactionId();
	writer = cs_queue_begin_write(&dirty.rows_written);
	if (writer == NULL)
		return;
	cs_queue_write_row(writer, &entry);
	cs_queue_end_write(writer);
	cs_wakeup_for_endpoint_at_commit(endpoint);
}

/*
 * Ends of transactions
 */

static void
at_xact_end(XactEvent event, void *arg)
{
	if (dirty.context == NULL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			write_and_keep(0);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			dirty.context = NULL;	/* goes with TopTransactionContext */
			break;
		default:
			break;
	}
}

/*
 * A subtransaction is about to commit: write its keys and those of its parent if these
 * are many.
 */
static void
before_subcommit(const CsLevel *level, int nest_level)
{
	int			start = level->start;

	if (dirty.nlevels > 1 && level[-1].nest_level == nest_level - 1)
		start = level[-1].start;
	if (dirty.nkeys - start < MAX_KEYS)
		return;
	dirty.written_from = start;
	write_and_keep(start);
}

/* It has committed, or failed to. */
static void
after_subcommit(bool committed)
{
	int			start = dirty.written_from;

	if (start < 0)
		return;
	dirty.written_from = -1;
	if (committed)
		drop_keys(start);
	else
		for (int i = start; i < dirty.nkeys; i++)
			dirty.keys[i].written = false;
}

static void
at_subxact_end(SubXactEvent event, SubTransactionId mySubid,
			   SubTransactionId parentSubid, void *arg)
{
	CsLevel    *level;
	int			nest_level = GetCurrentTransactionNestLevel();

	if (dirty.context == NULL || dirty.nlevels == 0)
		return;
	level = &dirty.levels[dirty.nlevels - 1];
	if (level->nest_level < nest_level)
		return;
	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
		before_subcommit(level, nest_level);
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		after_subcommit(false);
		drop_keys(level->start);
		dirty.nlevels--;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		after_subcommit(true);
		if (dirty.nlevels > 1 && level[-1].nest_level == nest_level - 1)
			dirty.nlevels--;
		else
			level->nest_level--;
	}
}

/* Register for the ends of transactions, once per session. */
void
cs_dirty_set_init(void)
{
	RegisterXactCallback(at_xact_end, NULL);
	RegisterSubXactCallback(at_subxact_end, NULL);
}
