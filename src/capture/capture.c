/*-------------------------------------------------------------------------
 *
 * capture.c
 *		The triggers on watched tables and on those that they are related to.
 *
 * This runs in the application's transactions, so it does as little as possible.
 * The row trigger compares the columns that the watch uses, and adds the key of
 * the row to a set in memory (dirty_set.c), which is written to contactsync.queue
 * before the transaction commits.  The application needs no privilege on any table
 * of ours, nothing is read, and the only errors are those of any write: the
 * configuration is in the arguments of the trigger.
 *
 *		contactsync.capture(endpoint, watch, number of key columns,
 *							key columns ..., used columns ...)
 *
 * Without used columns, all are.  Columns are named, because partitions number
 * them differently.
 *
 * On a table that a watch is related to, what is added is the key by which rows of
 * the source refer to the row.  Which rows these are is found out when the change is
 * delivered: they may be many, and the application's role need not be able to read
 * them.
 *
 *		contactsync.capture_related(endpoint, watch, related table,
 *									number of key columns, key columns ...,
 *									used columns ...)
 *
 * A negative number of a related table is that of the base of a view, whose rows have
 * the keys of the view: they are queued as if the view had changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "capture/dirty_set.h"
#include "store/related.h"
#include "store/row_key.h"
#include "store/watch.h"

/* A trigger, with what its arguments mean for its relation. */
typedef struct CsTrigger
{
	Oid			tgoid;			/* hash key */
	Oid			relid;
	bool		valid;
	int			endpoint;
	int			watch;
	int			related;		/* 0: the table is the source; negative: one
								 * of a view, whose key is that of the row */
	int			nkeys;			/* 0: a key column is missing */
	CsKeyColumn *keys;
	int			nused;			/* 0: all */
	AttrNumber *used;
	MemoryContext context;
} CsTrigger;

/* The triggers that this session has run. */
static struct
{
	HTAB	   *by_oid;			/* of CsTrigger */
	CsTrigger  *last;			/* the one that ran last, or NULL */
}			cache;

CS_FUNCTION(contactsync_capture);
CS_FUNCTION(contactsync_capture_related);

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

/* Return whether the column is there, and has a value in the rows of the trigger. */
static bool
has_value(Relation rel, AttrNumber attnum)
{
	return attnum > 0 && !CS_IS_VIRTUAL(TupleDescAttr(RelationGetDescr(rel), attnum - 1));
}

/* Return a number that is an argument; raise an error if there is none. */
static int
number_argument(const Trigger *trigger, int n)
{
	if (n >= trigger->tgnargs)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" was not made by contactsync_watch()", trigger->tgname)));
	return pg_strtoint32(trigger->tgargs[n]);
}

/* Fill an entry from the trigger's arguments. */
static void
read_trigger(CsTrigger *entry, Relation rel, const Trigger *trigger, bool related)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "contactsync trigger",
												  ALLOCSET_SMALL_SIZES);
	int			first = related ? 4 : 3;
	int			nkeys = number_argument(trigger, first - 1);
	char	  **columns = trigger->tgargs + first;
	int			ncolumns = trigger->tgnargs - first;

	if (nkeys < 1 || nkeys > ncolumns)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" was not made by contactsync_watch()", trigger->tgname)));

	entry->relid = RelationGetRelid(rel);
	entry->endpoint = number_argument(trigger, 0);
	entry->watch = number_argument(trigger, 1);
	entry->related = related ? number_argument(trigger, 2) : 0;
	entry->context = context;
	entry->keys = MemoryContextAllocZero(context, nkeys * sizeof(CsKeyColumn));
	entry->nkeys = nkeys;
	for (int i = 0; i < nkeys; i++)
		if (!cs_row_key_read_column(rel, columns[i], &entry->keys[i], context))
			entry->nkeys = 0;

	entry->nused = ncolumns - nkeys;
	entry->used = MemoryContextAlloc(context, (entry->nused + 1) * sizeof(AttrNumber));
	for (int i = 0; i < ncolumns - nkeys; i++)
	{
		entry->used[i] = get_attnum(RelationGetRelid(rel), columns[nkeys + i]);
		if (!has_value(rel, entry->used[i]))
			entry->nused = 0;	/* any change counts */
	}
}

/* Is the relation the table, or of its tree, that the watch means by the trigger? */
static bool
is_meant(const CsTrigger *entry, Oid relid)
{
	return entry->related ? cs_related_covers(entry->endpoint, entry->watch, abs(entry->related), relid) :
		cs_watch_covers(entry->endpoint, entry->watch, relid);
}

/*
 * Return the entry of a trigger, filled again after any change of its table.  NULL
 * if it belongs to no watch: anybody can create a trigger with any arguments, and a
 * table can be restored without its watch.
 */
static CsTrigger *
find_trigger(Relation rel, const Trigger *trigger, bool related)
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
		entry->relid = InvalidOid;
		entry->context = NULL;
	}
	if (!entry->valid)
	{
		if (entry->context)
			MemoryContextDelete(entry->context);
		entry->context = NULL;
		cache.last = NULL;
		read_trigger(entry, rel, trigger, related);
		entry->valid = is_meant(entry, RelationGetRelid(rel));
		if (!entry->valid)
			return NULL;
	}
	return cache.last = entry;
}

/*
 * The trigger
 */

/* Return of which related table keys are queued; 0: of the source. */
static int
related_of(const CsTrigger *trigger)
{
	return Max(trigger->related, 0);
}

static void
add_row(const CsTrigger *trigger, TupleTableSlot *slot)
{
	cs_dirty_set_add(trigger->endpoint, trigger->watch, related_of(trigger), trigger->nkeys, trigger->keys, slot);
}

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

static Datum
capture(FunctionCallInfo fcinfo, bool related)
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
						related ? "contactsync.capture_related" : "contactsync.capture")));
	trigger = find_trigger(data->tg_relation, data->tg_trigger, related);
	if (trigger == NULL)
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) || trigger->nkeys == 0)
	{
		cs_dirty_set_mark(trigger->endpoint, trigger->watch, related_of(trigger), trigger->tgoid);
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
 * contactsync.capture(): AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW, and
 * AFTER TRUNCATE FOR EACH STATEMENT.
 */
Datum
contactsync_capture(PG_FUNCTION_ARGS)
{
	return capture(fcinfo, false);
}

/* contactsync.capture_related(): the same. */
Datum
contactsync_capture_related(PG_FUNCTION_ARGS)
{
	return capture(fcinfo, true);
}
