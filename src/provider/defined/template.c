/*-------------------------------------------------------------------------
 *
 * template.c
 *		Compiling the bodies of requests: JSON with values in it.
 *
 * A value is written by {"$": "email"}, so the template is JSON itself, and what is
 * sent is JSON whatever the values are.  There are loops over the contacts of a batch
 * and over the tags, topics and attributes of a contact, and no others; a loop over a
 * list has no loop in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "provider/defined/condition.h"
#include "provider/defined/place.h"
#include "provider/defined/template.h"

#define MAX_NODES			2000
#define MAX_REFERENCES		128 /* to values of a contact */
#define MAX_LIST_CONSTANTS	512 /* bytes, for each element of a list */

static const char *const types[] = {
	[CS_AS_IS] = "as is",
	[CS_AS_TEXT] = "text",
	[CS_AS_NUMBER] = "number",
	[CS_AS_BOOLEAN] = "boolean",
	[CS_AS_DATE] = "date",
	[CS_AS_UNIX] = "unix",
	[CS_AS_MILLISECONDS] = "milliseconds",
	[CS_AS_LIST] = "list",
	NULL
};

static const char *const null_rules[] = {"option", "omit", "send", NULL};

/* ---------- values ---------- */

typedef struct Value
{
	const char *name;
	int			type;
	int			nulls;
	CsJson	   *otherwise;
} Value;

static const CsMember value_members[] = {
	{"$", CS_MEMBER_TEXT, offsetof(Value, name),.required = true},
	{"as", CS_MEMBER_WORD, offsetof(Value, type),.words = types},
	{"null", CS_MEMBER_WORD, offsetof(Value, nulls),.words = null_rules},
	{"default", CS_MEMBER_JSON, offsetof(Value, otherwise)},
	{NULL}
};

static void
set_constant(CsCompiler *compiler, CsNode *node, CsJson *json)
{
	node->json = json ? cs_json_dump(json) : "null";
	node->json_len = (int) strlen(node->json);
	compiler->literals += node->json_len;
}

static void
compile_value(CsCompiler *compiler, CsJson *json, CsNode *node)
{
	Value		value = {NULL};

	cs_fault_read(compiler, json, value_members, &value);
	if (compiler->fault)
		return;
	node->kind = CS_NODE_VALUE;
	node->type = (CsNodeType) value.type;
	node->nulls = (CsNullRule) value.nulls;
	cs_place_compile_piece(compiler, value.name, CS_IN_BODY, &node->piece);
	if (value.otherwise)
		set_constant(compiler, node, value.otherwise);
}

typedef struct Text
{
	const char *text;
} Text;

static const CsMember text_members[] = {
	{"$text", CS_MEMBER_TEXT, offsetof(Text, text),.required = true},
	{NULL}
};

static void
compile_text(CsCompiler *compiler, CsJson *json, CsNode *node)
{
	Text		text = {NULL};

	cs_fault_read(compiler, json, text_members, &text);
	node->kind = CS_NODE_TEXT;
	if (text.text)
		cs_place_compile(compiler, text.text, CS_IN_BODY, &node->text);
}

/* ---------- loops ---------- */

/* Compile the template of each contact, or what there is without a loop. */
static CsNode *
compile_inner(CsCompiler *compiler, CsJson *json, const char *name)
{
	int			mark = cs_fault_enter(compiler, name);
	CsNode	   *node = cs_template_compile(compiler, json);

	cs_fault_leave(compiler, mark);
	return node;
}

static void
compile_each(CsCompiler *compiler, CsJson *json, CsNode *node)
{
	static const CsMember members[] = {{"$each", CS_MEMBER_JSON, 0,.required = true}, {NULL}};
	CsJson	   *inner = NULL;
	bool		several = compiler->several;

	cs_fault_read(compiler, json, members, &inner);
	if (!several)
		cs_fault_set(compiler, "must be outside of any other {\"$each\": ...}, in a step whose \"batch\" is greater than 1");
	node->kind = CS_NODE_EACH;
	compiler->several = false;
	node->inner = compile_inner(compiler, inner, "$each");
	compiler->several = several;
}

typedef struct ListLoop
{
	const char *name;
	CsJson	   *inner;
} ListLoop;

static const CsMember list_members[] = {
	{"$for", CS_MEMBER_TEXT, offsetof(ListLoop, name),.required = true},
	{"do", CS_MEMBER_JSON, offsetof(ListLoop, inner),.required = true},
	{NULL}
};

static void
compile_list(CsCompiler *compiler, CsJson *json, CsNode *node)
{
	ListLoop	list = {NULL};
	int			constants = compiler->literals;

	cs_fault_read(compiler, json, list_members, &list);
	if (compiler->fault)
		return;
	node->kind = CS_NODE_LIST;
	cs_place_compile_piece(compiler, list.name, CS_IN_BODY, &node->piece);
	if (node->piece.source != CS_FROM_FIELD ||
		(node->piece.field != CS_TAGS && node->piece.field != CS_TOPICS && node->piece.field != CS_ATTRIBUTES))
		cs_fault_set(compiler, "can loop over tags, topics and attributes");
	if (compiler->in_list)
		cs_fault_set(compiler, "must not be within another {\"$for\": ...}");
	compiler->in_list = true;
	node->inner = compile_inner(compiler, list.inner, "do");
	compiler->in_list = false;
	compiler->lists++;
	compiler->list_constants += compiler->literals - constants + 2;
	if (compiler->list_constants > MAX_LIST_CONSTANTS)
		cs_fault_set(compiler, "must have at most %d bytes of constant text", MAX_LIST_CONSTANTS);
}

/* ---------- choices ---------- */

typedef struct Choice
{
	CsJson	   *condition;
	CsJson	   *yes;
	CsJson	   *no;
} Choice;

static const CsMember choice_members[] = {
	{"$if", CS_MEMBER_JSON, offsetof(Choice, condition),.required = true},
	{"then", CS_MEMBER_JSON, offsetof(Choice, yes)},
	{"else", CS_MEMBER_JSON, offsetof(Choice, no)},
	{NULL}
};

static void
compile_choice(CsCompiler *compiler, CsJson *json, CsNode *node)
{
	Choice		choice = {NULL};
	int			mark;

	cs_fault_read(compiler, json, choice_members, &choice);
	node->kind = CS_NODE_IF;
	node->condition = palloc0(sizeof(CsCondition));
	mark = cs_fault_enter(compiler, "$if");
	cs_condition_compile(compiler, choice.condition, node->condition);
	cs_fault_leave(compiler, mark);
	node->yes = choice.yes ? compile_inner(compiler, choice.yes, "then") : NULL;
	node->no = choice.no ? compile_inner(compiler, choice.no, "else") : NULL;
}

typedef struct Consent
{
	CsJson	   *yes;
	CsJson	   *no;
	CsJson	   *if_new;
	CsJson	   *otherwise;
} Consent;

static const CsMember consent_members[] = {
	{"yes", CS_MEMBER_JSON, offsetof(Consent, yes)},
	{"no", CS_MEMBER_JSON, offsetof(Consent, no)},
	{"if_new", CS_MEMBER_JSON, offsetof(Consent, if_new)},
	{"otherwise", CS_MEMBER_JSON, offsetof(Consent, otherwise)},
	{NULL}
};

/* The only way to send what the person wants. */
static void
compile_consent(CsCompiler *compiler, CsJson *json, CsNode *node)
{
	static const CsMember members[] = {{"$consent", CS_MEMBER_JSON, 0,.required = true}, {NULL}};
	CsJson	   *inner = NULL;
	Consent		consent = {NULL};
	int			mark;

	cs_fault_read(compiler, json, members, &inner);
	mark = cs_fault_enter(compiler, "$consent");
	cs_fault_read(compiler, inner, consent_members, &consent);
	if (compiler->several)
		cs_fault_set(compiler, "is about several contacts: it must be within {\"$each\": ...}");
	node->kind = CS_NODE_CONSENT;
	node->yes = consent.yes ? compile_inner(compiler, consent.yes, "yes") : NULL;
	node->no = consent.no ? compile_inner(compiler, consent.no, "no") : NULL;
	node->if_new = consent.if_new ? compile_inner(compiler, consent.if_new, "if_new") : NULL;
	node->otherwise = consent.otherwise ? compile_inner(compiler, consent.otherwise, "otherwise") : NULL;
	compiler->says_yes |= node->yes != NULL;
	compiler->says_if_new |= node->if_new != NULL;
	compiler->says_no |= node->no != NULL;
	cs_fault_leave(compiler, mark);
}

/* ---------- objects and arrays ---------- */

typedef struct Members
{
	CsCompiler *compiler;
	CsNode	   *node;
} Members;

/* Does an attribute of the same name take the place of a member?  Not of the contact's key, or of its consent. */
static bool
is_plain(const CsNode *node)
{
	return node->kind == CS_NODE_VALUE && node->piece.source == CS_FROM_FIELD &&
		node->piece.field != CS_EMAIL && node->piece.field != CS_EXTERNAL_ID;
}

static void
compile_attributes(CsCompiler *compiler, CsJson *value, CsNode *node)
{
	static const CsMember members[] = {{"except", CS_MEMBER_WORDS, 0,.required = true}, {NULL}};
	bool		merge = false;

	if (cs_json_is_object(value))
		cs_fault_read(compiler, value, members, &node->except);
	else if (!cs_json_bool(value, &merge) || !merge)
		cs_fault_set(compiler, "must be true, or {\"except\": [...]}");
	if (!(compiler->fields & CS_FIELD_BIT(CS_ATTRIBUTES)))
		cs_fault_set(compiler, "needs attributes among \"fields\"");
	if (compiler->several)
		cs_fault_set(compiler, "is about several contacts: it must be within {\"$each\": ...}");
	node->attributes = true;
	compiler->references++;
}

static bool
compile_member(const char *name, CsJson *value, void *arg)
{
	Members    *members = arg;
	CsCompiler *compiler = members->compiler;
	CsNode	   *node = members->node;
	CsNodeMember *member = &node->members[node->n];
	int			mark = cs_fault_enter(compiler, name);
	StringInfoData key;

	if (strcmp(name, "$attributes") == 0)
		compile_attributes(compiler, value, node);
	else if (strcmp(name, "$keep") == 0)
	{
		if (!cs_json_bool(value, &node->keep))
			cs_fault_set(compiler, "must be true or false");
	}
	else if (*name == '$')
		cs_fault_set(compiler, "is not known: there are $, $text, $each, $for, $if, $consent, $attributes and $keep");
	else
	{
		initStringInfo(&key);
		cs_json_quote(&key, name);
		appendStringInfoCharMacro(&key, ':');
		member->name = pstrdup(name);
		member->key = key.data;
		member->key_len = key.len;
		compiler->literals += key.len;
		member->node = cs_template_compile(compiler, value);
		member->yields = is_plain(member->node);
		node->n++;
	}
	cs_fault_leave(compiler, mark);
	return compiler->fault == NULL;
}

static bool
count_member(const char *name, CsJson *value, void *arg)
{
	(*(int *) arg)++;
	return true;
}

static void
compile_object(CsCompiler *compiler, CsJson *json, CsNode *node)
{
	Members		members = {compiler, node};
	int			n = 0;

	cs_json_each(json, count_member, &n);
	node->kind = CS_NODE_OBJECT;
	node->members = palloc0(Max(n, 1) * sizeof(CsNodeMember));
	cs_json_each(json, compile_member, &members);
	node->keep |= n == 0;
}

static void
compile_array(CsCompiler *compiler, CsJson *json, CsNode *node)
{
	int			n = cs_json_length(json);

	node->kind = CS_NODE_ARRAY;
	node->members = palloc0(Max(n, 1) * sizeof(CsNodeMember));
	for (int i = 0; i < n && compiler->fault == NULL; i++)
	{
		int			mark = cs_fault_enter_item(compiler, i);

		node->members[node->n++].node = cs_template_compile(compiler, cs_json_item(json, i));
		cs_fault_leave(compiler, mark);
	}
}

CsNode *
cs_template_compile(CsCompiler *compiler, CsJson *json)
{
	CsNode	   *node = palloc0(sizeof(CsNode));

	check_stack_depth();
	if (++compiler->nodes > MAX_NODES)
		cs_fault_set(compiler, "is one part too many: a definition can have %d", MAX_NODES);
	if (compiler->fault)
		return node;
	if (cs_json_length(json) >= 0)
		compile_array(compiler, json, node);
	else if (!cs_json_is_object(json))
		set_constant(compiler, node, json);
	else if (cs_json_has(json, "$"))
		compile_value(compiler, json, node);
	else if (cs_json_has(json, "$text"))
		compile_text(compiler, json, node);
	else if (cs_json_has(json, "$each"))
		compile_each(compiler, json, node);
	else if (cs_json_has(json, "$for"))
		compile_list(compiler, json, node);
	else if (cs_json_has(json, "$if"))
		compile_choice(compiler, json, node);
	else if (cs_json_has(json, "$consent"))
		compile_consent(compiler, json, node);
	else
		compile_object(compiler, json, node);
	if (compiler->references > MAX_REFERENCES)
		cs_fault_set(compiler, "has one value too many: a body can have %d", MAX_REFERENCES);
	return node;
}

/* ---------- attributes ---------- */

/* Is this a name that attributes must not have?  One that ends with * is the beginning of such names. */
static bool
is_excepted(const char *except, const char *name)
{
	size_t		len = strlen(except);

	if (len > 0 && except[len - 1] == '*')
		return strncmp(except, name, len - 1) == 0;
	return strcmp(except, name) == 0;
}

static bool
reserves_member(const CsNode *node, const char *name)
{
	for (int i = 0; i < node->n; i++)
		if (strcmp(node->members[i].name, name) == 0 && !node->members[i].yields)
			return true;
	for (int i = 0; node->except && node->except[i]; i++)
		if (is_excepted(node->except[i], name))
			return true;
	return false;
}

bool
cs_template_reserves(const CsNode *node, const char *name)
{
	if (node == NULL)
		return false;
	if (node->kind == CS_NODE_OBJECT && node->attributes && reserves_member(node, name))
		return true;
	for (int i = 0; i < node->n; i++)
		if (cs_template_reserves(node->members[i].node, name))
			return true;
	return cs_template_reserves(node->inner, name) || cs_template_reserves(node->yes, name) ||
		cs_template_reserves(node->no, name) || cs_template_reserves(node->if_new, name) ||
		cs_template_reserves(node->otherwise, name);
}
