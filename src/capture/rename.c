/*-------------------------------------------------------------------------
 *
 * rename.c
 *		The new names of columns in the expressions of a watch.
 *
 * Outside of subqueries it is certain what an expression names: a name, alone or
 * qualified by that of the table, is the column.  In a subquery it may be another
 * table's column, so it is left alone; if it was ours, the watch is broken and its
 * status says so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/builtins.h"

#include "capture/rename.h"

/* A place in an expression that names a column that was renamed. */
typedef struct CsMention
{
	int			location;		/* of the first name */
	int			qualifiers;		/* names before the column's */
	const char *name;			/* the new one */
} CsMention;

typedef struct CsMentionWalk
{
	const char *table;
	const CsRenames *renames;
	List	   *mentions;		/* of CsMention, in the order of the text */
} CsMentionWalk;

static int
compare_mentions(const ListCell *a, const ListCell *b)
{
	return ((CsMention *) lfirst(a))->location - ((CsMention *) lfirst(b))->location;
}

static void
add_mention(const ColumnRef *column, CsMentionWalk *walk)
{
	int			n = list_length(column->fields);
	CsMention  *mention;
	const char *name;

	if (!IsA(llast(column->fields), String))
		return;
	if (n > 1 && strcmp(strVal(list_nth(column->fields, n - 2)), walk->table) != 0)
		return;
	name = cs_table_trigger_new_name(walk->renames, strVal(llast(column->fields)));
	if (name == NULL)
		return;
	mention = palloc(sizeof(CsMention));
	mention->location = column->location;
	mention->qualifiers = n - 1;
	mention->name = name;
	walk->mentions = lappend(walk->mentions, mention);
}

static bool
find_mentions(Node *node, void *arg)
{
	CsMentionWalk *walk = arg;

	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		return find_mentions(((SubLink *) node)->testexpr, walk);
	if (IsA(node, ColumnRef))
	{
		add_mention((ColumnRef *) node, walk);
		return false;
	}
	return raw_expression_tree_walker(node, find_mentions, walk);
}

/* Return what follows the identifier that begins there; NULL if none does. */
static const char *
skip_identifier(const char *p)
{
	const char *start = p;

	if (*p == '"')
	{
		for (p++; *p; p++)
			if (*p == '"' && *++p != '"')
				return p;
		return NULL;
	}
	if (pg_strncasecmp(p, "u&\"", 3) == 0)
		return NULL;
	while (isalnum((unsigned char) *p) || *p == '_' || *p == '$' || IS_HIGHBIT_SET(*p))
		p++;
	return p > start ? p : NULL;
}

/* Return what follows "name." */
static const char *
skip_qualifier(const char *p)
{
	p = skip_identifier(p);
	while (p && isspace((unsigned char) *p))
		p++;
	if (p == NULL || *p != '.')
		return NULL;
	for (p++; isspace((unsigned char) *p); p++)
		;
	return p;
}

char *
cs_rename_in_expression(char *expression, const char *table, const CsRenames *renames)
{
	List	   *statements = raw_parser(expression, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = castNode(SelectStmt, linitial_node(RawStmt, statements)->stmt);
	CsMentionWalk walk = {table, renames, NIL};
	StringInfoData result;
	const char *from = expression;
	ListCell   *lc;

	find_mentions((Node *) select->targetList, &walk);
	list_sort(walk.mentions, compare_mentions);
	initStringInfo(&result);
	foreach(lc, walk.mentions)
	{
		CsMention  *mention = lfirst(lc);
		const char *name = expression + mention->location;
		const char *end;

		for (int i = 0; i < mention->qualifiers && name; i++)
			name = skip_qualifier(name);
		end = name ? skip_identifier(name) : NULL;
		if (end == NULL)
			return expression;
		appendBinaryStringInfo(&result, from, name - from);
		appendStringInfoString(&result, quote_identifier(mention->name));
		from = end;
	}
	appendStringInfoString(&result, from);
	return result.data;
}
