/*-------------------------------------------------------------------------
 *
 * validator.c
 *		Validate the options of servers and user mappings as they are set.
 *
 * The validator of a user mapping is not told which server the mapping is for.  It
 * accepts the options of any provider; cs_server_read() checks them against the
 * server's provider.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/invalidation.h"
#include "base/settings.h"
#include "base/text.h"
#include "http/url.h"
#include "provider/registry.h"
#include "provider/server.h"

CS_FUNCTION(contactsync_fdw_validator);

/* Find an option in a list; return NULL if it is not there. */
static const CsOption *
find_option(List *list, const char *name)
{
	ListCell   *cell;

	foreach(cell, list)
	{
		const CsOption *option = lfirst(cell);

		if (strcmp(option->name, name) == 0)
			return option;
	}
	return NULL;
}

/* Return the name in the list that the user may have meant, or NULL. */
static const char *
closest_name(List *list, const char *name)
{
	CsTextNearest nearest;
	ListCell   *cell;

	cs_text_begin_nearest(&nearest, name);
	foreach(cell, list)
		cs_text_consider_nearest(&nearest, ((const CsOption *) lfirst(cell))->name);
	return nearest.found;
}

/* Refuse an option that was given in the wrong place. */
static void
refuse_misplaced(const CsOption *option)
{
	if (option->place == CS_ON_SERVER)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" belongs to the server, not to the user mapping", option->name),
				 errhint("Use ALTER SERVER ... OPTIONS (ADD %s '...').", option->name)));
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("option \"%s\" belongs to the user mapping, not to the server", option->name),
			 option->secret ?
			 errdetail("Everybody can read the options of a server.") : 0,
			 errhint("Use CREATE USER MAPPING FOR CURRENT_USER SERVER ... OPTIONS (%s '...').",
					 option->name)));
}

/* Refuse an option that does not exist, and list the valid ones. */
static void
refuse_unknown(List *valid, const char *name)
{
	const char *closest = closest_name(valid, name);
	StringInfoData names;
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, valid)
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
						 ((const CsOption *) lfirst(cell))->name);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 closest != NULL ?
			 errhint("Perhaps you meant the option \"%s\". Valid options in this context are: %s",
					 closest, names.data) :
			 valid != NIL ?
			 errhint("Valid options in this context are: %s", names.data) :
			 errhint("There are no valid options in this context.")));
}

/* Refuse a time without a unit, which could mean seconds or milliseconds; 0 is both. */
static void
refuse_without_unit(const CsOption *option, const char *value)
{
	if (cs_option_unit(option) == 0 || value[strspn(value, "0. ")] == '\0' ||
		value[strspn(value, "0123456789. ")] != '\0')
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": the time has no unit", option->name),
			 errhint("Write \"%ss\" for seconds or \"%sms\" for milliseconds.", value, value)));
}

/* Refuse a value.  It is not quoted, because it may be a secret in the wrong option. */
static void
refuse_value(const CsOption *option, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": %s", option->name, problem),
			 errhint("This option sets %s.", option->help)));
}

/* Check one value. */
static void
validate_value(const CsOption *option, const char *value)
{
	const char *problem;

	if (option->names_file && !has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set option \"%s\"", option->name),
				 errdetail("Only roles with privileges of the role \"pg_read_server_files\" may "
						   "alter a server that has this option.")));

	problem = cs_option_check(option, value);
	if (problem != NULL)
		refuse_value(option, problem);
	refuse_without_unit(option, value);
}

/*
 * Return the provider that the options of a server name.  A dump creates servers before it
 * fills the table of definitions, so NULL, a provider that is not there yet, is accepted
 * from what pg_dump writes, as functions are then that refer to what is not there yet; when
 * the server is used, its options are checked.
 */
static const CsProvider *
read_provider(List *options)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);
		const CsProvider *provider;

		if (strcmp(def->defname, "provider") != 0)
			continue;
		validate_value(&cs_option_common[0], defGetString(def));
		provider = cs_registry_find_for(defGetString(def), GetUserId());
		if (provider == NULL && check_function_bodies)
			refuse_value(&cs_option_common[0], psprintf("must be one of: %s", cs_registry_names(GetUserId())));
		return provider;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
			 errmsg("option \"provider\" is required"),
			 errhint("Add OPTIONS (provider '...') with one of: %s.", cs_registry_names(GetUserId()))));
}

/* Refuse a batch size above the provider's maximum. */
static void
validate_batch_size(const CsProvider *provider, List *options)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);

		if (strcmp(def->defname, "batch_size") == 0 &&
			atoi(defGetString(def)) > provider->max_batch)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"%s\": must be at most %d",
							def->defname, provider->max_batch),
					 errdetail_plural("%s accepts %d contact per call.",
									  "%s accepts up to %d contacts per call.",
									  provider->max_batch,
									  provider->title, provider->max_batch)));
	}
}

/* Return the URL of the proxy, or NULL. */
static const char *
read_proxy(List *options)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);

		if (strcmp(def->defname, "proxy") == 0 && strcmp(defGetString(def), "none") != 0)
			return defGetString(def);
	}
	return NULL;
}

/* Refuse to send secrets in plain text to a proxy. */
static void
validate_urls(List *valid, List *options)
{
	const char *proxy = read_proxy(options);
	ListCell   *cell;

	foreach(cell, proxy ? options : NIL)
	{
		DefElem    *def = lfirst(cell);
		const CsOption *option = find_option(valid, def->defname);
		const char *problem = cs_option_is_url(option) ?
		cs_url_proxied_problem(defGetString(def), proxy, cs_allow_http) : NULL;

		if (problem)
			refuse_value(option, problem);
	}
}

/* Validate the options of one object; the catalog tells its kind. */
static void
validate_options(List *options, Oid catalog)
{
	CsOptionPlace place = catalog == UserMappingRelationId ? CS_ON_MAPPING : CS_ON_SERVER;
	const CsProvider *provider = NULL;
	List	   *valid = NIL;
	ListCell   *cell;

	if (catalog == ForeignServerRelationId)
	{
		provider = read_provider(options);
		if (provider == NULL)
			return;
	}
	if (catalog == ForeignServerRelationId || catalog == UserMappingRelationId)
		valid = cs_registry_options(provider, place);

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);
		const CsOption *option = find_option(valid, def->defname);
		const CsOption *elsewhere;

		if (option != NULL)
		{
			validate_value(option, defGetString(def));
			continue;
		}
		elsewhere = cs_registry_find_option(provider, def->defname,
											place == CS_ON_SERVER ? CS_ON_MAPPING : CS_ON_SERVER);
		if (elsewhere != NULL && valid != NIL)
			refuse_misplaced(elsewhere);
		refuse_unknown(valid, def->defname);
	}
	if (provider != NULL)
	{
		validate_batch_size(provider, options);
		validate_urls(valid, options);
	}
}

/*
 * SQL: the validator of the foreign data wrapper.  It is called with the complete new
 * options when a wrapper, server or user mapping is created or altered.  The worker
 * reads the server again once the change is committed.
 */
Datum
contactsync_fdw_validator(PG_FUNCTION_ARGS)
{
	validate_options(untransformRelOptions(PG_GETARG_DATUM(0)), PG_GETARG_OID(1));
	cs_invalidation_send(CS_DEFINITIONS);
	PG_RETURN_VOID();
}
