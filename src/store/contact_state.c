/*-------------------------------------------------------------------------
 *
 * contact_state.c
 *		contactsync.contact: what was last synced of every source row.
 *
 * Every contact that is sent is looked up here before and stored here after,
 * which is most of what its delivery costs.  So that is done without SQL, as
 * capturing is: rows are found by the primary key, new ones are inserted many at
 * a time, and known ones are updated in place where their page has room.
 *
 * Only the owner of the queue writes rows of a key that is in flight.  If another
 * session does so all the same, storing is tried once more.
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
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "store/contact_state.h"

/* Columns of contactsync.contact. */
enum
{
	LEDGER_ENDPOINT,
	LEDGER_WATCH,
	LEDGER_KEY,
	LEDGER_UPSERT_KEY,
	LEDGER_EMAIL,
	LEDGER_ACTION,
	LEDGER_DIGEST,
	LEDGER_SYNCED_AT,
	LEDGER_REMOTE_ID,
	LEDGER_CONSENT_SENT,
	LEDGER_OPTED_OUT,
	LEDGER_TOPICS,
	LEDGER_ERROR,
	LEDGER_REMOTE_STATUS,
	LEDGER_REMOTE_UPDATED_AT,
	LEDGER_COLUMNS
};

/* How many rows are inserted at a time. */
#define INSERT_AT_ONCE	200

/* The table, open for searches by its primary key. */
typedef struct CsContactTable
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* the row that was found */
	Snapshot	snapshot;
} CsContactTable;

static void
open_table(CsContactTable *table, LOCKMODE lockmode)
{
	Oid			relid = get_relname_relid("contact", get_namespace_oid(CS_SCHEMA, false));

	table->rel = table_open(relid, lockmode);
	table->index = index_open(RelationGetPrimaryKeyIndex(table->rel), lockmode);
	table->snapshot = RegisterSnapshot(GetLatestSnapshot());
	table->scan = index_beginscan(table->rel, table->index, table->snapshot, 3, 0);
	table->slot = table_slot_create(table->rel, NULL);
}

static void
close_table(CsContactTable *table)
{
	ExecDropSingleTupleTableSlot(table->slot);
	index_endscan(table->scan);
	UnregisterSnapshot(table->snapshot);
	index_close(table->index, NoLock);
	table_close(table->rel, NoLock);
}

/* Put the row of the key into table->slot.  Return false if there is none. */
static bool
find(CsContactTable *table, int endpoint, int watch, const char *key)
{
	ScanKeyData keys[3];
	text	   *text_key = cstring_to_text(key);
	bool		found;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(watch));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, PointerGetDatum(text_key));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(endpoint));
	index_rescan(table->scan, keys, 3, NULL, 0);
	found = index_getnext_slot(table->scan, ForwardScanDirection, table->slot);
	pfree(text_key);
	return found;
}

/*
 * Reading
 */

static char *
text_of(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(slot, column + 1, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

static bool
bool_of(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(slot, column + 1, &isnull);

	return !isnull && DatumGetBool(datum);
}

static void
fill_known(TupleTableSlot *slot, CsKnown *known)
{
	bool		isnull;
	Datum		datum;

	known->found = true;
	datum = slot_getattr(slot, LEDGER_DIGEST + 1, &isnull);
	known->has_digest = !isnull;
	if (!isnull)
		known->digest = *DatumGetUUIDP(datum);
	known->action = DatumGetChar(slot_getattr(slot, LEDGER_ACTION + 1, &isnull));
	datum = slot_getattr(slot, LEDGER_SYNCED_AT + 1, &isnull);
	known->synced_at = isnull ? 0 : DatumGetTimestampTz(datum);
	known->upsert_key = text_of(slot, LEDGER_UPSERT_KEY);
	known->email = text_of(slot, LEDGER_EMAIL);
	known->remote_id = text_of(slot, LEDGER_REMOTE_ID);
	known->consent_sent = bool_of(slot, LEDGER_CONSENT_SENT);
	known->opted_out = bool_of(slot, LEDGER_OPTED_OUT);
	known->topics = text_of(slot, LEDGER_TOPICS);
}

void
cs_contact_state_read(int endpoint, int watch, int n, char **keys, CsKnown *known)
{
	CsContactTable table;

	memset(known, 0, n * sizeof(CsKnown));
	open_table(&table, AccessShareLock);
	for (int i = 0; i < n; i++)
		if (find(&table, endpoint, watch, keys[i]))
			fill_known(table.slot, &known[i]);
	close_table(&table);
}

/* Do not trust that the provider has what was synced before a time. */
void
cs_contact_state_expire(int n, CsKnown *known, TimestampTz before)
{
	for (int i = 0; i < n; i++)
		if (known[i].found && known[i].synced_at < before)
			known[i].has_digest = false;
}

/*
 * Storing
 */

static void
set_text(Datum *values, bool *nulls, int column, const char *utf8)
{
	nulls[column] = utf8 == NULL;
	values[column] = utf8 ? CStringGetTextDatum(cs_text_from_utf8(utf8)) : (Datum) 0;
}

/* Set a text; what the provider did not say this time is kept from "older", if any. */
static void
set_text_or_keep(Datum *values, bool *nulls, int column, const char *utf8, TupleTableSlot *older)
{
	if (utf8 == NULL && older)
		values[column] = slot_getattr(older, column + 1, &nulls[column]);
	else
		set_text(values, nulls, column, utf8);
}

/* Return the address, or NULL if it is the upsert key. */
static const char *
email_if_not_key(const CsContact *contact)
{
	const char *email = contact->value[CS_EMAIL];

	return email && strcmp(email, contact->upsert_key) == 0 ? NULL : email;
}

static char
action_letter(CsAction action)
{
	return action == CS_UPSERT ? 'u' : action == CS_UNSUBSCRIBE ? 'n' : 'd';
}

/*
 * Return whether the contact has opted out at the provider.  What a pull learnt
 * while the call was in flight is newer than what the call began with.  But a
 * contact that was sent as opted out has withdrawn consent here, and a consent
 * given after that is new.
 */
static bool
opted_out(const CsStored *stored, TupleTableSlot *older)
{
	bool		known = older && bool_of(older, LEDGER_OPTED_OUT);

	if (older == NULL || known == stored->contact->opted_out)
		return stored->opted_out;
	return known && !cs_contact_is(stored->contact, CS_OPT_IN, "false");
}

/* Fill a row; "older" is the one that it replaces, or NULL. */
static void
fill_row(int endpoint, int watch, const CsStored *stored, TimestampTz now,
		 TupleTableSlot *older, Datum *values, bool *nulls)
{
	memset(nulls, 0, LEDGER_COLUMNS * sizeof(bool));
	values[LEDGER_ENDPOINT] = Int32GetDatum(endpoint);
	values[LEDGER_WATCH] = Int32GetDatum(watch);
	values[LEDGER_KEY] = CStringGetTextDatum(stored->key);
	set_text(values, nulls, LEDGER_UPSERT_KEY, stored->contact->upsert_key);
	set_text(values, nulls, LEDGER_EMAIL, email_if_not_key(stored->contact));
	values[LEDGER_ACTION] = CharGetDatum(action_letter(stored->contact->action));
	values[LEDGER_DIGEST] = UUIDPGetDatum(&stored->digest);
	values[LEDGER_SYNCED_AT] = TimestampTzGetDatum(now);
	set_text_or_keep(values, nulls, LEDGER_REMOTE_ID, stored->remote_id, older);
	set_text_or_keep(values, nulls, LEDGER_REMOTE_STATUS, stored->remote_status, older);
	set_text_or_keep(values, nulls, LEDGER_REMOTE_UPDATED_AT, stored->remote_updated_at, older);
	values[LEDGER_CONSENT_SENT] = BoolGetDatum(stored->consent_sent);
	values[LEDGER_OPTED_OUT] = BoolGetDatum(opted_out(stored, older));
	set_text(values, nulls, LEDGER_TOPICS, stored->topics);
	set_text(values, nulls, LEDGER_ERROR, stored->note);
}

/* The table, open for writing, too. */
typedef struct CsContactWriter
{
	CsContactTable table;
	EState	   *estate;
	ResultRelInfo *result;
	TupleTableSlot *update_slot;
	TupleTableSlot *insert_slots[INSERT_AT_ONCE];
	int			nslots;			/* insert_slots that exist */
	int			ninserts;		/* of those, filled */
} CsContactWriter;

static void
begin_write(CsContactWriter *writer)
{
	memset(writer, 0, sizeof(CsContactWriter));
	open_table(&writer->table, RowExclusiveLock);
	writer->estate = CreateExecutorState();
	writer->result = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->result, writer->table.rel, 0, NULL, 0);
	ExecOpenIndices(writer->result, false);
	writer->update_slot = table_slot_create(writer->table.rel, NULL);
}

static void
insert_index_entries(CsContactWriter *writer, TupleTableSlot *slot, bool update)
{
	list_free(cs_insert_index_tuples(writer->result, slot, writer->estate, update));
	ResetPerTupleExprContext(writer->estate);
}

static void
flush_inserts(CsContactWriter *writer)
{
	if (writer->ninserts == 0)
		return;
	table_multi_insert(writer->table.rel, writer->insert_slots, writer->ninserts,
					   GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < writer->ninserts; i++)
		insert_index_entries(writer, writer->insert_slots[i], false);
	writer->ninserts = 0;
}

static void
end_write(CsContactWriter *writer)
{
	flush_inserts(writer);
	for (int i = 0; i < writer->nslots; i++)
		ExecDropSingleTupleTableSlot(writer->insert_slots[i]);
	ExecDropSingleTupleTableSlot(writer->update_slot);
	ExecCloseIndices(writer->result);
	FreeExecutorState(writer->estate);
	close_table(&writer->table);
	CommandCounterIncrement();
}

static TupleTableSlot *
next_insert(CsContactWriter *writer)
{
	TupleTableSlot *slot;

	if (writer->ninserts == INSERT_AT_ONCE)
		flush_inserts(writer);
	if (writer->ninserts == writer->nslots)
		writer->insert_slots[writer->nslots++] = table_slot_create(writer->table.rel, NULL);
	slot = writer->insert_slots[writer->ninserts++];
	ExecClearTuple(slot);
	return slot;
}

/* Replace the row that was found by that in update_slot. */
static void
update_row(CsContactWriter *writer)
{
	TM_FailureData failure;
	LockTupleMode lockmode;
	CsUpdateIndexes update_indexes;
	TM_Result	result;

	result = table_tuple_update(writer->table.rel, &writer->table.slot->tts_tid,
								writer->update_slot, GetCurrentCommandId(true),
								writer->table.snapshot, InvalidSnapshot, true, &failure,
								&lockmode, &update_indexes);
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of contactsync.contact was changed by another session")));
	if (update_indexes)
		insert_index_entries(writer, writer->update_slot, true);
}

/* What store() stores. */
typedef struct CsStoreJob
{
	int			endpoint;
	int			watch;
	int			n;
	const CsStored *stored;
} CsStoreJob;

static void
store(void *arg)
{
	const CsStoreJob *job = arg;
	TimestampTz now = GetCurrentTimestamp();
	CsContactWriter writer;

	begin_write(&writer);
	for (int i = 0; i < job->n; i++)
	{
		const CsStored *stored = &job->stored[i];
		bool		found = find(&writer.table, job->endpoint, job->watch, stored->key);
		TupleTableSlot *slot = found ? ExecClearTuple(writer.update_slot) : next_insert(&writer);

		fill_row(job->endpoint, job->watch, stored, now, found ? writer.table.slot : NULL,
				 slot->tts_values, slot->tts_isnull);
		ExecStoreVirtualTuple(slot);
		if (found)
			update_row(&writer);
	}
	end_write(&writer);
}

/* Store that the provider has these contacts now.  No key occurs twice. */
void
cs_contact_state_store(int endpoint, int watch, int n, const CsStored *stored)
{
	CsStoreJob	job = {endpoint, watch, n, stored};

	if (cs_try(store, &job, NULL, NULL) != CS_TRY_OK)
		store(&job);
}

/*
 * Through SQL
 */

bool
cs_contact_state_exists(int endpoint, int watch)
{
	static CsStatement statement = {
		"SELECT EXISTS (SELECT FROM contactsync.contact WHERE endpoint = $1 AND watch = $2)",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(watch)};
	bool		isnull;

	cs_sql_execute(&statement, args, NULL);
	return DatumGetBool(cs_sql_value(0, 1, &isnull));
}

/* Run a statement about some keys of a watch at an endpoint. */
static void
execute_for_keys(CsStatement *statement, int endpoint, int watch, int n, char **keys)
{
	Datum		args[3];

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = cs_sql_make_text_array(n, keys);
	cs_sql_execute(statement, args, NULL);
}

/*
 * Forget what was sent last for these keys, since another row was sent as the same
 * contact.  That consent was claimed for them stays known.
 */
void
cs_contact_state_forget_digests(int endpoint, int watch, int n, char **keys)
{
	static CsStatement statement = {
		"UPDATE contactsync.contact SET digest = '00000000-0000-0000-0000-000000000000'"
		" WHERE ctid = ANY (ARRAY(SELECT c.ctid FROM unnest($3) AS k (key),"
		" LATERAL (SELECT ctid FROM contactsync.contact WHERE watch = $2 AND key = k.key AND endpoint = $1"
		" OFFSET 0) c)) AND digest IS NOT NULL",
		3, {INT4OID, INT4OID, TEXTARRAYOID}
	};

	execute_for_keys(&statement, endpoint, watch, n, keys);
}

/* Delete what is known of these keys. */
void
cs_contact_state_forget(int endpoint, int watch, int n, char **keys)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.contact WHERE ctid = ANY (ARRAY(SELECT c.ctid FROM unnest($3) AS k (key),"
		" LATERAL (SELECT ctid FROM contactsync.contact WHERE watch = $2 AND key = k.key AND endpoint = $1"
		" OFFSET 0) c))",
		3, {INT4OID, INT4OID, TEXTARRAYOID}
	};

	execute_for_keys(&statement, endpoint, watch, n, keys);
}

/*
 * Return the key, and the watch, of another row that was sent as the contact with
 * that upsert key, which is an e-mail address: the last one if there are several,
 * NULL if there is none.  A row that has failed since has another address now.
 * palloc'd in SPI's context.
 */
char *
cs_contact_state_find_sharer(int endpoint, const char *upsert_key, int watch, const char *key,
							 int *sharer_watch)
{
	static CsStatement statement = {
		"SELECT c.key, c.watch FROM contactsync.contact c WHERE c.upsert_key = $2 AND c.endpoint = $1"
		" AND c.email IS NULL AND c.action = 'u' AND c.watch <> 0 AND (c.watch, c.key) <> ($3, $4)"
		" AND NOT EXISTS (SELECT FROM contactsync.failure f"
		" WHERE f.watch = c.watch AND f.key = c.key AND f.endpoint = c.endpoint)"
		" ORDER BY c.synced_at DESC LIMIT 1",
		4, {INT4OID, TEXTOID, INT4OID, TEXTOID}
	};
	Datum		args[4];

	args[0] = Int32GetDatum(endpoint);
	args[1] = CStringGetTextDatum(cs_text_from_utf8(upsert_key));
	args[2] = Int32GetDatum(watch);
	args[3] = CStringGetTextDatum(key);
	if (cs_sql_execute(&statement, args, NULL) == 0)
		return NULL;
	*sharer_watch = cs_sql_int(0, 2);
	return cs_sql_text(0, 1);
}

/* Forget what contactsync_upsert() sent of these contacts: rows have replaced it. */
void
cs_contact_state_expire_direct(int endpoint, int n, const CsStored *stored)
{
	static CsStatement statement = {
		"UPDATE contactsync.contact SET digest = NULL WHERE ctid = ANY (ARRAY(SELECT c.ctid FROM unnest($2) AS k (key),"
		" LATERAL (SELECT ctid FROM contactsync.contact WHERE watch = 0 AND key = k.key AND endpoint = $1"
		" AND digest IS NOT NULL OFFSET 0) c))",
		2, {INT4OID, TEXTARRAYOID}
	};
	char	  **keys = palloc(n * sizeof(char *));
	Datum		args[2];

	for (int i = 0; i < n; i++)
		keys[i] = cs_text_from_utf8(stored[i].contact->upsert_key);
	args[0] = Int32GetDatum(endpoint);
	args[1] = cs_sql_make_text_array(n, keys);
	cs_sql_execute(&statement, args, NULL);
}

/* Return how many contacts the provider has from an endpoint. */
int64
cs_contact_state_count(int endpoint)
{
	static CsStatement statement = {
		"SELECT count(DISTINCT upsert_key) FROM contactsync.contact"
		" WHERE endpoint = $1 AND action = 'u' AND digest IS NOT NULL",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);
	bool		isnull;

	cs_sql_execute(&statement, &arg, NULL);
	return DatumGetInt64(cs_sql_value(0, 1, &isnull));
}

/* Return up to "limit" of them that were sent for rows, at random, palloc'd. */
CsContactSample *
cs_contact_state_sample(int endpoint, int limit, int *n)
{
	static CsStatement statement = {
		"SELECT s.watch, s.key, EXISTS (SELECT FROM contactsync.queue q WHERE q.endpoint = $1"
		" AND q.watch = s.watch AND (s.key = ANY (q.keys) OR q.keys IS NULL))"
		" FROM (SELECT c.watch, c.key FROM contactsync.contact c WHERE c.endpoint = $1 AND c.watch <> 0"
		" AND c.action = 'u' AND c.digest IS NOT NULL ORDER BY random() LIMIT $2) s",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(limit)};
	MemoryContext context = CurrentMemoryContext;
	CsContactSample *samples;
	bool		isnull;

	*n = (int) cs_sql_execute(&statement, args, NULL);
	MemoryContextSwitchTo(context);
	samples = palloc(Max(*n, 1) * sizeof(CsContactSample));
	for (int i = 0; i < *n; i++)
	{
		samples[i].watch = cs_sql_int(i, 1);
		samples[i].key = cs_sql_text(i, 2);
		samples[i].queued = DatumGetBool(cs_sql_value(i, 3, &isnull));
	}
	return samples;
}

/*
 * Return in keys the next ones of a watch after "after" ("" at first) that were
 * synced, unless only_failures is set, or have a failure.  If there are fewer than
 * "limit" they are the last.
 */
int
cs_contact_state_next_keys(int endpoint, int watch, bool only_failures, const char *after, int limit,
						   char **keys)
{
	static CsStatement statement = {
		"SELECT key FROM ((SELECT key FROM contactsync.contact WHERE watch = $2 AND key > $3 AND endpoint = $1"
		" AND action = 'u' AND $5 ORDER BY key LIMIT $4)"
		" UNION (SELECT key FROM contactsync.failure WHERE watch = $2 AND key > $3 AND endpoint = $1"
		" ORDER BY key LIMIT $4)) k ORDER BY key LIMIT $4",
		5, {INT4OID, INT4OID, TEXTOID, INT4OID, BOOLOID}
	};
	Datum		args[5];
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	int			n;

	args[0] = Int32GetDatum(endpoint);
	args[1] = Int32GetDatum(watch);
	args[2] = CStringGetTextDatum(after);
	args[3] = Int32GetDatum(limit);
	args[4] = BoolGetDatum(!only_failures);
	cs_sql_enter(&scope);
	n = (int) cs_sql_execute(&statement, args, NULL);
	MemoryContextSwitchTo(context);
	for (int i = 0; i < n; i++)
		keys[i] = cs_sql_text(i, 1);
	cs_sql_leave(&scope);
	return n;
}
