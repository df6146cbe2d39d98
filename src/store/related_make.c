/*-------------------------------------------------------------------------
 *
 * related_make.c
 *		Making the related tables of a watch from what a user names.
 *
 *		{"table": "column"}					equals the table's primary key
 *		{"table": {"column": "its column"}}	all of these are equal
 *		{"table": [...]}					several of them
 *
 * All of it is checked as the user, who needs the same rights to a related table as to
 * the source.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "base/contactsync.h"
#include "store/guess.h"
#include "store/reads.h"
#include "store/related_make.h"
#include "store/related_source.h"
#include "store/source_page.h"
#include "store/unique_key.h"
#include "store/view.h"

#define FORMS_HINT \
	"Write {\"address\": \"address_id\"} if that column equals the primary key of the table, and otherwise {\"address\": {\"column of the source\": \"column of the table\"}}."

/* What is read of the argument. */
typedef struct CsRelatedReader
{
	CsWatch    *watch;
	Relation	source;
	Relation	table;			/* the one whose references are being read */
} CsRelatedReader;

static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * Tables
 */

static void
check_kind(Relation table)
{
	const char *name = RelationGetRelationName(table);
	char		kind = table->rd_rel->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name),
				 errdetail("Only tables have triggers that tell of changes."),
				 kind == RELKIND_VIEW ? errhint("Name the tables that the view is made of.") : 0));
	if (IsSystemRelation(table) || RelationGetNamespace(table) == get_namespace_oid(CS_SCHEMA, true))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("system table \"%s\" cannot be watched", name)));
	if (table->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("temporary table \"%s\" cannot be watched", name),
				 errdetail("The session that delivers could not read it.")));
}

static void
check_rights(Oid relid, Oid roleid)
{
	const char *name = get_rel_name(relid);
	const char *missing = NULL;

	if (pg_class_aclcheck(relid, roleid, ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, roleid, ACL_SELECT, ACLMASK_ANY) != ACLCHECK_OK)
		missing = "SELECT";
	else if (pg_class_aclcheck(relid, roleid, ACL_TRIGGER) != ACLCHECK_OK)
		missing = "TRIGGER";
	if (missing)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", name),
				 errdetail("For changes of a related table to be noticed takes the privileges SELECT and TRIGGER on it."),
				 errhint("GRANT %s ON %s TO %s.", missing, quote_identifier(name),
						 quote_identifier(GetUserNameFromId(roleid, false)))));
}

/* Open a table that a user names as in SQL. */
static Relation
open_table(const char *name, Oid roleid)
{
	Oid			relid = DatumGetObjectId(DirectFunctionCall1(regclassin, CStringGetDatum(name)));
	Relation	table = try_relation_open(relid, AccessShareLock);

	if (table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s\" does not exist", name)));
	check_kind(table);
	check_rights(relid, roleid);
	return table;
}

/*
 * Columns
 */

/* Return the column that a name, as in SQL or as it is, stands for; palloc'd. */
static char *
find_column(Relation rel, const char *name)
{
	List	   *identifiers;
	const char *nearest;

	if (SplitIdentifierString(pstrdup(name), '.', &identifiers) && list_length(identifiers) == 1 &&
		get_attnum(RelationGetRelid(rel), linitial(identifiers)) > 0)
		return pstrdup(linitial(identifiers));
	if (get_attnum(RelationGetRelid(rel), name) > 0)
		return pstrdup(name);
	nearest = cs_guess_nearest_column(rel, name);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of \"related\" does not exist in table \"%s\"", name, RelationGetRelationName(rel)),
			 nearest ? errhint("Perhaps you meant the column \"%s\".", nearest) : 0));
}

static CsRelated *
create(const CsRelatedReader *reader, int n)
{
	CsRelated  *related = palloc0(sizeof(CsRelated));

	related->relid = RelationGetRelid(reader->table);
	related->name = pstrdup(RelationGetRelationName(reader->table));
	related->kind = CS_RELATED_TO_SOURCE;
	related->columns = palloc(Max(n, 1) * sizeof(char *));
	related->related_columns = palloc(Max(n, 1) * sizeof(char *));
	return related;
}

/* Add one, unless it is there. */
static void
add(CsRelatedReader *reader, CsRelated *related)
{
	if (cs_related_find_equal(reader->watch->related, related) == NULL)
		reader->watch->related = lappend(reader->watch->related, related);
}

/* A column that equals the primary key. */
static void
add_column(CsRelatedReader *reader, const char *name)
{
	CsRelated  *related = create(reader, 1);
	List	   *key = cs_unique_key_find(reader->table);

	related->columns[0] = find_column(reader->source, name);
	if (list_length(key) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 key == NIL ? errmsg("table \"%s\" has no primary key", RelationGetRelationName(reader->table)) :
				 errmsg("the primary key of table \"%s\" has %d columns", RelationGetRelationName(reader->table), list_length(key)),
				 errhint("Say which column of the source equals which column of it: \"related\" => {\"%s\": {\"%s\": \"...\"}}.",
						 RelationGetRelationName(reader->table), related->columns[0])));
	related->related_columns[0] = linitial(key);
	related->n = 1;
	add(reader, related);
}

static void
refuse_form(const CsRelatedReader *reader)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"related\" does not say by which columns table \"%s\" is used", RelationGetRelationName(reader->table)),
			 errhint(FORMS_HINT)));
}

/* Columns that equal others. */
static void
add_columns(CsRelatedReader *reader, JsonbContainer *object)
{
	CsRelated  *related = create(reader, JsonContainerSize(object));
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			related->columns[related->n] = find_column(reader->source, string_of(&value));
		if (token != WJB_VALUE)
			continue;
		if (value.type != jbvString)
			refuse_form(reader);
		related->related_columns[related->n++] = find_column(reader->table, string_of(&value));
	}
	if (related->n == 0 || related->n > INDEX_MAX_KEYS)
		refuse_form(reader);
	add(reader, related);
}

static void read_references(CsRelatedReader *reader, const JsonbValue *value, bool nested);

static void
read_array(CsRelatedReader *reader, JsonbContainer *array)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_ELEM)
			read_references(reader, &value, true);
}

/* Read how the source refers to a table. */
static void
read_references(CsRelatedReader *reader, const JsonbValue *value, bool nested)
{
	if (value->type == jbvString)
		add_column(reader, string_of(value));
	else if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
		add_columns(reader, value->val.binary.data);
	else if (value->type == jbvBinary && !nested && JsonContainerSize(value->val.binary.data) > 0)
		read_array(reader, value->val.binary.data);
	else
		refuse_form(reader);
}

static void
read_argument(CsRelatedReader *reader, Jsonb *argument)
{
	JsonbIterator *it = JsonbIteratorInit(&argument->root);
	JsonbIteratorToken token;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(argument))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"related\" must be an object of tables and columns"),
				 errhint(FORMS_HINT)));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			reader->table = open_table(string_of(&value), reader->watch->owner);
		if (token != WJB_VALUE)
			continue;
		read_references(reader, &value, false);
		relation_close(reader->table, NoLock);
	}
}

/*
 * Views
 */

/* If these columns of a view are of its base, have the base refer to the table: a row
 * that is not in the view any more is found there as well. */
static void
relate_to_base(const CsWatch *watch, CsRelated *related)
{
	char	  **columns = palloc(related->n * sizeof(char *));

	if (related->kind != CS_RELATED_TO_SOURCE)
		return;
	for (int i = 0; i < related->n; i++)
	{
		columns[i] = cs_view_column_of_base(watch->source, watch->nkeys, watch->keys, related->columns[i]);
		if (columns[i] == NULL)
			return;
	}
	related->kind = CS_RELATED_TO_BASE;
	related->columns = columns;
}

static char *
names_of(List *tables)
{
	StringInfoData names;
	ListCell   *lc;

	initStringInfo(&names);
	foreach(lc, tables)
		if (strstr(names.data, ((CsRelated *) lfirst(lc))->name) == NULL)
		appendStringInfo(&names, "%s\"%s\"", names.len ? ", " : "", ((CsRelated *) lfirst(lc))->name);
	return names.data;
}

/* Add the tables that a view is made of to those that the user names. */
static void
take_apart(CsWatch *watch)
{
	const char *name = get_rel_name(watch->source);
	List	   *named = NIL;
	List	   *tables;
	const char *reason;
	ListCell   *lc;

	foreach(lc, watch->related)
		named = lappend_oid(named, ((CsRelated *) lfirst(lc))->relid);
	tables = cs_view_take_apart(watch->source, watch->nkeys, watch->keys, named, &reason);
	if (tables == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("view \"%s\" is not plain enough for the triggers of its tables to tell of its changes", name),
				 errdetail_internal("%s", reason),
				 errhint("Use capture => 'poll' with poll_column => '...', the column that tells when a row changed; or watch the tables that it is made of.")));
	foreach(lc, watch->related)
		relate_to_base(watch, lfirst(lc));
	foreach(lc, watch->related)
		if (cs_related_find_equal(tables, lfirst(lc)) == NULL)
		tables = lappend(tables, lfirst(lc));
	watch->related = tables;
	foreach(lc, tables)
		check_rights(((CsRelated *) lfirst(lc))->relid, watch->owner);
}

/*
 * What is known of them
 */

/* Has the source an index by which rows are found that refer to the table? */
static bool
has_index(Relation source, const CsRelated *related)
{
	List	   *indexes = RelationGetIndexList(source);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		AttrNumber	first = index->rd_index->indkey.values[0];
		bool		usable = index->rd_index->indisvalid && RelationGetIndexPredicate(index) == NIL;

		index_close(index, AccessShareLock);
		for (int i = 0; usable && i < related->n; i++)
			if (get_attnum(RelationGetRelid(source), related->columns[i]) == first)
				return true;
	}
	return false;
}

static void
notice_if_no_index(const CsWatch *watch, const CsRelated *related)
{
	Relation	source = relation_open(cs_related_source_watch(watch, related)->source, AccessShareLock);
	const char *name = RelationGetRelationName(source);
	char		kind = source->rd_rel->relkind;

	if (related->kind != CS_RELATED_BASE && (kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE) &&
		!has_index(source, related))
		ereport(NOTICE,
				(errmsg("no index of table \"%s\" begins with column \"%s\", which refers to table \"%s\"",
						name, related->columns[0], related->name),
				 errdetail("Each change of table \"%s\" reads all of table \"%s\".", related->name, name),
				 errhint("Use CREATE INDEX ON %s (%s).", quote_identifier(name), quote_identifier(related->columns[0]))));
	relation_close(source, NoLock);
}

/* Check them, and find out which of their columns are used. */
static void
complete(const CsWatch *watch)
{
	ListCell   *lc;

	cs_related_source_check(watch);
	foreach(lc, watch->related)
	{
		CsRelated  *related = lfirst(lc);
		const CsWatch *source = cs_related_source_watch(watch, related);
		CsPageOrder order = {.filter = cs_related_source_condition(source, related, 0, NULL)};

		related->used = cs_reads_columns(watch->reads, related->relid, &related->all_used);
		/* have any error here, not when a row changes */
		cs_source_page_close(cs_source_page_open(source, &order));
	}
}

/* Is it a view whose tables have triggers? */
static bool
is_view(const CsWatch *watch)
{
	return watch->poll_column == NULL && get_rel_relkind(watch->source) == RELKIND_VIEW;
}

/* Have what is as before keep its id. */
static void
keep_ids(const CsWatch *watch, const List *before)
{
	ListCell   *lc;

	foreach(lc, watch->related)
	{
		CsRelated  *related = lfirst(lc);
		const CsRelated *same = cs_related_find_equal(before, related);

		related->id = same && same->derived == related->derived ? same->id : 0;
	}
}

void
cs_related_make(CsWatch *watch, Jsonb *argument, List *before)
{
	CsRelatedReader reader = {.watch = watch};
	ListCell   *lc;

	watch->related = NIL;
	if (argument == NULL && !is_view(watch))
		return;
	reader.source = relation_open(watch->source, AccessShareLock);
	if (argument)
		read_argument(&reader, argument);
	relation_close(reader.source, NoLock);
	if (is_view(watch))
		take_apart(watch);
	keep_ids(watch, before);
	complete(watch);
	foreach(lc, watch->related)
		notice_if_no_index(watch, lfirst(lc));
	if (is_view(watch))
		ereport(NOTICE,
				(errmsg("changes of view \"%s\" are noticed by triggers on %s",
						get_rel_name(watch->source), names_of(watch->related))));
}

void
cs_related_make_again(CsWatch *watch, List *before)
{
	ListCell   *lc;

	watch->related = NIL;
	foreach(lc, before)
		if (!((CsRelated *) lfirst(lc))->derived)
		watch->related = lappend(watch->related, lfirst(lc));
	foreach(lc, watch->related)
		cs_related_source_check_exists(lfirst(lc));
	if (is_view(watch))
		take_apart(watch);
	keep_ids(watch, before);
	foreach(lc, watch->related)
		check_rights(((CsRelated *) lfirst(lc))->relid, watch->owner);
	complete(watch);
}
