/*-------------------------------------------------------------------------
 *
 * step.c
 *		Compiling the steps of an action: requests, and what their answers mean.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/defined/condition.h"
#include "provider/defined/facts.h"
#include "provider/defined/pair.h"
#include "provider/defined/place.h"
#include "provider/defined/pointer.h"
#include "provider/defined/rule.h"
#include "provider/defined/step.h"
#include "provider/defined/template.h"

#define MAX_RESULTS		4
#define MAX_POINTERS	8

const char *const cs_step_methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", NULL};

enum
{
	METHOD_GET
};

bool
cs_step_only_reads(const CsStep *step)
{
	return step->method == METHOD_GET;
}

/* ---------- results of single contacts ---------- */

static const char *const contact_words[] = {"position", NULL};

typedef struct Whose
{
	CsPointer  *email;
	CsPointer  *external_id;
	CsPointer  *index;
} Whose;

static const CsMember whose_members[] = {
	{"email", CS_MEMBER_READ, offsetof(Whose, email),.read = cs_pointer_compile},
	{"external_id", CS_MEMBER_READ, offsetof(Whose, external_id),.read = cs_pointer_compile},
	{"index", CS_MEMBER_READ, offsetof(Whose, index),.read = cs_pointer_compile},
	{NULL}
};

static void
compile_whose(CsCompiler *compiler, CsJson *json, void *field)
{
	CsResults  *results = (CsResults *) ((char *) field - offsetof(CsResults, by_position));
	Whose		whose = {NULL};

	if (cs_json_string(json))
	{
		results->by_position = strcmp(cs_json_string(json), contact_words[0]) == 0;
		if (!results->by_position)
			cs_fault_set(compiler, "must be \"position\", or an object with email, external_id or index");
		return;
	}
	cs_fault_read(compiler, json, whose_members, &whose);
	results->email = whose.email;
	results->external_id = whose.external_id;
	results->index = whose.index;
	if (whose.email == NULL && whose.external_id == NULL && whose.index == NULL)
		cs_fault_set(compiler, "must have email, external_id or index");
}

/* "unlisted", or tests of an entry. */
static void
compile_new(CsCompiler *compiler, CsJson *json, void *field)
{
	CsResults  *results = (CsResults *) ((char *) field - offsetof(CsResults, is_new));

	results->unlisted_new = cs_json_string(json) && strcmp(cs_json_string(json), "unlisted") == 0;
	if (cs_json_string(json) && !results->unlisted_new)
		cs_fault_set(compiler, "must be \"unlisted\", or tests of an entry");
	else if (!results->unlisted_new)
		cs_pointer_compile_tests(compiler, json, field);
}

static const CsMember results_members[] = {
	{"at", CS_MEMBER_READ, offsetof(CsResults, at),.read = cs_pointer_compile,.required = true},
	{"contact", CS_MEMBER_READ, offsetof(CsResults, by_position),.read = compile_whose,.required = true},
	{"only_failures", CS_MEMBER_BOOL, offsetof(CsResults, failures)},
	{"every", CS_MEMBER_BOOL, offsetof(CsResults, every)},
	{"failed", CS_MEMBER_READ, offsetof(CsResults, failed),.read = cs_pointer_compile_tests},
	{"retry", CS_MEMBER_READ, offsetof(CsResults, retry),.read = cs_pointer_compile_tests},
	{"new", CS_MEMBER_READ, offsetof(CsResults, is_new),.read = compile_new},
	{"done", CS_MEMBER_READ, offsetof(CsResults, done),.read = cs_pointer_compile_tests},
	{"opt_out", CS_MEMBER_READ, offsetof(CsResults, opt_out),.read = cs_pointer_compile_tests},
	{"id", CS_MEMBER_READ, offsetof(CsResults, id),.read = cs_pointer_compile},
	{"code", CS_MEMBER_READ, offsetof(CsResults, code),.read = cs_pointer_compile},
	{"message", CS_MEMBER_READ, offsetof(CsResults, message),.read = cs_pointer_compile},
	{"field", CS_MEMBER_READ, offsetof(CsResults, field),.read = cs_pointer_compile},
	{NULL}
};

static void
compile_results(CsCompiler *compiler, CsJson *json, void *field)
{
	CsStep	   *step = (CsStep *) ((char *) field - offsetof(CsStep, nresults));
	int			n = cs_json_length(json);

	if (n == 0 || n > MAX_RESULTS)
		cs_fault_set(compiler, "must have from 1 to %d elements", MAX_RESULTS);
	step->results = palloc0(MAX_RESULTS * sizeof(CsResults));
	if (n < 0)
		cs_fault_read(compiler, json, results_members, &step->results[step->nresults++]);
	for (int i = 0; i < n && compiler->fault == NULL; i++)
	{
		int			mark = cs_fault_enter_item(compiler, i);

		cs_fault_read(compiler, cs_json_item(json, i), results_members, &step->results[step->nresults++]);
		cs_fault_leave(compiler, mark);
	}
}

/* ---------- counts ---------- */

typedef struct Pointers
{
	int			n;
	CsPointer **pointers;
} Pointers;

static void
compile_pointers(CsCompiler *compiler, CsJson *json, void *field)
{
	Pointers   *pointers = field;
	int			n = cs_json_length(json);

	if (n == 0 || n > MAX_POINTERS)
		cs_fault_set(compiler, "must have from 1 to %d elements", MAX_POINTERS);
	if (compiler->fault)
		return;
	pointers->n = Max(n, 1);
	pointers->pointers = palloc0(pointers->n * sizeof(CsPointer *));
	if (n < 0)
		cs_pointer_compile(compiler, json, &pointers->pointers[0]);
	for (int i = 0; i < n; i++)
		cs_pointer_compile(compiler, cs_json_item(json, i), &pointers->pointers[i]);
}

typedef struct Counts
{
	Pointers	succeeded;
	Pointers	failed;
} Counts;

static const CsMember counts_members[] = {
	{"succeeded", CS_MEMBER_READ, offsetof(Counts, succeeded),.read = compile_pointers,.required = true},
	{"failed", CS_MEMBER_READ, offsetof(Counts, failed),.read = compile_pointers},
	{NULL}
};

static void
compile_counts(CsCompiler *compiler, CsJson *json, void *field)
{
	CsCounts   *counts = field;
	Counts		read = {{0}};

	cs_fault_read(compiler, json, counts_members, &read);
	counts->nsucceeded = read.succeeded.n;
	counts->succeeded = read.succeeded.pointers;
	counts->nfailed = read.failed.n;
	counts->failed = read.failed.pointers;
}

/* ---------- parts of a step ---------- */

static const CsMember about_members[] = {
	{"email", CS_MEMBER_READ, offsetof(Whose, email),.read = cs_pointer_compile},
	{"external_id", CS_MEMBER_READ, offsetof(Whose, external_id),.read = cs_pointer_compile},
	{NULL}
};

static void
compile_about(CsCompiler *compiler, CsJson *json, void *field)
{
	CsStep	   *step = (CsStep *) ((char *) field - offsetof(CsStep, email));
	Whose		whose = {NULL};

	cs_fault_read(compiler, json, about_members, &whose);
	step->email = whose.email;
	step->external_id = whose.external_id;
}

static const CsMember remote_members[] = {
	{"id", CS_MEMBER_READ, offsetof(CsStep, id),.read = cs_pointer_compile},
	{"status", CS_MEMBER_READ, offsetof(CsStep, status),.read = cs_pointer_compile},
	{"updated_at", CS_MEMBER_READ, offsetof(CsStep, updated_at),.read = cs_pointer_compile},
	{"job", CS_MEMBER_READ, offsetof(CsStep, job),.read = cs_pointer_compile},
	{NULL}
};

static void
compile_remote(CsCompiler *compiler, CsJson *json, void *field)
{
	cs_fault_read(compiler, json, remote_members, (char *) field - offsetof(CsStep, id));
}

typedef struct Poll
{
	double		every;
	int			times;
} Poll;

static const CsMember poll_members[] = {
	{"every", CS_MEMBER_NUMBER, offsetof(Poll, every),.min = 0.1,.max = 3600,.required = true},
	{"times", CS_MEMBER_INT, offsetof(Poll, times),.min = 1,.max = 10000,.required = true},
	{NULL}
};

static void
compile_poll(CsCompiler *compiler, CsJson *json, void *field)
{
	CsStep	   *step = (CsStep *) ((char *) field - offsetof(CsStep, poll_every));
	Poll		poll = {0};

	cs_fault_read(compiler, json, poll_members, &poll);
	step->poll_every = poll.every;
	step->poll_times = poll.times;
}

static void
compile_needs(CsCompiler *compiler, CsJson *json, void *field)
{
	*(uint32 *) field = cs_facts_compile_field_list(compiler, json);
}

/* What "else" says if nothing more is to be done. */
static const char no_more[] = "done";

/* ---------- a step ---------- */

/* What is compiled once it is known whether the step has one contact. */
typedef struct Late
{
	CsJson	   *condition;
	CsJson	   *path;
	CsJson	   *query;
	CsJson	   *headers;
	CsJson	   *form;
	CsJson	   *body;
	CsJson	   *rules;
	const char *otherwise;
	const char *next;
} Late;

typedef struct Step
{
	CsStep		step;			/* must be first */
	Late		late;
} Step;

#define LATE(name) offsetof(Step, late.name)

static const CsMember step_members[] = {
	{"name", CS_MEMBER_TEXT, offsetof(CsStep, name),.max = 40},
	{"if", CS_MEMBER_JSON, LATE(condition)},
	{"else", CS_MEMBER_TEXT, LATE(otherwise)},
	{"method", CS_MEMBER_WORD, offsetof(CsStep, method),.words = cs_step_methods,.required = true},
	{"path", CS_MEMBER_JSON, LATE(path),.required = true},
	{"needs", CS_MEMBER_READ, offsetof(CsStep, needs),.read = compile_needs},
	{"query", CS_MEMBER_JSON, LATE(query)},
	{"headers", CS_MEMBER_JSON, LATE(headers)},
	{"batch", CS_MEMBER_INT, offsetof(CsStep, batch),.min = 1,.max = CS_DEFINED_MAX_BATCH},
	{"body", CS_MEMBER_JSON, LATE(body)},
	{"form", CS_MEMBER_JSON, LATE(form)},
	{"content_type", CS_MEMBER_TEXT, offsetof(CsStep, content_type),.max = 100},
	{"poll", CS_MEMBER_READ, offsetof(CsStep, poll_every),.read = compile_poll},
	{"answers", CS_MEMBER_JSON, LATE(rules)},
	{"success", CS_MEMBER_READ, offsetof(CsStep, success),.read = cs_pointer_compile_tests},
	{"may_be_empty", CS_MEMBER_BOOL, offsetof(CsStep, may_be_empty)},
	{"results", CS_MEMBER_READ, offsetof(CsStep, nresults),.read = compile_results},
	{"counts", CS_MEMBER_READ, offsetof(CsStep, counts),.read = compile_counts},
	{"about", CS_MEMBER_READ, offsetof(CsStep, email),.read = compile_about},
	{"remote", CS_MEMBER_READ, offsetof(CsStep, id),.read = compile_remote},
	{"opt_out", CS_MEMBER_READ, offsetof(CsStep, opt_out),.read = cs_pointer_compile_tests},
	{"opt_in", CS_MEMBER_READ, offsetof(CsStep, opt_in),.read = cs_pointer_compile_tests},
	{"mailable", CS_MEMBER_READ, offsetof(CsStep, mailable),.read = cs_pointer_compile_tests},
	{"next", CS_MEMBER_TEXT, LATE(next)},
	{NULL}
};

static void
compile_path(CsCompiler *compiler, CsJson *json, CsText *path)
{
	int			mark = cs_fault_enter(compiler, "path");
	const char *given = cs_json_string(json);
	const char *text = given && *given == '\0' ? "" : cs_fault_string(compiler, json, 1000);

	if (*text && *text != '/')
		cs_fault_set(compiler, "must begin with /, or be empty");
	if (strstr(text, "//") || strstr(text, "/./") || strstr(text, "/../") || strstr(text, "..") || strstr(text, "@"))
		cs_fault_set(compiler, "must not have an empty segment, \"..\" or \"@\"");
	if (compiler->fault == NULL)
		cs_place_compile(compiler, text, CS_IN_PATH, path);
	cs_fault_leave(compiler, mark);
}

static void
compile_member_pairs(CsCompiler *compiler, const char *name, CsJson *json, CsPlace place, int *n, CsPair **pairs)
{
	int			mark = cs_fault_enter(compiler, name);

	if (json)
		cs_pair_compile(compiler, json, place, n, pairs);
	cs_fault_leave(compiler, mark);
}

static void
compile_body(CsCompiler *compiler, CsJson *json, CsStep *step)
{
	int			mark = cs_fault_enter(compiler, "body");

	compiler->references = compiler->literals = compiler->lists = compiler->list_constants = 0;
	compiler->says_yes = compiler->says_no = compiler->says_if_new = false;
	step->body = cs_template_compile(compiler, json);
	step->constants = compiler->literals;
	step->references = compiler->references;
	step->lists = compiler->lists;
	step->list_constants = compiler->list_constants;
	step->claims = compiler->says_yes;
	step->claims_if_new = compiler->says_if_new;
	step->withdraws = compiler->says_no;
	cs_fault_leave(compiler, mark);
}

static void
check_content_type(CsCompiler *compiler, const CsStep *step)
{
	const char *type = step->content_type;

	if (type && strspn(type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-+./;= ") != strlen(type))
		cs_fault_set(compiler, "has a \"content_type\" that is none");
}

/* Compile the request of a step; the rest was read already. */
static void
compile_request(CsCompiler *compiler, const Late *late, CsStep *step)
{
	compiler->several = step->batch > 1;
	compile_path(compiler, late->path, &step->path);
	compile_member_pairs(compiler, "query", late->query, CS_IN_QUERY, &step->nquery, &step->query);
	compile_member_pairs(compiler, "headers", late->headers, CS_IN_HEADER, &step->nheaders, &step->headers);
	compile_member_pairs(compiler, "form", late->form, CS_IN_QUERY, &step->nform, &step->form);
	if (late->body)
		compile_body(compiler, late->body, step);
	if (late->body && late->form)
		cs_fault_set(compiler, "must not have both \"body\" and \"form\"");
	if ((late->body || late->form) && step->method == METHOD_GET)
		cs_fault_set(compiler, "must not have a body, since its method is GET");
	check_content_type(compiler, step);
}

static void
compile_condition(CsCompiler *compiler, const Late *late, CsStep *step)
{
	int			mark;

	if ((late->condition != NULL) != (late->otherwise != NULL))
		cs_fault_set(compiler, "must have both \"if\" and \"else\", or neither");
	if (late->condition == NULL || compiler->fault)
		return;
	mark = cs_fault_enter(compiler, "if");
	step->condition = palloc0(sizeof(CsCondition));
	cs_condition_compile(compiler, late->condition, step->condition);
	cs_fault_leave(compiler, mark);
	step->otherwise = strcmp(late->otherwise, no_more) == 0 ? CS_NEXT_NONE : cs_rule_find_step(compiler, late->otherwise);
}

static void
compile_answers(CsCompiler *compiler, const Late *late, CsStep *step)
{
	int			mark = cs_fault_enter(compiler, "answers");

	if (late->rules)
		cs_rule_compile(compiler, late->rules, &step->nrules, &step->rules);
	for (int i = 0; i < step->nrules; i++)
		if (step->rules[i].polls && step->poll_every == 0)
			cs_fault_set(compiler, "must not have \"poll\", unless the step says how often");
	cs_fault_leave(compiler, mark);
	step->consent_told = step->opt_in.n + step->opt_out.n > 0;
	if ((step->opt_in.n > 0) != (step->opt_out.n > 0))
		cs_fault_set(compiler, "must have both \"opt_in\" and \"opt_out\", or neither");
	if (step->batch > 1 && (step->consent_told || step->id || step->status || step->email || step->external_id))
		cs_fault_set(compiler, "has several contacts: what is told of them must be in \"results\"");
	if (step->mailable.n > 0 && step->opt_in.n == 0)
		cs_fault_set(compiler, "must have \"opt_in\" to have \"mailable\"");
	if (late->next)
		step->next = cs_rule_find_step(compiler, late->next);
}

static void
compile_step(CsCompiler *compiler, CsJson *json, CsStep *step)
{
	Step		read = {.step = {.batch = 1,.next = -1}};

	cs_fault_read(compiler, json, step_members, &read);
	if (compiler->fault)
		return;
	compile_request(compiler, &read.late, &read.step);
	compiler->several = false;
	compile_condition(compiler, &read.late, &read.step);
	compile_answers(compiler, &read.late, &read.step);
	*step = read.step;
}

static const char *
name_of(CsJson *json, int i)
{
	const char *name = cs_json_string(cs_json_get(json, "name"));

	return name ? pstrdup(name) : psprintf("%d", i + 1);
}

static void
check_names(CsCompiler *compiler, const CsActionSteps *steps)
{
	for (int i = 0; i < steps->n; i++)
	{
		if (strcmp(steps->names[i], no_more) == 0)
			cs_fault_set(compiler, "must not have a step called \"%s\"", no_more);
		for (int j = 0; j < i; j++)
			if (strcmp(steps->names[i], steps->names[j]) == 0)
				cs_fault_set(compiler, "has two steps called \"%s\"", steps->names[i]);
	}
}

/* Something must be sent of every contact. */
static void
check_first(CsCompiler *compiler, const CsActionSteps *steps)
{
	int			step = 0;

	while (step != CS_NEXT_NONE && steps->steps[step].condition)
		step = steps->steps[step].otherwise;
	if (step == CS_NEXT_NONE)
		cs_fault_set(compiler, "must send something of every contact: \"else\": \"%s\" can follow a step that was sent", no_more);
}

void
cs_step_compile_all(CsCompiler *compiler, CsJson *json, CsActionSteps *steps)
{
	bool		single = cs_json_is_object(json);

	if (!single && !cs_fault_is_array(compiler, json, CS_DEFINED_MAX_STEPS))
		return;
	steps->n = single ? 1 : cs_json_length(json);
	if (steps->n == 0)
		cs_fault_set(compiler, "must have a step");
	steps->steps = palloc0(Max(steps->n, 1) * sizeof(CsStep));
	steps->names = palloc0(Max(steps->n, 1) * sizeof(char *));
	for (int i = 0; i < steps->n; i++)
		steps->names[i] = name_of(single ? json : cs_json_item(json, i), i);
	check_names(compiler, steps);
	compiler->steps = steps->names;
	compiler->nsteps = steps->n;
	for (int i = 0; i < steps->n && compiler->fault == NULL; i++)
	{
		int			mark = single ? compiler->path.len : cs_fault_enter_item(compiler, i);

		compiler->step = i;
		compile_step(compiler, single ? json : cs_json_item(json, i), &steps->steps[i]);
		cs_fault_leave(compiler, mark);
	}
	if (compiler->fault == NULL)
		check_first(compiler, steps);
	compiler->nsteps = 0;
}

/* ---------- requests without contacts ---------- */

static const CsMember request_members[] = {
	{"method", CS_MEMBER_WORD, offsetof(CsStep, method),.words = cs_step_methods},
	{"path", CS_MEMBER_JSON, LATE(path),.required = true},
	{"query", CS_MEMBER_JSON, LATE(query)},
	{"headers", CS_MEMBER_JSON, LATE(headers)},
	{NULL}
};

void
cs_step_compile_request(CsCompiler *compiler, CsJson *json, CsStep *step)
{
	Step		read = {.step = {.batch = 1,.next = -1}};

	cs_fault_read(compiler, json, request_members, &read);
	if (compiler->fault == NULL)
		compile_request(compiler, &read.late, &read.step);
	*step = read.step;
}
