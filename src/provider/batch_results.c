/*-------------------------------------------------------------------------
 *
 * batch_results.c
 *		Read answers to a batch that have a result for each contact.
 *
 * No provider documents the complete format of such answers, so many names are
 * tried.  Contacts are found by external ID, by email address or by position, in
 * that order.  Positions count from 0, as in every known JSON API; "row" and
 * "line" may count from 1, so they are not used.  Failures that name no contact
 * are counted; the provider decides what they mean.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/batch_results.h"
#include "provider/email.h"

void
cs_batch_results_begin(CsBatchResults *items, const CsBatch *batch, CsJudgement *judgement)
{
	memset(items, 0, sizeof(CsBatchResults));
	items->batch = batch;
	items->outcomes = judgement->outcomes;
	items->seen = palloc0(batch->ncontacts * sizeof(bool));
}

/* ---------- finding the contact of an entry ---------- */

typedef struct SortBy
{
	const CsBatch *batch;
	CsField		field;
} SortBy;

static const char *
field_of(const CsBatch *batch, int index, CsField field)
{
	const char *value = batch->contacts[index]->value[field];

	return value ? value : "";
}

static int
compare_field(const void *a, const void *b, void *arg)
{
	const SortBy *by = (const SortBy *) arg;

	return strcmp(field_of(by->batch, *(const int *) a, by->field),
				  field_of(by->batch, *(const int *) b, by->field));
}

/* Find the contact whose field is a text, or return -1; sorts at the first use. */
static int
find_by(const CsBatch *batch, int **order, CsField field, const char *text)
{
	SortBy		by = {batch, field};
	int			low = 0;
	int			high = batch->ncontacts;

	if (text == NULL || *text == '\0')
		return -1;
	if (*order == NULL)
	{
		*order = palloc(batch->ncontacts * sizeof(int));
		for (int i = 0; i < batch->ncontacts; i++)
			(*order)[i] = i;
		qsort_arg(*order, batch->ncontacts, sizeof(int), compare_field, &by);
	}
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (strcmp(field_of(batch, (*order)[middle], field), text) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < batch->ncontacts && strcmp(field_of(batch, (*order)[low], field), text) == 0)
		return (*order)[low];
	return -1;
}

/* Find the contact with an external ID or email address, or return -1. */
static int
find_by_key(CsBatchResults *items, const char *key)
{
	int			index = find_by(items->batch, &items->by_external_id, CS_EXTERNAL_ID, key);

	if (index < 0 && key && strchr(key, '@'))
		index = find_by(items->batch, &items->by_email, CS_EMAIL, cs_email_normalize(key));
	return index;
}

/* Return the first of some members with a text, of the entry or an object in it. */
static const char *
text_of(CsJson *entry, const char *const *names)
{
	static const char *const inner[] = {"contact", "user", "item", "data", "input"};

	for (int i = 0; names[i]; i++)
	{
		const char *text = cs_json_text(cs_json_get(entry, names[i]));

		for (int j = 0; text == NULL && j < (int) lengthof(inner); j++)
			text = cs_json_text(cs_json_get(cs_json_get(entry, inner[j]), names[i]));
		if (text)
			return text;
	}
	return NULL;
}

static const char *const id_names[] = {"externalId", "external_id", "key", NULL};
static const char *const email_names[] = {"email", "email_address", NULL};

static int
find_contact(CsBatchResults *items, CsJson *entry)
{
	const char *id = text_of(entry, id_names);
	const char *here;
	int64		position = -1;
	int			index;

	(void) cs_json_int(cs_json_get(entry, "index"), &position);
	if (position < 0 || position >= items->batch->ncontacts)
		position = -1;

	/* the usual case needs no search: the ID confirms the position */
	if (position >= 0 && id &&
		strcmp(field_of(items->batch, (int) position, CS_EXTERNAL_ID), id) == 0)
		return (int) position;

	index = find_by_key(items, id);
	if (index < 0)
		index = find_by_key(items, text_of(entry, email_names));
	if (index >= 0 || position < 0)
		return index;
	/* what names somebody else is not about the contact at that position */
	here = field_of(items->batch, (int) position, CS_EXTERNAL_ID);
	return id && *here ? -1 : (int) position;
}

/* Does an entry say of whom it is? */
static bool
names_contact(CsJson *entry)
{
	return text_of(entry, id_names) || text_of(entry, email_names);
}

/* ---------- reading an entry ---------- */

/* Does the code mean that the provider failed, rather than the contact? */
static bool
is_transient(const char *code)
{
	static const char *const codes[] = {
		"rate_limited", "service_unavailable", "internal_error",
		"idempotency_in_progress", "state_conflict", "timeout",
		"429", "500", "502", "503", "504"
	};

	for (int i = 0; code && i < (int) lengthof(codes); i++)
	{
		if (strcmp(code, codes[i]) == 0)
			return true;
	}
	return false;
}

static bool
is_conflict(const char *code)
{
	return code && (strcmp(code, "409") == 0 || strcmp(code, "resource_already_exists") == 0 ||
					cs_answer_mentions(code, "conflict"));
}

static const char *
code_of(CsJson *entry)
{
	static const char *const names[] = {"code", "errorCode", "error_code", "statusCode", NULL};
	const char *code = text_of(cs_json_get(entry, "error"), names);

	return code ? code : text_of(entry, names);
}

static const char *
message_of(CsJson *entry)
{
	const char *message = cs_json_string(entry);

	if (message == NULL)
		message = cs_answer_error_message(entry);
	if (message == NULL)
		message = cs_json_text(cs_json_get(entry, "reason"));
	return message;
}

/* Note a failure of a contact; index is -1 if the contact is unknown. */
static void
note_failure(CsBatchResults *items, int index, CsJson *entry)
{
	const char *code = code_of(entry);
	const char *message = message_of(entry);
	CsOutcome  *outcome;

	if (index < 0)
	{
		items->nunattributed++;
		if (items->unattributed_message == NULL)
			items->unattributed_message = message;
		return;
	}

	outcome = &items->outcomes[index];
	if (outcome->kind == CS_OUTCOME_OK)
		items->nfailed++;
	if (is_conflict(code) && !is_transient(code))
		cs_answer_reject_contact(outcome, CS_REASON_CONFLICT, code, message);
	else
		cs_answer_reject_contact(outcome, CS_REASON_REJECTED, code, message);
	outcome->field = cs_json_string(cs_json_get(entry, "field"));
	if (is_transient(code))
	{
		outcome->kind = CS_OUTCOME_RETRY;
		outcome->reason = CS_REASON_UNAVAILABLE;
	}
}

/* Is an entry of a list of results a failure? */
static bool
is_failure(CsJson *entry)
{
	static const char *const bad[] = {"failure", "rejected", "invalid"};
	const char *status = cs_json_string(cs_json_get(entry, "status"));

	if (cs_answer_says_failed(entry) || !cs_json_is_null(cs_json_get(entry, "error")) ||
		cs_answer_has_errors(cs_json_get(entry, "errors")))
		return true;
	for (int i = 0; status && i < (int) lengthof(bad); i++)
	{
		if (pg_strcasecmp(status, bad[i]) == 0)
			return true;
	}
	return false;
}

static void
note_result(CsBatchResults *items, int index, CsJson *entry)
{
	static const char *const remote_id_names[] = {"id", NULL};

	if (index >= 0 && !items->seen[index])
	{
		items->seen[index] = true;
		items->nseen++;
	}
	if (is_failure(entry))
		note_failure(items, index, entry);
	else if (index >= 0)
		items->outcomes[index].remote_id = text_of(entry, remote_id_names);
	else if (names_contact(entry))
		items->nforeign++;
}

/* ---------- lists ---------- */

typedef void (*NoteEntry) (CsBatchResults *items, int index, CsJson *entry);

typedef struct Visit
{
	CsBatchResults *items;
	NoteEntry	note;
} Visit;

/* Read a member of an object that is used as a list; its name identifies the contact. */
static bool
visit_member(const char *name, CsJson *value, void *arg)
{
	Visit	   *visit = (Visit *) arg;
	int			index = find_by_key(visit->items, name);

	if (index < 0 && *name && strspn(name, "0123456789") == strlen(name) && strlen(name) < 9)
	{
		index = atoi(name);
		if (index >= visit->items->batch->ncontacts)
			index = -1;
	}
	if (index < 0)
		index = find_contact(visit->items, value);
	visit->note(visit->items, index, value);
	return true;
}

static void
read_list(CsBatchResults *items, CsJson *list, NoteEntry note)
{
	Visit		visit = {items, note};
	int			n = cs_json_length(list);

	for (int i = 0; i < n; i++)
	{
		CsJson	   *entry = cs_json_item(list, i);
		const char *key = cs_json_text(entry);
		int			index = key ? find_by_key(items, key) : find_contact(items, entry);

		/* a plain key identifies the contact and says nothing else */
		note(items, index, key && index >= 0 ? NULL : entry);
	}
	cs_json_each(list, visit_member, &visit);
}

void
cs_batch_results_read_failures(CsBatchResults *items, CsJson *list)
{
	read_list(items, list, note_failure);
}

void
cs_batch_results_read(CsBatchResults *items, CsJson *list)
{
	read_list(items, list, note_result);
}
