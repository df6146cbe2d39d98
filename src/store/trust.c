/*-------------------------------------------------------------------------
 *
 * trust.c
 *		Whose code runs as whom when the rows of a watch are read.
 *
 * Reading a row runs more than the mapping: casts, operators, domains and types of
 * its columns, row-security policies, and what views are made of.  Whoever owns the
 * table can put any of these there, after the watch was made as well, and so they
 * would run with the rights of the watch's owner.  Therefore:
 *
 *	- rows are read as the owner of the watch only if the owner of the table is a
 *	  role whose rights the former has anyway, or a superuser.  A superuser reads the
 *	  tables of others as their owner; anybody else cannot watch them;
 *	- every function, operator, cast and type in the query, once views and policies
 *	  are part of it, has to belong to such a role, too, and so has every table of
 *	  the tree;
 *	- the columns that the watch uses have to be of the types that they were of when
 *	  it was made.
 *
 * A superuser's rights include those of every role, but the code of other roles is
 * not to run with them; so memberships that come from being superuser do not count.
 * Nor does one that somebody else gave the reader, who can then be anybody's victim.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "store/membership.h"
#include "store/trust.h"

/* Types within types that are looked into. */
#define MAX_DEPTH	16

/* May code of "owner" run with the rights of "reader"? */
static bool
is_trusted(Oid owner, Oid reader)
{
	return owner == reader || superuser_arg(owner) ||
		(is_member_of_role_nosuper(reader, owner) && cs_membership_is_given(reader, owner));
}

/* Return the owner of a relation. */
static Oid
owner_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the watched table does not exist any more")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
refuse(const char *object, Oid owner, Oid reader)
{
	const char *name = GetUserNameFromId(owner, true);
	const char *reader_name = GetUserNameFromId(reader, true);
	const char *group = quote_identifier(name);
	const char *member = quote_identifier(reader_name);

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%s belongs to role \"%s\", whose code would run with the rights of role \"%s\"",
					object, name, reader_name),
			 superuser_arg(reader) ?
			 errhint("Give it to a superuser, or have role \"%s\" make the watch.", name) :
			 is_member_of_role_nosuper(reader, owner) ?
			 errhint("Another role gave role \"%s\" the membership in role \"%s\"; if it is right, have a superuser use REVOKE %s FROM %s; GRANT %s TO %s.",
					 reader_name, name, group, member, group, member) :
			 errhint("Have role \"%s\" make the watch, or use GRANT %s TO %s.", name, group, member)));
}

/*
 * Return the role as which rows of a source are read for a watch of that owner.  The
 * source is locked, so that it keeps its owner until the transaction ends.
 */
Oid
cs_trust_reader(Oid source, Oid owner)
{
	Oid			table_owner = owner_of(source);

	if (is_trusted(table_owner, owner))
		return owner;
	if (!superuser_arg(owner))
		refuse(psprintf("table \"%s\"", get_rel_name(source)), table_owner, owner);
	return table_owner;
}

/* Raise an error unless all tables that inherit from a source are trusted. */
void
cs_trust_check_tree(Oid source, Oid reader)
{
	ListCell   *lc;

	if (!has_subclass(source))
		return;
	foreach(lc, find_all_inheritors(source, NoLock, NULL))
	{
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(lfirst_oid(lc)));
		Oid			owner;

		if (!HeapTupleIsValid(tuple))
			continue;
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
		if (!is_trusted(owner, reader))
			refuse(psprintf("table \"%s\"", get_rel_name(lfirst_oid(lc))), owner, reader);
	}
}

/*
 * Queries
 */

typedef struct CsTrustWalk
{
	Oid			reader;
} CsTrustWalk;

static void check_type(Oid type, Oid reader, int depth);

static void
check_columns_of_type(Oid relid, Oid reader, int depth)
{
	for (AttrNumber attnum = 1;; attnum++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attnum));
		Oid			type;

		if (!HeapTupleIsValid(tuple))
			return;
		type = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
		ReleaseSysCache(tuple);
		if (OidIsValid(type))
			check_type(type, reader, depth + 1);
	}
}

/* Check a type and what it is made of. */
static void
check_type(Oid type, Oid reader, int depth)
{
	HeapTuple	tuple;
	FormData_pg_type form;

	if (type < FirstUnpinnedObjectId)
		return;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return;
	form = *(Form_pg_type) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	if (!is_trusted(form.typowner, reader))
		refuse(psprintf("type %s", format_type_be(type)), form.typowner, reader);
	if (depth >= MAX_DEPTH)
		return;
	if (OidIsValid(form.typelem))
		check_type(form.typelem, reader, depth + 1);
	if (OidIsValid(form.typbasetype))
		check_type(form.typbasetype, reader, depth + 1);
	if (OidIsValid(form.typrelid))
		check_columns_of_type(form.typrelid, reader, depth);
	if (form.typtype == TYPTYPE_RANGE)
		check_type(get_range_subtype(type), reader, depth + 1);
	if (form.typtype == TYPTYPE_MULTIRANGE)
		check_type(get_multirange_range(type), reader, depth + 1);
}

static bool
check_function(Oid function, void *arg)
{
	const CsTrustWalk *walk = arg;
	HeapTuple	tuple;
	Oid			owner;

	if (function < FirstUnpinnedObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return false;
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	if (!is_trusted(owner, walk->reader))
		refuse(psprintf("function %s", format_procedure(function)), owner, walk->reader);
	return false;
}

/* Have operators be checked by whom they belong to as well, who may change them. */
static void
check_operator(Oid operator, const CsTrustWalk *walk)
{
	HeapTuple	tuple;
	Oid			owner;

	if (operator < FirstUnpinnedObjectId)
		return;
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_operator) GETSTRUCT(tuple))->oprowner;
	ReleaseSysCache(tuple);
	if (!is_trusted(owner, walk->reader))
		refuse(psprintf("operator %s", format_operator(operator)), owner, walk->reader);
}

static bool
check_node(Node *node, void *arg)
{
	CsTrustWalk *walk = arg;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, check_node, walk, QTW_EXAMINE_SORTGROUP);
	(void) check_functions_in_node(node, check_function, walk);
	switch (nodeTag(node))
	{
		case T_SortGroupClause:
			check_operator(((SortGroupClause *) node)->eqop, walk);
			check_operator(((SortGroupClause *) node)->sortop, walk);
			return false;
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			check_operator(((OpExpr *) node)->opno, walk);
			check_type(exprType(node), walk->reader, 0);
			break;
		case T_ScalarArrayOpExpr:
			check_operator(((ScalarArrayOpExpr *) node)->opno, walk);
			break;
		case T_Var:
		case T_Const:
		case T_FuncExpr:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_ConvertRowtypeExpr:
		case T_CoerceToDomain:
		case T_FieldSelect:
		case T_RowExpr:
		case T_Aggref:
			check_type(exprType(node), walk->reader, 0);
			break;
		default:
			break;
	}
	return expression_tree_walker(node, check_node, walk);
}

/*
 * Raise an error unless all code in a query, which was prepared as the reader, is
 * trusted.
 */
void
cs_trust_check_plan(SPIPlanPtr plan, Oid reader)
{
	CsTrustWalk walk = {reader};
	ListCell   *lc;

	foreach(lc, SPI_plan_get_plan_sources(plan))
		(void) check_node((Node *) ((CachedPlanSource *) lfirst(lc))->query_list, &walk);
}

/* Raise an error unless the columns that the watch uses are of the types that they were of. */
void
cs_trust_check_types(const CsWatch *watch)
{
	for (int i = 0; i < watch->ntypes; i++)
	{
		Oid			type;

		if (!OidIsValid(watch->types[i]))
			continue;
		type = get_atttype(watch->source, i + 1);
		if (OidIsValid(type) && type != watch->types[i])
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("the type of column \"%s\" is %s; it was %s when the watch was made",
							get_attname(watch->source, i + 1, false), format_type_be(type),
							format_type_be(watch->types[i])),
					 errhint("If the mapping fits it, accept it with contactsync_alter_watch().")));
	}
}
