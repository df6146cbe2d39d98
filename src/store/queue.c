/*-------------------------------------------------------------------------
 *
 * queue.c
 *		Writing and reading contactsync.queue.
 *
 * The queue has one reader at a time, the process that holds the lock of
 * cs_queue_lock().  So reading a row claims it: only that process knows what is in
 * flight, and a row is deleted only by the transaction that stores its outcome.
 *
 * No deleted row is read twice, however long a snapshot keeps it from being
 * vacuumed: rows are read in the order of (xact, id), each read begins where the
 * last one ended, and rows of a transaction that was in progress when we passed it
 * are looked up by the transaction later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/sql.h"
#include "store/queue.h"
#include "store/queue_owner.h"

/* Columns of contactsync.queue. */
enum
{
	QUEUE_ENDPOINT,
	QUEUE_WATCH,
	QUEUE_XACT,
	QUEUE_ID,
	QUEUE_QUEUED_AT,
	QUEUE_N,
	QUEUE_KEYS,
	QUEUE_CONTACT,
	QUEUE_ORIGIN,
	QUEUE_RELATED,
	QUEUE_CURSOR,
	QUEUE_COLUMNS
};

/* An index on the queue, all of whose columns are plain ones. */
typedef struct CsQueueIndex
{
	Relation	rel;
	IndexInfo  *info;
} CsQueueIndex;

struct CsQueueWriter
{
	Relation	rel;
	int			nindexes;
	CsQueueIndex *indexes;
	int64	   *counter;
};

/*
 * Writing
 */

/* The queue as it was last found, or InvalidOid. */
static Oid	known_queue = InvalidOid;

static void
forget_queue(Datum arg, Oid relid)
{
	if (relid == known_queue || !OidIsValid(relid))
		known_queue = InvalidOid;
}

static void
forget_schema(Datum arg, int cache_id, uint32 hash)
{
	known_queue = InvalidOid;
}

/* Look it up by its name, which each transaction of an application would do twice. */
static Oid
find_queue(void)
{
	static bool registered = false;
	Oid			schema;

	if (OidIsValid(known_queue))
		return known_queue;
	if (!registered)
	{
		CacheRegisterRelcacheCallback(forget_queue, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_schema, (Datum) 0);
		registered = true;
	}
	schema = get_namespace_oid(CS_SCHEMA, true);
	return known_queue = OidIsValid(schema) ? get_relname_relid("queue", schema) : InvalidOid;
}

/*
 * Take the lock that cs_queue_begin_write() needs, until the (sub)transaction ends.
 * Who writes when the transaction commits takes it before, so that the commit does
 * not wait, and is not the victim of a deadlock.
 */
void
cs_queue_prepare_write(void)
{
	Oid			relid = find_queue();

	if (OidIsValid(relid))
		LockRelationOid(relid, RowExclusiveLock);
}

/* Open the indexes of the queue.  Like those of a catalog they have no expressions. */
static void
open_indexes(CsQueueWriter *writer)
{
	List	   *oids = RelationGetIndexList(writer->rel);

	writer->nindexes = list_length(oids);
	writer->indexes = palloc(writer->nindexes * sizeof(CsQueueIndex));
	for (int i = 0; i < writer->nindexes; i++)
	{
		writer->indexes[i].rel = index_open(list_nth_oid(oids, i), RowExclusiveLock);
		writer->indexes[i].info = BuildIndexInfo(writer->indexes[i].rel);
	}
	list_free(oids);
}

static void
insert_index_entry(CsQueueWriter *writer, CsQueueIndex *index, HeapTuple tuple, const Datum *values, const bool *nulls)
{
	Datum		index_values[INDEX_MAX_KEYS];
	bool		index_nulls[INDEX_MAX_KEYS];

	/* one that is being built concurrently */
	if (!index->info->ii_ReadyForInserts)
		return;
	for (int i = 0; i < index->info->ii_NumIndexAttrs; i++)
	{
		int			column = index->info->ii_IndexAttrNumbers[i] - 1;

		if (column < 0 || index->info->ii_Predicate != NIL)
			elog(ERROR, "index \"%s\" has an expression", RelationGetRelationName(index->rel));
		index_values[i] = values[column];
		index_nulls[i] = nulls[column];
	}
	(void) index_insert(index->rel, index_values, index_nulls, &tuple->t_self, writer->rel,
						index->info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, index->info);
}

/*
 * Open the queue.  Rows are numbered by *counter, which need be unique within the
 * transaction only, or with NULL by a sequence.  Return NULL if there is no such
 * table: the extension is being dropped.
 */
CsQueueWriter *
cs_queue_begin_write(int64 *counter)
{
	Oid			relid = find_queue();
	CsQueueWriter *writer;
	Relation	rel;

	if (!OidIsValid(relid))
		return NULL;
	rel = try_table_open(relid, RowExclusiveLock);
	if (rel == NULL)
		return NULL;
	writer = palloc(sizeof(CsQueueWriter));
	writer->rel = rel;
	writer->counter = counter;
	open_indexes(writer);
	return writer;
}

/*
 * The id of a row, which is unique within the lane and the transaction.  Those of a
 * counter are positive, so what a sequence numbers for a watch becomes negative, in
 * the same order.  In the lane of contactsync_upsert(), which returns them, nothing
 * is counted.
 */
static int64
make_id(CsQueueWriter *writer, int watch)
{
	int64		id;

	if (writer->counter)
		return ++* writer->counter;
	id = nextval_internal(get_relname_relid("queue_id", RelationGetNamespace(writer->rel)), false);
	return watch == 0 ? id : PG_INT64_MIN + id;
}

/* Add a row, and return its id. */
int64
cs_queue_write_row(CsQueueWriter *writer, const CsQueueEntry *entry)
{
	Datum		values[QUEUE_COLUMNS];
	bool		nulls[QUEUE_COLUMNS] = {0};
	HeapTuple	tuple;
	int64		id = make_id(writer, entry->watch);
	TimestampTz queued_at = entry->queued_at ? entry->queued_at : GetCurrentTimestamp();

	values[QUEUE_ENDPOINT] = Int32GetDatum(entry->endpoint);
	values[QUEUE_WATCH] = Int32GetDatum(entry->watch);
	values[QUEUE_XACT] = entry->xact ? UInt64GetDatum(entry->xact) :
		FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[QUEUE_ID] = Int64GetDatum(id);
	values[QUEUE_QUEUED_AT] = TimestampTzGetDatum(queued_at);
	values[QUEUE_N] = Int32GetDatum(entry->n);
	values[QUEUE_KEYS] = PointerGetDatum(entry->keys);
	nulls[QUEUE_KEYS] = entry->keys == NULL;
	values[QUEUE_CONTACT] = PointerGetDatum(entry->contact);
	nulls[QUEUE_CONTACT] = entry->contact == NULL;
	values[QUEUE_ORIGIN] = CharGetDatum(entry->origin);
	nulls[QUEUE_ORIGIN] = entry->origin == CS_QUEUE_CHANGE;
	values[QUEUE_RELATED] = Int32GetDatum(entry->related);
	nulls[QUEUE_RELATED] = entry->related == 0;
	values[QUEUE_CURSOR] = entry->cursor ? CStringGetTextDatum(entry->cursor) : (Datum) 0;
	nulls[QUEUE_CURSOR] = entry->cursor == NULL;

	tuple = heap_form_tuple(RelationGetDescr(writer->rel), values, nulls);
	simple_heap_insert(writer->rel, tuple);
	for (int i = 0; i < writer->nindexes; i++)
		insert_index_entry(writer, &writer->indexes[i], tuple, values, nulls);
	heap_freetuple(tuple);
	return id;
}

/* Add a row of the current transaction: n keys, or a contact, or neither.  Return its id. */
int64
cs_queue_write(CsQueueWriter *writer, int endpoint, int watch, int n,
			   ArrayType *keys, Jsonb *contact, char origin)
{
	CsQueueEntry entry = {.endpoint = endpoint,.watch = watch,.n = n,.keys = keys,.contact = contact,.origin = origin};

	return cs_queue_write_row(writer, &entry);
}

/* Close the queue; the lock is kept to the end of the transaction. */
void
cs_queue_end_write(CsQueueWriter *writer)
{
	for (int i = 0; i < writer->nindexes; i++)
	{
		pfree(writer->indexes[i].info);
		index_close(writer->indexes[i].rel, NoLock);
	}
	pfree(writer->indexes);
	table_close(writer->rel, NoLock);
	pfree(writer);
}

/*
 * Reading
 */

/*
 * Make rows readable that a dump brought from another cluster, whose transactions
 * are in our future.  They keep their order, and get new ids, which are unique within
 * a transaction only; those of contactsync_upsert() are unique, and were returned by
 * it, so they are kept.  Needs a transaction.
 */
void
cs_queue_adopt(void)
{
	static CsStatement statement = {
		"UPDATE contactsync.queue q SET xact = pg_current_xact_id(), id = CASE WHEN watch = 0 THEN id ELSE o.n END"
		" FROM (SELECT ctid AS c, row_number() OVER (ORDER BY xact, id) AS n FROM contactsync.queue"
		" WHERE xact >= pg_snapshot_xmax(pg_current_snapshot())) o WHERE q.ctid = o.c"
	};
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_sql_execute(&statement, NULL, NULL);
	cs_sql_leave(&scope);
}

/* How many queue rows are fetched at a time: at first, and at most. */
#define FIRST_FETCH		8
#define LARGEST_FETCH	1024

/* What one cs_queue_read() has collected. */
typedef struct CsQueueBatch
{
	CsQueueRow *rows;
	int			n;
	int			nkeys;
	int			max_keys;
	MemoryContext context;
} CsQueueBatch;

/*
 * Append rows of the current SPI result until the batch is full.  Some are not taken
 * if their keys are more than those before let expect.
 */
static void
collect_rows(CsQueueBatch *batch)
{
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	TupleDesc	desc = SPI_tuptable->tupdesc;

	batch->rows = batch->n == 0 ? palloc((SPI_processed + 1) * sizeof(CsQueueRow)) :
		repalloc(batch->rows, (batch->n + SPI_processed + 1) * sizeof(CsQueueRow));
	for (uint64 i = 0; i < SPI_processed && batch->nkeys < batch->max_keys; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		CsQueueRow *row = &batch->rows[batch->n++];
		bool		isnull;
		Datum		datum;

		row->position.xact = DatumGetUInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		row->position.id = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
		row->queued_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 3, &isnull));
		row->nkeys = 0;
		row->keys = NULL;
		datum = SPI_getbinval(tuple, desc, 4, &isnull);
		if (!isnull)
			row->keys = cs_sql_text_array(datum, &row->nkeys);
		datum = SPI_getbinval(tuple, desc, 5, &isnull);
		row->contact = isnull ? NULL : DatumGetJsonbPCopy(datum);
		datum = SPI_getbinval(tuple, desc, 6, &isnull);
		row->origin = isnull ? CS_QUEUE_CHANGE : DatumGetChar(datum);
		datum = SPI_getbinval(tuple, desc, 7, &isnull);
		row->related = isnull ? 0 : DatumGetInt32(datum);
		row->cursor = SPI_getvalue(tuple, desc, 8);
		batch->nkeys += Max(row->nkeys, 1);
	}
	MemoryContextSwitchTo(old);
}

/* Read rows of a lane after a position and before a transaction; return how many were fetched. */
static uint64
read_range(CsQueueBatch *batch, int endpoint, int watch, CsQueuePosition after, uint64 below,
		   int limit)
{
	static CsStatement statement = {
		"SELECT xact, id, queued_at, keys, contact, origin, related, cursor FROM contactsync.queue"
		" WHERE endpoint = $1 AND watch = $2 AND (xact, id) > ($3, $4) AND xact < $5"
		" ORDER BY xact, id LIMIT $6",
		6, {INT4OID, INT4OID, XID8OID, INT8OID, XID8OID, INT4OID}
	};
	Datum		args[6];
	uint64		fetched;

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = UInt64GetDatum(after.xact);
	args[3] = Int64GetDatum(after.id);
	args[4] = UInt64GetDatum(below);
	args[5] = Int32GetDatum(limit);
	fetched = cs_sql_execute(&statement, args, NULL);
	collect_rows(batch);
	return fetched;
}

/*
 * Read rows after *position and before a transaction until the batch is full or there
 * are none; advance *position.  Return whether there may be more.
 */
static bool
read_until_full(CsQueueBatch *batch, int endpoint, int watch, CsQueuePosition *position,
				uint64 below)
{
	while (batch->nkeys < batch->max_keys)
	{
		int			before = batch->n;
		int			limit = FIRST_FETCH;
		uint64		fetched;

		if (batch->n > 0)
			limit = Max(limit, (int64) (batch->max_keys - batch->nkeys) * batch->n / batch->nkeys);
		limit = Min(limit, LARGEST_FETCH);
		fetched = read_range(batch, endpoint, watch, *position, below, limit);
		if (batch->n > before)
			*position = batch->rows[batch->n - 1].position;
		if (fetched < limit && batch->n - before == fetched)
			return false;
	}
	return true;
}

/* Return the full id of a transaction of the snapshot. */
static uint64
full_xid(TransactionId xid, FullTransactionId next)
{
	uint64		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return (epoch << 32) | xid;
}

/*
 * Add the transactions in progress that the cursor has passed to its stragglers.
 */
static void
note_stragglers(CsQueueCursor *cursor, Snapshot snapshot, FullTransactionId next)
{
	CsQueuePosition *stragglers;
	int			n = cursor->nstragglers;

	stragglers = MemoryContextAlloc(cursor->context,
									(n + snapshot->xcnt + 1) * sizeof(CsQueuePosition));
	if (n > 0)
		memcpy(stragglers, cursor->stragglers, n * sizeof(CsQueuePosition));
	for (uint32 i = 0; i < snapshot->xcnt; i++)
	{
		uint64		xact = full_xid(snapshot->xip[i], next);
		bool		known = xact > cursor->position.xact;

		for (int k = 0; k < cursor->nstragglers && !known; k++)
			known = stragglers[k].xact == xact;
		if (known)
			continue;
		stragglers[n].xact = xact;
		stragglers[n++].id = PG_INT64_MIN;
	}
	if (cursor->stragglers)
		pfree(cursor->stragglers);
	cursor->stragglers = stragglers;
	cursor->nstragglers = n;
}

/* A transaction that is older than this was flushed long ago. */
#define MAX_AGE		(UINT64CONST(1) << 30)

/*
 * Flush the commits of the transactions that wrote the rows, which may have been
 * asynchronous: a crash must not undo what was sent.  A later transaction whose
 * values the source row has needs no flush, since the deletion of the queue row
 * follows it in the log.
 */
static void
flush_transactions(int n, const CsQueueRow *rows, FullTransactionId next)
{
	XLogRecPtr	upto = InvalidXLogRecPtr;
	uint64		last = 0;

	LWLockAcquire(XactTruncationLock, LW_SHARED);
	for (int i = 0; i < n; i++)
	{
		TransactionId xid = (TransactionId) rows[i].position.xact;

		if (rows[i].position.xact == last)
			continue;
		last = rows[i].position.xact;
		/* a row that was restored from a dump can have any number */
		if (U64FromFullTransactionId(next) - last < MAX_AGE && TransactionIdIsNormal(xid) && !TransactionIdPrecedes(xid, CS_OLDEST_CLOG_XID))
			upto = Max(upto, TransactionIdGetCommitLSN(xid));
	}
	LWLockRelease(XactTruncationLock);
	if (upto != InvalidXLogRecPtr)
		XLogFlush(upto);
}

/*
 * Read what is new in a lane, about max_keys keys, and advance the cursor.  Return
 * the number of rows, palloc'd in the current context; cursor->more says whether
 * there are more already.  A row is returned again when the cursor starts over, and
 * in rare cases while it is in the queue: the caller knows which it has.  Needs a
 * transaction with an active snapshot, and the scope of cs_sql_enter().
 */
int
cs_queue_read(CsQueueCursor *cursor, int endpoint, int watch, int max_keys,
			  CsQueueRow **rows)
{
	CsQueueBatch batch = {.max_keys = max_keys,.context = CurrentMemoryContext};
	Snapshot	snapshot = GetActiveSnapshot();
	FullTransactionId next = ReadNextFullTransactionId();
	uint64		below = full_xid(snapshot->xmax, next);
	int			kept = 0;

	/* transactions that have ended since we passed them */
	for (int i = 0; i < cursor->nstragglers; i++)
	{
		CsQueuePosition *straggler = &cursor->stragglers[i];

		if (XidInMVCCSnapshot((TransactionId) straggler->xact, snapshot) ||
			read_until_full(&batch, endpoint, watch, straggler, straggler->xact + 1))
			cursor->stragglers[kept++] = *straggler;
	}
	cursor->nstragglers = kept;

	/* and what follows; the snapshot sees nothing at or above its xmax */
	cursor->more = read_until_full(&batch, endpoint, watch, &cursor->position, below);
	if (!cursor->more)
	{
		cursor->position.xact = below - 1;
		cursor->position.id = PG_INT64_MAX;
	}
	note_stragglers(cursor, snapshot, next);
	flush_transactions(batch.n, batch.rows, next);
	*rows = batch.rows;
	return batch.n;
}

/* Delete rows of a lane, in the transaction that stores their outcome. */
void
cs_queue_delete(int endpoint, int watch, int n, const CsQueuePosition *positions)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.queue WHERE ctid = ANY (ARRAY(SELECT q.ctid FROM unnest($3, $4) AS d (xact, id),"
		" LATERAL (SELECT ctid FROM contactsync.queue WHERE endpoint = $1 AND watch = $2 AND xact = d.xact"
		" AND id = d.id OFFSET 0) q))",
		4, {INT4OID, INT4OID, XID8ARRAYOID, INT8ARRAYOID}
	};
	Datum		args[4];
	Datum	   *xacts = palloc(n * sizeof(Datum));
	Datum	   *ids = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
	{
		xacts[i] = UInt64GetDatum(positions[i].xact);
		ids[i] = Int64GetDatum(positions[i].id);
	}
	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = PointerGetDatum(construct_array(xacts, n, XID8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	args[3] = PointerGetDatum(construct_array(ids, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	cs_sql_execute(&statement, args, NULL);
}

/*
 * Queue what is known of a watch whose source may have been emptied: the contacts
 * that are to be removed, in any case the failures, which are none any more, rows that
 * were forgotten and may have stayed until now, and the other keys that are given.  Ids
 * are negative, for the other writer of this transaction counts upwards.
 */
void
cs_queue_expand(int endpoint, int watch, ArrayType *others)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys)"
		" SELECT $1, $2, pg_current_xact_id(), -nextval('contactsync.queue_id'), now(), g.n, g.keys"
		" FROM (SELECT count(*) AS n, array_agg(key) AS keys"
		" FROM (SELECT key, (row_number() OVER () - 1) / 200 AS g"
		" FROM (SELECT key FROM contactsync.source_row WHERE watch = $2"
		" UNION SELECT key FROM contactsync.failure WHERE endpoint = $1 AND watch = $2"
		" UNION SELECT key FROM contactsync.remaining_row WHERE watch = $2"
		" UNION SELECT unnest($3)) k) k GROUP BY g) g",
		3, {INT4OID, INT4OID, TEXTARRAYOID}
	};
	Datum		args[3];

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = PointerGetDatum(others);
	cs_sql_execute(&statement, args, NULL);
}

/* Is the contact that contactsync_upsert() returned that number for still queued? */
bool
cs_queue_has_direct(int endpoint, int64 id)
{
	static CsStatement statement = {
		"SELECT FROM contactsync.queue WHERE endpoint = $1 AND watch = 0 AND id = $2", 2, {INT4OID, INT8OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int64GetDatum(id)};

	return cs_sql_execute(&statement, args, NULL) > 0;
}
