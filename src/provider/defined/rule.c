/*-------------------------------------------------------------------------
 *
 * rule.c
 *		Rules that say what an answer means.
 *
 * The first rule that holds decides.  Whatever the rules are, an answer that did not
 * come from the service, or says that it failed itself, is no success: a rule that takes
 * an answer for a success, or for a refusal of contacts, has to name statuses of which
 * that can be true.  Steps lead forward only, so that a call has an end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/defined/pointer.h"
#include "provider/defined/rule.h"

#define MAX_RULES	64

static const char *const contact_reasons[] = {
	CS_REASON_REJECTED, CS_REASON_INVALID_EMAIL, CS_REASON_MISSING_FIELD, CS_REASON_INVALID_FIELD,
	CS_REASON_CONFLICT, NULL
};

static const char *const halt_reasons[] = {
	CS_HALT_FORBIDDEN, CS_HALT_UNAUTHORIZED, CS_HALT_SCOPE, CS_HALT_TENANT, CS_HALT_ADDRESS, CS_HALT_PLAN,
	CS_HALT_QUOTA, CS_HALT_URL, CS_HALT_REQUEST, CS_HALT_FIELD, CS_HALT_TOPIC, CS_HALT_FORM, NULL
};

static const char *const blames[] = {"account", "mapping", NULL};

/* ---------- statuses ---------- */

/* "4xx" is a range. */
static void
compile_status(CsCompiler *compiler, CsJson *json, CsRule *rule)
{
	const char *text = cs_json_string(json);
	int64		status;

	if (text && strlen(text) == 3 && text[0] >= '2' && text[0] <= '5' && strcmp(text + 1, "xx") == 0)
	{
		rule->low[rule->nstatuses] = (text[0] - '0') * 100;
		rule->high[rule->nstatuses++] = (text[0] - '0') * 100 + 99;
	}
	else if (text == NULL && cs_json_int(json, &status) && status >= 200 && status <= 599)
	{
		rule->low[rule->nstatuses] = (int) status;
		rule->high[rule->nstatuses++] = (int) status;
	}
	else
		cs_fault_set(compiler, "must be a status from 200 to 599, or one such as \"4xx\"");
}

static void
compile_statuses(CsCompiler *compiler, CsJson *json, void *field)
{
	CsRule	   *rule = (CsRule *) ((char *) field - offsetof(CsRule, nstatuses));
	int			n = cs_json_length(json);

	if (n < 0)
		compile_status(compiler, json, rule);
	else if (n == 0 || n > CS_RULE_STATUSES)
		cs_fault_set(compiler, "must have from 1 to %d elements", CS_RULE_STATUSES);
	else
		for (int i = 0; i < n; i++)
			compile_status(compiler, cs_json_item(json, i), rule);
}

/* Can a success, or the refusal of a contact, have all of the rule's statuses? */
static bool
may_settle(const CsRule *rule)
{
	for (int i = 0; i < rule->nstatuses; i++)
		for (int status = rule->low[i]; status <= rule->high[i]; status++)
			if ((status >= 300 && status < 400) || status == 401 || status == 407 || status == 408 ||
				status == 425 || status == 429 || status >= 500)
				return false;
	return rule->nstatuses > 0;
}

/* ---------- compiling ---------- */

typedef struct Rule
{
	CsRule		rule;
	int			verdict;
	const char *step;
	int			blame;
} Rule;

static const CsMember members[] = {
	{"status", CS_MEMBER_READ, offsetof(Rule, rule.nstatuses),.read = compile_statuses},
	{"if", CS_MEMBER_READ, offsetof(Rule, rule.tests),.read = cs_pointer_compile_tests},
	{"text", CS_MEMBER_WORDS, offsetof(Rule, rule.phrases)},
	{"then", CS_MEMBER_WORD, offsetof(Rule, verdict),.words = cs_provider_verdict_names,.required = true},
	{"step", CS_MEMBER_TEXT, offsetof(Rule, step)},
	{"reason", CS_MEMBER_TEXT, offsetof(Rule, rule.reason)},
	{"message", CS_MEMBER_TEXT, offsetof(Rule, rule.message),.max = 300},
	{"field", CS_MEMBER_TEXT, offsetof(Rule, rule.field),.max = 100},
	{"note", CS_MEMBER_TEXT, offsetof(Rule, rule.note),.max = 200},
	{"after", CS_MEMBER_NUMBER, offsetof(Rule, rule.after),.max = 86400},
	{"throttled", CS_MEMBER_BOOL, offsetof(Rule, rule.throttled)},
	{"poll", CS_MEMBER_BOOL, offsetof(Rule, rule.polls)},
	{"restart", CS_MEMBER_BOOL, offsetof(Rule, rule.restarts)},
	{"blame", CS_MEMBER_WORD, offsetof(Rule, blame),.words = blames},
	{NULL}
};

int
cs_rule_find_step(CsCompiler *compiler, const char *name)
{
	for (int i = 0; i < compiler->nsteps; i++)
		if (strcmp(compiler->steps[i], name) == 0)
		{
			if (i <= compiler->step)
				cs_fault_set(compiler, "must name a later step than \"%s\"", compiler->steps[compiler->step]);
			return i;
		}
	cs_fault_set(compiler, "names the step \"%s\", which does not exist", name);
	return 0;
}

static void
check_reason(CsCompiler *compiler, const char *reason, const char *const *words)
{
	const char *problem = cs_option_check_words(reason, words);

	if (problem)
		cs_fault_set(compiler, "has a \"reason\" that %s", problem);
}

static void
check_rule(CsCompiler *compiler, const Rule *read)
{
	const CsRule *rule = &read->rule;
	CsVerdict	verdict = rule->verdict;

	if (rule->nstatuses == 0 && rule->tests.n == 0 && rule->phrases == NULL)
		cs_fault_set(compiler, "must have at least one of \"status\", \"if\" and \"text\"");
	if ((verdict == CS_DONE || verdict == CS_STEP || verdict == CS_REJECT || verdict == CS_SPLIT) && !may_settle(rule))
		cs_fault_set(compiler, "must have a \"status\" of 2xx or 4xx, other than 401, 407, 408, 425 and 429, to be \"%s\"",
					 cs_provider_verdict_name(verdict));
	if ((verdict == CS_STEP) != (read->step != NULL))
		cs_fault_set(compiler, "must have the member \"step\" if it is \"step\", and only then");
	if (rule->polls && verdict != CS_RETRY)
		cs_fault_set(compiler, "must be \"retry\" to have \"poll\"");
	if (rule->restarts && (verdict != CS_RETRY || rule->polls || rule->throttled || !may_settle(rule)))
		cs_fault_set(compiler, "must be \"retry\" to have \"restart\", without \"poll\" and \"throttled\", and have a \"status\" of 2xx or 4xx, other than 401, 407, 408, 425 and 429");
	if (rule->throttled && verdict != CS_RETRY)
		cs_fault_set(compiler, "must be \"retry\" to have \"throttled\"");
	if (read->blame && verdict != CS_HALT)
		cs_fault_set(compiler, "must be \"halt\" to blame the mapping");
	if (rule->reason && verdict == CS_HALT)
		check_reason(compiler, rule->reason, halt_reasons);
	else if (rule->reason && (verdict == CS_REJECT || verdict == CS_SPLIT))
		check_reason(compiler, rule->reason, contact_reasons);
	else if (rule->reason)
		cs_fault_set(compiler, "must be \"halt\", \"reject\" or \"split\" to have a \"reason\"");
}

static void
compile_rule(CsCompiler *compiler, CsJson *json, CsRule *rule)
{
	Rule		read = {.rule.after = -1};

	cs_fault_read(compiler, json, members, &read);
	if (compiler->fault)
		return;
	read.rule.verdict = (CsVerdict) read.verdict;
	read.rule.mapping = read.blame != 0;
	check_rule(compiler, &read);
	if (read.step)
		read.rule.step = cs_rule_find_step(compiler, read.step);
	if (read.rule.verdict == CS_HALT && read.rule.reason == NULL)
		read.rule.reason = read.rule.mapping ? CS_HALT_FIELD : CS_HALT_REQUEST;
	if (read.rule.verdict == CS_REJECT && read.rule.reason == NULL)
		read.rule.reason = CS_REASON_REJECTED;
	*rule = read.rule;
}

void
cs_rule_compile(CsCompiler *compiler, CsJson *json, int *n, CsRule **rules)
{
	if (!cs_fault_is_array(compiler, json, MAX_RULES))
		return;
	*n = cs_json_length(json);
	*rules = palloc0(Max(*n, 1) * sizeof(CsRule));
	for (int i = 0; i < *n; i++)
	{
		int			mark = cs_fault_enter_item(compiler, i);

		compile_rule(compiler, cs_json_item(json, i), &(*rules)[i]);
		cs_fault_leave(compiler, mark);
	}
}

/* ---------- matching ---------- */

static bool
has_status(const CsRule *rule, int status)
{
	for (int i = 0; i < rule->nstatuses; i++)
		if (status >= rule->low[i] && status <= rule->high[i])
			return true;
	return rule->nstatuses == 0;
}

const CsRule *
cs_rule_find(int n, const CsRule *rules, const CsResponse *response, CsJson *doc, const char *message)
{
	for (int i = 0; i < n; i++)
	{
		const CsRule *rule = &rules[i];

		if (has_status(rule, response->status) &&
			(rule->phrases == NULL || cs_pointer_mentions(message, rule->phrases)) &&
			cs_pointer_tests_hold(&rule->tests, doc, response))
			return rule;
	}
	return NULL;
}
