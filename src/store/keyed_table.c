/*-------------------------------------------------------------------------
 *
 * keyed_table.c
 *		A table of the extension, read and written below SQL by an index.
 *
 * Each contact that is sent is looked up before and stored after, in two tables,
 * which is most of what its delivery costs.  So this is done below SQL, as
 * capture is: rows are found by an index, new ones are inserted many at a time,
 * and known ones are updated in place where their page has room.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "store/keyed_table.h"

/*
 * Reading
 */

void
cs_keyed_table_open(CsKeyedTable *table, const char *name, const char *index, int nkeys,
					LOCKMODE lockmode)
{
	Oid			schema = get_namespace_oid(CS_SCHEMA, false);
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		elog(ERROR, "table \"%s.%s\" does not exist", CS_SCHEMA, name);
	table->rel = table_open(relid, lockmode);
	table->index = index_open(index ? get_relname_relid(index, schema) :
							  cs_primary_key_index(table->rel), lockmode);
	table->snapshot = RegisterSnapshot(GetLatestSnapshot());
	table->nkeys = nkeys;
	if (nkeys > CS_KEYED_KEYS)
		elog(ERROR, "table contactsync.%s is searched by more columns than %d", name, CS_KEYED_KEYS);
	cs_leaf_open(&table->leaf, table->rel, table->index, table->snapshot, nkeys);
	table->scanning = false;
	table->scan = cs_index_beginscan(table->rel, table->index, table->snapshot, nkeys);
	table->slot = table_slot_create(table->rel, NULL);
}

void
cs_keyed_table_close(CsKeyedTable *table)
{
	ExecDropSingleTupleTableSlot(table->slot);
	cs_leaf_close(&table->leaf);
	index_endscan(table->scan);
	UnregisterSnapshot(table->snapshot);
	index_close(table->index, NoLock);
	table_close(table->rel, NoLock);
}

void
cs_keyed_table_int_key(ScanKey keys, int column, int value)
{
	ScanKeyInit(&keys[column], column + 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(value));
}

void
cs_keyed_table_text_key(ScanKey keys, int column, const char *value)
{
	ScanKeyEntryInitialize(&keys[column], 0, column + 1, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(value));
}

/* Fetch the row of an index entry, or its version that is visible; false if none is. */
static bool
fetch(CsKeyedTable *table, ItemPointer tid)
{
	bool		again = false;
	bool		all_dead = false;

	return table_index_fetch_tuple(table->scan->xs_heapfetch, tid, table->snapshot, table->slot,
								   &again, &all_dead);
}

/* Scan the index for the keys of the last search. */
static bool
scan(CsKeyedTable *table)
{
	table->scanning = true;
	index_rescan(table->scan, table->keys, table->nkeys, NULL, 0);
	return cs_keyed_table_next(table);
}

bool
cs_keyed_table_find(CsKeyedTable *table, ScanKey keys)
{
	ItemPointerData tid;

	memcpy(table->keys, keys, table->nkeys * sizeof(ScanKeyData));
	table->scanning = false;
	switch (cs_leaf_find(&table->leaf, keys, &tid))
	{
		case CS_LEAF_ABSENT:
			return false;
		case CS_LEAF_ONE:
			if (fetch(table, &tid))
				return true;
			break;
		case CS_LEAF_UNSURE:
			break;
	}
	return scan(table);
}

/* Does the row in the slot have these keys, none of them null? */
static bool
has_keys(CsKeyedTable *table, ScanKey keys)
{
	for (int i = 0; i < table->nkeys; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(table->slot, table->index->rd_index->indkey.values[i], &isnull);

		if (isnull || !DatumGetBool(FunctionCall2Coll(&keys[i].sk_func, keys[i].sk_collation, value,
													  keys[i].sk_argument)))
			return false;
	}
	return true;
}

bool
cs_keyed_table_find_at(CsKeyedTable *table, ItemPointer tid, ScanKey keys)
{
	if (!ItemPointerIsValid(tid) ||
		!table_tuple_fetch_row_version(table->rel, tid, table->snapshot, table->slot) ||
		!has_keys(table, keys))
		return cs_keyed_table_find(table, keys);
	memcpy(table->keys, keys, table->nkeys * sizeof(ScanKeyData));
	table->scanning = false;
	return true;
}

bool
cs_keyed_table_next(CsKeyedTable *table)
{
	return table->scanning && index_getnext_slot(table->scan, ForwardScanDirection, table->slot);
}

Datum
cs_keyed_table_get(CsKeyedTable *table, int column, bool *isnull)
{
	return slot_getattr(table->slot, column + 1, isnull);
}

char *
cs_keyed_table_text(CsKeyedTable *table, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(table->slot, column + 1, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

bytea *
cs_keyed_table_bytea(CsKeyedTable *table, int column)
{
	bool		isnull;
	Datum		value = cs_keyed_table_get(table, column, &isnull);

	return isnull ? NULL : DatumGetByteaPCopy(value);
}

bool
cs_keyed_table_bool(CsKeyedTable *table, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(table->slot, column + 1, &isnull);

	return !isnull && DatumGetBool(datum);
}

int
cs_keyed_table_int(CsKeyedTable *table, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(table->slot, column + 1, &isnull);

	return isnull ? 0 : DatumGetInt32(datum);
}

TimestampTz
cs_keyed_table_time(CsKeyedTable *table, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(table->slot, column + 1, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(datum);
}

uint64
cs_keyed_table_xact(CsKeyedTable *table, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(table->slot, column + 1, &isnull);

	return isnull ? 0 : U64FromFullTransactionId(DatumGetFullTransactionId(datum));
}

bool
cs_keyed_table_uuid(CsKeyedTable *table, int column, pg_uuid_t *value)
{
	bool		isnull;
	Datum		datum = slot_getattr(table->slot, column + 1, &isnull);

	if (!isnull)
		*value = *DatumGetUUIDP(datum);
	return !isnull;
}

char
cs_keyed_table_char(CsKeyedTable *table, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(table->slot, column + 1, &isnull);

	return isnull ? '\0' : DatumGetChar(datum);
}

/*
 * Writing
 */

void
cs_keyed_table_begin_write(CsKeyedWriter *writer, const char *name, int nkeys)
{
	memset(writer, 0, sizeof(CsKeyedWriter));
	cs_keyed_table_open(&writer->table, name, NULL, nkeys, RowExclusiveLock);
	if (RelationGetNumberOfAttributes(writer->table.rel) > CS_KEYED_COLUMNS)
		elog(ERROR, "table contactsync.%s has more columns than %d", name, CS_KEYED_COLUMNS);
	writer->estate = CreateExecutorState();
	writer->result = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->result, writer->table.rel, 0, NULL, 0);
	ExecOpenIndices(writer->result, false);
	writer->update_slot = table_slot_create(writer->table.rel, NULL);
}

static void
insert_index_entries(CsKeyedWriter *writer, TupleTableSlot *slot, bool update)
{
	list_free(cs_insert_index_tuples(writer->result, slot, writer->estate, update));
	ResetPerTupleExprContext(writer->estate);
}

static void
flush_inserts(CsKeyedWriter *writer)
{
	if (writer->ninserts == 0)
		return;
	table_multi_insert(writer->table.rel, writer->insert_slots, writer->ninserts,
					   GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < writer->ninserts; i++)
		insert_index_entries(writer, writer->insert_slots[i], false);
	writer->ninserts = 0;
}

/* Make values and nulls the row of a slot. */
static void
fill_slot(CsKeyedWriter *writer, TupleTableSlot *slot)
{
	int			natts = RelationGetNumberOfAttributes(writer->table.rel);

	ExecClearTuple(slot);
	memcpy(slot->tts_values, writer->values, natts * sizeof(Datum));
	memcpy(slot->tts_isnull, writer->nulls, natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
}

void
cs_keyed_table_insert(CsKeyedWriter *writer)
{
	if (writer->ninserts == CS_KEYED_INSERTS)
		flush_inserts(writer);
	if (writer->ninserts == writer->nslots)
		writer->insert_slots[writer->nslots++] = table_slot_create(writer->table.rel, NULL);
	fill_slot(writer, writer->insert_slots[writer->ninserts++]);
}

static void
check_result(CsKeyedWriter *writer, TM_Result result)
{
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of %s.%s was changed by another session", CS_SCHEMA,
						RelationGetRelationName(writer->table.rel))));
}

/* Update the row that was found, unless this command has changed it. */
static TM_Result
try_to_update(CsKeyedWriter *writer)
{
	TM_FailureData failure;
	LockTupleMode lockmode;
	CsUpdateIndexes update_indexes;
	TM_Result	result = cs_tuple_update(writer->table.rel, &writer->table.slot->tts_tid,
										 writer->update_slot, writer->table.snapshot, &failure,
										 &lockmode, &update_indexes);

	if (result == TM_Ok && update_indexes)
		insert_index_entries(writer, writer->update_slot, true);
	return result;
}

/* Begin another command, which sees what this one has written, and find the row anew. */
static bool
find_again(CsKeyedTable *table)
{
	CommandCounterIncrement();
	table->snapshot->curcid = GetCurrentCommandId(false);
	return scan(table);
}

/* Update the row that was found.  It may be written more than once. */
void
cs_keyed_table_update(CsKeyedWriter *writer)
{
	TM_Result	result;

	fill_slot(writer, writer->update_slot);
	result = try_to_update(writer);
	if (result == TM_SelfModified && find_again(&writer->table))
		result = try_to_update(writer);
	check_result(writer, result);
}

/* Delete the row that was found, unless that has been done. */
void
cs_keyed_table_delete(CsKeyedWriter *writer)
{
	TM_FailureData failure;
	TM_Result	result = cs_tuple_delete(writer->table.rel, &writer->table.slot->tts_tid,
										 writer->table.snapshot, &failure);

	if (result != TM_SelfModified)
		check_result(writer, result);
}

void
cs_keyed_table_end_write(CsKeyedWriter *writer)
{
	flush_inserts(writer);
	for (int i = 0; i < writer->nslots; i++)
		ExecDropSingleTupleTableSlot(writer->insert_slots[i]);
	ExecDropSingleTupleTableSlot(writer->update_slot);
	ExecCloseIndices(writer->result);
	FreeExecutorState(writer->estate);
	cs_keyed_table_close(&writer->table);
	CommandCounterIncrement();
}

void
cs_keyed_table_set(CsKeyedWriter *writer, int column, Datum value)
{
	writer->values[column] = value;
	writer->nulls[column] = false;
}

void
cs_keyed_table_set_null(CsKeyedWriter *writer, int column)
{
	writer->values[column] = (Datum) 0;
	writer->nulls[column] = true;
}

void
cs_keyed_table_set_text(CsKeyedWriter *writer, int column, const char *text)
{
	if (text)
		cs_keyed_table_set(writer, column, CStringGetTextDatum(text));
	else
		cs_keyed_table_set_null(writer, column);
}

void
cs_keyed_table_set_bytea(CsKeyedWriter *writer, int column, bytea *value)
{
	writer->values[column] = PointerGetDatum(value);
	writer->nulls[column] = value == NULL;
}

void
cs_keyed_table_set_time(CsKeyedWriter *writer, int column, TimestampTz time)
{
	if (time != 0)
		cs_keyed_table_set(writer, column, TimestampTzGetDatum(time));
	else
		cs_keyed_table_set_null(writer, column);
}

void
cs_keyed_table_set_xact(CsKeyedWriter *writer, int column, uint64 xact)
{
	if (xact != 0)
		cs_keyed_table_set(writer, column, FullTransactionIdGetDatum(FullTransactionIdFromU64(xact)));
	else
		cs_keyed_table_set_null(writer, column);
}

void
cs_keyed_table_keep(CsKeyedWriter *writer, int column)
{
	writer->values[column] = slot_getattr(writer->table.slot, column + 1, &writer->nulls[column]);
}

void
cs_keyed_table_keep_all(CsKeyedWriter *writer)
{
	for (int i = 0; i < RelationGetNumberOfAttributes(writer->table.rel); i++)
		cs_keyed_table_keep(writer, i);
}
