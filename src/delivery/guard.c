/*-------------------------------------------------------------------------
 *
 * guard.c
 *		Keeps many contacts at once from setting off mail to people.
 *
 * At some providers an upsert can have somebody enrolled in a journey, start an
 * automation, or ask for a confirmation.  That is what a mirror is for with one
 * contact, and a disaster with all of them.  So the watch is held, and its queue
 * kept, before the first call of what is many:
 *
 *	- more than bulk_guard contacts wait to be sent: one transaction changed
 *	  them, or many did, faster than the provider takes them;
 *	- more than bulk_guard contacts were queued within a minute;
 *	- a scan counted that more than bulk_guard contacts would be sent.
 *
 * contactsync_resume() lets go on what has been queued until then, by the word
 * of whoever calls it that automations are paused, or wanted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/settings.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "delivery/account.h"
#include "delivery/guard.h"
#include "provider/option.h"
#include "provider/provider.h"
#include "store/watch_store.h"

/* More than the limit in so many seconds is many. */
#define WINDOW		60.0

#define BULK_GUARD	1000

static uint32
mapped_fields(const CsWatch *watch)
{
	uint32		fields = 0;

	for (int i = 0; i < watch->nmapped; i++)
		fields |= CS_FIELD_BIT(watch->mapped[i].attribute ? CS_ATTRIBUTES : watch->mapped[i].field);
	return fields;
}

static int
limit_of(const CsEndpoint *endpoint)
{
	return cs_endpoint_option_int(endpoint, "bulk_guard", BULK_GUARD);
}

const char *
cs_guard_risk_of(const CsEndpoint *endpoint, const CsWatch *watch)
{
	if (watch == NULL || endpoint == NULL || endpoint->provider->bulk_risk == NULL ||
		limit_of(endpoint) == 0)
		return NULL;
	return endpoint->provider->bulk_risk(endpoint, mapped_fields(watch));
}

const char *
cs_guard_risk(const CsLane *lane)
{
	return cs_guard_risk_of(lane->account->endpoint, lane->watch);
}

int
cs_guard_limit(const CsLane *lane)
{
	/* no more than that can be seen to wait */
	return Min(limit_of(lane->account->endpoint), cs_max_pending - 1);
}

void
cs_guard_stop(CsLane *lane, int64 n)
{
	const char *reason;
	CsSqlScope	scope;

	if (lane->guard.closed)
		return;
	reason = psprintf(INT64_FORMAT " contacts or more would be sent at once. %s"
					  " contactsync_resume(..., automations => 'paused' or 'accepted') lets them go.",
					  n, cs_guard_risk(lane));
	cs_sql_enter(&scope);
	cs_watch_store_guard(lane->watch_id, reason);
	cs_sql_leave(&scope);
	lane->guard.closed = true;
}

/*
 * What came in the last minute, but before the one that is being counted: as if
 * it had come evenly, so that no minute that begins in between lets pass twice
 * as much.
 */
static int
last_minute(const CsGuard *guard, double now)
{
	return (int) (guard->before * Max(0, 1 - (now - guard->since) / WINDOW));
}

void
cs_guard_check(CsLane *lane, double now)
{
	CsGuard    *guard = &lane->guard;
	int			limit;
	int			many;

	if (guard->closed || guard->arrived == 0)
		return;
	if (now - guard->since > WINDOW)
	{
		guard->before = now - guard->since > 2 * WINDOW ? 0 : guard->recent;
		guard->since = guard->before == 0 ? now : guard->since + WINDOW;
		guard->recent = 0;
	}
	/* what was there already when we came did not come now */
	if (guard->opened)
		guard->recent += guard->arrived;
	guard->opened = true;
	guard->arrived = 0;
	if (guard->recent == 0 && guard->waiting == 0)
		return;
	limit = cs_guard_limit(lane);
	many = Max(guard->waiting, guard->recent + last_minute(guard, now));
	if (many > limit && cs_guard_risk(lane))
		cs_guard_stop(lane, many);
}

void
cs_guard_check_word(const char *automations)
{
	static const char *const words[] = {"paused", "accepted", NULL};

	if (cs_option_check_words(automations, words) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"automations\": \"%s\"", automations),
				 errhint("Use 'paused' if you paused them at the provider, or 'accepted' if they may start.")));
}

bool
cs_guard_release(int endpoint, int watch, const char *automations)
{
	static CsStatement release = {
		"UPDATE contactsync.watch SET state = 'running', reason = NULL, since = NULL, released = pg_current_xact_id()"
		" WHERE id = $1 AND endpoint = $2 AND state = 'guarded'",
		2, {INT4OID, INT4OID}
	};
	static CsStatement accept = {
		"UPDATE contactsync.scan SET automations = $3 WHERE watch = $1 AND endpoint = $2 AND state = 'running'",
		3, {INT4OID, INT4OID, TEXTOID}
	};
	Datum		args[3] = {Int32GetDatum(watch), Int32GetDatum(endpoint), CStringGetTextDatum(automations)};

	if (cs_sql_execute(&release, args, NULL) == 0)
		return false;
	cs_sql_execute(&accept, args, NULL);
	cs_shmem_reload_at_commit();
	return true;
}
