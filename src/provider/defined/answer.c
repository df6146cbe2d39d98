/*-------------------------------------------------------------------------
 *
 * answer.c
 *		What the answers of a defined service mean.
 *
 * The rules of the step decide first; what they do not decide is judged as it is for
 * all services.  Whatever a definition says, no answer is a success that says that it
 * failed, is about another contact, or is no answer of the service.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/defined/answer.h"
#include "provider/defined/condition.h"
#include "provider/defined/pointer.h"
#include "provider/defined/request.h"
#include "provider/defined/results.h"
#include "provider/defined/rule.h"
#include "provider/defined/step.h"

/* What is judged, for the functions of this file. */
typedef struct Judging
{
	const CsEndpoint *endpoint;
	const CsDefined *definition;
	const CsStep *step;
	const CsBatch *batch;
	const CsResponse *response;
	CsJson	   *doc;
	const char *message;		/* of an error, or NULL */
	CsJudgement *judgement;
} Judging;

/* ---------- texts and waits ---------- */

static const char *
error_message(const CsDefined *definition, const CsResponse *response, CsJson *doc)
{
	const char *message = cs_pointer_text(definition->error_message, doc);

	if (message == NULL)
		message = cs_answer_error_message(doc);
	if (message == NULL && doc == NULL && response->body && *response->body)
		message = response->body;
	return message;
}

/* Return the seconds to wait that the answer asks for, or -1. */
static double
wait_of(const CsDefined *definition, const CsResponse *response)
{
	double		wait = cs_message_retry_after(response);
	char	   *text;
	double		number;

	if (wait >= 0 || definition->wait_header == NULL)
		return wait;
	if (definition->wait_unit == CS_WAIT_UNIX)
		return cs_message_reset_after(response, definition->wait_header);
	text = cs_message_header(response, definition->wait_header);
	if (text == NULL || *text == '\0' || strspn(text, "0123456789.") != strlen(text) || strlen(text) > 15)
		return -1;
	number = strtod(text, NULL);
	return definition->wait_unit == CS_WAIT_MILLISECONDS ? number / 1000 : number;
}

/* ---------- what an answer says of the contacts ---------- */

/* Keep what the answer tells of a single contact, or of the job for all. */
static void
read_remote(const Judging *j)
{
	const CsStep *step = j->step;
	const char *job = cs_pointer_text(step->job, j->doc);

	for (int i = 0; i < j->batch->ncontacts; i++)
		j->judgement->outcomes[i].job = job;
	if (j->batch->ncontacts > 1)
		return;
	j->judgement->outcomes[0].remote_id = cs_answer_id(cs_pointer_get(step->id, j->doc));
	j->judgement->outcomes[0].remote_status = cs_pointer_text(step->status, j->doc);
	j->judgement->outcomes[0].remote_updated_at = cs_pointer_text(step->updated_at, j->doc);
}

/* Would the service have it as wanted that a new contact is there?  Then a claim may have come about. */
static bool
may_have_claimed(const Judging *j, const CsContact *contact, const CsOutcome *outcome)
{
	for (int i = 0; i < j->step->nresults; i++)
		if (cs_results_tell_new(&j->step->results[i]) && !outcome->is_new)
			return false;
	if (contact->consent != CS_CONSENT_YES || contact->drops_consent || contact->claim == CS_CLAIM_NOT || outcome->opted_out)
		return false;
	return j->step->claims_if_new || cs_provider_mails_whoever_exists(j->endpoint) != NULL;
}

/* What the answer says of consent; without a word of it, a claim that may have come about counts as made. */
static void
note_consent(const Judging *j, const CsContact *contact, CsOutcome *outcome)
{
	const CsStep *step = j->step;
	bool		withdrawn = (step->withdraws || j->batch->action != CS_UPSERT) && cs_condition_withdraws(contact);

	if (j->batch->action != CS_UPSERT)
		return;
	if (withdrawn)
		outcome->claimed = false;
	else if (step->consent_told && cs_pointer_tests_hold(&step->opt_out, j->doc, j->response))
		outcome->opted_out |= contact->claimed || contact->consent == CS_CONSENT_YES;
	else if (step->consent_told && cs_pointer_tests_hold(&step->opt_in, j->doc, j->response))
		outcome->claimed |= contact->consent == CS_CONSENT_YES && !contact->drops_consent;
	else
		outcome->claimed |= may_have_claimed(j, contact, outcome);
}

static void
note_all_consents(const Judging *j)
{
	for (int i = 0; i < j->batch->ncontacts; i++)
		if (j->judgement->outcomes[i].kind == CS_OUTCOME_OK)
			note_consent(j, j->batch->contacts[i], &j->judgement->outcomes[i]);
}

/* Return what of a success cannot be true, or NULL. */
static const char *
find_contradiction(const Judging *j)
{
	const CsContact *contact = j->batch->contacts[0];
	const char *id = cs_pointer_text(j->step->external_id, j->doc);
	const char *sent = contact->value[CS_EXTERNAL_ID];

	if (j->batch->ncontacts > 1)
		return NULL;
	if (cs_answer_is_another(contact, cs_pointer_get(j->step->email, j->doc)) || (id && sent && strcmp(id, sent) != 0))
		return "the contact of another address or ID";
	if (j->step->withdraws && cs_condition_withdraws(contact) && j->step->consent_told &&
		cs_pointer_tests_hold(j->step->mailable.n > 0 ? &j->step->mailable : &j->step->opt_in, j->doc, j->response))
		return "that the person wants mail, though the contrary was sent";
	return NULL;
}

/* ---------- successes ---------- */

static void
unreadable(const Judging *j)
{
	cs_answer_judge_unreadable(j->endpoint, j->batch, j->response, false, j->judgement);
}

/* Some contacts failed, and the answer does not say which. */
static void
judge_unattributed(const Judging *j, int count, const char *message)
{
	CsOutcome  *outcome = &j->judgement->outcomes[0];

	if (j->batch->ncontacts > 1)
		cs_answer_conclude(j->judgement, CS_SPLIT, CS_REASON_REJECTED,
						   "%d of %d contacts failed, but the answer does not say which%s%s",
						   count, j->batch->ncontacts, message ? ": " : "", message ? message : "");
	else if (outcome->kind == CS_OUTCOME_OK)
		cs_answer_reject_contact(outcome, CS_REASON_REJECTED, NULL,
								 message ? message : "the contact was refused without a reason");
}

/* Judge the results of single contacts.  Return false if that was all there is to say. */
static bool
judge_results(const Judging *j)
{
	CsResultsRead read;
	int			failed;
	int			unattributed;

	cs_results_read(j->step, j->batch, j->doc, j->judgement, &read);
	if (read.missing)
	{
		unreadable(j);
		return false;
	}
	if (!cs_results_count(j->step, j->batch, j->doc, &failed) || read.nforeign > 0)
	{
		cs_answer_judge_contradictory(j->endpoint, j->response,
									  read.nforeign > 0 ? "results of other contacts" :
									  "numbers that are not those of the contacts", j->judgement);
		return false;
	}
	unattributed = Max(read.nunattributed, failed - read.nfailed);
	if (unattributed > 0)
		judge_unattributed(j, unattributed, read.message);
	return unattributed <= 0;
}

/* What a step needs of a contact that came to it, of which an answer said this; NULL: nothing. */
static const char *
route(const Judging *j, int next, const CsContact *contact, CsOutcome *outcome)
{
	const CsActionSteps *steps = &j->definition->actions[j->batch->action];
	CsContact	known = *contact;

	if (outcome->remote_id)
		known.remote_id = unconstify(char *, outcome->remote_id);
	if (outcome->job)
		known.job = unconstify(char *, outcome->job);
	known.is_new = outcome->is_new;
	outcome->next_step = cs_request_route(j->endpoint, j->batch->action, next, &known);
	if (outcome->next_step == CS_NEXT_NONE)
		return NULL;
	return cs_request_lacks(j->endpoint, &steps->steps[outcome->next_step], &known);
}

/* Go to a step, or to those that stand for it, unless a contact lacks what its path needs. */
static void
go_on(const Judging *j, int next, const char *message)
{
	int			first = CS_NEXT_NONE;

	for (int i = 0; i < j->batch->ncontacts; i++)
	{
		CsOutcome  *outcome = &j->judgement->outcomes[i];
		const char *lacks;

		if (outcome->kind != CS_OUTCOME_OK || outcome->next_step == CS_NEXT_NONE)
			continue;
		lacks = route(j, next, j->batch->contacts[i], outcome);
		if (lacks)
		{
			cs_answer_judge_contradictory(j->endpoint, j->response,
										  psprintf("without %s, which the next step needs", lacks), j->judgement);
			return;
		}
		if (first == CS_NEXT_NONE)
			first = outcome->next_step;
	}
	if (first == CS_NEXT_NONE)
		return;
	cs_answer_conclude(j->judgement, CS_STEP, NULL, "%s", message);
	j->judgement->next_step = first;
}

/* Is a 2xx a success, as far as the whole call is concerned? */
static bool
is_success(const Judging *j)
{
	int			status = j->response->status;

	if (j->doc == NULL)
		return j->response->body_len == 0 && j->step->counts.nsucceeded == 0 &&
			(j->step->may_be_empty || (j->step->success.n == 0 && j->step->nresults == 0 &&
									   (status == 202 || status == 204 || status == 205)));
	return !cs_answer_says_failed(j->doc) && cs_pointer_tests_hold(&j->step->success, j->doc, j->response);
}

static void
judge_success(const Judging *j)
{
	const char *contradiction = find_contradiction(j);

	if (contradiction)
		cs_answer_judge_contradictory(j->endpoint, j->response, contradiction, j->judgement);
	else if (!is_success(j))
	{
		if (cs_answer_says_failed(j->doc) && !cs_step_only_reads(j->step))
			cs_answer_judge_refusal(j->endpoint, j->batch, j->response, j->doc, j->judgement);
		else
			unreadable(j);
	}
	else
	{
		read_remote(j);
		if ((j->step->nresults > 0 || j->step->counts.nsucceeded > 0) && !judge_results(j))
			return;
		note_all_consents(j);
		if (j->step->next >= 0)
			go_on(j, j->step->next, "the service accepted it");
	}
}

/* ---------- rules ---------- */

static bool
settles(CsVerdict verdict)
{
	return verdict == CS_DONE || verdict == CS_STEP || verdict == CS_REJECT || verdict == CS_SPLIT;
}

/* Have the contacts begin with the first step again, which uses up a try of each. */
static void
restart(const Judging *j, double after, const char *message)
{
	for (int i = 0; i < j->batch->ncontacts; i++)
	{
		CsOutcome  *outcome = &j->judgement->outcomes[i];

		outcome->kind = CS_OUTCOME_RETRY;
		outcome->reason = CS_REASON_UNAVAILABLE;
		outcome->message = message;
	}
	cs_answer_conclude(j->judgement, CS_DONE, NULL, "%s", message);
	j->judgement->retry_after = after;
}

static void
retry(const Judging *j, const CsRule *rule, const char *message)
{
	CsJudgement *judgement = j->judgement;

	if (rule->restarts)
	{
		restart(j, rule->after, message);
		return;
	}
	cs_answer_conclude(judgement, CS_RETRY,
					   j->response->status < 300 && !rule->polls && !rule->throttled ? CS_REASON_UNREADABLE : CS_REASON_UNAVAILABLE,
					   "%s", message);
	judgement->throttled = rule->throttled;
	judgement->retry_after = rule->after >= 0 ? rule->after : wait_of(j->definition, j->response);
	if (!rule->polls)
		return;
	if (j->batch->polls >= j->step->poll_times)
	{
		restart(j, rule->after, psprintf("the job is not done after it was asked for %d times", j->batch->polls));
		return;
	}
	judgement->waits = true;
	if (judgement->retry_after < 0)
		judgement->retry_after = j->step->poll_every;
}

static void
done(const Judging *j, const CsRule *rule)
{
	const char *contradiction = j->response->status < 300 ? find_contradiction(j) : NULL;

	if (j->response->status < 300 && rule->tests.n == 0 && rule->phrases == NULL && cs_answer_says_failed(j->doc))
		cs_answer_judge_refusal(j->endpoint, j->batch, j->response, j->doc, j->judgement);
	else if (contradiction)
		cs_answer_judge_contradictory(j->endpoint, j->response, contradiction, j->judgement);
	if (j->judgement->verdict != CS_DONE)
		return;
	read_remote(j);
	note_all_consents(j);
	for (int i = 0; i < j->batch->ncontacts; i++)
		j->judgement->outcomes[i].note = rule->note;
}

static void
follow(const Judging *j, const CsRule *rule)
{
	const char *message = rule->message ? rule->message : j->message ? j->message :
	psprintf("HTTP status %d", j->response->status);
	bool		oauth = j->definition->provider.auth == CS_AUTH_OAUTH;

	switch (rule->verdict)
	{
		case CS_DONE:
			done(j, rule);
			return;
		case CS_STEP:
			read_remote(j);
			go_on(j, rule->step, message);
			return;
		case CS_RETRY:
			retry(j, rule, message);
			break;
		case CS_REKEY:
			cs_answer_conclude(j->judgement, CS_REKEY, CS_REASON_UNAVAILABLE, "%s", message);
			break;
		case CS_REAUTH:
			cs_answer_conclude(j->judgement, oauth ? CS_REAUTH : CS_HALT, CS_HALT_UNAUTHORIZED, "%s", message);
			break;
		case CS_SPLIT:
		case CS_REJECT:
			/* one that refuses a contact does not say whom of several */
			cs_answer_conclude(j->judgement, j->batch->ncontacts > 1 ? CS_SPLIT : CS_REJECT,
							   rule->reason && (j->batch->ncontacts == 1 || rule->verdict == CS_SPLIT) ?
							   rule->reason : CS_REASON_REJECTED, "%s", message);
			break;
		case CS_HALT:
			cs_answer_conclude(j->judgement, CS_HALT, rule->reason, "%s", message);
			j->judgement->mapping_error = rule->mapping && !j->batch->contacts[0]->direct;
			if (rule->mapping && j->batch->contacts[0]->direct)
			{
				j->judgement->verdict = j->batch->ncontacts > 1 ? CS_SPLIT : CS_REJECT;
				j->judgement->reason = CS_REASON_INVALID_FIELD;
			}
			break;
	}
	j->judgement->code = cs_pointer_text(j->definition->error_code, j->doc);
	j->judgement->field = rule->field ? rule->field : cs_pointer_text(j->definition->error_field, j->doc);
}

/* Judge what no rule says anything of. */
static void
judge_otherwise(const Judging *j)
{
	if (j->response->status < 300)
	{
		judge_success(j);
		return;
	}
	cs_answer_judge_refusal(j->endpoint, j->batch, j->response, j->doc, j->judgement);
	if (j->message && j->doc && (j->judgement->verdict == CS_SPLIT || j->judgement->verdict == CS_REJECT))
		j->judgement->message = j->message;
	j->judgement->code = cs_pointer_text(j->definition->error_code, j->doc);
	j->judgement->field = cs_pointer_text(j->definition->error_field, j->doc);
}

void
cs_defined_answer_judge(const CsEndpoint *endpoint, const CsBatch *batch, const CsResponse *response,
						CsJudgement *judgement)
{
	const CsDefined *definition = cs_request_definition(endpoint);
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);
	Judging		j = {
		endpoint, definition, cs_request_step(endpoint, batch), batch, response, doc,
		error_message(definition, response, doc), judgement
	};
	const CsRule *rule = NULL;

	cs_pointer_begin();
	if (definition->request_id)
		judgement->request_id = cs_message_header(response, definition->request_id);
	if (response->status >= 200)
		rule = cs_rule_find(j.step->nrules, j.step->rules, response, doc, j.message);
	if (rule && !settles(rule->verdict))
		follow(&j, rule);
	else if (cs_answer_judge_common(endpoint, response, doc, judgement))
	{
		const char *said = cs_pointer_text(definition->error_message, doc);

		if (judgement->verdict == CS_RETRY && judgement->retry_after < 0)
			judgement->retry_after = wait_of(definition, response);
		if (said && strstr(judgement->message, said) == NULL)
			judgement->message = psprintf("%s: %s", judgement->message, said);
	}
	else if (rule)
		follow(&j, rule);
	else
		judge_otherwise(&j);
	if (cs_pointer_is_exhausted())
		cs_answer_judge_contradictory(endpoint, response, "more text than the definition can search", judgement);
}
