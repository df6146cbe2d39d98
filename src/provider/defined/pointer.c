/*-------------------------------------------------------------------------
 *
 * pointer.c
 *		Where something is in an answer, and tests of what is there.
 *
 * A place is a JSON pointer (RFC 6901).  A test compares a value with constants, or
 * looks for a phrase in it: there are no regular expressions, so that no answer takes
 * long to be judged.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/answer.h"
#include "provider/defined/pointer.h"

#define MAX_DEPTH	16
#define MAX_TESTS	16

/* Bytes of a text in which phrases are looked for. */
#define MAX_SEARCHED	(16 * 1024)

/* ... and all tests of one answer search so many bytes, each phrase for itself. */
#define BUDGET			(8 * 1024 * 1024)

static size_t spent = 0;

/* ---------- pointers ---------- */

/* Undo ~1 and ~0. */
static const char *
unescape(const char *text, size_t len)
{
	char	   *copy = pnstrdup(text, len);
	char	   *to = copy;

	for (const char *from = copy; *from; from++)
	{
		if (from[0] == '~' && (from[1] == '0' || from[1] == '1'))
			*to++ = *++from == '0' ? '~' : '/';
		else
			*to++ = *from;
	}
	*to = '\0';
	return copy;
}

void
cs_pointer_compile(CsCompiler *compiler, CsJson *json, void *field)
{
	const char *text = cs_json_string(json);
	CsPointer  *pointer = palloc0(sizeof(CsPointer));

	*(CsPointer **) field = pointer;
	pointer->names = palloc0(MAX_DEPTH * sizeof(char *));
	if (text == NULL || (*text && *text != '/') || strlen(text) > 500)
	{
		cs_fault_set(compiler, "must be a JSON pointer such as \"/data/id\", or \"\" for the whole answer");
		return;
	}
	while (*text == '/' && pointer->n < MAX_DEPTH)
	{
		size_t		len = strcspn(++text, "/");

		pointer->names[pointer->n++] = unescape(text, len);
		text += len;
	}
	if (*text)
		cs_fault_set(compiler, "must have at most %d parts", MAX_DEPTH);
}

static CsJson *
step_into(CsJson *value, const char *name)
{
	size_t		len = strlen(name);

	if (cs_json_length(value) < 0)
		return cs_json_get(value, name);
	if (len == 0 || len > 6 || strspn(name, "0123456789") != len)
		return NULL;
	return cs_json_item(value, atoi(name));
}

CsJson *
cs_pointer_get(const CsPointer *pointer, CsJson *doc)
{
	if (pointer == NULL)
		return NULL;
	for (int i = 0; i < pointer->n && doc; i++)
		doc = step_into(doc, pointer->names[i]);
	return doc;
}

const char *
cs_pointer_text(const CsPointer *pointer, CsJson *doc)
{
	const char *text = cs_json_text(cs_pointer_get(pointer, doc));

	return text && *text ? text : NULL;
}

/* ---------- tests ---------- */

/* A constant is compared by its text, so that 1 and "1" are the same. */
static const char *
constant_text(CsCompiler *compiler, CsJson *json)
{
	const char *text = cs_json_text(json);

	if (text == NULL)
		cs_fault_set(compiler, "must be a string, a number, true or false, or an array of these");
	return text ? pstrdup(text) : "";
}

static void
compile_constants(CsCompiler *compiler, CsJson *json, void *field)
{
	int			n = cs_json_length(json);
	const char **values = palloc0((Max(n, 1) + 1) * sizeof(char *));

	*(const char ***) field = values;
	if (n > 64)
		cs_fault_set(compiler, "must have at most 64 elements");
	else if (n < 0)
		values[0] = constant_text(compiler, json);
	for (int i = 0; i < n && n <= 64; i++)
		values[i] = constant_text(compiler, cs_json_item(json, i));
}

typedef struct Test
{
	CsPointer  *at;
	const char *header;
	const char **is;
	const char **is_not;
	const char **contains;
	bool		exists;
	CsJson	   *exists_json;
} Test;

static const CsMember test_members[] = {
	{"at", CS_MEMBER_READ, offsetof(Test, at),.read = cs_pointer_compile},
	{"header", CS_MEMBER_TEXT, offsetof(Test, header),.max = 100},
	{"is", CS_MEMBER_READ, offsetof(Test, is),.read = compile_constants},
	{"is_not", CS_MEMBER_READ, offsetof(Test, is_not),.read = compile_constants},
	{"contains", CS_MEMBER_WORDS, offsetof(Test, contains)},
	{"exists", CS_MEMBER_JSON, offsetof(Test, exists_json)},
	{NULL}
};

static char *
lower(const char *text)
{
	char	   *copy = pstrdup(text);

	for (char *c = copy; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	return copy;
}

/* In a test, "*" is any element of an array. */
static int
count_wildcards(const CsPointer *pointer)
{
	int			n = 0;

	for (int i = 0; i < pointer->n; i++)
		n += strcmp(pointer->names[i], "*") == 0;
	return n;
}

static void
compile_test(CsCompiler *compiler, CsJson *json, CsTest *test)
{
	Test		read = {NULL};

	cs_fault_read(compiler, json, test_members, &read);
	if ((read.at != NULL) == (read.header != NULL))
		cs_fault_set(compiler, "must have either \"at\" or \"header\"");
	if ((read.is != NULL) + (read.is_not != NULL) + (read.contains != NULL) + (read.exists_json != NULL) != 1)
		cs_fault_set(compiler, "must have one of \"is\", \"is_not\", \"contains\" and \"exists\"");
	if (compiler->fault)
		return;
	if (read.exists_json && !cs_json_bool(read.exists_json, &read.exists))
		cs_fault_set(compiler, "must have true or false for \"exists\"");
	test->at = read.at;
	test->header = read.header ? lower(read.header) : NULL;
	test->match.kind = read.is ? CS_MATCH_IS : read.is_not ? CS_MATCH_IS_NOT : read.contains ? CS_MATCH_CONTAINS :
		read.exists ? CS_MATCH_EXISTS : CS_MATCH_ABSENT;
	test->match.values = read.is ? read.is : read.is_not ? read.is_not : read.contains;
	if (read.at && count_wildcards(read.at) > 1)
		cs_fault_set(compiler, "can have one \"*\" in \"at\"");
}

void
cs_pointer_compile_tests(CsCompiler *compiler, CsJson *json, void *field)
{
	CsTests    *tests = field;
	int			n = cs_json_length(json);

	if (n > MAX_TESTS)
		cs_fault_set(compiler, "must have at most %d tests", MAX_TESTS);
	if (n == 0)
		cs_fault_set(compiler, "must not be empty");
	if (compiler->fault)
		return;
	tests->n = Max(n, 1);
	tests->tests = palloc0(tests->n * sizeof(CsTest));
	if (n < 0)
		compile_test(compiler, json, tests->tests);
	for (int i = 0; i < n; i++)
	{
		int			mark = cs_fault_enter_item(compiler, i);

		compile_test(compiler, cs_json_item(json, i), &tests->tests[i]);
		cs_fault_leave(compiler, mark);
	}
}

/* ---------- matching ---------- */

void
cs_pointer_begin(void)
{
	spent = 0;
}

bool
cs_pointer_is_exhausted(void)
{
	return spent > BUDGET;
}

/* Return false if there is no budget for so many bytes any more. */
static bool
spend(size_t bytes)
{
	if (spent <= BUDGET)
		spent += bytes;
	return spent <= BUDGET;
}

bool
cs_pointer_mentions(const char *text, const char **phrases)
{
	size_t		len = text ? strlen(text) : 0;

	if (len > MAX_SEARCHED)
		text = pnstrdup(text, len = MAX_SEARCHED);
	for (int i = 0; text && phrases[i] && spend(len + 16); i++)
		if (cs_answer_mentions(text, phrases[i]))
			return true;
	return false;
}

static bool
is_one_of(const char *text, const char **values)
{
	for (int i = 0; text && values[i] && spend(16); i++)
		if (strcmp(text, values[i]) == 0)
			return true;
	return false;
}

/* Does a value have what a test, or its contrary, asks for? */
static bool
value_matches(const CsMatch *match, CsJson *value, const char *text)
{
	switch (match->kind)
	{
		case CS_MATCH_EXISTS:
		case CS_MATCH_ABSENT:
			return (value != NULL || text != NULL) && !(text && *text == '\0');
		case CS_MATCH_IS:
		case CS_MATCH_IS_NOT:
			return is_one_of(text, match->values);
		case CS_MATCH_CONTAINS:
			return cs_pointer_mentions(text, match->values);
	}
	return false;
}

/* Does a value in the place match, or one in some element of an array? */
static bool
place_matches(const CsTest *test, CsJson *doc)
{
	CsPointer	rest = *test->at;
	CsJson	   *value = doc;

	for (; rest.n > 0 && value; rest.n--, rest.names++)
	{
		int			n = strcmp(rest.names[0], "*") == 0 ? cs_json_length(value) : -1;

		if (n >= 0)
		{
			rest.n--;
			rest.names++;
			for (int i = 0; i < n && spend(16); i++)
			{
				CsJson	   *found = cs_pointer_get(&rest, cs_json_item(value, i));

				if (value_matches(&test->match, found, cs_json_text(found)))
					return true;
			}
			return false;
		}
		value = step_into(value, rest.names[0]);
	}
	return value_matches(&test->match, value, cs_json_text(value));
}

static bool
test_holds(const CsTest *test, CsJson *doc, const CsResponse *response)
{
	bool		contrary = test->match.kind == CS_MATCH_ABSENT || test->match.kind == CS_MATCH_IS_NOT;
	const char *text;

	if (test->header == NULL)
		return place_matches(test, doc) != contrary;
	text = response ? cs_message_header(response, test->header) : NULL;
	return value_matches(&test->match, NULL, text) != contrary;
}

bool
cs_pointer_tests_hold(const CsTests *tests, CsJson *doc, const CsResponse *response)
{
	for (int i = 0; i < tests->n; i++)
		if (!test_holds(&tests->tests[i], doc, response))
			return false;
	return true;
}
