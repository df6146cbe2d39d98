/*-------------------------------------------------------------------------
 *
 * pair.c
 *		Headers, and parameters of queries and forms.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/defined/pair.h"

#define MAX_PAIRS	16

/* ---------- compiling ---------- */

typedef struct Each
{
	const char *text;
	const char *before;
	const char *between;
	const char *after;
} Each;

static const CsMember each_members[] = {
	{"$each", CS_MEMBER_TEXT, offsetof(Each, text),.max = 500,.required = true},
	{"before", CS_MEMBER_TEXT, offsetof(Each, before),.max = 100},
	{"between", CS_MEMBER_TEXT, offsetof(Each, between),.max = 20},
	{"after", CS_MEMBER_TEXT, offsetof(Each, after),.max = 100},
	{NULL}
};

static void
compile_frame(CsCompiler *compiler, const char *text, CsText *out)
{
	if (text && compiler->fault == NULL)
		cs_place_compile(compiler, text, CS_IN_QUERY, out);
}

/* A text for each contact, and what is around these. */
static void
compile_each(CsCompiler *compiler, CsJson *json, CsPair *pair)
{
	Each		each = {NULL};

	cs_fault_read(compiler, json, each_members, &each);
	if (!compiler->several)
		cs_fault_set(compiler, "can have {\"$each\": ...} in a step whose \"batch\" is greater than 1");
	if (compiler->fault)
		return;
	pair->each = true;
	compile_frame(compiler, each.before, &pair->before);
	compile_frame(compiler, each.between, &pair->between);
	compile_frame(compiler, each.after, &pair->after);
	compiler->several = false;
	cs_place_compile(compiler, each.text, CS_IN_QUERY, &pair->text);
	compiler->several = true;
}

typedef struct PairVisit
{
	CsCompiler *compiler;
	CsPlace		place;
	int			n;
	CsPair	   *pairs;
} PairVisit;

static bool
compile_pair(const char *name, CsJson *value, void *arg)
{
	PairVisit  *visit = arg;
	CsCompiler *compiler = visit->compiler;
	int			mark = cs_fault_enter(compiler, name);
	CsPair	   *pair;

	if (visit->n == MAX_PAIRS)
		cs_fault_set(compiler, "is one too many: there can be %d", MAX_PAIRS);
	if (visit->place == CS_IN_HEADER)
		cs_place_check_header(compiler, name);
	if (compiler->fault == NULL)
	{
		pair = &visit->pairs[visit->n++];
		pair->name = pstrdup(name);
		if (visit->place == CS_IN_QUERY && cs_json_is_object(value))
			compile_each(compiler, value, pair);
		else
			cs_place_compile(compiler, cs_fault_string(compiler, value, 500), visit->place, &pair->text);
	}
	cs_fault_leave(compiler, mark);
	return compiler->fault == NULL;
}

void
cs_pair_compile(CsCompiler *compiler, CsJson *json, CsPlace place, int *n, CsPair **pairs)
{
	PairVisit	visit = {compiler, place, 0, palloc0(MAX_PAIRS * sizeof(CsPair))};

	if (cs_fault_is_object(compiler, json))
		cs_json_each(json, compile_pair, &visit);
	*n = visit.n;
	*pairs = visit.pairs;
}

/* ---------- queries and forms ---------- */

/* Append the text of each contact that has all of its values. */
static void
append_each(StringInfo out, const CsPair *pair, const CsScope *scope)
{
	CsScope		inner = *scope;
	bool		any = false;

	cs_place_render(out, &pair->before, CS_IN_QUERY, scope);
	for (int i = 0; scope->batch && i < scope->batch->ncontacts; i++)
	{
		inner.contact = scope->batch->contacts[i];
		if (cs_place_missing(&pair->text, CS_IN_QUERY, &inner))
			continue;
		if (any)
			cs_place_render(out, &pair->between, CS_IN_QUERY, scope);
		cs_place_render(out, &pair->text, CS_IN_QUERY, &inner);
		any = true;
	}
	cs_place_render(out, &pair->after, CS_IN_QUERY, scope);
}

void
cs_pair_append_query(StringInfo out, int n, const CsPair *pairs, const CsScope *scope, const char *first)
{
	const char *separator = first;

	for (int i = 0; i < n; i++)
	{
		if (!pairs[i].each && cs_place_missing(&pairs[i].text, CS_IN_QUERY, scope))
			continue;
		appendStringInfo(out, "%s%s=", separator, cs_url_encode(pairs[i].name));
		if (pairs[i].each)
			append_each(out, &pairs[i], scope);
		else
			cs_place_render(out, &pairs[i].text, CS_IN_QUERY, scope);
		separator = "&";
	}
}

/* ---------- headers ---------- */

void
cs_pair_add_headers(CsRequest *request, int n, const CsPair *pairs, const CsScope *scope)
{
	for (int i = 0; i < n && request->nheaders < CS_DEFINED_MAX_HEADERS + 2; i++)
	{
		StringInfoData value;

		if (cs_place_missing(&pairs[i].text, CS_IN_HEADER, scope))
			continue;
		initStringInfo(&value);
		cs_place_render(&value, &pairs[i].text, CS_IN_HEADER, scope);
		cs_message_add_header(request, pairs[i].name, value.data);
	}
}

bool
cs_pair_has_header(int n, const CsPair *pairs, const char *name)
{
	for (int i = 0; i < n; i++)
		if (pg_strcasecmp(pairs[i].name, name) == 0)
			return true;
	return false;
}

bool
cs_pair_has_key(int n, const CsPair *pairs)
{
	for (int i = 0; i < n; i++)
		for (int j = 0; j < pairs[i].text.n; j++)
			if (pairs[i].text.pieces[j].source == CS_FROM_IDEMPOTENCY_KEY)
				return true;
	return false;
}
