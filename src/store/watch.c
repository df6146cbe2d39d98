/*-------------------------------------------------------------------------
 *
 * watch.c
 *		Reading the rows of contactsync.watch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/sql.h"
#include "base/text.h"
#include "store/guess.h"
#include "store/watch.h"

const char *const cs_watch_on_delete_words[CS_ON_DELETE_WORDS] = {"ignore", "unsubscribe", "delete"};

/*
 * Mapping
 */

static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* Add a field or attribute to the mapping of a watch. */
void
cs_watch_add_mapped(CsWatch *watch, CsField field, char *attribute, char *expression)
{
	CsMapped   *mapped;

	watch->mapped = watch->mapped ?
		repalloc(watch->mapped, (watch->nmapped + 1) * sizeof(CsMapped)) : palloc(sizeof(CsMapped));
	mapped = &watch->mapped[watch->nmapped++];
	mapped->field = field;
	mapped->attribute = attribute;
	mapped->attribute_utf8 = attribute ? cs_text_to_utf8(attribute, strlen(attribute)) : NULL;
	mapped->expression = expression;
	mapped->type = CS_VALUE_ANY;
}

bool
cs_watch_maps(const CsWatch *watch, CsField field)
{
	for (int i = 0; i < watch->nmapped; i++)
		if (watch->mapped[i].attribute == NULL && watch->mapped[i].field == field)
			return true;
	return false;
}

/* Return the expression that is a value of the mapping; "what" names it in errors. */
static char *
expression_of(const JsonbValue *value, const char *what)
{
	if (value->type != jbvString || value->val.string.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a string that holds an SQL expression", what),
				 errhint("Write a column as \"%s\" and a constant as \"'en'\".", "first_name")));
	return string_of(value);
}

static void
read_attributes(CsWatch *watch, JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = string_of(&value);
		else if (token == WJB_VALUE)
			cs_watch_add_mapped(watch, CS_ATTRIBUTES, name,
								expression_of(&value, psprintf("attribute \"%s\" of the mapping", name)));
	}
}

/* Return whether the mapping asks for all remaining columns. */
static bool
read_field(CsWatch *watch, const char *name, const JsonbValue *value)
{
	const char *nearest = cs_guess_nearest_field(name);
	CsField		field;

	if (!cs_contact_field_by_name(name, strlen(name), &field))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mapping names the field \"%s\", which does not exist", name),
				 errhint("%sFields are: %s. Anything else goes into \"attributes\".",
						 nearest ? psprintf("Perhaps you meant the field \"%s\". ", nearest) : "",
						 cs_contact_field_list(~0))));
	if (field != CS_ATTRIBUTES)
	{
		cs_watch_add_mapped(watch, field, NULL,
							expression_of(value, psprintf("field \"%s\" of the mapping", name)));
		return false;
	}
	if (value->type == jbvString && value->val.string.len == 1 && *value->val.string.val == '*')
		return true;
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"attributes\" of the mapping must be an object of names and SQL expressions, or \"*\" for all remaining columns")));
	read_attributes(watch, value->val.binary.data);
	return false;
}

/* Fill watch->mapped.  Return true for "attributes": "*". */
bool
cs_watch_read_mapping(CsWatch *watch, Jsonb *mapping)
{
	JsonbIterator *it = JsonbIteratorInit(&mapping->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;
	bool		all_columns = false;

	if (!JB_ROOT_IS_OBJECT(mapping))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mapping must be an object of fields and SQL expressions"),
				 errhint("For example: mapping => '{\"email\": \"email_address\", \"external_id\": \"id\"}'.")));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = string_of(&value);
		else if (token == WJB_VALUE)
			all_columns |= read_field(watch, name, &value);
	}
	return all_columns;
}

static JsonbValue
json_string(char *string)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = string;
	value.val.string.len = strlen(string);
	return value;
}

static void
push_member(CsJsonbState *state, char *name, char *value)
{
	JsonbValue	json = json_string(name);

	cs_jsonb_push(state, WJB_KEY, &json);
	json = json_string(value);
	cs_jsonb_push(state, WJB_VALUE, &json);
}

/* Return something of all that is mapped, with the structure of a mapping. */
static Datum
mapped_to_jsonb(const CsWatch *watch, char *(*value_of) (const CsMapped *))
{
	CsJsonbState state = {NULL};
	JsonbValue	name = json_string("attributes");
	bool		has_attributes = false;

	cs_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < watch->nmapped; i++)
	{
		const CsMapped *mapped = &watch->mapped[i];

		has_attributes |= mapped->attribute != NULL;
		if (!mapped->attribute)
			push_member(&state, pstrdup(cs_contact_field_name(mapped->field)), value_of(mapped));
	}
	if (has_attributes)
	{
		cs_jsonb_push(&state, WJB_KEY, &name);
		cs_jsonb_push(&state, WJB_BEGIN_OBJECT, NULL);
		for (int i = 0; i < watch->nmapped; i++)
			if (watch->mapped[i].attribute)
				push_member(&state, watch->mapped[i].attribute, value_of(&watch->mapped[i]));
		cs_jsonb_push(&state, WJB_END_OBJECT, NULL);
	}
	cs_jsonb_push(&state, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(state.result));
}

static char *
expression_in(const CsMapped *mapped)
{
	return mapped->expression;
}

/* Return the mapping as it is stored, with all names spelled out. */
Datum
cs_watch_mapping_to_jsonb(const CsWatch *watch)
{
	return mapped_to_jsonb(watch, expression_in);
}

/*
 * Types that the provider wants
 */

static const char *const value_types[] = {
	[CS_VALUE_ANY] = "any",
	[CS_VALUE_TEXT] = "text",
	[CS_VALUE_NUMBER] = "number",
	[CS_VALUE_BOOLEAN] = "boolean",
	[CS_VALUE_TIME] = "time"
};

static char *
type_in(const CsMapped *mapped)
{
	return pstrdup(value_types[mapped->type]);
}

/* Return the types as they are stored. */
Datum
cs_watch_value_types_to_jsonb(const CsWatch *watch)
{
	return mapped_to_jsonb(watch, type_in);
}

/* Find a member of an object; false if it has none. */
static bool
find_member(JsonbContainer *object, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), value) != NULL;
}

/* Set the types that are stored; what is not among them is of any. */
static void
read_value_types(CsWatch *watch, Jsonb *types)
{
	JsonbValue	attributes = {.type = jbvNull};
	JsonbValue	value;

	(void) find_member(&types->root, "attributes", &attributes);
	for (int i = 0; i < watch->nmapped; i++)
	{
		CsMapped   *mapped = &watch->mapped[i];

		if (mapped->attribute ?
			attributes.type != jbvBinary || !find_member(attributes.val.binary.data, mapped->attribute, &value) :
			!find_member(&types->root, cs_contact_field_name(mapped->field), &value))
			continue;
		for (int type = 0; value.type == jbvString && type < lengthof(value_types); type++)
			if (value.val.string.len == strlen(value_types[type]) &&
				memcmp(value.val.string.val, value_types[type], value.val.string.len) == 0)
				mapped->type = type;
	}
}

/* Give what a watch maps the types that it had in an earlier definition. */
void
cs_watch_keep_value_types(CsWatch *watch, const CsWatch *from)
{
	for (int i = 0; i < watch->nmapped; i++)
		for (int j = 0; j < from->nmapped; j++)
			if (watch->mapped[i].field == from->mapped[j].field &&
				strcmp(watch->mapped[i].attribute ? watch->mapped[i].attribute : "",
					   from->mapped[j].attribute ? from->mapped[j].attribute : "") == 0)
				watch->mapped[i].type = from->mapped[j].type;
}

/*
 * Loading
 */

/* Columns of the query of cs_watch_load_all(). */
enum
{
	WATCH_ID = 1,
	WATCH_ENDPOINT,
	WATCH_SOURCE,
	WATCH_OWNER,
	WATCH_KEY,
	WATCH_MAPPING,
	WATCH_FILTER,
	WATCH_SEARCH_PATH,
	WATCH_ON_DELETE,
	WATCH_STATE,
	WATCH_REASON,
	WATCH_RELEASED,
	WATCH_POLL_COLUMN,
	WATCH_POLL_EVERY,
	WATCH_POLL_OVERLAP,
	WATCH_RECONCILE_NEXT,
	WATCH_DOUBTED_AT,
	WATCH_AWAY,
	WATCH_CLAIMS_ALL,
	WATCH_COMPLETE,
	WATCH_DELETE_GUARD,
	WATCH_REMOVALS_UNTIL,
	WATCH_TYPES,
	WATCH_VALUE_TYPES,
	WATCH_ALIAS,
	WATCH_IS_RELATED,
	WATCH_VERSION
};

/* Return a number of the result; 0 for null. */
static double
number_of_row(int row, int column)
{
	bool		isnull;
	Datum		value = cs_sql_value(row, column, &isnull);

	return isnull ? 0 : DatumGetFloat8(value);
}

static void
read_types(CsWatch *watch, ArrayType *array)
{
	Datum	   *elements;
	bool	   *nulls;

	deconstruct_array(array, REGTYPEOID, sizeof(Oid), true, TYPALIGN_INT, &elements, &nulls, &watch->ntypes);
	watch->types = palloc(Max(watch->ntypes, 1) * sizeof(Oid));
	for (int i = 0; i < watch->ntypes; i++)
		watch->types[i] = nulls[i] ? InvalidOid : DatumGetObjectId(elements[i]);
}

static CsWatch *
watch_of_row(int row)
{
	CsWatch    *watch = palloc0(sizeof(CsWatch));
	char	   *on_delete = cs_sql_text(row, WATCH_ON_DELETE);
	char	   *state = cs_sql_text(row, WATCH_STATE);
	bool		isnull;
	Datum		released;

	watch->id = cs_sql_int(row, WATCH_ID);
	watch->endpoint = cs_sql_int(row, WATCH_ENDPOINT);
	watch->source = DatumGetObjectId(cs_sql_value(row, WATCH_SOURCE, &isnull));
	watch->owner = DatumGetObjectId(cs_sql_value(row, WATCH_OWNER, &isnull));
	watch->keys = cs_sql_text_array(cs_sql_value(row, WATCH_KEY, &isnull), &watch->nkeys);
	cs_watch_read_mapping(watch, DatumGetJsonbP(cs_sql_value(row, WATCH_MAPPING, &isnull)));
	watch->filter = cs_sql_text(row, WATCH_FILTER);
	watch->search_path = cs_sql_text(row, WATCH_SEARCH_PATH);
	for (int i = 0; i < lengthof(cs_watch_on_delete_words); i++)
		if (strcmp(on_delete, cs_watch_on_delete_words[i]) == 0)
			watch->on_delete = i;
	watch->broken = strcmp(state, "broken") == 0;
	watch->guarded = strcmp(state, "guarded") == 0;
	watch->guards_removals = watch->guarded && strncmp(cs_sql_text(row, WATCH_REASON), "removals:", 9) == 0;
	released = cs_sql_value(row, WATCH_RELEASED, &isnull);
	watch->released = isnull ? 0 : DatumGetUInt64(released);
	watch->poll_column = cs_sql_text(row, WATCH_POLL_COLUMN);
	watch->poll_every = number_of_row(row, WATCH_POLL_EVERY);
	watch->poll_overlap = cs_sql_text(row, WATCH_POLL_OVERLAP);
	watch->reconcile_next = number_of_row(row, WATCH_RECONCILE_NEXT);
	watch->away = DatumGetBool(cs_sql_value(row, WATCH_AWAY, &isnull));
	watch->claims_all = DatumGetBool(cs_sql_value(row, WATCH_CLAIMS_ALL, &isnull));
	watch->complete = DatumGetBool(cs_sql_value(row, WATCH_COMPLETE, &isnull));
	watch->delete_guard = cs_sql_text(row, WATCH_DELETE_GUARD);
	watch->removals_until = cs_sql_time(row, WATCH_REMOVALS_UNTIL);
	released = cs_sql_value(row, WATCH_TYPES, &isnull);
	if (!isnull)
		read_types(watch, DatumGetArrayTypeP(released));
	released = cs_sql_value(row, WATCH_VALUE_TYPES, &isnull);
	if (!isnull)
		read_value_types(watch, DatumGetJsonbP(released));
	watch->alias = cs_sql_text(row, WATCH_ALIAS);
	/* to be loaded, once the result has been read */
	watch->related = DatumGetBool(cs_sql_value(row, WATCH_IS_RELATED, &isnull)) ? list_make1(NULL) : NIL;
	watch->stale_before = DatumGetTimestampTz(cs_sql_value(row, WATCH_DOUBTED_AT, &isnull));
	watch->version = DatumGetInt64(cs_sql_value(row, WATCH_VERSION, &isnull));
	return watch;
}

#define SELECT_WATCH \
	"SELECT w.id, w.endpoint, w.source, e.role, w.key, w.mapping, w.filter, w.search_path, w.on_delete," \
	" w.state, COALESCE(w.reason, ''), w.released, w.poll_column, extract(epoch FROM w.poll_every)::float8, w.poll_overlap::text," \
	" extract(epoch FROM w.reconcile_next)::float8, e.stale_before, e.database <> contactsync.database_identity()," \
	" w.claims = 'all', w.complete, w.delete_guard, w.removals_until, w.types, w.value_types, w.alias, r.related IS NOT NULL," \
	" hashtextextended(ROW(w.*, e.role, e.stale_before, e.database, r.related)::text, 0)" \
	" FROM contactsync.watch w LEFT JOIN LATERAL (SELECT array_agg(concat_ws(':', r::text, c.oid, c.relowner," \
	" (SELECT array_agg(concat_ws(':', a.attnum, a.attname, a.atttypid) ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid" \
	" AND a.attnum = ANY (r.numbers) AND NOT a.attisdropped)) ORDER BY r.id) AS related" \
	" FROM contactsync.related r LEFT JOIN pg_class c ON c.oid = r.relation WHERE r.watch = w.id) r ON true JOIN contactsync.endpoint e ON e.id = w.endpoint"

/* Return what the statement finds: each in a context of its own below the current one. */
static List *
load(CsStatement *statement, Datum *args)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *watches = NIL;
	uint64		n = cs_sql_execute(statement, args, NULL);
	ListCell   *lc;

	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext own = AllocSetContextCreate(context, "contactsync watch", ALLOCSET_SMALL_SIZES);
		CsWatch    *watch;

		MemoryContextSwitchTo(own);
		watch = watch_of_row(i);
		watch->context = own;
		MemoryContextSwitchTo(context);
		watches = lappend(watches, watch);
	}
	foreach(lc, watches)
	{
		CsWatch    *watch = lfirst(lc);

		if (watch->related == NIL)
			continue;
		MemoryContextSwitchTo(watch->context);
		watch->related = cs_related_load(watch->id);
		MemoryContextSwitchTo(context);
	}
	return watches;
}

/*
 * Return all watches, each in a context of its own below the current one.  Within
 * cs_sql_enter().
 */
List *
cs_watch_load_all(void)
{
	static CsStatement statement = {SELECT_WATCH " ORDER BY w.id"};

	return load(&statement, NULL);
}

/* Return a watch, likewise; NULL if there is none. */
CsWatch *
cs_watch_load(int id)
{
	static CsStatement statement = {SELECT_WATCH " WHERE w.id = $1", 1, {INT4OID}};
	Datum		arg = Int32GetDatum(id);
	List	   *watches = load(&statement, &arg);

	return watches == NIL ? NULL : linitial(watches);
}

/* Name a table in a message, even if it does not exist. */
static char *
table_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	return name ? psprintf("\"%s\"", name) : psprintf("with OID %u", relid);
}

/*
 * Return the watches of a table and server that belong to a role, or to the roles
 * whose privileges it has, its own first; palloc'd.  It is an error if there are
 * none.
 */
static List *
find_all(Oid source, const char *server, Oid roleid)
{
	static CsStatement statement = {
		SELECT_WATCH " WHERE w.source = $1 AND e.server = $2 AND pg_has_role($3, e.role, 'USAGE')"
		" ORDER BY e.role <> $3, w.id",
		3, {OIDOID, NAMEOID, OIDOID}
	};
	NameData	name;
	Datum		args[3];
	MemoryContext context = CurrentMemoryContext;
	List	   *watches;
	CsSqlScope	scope;

	namestrcpy(&name, server);
	args[0] = ObjectIdGetDatum(source);
	args[1] = NameGetDatum(&name);
	args[2] = ObjectIdGetDatum(roleid);
	cs_sql_enter(&scope);
	/* what is loaded outlives the scope */
	MemoryContextSwitchTo(context);
	watches = load(&statement, args);
	if (watches == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("watch on table %s for server \"%s\" does not exist", table_name(source), server),
				 errhint("SELECT * FROM contactsync.watches lists your watches.")));
	cs_sql_leave(&scope);
	return watches;
}

/* Return the owners of watches as a list for people. */
static char *
owners_of(List *watches)
{
	StringInfoData owners;
	ListCell   *lc;

	initStringInfo(&owners);
	foreach(lc, watches)
		appendStringInfo(&owners, "%s%s", owners.len > 0 ? ", " : "",
						 GetUserNameFromId(((CsWatch *) lfirst(lc))->owner, false));
	return owners.data;
}

/*
 * Return the watch of a table and server that belongs to a role; if it has none, the
 * one of the roles whose privileges it has.  It is an error if there are several.
 */
CsWatch *
cs_watch_find(Oid source, const char *server, Oid roleid)
{
	List	   *watches = find_all(source, server, roleid);
	CsWatch    *watch = linitial(watches);

	if (list_length(watches) > 1 && watch->owner != roleid)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
				 errmsg("more than one watch on table %s for server \"%s\"", table_name(source), server),
				 errdetail("They belong to %s.", owners_of(watches)),
				 errhint("Use SET ROLE to become the owner that you mean.")));
	return watch;
}

/* The first columns of contactsync.watch. */
enum
{
	WATCH_TABLE_ID = 1,
	WATCH_TABLE_SOURCE,
	WATCH_TABLE_ENDPOINT
};

/*
 * Return whether there is such a watch and the relation is its source or a
 * descendant of it.  No SQL is run, for this is called in the application's
 * session.
 */
bool
cs_watch_covers(int endpoint, int id, Oid relid)
{
	Oid			schema = get_namespace_oid(CS_SCHEMA, true);
	Oid			watch_relid = OidIsValid(schema) ? get_relname_relid("watch", schema) : InvalidOid;
	Oid			source = InvalidOid;
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	if (!OidIsValid(watch_relid))
		return false;
	rel = table_open(watch_relid, AccessShareLock);
	ScanKeyInit(&key, WATCH_TABLE_ID, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
	scan = systable_beginscan(rel, cs_primary_key_index(rel), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, WATCH_TABLE_ENDPOINT, RelationGetDescr(rel), &isnull);

		if (DatumGetInt32(value) == endpoint)
			source = DatumGetObjectId(heap_getattr(tuple, WATCH_TABLE_SOURCE, RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return OidIsValid(source) &&
		(source == relid || typeInheritsFrom(get_rel_type_id(relid), get_rel_type_id(source)));
}
