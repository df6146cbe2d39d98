/*-------------------------------------------------------------------------
 *
 * endpoint_state.c
 *		The rows of contactsync.endpoint.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/invalidation.h"
#include "base/sql.h"
#include "store/consent.h"
#include "store/endpoint_state.h"

/*
 * Have endpoints follow their servers: one that was renamed, and one that was
 * dropped and created again under its name.  One that somebody has locked does so
 * the next time.
 */
void
cs_endpoint_state_follow_servers(void)
{
	static CsStatement adopt = {
		"UPDATE contactsync.endpoint e SET server_oid = f.oid FROM (SELECT e.id, s.oid"
		" FROM contactsync.endpoint e JOIN pg_foreign_server s ON s.srvname = e.server AND s.oid <> e.server_oid"
		" WHERE NOT EXISTS (SELECT FROM pg_foreign_server o WHERE o.oid = e.server_oid)"
		" AND NOT EXISTS (SELECT FROM contactsync.endpoint o WHERE o.server_oid = s.oid AND o.role = e.role"
		" AND o.database = e.database) AND e.database = contactsync.database_identity() FOR UPDATE OF e SKIP LOCKED) f WHERE f.id = e.id"
	};
	static CsStatement follow = {
		"UPDATE contactsync.endpoint e SET server = f.srvname FROM (SELECT e.id, s.srvname"
		" FROM contactsync.endpoint e JOIN pg_foreign_server s ON s.oid = e.server_oid AND s.srvname <> e.server"
		" WHERE e.database = contactsync.database_identity() FOR UPDATE OF e SKIP LOCKED) f WHERE f.id = e.id"
	};

	cs_sql_execute(&adopt, NULL, NULL);
	cs_sql_execute(&follow, NULL, NULL);
}

/*
 * Find the endpoints of this database whose roles were dropped, one entry for each
 * of their watches, in the order of the endpoints.  Return their number.
 */
int
cs_endpoint_state_find_orphans(CsOrphan **orphans)
{
	static CsStatement statement = {
		"SELECT e.id, w.id, g.whole FROM contactsync.endpoint e LEFT JOIN contactsync.watch w ON w.endpoint = e.id,"
		" LATERAL (SELECT NOT EXISTS (SELECT FROM pg_authid r WHERE r.oid = e.role)"
		" OR NOT EXISTS (SELECT FROM pg_foreign_server s WHERE s.oid = e.server_oid OR s.srvname = e.server) AS whole) g"
		" WHERE e.database = contactsync.database_identity()"
		" AND (g.whole OR w.id IS NOT NULL AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.source))"
		" ORDER BY e.id, w.id"
	};
	int			n = (int) cs_sql_execute(&statement, NULL, NULL);
	bool		isnull;

	*orphans = palloc(Max(n, 1) * sizeof(CsOrphan));
	for (int i = 0; i < n; i++)
	{
		(*orphans)[i].endpoint = cs_sql_int(i, 1);
		(*orphans)[i].watch = cs_sql_int(i, 2);
		(*orphans)[i].whole = DatumGetBool(cs_sql_value(i, 3, &isnull));
	}
	return n;
}

/* Delete everything that is known of an endpoint. */
void
cs_endpoint_state_drop(int endpoint)
{
	static const char *const tables[] = {"queue", "source_row", "departure", "contact", "failure", "counter", "call", "remote_contact", "pause", "stat",
	"minute", "minute_failure", "run", "alert", "outcome", "traced", "trace", "forgotten", "remaining_row"};

	cs_consent_remember_endpoint(endpoint);
	for (int i = 0; i < lengthof(tables); i++)
		cs_sql_execute_command("DELETE FROM contactsync.%I WHERE endpoint = %d", tables[i], endpoint);
	cs_sql_execute_command("DELETE FROM contactsync.endpoint WHERE id = %d", endpoint);
}

void
cs_endpoint_state_read_learned(int id, CsEndpointState *state)
{
	static CsStatement statement = {
		"SELECT limitation #>> '{}', stale_before, reclaim_before, learned_at, unlearnable FROM contactsync.endpoint WHERE id = $1",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(id);
	MemoryContext context = CurrentMemoryContext;
	uint64		n = cs_sql_execute(&statement, &arg, NULL);

	MemoryContextSwitchTo(context);
	memset(state, 0, sizeof(CsEndpointState));
	if (n == 0)
		return;
	state->id = id;
	state->limitation = cs_sql_text(0, 1);
	state->stale_before = cs_sql_time(0, 2);
	state->reclaim_before = cs_sql_time(0, 3);
	state->learned_at = cs_sql_time(0, 4);
	state->unlearnable = cs_sql_text(0, 5);
}

/* Return the endpoints that this database sends from, palloc'd in the current context. */
List *
cs_endpoint_state_load_all(void)
{
	static CsStatement statement = {
		"SELECT e.id, e.server_oid, e.role, e.server, e.busy, e.pace, e.limitation #>> '{}', e.stale_before,"
		" CASE WHEN e.state = 'throttled' THEN extract(epoch FROM e.until)::float8 END, e.reason, e.halt_notified,"
		" e.learned_at, e.unlearnable, e.pull_error, e.reclaim_before, e.breaker,"
		" EXISTS (SELECT FROM contactsync.remaining_row r WHERE r.endpoint = e.id)"
		" FROM contactsync.endpoint e WHERE e.database = contactsync.database_identity() ORDER BY e.id"
	};
	MemoryContext context = CurrentMemoryContext;
	List	   *endpoints = NIL;
	uint64		n;

	cs_endpoint_state_follow_servers();
	n = cs_sql_execute(&statement, NULL, NULL);
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
	{
		CsEndpointState *endpoint = palloc0(sizeof(CsEndpointState));
		bool		isnull;
		Datum		pace;
		Datum		until;

		endpoint->id = cs_sql_int(i, 1);
		endpoint->serverid = DatumGetObjectId(cs_sql_value(i, 2, &isnull));
		endpoint->roleid = DatumGetObjectId(cs_sql_value(i, 3, &isnull));
		endpoint->server_name = cs_sql_text(i, 4);
		endpoint->busy = DatumGetBool(cs_sql_value(i, 5, &isnull));
		pace = cs_sql_value(i, 6, &isnull);
		endpoint->pace = isnull ? 0 : DatumGetFloat8(pace);
		endpoint->limitation = cs_sql_text(i, 7);
		endpoint->stale_before = cs_sql_time(i, 8);
		until = cs_sql_value(i, 9, &isnull);
		endpoint->throttled_until = isnull ? 0 : cs_clock_of_stored(DatumGetFloat8(until));
		endpoint->reason = cs_sql_text(i, 10);
		endpoint->halt_notified = DatumGetBool(cs_sql_value(i, 11, &isnull));
		endpoint->learned_at = cs_sql_time(i, 12);
		endpoint->unlearnable = cs_sql_text(i, 13);
		endpoint->pull_error = cs_sql_text(i, 14);
		endpoint->reclaim_before = cs_sql_time(i, 15);
		endpoint->breaker = cs_sql_text(i, 16);
		endpoint->has_remaining = DatumGetBool(cs_sql_value(i, 17, &isnull));
		endpoints = lappend(endpoints, endpoint);
	}
	return endpoints;
}

/*
 * Return the id of the endpoint of a server and role, or 0 if nothing was ever
 * sent from it.  An endpoint of another database is known by its server's name.
 */
int
cs_endpoint_state_find(Oid serverid, const char *server_name, Oid roleid)
{
	static CsStatement statement = {
		"SELECT id FROM contactsync.endpoint WHERE role = $2 AND"
		" CASE WHEN database = contactsync.database_identity() THEN server_oid = $1 ELSE server = $3 END",
		3, {OIDOID, REGROLEOID, NAMEOID}
	};
	Datum		args[3];
	NameData	name;

	namestrcpy(&name, server_name);
	args[0] = ObjectIdGetDatum(serverid);
	args[1] = ObjectIdGetDatum(roleid);
	args[2] = NameGetDatum(&name);
	return cs_sql_execute(&statement, args, NULL) > 0 ? cs_sql_int(0, 1) : 0;
}

/* Return the same id; make the endpoint if there is none. */
int
cs_endpoint_state_id(Oid serverid, const char *server_name, Oid roleid)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.endpoint (server_oid, role, server, database, timeline)"
		" VALUES ($1, $2, $3, contactsync.database_identity(), $4)"
		" ON CONFLICT (server_oid, role, database) DO UPDATE SET server = excluded.server RETURNING id",
		4, {OIDOID, REGROLEOID, NAMEOID, INT4OID}
	};
	Datum		args[4];
	NameData	name;
	int			id = cs_endpoint_state_find(serverid, server_name, roleid);

	if (id != 0)
		return id;
	namestrcpy(&name, server_name);
	args[0] = ObjectIdGetDatum(serverid);
	args[1] = ObjectIdGetDatum(roleid);
	args[2] = NameGetDatum(&name);
	args[3] = Int32GetDatum((int32) GetWALInsertionTimeLine());
	cs_sql_execute(&statement, args, NULL);
	cs_invalidation_send(CS_DEFINITIONS);
	return cs_sql_int(0, 1);
}

/* Return the ids that a statement selects, palloc'd in the current context. */
static List *
select_ids(CsStatement *statement, Datum *args, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	uint64		n = cs_sql_execute(statement, args, nulls);
	List	   *ids = NIL;

	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
		ids = lappend_int(ids, cs_sql_int(i, 1));
	return ids;
}

/*
 * Return the endpoints of a role and of the roles whose privileges it has, at one
 * server or, with NULL, at all.
 */
List *
cs_endpoint_state_ids(Name server, Oid roleid)
{
	static CsStatement statement = {
		"SELECT id FROM contactsync.endpoint WHERE ($1 IS NULL OR server = $1)"
		" AND pg_has_role($2, role, 'USAGE') ORDER BY id",
		2, {NAMEOID, OIDOID}
	};
	Datum		args[2] = {server ? NameGetDatum(server) : (Datum) 0, ObjectIdGetDatum(roleid)};

	return select_ids(&statement, args, server ? NULL : "n ");
}

/* Return the endpoints that the views show to a role: all, to a member of pg_monitor. */
List *
cs_endpoint_state_visible_ids(Oid roleid)
{
	static CsStatement statement = {
		"SELECT id FROM contactsync.endpoint WHERE pg_has_role($1, role, 'USAGE')"
		" OR pg_has_role($1, 'pg_monitor', 'USAGE')", 1, {OIDOID}
	};
	Datum		arg = ObjectIdGetDatum(roleid);

	return select_ids(&statement, &arg, NULL);
}

/* Store whether calls may be in flight. */
void
cs_endpoint_state_set_busy(int endpoint, bool busy)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET busy = $2 WHERE id = $1", 2, {INT4OID, BOOLOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), BoolGetDatum(busy)};

	cs_sql_execute(&statement, args, NULL);
}

/* Store the state of the breaker of refusals; NULL: closed. */
void
cs_endpoint_state_set_breaker(int endpoint, const char *state)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET breaker = $2 WHERE id = $1", 2, {INT4OID, TEXTOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint)};
	char		nulls[3] = "  ";

	args[1] = cs_sql_text_or_null(state, &nulls[1]);
	cs_sql_execute(&statement, args, nulls);
}

/* Have contacts fail although they are refused alike.  Return false if that is not
 * what halts the endpoint. */
bool
cs_endpoint_state_release_breaker(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET breaker = 'released' WHERE id = $1 AND breaker = 'open'", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	if (cs_sql_execute(&statement, &arg, NULL) == 0)
		return false;
	cs_invalidation_send(CS_DEFINITIONS);
	return true;
}

/* Store whether the last NOTIFY said that the endpoint is halted. */
void
cs_endpoint_state_set_halt_notified(int endpoint, bool halt_notified)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET halt_notified = $2 WHERE id = $1", 2, {INT4OID, BOOLOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), BoolGetDatum(halt_notified)};

	cs_sql_execute(&statement, args, NULL);
}

/* Store what the provider has taught us; 0 and NULL: nothing. */
void
cs_endpoint_state_set_learned(int endpoint, double pace, const char *limitation)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET pace = $2, limitation = to_jsonb($3) WHERE id = $1",
		3, {INT4OID, FLOAT8OID, TEXTOID}
	};
	Datum		args[3];
	char		nulls[4] = "   ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = Float8GetDatum(pace);
	nulls[1] = pace > 0 ? ' ' : 'n';
	args[2] = cs_sql_utf8_or_null(limitation, &nulls[2]);
	cs_sql_execute(&statement, args, nulls);
}

/* Store the state for the view status; "since" is kept while the state is the same. */
void
cs_endpoint_state_set_health(int endpoint, const char *state, const char *reason, TimestampTz until)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET since = CASE WHEN state = $2 THEN since ELSE clock_timestamp() END,"
		" state = $2, reason = $3, until = $4 WHERE id = $1",
		4, {INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	};
	Datum		args[4];
	char		nulls[5] = "    ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = CStringGetTextDatum(state);
	args[2] = cs_sql_message_or_null(reason, &nulls[2]);
	args[3] = TimestampTzGetDatum(until);
	nulls[3] = until == 0 ? 'n' : ' ';
	cs_sql_execute(&statement, args, nulls);
}

/* Store why the last pull failed; NULL: it did not. */
void
cs_endpoint_state_set_pull_error(int endpoint, const char *error)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET pull_error = $2 WHERE id = $1", 2, {INT4OID, TEXTOID}
	};
	Datum		args[2];
	char		nulls[3] = "  ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = cs_sql_message_or_null(error, &nulls[1]);
	cs_sql_execute(&statement, args, nulls);
}

/* Store why who is at the provider cannot be listed; NULL: it can. */
void
cs_endpoint_state_set_unlearnable(int endpoint, const char *reason)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET unlearnable = $2 WHERE id = $1 AND unlearnable IS DISTINCT FROM $2",
		2, {INT4OID, TEXTOID}
	};
	Datum		args[2];
	char		nulls[3] = "  ";

	args[0] = Int32GetDatum(endpoint);
	args[1] = cs_sql_message_or_null(reason, &nulls[1]);
	cs_sql_execute(&statement, args, nulls);
}

void
cs_endpoint_state_forget_learned(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint SET learned_at = NULL WHERE id = $1", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	cs_sql_execute(&statement, &arg, NULL);
}
