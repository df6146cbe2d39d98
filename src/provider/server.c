/*-------------------------------------------------------------------------
 *
 * server.c
 *		Read a foreign server and a role's user mapping into an endpoint.
 *
 * The options were checked when they were set, but not together, not against the
 * provider (the validator of a mapping does not know it), and perhaps by an older
 * version.  So they are checked again here, where they are used.  An error says what
 * to type, and halts only the endpoint that it is about.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/contactsync.h"
#include "base/network.h"
#include "base/settings.h"
#include "base/text.h"
#include "http/url.h"
#include "provider/registry.h"
#include "provider/server.h"

/* ---------- errors ---------- */

/* Return the role as it is written in a command. */
static const char *
role_word(Oid roleid)
{
	return OidIsValid(roleid) ? quote_identifier(GetUserNameFromId(roleid, false)) : "PUBLIC";
}

/* Report that a required option is missing. */
static void
report_missing(const CsEndpoint *endpoint, const CsOption *option)
{
	const char *server = quote_identifier(endpoint->server_name);

	if (!OidIsValid(endpoint->serverid))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("provider \"%s\" needs option \"%s\" (%s)", endpoint->server_name, option->name, option->help),
				 errhint("Give it in the argument options.")));
	if (option->place == CS_ON_SERVER)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("server \"%s\" needs option \"%s\" (%s)",
						endpoint->server_name, option->name, option->help),
				 errhint("Use ALTER SERVER %s OPTIONS (ADD %s '...').", server, option->name)));
	ereport(ERROR,
			(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
			 errmsg("user mapping for %s on server \"%s\" needs option \"%s\" (%s)",
					role_word(endpoint->mapping_roleid), endpoint->server_name,
					option->name, option->help),
			 errhint("Use ALTER USER MAPPING FOR %s SERVER %s OPTIONS (ADD %s '...').",
					 role_word(endpoint->mapping_roleid), server, option->name)));
}

/* Report an invalid value; it is not quoted, because it may be a secret. */
static void
report_invalid(const CsEndpoint *endpoint, const CsOption *option, const char *problem)
{
	const char *server = quote_identifier(endpoint->server_name);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" of server \"%s\" %s",
					option->name, endpoint->server_name, problem),
			 option->place == CS_ON_SERVER ?
			 errhint("Use ALTER SERVER %s OPTIONS (SET %s '...').", server, option->name) :
			 errhint("Use ALTER USER MAPPING FOR %s SERVER %s OPTIONS (SET %s '...').",
					 role_word(endpoint->mapping_roleid), server, option->name)));
}

/* Report an option that the provider does not have. */
static void
report_unknown(const CsEndpoint *endpoint, CsOptionPlace place, const char *name)
{
	const char *server = quote_identifier(endpoint->server_name);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("provider \"%s\" has no option \"%s\"", endpoint->provider->name, name),
			 place == CS_ON_SERVER ?
			 errhint("Use ALTER SERVER %s OPTIONS (DROP %s).", server, quote_identifier(name)) :
			 errhint("Use ALTER USER MAPPING FOR %s SERVER %s OPTIONS (DROP %s).",
					 role_word(endpoint->mapping_roleid), server, quote_identifier(name))));
}

/* Report that the server may not connect to the address in one of its options. */
static void
report_network(const CsEndpoint *endpoint, const CsOption *option, const CsAddress *address)
{
	char		text[CS_NETWORK_TEXT];

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("option \"%s\" of server \"%s\" has an address that is " CS_NETWORK_REFUSAL "%s",
					option->name, endpoint->server_name, cs_network_print_address(address, text)),
			 errdetail("A server that no superuser owns connects only to public addresses, and to those that a superuser allows."),
			 errhint("As a superuser, use: %s.", cs_server_allow_networks(text))));
}

/* ---------- servers ---------- */

/*
 * Store the options of one place: those given (a list of DefElem) and defaults.
 * Report required ones that are missing.
 */
static void
store_options(CsEndpoint *endpoint, CsOptionPlace place, List *given)
{
	List	   *valid = cs_registry_options(endpoint->provider, place);
	int			room = endpoint->nvalues + list_length(valid);
	ListCell   *cell;

	endpoint->values = endpoint->values == NULL ?
		palloc(room * sizeof(CsOptionValue)) :
		repalloc(endpoint->values, room * sizeof(CsOptionValue));

	foreach(cell, given)
	{
		DefElem    *def = lfirst(cell);

		if (cs_registry_find_option(endpoint->provider, def->defname, place) == NULL)
			report_unknown(endpoint, place, def->defname);
	}

	foreach(cell, valid)
	{
		const CsOption *option = lfirst(cell);
		CsOptionValue *value = &endpoint->values[endpoint->nvalues];
		const char *text = option->preset;
		const char *problem;
		ListCell   *g;

		foreach(g, given)
		{
			if (strcmp(((DefElem *) lfirst(g))->defname, option->name) == 0)
				text = defGetString(lfirst(g));
		}
		if (text == NULL && option->required)
			report_missing(endpoint, option);
		if (text == NULL)
			continue;
		problem = cs_option_check(option, text);
		if (problem != NULL && !option->aside)
			report_invalid(endpoint, option, problem);
		value->option = option;
		value->value = cs_text_to_utf8(text, strlen(text));
		endpoint->nvalues++;
	}
}

/* Copy a URL without the slashes at its end, so that a path can be appended. */
static char *
without_slashes(const char *url)
{
	size_t		len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	return pnstrdup(url, len);
}

/*
 * Hash the payload options, independent of their order.  Options with their default
 * value do not count, so a new option in a later version sends nothing again.
 */
static uint64
hash_payload(const CsEndpoint *endpoint)
{
	uint64		sum = 0;

	for (int i = 0; i < endpoint->nvalues; i++)
	{
		const CsOption *option = endpoint->values[i].option;
		const char *value = endpoint->values[i].value;

		if (!option->payload || (option->preset && strcmp(value, option->preset) == 0))
			continue;
		sum += cs_text_hash(option->name, cs_text_hash(value, 0));
	}
	return sum;
}

/* Parse the options that all providers have. */
static void
parse_common(CsEndpoint *endpoint)
{
	const CsProvider *provider = endpoint->provider;
	const char *base_url = cs_endpoint_option(endpoint, "base_url");
	const char *proxy = cs_endpoint_option(endpoint, "proxy");
	const char *ca_file = cs_endpoint_option(endpoint, "ca_file");
	const char *window = cs_endpoint_option(endpoint, "send_window");

	if (base_url == NULL && provider->base_url == NULL)
		report_missing(endpoint, cs_registry_find_option(provider, "base_url", CS_ON_SERVER));
	if (base_url == NULL)
		base_url = provider->expand_url ? provider->expand_url(endpoint) : provider->base_url;
	endpoint->base_url = without_slashes(base_url);
	endpoint->batch_size = Min(cs_endpoint_option_int(endpoint, "batch_size", provider->max_batch),
							   provider->max_batch);
	endpoint->pace = cs_endpoint_option_number(endpoint, "pace", provider->pace);
	endpoint->burst = cs_endpoint_option_number(endpoint, "burst", provider->burst);
	endpoint->burst = Max(endpoint->burst, 1.0);
	endpoint->concurrency = cs_endpoint_option_int(endpoint, "concurrency", provider->concurrency);
	endpoint->http.connect_timeout = cs_endpoint_option_int(endpoint, "connect_timeout", 0);
	endpoint->http.timeout = cs_endpoint_option_int(endpoint, "timeout", 0);
	endpoint->max_retries = cs_endpoint_option_int(endpoint, "max_retries", provider->max_retries);
	endpoint->max_retry_after = cs_endpoint_option_int(endpoint, "max_retry_after", 0);
	endpoint->log_contacts = cs_endpoint_option_bool(endpoint, "log_contacts");
	if (window)
		(void) cs_window_read(window, &endpoint->send_window);
	endpoint->nulls_clear = strcmp(cs_endpoint_option(endpoint, "nulls"), "clear") == 0;
	endpoint->http.proxy = strcmp(proxy, "none") == 0 ? NULL : pstrdup(proxy);
	endpoint->http.ca_file = ca_file != NULL ? pstrdup(ca_file) : NULL;
	endpoint->http.allow_http = cs_allow_http;
	endpoint->http.networks = endpoint->http.restricted ? cs_allowed_networks->version : 0;
	endpoint->http.server_name = endpoint->server_name;
	endpoint->http.auth_header = cs_provider_auth_header(provider);
	endpoint->http.auth_in_query = provider->auth == CS_AUTH_QUERY;
	endpoint->payload = hash_payload(endpoint) + provider->payload;
	endpoint->definition = provider->hash;
}

/* Refuse a server of another foreign data wrapper. */
static void
check_wrapper(const ForeignServer *server)
{
	ForeignDataWrapper *wrapper = GetForeignDataWrapper(server->fdwid);

	if (strcmp(wrapper->fdwname, CS_EXTENSION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a %s server", server->servername, CS_EXTENSION),
				 errdetail("It belongs to the foreign data wrapper \"%s\".", wrapper->fdwname),
				 errhint("Use CREATE SERVER ... FOREIGN DATA WRAPPER %s OPTIONS (provider '...').",
						 CS_EXTENSION)));
}

Oid
cs_server_find(const char *name, Oid roleid)
{
	ForeignServer *server = GetForeignServerByName(name, false);
	AclResult	result = cs_server_aclcheck(server->serverid, roleid, ACL_USAGE);

	check_wrapper(server);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FOREIGN_SERVER, server->servername);
	return server->serverid;
}

/* Read the options of a server. */
static CsEndpoint *
read_server(Oid serverid)
{
	ForeignServer *server = GetForeignServerExtended(serverid, FSV_MISSING_OK);
	CsEndpoint *endpoint;
	ListCell   *cell;

	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server with OID %u does not exist", serverid)));
	check_wrapper(server);
	endpoint = palloc0(sizeof(CsEndpoint));
	endpoint->serverid = serverid;
	endpoint->server_name = pstrdup(server->servername);
	endpoint->http.restricted = !superuser_arg(server->owner);
	foreach(cell, server->options)
	{
		DefElem    *def = lfirst(cell);

		if (strcmp(def->defname, "provider") == 0)
			endpoint->provider = cs_registry_find(defGetString(def), server->owner);
	}
	if (endpoint->provider == NULL)
		report_invalid(endpoint, &cs_option_common[0],
					   psprintf("must be one of: %s", cs_registry_names(server->owner)));

	store_options(endpoint, CS_ON_SERVER, server->options);
	parse_common(endpoint);
	return endpoint;
}

/* Have the provider check the options in combination. */
static void
check_combination(const CsEndpoint *endpoint)
{
	const char *problem = NULL;

	if (endpoint->provider->check_options != NULL)
		problem = endpoint->provider->check_options(endpoint);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid options of server \"%s\": %s", endpoint->server_name,
						cs_text_from_utf8(problem)),
				 errhint("Use ALTER SERVER %s OPTIONS (ADD ... '...').",
						 quote_identifier(endpoint->server_name))));
}

/*
 * Check where calls go.  What a name means is checked when a connection is made
 * (http/transfer.c), but only an address can be checked that a proxy connects to.
 */
static void
check_urls(const CsEndpoint *endpoint)
{
	const char *proxy = endpoint->http.proxy;
	CsAddress	given;

	/* a definition may have an address as well */
	if (endpoint->http.restricted && cs_network_read_address(cs_url_host(endpoint->base_url), &given) &&
		!cs_network_is_allowed(&given))
		report_network(endpoint, cs_registry_find_option(endpoint->provider, "base_url", CS_ON_SERVER), &given);
	for (int i = 0; i < endpoint->nvalues; i++)
	{
		const CsOption *option = endpoint->values[i].option;
		const char *value = endpoint->values[i].value;
		const char *problem = NULL;
		CsAddress	address;

		if (option->aside || (!cs_option_is_url(option) && !(proxy && strcmp(option->name, "proxy") == 0)))
			continue;
		if (proxy && cs_option_is_url(option))
			problem = cs_url_proxied_problem(value, proxy, cs_allow_http);
		if (problem)
			report_invalid(endpoint, option, problem);
		if (endpoint->http.restricted && cs_network_read_address(cs_url_host(value), &address) &&
			!cs_network_is_allowed(&address))
			report_network(endpoint, option, &address);
	}
}

char *
cs_server_allow_networks(const char *networks)
{
	const char *list = GetConfigOption("contactsync.allowed_networks", true, false);
	int			len = list ? strlen(list) : 0;

	while (len > 0 && strchr(", ", list[len - 1]))
		len--;
	if (len > 0)
		networks = psprintf("%.*s, %s", len, list, networks);
	return psprintf("ALTER SYSTEM SET contactsync.allowed_networks = %s; SELECT pg_reload_conf()",
					quote_literal_cstr(networks));
}

CsEndpoint *
cs_server_imagine(const CsProvider *provider, List *options)
{
	CsEndpoint *endpoint = palloc0(sizeof(CsEndpoint));

	endpoint->server_name = pstrdup(provider->name);
	endpoint->provider = provider;
	endpoint->http.restricted = true;
	store_options(endpoint, CS_ON_SERVER,
				  lcons(makeDefElem("provider", (Node *) makeString(pstrdup(provider->name)), -1), options));
	parse_common(endpoint);
	check_combination(endpoint);
	return endpoint;
}

CsEndpoint *
cs_server_read_unmapped(Oid serverid)
{
	CsEndpoint *endpoint = read_server(serverid);

	check_combination(endpoint);
	return endpoint;
}

/* ---------- user mappings ---------- */

/*
 * Read the user mapping of a role, its own or else that of PUBLIC, and note which.
 * Return false if there is neither.
 */
static bool
read_mapping(CsEndpoint *endpoint, List **options)
{
	HeapTuple	tuple;
	Datum		datum;
	bool		isnull;

	endpoint->mapping_roleid = endpoint->roleid;
	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(endpoint->roleid),
							ObjectIdGetDatum(endpoint->serverid));
	if (!HeapTupleIsValid(tuple))
	{
		endpoint->mapping_roleid = InvalidOid;
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(endpoint->serverid));
	}
	if (!HeapTupleIsValid(tuple))
		return false;

	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	*options = isnull ? NIL : untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return true;
}

/* Store the options of the role's user mapping, secrets included. */
static void
store_mapping(CsEndpoint *endpoint)
{
	const CsOption *secret = cs_registry_secret(endpoint->provider);
	List	   *options;

	if (!read_mapping(endpoint, &options))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("user mapping not found for \"%s\" on server \"%s\"",
						GetUserNameFromId(endpoint->roleid, false), endpoint->server_name),
				 secret ?
				 errhint("Use CREATE USER MAPPING FOR %s SERVER %s OPTIONS (%s '...').",
						 role_word(endpoint->roleid), quote_identifier(endpoint->server_name),
						 secret->name) :
				 errhint("Use CREATE USER MAPPING FOR %s SERVER %s.",
						 role_word(endpoint->roleid), quote_identifier(endpoint->server_name))));
	store_options(endpoint, CS_ON_MAPPING, options);

	/* a refresh token is enough: it yields the access token */
	if (secret && cs_endpoint_option(endpoint, secret->name) == NULL &&
		cs_endpoint_option(endpoint, "refresh_token") == NULL)
		report_missing(endpoint, secret);
}

CsEndpoint *
cs_server_read(Oid serverid, Oid roleid)
{
	CsEndpoint *endpoint = read_server(serverid);
	AclResult	result = cs_server_aclcheck(serverid, roleid, ACL_USAGE);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FOREIGN_SERVER, endpoint->server_name);
	endpoint->roleid = roleid;
	store_mapping(endpoint);
	check_combination(endpoint);
	check_urls(endpoint);
	return endpoint;
}
