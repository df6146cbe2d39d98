/*-------------------------------------------------------------------------
 *
 * option.c
 *		The options of servers and user mappings: one table with checks.
 *
 * An option has one place.  Secrets belong to user mappings, for pg_user_mapping
 * hides them from other roles, and pg_foreign_server shows its options to
 * everybody; so a secret on a server is refused rather than taken.
 *
 * The validator of a user mapping is not told which server it is for.  It takes
 * what any provider could want; cs_endpoint_read() knows better.
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
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "provider/check.h"
#include "provider/option.h"
#include "provider/provider.h"

/* A name farther off than this is not taken for a misspelling. */
#define MAX_MISSPELLING		3

const CsOption cs_common_options[] = {
	{.name = "provider",.place = CS_ON_SERVER,.check = cs_check_provider,.required = true,
	.help = "service that the server is an account at"},
	{.name = "base_url",.place = CS_ON_SERVER,.check = cs_check_base_url,
	.help = "URL that the provider's paths are appended to"},
	{.name = "batch_size",.place = CS_ON_SERVER,.check = cs_check_positive_int,
	.help = "contacts a call, at most"},
	{.name = "pace",.place = CS_ON_SERVER,.check = cs_check_pace,
	.help = "calls a second, at most"},
	{.name = "burst",.place = CS_ON_SERVER,.check = cs_check_pace,
	.help = "calls that may go at once after a pause"},
	{.name = "concurrency",.place = CS_ON_SERVER,.check = cs_check_concurrency,
	.help = "calls in flight, at most"},
	{.name = "connect_timeout",.place = CS_ON_SERVER,.check = cs_check_milliseconds,.preset = "10s",
	.help = "time for a connection to be made"},
	{.name = "timeout",.place = CS_ON_SERVER,.check = cs_check_milliseconds,.preset = "30s",
	.help = "time for a whole call"},
	{.name = "max_retries",.place = CS_ON_SERVER,.check = cs_check_retries,
	.help = "times that a call is repeated when the provider fails"},
	{.name = "max_retry_after",.place = CS_ON_SERVER,.check = cs_check_seconds,.preset = "1h",
	.help = "time to wait for, at most, when the provider says for how long"},
	{.name = "nulls",.place = CS_ON_SERVER,.check = cs_check_nulls,.preset = "omit",.payload = true,
	.help = "what becomes of a mapped column that is null: omit or clear"},
	{.name = "bulk_guard",.place = CS_ON_SERVER,.check = cs_check_nonnegative_int,.preset = "1000",
	.help = "contacts that may be sent at once where that could set off mail to people; 0: any number"},
	{.name = "proxy",.place = CS_ON_SERVER,.check = cs_check_proxy,.preset = "none",
	.help = "URL of the proxy to go through, or none; the environment is not looked at"},
	{.name = "ca_file",.place = CS_ON_SERVER,.names_file = true,
	.help = "file with the certificates to trust instead of the system's"},
	{.name = NULL}
};

const CsOption cs_bearer_options[] = {
	{.name = "api_key",.place = CS_ON_MAPPING,.check = cs_check_header,.required = true,
	.secret = true,.help = "key that the provider issued"},
	{.name = NULL}
};

const CsOption cs_oauth_options[] = {
	{.name = "access_token",.place = CS_ON_MAPPING,.check = cs_check_header,
	.secret = true,.help = "OAuth access token, renewed by contactsync"},
	{.name = "refresh_token",.place = CS_ON_MAPPING,.check = cs_check_header,
	.secret = true,.help = "OAuth refresh token, rotated by contactsync"},
	{.name = "token_refreshed_at",.place = CS_ON_MAPPING,.check = cs_check_timestamp,
	.help = "when the access token was issued, in Unix seconds; kept by contactsync"},
	{.name = "token_expires_at",.place = CS_ON_MAPPING,.check = cs_check_timestamp,
	.help = "when the access token expires, in Unix seconds; kept by contactsync"},
	{.name = "client_id",.place = CS_ON_SERVER,.check = cs_check_header,
	.help = "OAuth client that the tokens were issued to"},
	{.name = "token_url",.place = CS_ON_SERVER,.check = cs_check_url,
	.help = "URL that renews the access token"},
	{.name = "refresh_interval",.place = CS_ON_SERVER,.check = cs_check_seconds,.preset = "50min",
	.help = "age at which the access token is renewed"},
	{.name = NULL}
};

CS_FUNCTION(contactsync_fdw_validator);

/*
 * Append the options of a table that have the place and whose names are not
 * listed yet.
 */
static List *
append_options(List *list, const CsOption *table, CsOptionPlace place)
{
	const CsOption *option;

	for (option = table; option->name != NULL; option++)
	{
		bool		listed = false;
		ListCell   *cell;

		foreach(cell, list)
			listed |= strcmp(((const CsOption *) lfirst(cell))->name, option->name) == 0;
		if (option->place == place && !listed)
			list = lappend(list, unconstify(CsOption *, option));
	}
	return list;
}

/*
 * All options of a provider that have the place, or of every provider if it is
 * NULL; a list of const CsOption * in the current context.
 */
List *
cs_option_list(const CsProvider *provider, CsOptionPlace place)
{
	List	   *list = NIL;
	int			i;

	for (i = 0; cs_providers[i] != NULL; i++)
	{
		const CsProvider *candidate = cs_providers[i];

		if (provider != NULL && provider != candidate)
			continue;
		if (candidate->options != NULL)
			list = append_options(list, candidate->options, place);
		list = append_options(list, candidate->auth == CS_AUTH_OAUTH ?
							  cs_oauth_options : cs_bearer_options, place);
	}
	return append_options(list, cs_common_options, place);
}

/*
 * The entry of a name in a list of options, or NULL.
 */
static const CsOption *
find_in_list(List *list, const char *name)
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

/*
 * The entry of an option of that provider, or of any if it is NULL; NULL if
 * there is none in that place.
 */
const CsOption *
cs_option_find(const CsProvider *provider, const char *name, CsOptionPlace place)
{
	List	   *list = cs_option_list(provider, place);
	const CsOption *option = find_in_list(list, name);

	list_free(list);
	return option;
}

/*
 * The name in the list that the user may have meant, or NULL.
 */
static const char *
closest_name(List *list, const char *name)
{
	const char *closest = NULL;
	int			distance = Min(MAX_MISSPELLING, (int) strlen(name) / 2) + 1;
	ListCell   *cell;

	if (strlen(name) >= NAMEDATALEN)
		return NULL;
	foreach(cell, list)
	{
		const CsOption *option = lfirst(cell);
		int			d = varstr_levenshtein_less_equal(name, strlen(name),
													  option->name, strlen(option->name),
													  1, 1, 1, distance, true);

		if (d < distance)
		{
			distance = d;
			closest = option->name;
		}
	}
	return closest;
}

/*
 * Refuse an option that has another place than it was given.
 */
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

/*
 * Refuse an option that does not exist, and say which do.
 */
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

/*
 * Refuse a time without a unit: some think in seconds and some in milliseconds.
 */
static void
refuse_without_unit(const CsOption *option, const char *value)
{
	if (option->check != cs_check_milliseconds && option->check != cs_check_seconds)
		return;
	if (value[strspn(value, "0123456789. ")] != '\0')
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": the time has no unit", option->name),
			 errhint("Write \"%ss\" for seconds or \"%sms\" for milliseconds.", value, value)));
}

/*
 * Check one value; ereports.  The value itself is not repeated: it may be a
 * secret put into the wrong option.
 */
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
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": %s", option->name, problem),
				 errhint("The option is the %s.", option->help)));
	refuse_without_unit(option, value);
}

/*
 * NULL, or what the value of an option must be.
 */
const char *
cs_option_check(const CsOption *option, const char *value)
{
	if (*value == '\0')
		return "must not be empty";
	return option->check != NULL ? option->check(value) : NULL;
}

/*
 * The provider that the options of a server name; ereports if there is none.
 */
static const CsProvider *
read_provider(List *options)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);

		if (strcmp(def->defname, "provider") == 0)
		{
			validate_value(&cs_common_options[0], defGetString(def));
			return cs_provider_find(defGetString(def));
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
			 errmsg("option \"provider\" is required"),
			 errhint("Add OPTIONS (provider '...') with one of: %s.", cs_provider_list())));
}

/*
 * A provider refuses a batch that is too long as a whole.
 */
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
					 errdetail_plural("%s takes %d contact a call.",
									  "%s takes up to %d contacts a call.",
									  provider->max_batch,
									  provider->title, provider->max_batch)));
	}
}

/*
 * Validate the options of one object, which catalog tells the kind of.
 */
void
cs_option_validate(List *options, Oid catalog)
{
	CsOptionPlace place = catalog == UserMappingRelationId ? CS_ON_MAPPING : CS_ON_SERVER;
	const CsProvider *provider = NULL;
	List	   *valid = NIL;
	ListCell   *cell;

	if (catalog == ForeignServerRelationId)
		provider = read_provider(options);
	if (catalog == ForeignServerRelationId || catalog == UserMappingRelationId)
		valid = cs_option_list(provider, place);

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);
		const CsOption *option = find_in_list(valid, def->defname);
		const CsOption *elsewhere;

		if (option != NULL)
		{
			validate_value(option, defGetString(def));
			continue;
		}
		elsewhere = cs_option_find(provider, def->defname,
								   place == CS_ON_SERVER ? CS_ON_MAPPING : CS_ON_SERVER);
		if (elsewhere != NULL && valid != NIL)
			refuse_misplaced(elsewhere);
		refuse_unknown(valid, def->defname);
	}
	if (provider != NULL)
		validate_batch_size(provider, options);
}

/*
 * SQL: the validator of the foreign data wrapper.  Called with the complete new
 * options whenever a wrapper, server, mapping or table is made or altered; the
 * worker looks at the server again once that is committed.
 */
Datum
contactsync_fdw_validator(PG_FUNCTION_ARGS)
{
	cs_option_validate(untransformRelOptions(PG_GETARG_DATUM(0)), PG_GETARG_OID(1));
	cs_shmem_reload_at_commit();
	PG_RETURN_VOID();
}
