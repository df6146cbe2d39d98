/*-------------------------------------------------------------------------
 *
 * reader.c
 *		From changes to contacts that can be sent.
 *
 * The rows are read, as the watch's owner; a row whose mapping fails is found
 * by halving and fails alone; what the provider has already is dropped; what
 * another change holds waits for it.  When the watch as a whole cannot be read,
 * because the table was altered or a right revoked, nothing fails: the lane
 * waits, and says why.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/encoding.h"
#include "base/settings.h"
#include "base/sql.h"
#include "base/try.h"
#include "delivery/reader.h"
#include "provider/provider.h"
#include "store/contact_state.h"
#include "store/queue.h"
#include "store/remote_contact.h"
#include "store/source_row.h"

/* Each reading that times out holds up everybody, so a slow row is to be alone
 * after few of them. */
#define TIMEOUT_DIVISOR	16

/* Changes that are read at a time, and what their contacts may roughly take. */
#define MAX_READ		2000
#define READING_BYTES	(8 * 1024 * 1024)

/* A lane that timed out is left alone for this many times what it cost, so that
 * others have most of the time, however slow its mapping is. */
#define TIMEOUT_PAUSE	4

/* A lane whose table is locked is tried again after this long (s). */
#define LOCKED_PAUSE	1.0

/* What one call of cs_reader_read() works on. */
typedef struct CsReadJob
{
	CsLane	   *lane;
	CsReadBatch *read_batch;
	CsSettlement *settlement;
	double		now;
	char	   *message;		/* of the last error */
} CsReadJob;

/* The rows of changes, of either kind of lane. */
static void
read_rows(CsLane *lane, int n, CsChange **changes, CsSourceRow *rows)
{
	char	  **keys;

	if (lane->watch == NULL)
	{
		for (int i = 0; i < n; i++)
			rows[i].contact = changes[i]->direct ? cs_contact_from_jsonb(changes[i]->direct) : NULL;
		return;
	}
	if (lane->source == NULL)
		lane->source = cs_source_row_open(lane->watch);
	keys = palloc((n + 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
		keys[i] = changes[i]->key;
	cs_source_row_read(lane->source, n, keys, rows);
}

/* What read_part() reads. */
typedef struct CsReadPart
{
	CsLane	   *lane;
	int			n;
	CsChange  **changes;
	CsSourceRow *rows;
} CsReadPart;

static void
read_part(void *arg)
{
	CsReadPart *part = arg;

	read_rows(part->lane, part->n, part->changes, part->rows);
}

/* The same in a subtransaction of its own; sets job->message. */
static CsTryResult
try_to_read(CsReadJob *job, int n, CsChange **changes, CsSourceRow *rows)
{
	CsReadPart	part = {job->lane, n, changes, rows};
	ErrorData  *error;
	CsTryResult fault = cs_try(read_part, &part, NULL, &error);

	if (fault != CS_TRY_OK)
		job->message = error->message;
	return fault;
}

/*
 * The same; but a table or column that was renamed breaks only what was prepared
 * before, so that is prepared anew.
 */
static CsTryResult
try_to_read_or_prepare(CsReadJob *job, int n, CsChange **changes, CsSourceRow *rows)
{
	CsLane	   *lane = job->lane;
	bool		prepared = lane->source != NULL;
	CsTryResult result = try_to_read(job, n, changes, rows);

	if (result != CS_TRY_BROKEN || !prepared)
		return result;
	cs_source_row_close(lane->source);
	lane->source = NULL;
	return try_to_read(job, n, changes, rows);
}

static void
fail_mapping(CsReadJob *job, CsChange *change)
{
	CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED};

	memset(&change->digest, 0, sizeof(change->digest));
	outcome.reason = CS_REASON_MAPPING_ERROR;
	outcome.message = job->message;
	cs_settle_failed(job->settlement, change, &outcome, NULL);
}

/* Effect: nothing is read until the watch fits its table again. */
static void
break_lane(CsReadJob *job)
{
	CsLane	   *lane = job->lane;

	cs_lane_break(lane, job->message, job->now + cs_probe_interval);
	lane->source_error = true;
	if (lane->source)
		cs_source_row_close(lane->source);
	lane->source = NULL;
}

/* Effect: all changes wait, in their order, until the lane may be read again. */
static void
postpone_all(CsReadJob *job, int n, CsChange **changes, CsTryResult result)
{
	CsLane	   *lane = job->lane;

	for (int i = n - 1; i >= 0; i--)
		cs_change_postpone(changes[i], 0, true);
	switch (result)
	{
		case CS_TRY_BROKEN:
			break_lane(job);
			break;
		case CS_TRY_TIMEOUT:
			lane->max_read = Max(n / TIMEOUT_DIVISOR, 1);
			break;
		default:
			lane->not_before = job->now + LOCKED_PAUSE;
	}
}

/*
 * An error that usually means that the watch is broken: is it so, or can what a
 * row holds cause it, as that of 'x'::regclass?  Then no rows can be read.
 */
static CsTryResult
tell_broken(CsReadJob *job)
{
	char	   *message = job->message;
	CsTryResult result = try_to_read(job, 0, NULL, NULL);

	job->message = message;
	return result == CS_TRY_OK ? CS_TRY_ROW_ERROR : CS_TRY_BROKEN;
}

/* Effect: finds out whether the watch fits its table, without a row to be read. */
static void
check_lane(CsLane *lane, double now)
{
	CsReadJob	job = {.lane = lane,.now = now};
	CsTryResult result;

	if (lane->watch == NULL || (lane->broken && !lane->source_error))
		return;
	job.read_batch = cs_read_batch_create(lane->context);
	result = try_to_read(&job, 0, NULL, NULL);
	if (result == CS_TRY_BROKEN)
		break_lane(&job);
	else if (result == CS_TRY_OK)
	{
		lane->source_error = false;
		cs_lane_repair(lane);
	}
	cs_read_batch_release(job.read_batch);
}

void
cs_reader_check(const List *accounts, double now)
{
	ListCell   *lc;
	ListCell   *other;

	foreach(lc, accounts)
		foreach(other, ((CsAccount *) lfirst(lc))->lanes)
		check_lane(lfirst(other), now);
}

/*
 * Effect: reads rows[i] for changes[i], halving where that fails.  Changes that
 * failed or were postponed become NULL.
 */
static void
read_halving(CsReadJob *job, int n, CsChange **changes, CsSourceRow *rows)
{
	CsTryResult result = try_to_read_or_prepare(job, n, changes, rows);

	if (result == CS_TRY_OK)
	{
		if (n >= job->lane->max_read)
			job->lane->max_read *= 2;
		return;
	}
	if (result == CS_TRY_BROKEN)
		result = tell_broken(job);
	if (result == CS_TRY_TIMEOUT)
		job->lane->not_before = cs_clock_now() + TIMEOUT_PAUSE * cs_source_timeout / 1000.0;
	if (n == 1 && (result == CS_TRY_ROW_ERROR || result == CS_TRY_TIMEOUT))
		fail_mapping(job, changes[0]);
	else if (result != CS_TRY_ROW_ERROR)
		postpone_all(job, n, changes, result);
	else
	{
		read_halving(job, n / 2, changes, rows);
		read_halving(job, n - n / 2, changes + n / 2, rows + n / 2);
		return;
	}
	memset(changes, 0, n * sizeof(CsChange *));
}

/*
 * A contact to be removed, by what is known of it; NULL if there is nothing to
 * be done about the row having gone.
 */
static CsContact *
contact_of_gone_row(const CsLane *lane, const CsChange *change, const CsKnown *known)
{
	bool		known_there = known->found && known->action == 'u';
	const char *tried = change->unconfirmed ? cs_change_locked_identity(change, 0) : NULL;
	const char *email = change->unconfirmed ? cs_change_locked_identity(change, 1) : NULL;
	CsContact  *contact;

	if (lane->watch == NULL || lane->watch->on_delete == CS_ON_DELETE_IGNORE ||
		(!known_there && tried == NULL))
		return NULL;
	contact = palloc0(sizeof(CsContact));
	contact->action = lane->watch->on_delete == CS_ON_DELETE_DELETE ? CS_DELETE : CS_UNSUBSCRIBE;
	if (known_there)
	{
		tried = known->upsert_key;
		email = known->email;
	}
	/* else it was sent, and we did not hear what came of it */
	contact->upsert_key = pstrdup(tried);
	if (email && strcmp(email, tried) != 0)
	{
		cs_contact_set(contact, CS_EXTERNAL_ID, contact->upsert_key);
		cs_contact_set(contact, CS_EMAIL, pstrdup(email));
	}
	return contact;
}

/* Effect: the contact is prepared, with what was stored of it. */
static CsRefusal *
prepare(const CsChange *change, CsContact *contact, const CsKnown *known)
{
	CsRefusal  *refusal;

	contact->remote_id = known->remote_id;
	contact->topics = known->topics;
	contact->opted_out = known->opted_out;
	contact->consent_sent = known->consent_sent && !change->withdrawn;
	refusal = cs_provider_prepare(change->lane->account->endpoint, contact);
	if (refusal)
		return refusal;
	if (known->found && known->upsert_key && strcmp(known->upsert_key, contact->upsert_key) != 0)
		contact->previous_key = known->upsert_key;
	return NULL;
}

/* Returns false if another change holds the contact; it waits for it then. */
static bool
hold(CsChange *change)
{
	const CsEndpoint *endpoint = change->lane->account->endpoint;
	const CsContact *contact = change->contact;
	const char *email = contact->value[CS_EMAIL];

	if (!(endpoint->provider->abilities & CS_UNIQUE_EMAIL))
		email = NULL;
	return cs_change_lock(change, endpoint->serverid, contact->upsert_key, CS_LOCK_KEY) &&
		cs_change_lock(change, endpoint->serverid, email, CS_LOCK_EMAIL) &&
		cs_change_lock(change, endpoint->serverid, contact->previous_key, CS_LOCK_PREVIOUS);
}

/*
 * Effect: holds the contact that the row was, so that of two rows that part from
 * it at once each sees what the other did.  Returns false if another change
 * holds it; this one waits for it then.
 */
static bool
hold_known(CsChange *change, const CsKnown *known)
{
	if (!known->found || known->upsert_key == NULL)
		return true;
	return cs_change_lock(change, change->lane->account->serverid, known->upsert_key,
						  CS_LOCK_KEY);
}

/*
 * Effect: if another row was sent as the contact of that upsert key it is sent
 * again, after this one.  Returns false if there is none.
 */
static bool
queue_sharer(const CsChange *change, const char *upsert_key)
{
	const CsLane *lane = change->lane;
	CsSqlScope	scope;
	CsQueueWriter *writer;
	char	   *key;
	Datum		element;
	int			watch;
	ListCell   *lc;

	cs_sql_enter(&scope);
	key = cs_contact_state_find_sharer(lane->endpoint_id, upsert_key, lane->watch_id, change->key,
									   &watch);
	if (key)
	{
		element = CStringGetTextDatum(key);
		cs_contact_state_forget_digests(lane->endpoint_id, watch, 1, &key);
		writer = cs_queue_begin_write(NULL);
		cs_queue_write(writer, lane->endpoint_id, watch, 1,
					   construct_array(&element, 1, TEXTOID, -1, false, TYPALIGN_INT), NULL);
		cs_queue_end_write(writer);
		foreach(lc, lane->account->lanes)
		{
			CsLane	   *other = lfirst(lc);

			if (other->watch_id == watch)
				other->exhausted = false;
		}
	}
	cs_sql_leave(&scope);
	return key != NULL;
}

/*
 * The row has gone, or has another upsert key.  If another row has the one that
 * was known, the contact is left to it: it is queued, and true is returned.
 */
static bool
leave_to_another(const CsChange *change, const CsKnown *known)
{
	if (change->lane->watch == NULL || !known->found || known->action != 'u' || known->email)
		return false;
	return queue_sharer(change, known->upsert_key);
}

/*
 * Effect: if another row has the contact, it is left to that one, and nothing is
 * known of this one any more.  Returns true then.
 */
static bool
part_from_contact(CsChange *change, const CsKnown *known)
{
	const CsLane *lane = change->lane;
	CsSqlScope	scope;

	if (!leave_to_another(change, known))
		return false;
	cs_sql_enter(&scope);
	cs_contact_state_forget(lane->endpoint_id, lane->watch_id, 1, &change->key);
	cs_sql_leave(&scope);
	return true;
}

/* What contactsync_upsert() would be stored under. */
static char *
direct_key(const CsLane *lane, CsContact *contact)
{
	if (contact == NULL || cs_provider_prepare(lane->account->endpoint, contact) != NULL)
		return "";
	return cs_encoding_from_utf8(contact->upsert_key);
}

/*
 * Effect: what a watch sent is not what the provider has if the same contact
 * was sent by contactsync_upsert() since.
 */
static void
forget_overtaken(CsReadJob *job, int n, CsSourceRow *rows, CsKnown *known)
{
	const CsLane *lane = job->lane;
	CsKnown    *direct = palloc(n * sizeof(CsKnown));
	char	  **keys = palloc(n * sizeof(char *));

	for (int i = 0; i < n; i++)
		keys[i] = direct_key(lane, rows[i].contact);
	cs_contact_state_read(lane->endpoint_id, 0, n, keys, direct);
	for (int i = 0; i < n; i++)
		if (direct[i].found && direct[i].synced_at >= known[i].synced_at)
			known[i].has_digest = false;
}

/* What is stored of each: by key, or for direct upserts by who they are. */
static CsKnown *
read_known(CsReadJob *job, int n, CsChange **changes, CsSourceRow *rows)
{
	const CsLane *lane = job->lane;
	CsKnown    *known = palloc(n * sizeof(CsKnown));
	char	  **keys = palloc(n * sizeof(char *));

	for (int i = 0; i < n; i++)
		keys[i] = changes[i] == NULL ? "" : lane->watch ? changes[i]->key :
			direct_key(lane, rows[i].contact);
	cs_contact_state_read(lane->endpoint_id, lane->watch_id, n, keys, known);
	cs_contact_state_expire(n, known, lane->account->stale_before);
	if (lane->watch && lane->account->has_direct)
		forget_overtaken(job, n, rows, known);
	cs_remote_contact_apply(lane->account->endpoint, lane->endpoint_id, n, rows, known);
	return known;
}

/* Is the contact what was last sent? */
static bool
is_unchanged(const CsChange *change, const CsKnown *known)
{
	if (!known->has_digest || change->unconfirmed || change->contact->action != CS_UPSERT ||
		known->action != 'u')
		return false;
	return memcmp(&known->digest, &change->digest, sizeof(pg_uuid_t)) == 0;
}

/* Effect: what could not be stored is not sent. */
static void
fail_long_key(CsReadJob *job, CsChange *change)
{
	CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED};

	outcome.reason = CS_REASON_INVALID_FIELD;
	outcome.message = psprintf("the key of the row is longer than %d bytes", CS_KEY_MAX_BYTES);
	cs_settle_failed(job->settlement, change, &outcome, NULL);
}

/* Returns true if the change has to be sent. */
static bool
consider(CsReadJob *job, CsChange *change, CsContact *contact, const CsKnown *known)
{
	const CsEndpoint *endpoint = job->lane->account->endpoint;
	CsRefusal  *refusal;

	memset(&change->digest, 0, sizeof(change->digest));
	if (job->lane->watch && strlen(change->key) > CS_KEY_MAX_BYTES)
	{
		fail_long_key(job, change);
		return false;
	}
	if (contact == NULL)
	{
		if (!hold_known(change, known))
			return false;
		if (!part_from_contact(change, known))
			contact = contact_of_gone_row(job->lane, change, known);
	}
	if (contact == NULL)
	{
		cs_settle_unchanged(job->settlement, change);
		return false;
	}
	contact->change_id = change->id;
	contact->retries = change->attempts;
	change->contact = contact;
	change->read_batch = job->read_batch;
	refusal = prepare(change, contact, known);
	if (refusal)
	{
		CsOutcome	outcome = {.kind = CS_OUTCOME_REJECTED};

		outcome.reason = refusal->reason;
		outcome.message = refusal->message;
		outcome.field = refusal->field;
		if (!hold_known(change, known))
		{
			change->contact = NULL;
			change->read_batch = NULL;
			return false;
		}
		(void) part_from_contact(change, known);
		cs_settle_failed(job->settlement, change, &outcome, NULL);
		return false;
	}
	cs_contact_digest(contact, endpoint->payload, &change->digest);
	if (is_unchanged(change, known))
	{
		cs_settle_unchanged(job->settlement, change);
		return false;
	}
	if (!hold(change))
	{
		change->contact = NULL;
		change->read_batch = NULL;
		return false;
	}
	if (cs_change_is_outdated(change))
	{
		/* it has to part from the contact that it was: the newer goes again */
		if (contact->previous_key == NULL || !queue_sharer(change, contact->upsert_key))
		{
			cs_settle_outdated(job->settlement, change);
			return false;
		}
	}
	if (contact->previous_key)
		contact->previous_shared = leave_to_another(change, known);
	return true;
}

/* Effect: as many rows of that size are read the next time as suit the memory. */
static void
note_size(CsLane *lane, int n, Size bytes)
{
	Size		fitting = (Size) n * READING_BYTES / Max(bytes, 1);

	lane->read_size = Max(Min(fitting, (Size) lane->read_size * 4), 1);
	lane->read_size = Min(lane->read_size, MAX_READ);
}

int
cs_reader_read(CsLane *lane, int n, CsChange **changes, CsSettlement *settlement, double now)
{
	CsReadJob	job = {.lane = lane,.settlement = settlement,.now = now};
	MemoryContext old;
	CsSourceRow *rows;
	CsKnown    *known;
	int			kept = 0;

	job.read_batch = cs_read_batch_create(lane->context);
	old = MemoryContextSwitchTo(job.read_batch->context);
	rows = palloc0(n * sizeof(CsSourceRow));
	read_halving(&job, n, changes, rows);
	known = read_known(&job, n, changes, rows);
	MemoryContextSwitchTo(job.read_batch->context);
	for (int i = 0; i < n; i++)
	{
		CsChange   *change = changes[i];

		if (change && consider(&job, change, rows[i].contact, &known[i]))
			changes[kept++] = change;
	}
	if (lane->source_error && lane->source)
	{
		lane->source_error = false;
		cs_lane_repair(lane);
	}
	MemoryContextSwitchTo(old);
	note_size(lane, n, MemoryContextMemAllocated(job.read_batch->context, true));
	/* one use for each that is kept, until the caller has it in a call */
	for (int i = 0; i < kept; i++)
		cs_read_batch_retain(job.read_batch);
	cs_read_batch_release(job.read_batch);
	return kept;
}
