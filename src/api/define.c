/*-------------------------------------------------------------------------
 *
 * define.c
 *		SQL functions that define providers, and list them.
 *
 * A definition that servers use is replaced only if all of them can go on with it, and is
 * not deleted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

#include "api/argument.h"
#include "base/compat.h"
#include "base/invalidation.h"
#include "base/sql.h"
#include "base/text.h"
#include "provider/defined/compile.h"
#include "provider/registry.h"
#include "provider/server.h"
#include "store/definition_store.h"

CS_FUNCTION(contactsync_define);
CS_FUNCTION(contactsync_undefine);
CS_FUNCTION(contactsync_providers);

/* ---------- checks ---------- */

static void
check_name(const char *name)
{
	if (!cs_compile_is_name(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a provider: \"%s\"", name),
				 errhint("Use up to 40 lower-case letters, digits and _, beginning with a letter.")));
	if (cs_registry_is_built_in(name))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("provider \"%s\" is built in", name),
				 errhint("Define it under another name.")));
}

/* Refuse a definition that lacks a field that a watch of the server maps. */
static void
check_mappings(const CsEndpoint *endpoint)
{
	ListCell   *lc;

	foreach(lc, cs_definition_store_mapped(endpoint->serverid))
	{
		const char *name = lfirst(lc);
		CsField		field;

		if (cs_contact_field_by_name(name, strlen(name), &field) &&
			!(endpoint->provider->fields & CS_FIELD_BIT(field)))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("provider \"%s\" is used by server \"%s\", of which a watch maps %s",
							endpoint->provider->name, endpoint->server_name, name),
					 errdetail("The new definition does not have that field.")));
	}
}

/* Every server that uses the definition must be well with what it says now. */
static void
check_servers(const char *name, Oid roleid)
{
	ListCell   *lc;

	foreach(lc, cs_definition_store_servers(name, roleid))
		check_mappings(cs_server_read_unmapped(lfirst_oid(lc)));
}

/* ---------- defining ---------- */

/* contactsync_define(name, definition) */
Datum
contactsync_define(PG_FUNCTION_ARGS)
{
	char	   *name;
	Jsonb	   *definition;
	char	   *json;

	cs_argument_require(fcinfo, 0, "name");
	cs_argument_require(fcinfo, 1, "definition");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	definition = PG_GETARG_JSONB_P(1);
	check_name(name);
	json = JsonbToCString(NULL, &definition->root, VARSIZE(definition));
	(void) cs_registry_compile(name, cs_text_to_utf8(json, strlen(json)));
	cs_definition_store_put(name, GetUserId(), JsonbPGetDatum(definition));
	CommandCounterIncrement();
	check_servers(name, GetUserId());
	cs_invalidation_send(CS_DEFINITIONS);
	PG_RETURN_VOID();
}

/* Refuse to take the definition from servers that would have none. */
static void
check_unused(const char *name, Oid roleid)
{
	ListCell   *lc;

	foreach(lc, cs_definition_store_servers(name, roleid))
	{
		ForeignServer *server = GetForeignServer(lfirst_oid(lc));

		if (cs_registry_look(name, server->owner) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot drop the definition of provider \"%s\" because server \"%s\" uses it",
							name, server->servername),
					 errhint("Drop the server first, or define the provider anew with contactsync_define().")));
	}
}

/* contactsync_undefine(name) */
Datum
contactsync_undefine(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (!cs_definition_store_delete(name, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" has no definition of a provider \"%s\"",
						GetUserNameFromId(GetUserId(), false), name)));
	CommandCounterIncrement();
	check_unused(name, GetUserId());
	check_servers(name, GetUserId());
	cs_invalidation_send(CS_DEFINITIONS);
	PG_RETURN_VOID();
}

/* ---------- listing ---------- */

enum
{
	COL_NAME, COL_TITLE, COL_ORIGIN, COL_OWNER, COL_FIELDS, COL_BATCH, COL_PACE, COL_PROBLEM, COL_DEFINITION, COL_COUNT
};

typedef struct Row
{
	Datum		values[COL_COUNT];
	bool		nulls[COL_COUNT];
} Row;

static void
set_text(Row *row, int column, const char *text)
{
	row->nulls[column] = text == NULL;
	row->values[column] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static Datum
fields_of(const CsProvider *provider)
{
	char	   *names[CS_FIELD_COUNT];
	int			n = 0;

	for (int i = 0; i < CS_FIELD_COUNT; i++)
		if (provider->fields & CS_FIELD_BIT(i))
			names[n++] = unconstify(char *, cs_contact_field_name(i));
	return cs_sql_make_text_array(n, names);
}

static void
fill_facts(Row *row, const CsProvider *provider)
{
	set_text(row, COL_TITLE, cs_text_from_utf8(provider->title));
	row->values[COL_FIELDS] = fields_of(provider);
	row->values[COL_BATCH] = Int32GetDatum(provider->max_batch);
	row->values[COL_PACE] = Float8GetDatum(provider->pace);
	row->nulls[COL_FIELDS] = row->nulls[COL_BATCH] = row->nulls[COL_PACE] = false;
}

static void
fill_definition(Row *row, const CsDefinitionRow *definition)
{
	static const char *const origins[] = {
		[CS_DEFINITION_OWN] = "own",
		[CS_DEFINITION_SHARED] = "shared",
		[CS_DEFINITION_SHIPPED] = "shipped"
	};
	CsDefinitionFault fault = {"", "cannot be read"};
	CsProvider *provider = definition->text ? cs_compile_definition(definition->name, definition->text, &fault) : NULL;

	set_text(row, COL_NAME, definition->name);
	set_text(row, COL_ORIGIN, origins[definition->origin]);
	if (OidIsValid(definition->roleid))
	{
		row->nulls[COL_OWNER] = false;
		row->values[COL_OWNER] = ObjectIdGetDatum(definition->roleid);
	}
	if (provider == NULL)
	{
		set_text(row, COL_PROBLEM, cs_text_from_utf8(psprintf("%s %s", *fault.path ? fault.path : "the definition", fault.problem)));
		return;
	}
	fill_facts(row, provider);
	row->nulls[COL_DEFINITION] = false;
	row->values[COL_DEFINITION] = DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_text_from_utf8(definition->text)));
}

/* contactsync_providers() */
Datum
contactsync_providers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const CsProvider *const *built_in = cs_registry_built_in();
	ListCell   *lc;
	Row			row;

	InitMaterializedSRF(fcinfo, 0);
	for (; *built_in; built_in++)
	{
		memset(row.nulls, true, sizeof(row.nulls));
		set_text(&row, COL_NAME, (*built_in)->name);
		set_text(&row, COL_ORIGIN, "built-in");
		fill_facts(&row, *built_in);
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	foreach(lc, cs_definition_store_list(GetUserId()))
	{
		memset(row.nulls, true, sizeof(row.nulls));
		fill_definition(&row, lfirst(lc));
		tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
	}
	return (Datum) 0;
}
