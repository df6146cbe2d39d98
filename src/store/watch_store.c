/*-------------------------------------------------------------------------
 *
 * watch_store.c
 *		Storing and dropping watches.
 *
 * The triggers of a watch belong to its table, so they go with it, and are
 * dumped with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/invalidation.h"
#include "base/sql.h"
#include "base/statement.h"
#include "base/wakeup.h"
#include "store/alert.h"
#include "store/departure.h"
#include "store/notify.h"
#include "store/row_state.h"
#include "store/run_log.h"
#include "store/table_trigger.h"
#include "store/watch.h"
#include "store/watch_store.h"

/* Schema and name of a table, as a query. */
#define NAME_OF(source) \
	"SELECT ARRAY[n.nspname, c.relname] FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = " source

static Datum
name_array(int n, char **names)
{
	Datum	   *elements = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
	{
		Name		name = palloc(NAMEDATALEN);

		namestrcpy(name, names[i]);
		elements[i] = NameGetDatum(name);
	}
	return PointerGetDatum(construct_array(elements, n, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR));
}

/* Store of which types the columns are that the watch uses. */
static void
store_types(const CsWatch *watch)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch w SET types = (SELECT array_agg(CASE WHEN NOT a.attisdropped"
		" AND (a.attnum = ANY ($2) OR 0 = ANY ($2) OR a.attname = ANY (w.key || w.poll_column))"
		" THEN a.atttypid::regtype END ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = w.source AND a.attnum > 0)"
		" WHERE w.id = $1",
		2, {INT4OID, INT2ARRAYOID}
	};
	Datum	   *elements = palloc(Max(bms_num_members(watch->used), 1) * sizeof(Datum));
	Datum		args[2];
	int			n = 0;
	int			member = -1;

	while ((member = bms_next_member(watch->used, member)) >= 0)
		elements[n++] = Int16GetDatum(member + FirstLowInvalidHeapAttributeNumber);
	args[0] = Int32GetDatum(watch->id);
	args[1] = PointerGetDatum(construct_array(elements, n, INT2OID, sizeof(int16), true, TYPALIGN_SHORT));
	cs_sql_execute(&statement, args, NULL);
}

/*
 * Store a new watch, give it its id, and create its triggers.  They are ours, so
 * that is done as the owner of the extension.  "fires": for which rows, see
 * table_trigger.h.
 */
void
cs_watch_store_new(CsWatch *watch, char fires)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.watch (source, endpoint, key, mapping, filter, search_path, on_delete, value_types, alias, known_as)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, (" NAME_OF("$1") ")) ON CONFLICT (source, endpoint) DO NOTHING RETURNING id",
		9, {REGCLASSOID, INT4OID, NAMEARRAYOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID}
	};
	Datum		args[9];
	char		nulls[10] = "         ";
	CsSqlScope	scope;
	ListCell   *lc;

	cs_sql_enter(&scope);
	args[0] = ObjectIdGetDatum(watch->source);
	args[1] = Int32GetDatum(watch->endpoint);
	args[2] = name_array(watch->nkeys, watch->keys);
	args[3] = cs_watch_mapping_to_jsonb(watch);
	args[4] = watch->filter ? CStringGetTextDatum(watch->filter) : (Datum) 0;
	nulls[4] = watch->filter ? ' ' : 'n';
	args[5] = CStringGetTextDatum(watch->search_path);
	args[6] = CStringGetTextDatum(cs_watch_on_delete_words[watch->on_delete]);
	args[7] = cs_watch_value_types_to_jsonb(watch);
	args[8] = CStringGetTextDatum(watch->alias);
	if (cs_sql_execute(&statement, args, nulls) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("table \"%s\" is watched for that server already",
						get_rel_name(watch->source)),
				 errhint("Use contactsync_alter_watch() to change the watch.")));
	watch->id = cs_sql_int(0, 1);
	store_types(watch);
	foreach(lc, watch->related)
		cs_related_add(watch->endpoint, watch->id, lfirst(lc));
	cs_table_trigger_create(watch, fires);
	cs_sql_leave(&scope);
	cs_invalidation_send(CS_DEFINITIONS);
}

/*
 * Store the changed key, mapping, filter, search_path and on_delete of a watch.
 * Within cs_sql_enter().
 */
void
cs_watch_store_changed(const CsWatch *watch)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET key = $2, mapping = $3, filter = $4, on_delete = $5, search_path = $6,"
		" value_types = $7, alias = $8, mapped_at = clock_timestamp() WHERE id = $1",
		8, {INT4OID, NAMEARRAYOID, JSONBOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID}
	};
	Datum		args[8];
	char		nulls[9] = "        ";

	args[0] = Int32GetDatum(watch->id);
	args[1] = name_array(watch->nkeys, watch->keys);
	args[2] = cs_watch_mapping_to_jsonb(watch);
	args[3] = watch->filter ? CStringGetTextDatum(watch->filter) : (Datum) 0;
	args[4] = CStringGetTextDatum(cs_watch_on_delete_words[watch->on_delete]);
	args[5] = CStringGetTextDatum(watch->search_path);
	args[6] = cs_watch_value_types_to_jsonb(watch);
	args[7] = watch->alias ? CStringGetTextDatum(watch->alias) : (Datum) 0;
	nulls[3] = watch->filter ? ' ' : 'n';
	nulls[7] = watch->alias ? ' ' : 'n';
	cs_sql_execute(&statement, args, nulls);
	store_types(watch);
	/* a row that is mapped in another way has not changed */
	cs_row_state_forget_digests(watch->id);
	cs_invalidation_send(CS_DEFINITIONS);
}

static bool
has_related(List *list, int id)
{
	ListCell   *lc;

	foreach(lc, list)
		if (((CsRelated *) lfirst(lc))->id == id)
		return true;
	return false;
}

/*
 * Store the related tables of a watch that had others before, with their triggers.
 * Within cs_sql_enter().
 */
void
cs_watch_store_related(const CsWatch *watch, List *before)
{
	char		fires = cs_table_trigger_fires(watch);
	ListCell   *lc;

	foreach(lc, before)
	{
		const CsRelated *related = lfirst(lc);

		if (has_related(watch->related, related->id))
			continue;
		cs_table_trigger_drop_related(watch, related);
		cs_related_delete(related);
	}
	foreach(lc, watch->related)
	{
		CsRelated  *related = lfirst(lc);

		if (related->id != 0)
			continue;
		cs_related_add(watch->endpoint, watch->id, related);
		cs_table_trigger_create_related(watch, related, fires);
	}
}

/* Store that the watch is meant for the table by its present name. */
void
cs_watch_store_name(int watch)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET known_as = (" NAME_OF("source") ") WHERE id = $1", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);

	cs_sql_execute(&statement, &arg, NULL);
}

bool
cs_watch_store_set_state(int watch, bool broken, const char *reason)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch w SET since = CASE WHEN w.state = $2 THEN w.since ELSE clock_timestamp() END,"
		" state = $2, reason = $3 FROM contactsync.watch b WHERE w.id = $1 AND b.id = w.id AND w.state <> 'guarded'"
		" RETURNING b.state <> $2",
		3, {INT4OID, TEXTOID, TEXTOID}
	};
	Datum		args[3];
	char		nulls[4] = "   ";
	bool		isnull;

	args[0] = Int32GetDatum(watch);
	args[1] = CStringGetTextDatum(broken ? "broken" : "running");
	args[2] = cs_sql_message_or_null(reason, &nulls[2]);
	return cs_sql_execute(&statement, args, nulls) > 0 && DatumGetBool(cs_sql_value(0, 1, &isnull));
}

/*
 * Have a guarded watch go on with all that is queued by now, for a role that has said
 * that word.  Return false if it is not guarded.
 */
bool
cs_watch_store_release(int endpoint, int watch, const char *word, const char *by)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET state = 'running', reason = NULL, since = NULL, released = pg_current_xact_id()"
		" WHERE id = $1 AND endpoint = $2 AND state = 'guarded'",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(watch), Int32GetDatum(endpoint)};

	if (cs_sql_execute(&statement, args, NULL) == 0)
		return false;
	cs_run_log_release(watch, word, by);
	return true;
}

/* The same for a watch that is guarded because of removals: let go those until now. */
bool
cs_watch_store_release_removals(int endpoint, int watch, const char *word, const char *by)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET state = 'running', reason = NULL, since = NULL, removals_until = clock_timestamp(),"
		" removed = 0"
		" WHERE id = $1 AND endpoint = $2 AND state = 'guarded'",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(watch), Int32GetDatum(endpoint)};

	if (cs_sql_execute(&statement, args, NULL) == 0)
		return false;
	cs_run_log_release(watch, word, by);
	return true;
}

/* Count contacts of a watch that are being removed; a count lasts for a minute. */
void
cs_watch_store_count_removed(int watch, int n)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET removed = $2 + CASE WHEN removed_since > clock_timestamp() - interval '1 min'"
		" THEN removed ELSE 0 END, removed_since = CASE WHEN removed_since > clock_timestamp() - interval '1 min'"
		" THEN removed_since ELSE clock_timestamp() END WHERE id = $1",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(watch), Int32GetDatum(n)};

	if (n > 0)
		cs_sql_execute(&statement, args, NULL);
}

void
cs_watch_store_complete(int watch)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET complete = true WHERE id = $1 AND NOT complete", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);

	cs_sql_execute(&statement, &arg, NULL);
}

/*
 * Hold the watch back until it is resumed, and tell whoever wants to know: it is about
 * so many contacts.  "what" is automations or removals, "reason" a text for its owner.
 */
void
cs_watch_store_guard(int endpoint, int watch, const char *what, const char *reason, int64 contacts)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET state = 'guarded', reason = $2, since = clock_timestamp() WHERE id = $1",
		2, {INT4OID, TEXTOID}
	};
	Datum		args[2] = {Int32GetDatum(watch), CStringGetTextDatum(reason)};

	cs_sql_execute(&statement, args, NULL);
	cs_run_log_hold(endpoint, watch, what, contacts);
	cs_notify("guarded", endpoint, watch, what, contacts);
	cs_alert_begin("guarded", endpoint, watch, what, contacts);
}

/*
 * Dropping
 */

/* Watches that this transaction has dropped; that may have been rolled back since. */
static List *dropped = NIL;
static TransactionId dropped_in = InvalidTransactionId;

static void
note_dropped(int id)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	if (dropped_in != GetTopTransactionId())
		dropped = NIL;
	dropped_in = GetTopTransactionId();
	dropped = lappend_int(dropped, id);
	MemoryContextSwitchTo(old);
}

/* Return whether this transaction has dropped the watch.  Cheap if it dropped none. */
bool
cs_watch_store_is_dropped(int id)
{
	static CsStatement statement = {
		"SELECT FROM contactsync.watch WHERE id = $1", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(id);
	CsSqlScope	scope;
	bool		found;

	if (!TransactionIdIsValid(dropped_in) || dropped_in != GetTopTransactionIdIfAny() ||
		!list_member_int(dropped, id))
		return false;
	/* at commit there may be none */
	PushActiveSnapshot(GetTransactionSnapshot());
	cs_sql_enter_any_version(&scope);
	found = cs_sql_execute(&statement, &arg, NULL) > 0;
	cs_sql_leave(&scope);
	PopActiveSnapshot();
	return !found;
}

/* Execute a command on what is committed by now, also since the snapshot of our
 * transaction was taken. */
static void
execute_latest(const char *command)
{
	SPIPlanPtr	plan = SPI_prepare(command, 0, NULL);
	int			result = SPI_execute_snapshot(plan, NULL, NULL, GetLatestSnapshot(),
											  InvalidSnapshot, false, true, 0);

	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", command, SPI_result_code_string(result));
}

static void
delete_of_watch(const char *table, int endpoint, int id)
{
	execute_latest(cs_statement_make("DELETE FROM contactsync.%I WHERE watch = %d AND endpoint = %d",
									 table, id, endpoint));
}

/*
 * What is queued may be under way, and its queue rows are the only sign of that: what
 * their contacts have is not known any more, and rows of other watches are to speak
 * for them.
 */
static void
doubt_queued(int endpoint, int id)
{
	execute_latest(cs_statement_make(
									 "WITH doubted AS (UPDATE contactsync.contact c SET digest = NULL"
									 " FROM (SELECT DISTINCT s.upsert_key FROM contactsync.queue q, unnest(q.keys) k (key), contactsync.source_row s"
									 " WHERE q.endpoint = %d AND q.watch = %d AND q.related IS NULL AND s.watch = q.watch AND s.key = k.key) r"
									 " WHERE c.endpoint = %d AND c.upsert_key = r.upsert_key AND c.digest IS NOT NULL"
									 " RETURNING c.upsert_key, c.watch, c.key)"
									 " INSERT INTO contactsync.queue (endpoint, watch, xact, id, queued_at, n, keys, origin)"
									 " SELECT %d, s.watch, pg_current_xact_id(), -nextval('contactsync.queue_id'), clock_timestamp(), 1, ARRAY[s.key], 'p'"
									 " FROM (SELECT DISTINCT ON (d.upsert_key) s.watch, s.key FROM doubted d, contactsync.source_row s"
									 " WHERE s.upsert_key = d.upsert_key AND s.endpoint = %d AND s.watch <> %d ORDER BY d.upsert_key,"
									 " s.watch = d.watch AND s.key = d.key DESC NULLS LAST, s.spoke_at DESC NULLS LAST) s",
									 endpoint, id, endpoint, endpoint, endpoint, id));
}

/* Delete everything that is known of a watch that is dropped.  Within cs_sql_enter(). */
void
cs_watch_store_forget(int endpoint, int id)
{
	static const char *const tables[] = {"queue", "source_row", "departure", "failure", "counter", "pause", "scan", "traced", "trace", "forgotten", "related", "remaining_row"};

	doubt_queued(endpoint, id);
	cs_run_log_abandon(id, NULL, "unwatched");
	cs_departure_leave_watch(endpoint, id);
	for (int i = 0; i < lengthof(tables); i++)
		delete_of_watch(tables[i], endpoint, id);
}

/*
 * Drop the watch, its triggers, and everything that is known of it.  Changes that
 * this transaction has noted so far are not queued when it commits.
 */
void
cs_watch_store_drop(int endpoint, int id)
{
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_table_trigger_drop(endpoint, id);
	cs_watch_store_forget(endpoint, id);
	cs_sql_execute_command("DELETE FROM contactsync.watch WHERE id = %d", id);
	cs_sql_leave(&scope);
	note_dropped(id);
	cs_wakeup_at_commit();
	cs_invalidation_send(CS_DEFINITIONS);
}

/* Delete a watch and what is stored of it, but leave its triggers, which do nothing
 * then. */
void
cs_watch_store_abandon(int endpoint, int id)
{
	cs_watch_store_forget(endpoint, id);
	cs_sql_execute_command("DELETE FROM contactsync.watch WHERE id = %d", id);
}

/*
 * Delete what is stored of watches that have been dropped: outcomes of calls that
 * were in flight then.  A watch whose id has not been assigned in this database
 * may be about to be restored, so its rows stay.
 */
void
cs_watch_store_sweep(void)
{
#define SWEEP(table) { \
	"WITH RECURSIVE w AS (SELECT min(watch) AS id FROM contactsync." table \
	" UNION ALL SELECT (SELECT t.watch FROM contactsync." table " t WHERE t.watch > w.id ORDER BY t.watch LIMIT 1)" \
	" FROM w WHERE w.id IS NOT NULL)" \
	" DELETE FROM contactsync." table " WHERE watch = ANY (ARRAY(SELECT w.id FROM w, contactsync.watch_id_seq s" \
	" WHERE w.id > 0 AND s.is_called AND w.id <= s.last_value" \
	" AND NOT EXISTS (SELECT FROM contactsync.watch x WHERE x.id = w.id)))" \
	" AND endpoint IN (SELECT id FROM contactsync.endpoint WHERE database = contactsync.database_identity())"}
	static CsStatement statements[] = {SWEEP("source_row"), SWEEP("failure"), SWEEP("counter"), SWEEP("scan"), SWEEP("remaining_row")};

	for (int i = 0; i < lengthof(statements); i++)
		cs_sql_execute(&statements[i], NULL, NULL);
}
