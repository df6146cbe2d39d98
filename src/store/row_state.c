/*-------------------------------------------------------------------------
 *
 * row_state.c
 *		contactsync.source_row: which contact a source row stands for.
 *
 * Several rows can stand for a contact.  The one that was sent last speaks for it:
 * what it said is the digest of the contact.  A row gets a digest of its own only
 * when it does not speak, so that a change of a contact that has one row, as most
 * have, writes one row of one table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "store/keyed_table.h"
#include "store/row_state.h"

#define TABLE	"source_row"

enum
{
	ROW_WATCH,
	ROW_KEY,
	ROW_ENDPOINT,
	ROW_UPSERT_KEY,
	ROW_DIGEST,
	ROW_OPT_IN,
	ROW_WITHHELD,
	ROW_SPOKE_AT,
	ROW_NO_XACT
};

/* The columns of the primary key, and of the index source_row_contact. */
#define PRIMARY_KEYS	2
#define CONTACT_KEYS	2

/*
 * Stored of a row that may have been sent with another digest than it had.  If that is a
 * word which has no answer, the second half is a hash of its address.
 */
static const pg_uuid_t doubt = {{0}};

#define HALF	(UUID_LEN / 2)

static bool
find(CsKeyedTable *table, int watch, const char *key)
{
	ScanKeyData keys[PRIMARY_KEYS];

	cs_keyed_table_int_key(keys, ROW_WATCH, watch);
	cs_keyed_table_text_key(keys, ROW_KEY, key);
	return cs_keyed_table_find(table, keys);
}

/* Is there a doubt instead of a digest? */
static void
read_doubt(CsRowState *row)
{
	if (!row->has_digest || memcmp(row->digest.data, doubt.data, HALF) != 0)
		return;
	memcpy(&row->word_address, row->digest.data + HALF, sizeof(int64));
	row->in_doubt = row->word_address == 0;
	row->has_digest = row->in_doubt;
}

void
cs_row_state_read(int watch, int n, char **keys, CsRowState *rows)
{
	CsKeyedTable table;

	memset(rows, 0, n * sizeof(CsRowState));
	cs_keyed_table_open(&table, TABLE, NULL, PRIMARY_KEYS, AccessShareLock);
	for (int i = 0; i < n; i++)
	{
		if (keys[i] == NULL || !find(&table, watch, keys[i]))
			continue;
		rows[i].found = true;
		rows[i].upsert_key = cs_keyed_table_text(&table, ROW_UPSERT_KEY);
		rows[i].has_digest = cs_keyed_table_uuid(&table, ROW_DIGEST, &rows[i].digest);
		read_doubt(&rows[i]);
		rows[i].opt_in = cs_keyed_table_char(&table, ROW_OPT_IN);
		rows[i].no_xact = cs_keyed_table_xact(&table, ROW_NO_XACT);
		rows[i].spoke_at = cs_keyed_table_time(&table, ROW_SPOKE_AT);
		rows[i].withheld = cs_keyed_table_bool(&table, ROW_WITHHELD);
	}
	cs_keyed_table_close(&table);
}

/* Open the table to find rows by the contact that they stand for. */
static void
open_by_contact(CsKeyedTable *table)
{
	cs_keyed_table_open(table, TABLE, "source_row_contact", CONTACT_KEYS, AccessShareLock);
}

/* Find the first row that stands for the contact; cs_keyed_table_next() has the others. */
static bool
find_standing(CsKeyedTable *table, int endpoint, const char *upsert_key)
{
	ScanKeyData keys[CONTACT_KEYS];

	cs_keyed_table_text_key(keys, 0, upsert_key);
	cs_keyed_table_int_key(keys, 1, endpoint);
	return cs_keyed_table_find(table, keys);
}

/* Is it the row that was found? */
static bool
is_row(CsKeyedTable *table, int watch, const char *key)
{
	return key && cs_keyed_table_int(table, ROW_WATCH) == watch &&
		strcmp(cs_keyed_table_text(table, ROW_KEY), key) == 0;
}

static bool
has_other(CsKeyedTable *table, int endpoint, const char *upsert_key, int watch, const char *key)
{
	for (bool there = find_standing(table, endpoint, upsert_key); there; there = cs_keyed_table_next(table))
		if (!is_row(table, watch, key))
			return true;
	return false;
}

void
cs_row_state_have_others(int endpoint, int n, char **upsert_keys, int watch, char **keys, bool *have)
{
	CsKeyedTable table;

	open_by_contact(&table);
	for (int i = 0; i < n; i++)
		have[i] = upsert_keys[i] && has_other(&table, endpoint, upsert_keys[i], watch, keys[i]);
	cs_keyed_table_close(&table);
}

bool
cs_row_state_has_other(int endpoint, const char *upsert_key, int watch, const char *key)
{
	bool		has;

	cs_row_state_have_others(endpoint, 1, (char **) &upsert_key, watch, (char **) &key, &has);
	return has;
}

bool
cs_row_state_find_same(int endpoint, const char *upsert_key, int watch, const char *key,
					   const pg_uuid_t *digest, int *other_watch, char **other_key)
{
	CsKeyedTable table;
	pg_uuid_t	own;
	bool		found = false;

	open_by_contact(&table);
	for (bool there = find_standing(&table, endpoint, upsert_key); there && !found;
		 there = cs_keyed_table_next(&table))
	{
		if (is_row(&table, watch, key) || !cs_keyed_table_uuid(&table, ROW_DIGEST, &own) ||
			memcmp(&own, digest, sizeof(pg_uuid_t)) != 0)
			continue;
		found = true;
		*other_watch = cs_keyed_table_int(&table, ROW_WATCH);
		*other_key = cs_keyed_table_text(&table, ROW_KEY);
	}
	cs_keyed_table_close(&table);
	return found;
}

/* Find the row that spoke last, but after "since", of all but one, or of those that are withheld. */
static bool
find_last(int endpoint, const char *upsert_key, int watch, const char *key, bool only_withheld, TimestampTz since,
		  int *other_watch, char **other_key)
{
	CsKeyedTable table;
	bool		found = false;

	open_by_contact(&table);
	for (bool there = find_standing(&table, endpoint, upsert_key); there; there = cs_keyed_table_next(&table))
	{
		TimestampTz at = cs_keyed_table_time(&table, ROW_SPOKE_AT);

		if (at <= since || is_row(&table, watch, key) || (only_withheld && !cs_keyed_table_bool(&table, ROW_WITHHELD)))
			continue;
		found = true;
		since = at;
		*other_watch = cs_keyed_table_int(&table, ROW_WATCH);
		*other_key = cs_keyed_table_text(&table, ROW_KEY);
	}
	cs_keyed_table_close(&table);
	return found;
}

bool
cs_row_state_find_withheld(int endpoint, const char *upsert_key, TimestampTz since,
						   int *other_watch, char **other_key)
{
	return find_last(endpoint, upsert_key, 0, NULL, true, since, other_watch, other_key);
}

bool
cs_row_state_find_speaker(int endpoint, const char *upsert_key, int watch, const char *key,
						  int *other_watch, char **other_key)
{
	return find_last(endpoint, upsert_key, watch, key, false, DT_NOBEGIN, other_watch, other_key);
}

int
cs_row_state_read_standing(int endpoint, const char *upsert_key, CsRowStanding **rows)
{
	CsKeyedTable table;
	int			n = 0;
	int			max = 4;

	*rows = palloc(max * sizeof(CsRowStanding));
	open_by_contact(&table);
	for (bool there = find_standing(&table, endpoint, upsert_key); there; there = cs_keyed_table_next(&table))
	{
		if (n == max)
			*rows = repalloc(*rows, (max *= 2) * sizeof(CsRowStanding));
		(*rows)[n].watch = cs_keyed_table_int(&table, ROW_WATCH);
		(*rows)[n].key = cs_keyed_table_text(&table, ROW_KEY);
		(*rows)[n].no_xact = cs_keyed_table_xact(&table, ROW_NO_XACT);
		(*rows)[n++].opt_in = cs_keyed_table_char(&table, ROW_OPT_IN);
	}
	cs_keyed_table_close(&table);
	return n;
}

bool
cs_row_state_stands(int watch, const char *key, const char *upsert_key)
{
	CsRowState	row;

	if (watch == 0)
		return false;
	cs_row_state_read(watch, 1, (char **) &key, &row);
	return row.found && strcmp(row.upsert_key, upsert_key) == 0;
}

/*
 * Writing
 */

void
cs_row_state_store(int endpoint, int watch, int n, const CsRowStored *stored)
{
	CsKeyedWriter writer;
	pg_uuid_t  *words;			/* until the end of writing */

	if (n == 0)
		return;
	words = palloc(n * sizeof(pg_uuid_t));
	cs_keyed_table_begin_write(&writer, TABLE, PRIMARY_KEYS);
	for (int i = 0; i < n; i++)
	{
		bool		found = find(&writer.table, watch, stored[i].key);

		words[i] = doubt;
		memcpy(words[i].data + HALF, &stored[i].word_address, sizeof(int64));
		cs_keyed_table_set(&writer, ROW_WATCH, Int32GetDatum(watch));
		cs_keyed_table_set_text(&writer, ROW_KEY, stored[i].key);
		cs_keyed_table_set(&writer, ROW_ENDPOINT, Int32GetDatum(endpoint));
		cs_keyed_table_set_text(&writer, ROW_UPSERT_KEY, stored[i].upsert_key);
		if (stored[i].in_doubt || stored[i].word_address != 0)
			cs_keyed_table_set(&writer, ROW_DIGEST, UUIDPGetDatum(&words[i]));
		else if (stored[i].has_digest)
			cs_keyed_table_set(&writer, ROW_DIGEST, UUIDPGetDatum(&stored[i].digest));
		else
			cs_keyed_table_set_null(&writer, ROW_DIGEST);
		cs_keyed_table_set(&writer, ROW_OPT_IN, CharGetDatum(stored[i].opt_in));
		cs_keyed_table_set(&writer, ROW_WITHHELD, BoolGetDatum(stored[i].withheld));
		if (stored[i].spoke_at != 0)
			cs_keyed_table_set_time(&writer, ROW_SPOKE_AT, stored[i].spoke_at);
		else if (found)
			cs_keyed_table_keep(&writer, ROW_SPOKE_AT);
		else
			cs_keyed_table_set_null(&writer, ROW_SPOKE_AT);
		cs_keyed_table_set_xact(&writer, ROW_NO_XACT, stored[i].no_xact);
		if (found)
			cs_keyed_table_update(&writer);
		else
			cs_keyed_table_insert(&writer);
	}
	cs_keyed_table_end_write(&writer);
}

/* When was the watch altered?  0: never. */
static TimestampTz
mapped_at(int watch)
{
	static CsStatement statement = {"SELECT mapped_at FROM contactsync.watch WHERE id = $1", 1, {INT4OID}};
	Datum		arg = Int32GetDatum(watch);
	TimestampTz at = 0;
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	if (cs_sql_execute(&statement, &arg, NULL) > 0)
		at = cs_sql_time(0, 1);
	cs_sql_leave(&scope);
	return at;
}

void
cs_row_state_keep_digests(int n, const CsSpeaker *speakers)
{
	MemoryContext context = CurrentMemoryContext;
	CsKeyedWriter writer;
	TimestampTz *since;

	if (n == 0)
		return;
	since = palloc(n * sizeof(TimestampTz));
	for (int i = 0; i < n; i++)
		since[i] = i > 0 && speakers[i].watch == speakers[i - 1].watch ? since[i - 1] : mapped_at(speakers[i].watch);
	MemoryContextSwitchTo(context);
	cs_keyed_table_begin_write(&writer, TABLE, PRIMARY_KEYS);
	for (int i = 0; i < n; i++)
	{
		if (!find(&writer.table, speakers[i].watch, speakers[i].key) ||
			strcmp(cs_keyed_table_text(&writer.table, ROW_UPSERT_KEY), speakers[i].upsert_key) != 0 ||
			cs_keyed_table_bool(&writer.table, ROW_WITHHELD))
			continue;
		cs_keyed_table_keep_all(&writer);
		if (speakers[i].has_digest && speakers[i].sent_at >= since[i])
			cs_keyed_table_set(&writer, ROW_DIGEST, UUIDPGetDatum(&speakers[i].digest));
		cs_keyed_table_set_time(&writer, ROW_SPOKE_AT, speakers[i].spoke_at);
		cs_keyed_table_update(&writer);
	}
	cs_keyed_table_end_write(&writer);
}

void
cs_row_state_remove(int watch, int n, char **keys)
{
	CsKeyedWriter writer;

	if (n == 0)
		return;
	cs_keyed_table_begin_write(&writer, TABLE, PRIMARY_KEYS);
	for (int i = 0; i < n; i++)
		if (find(&writer.table, watch, keys[i]))
			cs_keyed_table_delete(&writer);
	cs_keyed_table_end_write(&writer);
}

/* The contacts c of an endpoint with an address, but one. */
#define OTHERS_OF_ADDRESS \
	"c.endpoint = $1 AND (c.email = $2 OR c.upsert_key = $2 AND c.email IS NULL) AND c.upsert_key <> $3"

bool
cs_row_state_has_alias(int endpoint, const char *address, const char *upsert_key)
{
	static CsStatement statement = {
		"SELECT FROM contactsync.contact c JOIN contactsync.source_row s"
		" ON s.upsert_key = c.upsert_key AND s.endpoint = c.endpoint"
		" WHERE " OTHERS_OF_ADDRESS " AND $2 IN ($3, c.upsert_key) LIMIT 1",
		3, {INT4OID, TEXTOID, TEXTOID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), CStringGetTextDatum(address),
	CStringGetTextDatum(upsert_key)};
	CsSqlScope	scope;
	bool		found;

	cs_sql_enter(&scope);
	found = cs_sql_execute(&statement, args, NULL) > 0;
	cs_sql_leave(&scope);
	return found;
}

int
cs_row_state_find_holders(int endpoint, const char *address, const char *but_upsert_key,
						  CsRowStanding **rows)
{
	static CsStatement statement = {
		"SELECT s.watch, s.key FROM contactsync.contact c JOIN contactsync.source_row s"
		" ON s.upsert_key = c.upsert_key AND s.endpoint = c.endpoint"
		" WHERE " OTHERS_OF_ADDRESS
		" UNION SELECT c.watch, c.key FROM contactsync.contact c WHERE " OTHERS_OF_ADDRESS " AND c.key IS NOT NULL",
		3, {INT4OID, TEXTOID, TEXTOID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), CStringGetTextDatum(address),
	CStringGetTextDatum(but_upsert_key)};
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	int			n;

	cs_sql_enter(&scope);
	n = (int) cs_sql_execute(&statement, args, NULL);
	MemoryContextSwitchTo(context);
	*rows = palloc0(Max(n, 1) * sizeof(CsRowStanding));
	for (int i = 0; i < n; i++)
	{
		(*rows)[i].watch = cs_sql_int(i, 1);
		(*rows)[i].key = cs_sql_text(i, 2);
	}
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	return n;
}

int
cs_row_state_next_keys(int endpoint, int watch, bool only_failures, const char *after, int limit,
					   char **keys)
{
	static CsStatement statement = {
		"SELECT key FROM ((SELECT key FROM contactsync.source_row WHERE watch = $2 AND key > $3 AND $5"
		" ORDER BY key LIMIT $4)"
		" UNION (SELECT key FROM contactsync.failure WHERE watch = $2 AND key > $3 AND endpoint = $1"
		" ORDER BY key LIMIT $4)"
		" UNION (SELECT key FROM contactsync.remaining_row WHERE watch = $2 AND key > $3 ORDER BY key LIMIT $4)) k ORDER BY key LIMIT $4",
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

int64
cs_row_state_count(int watch, int64 limit)
{
	static CsStatement statement = {
		"SELECT count(DISTINCT upsert_key) FROM (SELECT upsert_key FROM contactsync.source_row"
		" WHERE watch = $1 AND NOT withheld LIMIT $2) s",
		2, {INT4OID, INT8OID}
	};
	Datum		args[2] = {Int32GetDatum(watch), Int64GetDatum(limit)};
	bool		isnull;

	cs_sql_execute(&statement, args, NULL);
	return DatumGetInt64(cs_sql_value(0, 1, &isnull));
}

void
cs_row_state_forget_digests(int watch)
{
	static CsStatement statement = {
		"UPDATE contactsync.source_row SET digest = NULL WHERE watch = $1 AND digest IS NOT NULL", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);

	cs_sql_execute(&statement, &arg, NULL);
}

void
cs_row_state_forget_withheld(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.source_row SET withheld = false"
		" WHERE withheld AND watch IN (SELECT id FROM contactsync.watch WHERE endpoint = $1)",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	cs_sql_execute(&statement, &arg, NULL);
}
