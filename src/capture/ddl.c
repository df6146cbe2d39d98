/*-------------------------------------------------------------------------
 *
 * ddl.c
 *		What becomes of watches when tables and servers change.
 *
 * Event triggers, so that it happens in the transaction of whoever makes the
 * change, whether or not there is a worker.  They do nothing, and nothing that
 * could fail, unless it is about something that is watched.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "capture/follow.h"
#include "store/state.h"
#include "store/table_trigger.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_note_ddl);
CS_FUNCTION(contactsync_note_drop);

static void
require_event_trigger(FunctionCallInfo fcinfo, const char *name)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called as an event trigger", name)));
}

/*
 * Effect: a table that has come to inherit from a watched one has its triggers;
 * columns and servers are known by the names that they have now.
 */
static void
follow_commands(void)
{
	static CsStatement commands = {
		"SELECT COALESCE(bool_or(d.classid = 'pg_foreign_server'::regclass), false),"
		" COALESCE(bool_or(d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_inherits"
		" WHERE d.objid IN (inhrelid, inhparent))), false)"
		" FROM pg_event_trigger_ddl_commands() d WHERE EXISTS (SELECT FROM contactsync.watch)"
	};
	static CsStatement watched = {
		"SELECT FROM pg_event_trigger_ddl_commands() d JOIN contactsync.watch w ON w.source = d.objid"
		" WHERE d.classid = 'pg_class'::regclass LIMIT 1"
	};
	bool		isnull;
	bool		servers;
	bool		inherits;

	cs_sql_execute(&commands, NULL, NULL);
	servers = DatumGetBool(cs_sql_value(0, 1, &isnull));
	inherits = DatumGetBool(cs_sql_value(0, 2, &isnull));
	if (servers)
	{
		cs_state_follow_servers();
		cs_shmem_reload_at_commit();
	}
	if (inherits)
		cs_table_trigger_follow();
	if (cs_sql_execute(&watched, NULL, NULL) == 0 && !inherits)
		return;
	(void) cs_follow_columns();
	cs_shmem_reload_at_commit();	/* what it broke, or mended, is seen at
									 * once */
}

/*
 * Effect: the same in a subtransaction: whoever alters a table is not to fail
 * for us.  Columns and servers are looked at again by whoever delivers.
 */
static void
try_to_follow_commands(void)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		CsSqlScope	scope;

		cs_sql_enter(&scope);
		follow_commands();
		cs_sql_leave(&scope);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("contactsync could not follow this command: %s", error->message)));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

/* contactsync.note_ddl(), on ddl_command_end */
Datum
contactsync_note_ddl(PG_FUNCTION_ARGS)
{
	static bool busy = false;	/* what we do is DDL, too */

	require_event_trigger(fcinfo, "contactsync.note_ddl");
	if (busy || !cs_sql_is_ready())
		PG_RETURN_VOID();
	busy = true;
	PG_TRY();
	{
		try_to_follow_commands();
	}
	PG_FINALLY();
	{
		busy = false;
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}

/* Of a dropped object d: is it the server of an endpoint? */
#define IS_SERVER_OF(e) \
	"CASE WHEN " e ".database = contactsync.database_identity() THEN d.objid = " e ".server_oid" \
	" ELSE d.address_names[1] = " e ".server END"

/* Effect: drops the watches whose table or server was dropped.  Returns their number. */
static uint64
drop_watches(void)
{
	static CsStatement statement = {
		"SELECT w.id, w.endpoint FROM contactsync.watch w JOIN contactsync.endpoint e ON e.id = w.endpoint"
		" JOIN pg_event_trigger_dropped_objects() d ON d.objsubid = 0 AND"
		" (d.classid = 'pg_class'::regclass AND d.objid = w.source OR"
		" d.classid = 'pg_foreign_server'::regclass AND " IS_SERVER_OF("e") ")"
		" GROUP BY w.id, w.endpoint"
	};
	uint64		n = cs_sql_execute(&statement, NULL, NULL);
	int		   *ids = palloc(Max(n, 1) * sizeof(int));
	int		   *endpoints = palloc(Max(n, 1) * sizeof(int));

	for (uint64 i = 0; i < n; i++)
	{
		ids[i] = cs_sql_int(i, 1);
		endpoints[i] = cs_sql_int(i, 2);
	}
	for (uint64 i = 0; i < n; i++)
		cs_watch_drop(endpoints[i], ids[i]);
	return n;
}

/* Effect: what is known of servers that were dropped is gone. */
static uint64
drop_endpoints(void)
{
	static CsStatement statement = {
		"SELECT e.id FROM contactsync.endpoint e, pg_event_trigger_dropped_objects() d"
		" WHERE d.classid = 'pg_foreign_server'::regclass AND " IS_SERVER_OF("e")
	};
	uint64		n = cs_sql_execute(&statement, NULL, NULL);
	int		   *ids = palloc(Max(n, 1) * sizeof(int));

	for (uint64 i = 0; i < n; i++)
		ids[i] = cs_sql_int(i, 1);
	for (uint64 i = 0; i < n; i++)
		cs_state_drop_endpoint(ids[i]);
	return n;
}

/*
 * contactsync.note_drop(), on sql_drop: a watch goes with its table or server.
 */
Datum
contactsync_note_drop(PG_FUNCTION_ARGS)
{
	CsSqlScope	scope;

	require_event_trigger(fcinfo, "contactsync.note_drop");
	if (!cs_sql_is_ready())
		PG_RETURN_VOID();
	cs_sql_enter(&scope);
	if (drop_watches() + drop_endpoints() > 0)
		cs_shmem_reload_at_commit();
	cs_sql_leave(&scope);
	PG_RETURN_VOID();
}
