/*-------------------------------------------------------------------------
 *
 * answer.c
 *		What MailingCore's answers mean.
 *
 * [SEED]: "Typical response: 200 with a summary of created, updated, and failed
 * rows"; its format is not documented.  Many forms are accepted: numbers or lists,
 * at the top or under summary, data, meta or result, with failures listed by
 * externalId, email or index.  An answer without a summary is not a success.  If
 * an answer counts failures without naming them, the contacts are sent again
 * until it is clear which of them fail (option on_unattributed_failure).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/batch_results.h"
#include "provider/mailingcore/answer.h"
#include "provider/mailingcore/request.h"

/* The numbers of a summary; -1 if it has no such number. */
typedef struct Summary
{
	CsJson	   *places[7];
	int64		created;
	int64		updated;
	int64		others;			/* successes that are neither */
	int64		failed;
	bool		impossible;		/* one of them is negative */
} Summary;

static const char *const created_names[] = {"created", "inserted", "createdCount", NULL};
static const char *const updated_names[] = {"updated", "updatedCount", NULL};
static const char *const other_names[] = {"unchanged", "skipped", NULL};
static const char *const total_names[] = {"succeeded", "successful", "success", "successCount", "upserted", "imported", NULL};
static const char *const failed_names[] = {"failed", "failures", "failedCount", "errorCount", "invalid", "rejected", "errors", NULL};
static const char *const result_names[] = {"results", "items", "contacts", "data", NULL};

static void
find_places(Summary *summary, CsJson *doc)
{
	static const char *const paths[] = {
		"summary", "data", "data.summary", "meta", "meta.summary", "result"
	};

	summary->places[0] = doc;
	for (int i = 0; i < (int) lengthof(paths); i++)
		summary->places[i + 1] = cs_json_path(doc, paths[i]);
}

/*
 * Return a number, or the length of a list in its place, or -1 if there is
 * neither.  Earlier names take precedence wherever they are, because a list of
 * errors may be shorter than the number of failures.
 */
static int64
count_of(Summary *summary, const char *const *names)
{
	for (int i = 0; names[i]; i++)
	{
		for (int j = 0; j < (int) lengthof(summary->places); j++)
		{
			CsJson	   *value = cs_json_get(summary->places[j], names[i]);
			int64		count;

			if (cs_json_int(value, &count) && count >= 0)
				return Min(count, 2 * CS_MAILINGCORE_BATCH);
			summary->impossible |= cs_json_int(value, &count) && count < 0;
			if (cs_json_length(value) >= 0)
				return cs_json_length(value);
		}
	}
	return -1;
}

static void
read_summary(CsJson *doc, Summary *summary)
{
	find_places(summary, doc);
	summary->created = count_of(summary, created_names);
	summary->updated = count_of(summary, updated_names);
	summary->others = count_of(summary, other_names);
	summary->failed = count_of(summary, failed_names);
	if (summary->created < 0 && summary->updated < 0)
		summary->others = Max(summary->others, count_of(summary, total_names));
}

/* Read every list that may have results of single contacts. */
static void
read_entries(const Summary *summary, CsJson *doc, CsBatchResults *items)
{
	cs_batch_results_read(items, cs_json_length(doc) >= 0 ? doc : NULL);
	for (int i = 0; i < (int) lengthof(summary->places); i++)
	{
		CsJson	   *place = summary->places[i];

		for (int j = 0; created_names[j]; j++)
			cs_batch_results_read(items, cs_json_get(place, created_names[j]));
		for (int j = 0; updated_names[j]; j++)
			cs_batch_results_read(items, cs_json_get(place, updated_names[j]));
		for (int j = 0; result_names[j]; j++)
		{
			CsJson	   *list = cs_json_get(place, result_names[j]);

			if (cs_json_length(list) >= 0)
				cs_batch_results_read(items, list);
		}
		for (int j = 0; failed_names[j]; j++)
			cs_batch_results_read_failures(items, cs_json_get(place, failed_names[j]));
	}
}

static bool
is_counted(const Summary *summary)
{
	return summary->created >= 0 || summary->updated >= 0 || summary->others >= 0;
}

/* Return what of an answer cannot be true of these contacts, or NULL. */
static const char *
find_contradiction(const CsBatch *batch, CsJson *doc, const Summary *summary,
				   const CsBatchResults *items)
{
	if (summary->impossible || summary->others > batch->ncontacts ||
		Max(summary->created, 0) + Max(summary->updated, 0) > batch->ncontacts)
		return "numbers that are not those of the contacts";
	if (items->nforeign > 0)
		return "results of other contacts";
	if (cs_answer_says_failed(doc) && summary->failed <= 0 &&
		(is_counted(summary) || summary->failed == 0 || items->nseen > 0) &&
		items->nfailed + items->nunattributed == 0)
		return "a refusal beside successes";
	return NULL;
}

/*
 * Count the contacts that failed without being named, or of which a summary says
 * nothing; return -1 if the answer does not say anything about the contacts.
 */
static int
count_unattributed(const CsBatch *batch, const Summary *summary, const CsBatchResults *items)
{
	int64		succeeded = Max(summary->created, 0) + Max(summary->updated, 0) +
	Max(summary->others, 0);
	int64		failed = Max(summary->failed, items->nfailed + items->nunattributed);

	if (is_counted(summary) && items->nseen < batch->ncontacts)
		failed = Max(failed, batch->ncontacts - succeeded);

	if (summary->failed < 0 && items->nfailed + items->nunattributed == 0)
	{
		if (is_counted(summary))
			failed = batch->ncontacts - succeeded;
		else if (items->nseen == batch->ncontacts)
			failed = 0;
		else
			return -1;
	}
	return (int) Max(0, Min(failed, batch->ncontacts) - items->nfailed);
}

/* Reject all contacts that could be meant; those that are named keep their reason. */
static void
reject_unattributed(const CsBatch *batch, int count, const CsBatchResults *items)
{
	const char *message = items->unattributed_message;

	if (message == NULL)
		message = batch->ncontacts == 1 ? "MailingCore refused the contact without a reason" :
			psprintf("MailingCore refused %d of %d contacts without saying which",
					 count, batch->ncontacts);
	for (int i = 0; i < batch->ncontacts; i++)
	{
		if (items->outcomes[i].kind == CS_OUTCOME_OK)
			cs_answer_reject_contact(&items->outcomes[i], CS_REASON_REJECTED, NULL, message);
	}
}

/*
 * Find out which contacts failed.  Splitting the batch takes about 2 log n calls
 * for each failure, PUT one for each contact; choose the cheaper way.  PUT also
 * tells the reason for a single contact.
 */
static void
resend_unattributed(const CsBatch *batch, int count, CsJudgement *judgement)
{
	int			halvings = 1;

	while ((1 << halvings) < batch->ncontacts)
		halvings++;
	if (batch->ncontacts > 1 && 2 * halvings * count < batch->ncontacts)
		cs_answer_conclude(judgement, CS_SPLIT, CS_REASON_REJECTED,
						   "%d of %d contacts failed, but the answer does not say which",
						   count, batch->ncontacts);
	else
	{
		cs_answer_conclude(judgement, CS_STEP, CS_REASON_REJECTED,
						   "%d of %d contacts failed, but the answer does not say which or why",
						   count, batch->ncontacts);
		judgement->next_step = CS_MAILINGCORE_SINGLE;
	}
}

/* Is a 2xx a refusal of the whole batch? */
static bool
is_refusal(CsJson *doc)
{
	return cs_answer_says_failed(doc) && cs_json_get(doc, "results") == NULL;
}

/* [SEED]: "200 with a summary of created, updated, and failed rows". */
static void
judge_batch(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			CsJson *doc, CsJudgement *judgement)
{
	const CsMailingCore *settings = cs_provider_settings(endpoint);
	Summary		summary = {{NULL}, -1, -1, -1, -1};
	CsBatchResults items;
	const char *contradiction;
	int			unattributed;

	read_summary(doc, &summary);
	cs_batch_results_begin(&items, batch, judgement);
	read_entries(&summary, doc, &items);
	contradiction = find_contradiction(batch, doc, &summary, &items);
	if (contradiction)
	{
		cs_answer_judge_contradictory(endpoint, response, contradiction, judgement);
		return;
	}
	unattributed = count_unattributed(batch, &summary, &items);
	if (unattributed < 0)
	{
		if (is_refusal(doc))
			cs_answer_judge_refusal(endpoint, batch, response, doc, judgement);
		else
			cs_answer_judge_unreadable(endpoint, batch, response, settings->accept_unreadable,
									   judgement);
		return;
	}

	judgement->created = (int) summary.created;
	judgement->updated = (int) summary.updated;
	if (unattributed == 0)
		return;
	if (!settings->resend || (batch->ncontacts == 1 && items.unattributed_message))
		reject_unattributed(batch, unattributed, &items);
	else
		resend_unattributed(batch, unattributed, judgement);
}

/* [DOC]: PUT /contacts answers 200 with the contact object. */
static void
judge_single(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
			 CsJson *doc, CsJudgement *judgement)
{
	const CsMailingCore *settings = cs_provider_settings(endpoint);
	const char *sent_id = batch->contacts[0]->value[CS_EXTERNAL_ID];
	static const char *const paths[] = {"", "data", "contact", "data.contact"};

	for (int i = 0; i < (int) lengthof(paths); i++)
	{
		CsJson	   *place = *paths[i] ? cs_json_path(doc, paths[i]) : doc;
		const char *id = cs_answer_id(cs_json_get(place, "id"));
		CsJson	   *email = cs_json_get(place, "email");
		const char *external_id = cs_json_text(cs_json_get(place, "externalId"));

		if ((external_id && sent_id && strcmp(external_id, sent_id) != 0) ||
			cs_answer_is_another(batch->contacts[0], email))
		{
			cs_answer_judge_contradictory(endpoint, response, "another contact", judgement);
			return;
		}
		if (!cs_answer_says_failed(doc) && (id || cs_answer_id(email)))
		{
			judgement->outcomes[0].remote_id = id;
			return;
		}
	}
	if (is_refusal(doc))
		cs_answer_judge_refusal(endpoint, batch, response, doc, judgement);
	else
		cs_answer_judge_unreadable(endpoint, batch, response, settings->accept_unreadable,
								   judgement);
}

/*
 * [DOC]: {"deleted":true,"externalId":"..."}.  A contact that does not exist counts
 * as deleted, unless it is the route that does not exist, or only its address is known,
 * which would have been its external ID.
 */
static bool
judge_deletion(const CsContact *contact, const CsResponse *response, CsJson *doc, CsJudgement *judgement)
{
	const char *email = contact->value[CS_EMAIL];
	bool		deleted = true;
	bool		told = cs_json_bool(cs_json_get(doc, "deleted"), &deleted) && !cs_answer_says_failed(doc);

	if (response->status < 300 && !told && !cs_answer_is_empty(response, doc))
		return false;
	if (response->status == 404 && doc != NULL &&
		!cs_answer_mentions(cs_answer_error_message(doc), "Cannot DELETE"))
		deleted = false;
	else if (response->status >= 300)
		return false;
	if (!deleted && email && strcmp(email, contact->value[CS_EXTERNAL_ID]) == 0)
		cs_answer_reject_contact(&judgement->outcomes[0], CS_REASON_MISSING_FIELD, NULL,
								 "MailingCore deletes by external_id, and the contact was sent without one");
	else if (!deleted)
		judgement->outcomes[0].note = "there was no such contact";
	return true;
}

/* [DOC rate-limits]: no Retry-After; a monthly quota has its own object. */
static void
refine_throttle(const CsResponse *response, CsJson *doc, CsJudgement *judgement)
{
	const char *message = cs_answer_error_message(doc);

	if (cs_json_is_object(cs_json_get(doc, "quota")) ||
		cs_json_is_object(cs_json_path(doc, "error.quota")) ||
		cs_answer_mentions(message, "quota"))
	{
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_QUOTA,
						   "a quota of the account is used up: %s",
						   message ? message : "MailingCore does not say which");
		judgement->throttled = false;
	}
	else if (judgement->retry_after < 0)
		judgement->retry_after = cs_message_reset_after(response, "x-ratelimit-reset");
}

/* [SEED] 403: missing scope; [DOC]: or a tenant that the key does not belong to. */
static void
refine_refusal(const CsResponse *response, CsJson *doc, CsJudgement *judgement)
{
	const char *message = cs_answer_error_message(doc);

	if (response->status == 403 && cs_answer_mentions(message, "scope"))
		judgement->reason = CS_HALT_SCOPE;
	else if ((response->status == 403 || response->status == 400) &&
			 cs_answer_mentions(message, "tenant"))
	{
		judgement->verdict = CS_HALT;
		judgement->reason = CS_HALT_TENANT;
	}
	else if (judgement->verdict == CS_REJECT && response->status == 400 &&
			 cs_answer_mentions(message, "email"))
	{
		judgement->reason = CS_REASON_INVALID_EMAIL;
		judgement->field = "email";
	}
}

void
cs_mailingcore_judge(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
					 CsJudgement *judgement)
{
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);

	judgement->request_id = cs_message_header(response, "x-request-id");
	if (cs_answer_judge_common(endpoint, response, doc, judgement))
	{
		if (response->status == 429)
			refine_throttle(response, doc, judgement);
	}
	else if (batch->action == CS_DELETE && judge_deletion(batch->contacts[0], response, doc, judgement))
		return;
	else if (response->status >= 300)
	{
		cs_answer_judge_refusal(endpoint, batch, response, doc, judgement);
		refine_refusal(response, doc, judgement);
	}
	else if (batch->action == CS_DELETE)
		cs_answer_judge_unreadable(endpoint, batch, response, false, judgement);
	else if (batch->step == CS_MAILINGCORE_SINGLE)
		judge_single(endpoint, batch, response, doc, judgement);
	else
		judge_batch(endpoint, batch, response, doc, judgement);
}
