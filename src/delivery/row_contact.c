/*-------------------------------------------------------------------------
 *
 * row_contact.c
 *		What would be sent of source rows now, and how that differs from what
 *		was last synced.
 *
 * This only reads; it serves scans, the export and contactsync_verify().  Whoever
 * finds a difference queues the key, and the reader, which reads the row again
 * when its call can start, has the last word.  So a difference that is none does
 * no harm, but one that is missed is not sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/sql.h"
#include "base/text.h"
#include "base/try.h"
#include "delivery/row_contact.h"
#include "delivery/withhold.h"
#include "provider/provider.h"
#include "store/contact_known.h"
#include "store/contact_state.h"
#include "store/failure.h"
#include "store/remote_contact.h"
#include "store/source_row.h"

/*
 * Reading
 */

typedef struct CsRowContactPart
{
	CsSource   *source;
	int			n;
	char	  **keys;
	CsSourceRow *rows;
} CsRowContactPart;

static void
read_part(void *arg)
{
	CsRowContactPart *part = arg;

	cs_source_row_read(part->source, part->n, part->keys, part->rows);
}

/* Read rows in a subtransaction, and tell the fault of a row from that of the watch. */
static CsTryResult
try_to_read(CsSource *source, int n, char **keys, CsSourceRow *rows, ErrorData **error)
{
	CsRowContactPart part = {source, n, keys, rows};
	CsTryResult result = cs_try(read_part, &part, NULL, error);
	CsTryResult without_rows;
	ErrorData  *other;

	if (result == CS_TRY_OK)
		return result;
	part.n = 0;
	without_rows = cs_try(read_part, &part, NULL, &other);
	if (without_rows != CS_TRY_OK)
		*error = other;
	return cs_try_narrow(result, without_rows);
}

/*
 * Read rows[i] for keys[i], halving if that fails.  Each row that waits for a lock holds
 * up everybody, so this ends with the first, unless it was read alone.
 */
static void
read_halving(CsSource *source, int n, char **keys, CsSourceRow *rows, CsRowContact *current,
			 bool alone)
{
	ErrorData  *error;
	CsTryResult result = try_to_read(source, n, keys, rows, &error);

	if (result == CS_TRY_OK)
		return;
	memset(rows, 0, n * sizeof(CsSourceRow));
	if (n == 1 && (result == CS_TRY_ROW_ERROR || result == CS_TRY_TIMEOUT))
	{
		current->refusal = cs_contact_refuse(CS_REASON_MAPPING_ERROR, NULL, "%s",
											 cs_text_message_to_utf8(error->message));
		return;
	}
	if (n == 1 && result == CS_TRY_LATER && alone)
	{
		current->later = error;
		return;
	}
	if (result != CS_TRY_ROW_ERROR)
		ReThrowError(error);
	CHECK_FOR_INTERRUPTS();
	read_halving(source, n / 2, keys, rows, current, false);
	read_halving(source, n - n / 2, keys + n / 2, rows + n / 2, current + n / 2, false);
}

/*
 * Read the rows of n keys of a watch as they would be sent now, with what was last
 * synced; current[i] is for keys[i], palloc'd in the current context.  A row whose
 * mapping fails is refused, and does not keep the others from being read.  Needs a
 * transaction.  Ereports errors that no single row causes.
 */
void
cs_row_contact_read(CsSource *source, const CsWatch *watch, const CsEndpoint *endpoint,
					int n, char **keys, CsRowContact *current)
{
	CsSourceRow *rows = palloc0(n * sizeof(CsSourceRow));
	CsRowState *states = palloc(n * sizeof(CsRowState));
	CsKnown    *known = palloc(n * sizeof(CsKnown));
	char	  **upsert_keys = palloc0(n * sizeof(char *));

	memset(current, 0, n * sizeof(CsRowContact));
	read_halving(source, n, keys, rows, current, n == 1);
	cs_row_state_read(watch->id, n, keys, states);
	for (int i = 0; i < n; i++)
	{
		CsContact  *contact = rows[i].contact;

		if (contact == NULL)
			continue;
		current[i].refusal = cs_provider_prepare(endpoint, contact);
		if (current[i].refusal)
			continue;
		current[i].contact = contact;
		upsert_keys[i] = current[i].upsert_key = cs_text_from_utf8(contact->upsert_key);
	}
	cs_contact_state_read(watch->endpoint, n, upsert_keys, known);
	cs_contact_known_add_digests(watch->id, n, keys, known, states);
	cs_contact_known_expire(n, known, watch->stale_before);
	for (int i = 0; i < n; i++)
	{
		CsContact  *contact = current[i].contact;

		current[i].row = states[i];
		current[i].known = known[i];
		if (contact == NULL)
			continue;
		contact->known = known[i].synced_at != 0 && known[i].action == 'u';
		contact->remote_id = known[i].remote_id;
		contact->topics = known[i].topics;
		contact->opted_out = known[i].opted_out;
		contact->claimed = known[i].claimed;
	}
	pfree(rows);
}

/*
 * Comparing
 */

static bool
is_digest(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t)) == 0;
}

/*
 * Has the contact what the row says, or what another row says that speaks for it?
 * Of that one it is found out when it is compared itself.
 */
static bool
is_unchanged(const CsComparer *comparer, const CsRowContact *current, const char *key,
			 const pg_uuid_t *digest)
{
	const CsKnown *known = &current->known;

	if (!known->found || known->action != 'u' || (comparer->claims_all && known->held))
		return false;
	if (known->has_digest && is_digest(&known->digest, digest))
		return true;
	if (!known->has_digest && known->watch != comparer->watch->id)
		return false;
	return current->row.found && current->row.has_digest && is_digest(&current->row.digest, digest) &&
		strcmp(current->row.upsert_key, current->upsert_key) == 0 && known->key &&
		!cs_contact_known_is_speaker(known, comparer->watch->id, key) &&
		cs_row_state_stands(known->watch, known->key, known->upsert_key);
}

/* Is the contact not created, lest somebody be mailed who did not consent? */
static bool
is_withheld(const CsComparer *comparer, const CsContact *contact)
{
	return contact->consent != CS_CONSENT_YES &&
		cs_withhold_applies(comparer->endpoint, contact);
}

static void
compare_contact(const CsComparer *comparer, const CsRowContact *current, const char *key,
				const CsFailed *failed, CsComparison *result)
{
	const CsKnown *known = &current->known;
	bool		recorded;
	pg_uuid_t	digest;

	cs_contact_digest(current->contact, comparer->endpoint->payload, &digest);
	recorded = current->row.found && current->row.has_digest && is_digest(&current->row.digest, &digest) &&
		strcmp(current->row.upsert_key, current->upsert_key) == 0;
	if (is_withheld(comparer, current->contact))
	{
		result->difference = CS_IS_WITHHELD;
		result->pending = !recorded || !current->row.withheld || failed->found;
	}
	else if (is_unchanged(comparer, current, key, &digest))
	{
		result->difference = CS_IS_UNCHANGED;
		result->pending = !recorded || failed->found;
	}
	else if (failed->found && failed->has_digest && !cs_failure_is_passing(failed) &&
			 is_digest(&failed->digest, &digest))
	{
		result->difference = CS_IS_REFUSED;
		result->reason = failed->reason;
		result->message = failed->message;
	}
	else
	{
		result->difference = known->found && known->action == 'u' ? CS_IS_CHANGED : CS_IS_NEW;
		result->pending = true;
	}
}

/* Compare a row that was read with what was last synced. */
void
cs_row_contact_judge(const CsComparer *comparer, const CsRowContact *current, const char *key,
					 const CsFailed *failed, CsComparison *result)
{
	memset(result, 0, sizeof(CsComparison));
	result->upsert_key = current->contact ? current->upsert_key : NULL;
	if (current->later)
	{
		/* the reader tries again, or gives it up */
		result->difference = CS_IS_CHANGED;
		result->pending = true;
	}
	else if (current->contact)
		compare_contact(comparer, current, key, failed, result);
	else if (current->refusal)
	{
		result->difference = CS_IS_INVALID;
		result->reason = current->refusal->reason;
		result->message = cs_text_from_utf8(current->refusal->message);
		result->pending = !failed->found || strcmp(failed->reason, result->reason) != 0 ||
			failed->message == NULL ||
			strcmp(failed->message, result->message) != 0;
	}
	else if (current->row.found && !comparer->finds_missing_later &&
			 comparer->watch->on_delete != CS_ON_DELETE_IGNORE)
	{
		result->difference = CS_IS_GONE;
		result->upsert_key = current->row.upsert_key;
		result->pending = true;
	}
	else
	{
		result->difference = CS_IS_FILTERED;
		result->pending = (failed->found || current->row.found) && !comparer->finds_missing_later;
	}
}

/* Compare keys that are read. */
static void
compare_read(const CsComparer *comparer, int n, char **keys, const CsFailed *failed,
			 CsComparison *result)
{
	CsRowContact *current = palloc(n * sizeof(CsRowContact));

	cs_row_contact_read(comparer->source, comparer->watch, comparer->endpoint, n, keys, current);
	for (int i = 0; i < n; i++)
		cs_row_contact_judge(comparer, &current[i], keys[i], &failed[i], &result[i]);
}

/*
 * Compare the rows of n keys with what was last synced; result[i] is for keys[i].
 * Needs a transaction with an active snapshot.  Ereports errors that no single row
 * causes.
 */
void
cs_row_contact_compare(const CsComparer *comparer, int n, char **keys, CsComparison *result)
{
	CsFailed   *failed = palloc0(n * sizeof(CsFailed));
	CsRowState *known;
	int			nread = 0;
	int		   *index;
	char	  **read_keys;
	CsFailed   *read_failed;
	CsComparison *read_result;

	if (comparer->has_failures)
		cs_failure_read(comparer->watch->endpoint, comparer->watch->id, n, keys, failed);
	if (!comparer->assumes_new)
	{
		compare_read(comparer, n, keys, failed, result);
		return;
	}
	known = palloc(n * sizeof(CsRowState));
	index = palloc(n * sizeof(int));
	read_keys = palloc(n * sizeof(char *));
	read_failed = palloc(n * sizeof(CsFailed));
	read_result = palloc(n * sizeof(CsComparison));
	cs_row_state_read(comparer->watch->id, n, keys, known);
	for (int i = 0; i < n; i++)
	{
		if (!known[i].found && !failed[i].found)
		{
			result[i] = (CsComparison)
			{
				.difference = CS_IS_NEW,.pending = true
			};
			continue;
		}
		index[nread] = i;
		read_keys[nread] = keys[i];
		read_failed[nread++] = failed[i];
	}
	if (nread > 0)
		compare_read(comparer, nread, read_keys, read_failed, read_result);
	for (int i = 0; i < nread; i++)
		result[index[i]] = read_result[i];
}

/*
 * Rows that have gone
 */

/*
 * Return in keys the next ones after "after" ("" at first) that were synced, or have
 * a failure, and would have to be removed or forgotten if their rows had gone.
 * Fewer than "limit" are the last.
 */
int
cs_row_contact_next_known(const CsWatch *watch, const char *after, int limit, char **keys)
{
	/* without on_delete, contacts stay whatever becomes of their rows */
	return cs_row_state_next_keys(watch->endpoint, watch->id, watch->on_delete == CS_ON_DELETE_IGNORE,
								  after, limit, keys);
}

/*
 * Find which of these keys have no row that passes the filter; the source must be
 * opened for the watch that cs_row_contact_presence() returns.
 */
void
cs_row_contact_compare_known(const CsComparer *comparer, int n, char **keys, CsComparison *result)
{
	CsRowContact *current = palloc(n * sizeof(CsRowContact));

	memset(result, 0, n * sizeof(CsComparison));
	cs_row_contact_read(comparer->source, comparer->watch, comparer->endpoint, n, keys, current);
	for (int i = 0; i < n; i++)
	{
		/* a row without values is refused, but it is there */
		bool		there = current[i].contact || current[i].refusal;

		result[i].difference = there ? CS_IS_UNCHANGED : CS_IS_GONE;
		result[i].upsert_key = current[i].row.found ? current[i].row.upsert_key : NULL;
		result[i].pending = !there;
	}
}

/* The same watch without its mapping, to find only whether rows exist. */
CsWatch *
cs_row_contact_presence(const CsWatch *watch)
{
	CsWatch    *presence = palloc(sizeof(CsWatch));

	*presence = *watch;
	presence->nmapped = 0;
	return presence;
}
