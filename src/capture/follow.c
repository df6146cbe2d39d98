/*-------------------------------------------------------------------------
 *
 * follow.c
 *		Watches follow columns that are renamed.
 *
 * A watch remembers its table's columns by their numbers, which no ALTER TABLE
 * changes.  So whoever looks later sees which were renamed, and puts the new
 * name into the key, into the triggers' arguments, and into the expressions.
 *
 * What an expression says outside of subqueries is certain: a name, alone or
 * behind that of the table, is the column.  In a subquery it may be somebody
 * else's, so it is left; if it was ours, the watch is broken and says so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "access/genam.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/shmem.h"
#include "base/sql.h"
#include "capture/follow.h"
#include "store/table_trigger.h"
#include "store/watch.h"

/* Where an expression names a column that was renamed. */
typedef struct CsMention
{
	int			location;		/* of the first name */
	int			qualifiers;		/* names in front of the column's */
	const char *name;			/* that it has now */
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
note_mention(const ColumnRef *column, CsMentionWalk *walk)
{
	int			n = list_length(column->fields);
	CsMention  *mention;
	const char *name;

	if (!IsA(llast(column->fields), String))
		return;
	if (n > 1 && strcmp(strVal(list_nth(column->fields, n - 2)), walk->table) != 0)
		return;
	name = cs_renames_find(walk->renames, strVal(llast(column->fields)));
	if (name == NULL)
		return;
	mention = palloc(sizeof(CsMention));
	mention->location = column->location;
	mention->qualifiers = n - 1;
	mention->name = name;
	walk->mentions = lappend(walk->mentions, mention);
}

static bool
find_mentions(Node *node, CsMentionWalk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		return find_mentions(((SubLink *) node)->testexpr, walk);
	if (IsA(node, ColumnRef))
	{
		note_mention((ColumnRef *) node, walk);
		return false;
	}
	return raw_expression_tree_walker(node, find_mentions, walk);
}

/* Behind the identifier that begins there; NULL if none does. */
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

/* Behind "name." */
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

/* The expression with the columns' new names, palloc'd; as it is where it is
 * written in a way that is not understood. */
static char *
rename_in_expression(char *expression, const char *table, const CsRenames *renames)
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

/* Effect: the watch, its stored definition and its triggers have the new names. */
static void
rename_in_watch(CsWatch *watch, const CsRenames *renames)
{
	const char *table = get_rel_name(watch->source);

	for (int i = 0; i < watch->nkeys; i++)
	{
		const char *name = cs_renames_find(renames, watch->keys[i]);

		if (name)
			watch->keys[i] = pstrdup(name);
	}
	for (int i = 0; i < watch->nmapped; i++)
		watch->mapped[i].expression = rename_in_expression(watch->mapped[i].expression, table, renames);
	if (watch->filter)
		watch->filter = rename_in_expression(watch->filter, table, renames);
	cs_watch_store(watch);
	if (watch->poll_column && cs_renames_find(renames, watch->poll_column))
		cs_sql_execute_text("UPDATE contactsync.watch SET poll_column = %s WHERE id = %d",
							quote_literal_cstr(cs_renames_find(renames, watch->poll_column)), watch->id);
	cs_table_trigger_rename(watch->id, renames);
}

/* The columns of a watch's table that have another name than it knows. */
static CsRenames *
renames_of(int watch)
{
	static CsStatement statement = {
		"SELECT o.name::text, a.attname::text FROM contactsync.watch w,"
		" unnest(w.columns) WITH ORDINALITY AS o (name, number), pg_attribute a"
		" WHERE w.id = $1 AND a.attrelid = w.source AND a.attnum = o.number AND NOT a.attisdropped"
		" AND a.attname <> o.name",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(watch);
	CsRenames  *renames = palloc(sizeof(CsRenames));

	renames->n = (int) cs_sql_execute(&statement, &arg, NULL);
	renames->older = palloc(Max(renames->n, 1) * sizeof(char *));
	renames->newer = palloc(Max(renames->n, 1) * sizeof(char *));
	for (int i = 0; i < renames->n; i++)
	{
		renames->older[i] = cs_sql_text(i, 1);
		renames->newer[i] = cs_sql_text(i, 2);
	}
	return renames;
}

/* The columns of a table by number, null where one was dropped. */
#define COLUMNS_OF(table) \
	"(SELECT array_agg(a.attname ORDER BY n) FROM pg_class c, generate_series(1, c.relnatts::int4) n" \
	" LEFT JOIN pg_attribute a ON a.attrelid = " table " AND a.attnum = n AND NOT a.attisdropped" \
	" WHERE c.oid = " table ")"

/*
 * Effect: watches have the names that their columns have now.  Returns whether
 * there was anything new about the columns of a watched table.
 */
bool
cs_follow_columns(void)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch w SET columns = " COLUMNS_OF("w.source") " FROM contactsync.endpoint e"
		" WHERE e.id = w.endpoint AND e.database = contactsync.database_identity() AND w.columns IS DISTINCT FROM " COLUMNS_OF("w.source")
	};
	List	   *watches = cs_watch_load_all();
	ListCell   *lc;

	foreach(lc, watches)
	{
		CsWatch    *watch = lfirst(lc);
		CsRenames  *renames = watch->away ? NULL : renames_of(watch->id);

		if (renames && renames->n > 0)
			rename_in_watch(watch, renames);
	}
	return cs_sql_execute(&statement, NULL, NULL) > 0;
}

/*
 * Effect: in a database that was restored the columns may have other numbers, so
 * they are followed from here on.
 */
void
cs_follow_from_now(int endpoint)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch w SET columns = " COLUMNS_OF("w.source") " WHERE w.endpoint = $1", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	cs_sql_execute(&statement, &arg, NULL);
}
