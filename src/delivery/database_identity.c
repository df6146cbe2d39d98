/*-------------------------------------------------------------------------
 *
 * database_identity.c
 *		Which database sends: this one, or the one that it is a copy of.
 *
 * Every endpoint stores the database that it sends from.  One that comes into
 * another database by pg_restore, CREATE DATABASE ... TEMPLATE or pg_upgrade is
 * away: it sends nothing, in whatever order things are restored, until
 * contactsync_resume() makes this the database that it sends from.  While it is
 * away its server is found by name, because the stored OID means nothing here.
 *
 * A promoted standby, and a cluster recovered to a point in time, are the same
 * database and go on.  But what the old primary sent last may be missing here, so
 * what was stored before is not trusted to be what the provider has; neither is it
 * after a restore.  This alone sends nothing: a contact is compared with what is
 * stored of it when its row changes, and when it is reconciled.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/invalidation.h"
#include "base/sql.h"
#include "capture/ddl.h"
#include "delivery/database_identity.h"
#include "store/row_state.h"
#include "store/table_trigger.h"

CS_FUNCTION(contactsync_database_identity);

/*
 * This extension in this database of this cluster.  If the extension is dropped
 * and created again it is another one, so that a dump that is restored over its
 * own database counts as restored.
 */
static char *
identity(void)
{
	return psprintf(UINT64_FORMAT "/%u/%u", GetSystemIdentifier(), MyDatabaseId,
					get_extension_oid(CS_EXTENSION, true));
}

/* contactsync.database_identity(), which everybody may call because views do. */
Datum
contactsync_database_identity(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(identity()));
}

/* Create triggers that are missing: tables may have begun to inherit meanwhile. */
static void
follow_tables(int endpoint)
{
	List	   *watches = cs_watch_load_all();
	ListCell   *lc;

	foreach(lc, watches)
	{
		CsWatch    *watch = lfirst(lc);

		if (watch->endpoint == endpoint)
			cs_table_trigger_follow(watch, InvalidOid);
	}
}

/*
 * Make this the database that the endpoint sends from.  Return false if it is
 * already.  Ereports if there is no server of its name.
 */
bool
cs_database_identity_claim(int endpoint)
{
	static CsStatement find = {
		"SELECT e.server::text, s.oid IS NOT NULL FROM contactsync.endpoint e"
		" LEFT JOIN pg_foreign_server s ON s.srvname = e.server"
		" WHERE e.id = $1 AND e.database <> contactsync.database_identity()",
		1, {INT4OID}
	};
	static CsStatement claim = {
		"UPDATE contactsync.endpoint e SET database = contactsync.database_identity(), timeline = $2, server_oid = s.oid,"
		" stale_before = clock_timestamp(), busy = false, state = 'running', reason = NULL, until = NULL"
		" FROM pg_foreign_server s WHERE s.srvname = e.server AND e.id = $1",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum((int32) GetWALInsertionTimeLine())};
	bool		isnull;

	if (cs_sql_execute(&find, args, NULL) == 0)
		return false;
	if (!DatumGetBool(cs_sql_value(0, 2, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", cs_sql_text(0, 1))));
	cs_sql_execute(&claim, args, NULL);
	cs_row_state_forget_withheld(endpoint);
	cs_ddl_reset_columns(endpoint);
	follow_tables(endpoint);
	cs_invalidation_send(CS_DEFINITIONS);
	return true;
}

/* Ereport if the endpoint sends from another database. */
void
cs_database_identity_require(int endpoint)
{
	static CsStatement statement = {
		"SELECT server::text FROM contactsync.endpoint WHERE id = $1 AND database <> contactsync.database_identity()",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	if (cs_sql_execute(&statement, &arg, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("all of server \"%s\" is paused: this database was restored or copied", cs_sql_text(0, 1)),
				 errhint("If no other database sends to it, use SELECT contactsync_resume(%s).",
						 quote_literal_cstr(cs_sql_text(0, 1)))));
}

/*
 * If the cluster was promoted or recovered to a point in time since, say so in the
 * log, and trust what is stored no more.
 */
void
cs_database_identity_check_timeline(void)
{
	static CsStatement statement = {
		"WITH old AS (SELECT id, timeline FROM contactsync.endpoint"
		" WHERE database = contactsync.database_identity() AND timeline <> $1)"
		" UPDATE contactsync.endpoint e SET timeline = $1,"
		" stale_before = CASE WHEN old.timeline = 0 THEN stale_before ELSE clock_timestamp() END"
		" FROM old WHERE old.id = e.id RETURNING e.server::text, old.timeline, e.id",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum((int32) GetWALInsertionTimeLine());
	uint64		n = cs_sql_execute(&statement, &arg, NULL);
	int		   *stale = palloc(Max(n, 1) * sizeof(int));
	int			nstale = 0;

	for (uint64 i = 0; i < n; i++)
	{
		if (cs_sql_int(i, 2) == 0)
			continue;
		ereport(WARNING,
				(errmsg("contactsync may not know all that was sent to server \"%s\", because this cluster was promoted or recovered (timeline %d, before: %d)",
						cs_sql_text(i, 1), DatumGetInt32(arg), cs_sql_int(i, 2)),
				 errhint("contactsync_reconcile() sends every row again. If nothing was lost, use SELECT contactsync_mark_stale(%s, '-infinity') first.",
						 quote_literal_cstr(cs_sql_text(i, 1)))));
		stale[nstale++] = cs_sql_int(i, 3);
	}
	for (int i = 0; i < nstale; i++)
		cs_row_state_forget_withheld(stale[i]);
}

/* Say in the log, once per process, what is not sent and what to type. */
void
cs_database_identity_warn(void)
{
	static CsStatement statement = {
		"SELECT DISTINCT server::text FROM contactsync.endpoint WHERE database <> contactsync.database_identity() ORDER BY 1"
	};
	static uint64 warned = 0;
	uint64		n = cs_sql_execute(&statement, NULL, NULL);

	if (n > warned)
		for (uint64 i = 0; i < n; i++)
			ereport(WARNING,
					(errmsg("contactsync sends nothing to server \"%s\": this database was restored or copied",
							cs_sql_text(i, 1)),
					 errhint("If no other database sends to it, use SELECT contactsync_resume(%s).",
							 quote_literal_cstr(cs_sql_text(i, 1)))));
	warned = n;
}

/*
 * Do not trust what was stored of an endpoint before that time.  "again": what was
 * claimed before that time may be claimed again.
 */
void
cs_database_identity_mark_stale(int endpoint, TimestampTz before, bool again)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET stale_before = $2, reclaim_before = CASE WHEN $3 THEN $2 END WHERE id = $1",
		3, {INT4OID, TIMESTAMPTZOID, BOOLOID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), TimestampTzGetDatum(before), BoolGetDatum(again)};

	cs_sql_execute(&statement, args, NULL);
	cs_row_state_forget_withheld(endpoint);
	cs_invalidation_send(CS_DEFINITIONS);
}
