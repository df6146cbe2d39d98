/*-------------------------------------------------------------------------
 *
 * watch_make.c
 *		Making a watch from its definition.
 *
 * Everything that can be checked is checked when a watch is made, as the user
 * who makes it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "provider/provider.h"
#include "store/citus.h"
#include "store/guess.h"
#include "store/mapping.h"
#include "store/reads.h"
#include "store/source.h"
#include "store/source_row.h"
#include "store/unique_key.h"
#include "store/watch.h"
#include "store/watch_make.h"

/*
 * The key
 */

/* Raise an error unless these are columns of the relation. */
static void
check_columns(Relation source, List *names, const char *argument)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		const char *nearest;

		if (get_attnum(RelationGetRelid(source), lfirst(lc)) > 0)
			continue;
		nearest = cs_guess_nearest_column(source, lfirst(lc));
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of \"%s\" does not exist in table \"%s\"",
						(char *) lfirst(lc), argument, RelationGetRelationName(source)),
				 nearest ? errhint("Perhaps you meant the column \"%s\".", nearest) : 0));
	}
}

/* Return the columns of the primary key, or those wanted if they are unique. */
static List *
find_key(Relation source, List *wanted)
{
	Oid			primary = cs_primary_key_index(source);
	const char *table = RelationGetRelationName(source);

	if (wanted == NIL && OidIsValid(primary))
		return cs_unique_key_find(source);
	if (wanted == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 cs_unique_key_is_deferrable(source) ?
				 errmsg("the primary key of table \"%s\" is deferrable", table) :
				 errmsg("table \"%s\" has no primary key", table),
				 errhint("Add a primary key that is not deferrable, or name the columns of such a unique index whose columns are NOT NULL: key => '{id}'.")));
	check_columns(source, wanted, "key");
	if (cs_unique_key_has(source, wanted))
		return wanted;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no unique index on the columns of \"key\" of table \"%s\"", table),
			 errdetail("It must have these columns and no others, all of them NOT NULL, no WHERE, and not be deferrable.")));
}

/*
 * Return the key of a source that is polled, or of a view.  That the columns of a view identify
 * its rows cannot be checked, so it is taken for granted.
 */
static List *
find_polled_key(Relation source, List *wanted, const char *argument)
{
	char		kind = source->rd_rel->relkind;

	if (wanted == NIL && (kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE))
		return find_key(source, wanted);
	if (wanted == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" has no primary key", RelationGetRelationName(source)),
				 errhint("Name the columns that identify a row: %s => '{id}'.", argument)));
	check_columns(source, wanted, argument);
	return wanted;
}

/*
 * The source
 */

static bool
is_table(char kind)
{
	return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

static bool
is_pollable(char kind)
{
	return is_table(kind) || kind == RELKIND_VIEW || kind == RELKIND_MATVIEW ||
		kind == RELKIND_FOREIGN_TABLE;
}

/* Raise an error unless the relation is of a kind that can be watched.  Whether the tables
 * of a view tell of its changes is found out later. */
static void
check_kind(Relation source, bool polled)
{
	const char *name = RelationGetRelationName(source);
	char		kind = source->rd_rel->relkind;

	if (polled ? !is_pollable(kind) : !is_table(kind) && kind != RELKIND_VIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name),
				 is_pollable(kind) ?
				 errdetail("Only tables have triggers that tell of changes.") : 0,
				 is_pollable(kind) ?
				 errhint("Use capture => 'poll' with poll_column => '...', the column that tells when a row changed; or watch the tables that it is made of.") : 0));
	if (IsSystemRelation(source) ||
		RelationGetNamespace(source) == get_namespace_oid(CS_SCHEMA, true))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("system table \"%s\" cannot be watched", name)));
	if (source->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("temporary table \"%s\" cannot be watched", name),
				 errdetail("The session that delivers could not read it.")));
}

/* Raise an error unless the current user may watch the relation. */
static void
check_rights(Relation source, bool polled, bool only_read)
{
	Oid			relid = RelationGetRelid(source);
	const char *missing = NULL;

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_SELECT, ACLMASK_ALL) != ACLCHECK_OK)
		missing = "SELECT";
	else if (!polled && is_table(source->rd_rel->relkind) &&
			 pg_class_aclcheck(relid, GetUserId(), ACL_TRIGGER) != ACLCHECK_OK)
		missing = "TRIGGER";
	if (missing)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s", RelationGetRelationName(source)),
				 only_read ? errdetail("To read it takes the privilege SELECT on it.") :
				 polled ? errdetail("To poll it takes the privilege SELECT on it.") :
				 errdetail("To watch a table takes the privileges SELECT and TRIGGER on it."),
				 errhint("GRANT %s ON %s TO %s.", missing,
						 quote_identifier(RelationGetRelationName(source)),
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

static CsOnDelete
find_on_delete(const char *word, const CsProvider *provider)
{
	for (int i = 0; i < lengthof(cs_watch_on_delete_words); i++)
	{
		int			needed = i == CS_ON_DELETE_DELETE ? CS_CAN_DELETE :
		i == CS_ON_DELETE_UNSUBSCRIBE ? CS_CAN_UNSUBSCRIBE : 0;

		if (strcmp(word, cs_watch_on_delete_words[i]) != 0)
			continue;
		if ((provider->abilities & needed) != needed)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s cannot %s contacts", provider->title, word),
					 errhint("Use on_delete => 'ignore'%s.",
							 (provider->abilities & CS_CAN_DELETE) ? " or 'delete'" :
							 (provider->abilities & CS_CAN_UNSUBSCRIBE) ? " or 'unsubscribe'" : "")));
		return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"on_delete\": \"%s\"", word),
			 errhint("Use 'ignore', 'unsubscribe' or 'delete'.")));
}

/* Raise an error unless the source can be polled by that column. */
static void
check_poll_column(Relation source, const char *name)
{
	Oid			type;

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("capture => 'poll' needs \"poll_column\""),
				 errhint("Name the column that tells when a row changed: poll_column => 'updated_at'.")));
	check_columns(source, list_make1(unconstify(char *, name)), "poll_column");
	type = getBaseType(get_atttype(RelationGetRelid(source), get_attnum(RelationGetRelid(source), name)));
	if (type != TIMESTAMPTZOID && type != TIMESTAMPOID && type != DATEOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("poll_column \"%s\" is of type %s", name, format_type_be(type)),
				 errhint("Name a column of type timestamptz, timestamp or date that tells when a row changed.")));
}

/*
 * Make a watch from its definition, checked as the current user; palloc'd, and not
 * stored.  mapping and filter may be NULL, and so may alias, which is the name of
 * the table then.  Errors name the field at fault.
 */
CsWatch *
cs_watch_make(Oid source, const CsEndpoint *endpoint, Jsonb *mapping,
			  const char *filter, List *key, const char *on_delete,
			  const CsSchedule *schedule, const char *alias)
{
	CsWatch    *watch = palloc0(sizeof(CsWatch));
	Relation	rel = try_relation_open(source, AccessShareLock);
	Bitmapset  *used = NULL;
	bool		all_columns = false;
	ListCell   *lc;

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", source)));
	check_kind(rel, schedule->poll);
	if (!schedule->poll)
		cs_citus_check_triggers(source);
	check_rights(rel, schedule->poll, schedule->only_reads);
	if (schedule->poll && !schedule->only_reads)
	{
		check_poll_column(rel, schedule->poll_column);
		watch->poll_column = pstrdup(schedule->poll_column);
	}
	watch->source = source;
	watch->alias = pstrdup(alias ? alias : RelationGetRelationName(rel));
	watch->owner = GetUserId();
	watch->reads = cs_reads_create();
	watch->search_path = pstrdup(namespace_search_path);
	watch->on_delete = find_on_delete(on_delete, endpoint->provider);

	if (mapping)
		all_columns = cs_watch_read_mapping(watch, mapping);
	else
		cs_mapping_default(watch, rel, endpoint->provider->fields);
	cs_mapping_check_expressions(watch, rel, 0, &used);
	if (all_columns)
	{
		int			from = watch->nmapped;

		cs_mapping_add_remaining(watch, rel, used);
		cs_mapping_check_expressions(watch, rel, from, &used);
	}
	cs_mapping_check_fields(watch, rel, endpoint);

	if (filter)
	{
		Oid			type = cs_source_check_expression(watch, filter, "filter", NULL, &used);

		if (getBaseType(type) != BOOLOID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("filter must be of type boolean, not %s", format_type_be(type))));
		watch->filter = pstrdup(filter);
	}

	key = schedule->poll || rel->rd_rel->relkind == RELKIND_VIEW ? find_polled_key(rel, key, schedule->only_reads ? "key_columns" : "key") : find_key(rel, key);
	watch->keys = palloc(list_length(key) * sizeof(char *));
	foreach(lc, key)
		watch->keys[watch->nkeys++] = lfirst(lc);

	watch->used = used;
	/* have any other error here, not when it is first read */
	cs_source_row_close(cs_source_row_open(watch));
	relation_close(rel, NoLock);
	return watch;
}
