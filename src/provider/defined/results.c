/*-------------------------------------------------------------------------
 *
 * results.c
 *		What an answer to a batch says of its single contacts.
 *
 * Entries are mostly in the order of the contacts, so the contact at the place of an
 * entry is looked at first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/defined/pointer.h"
#include "provider/defined/results.h"
#include "provider/email.h"

/* A list with more entries for each contact, and so many more, is not of the contacts. */
#define MAX_FOR_EACH	4
#define MAX_MORE		100

/* ---------- whose an entry is ---------- */

static bool
has_value(const CsContact *contact, CsField field, const char *text)
{
	return contact->value[field] && strcmp(contact->value[field], text) == 0;
}

/* Find the contact with a value, or return -1; "near" is where it is most likely. */
static int
find_by(const CsBatch *batch, CsField field, const char *text, int near)
{
	if (near < batch->ncontacts && has_value(batch->contacts[near], field, text))
		return near;
	for (int i = 0; i < batch->ncontacts; i++)
		if (has_value(batch->contacts[i], field, text))
			return i;
	return -1;
}

/* An entry that names a contact is about that one only.  Sets *foreign if it is not ours. */
static int
find_contact(const CsResults *results, const CsBatch *batch, CsJson *entry, int position, bool *foreign)
{
	const char *id = cs_pointer_text(results->external_id, entry);
	const char *email = cs_pointer_text(results->email, entry);
	int64		index;
	int			found;

	*foreign = false;
	if (id)
	{
		found = find_by(batch, CS_EXTERNAL_ID, id, position);
		if (found >= 0 || email == NULL)
		{
			*foreign = found < 0;
			return found;
		}
	}
	if (email)
	{
		found = find_by(batch, CS_EMAIL, cs_email_normalize(email), position);
		*foreign = found < 0;
		return found;
	}
	if (cs_json_int(cs_pointer_get(results->index, entry), &index))
		return index >= 0 && index < batch->ncontacts ? (int) index : -1;
	return results->by_position && position < batch->ncontacts ? position : -1;
}

/* ---------- entries ---------- */

static bool
holds(const CsTests *tests, CsJson *entry)
{
	return tests->n > 0 && cs_pointer_tests_hold(tests, entry, NULL);
}

static const char *
message_of(const CsResults *results, CsJson *entry)
{
	const char *message = cs_pointer_text(results->message, entry);

	if (message == NULL)
		message = cs_json_string(entry);
	return message ? message : cs_answer_error_message(entry);
}

static void
note_failure(const CsResults *results, CsJson *entry, int index, CsJudgement *judgement, CsResultsRead *read)
{
	const char *message = message_of(results, entry);
	CsOutcome  *outcome;

	if (index < 0)
	{
		read->nunattributed++;
		if (read->message == NULL)
			read->message = message;
		return;
	}
	outcome = &judgement->outcomes[index];
	if (outcome->kind == CS_OUTCOME_OK)
		read->nfailed++;
	cs_answer_reject_contact(outcome, CS_REASON_REJECTED, cs_pointer_text(results->code, entry), message);
	outcome->field = cs_pointer_text(results->field, entry);
	if (holds(&results->retry, entry))
	{
		outcome->kind = CS_OUTCOME_RETRY;
		outcome->reason = CS_REASON_UNAVAILABLE;
	}
}

bool
cs_results_tell_new(const CsResults *results)
{
	return results->is_new.n > 0 || results->unlisted_new;
}

static void
note_success(const CsResults *results, CsJson *entry, const CsContact *contact, CsOutcome *outcome)
{
	outcome->remote_id = cs_pointer_text(results->id, entry);
	if (cs_results_tell_new(results))
		outcome->is_new = holds(&results->is_new, entry);
	if (holds(&results->done, entry))
		outcome->next_step = CS_NEXT_NONE;
	if (contact->action == CS_UPSERT && holds(&results->opt_out, entry))
		outcome->opted_out |= contact->claimed || contact->consent == CS_CONSENT_YES;
}

static bool
is_failure(const CsResults *results, CsJson *entry)
{
	if (results->failures)
		return true;
	if (results->failed.n > 0)
		return cs_pointer_tests_hold(&results->failed, entry, NULL);
	return cs_answer_says_failed(entry) || cs_answer_has_errors(cs_json_get(entry, "errors"));
}

static void
read_entry(const CsResults *results, const CsBatch *batch, CsJson *entry, int position,
		   CsJudgement *judgement, CsResultsRead *read)
{
	bool		foreign;
	int			index = find_contact(results, batch, entry, position, &foreign);

	if (index >= 0 && !read->seen[index])
	{
		read->seen[index] = true;
		read->nseen++;
	}
	if (is_failure(results, entry))
		note_failure(results, entry, index, judgement, read);
	else if (index >= 0)
		note_success(results, entry, batch->contacts[index], &judgement->outcomes[index]);
	else
		read->nforeign += foreign;
}

void
cs_results_read(const CsStep *step, const CsBatch *batch, CsJson *doc, CsJudgement *judgement, CsResultsRead *read)
{
	memset(read, 0, sizeof(CsResultsRead));
	read->seen = palloc0(batch->ncontacts * sizeof(bool));
	for (int i = 0; i < step->nresults; i++)
	{
		const CsResults *results = &step->results[i];
		CsJson	   *list = cs_pointer_get(results->at, doc);
		int			n = cs_json_length(list);

		read->missing |= n < 0 && (results->every || results->unlisted_new);
		if (n > MAX_FOR_EACH * batch->ncontacts + MAX_MORE)
		{
			read->nforeign += n;
			continue;
		}
		for (int j = 0; cs_results_tell_new(results) && j < batch->ncontacts; j++)
			judgement->outcomes[j].is_new = results->unlisted_new;
		for (int j = 0; j < n; j++)
			read_entry(results, batch, cs_json_item(list, j), j, judgement, read);
		if (results->every && n >= 0 && read->nseen < batch->ncontacts)
			read->nunattributed = Max(read->nunattributed, batch->ncontacts - read->nseen);
	}
}

/* ---------- counts ---------- */

/* Add up numbers, or the lengths of lists in their places; -1: there are none. */
static int64
sum(int n, CsPointer *const *pointers, CsJson *doc, bool *impossible)
{
	int64		total = -1;

	for (int i = 0; i < n; i++)
	{
		CsJson	   *value = cs_pointer_get(pointers[i], doc);
		int64		number = cs_json_length(value);

		if (number < 0 && !cs_json_int(value, &number))
			continue;
		*impossible |= number < 0 || number > 2 * CS_DEFINED_MAX_BATCH;
		total = Max(total, 0) + (*impossible ? 0 : number);
	}
	return total;
}

bool
cs_results_count(const CsStep *step, const CsBatch *batch, CsJson *doc, int *failed)
{
	bool		impossible = false;
	int64		succeeded = sum(step->counts.nsucceeded, step->counts.succeeded, doc, &impossible);
	int64		bad = sum(step->counts.nfailed, step->counts.failed, doc, &impossible);

	*failed = -1;
	if (step->counts.nsucceeded == 0)
		return true;
	if (impossible || succeeded < 0 || succeeded > batch->ncontacts ||
		(bad >= 0 && succeeded + bad != batch->ncontacts))
		return false;
	*failed = batch->ncontacts - (int) succeeded;
	return true;
}
