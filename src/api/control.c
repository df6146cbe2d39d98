/*-------------------------------------------------------------------------
 *
 * control.c
 *		SQL functions that pause and resume, and reset what is known.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "api/argument.h"
#include "base/compat.h"
#include "base/sql.h"
#include "base/wakeup.h"
#include "delivery/database_identity.h"
#include "delivery/guard.h"
#include "delivery/removal_guard.h"
#include "provider/server.h"
#include "store/endpoint_state.h"
#include "store/pause.h"
#include "store/source.h"
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
 * Return the endpoints at a server of a role and of the roles whose privileges it
 * has, palloc'd in the current context.  If there are none, make the role's own:
 * a server can be paused before anything is sent to it.  Needs the scope of
 * cs_sql_enter().
 */
static List *
endpoints_at(Name server, Oid roleid)
{
	List	   *ids = cs_endpoint_state_ids(server, roleid);
	const char *name = NameStr(*server);

	if (ids == NIL)
		ids = list_make1_int(cs_endpoint_state_id(cs_server_find(name, roleid), name, roleid));
	return ids;
}

/* Pause what the caller sends to a server.  Return whether anything was not paused. */
static bool
pause_server(Name server)
{
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	bool		done = false;
	ListCell   *lc;

	foreach(lc, endpoints_at(server, roleid))
		done |= cs_pause_set(lfirst_int(lc), 0, GetUserNameFromId(roleid, false), NULL);
	cs_sql_leave(&scope);
	return done;
}

/*
 * Resume what the caller sends to a server, and have this database send it if
 * another one did.  Return whether there was anything to resume.
 */
static bool
resume_server(Name server)
{
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	bool		done = false;
	ListCell   *lc;

	foreach(lc, endpoints_at(server, roleid))
	{
		done |= cs_pause_end(lfirst_int(lc), 0);
		done |= cs_database_identity_claim(lfirst_int(lc));
		done |= cs_endpoint_state_release_breaker(lfirst_int(lc));
	}
	cs_sql_leave(&scope);
	return done;
}

/* contactsync_pause(server) */
Datum
contactsync_pause_server(PG_FUNCTION_ARGS)
{
	if (!pause_server(PG_GETARG_NAME(0)))
		ereport(NOTICE,
				(errmsg("server \"%s\" is already paused", NameStr(*PG_GETARG_NAME(0)))));
	PG_RETURN_VOID();
}

/* contactsync_resume(server) */
Datum
contactsync_resume_server(PG_FUNCTION_ARGS)
{
	if (!resume_server(PG_GETARG_NAME(0)))
		ereport(NOTICE,
				(errmsg("server \"%s\" is not paused", NameStr(*PG_GETARG_NAME(0)))));
	PG_RETURN_VOID();
}

/* contactsync_pause(source, server) */
Datum
contactsync_pause_watch(PG_FUNCTION_ARGS)
{
	CsWatch    *watch = cs_watch_find(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), GetUserId());
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	bool		done = cs_pause_set(watch->endpoint, watch->id, GetUserNameFromId(roleid, false), NULL);

	cs_sql_leave(&scope);
	if (!done)
		ereport(NOTICE,
				(errmsg("watch on table \"%s\" is already paused", get_rel_name(watch->source))));
	PG_RETURN_VOID();
}

/* The same for a watch that is guarded because of removals. */
static bool
release_removals(const CsWatch *watch, const char *server, const char *removals)
{
	CsSqlScope	scope;
	Oid			roleid;
	bool		done;

	if (removals == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("watch on table \"%s\" is guarded because many contacts would be removed at the provider",
						get_rel_name(watch->source)),
				 errdetail("The reason in contactsync.status names the first ones."),
				 errhint("Use contactsync_resume(%s, removals => 'accepted') to remove them, or removals => 'kept' to keep them there.",
						 cs_source_typed(watch->source, server))));
	cs_removal_guard_check_word(removals);
	roleid = cs_sql_enter(&scope);
	done = cs_removal_guard_release(watch->endpoint, watch->id, removals, GetUserNameFromId(roleid, false));
	cs_sql_leave(&scope);
	return done;
}

/*
 * Let a watch that is guarded continue if the user says what becomes of the
 * automations at the provider.  Return false if it is not guarded.
 */
static bool
release_watch(const CsWatch *watch, const char *server, const char *automations, const char *removals)
{
	CsSqlScope	scope;
	Oid			roleid;
	bool		done;

	if (!watch->guarded)
		return false;
	if (watch->guards_removals)
		return release_removals(watch, server, removals);
	if (automations == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("watch on table \"%s\" is guarded because what is queued could trigger emails to people",
						get_rel_name(watch->source)),
				 errdetail("The reason in contactsync.status says how."),
				 errhint("Use contactsync_resume(%s, automations => 'paused') if you paused the automations at the provider, or automations => 'accepted' if these emails are intended.",
						 cs_source_typed(watch->source, server))));
	cs_guard_check_automations(automations);
	roleid = cs_sql_enter(&scope);
	done = cs_guard_release(watch->endpoint, watch->id, automations, GetUserNameFromId(roleid, false));
	cs_sql_leave(&scope);
	return done;
}

/* contactsync_resume(source, server, automations, removals) */
Datum
contactsync_resume_watch(PG_FUNCTION_ARGS)
{
	const char *server;
	CsWatch    *watch;
	CsSqlScope	scope;
	bool		done;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	server = NameStr(*PG_GETARG_NAME(1));
	watch = cs_watch_find(PG_GETARG_OID(0), server, GetUserId());
	done = release_watch(watch, server, cs_argument_text(fcinfo, 2), cs_argument_text(fcinfo, 3));
	cs_sql_enter(&scope);
	cs_database_identity_require(watch->endpoint);
	done |= cs_pause_end(watch->endpoint, watch->id);
	cs_sql_leave(&scope);
	if (!done)
		ereport(NOTICE,
				(errmsg("watch on table \"%s\" is not paused", get_rel_name(watch->source))));
	PG_RETURN_VOID();
}

/* Are claims to be made again? */
static bool
claims_again(const char *claims)
{
	if (strcmp(claims, "keep") != 0 && strcmp(claims, "again") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"claims\": \"%s\"", claims),
				 errhint("Use 'keep' to claim no consent again that was claimed before; or 'again' if the provider lost it, to "
						 "claim it again of everybody whose opt_in is still true and who is not known to have opted out.")));
	return strcmp(claims, "again") == 0;
}

/* contactsync_mark_stale(server, before, claims) */
Datum
contactsync_mark_stale(PG_FUNCTION_ARGS)
{
	bool		again = claims_again(text_to_cstring(PG_GETARG_TEXT_PP(2)));
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);
	ListCell   *lc;

	foreach(lc, endpoints_at(PG_GETARG_NAME(0), roleid))
		cs_database_identity_mark_stale(lfirst_int(lc), PG_GETARG_TIMESTAMPTZ(1), again);
	cs_sql_leave(&scope);
	PG_RETURN_VOID();
}

/* contactsync.launch(): have a background worker started for this database. */
Datum
contactsync_launch(PG_FUNCTION_ARGS)
{
	cs_wakeup_launch_at_commit();
	PG_RETURN_VOID();
}

/* Reset the counters of the caller's endpoints, at one server or, with NULL, at all. */
static void
reset_stats(Name server)
{
	CsSqlScope	scope;
	Oid			roleid = cs_sql_enter(&scope);

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
