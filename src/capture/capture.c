/*-------------------------------------------------------------------------
 *
 * capture.c
 *		The trigger on watched tables and its per-transaction set.
 *
 * This runs in the application's transactions, so it does as little as possible.
 * The row trigger compares the columns that the watch uses, and adds the key of
 * the row to a set in memory.  Before the transaction commits or is prepared, the
 * set is written to contactsync.queue, many keys to a row.  The application needs
 * no privilege on any table of ours, nothing is read, and the only errors are
 * those of any write: the configuration is in the arguments of the trigger.
 *
 *		contactsync.capture(endpoint, watch, number of key columns,
 *							key columns ..., used columns ...)
 *
 * Without used columns, all are.  Columns are named, because partitions number
 * them differently.
 *
 * What a rolled back subtransaction changed must not be sent, so the set is a list
 * in the order of arrival, and a stack remembers where each subtransaction began.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/shmem.h"
#include "capture/capture.h"
#include "store/queue.h"
#include "store/row_key.h"
#include "store/watch.h"
#include "store/watch_store.h"

/* When a subtransaction has so many keys in memory, they are written to the queue
 * early. */
#define MAX_KEYS	16384

/* A trigger, with what its arguments mean for its relation. */
typedef struct CsTrigger
{
	Oid			tgoid;			/* hash key */
	Oid			relid;
	bool		valid;
	int			endpoint;
	int			watch;
	int			nkeys;			/* 0: a key column is missing */
	CsKeyColumn *keys;
	int			nused;			/* 0: all */
	AttrNumber *used;
	MemoryContext context;
} CsTrigger;

typedef struct CsDirtyKey
{
	int			endpoint;
	int			watch;
	uint32		hash;
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
	dirtyset_hash *set;
	int			nkeys;
	int			max_keys;
	CsDirtyKey *keys;
	int			nlevels;
	int			max_levels;
	CsLevel    *levels;
	List	   *markers;		/* of CsMarker */
	int64		rows_written;	/* numbers the queue rows of the transaction */
}			dirty;

/* The triggers that this session has run. */
static struct
{
	HTAB	   *by_oid;			/* of CsTrigger */
	CsTrigger  *last;			/* the one that ran last, or NULL */
}			cache;

CS_FUNCTION(contactsync_capture);

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

	return x->watch == y->watch && x->endpoint == y->endpoint &&
		VARSIZE(x->key) == VARSIZE(y->key) &&
		memcmp(VARDATA(x->key), VARDATA(y->key), VARSIZE(x->key) - VARHDRSZ) == 0;
}

/*
 * The cache of triggers
 */

static void
forget_triggers(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS seq;
	CsTrigger  *entry;

	hash_seq_init(&seq, cache.by_oid);
	while ((entry = hash_seq_search(&seq)) != NULL)
		if (!OidIsValid(relid) || entry->relid == relid)
			entry->valid = false;
}

static void
create_trigger_cache(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(CsTrigger)};

	cache.by_oid = hash_create("contactsync triggers", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(forget_triggers, (Datum) 0);
}

/* Fill an entry from the trigger's arguments. */
static void
read_trigger(CsTrigger *entry, Relation rel, const Trigger *trigger)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "contactsync trigger",
												  ALLOCSET_SMALL_SIZES);
	int			nkeys;

	if (trigger->tgnargs < 4)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" was not made by contactsync_watch()", trigger->tgname)));
	nkeys = pg_strtoint32(trigger->tgargs[2]);
	if (nkeys < 1 || nkeys > trigger->tgnargs - 3)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" was not made by contactsync_watch()", trigger->tgname)));

	entry->relid = RelationGetRelid(rel);
	entry->endpoint = pg_strtoint32(trigger->tgargs[0]);
	entry->watch = pg_strtoint32(trigger->tgargs[1]);
	entry->context = context;
	entry->keys = MemoryContextAllocZero(context, nkeys * sizeof(CsKeyColumn));
	entry->nkeys = nkeys;
	for (int i = 0; i < nkeys; i++)
		if (!cs_row_key_read_column(rel, trigger->tgargs[3 + i], &entry->keys[i], context))
			entry->nkeys = 0;

	entry->nused = trigger->tgnargs - 3 - nkeys;
	entry->used = MemoryContextAlloc(context, (entry->nused + 1) * sizeof(AttrNumber));
	for (int i = 0; i < trigger->tgnargs - 3 - nkeys; i++)
	{
		entry->used[i] = get_attnum(RelationGetRelid(rel), trigger->tgargs[3 + nkeys + i]);
		if (entry->used[i] <= 0)
			entry->nused = 0;	/* renamed or dropped: any change counts */
	}
}

/*
 * Return the entry of a trigger, filled again after any change of its table.  NULL
 * if it belongs to no watch: anybody can create a trigger with any arguments, and a
 * table can be restored without its watch.
 */
static CsTrigger *
find_trigger(Relation rel, const Trigger *trigger)
{
	bool		found;
	CsTrigger  *entry;

	if (cache.last && cache.last->valid && cache.last->tgoid == trigger->tgoid)
		return cache.last;
	if (cache.by_oid == NULL)
		create_trigger_cache();
	entry = hash_search(cache.by_oid, &trigger->tgoid, HASH_ENTER, &found);
	if (!found)
	{
		entry->valid = false;
		entry->context = NULL;
	}
	if (!entry->valid)
	{
		if (entry->context)
			MemoryContextDelete(entry->context);
		entry->context = NULL;
		cache.last = NULL;
		read_trigger(entry, rel, trigger);
		entry->valid = cs_watch_covers(entry->endpoint, entry->watch, RelationGetRelid(rel));
		if (!entry->valid)
			return NULL;
	}
	return cache.last = entry;
}

/*
 * The set
 */

static void
begin_set(void)
{
	MemoryContext old;

	dirty.context = AllocSetContextCreate(TopTransactionContext, "contactsync changes",
										  ALLOCSET_DEFAULT_SIZES);
	dirty.key_context = GenerationContextCreate(dirty.context, "contactsync keys",
												ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(dirty.context);
	dirty.set = dirtyset_create(dirty.context, 256, NULL);
	dirty.nkeys = 0;
	dirty.max_keys = 256;
	dirty.keys = palloc(dirty.max_keys * sizeof(CsDirtyKey));
	dirty.nlevels = 0;
	dirty.max_levels = 8;
	dirty.levels = palloc(dirty.max_levels * sizeof(CsLevel));
	dirty.markers = NIL;
	dirty.rows_written = 0;
	MemoryContextSwitchTo(old);
}

/* Have keys that are added from now on belong to the current subtransaction. */
static void
enter_level(void)
{
	int			nest_level = GetCurrentTransactionNestLevel();

	if (dirty.nlevels > 0 && dirty.levels[dirty.nlevels - 1].nest_level >= nest_level)
		return;
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
		dirtyset_reset(dirty.set);
		MemoryContextReset(dirty.key_context);
	}
	else
		for (int i = start; i < dirty.nkeys; i++)
		{
			dirtyset_delete(dirty.set, i);
			pfree(dirty.keys[i].key);
		}
	dirty.nkeys = start;
}

/* Write those of the keys from "start" on that are of the same lane as the first,
 * mark them as written by their watch, and return how many they are. */
static int
write_lane(CsQueueWriter *writer, int start, Datum *elements)
{
	CsDirtyKey *first = &dirty.keys[start];
	int			endpoint = first->endpoint;
	int			watch = first->watch;
	bool		wanted = !cs_watch_store_is_dropped(watch);
	int			written = 0;
	int			n = 0;
	Size		size = 0;

	for (int i = start; i <= dirty.nkeys; i++)
	{
		CsDirtyKey *key = i < dirty.nkeys ? &dirty.keys[i] : NULL;
		Size		key_size;

		if (key && (key->watch != watch || key->endpoint != endpoint))
			continue;
		key_size = key ? INTALIGN(VARSIZE(key->key)) : 0;
		if (n > 0 && (key == NULL || size + key_size > CS_QUEUE_ROW_BYTES))
		{
			ArrayType  *array = construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT);

			if (wanted)
				cs_queue_write(writer, endpoint, watch, n, array, NULL);
			pfree(array);
			n = 0;
			size = 0;
		}
		if (key == NULL)
			break;
		elements[n++] = PointerGetDatum(key->key);
		size += key_size;
		key->watch = -1;
		written++;
	}
	return written;
}

/* Write the keys from "start" on to the queue, in the current (sub)transaction, and
 * remove them from the set. */
static void
write_keys(int start)
{
	MemoryContext old;
	CsQueueWriter *writer;
	Datum	   *elements;
	int			left = dirty.nkeys - start;

	if (left == 0)
		return;
	/* remove them from the hash before write_lane() marks them */
	if (start > 0)
		for (int i = start; i < dirty.nkeys; i++)
			dirtyset_delete(dirty.set, i);
	writer = cs_queue_begin_write(&dirty.rows_written);
	if (writer)
	{
		old = MemoryContextSwitchTo(dirty.context);
		elements = palloc(sizeof(Datum) * left);
		for (int i = start; left > 0; i++)
			if (dirty.keys[i].watch >= 0)
				left -= write_lane(writer, i, elements);
		pfree(elements);
		MemoryContextSwitchTo(old);
		cs_queue_end_write(writer);
		cs_shmem_wake_at_commit();
	}
	if (start == 0)
		drop_keys(0);
	else
		for (int i = start; i < dirty.nkeys; i++)
			pfree(dirty.keys[i].key);
	dirty.nkeys = start;
}

/* Add the key of a row; write the set to the queue early when it is large. */
static void
add_row(CsTrigger *trigger, TupleTableSlot *slot)
{
	CsDirtyKey *key;
	bool		found;

	if (dirty.context == NULL)
		begin_set();
	enter_level();
	if (dirty.nkeys == dirty.max_keys)
	{
		dirty.max_keys *= 2;
		dirty.keys = repalloc_huge(dirty.keys, dirty.max_keys * sizeof(CsDirtyKey));
	}

	key = &dirty.keys[dirty.nkeys];
	key->endpoint = trigger->endpoint;
	key->watch = trigger->watch;
	key->key = cs_row_key_make(dirty.key_context, trigger->nkeys, trigger->keys, slot);
	if (key->key == NULL)
		return;
	key->hash = hash_bytes((unsigned char *) VARDATA(key->key),
						   VARSIZE(key->key) - VARHDRSZ) ^ trigger->watch;
	dirtyset_insert_hash(dirty.set, dirty.nkeys, key->hash, &found);
	if (found)
	{
		pfree(key->key);
		return;
	}
	dirty.nkeys++;
	if (dirty.nkeys - dirty.levels[dirty.nlevels - 1].start >= MAX_KEYS)
		write_keys(dirty.levels[dirty.nlevels - 1].start);
}

/*
 * The trigger
 */

static bool
column_differs(TupleTableSlot *older, TupleTableSlot *newer, AttrNumber attnum)
{
	Form_pg_attribute attribute = TupleDescAttr(newer->tts_tupleDescriptor, attnum - 1);
	bool		older_null;
	bool		newer_null;
	Datum		older_value;
	Datum		newer_value;

	if (attribute->attisdropped)
		return false;
	older_value = slot_getattr(older, attnum, &older_null);
	newer_value = slot_getattr(newer, attnum, &newer_null);
	if (older_null || newer_null)
		return older_null != newer_null;
	return !datumIsEqual(older_value, newer_value, attribute->attbyval, attribute->attlen);
}

static bool
row_differs(const CsTrigger *trigger, TupleTableSlot *older, TupleTableSlot *newer)
{
	if (trigger->nused == 0)
	{
		for (int i = 1; i <= newer->tts_tupleDescriptor->natts; i++)
			if (column_differs(older, newer, i))
				return true;
		return false;
	}
	for (int i = 0; i < trigger->nused; i++)
		if (column_differs(older, newer, trigger->used[i]))
			return true;
	return false;
}

static bool
key_differs(const CsTrigger *trigger, TupleTableSlot *older, TupleTableSlot *newer)
{
	for (int i = 0; i < trigger->nkeys; i++)
		if (column_differs(older, newer, trigger->keys[i].attnum))
			return true;
	return false;
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
 * watch.  One is enough, but a subtransaction may be rolled back.
 */
static void
mark_all(CsTrigger *trigger)
{
	CsMarker   *marker;
	CsQueueWriter *writer;

	if (dirty.context == NULL)
		begin_set();
	marker = find_marker(trigger->tgoid);
	if (marker->subid == GetCurrentSubTransactionId())
		return;
	marker->subid = GetCurrentSubTransactionId();
	writer = cs_queue_begin_write(&dirty.rows_written);
	if (writer == NULL)
		return;
	cs_queue_write(writer, trigger->endpoint, trigger->watch, 0, NULL, NULL);
	cs_queue_end_write(writer);
	cs_shmem_wake_at_commit();
}

/*
 * contactsync.capture(): AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, and
 * AFTER TRUNCATE FOR EACH STATEMENT.
 */
Datum
contactsync_capture(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	CsTrigger  *trigger;
	TupleTableSlot *older;
	TupleTableSlot *newer;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		!(TRIGGER_FIRED_FOR_ROW(data->tg_event) || TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired AFTER ROW or AFTER TRUNCATE",
						"contactsync.capture")));
	trigger = find_trigger(data->tg_relation, data->tg_trigger);
	if (trigger == NULL)
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) || trigger->nkeys == 0)
	{
		mark_all(trigger);
		return PointerGetDatum(NULL);
	}

	older = data->tg_trigslot;
	if (!TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		add_row(trigger, older);
		return PointerGetDatum(NULL);
	}
	newer = data->tg_newslot;
	if (key_differs(trigger, older, newer))
	{
		add_row(trigger, older);
		add_row(trigger, newer);
	}
	else if (row_differs(trigger, older, newer))
		add_row(trigger, newer);
	return PointerGetDatum(NULL);
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
			write_keys(0);
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
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		drop_keys(level->start);
		dirty.nlevels--;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		if (dirty.nlevels > 1 && level[-1].nest_level == nest_level - 1)
			dirty.nlevels--;
		else
			level->nest_level--;
	}
}

/* Register for the ends of transactions, once per session. */
void
cs_capture_init(void)
{
	RegisterXactCallback(at_xact_end, NULL);
	RegisterSubXactCallback(at_subxact_end, NULL);
}
