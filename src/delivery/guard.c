/*-------------------------------------------------------------------------
 *
 * guard.c
 *		The bulk guard: stops a watch before many contacts at once set off mail
 *		to people.
 *
 * At some providers an upsert can enroll a contact in a journey, start an
 * automation, or send a request to confirm the address.  For one contact that is
 * what the user wants; for all of them at once it is a disaster.  So the guard
 * closes a watch, and keeps its queue, before the first call of what is many:
 *
 *	- more than bulk_guard contacts wait to be sent, whether one transaction
 *	  changed them or many did, faster than the provider takes them;
 *	- more than bulk_guard contacts were queued within a minute;
 *	- a scan counted that more than bulk_guard contacts would be sent.
 *
 * contactsync_resume() releases what has been queued until then, if its caller
 * says that automations are paused at the provider, or accepted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/invalidation.h"
#include "base/settings.h"
#include "base/sql.h"
#include "delivery/guard.h"
#include "provider/option.h"
#include "provider/provider.h"
#include "store/scan_store.h"
#include "store/watch_store.h"

/* The time in which arriving changes are counted (s). */
#define WINDOW		60.0

/* The default of the option bulk_guard. */
#define BULK_GUARD	1000

void
cs_guard_create(CsGuard *guard, const CsWatch *watch)
{
	memset(guard, 0, sizeof(CsGuard));
	guard->watch = watch;
	guard->closed = watch && watch->guarded;
	guard->released = watch ? watch->released : 0;
}

/* Go on counting where the guard that this one replaces was, unless the watch
 * was released. */
void
cs_guard_carry_over(CsGuard *guard, const CsGuard *before)
{
	if (before->closed)
		return;
	guard->window_start = before->window_start;
	guard->arrived = before->arrived;
	guard->arrived_before = before->arrived_before;
}

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

/*
 * What could happen to people if many contacts of the watch were sent at once,
 * as a sentence.  NULL if nothing could, or the option bulk_guard is 0.
 */
const char *
cs_guard_risk(const CsEndpoint *endpoint, const CsWatch *watch)
{
	if (watch == NULL || endpoint == NULL || endpoint->provider->bulk_risk == NULL ||
		limit_of(endpoint) == 0)
		return NULL;
	return endpoint->provider->bulk_risk(endpoint, mapped_fields(watch));
}

/* How many contacts at once are too many. */
int
cs_guard_limit(const CsEndpoint *endpoint)
{
	/* no more than this can be seen to wait */
	return Min(limit_of(endpoint), cs_max_pending - 1);
}

/*
 * Close the watch: that many contacts, or more, would be sent at once.  Needs a
 * transaction that will be committed.
 */
void
cs_guard_close(CsGuard *guard, const CsEndpoint *endpoint, int64 contacts)
{
	const char *reason;
	CsSqlScope	scope;

	if (guard->closed)
		return;
	reason = psprintf(INT64_FORMAT " contacts or more would be sent at once. %s"
					  " contactsync_resume(..., automations => 'paused' or 'accepted') releases them.",
					  contacts, cs_guard_risk(endpoint, guard->watch));
	cs_sql_enter(&scope);
	cs_watch_store_guard(guard->watch->endpoint, guard->watch->id, "automations", reason, contacts);
	cs_sql_leave(&scope);
	guard->closed = true;
}

/*
 * How many changes of the window before this one arrived within the last minute,
 * as if they had arrived evenly.  Otherwise a minute across two windows would
 * let pass twice as much.
 */
static int
rest_of_window_before(const CsGuard *guard, double now)
{
	return (int) (guard->arrived_before * Max(0, 1 - (now - guard->window_start) / WINDOW));
}

/* Return true if a new window begins. */
static bool
advance_window(CsGuard *guard, double now)
{
	if (now - guard->window_start <= WINDOW)
		return false;
	guard->arrived_before = now - guard->window_start > 2 * WINDOW ? 0 : guard->arrived;
	guard->window_start = guard->arrived_before == 0 ? now : guard->window_start + WINDOW;
	guard->arrived = 0;
	return true;
}

/*
 * Close the watch if more contacts wait, or arrived in a short time, than may be sent
 * at once.  "arrived" is how many have since the last call of this, beside those that
 * had already arrived in this window.  Return true if another window has begun.
 */
bool
cs_guard_check(CsGuard *guard, const CsEndpoint *endpoint, int waiting, int arrived, double now)
{
	bool		advanced;
	int			many;

	if (guard->closed || (arrived == 0 && waiting == 0))
		return false;
	advanced = advance_window(guard, now);
	/* what the process found at its start did not arrive just now */
	if (guard->opened)
		guard->arrived += arrived;
	guard->opened = true;
	many = Max(waiting, guard->arrived + rest_of_window_before(guard, now));
	if (many > cs_guard_limit(endpoint) && cs_guard_risk(endpoint, guard->watch))
		cs_guard_close(guard, endpoint, many);
	return advanced;
}

/* Ereport unless it is what can be said about automations. */
void
cs_guard_check_automations(const char *automations)
{
	static const char *const words[] = {"paused", "accepted", NULL};

	if (cs_option_check_words(automations, words) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"automations\": \"%s\"", automations),
				 errhint("Use 'paused' if you paused them at the provider, or 'accepted' if they may start.")));
}

/*
 * Release a guarded watch for a role: it sends all that is queued, and so do its scans.
 * Return false if it was not guarded.
 */
bool
cs_guard_release(int endpoint, int watch, const char *automations, const char *by)
{
	if (!cs_watch_store_release(endpoint, watch, automations, by))
		return false;
	cs_scan_store_accept(endpoint, watch, automations);
	cs_invalidation_send(CS_DEFINITIONS);
	return true;
}
