/*-------------------------------------------------------------------------
 *
 * fault.c
 *		What is wrong with a definition, and reading its members.
 *
 * A definition is data of some role, so nothing in it is an error of ours: a fault
 * has the JSON pointer of the part, and what would be right there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/text.h"
#include "provider/defined/fault.h"

/* Bytes of text that a member has at most, unless its table says otherwise. */
#define MAX_TEXT	2000

int
cs_fault_enter(CsCompiler *compiler, const char *name)
{
	int			mark = compiler->path.len;

	appendStringInfoCharMacro(&compiler->path, '/');
	for (; *name && compiler->path.len < 1000; name++)
	{
		if (*name == '~')
			appendStringInfoString(&compiler->path, "~0");
		else if (*name == '/')
			appendStringInfoString(&compiler->path, "~1");
		else
			appendStringInfoCharMacro(&compiler->path, *name);
	}
	return mark;
}

int
cs_fault_enter_item(CsCompiler *compiler, int index)
{
	return cs_fault_enter(compiler, psprintf("%d", index));
}

void
cs_fault_leave(CsCompiler *compiler, int mark)
{
	compiler->path.len = mark;
	compiler->path.data[mark] = '\0';
}

void
cs_fault_set(CsCompiler *compiler, const char *fmt,...)
{
	va_list		args;

	if (compiler->fault)
		return;
	va_start(args, fmt);
	compiler->fault = cs_text_format(fmt, args);
	va_end(args);
	compiler->fault_path = pstrdup(compiler->path.data);
}

bool
cs_fault_is_array(CsCompiler *compiler, CsJson *json, int max)
{
	int			n = cs_json_length(json);

	if (n < 0)
		cs_fault_set(compiler, "must be an array");
	else if (n > max)
		cs_fault_set(compiler, "must have at most %d elements", max);
	return n >= 0 && n <= max;
}

bool
cs_fault_is_object(CsCompiler *compiler, CsJson *json)
{
	if (!cs_json_is_object(json))
		cs_fault_set(compiler, "must be an object");
	return cs_json_is_object(json);
}

const char *
cs_fault_string(CsCompiler *compiler, CsJson *json, int max)
{
	const char *text = cs_json_string(json);

	if (text == NULL || *text == '\0')
		cs_fault_set(compiler, "must be a string that is not empty");
	else if (strlen(text) > (max > 0 ? max : MAX_TEXT))
		cs_fault_set(compiler, "must have at most %d bytes", max > 0 ? max : MAX_TEXT);
	else
		return pstrdup(text);
	return "";
}

/* ---------- members of an object ---------- */

static int
read_word(CsCompiler *compiler, CsJson *json, const char *const *words)
{
	const char *text = cs_json_string(json);

	for (int i = 0; text && words[i]; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	cs_fault_set(compiler, "%s", cs_option_check_words("\001", words));
	return 0;
}

static double
read_number(CsCompiler *compiler, CsJson *json, const CsMember *member)
{
	double		number;
	double		max = member->max > 0 ? member->max : 1e9;

	if (cs_json_string(json) == NULL && cs_json_number(json, &number) &&
		number >= member->min && number <= max &&
		(member->kind == CS_MEMBER_NUMBER || number == (int) number))
		return number;
	cs_fault_set(compiler, "must be a %snumber from %g to %g",
				 member->kind == CS_MEMBER_INT ? "whole " : "", member->min, max);
	return member->min;
}

/* A single string stands for a list of one. */
static const char **
read_words(CsCompiler *compiler, CsJson *json, const CsMember *member)
{
	int			n = cs_json_length(json);
	const char **words;

	if (cs_json_string(json))
	{
		words = palloc0(2 * sizeof(char *));
		words[0] = cs_fault_string(compiler, json, 0);
		return words;
	}
	if (!cs_fault_is_array(compiler, json, 64))
		return NULL;
	if (n == 0)
		cs_fault_set(compiler, "must not be empty");
	words = palloc0((n + 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		int			mark = cs_fault_enter_item(compiler, i);

		words[i] = cs_fault_string(compiler, cs_json_item(json, i), 0);
		cs_fault_leave(compiler, mark);
	}
	return words;
}

static void
read_member(CsCompiler *compiler, CsJson *json, const CsMember *member, void *field)
{
	switch (member->kind)
	{
		case CS_MEMBER_TEXT:
			*(const char **) field = cs_fault_string(compiler, json, (int) member->max);
			break;
		case CS_MEMBER_WORD:
			*(int *) field = read_word(compiler, json, member->words);
			break;
		case CS_MEMBER_INT:
			*(int *) field = (int) read_number(compiler, json, member);
			break;
		case CS_MEMBER_NUMBER:
			*(double *) field = read_number(compiler, json, member);
			break;
		case CS_MEMBER_BOOL:
			if (!cs_json_bool(json, (bool *) field))
				cs_fault_set(compiler, "must be true or false");
			break;
		case CS_MEMBER_WORDS:
			*(const char ***) field = read_words(compiler, json, member);
			break;
		case CS_MEMBER_JSON:
			*(CsJson **) field = json;
			break;
		case CS_MEMBER_READ:
			member->read(compiler, json, field);
			break;
	}
}

typedef struct Reading
{
	CsCompiler *compiler;
	const CsMember *members;
	char	   *target;
	uint64		seen;
} Reading;

static void
report_unknown(CsCompiler *compiler, const CsMember *members, const char *name)
{
	CsTextNearest nearest;
	StringInfoData list;

	initStringInfo(&list);
	cs_text_begin_nearest(&nearest, name);
	for (int i = 0; members[i].name; i++)
	{
		cs_text_consider_nearest(&nearest, members[i].name);
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", members[i].name);
	}
	if (nearest.found)
		cs_fault_set(compiler, "is not known here: perhaps \"%s\" is meant; there can be %s", nearest.found, list.data);
	else
		cs_fault_set(compiler, "is not known here; there can be %s", list.data);
}

static bool
visit_member(const char *name, CsJson *value, void *arg)
{
	Reading    *reading = arg;
	int			mark = cs_fault_enter(reading->compiler, name);
	int			i = 0;

	while (reading->members[i].name && strcmp(reading->members[i].name, name) != 0)
		i++;
	if (reading->members[i].name == NULL)
		report_unknown(reading->compiler, reading->members, name);
	else
	{
		reading->seen |= UINT64CONST(1) << i;
		read_member(reading->compiler, value, &reading->members[i], reading->target + reading->members[i].offset);
	}
	cs_fault_leave(reading->compiler, mark);
	return reading->compiler->fault == NULL;
}

void
cs_fault_read(CsCompiler *compiler, CsJson *json, const CsMember *members, void *target)
{
	Reading		reading = {compiler, members, target, 0};

	if (!cs_fault_is_object(compiler, json))
		return;
	cs_json_each(json, visit_member, &reading);
	for (int i = 0; members[i].name; i++)
		if (members[i].required && !(reading.seen & (UINT64CONST(1) << i)))
			cs_fault_set(compiler, "needs the member \"%s\"", members[i].name);
}
