/*-------------------------------------------------------------------------
 *
 * related_source.c
 *		Which rows of the source of a watch use rows of its related tables.
 *
 * The condition compares columns of the source with constants of the types of the
 * related columns, whose texts they are, so that it is an error of no row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "store/related_source.h"
#include "store/related_type.h"
#include "store/row_key.h"
#include "store/source.h"
#include "store/trust.h"
#include "store/view.h"

#define ALTER_HINT	"Name the related tables anew, with a mapping that does without what is gone: contactsync_alter_watch(..., mapping => ..., related => ...)."

/* Return the base type of a column; raise an error if there is none. */
static Oid
type_of(Oid relid, const char *table, const char *column)
{
	AttrNumber	attnum = get_attnum(relid, column);

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s\", by which rows are related, does not exist any more", column, table),
				 errhint(ALTER_HINT)));
	return getBaseType(get_atttype(relid, attnum));
}

/* "watch" is what cs_related_source_watch() returns. */
static Oid
type_of_source(const CsWatch *watch, const CsRelated *related, int i)
{
	return type_of(watch->source, cs_source_alias(watch), related->columns[i]);
}

static Oid
type_of_related(const CsRelated *related, int i)
{
	return type_of(related->relid, related->name, related->related_columns[i]);
}

static void
check_columns(const CsWatch *watch, const CsRelated *related)
{
	for (int i = 0; i < related->n; i++)
	{
		Oid			type = type_of_source(watch, related, i);
		Oid			other = type_of_related(related, i);

		if (cs_related_type_equality(type, other) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" is of type %s, but column \"%s\" of related table \"%s\" is of type %s",
							related->columns[i], format_type_be(type), related->related_columns[i], related->name,
							format_type_be(other)),
					 errhint("Rows are related by columns of one type.")));
	}
}

void
cs_related_source_check_exists(const CsRelated *related)
{
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(related->relid)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("related table \"%s\" does not exist any more", related->name),
				 errhint(ALTER_HINT)));
}

/* Raise an error if a view would be taken apart in another way than it was. */
static void
check_view(const CsWatch *watch)
{
	List	   *named = NIL;
	List	   *tables;
	const char *reason;
	ListCell   *lc;
	int			nderived = 0;
	bool		same = true;

	if (cs_related_base(watch->related) == NULL)
		return;
	foreach(lc, watch->related)
	{
		const CsRelated *related = lfirst(lc);

		if (related->derived)
			nderived++;
		else
			named = lappend_oid(named, related->relid);
	}
	tables = cs_view_take_apart(watch->source, watch->nkeys, watch->keys, named, &reason);
	foreach(lc, tables)
		same &= cs_related_find_equal(watch->related, lfirst(lc)) != NULL;
	if (same && list_length(tables) == nderived)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("view \"%s\" is made of tables in another way than before", get_rel_name(watch->source)),
			 tables == NIL ? errdetail_internal("%s", reason) : 0,
			 tables == NIL ? errhint("End the watch by contactsync_unwatch(), and make it again with capture => 'poll'.") :
			 errhint("contactsync_alter_watch() takes it apart again.")));
}

void
cs_related_source_check(const CsWatch *watch)
{
	ListCell   *lc;

	foreach(lc, watch->related)
	{
		const CsRelated *related = lfirst(lc);

		cs_related_source_check_exists(related);
		(void) cs_trust_reader(related->relid, watch->owner);
		check_columns(cs_related_source_watch(watch, related), related);
	}
	check_view(watch);
}

const CsWatch *
cs_related_source_watch(const CsWatch *watch, const CsRelated *related)
{
	const CsRelated *base = related->kind == CS_RELATED_TO_BASE ? cs_related_base(watch->related) : NULL;
	CsWatch    *result;

	if (base == NULL)
		return watch;
	result = palloc0(sizeof(CsWatch));
	result->id = watch->id;
	result->endpoint = watch->endpoint;
	result->source = base->relid;
	result->owner = watch->owner;
	result->nkeys = base->n;
	result->keys = base->related_columns;
	result->search_path = watch->search_path;
	return result;
}

/* "alias"."column" */
static char *
column(const CsWatch *watch, const char *name)
{
	return psprintf("%s.%s", quote_identifier(cs_source_alias(watch)), quote_identifier(name));
}

static char *
any_condition(const CsWatch *watch, const CsRelated *related)
{
	StringInfoData condition;

	initStringInfo(&condition);
	for (int i = 0; i < related->n; i++)
		appendStringInfo(&condition, "%s%s IS NOT NULL", i ? " AND " : "", column(watch, related->columns[i]));
	return condition.data;
}

static char *
single_condition(const CsWatch *watch, const CsRelated *related, int n, char **keys)
{
	Oid			type = type_of_related(related, 0);
	StringInfoData condition;

	initStringInfo(&condition);
	appendStringInfo(&condition, "%s %s ANY (ARRAY[", column(watch, related->columns[0]),
					 cs_related_type_equality(type_of_source(watch, related, 0), type));
	for (int i = 0; i < n; i++)
		appendStringInfo(&condition, "%s%s", i ? ", " : "", quote_literal_cstr(keys[i]));
	appendStringInfo(&condition, "]::%s[])", cs_source_type_name(type));
	return condition.data;
}

static char *
composite_condition(const CsWatch *watch, const CsRelated *related, int n, char **keys)
{
	/* no name of ours hides that of the source */
	const char *values = strcmp(cs_source_alias(watch), "contactsync_related") == 0 ? "contactsync_related_" : "contactsync_related";
	StringInfoData condition;

	initStringInfo(&condition);
	appendStringInfoString(&condition, "EXISTS (SELECT FROM (VALUES ");
	for (int i = 0; i < n; i++)
	{
		appendStringInfoString(&condition, i ? ", (" : "(");
		for (int c = 0; c < related->n; c++)
			appendStringInfo(&condition, "%s%s::%s", c ? ", " : "", quote_literal_cstr(cs_row_key_part(keys[i], c)),
							 cs_source_type_name(type_of_related(related, c)));
		appendStringInfoChar(&condition, ')');
	}
	appendStringInfo(&condition, ") AS %s (", values);
	for (int c = 0; c < related->n; c++)
		appendStringInfo(&condition, "%sr%d", c ? ", " : "", c);
	appendStringInfoString(&condition, ") WHERE ");
	for (int c = 0; c < related->n; c++)
		appendStringInfo(&condition, "%s%s %s %s.r%d", c ? " AND " : "", column(watch, related->columns[c]),
						 cs_related_type_equality(type_of_source(watch, related, c), type_of_related(related, c)), values, c);
	appendStringInfoChar(&condition, ')');
	return condition.data;
}

char *
cs_related_source_condition(const CsWatch *watch, const CsRelated *related, int n, char **keys)
{
	check_columns(watch, related);
	if (n == 0)
		return any_condition(watch, related);
	return related->n == 1 ? single_condition(watch, related, n, keys) : composite_condition(watch, related, n, keys);
}
