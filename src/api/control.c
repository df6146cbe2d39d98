/*-------------------------------------------------------------------------
 *
 * control.c
 *		SQL functions that pause and resume.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/timestamp.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "delivery/database_identity.h"
#include "delivery/guard.h"
#include "provider/endpoint.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/pause.h"
#include "store/stats.h"
#include "store/watch.h"

CS_FUNCTION(contactsync_pause_server);
CS_FUNCTION(contactsync_pause_watch);
CS_FUNCTION(contactsync_resume_server);
CS_FUNCTION(contactsync_resume_watch);
CS_FUNCTION(contactsync_mark_stale);
CS_FUNCTION(contactsync_launch);
CS_FUNCTION(contactsync_stats_reset);
CS_FUNCTION(contactsync_stats_reset_all);

/*
 * The ids of the endpoints at a server of the roles that a role is, palloc'd in
 * the current context; that of the role itself is made if there is none.
 * Within cs_sql_enter().  Errors: no such server, or no right to use it.
 */
static List *
endpoints_at(const char *server_name, Oid roleid)
{
	static CsStatement statement = {
		"SELECT id FROM contactsync.endpoint WHERE server = $1 AND pg_has_role($2, role, 'USAGE') ORDER BY id",
		2, {NAMEOID, OIDOID}
	};
	NameData	name;
	Datum		args[2] = {NameGetDatum(&name), ObjectIdGetDatum(roleid)};
	MemoryContext context = CurrentMemoryContext;
	List	   *ids = NIL;
	uint64		n;

	namestrcpy(&name, server_name);
	n = cs_sql_execute(&statement, args, NULL);
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
		ids = lappend_int(ids, cs_sql_int(i, 1));
	if (n == 0)
		ids = list_make1_int(cs_endpoint_state_id(cs_server_find(server_name, roleid),
												  server_name, roleid));
	return ids;
}

/* Effect: pauses or resumes what the caller has at a server.  Returns how much of it. */
static int
set_server(const char *server_name, bool paused)
{
	Oid			roleid = GetUserId();
	char	   *by = GetUserNameFromId(roleid, false);
	CsSqlScope	scope;
	ListCell   *lc;
	int			n = 0;

	cs_sql_enter(&scope);
	foreach(lc, endpoints_at(server_name, roleid))
	{
		int			id = lfirst_int(lc);

		if (paused)
			n += cs_pause_set(id, 0, by, NULL);
		else
		{
			bool		ended = cs_pause_end(id, 0);

			n += cs_database_identity_claim(id) || ended;
		}
	}
	cs_sql_leave(&scope);
	return n;
}

static bool
set_watch(Oid source, const char *server_name, bool paused)
{
	Oid			roleid = GetUserId();
	char	   *by = GetUserNameFromId(roleid, false);
	CsWatch    *watch = cs_watch_find(source, server_name, roleid);
	CsSqlScope	scope;
	bool		done;

	cs_sql_enter(&scope);
	if (!paused)
		cs_database_identity_require(watch->endpoint);
	done = paused ? cs_pause_set(watch->endpoint, watch->id, by, NULL) :
		cs_pause_end(watch->endpoint, watch->id);
	cs_sql_leave(&scope);
	return done;
}

/* contactsync_pause(server) */
Datum
contactsync_pause_server(PG_FUNCTION_ARGS)
{
	const char *server = NameStr(*PG_GETARG_NAME(0));

	if (set_server(server, true) == 0)
		ereport(NOTICE, (errmsg("server \"%s\" is paused already", server)));
	PG_RETURN_VOID();
}

/* contactsync_pause(source, server) */
Datum
contactsync_pause_watch(PG_FUNCTION_ARGS)
{
	if (!set_watch(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), true))
		ereport(NOTICE,
				(errmsg("the watch on table \"%s\" is paused already", get_rel_name(PG_GETARG_OID(0)))));
	PG_RETURN_VOID();
}

/* contactsync_resume(server) */
Datum
contactsync_resume_server(PG_FUNCTION_ARGS)
{
	const char *server = NameStr(*PG_GETARG_NAME(0));

	if (set_server(server, false) == 0)
		ereport(NOTICE, (errmsg("server \"%s\" is not paused", server)));
	PG_RETURN_VOID();
}

/* contactsync_mark_stale(server, before) */
Datum
contactsync_mark_stale(PG_FUNCTION_ARGS)
{
	Oid			roleid = GetUserId();
	CsSqlScope	scope;
	ListCell   *lc;
	List	   *ids;

	cs_sql_enter(&scope);
	ids = endpoints_at(NameStr(*PG_GETARG_NAME(0)), roleid);
	foreach(lc, ids)
		cs_database_identity_mark_stale(lfirst_int(lc), PG_GETARG_TIMESTAMPTZ(1));
	cs_sql_leave(&scope);
	PG_RETURN_VOID();
}

/*
 * Effect: a watch that the guard holds goes on, by the word that is given.
 * Returns false if none is held.
 */
static bool
release_watch(Oid source, const char *server_name, const char *automations)
{
	CsWatch    *watch = cs_watch_find(source, server_name, GetUserId());
	CsSqlScope	scope;
	bool		done;

	if (!watch->guarded)
		return false;
	if (automations == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the watch on table \"%s\" is held, for what is queued could set off mail to people",
						get_rel_name(source)),
				 errdetail("contactsync.status tells how."),
				 errhint("Use contactsync_resume('%s', '%s', automations => 'paused') if you paused what would do so, or automations => 'accepted' if it is meant to happen.",
						 get_rel_name(source), server_name)));
	cs_guard_check_automations(automations);
	cs_sql_enter(&scope);
	done = cs_guard_release(watch->endpoint, watch->id, automations);
	cs_sql_leave(&scope);
	return done;
}

/* contactsync_resume(source, server, automations) */
Datum
contactsync_resume_watch(PG_FUNCTION_ARGS)
{
	const char *automations = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	const char *server;
	bool		released;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	server = NameStr(*PG_GETARG_NAME(1));
	released = release_watch(PG_GETARG_OID(0), server, automations);
	if (!set_watch(PG_GETARG_OID(0), server, false) && !released)
		ereport(NOTICE,
				(errmsg("the watch on table \"%s\" is not paused", get_rel_name(PG_GETARG_OID(0)))));
	PG_RETURN_VOID();
}

/* contactsync.launch() */
Datum
contactsync_launch(PG_FUNCTION_ARGS)
{
	cs_shmem_launch_at_commit();
	PG_RETURN_VOID();
}

/* Reset the counters of the caller's endpoints, at one server or, with NULL, at all. */
static void
reset_stats(Name server)
{
	Oid			roleid = GetUserId();
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	cs_stats_reset(server, roleid);
	cs_sql_leave(&scope);
}

/* contactsync_stats_reset() */
Datum
contactsync_stats_reset_all(PG_FUNCTION_ARGS)
{
	reset_stats(NULL);
	PG_RETURN_VOID();
}

/* contactsync_stats_reset(server) */
Datum
contactsync_stats_reset(PG_FUNCTION_ARGS)
{
	(void) cs_server_find(NameStr(*PG_GETARG_NAME(0)), GetUserId());
	reset_stats(PG_GETARG_NAME(0));
	PG_RETURN_VOID();
}
