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
#include "store/watch_make.h"

#define FORMS_HINT \
	"Write {\"address\": \"address_id\"} if that column equals the primary key of the table, and otherwise {\"address\": {\"column of the source\": \"column of the table\"}}."

/* What is read of the argument. */
typedef struct CsRelatedReader
{
	CsWatch    *watch;
	Relation	source;
	Relation	table;			/* the one whose references are being read */
	List	   *before;
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
	related->columns = palloc(Max(n, 1) * sizeof(char *));
	related->related_columns = palloc(Max(n, 1) * sizeof(char *));
	return related;
}

/* Add one, unless it is there. */
static void
add(CsRelatedReader *reader, CsRelated *related)
{
	ListCell   *lc;

	foreach(lc, reader->watch->related)
		if (cs_related_equal(lfirst(lc), related))
		return;
	foreach(lc, reader->before)
		if (cs_related_equal(lfirst(lc), related))
		related->id = ((CsRelated *) lfirst(lc))->id;
	reader->watch->related = lappend(reader->watch->related, related);
}

/* A column that equals the primary key. */
static void
add_column(CsRelatedReader *reader, const char *name)
{
	CsRelated  *related = create(reader, 1);
	List	   *key = cs_watch_make_find_key(reader->table);

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
notice_if_no_index(Relation source, const CsRelated *related)
{
	char		kind = source->rd_rel->relkind;

	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) || has_index(source, related))
		return;
	ereport(NOTICE,
			(errmsg("no index of table \"%s\" begins with column \"%s\", which refers to table \"%s\"",
					RelationGetRelationName(source), related->columns[0], related->name),
			 errdetail("Each change of table \"%s\" reads all of table \"%s\".", related->name, RelationGetRelationName(source)),
			 errhint("Use CREATE INDEX ON %s (%s).", quote_identifier(RelationGetRelationName(source)),
					 quote_identifier(related->columns[0]))));
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
		CsPageOrder order = {.filter = cs_related_source_condition(watch, related, 0, NULL)};

		related->used = cs_reads_columns(watch->reads, related->relid, &related->all_used);
		/* have any error here, not when a row changes */
		cs_source_page_close(cs_source_page_open(watch, &order));
	}
}

void
cs_related_make(CsWatch *watch, Jsonb *argument, List *before)
{
	CsRelatedReader reader = {.watch = watch,.before = before};
	ListCell   *lc;

	watch->related = NIL;
	reader.source = relation_open(watch->source, AccessShareLock);
	read_argument(&reader, argument);
	complete(watch);
	foreach(lc, watch->related)
		notice_if_no_index(reader.source, lfirst(lc));
	relation_close(reader.source, NoLock);
}

void
cs_related_make_again(CsWatch *watch, List *before)
{
	ListCell   *lc;

	watch->related = before;
	cs_related_source_check(watch);
	foreach(lc, before)
		check_rights(((CsRelated *) lfirst(lc))->relid, watch->owner);
	complete(watch);
}
