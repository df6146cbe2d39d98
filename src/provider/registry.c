/*-------------------------------------------------------------------------
 *
 * registry.c
 *		Which providers there are, and which options each of them has.
 *
 * Adding a provider means adding its file or folder, and two lines here; no other
 * file of the extension knows a provider by its name.  A provider that is not built in
 * is a definition, which is found elsewhere (store/definition_store.c) and compiled.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/text.h"
#include "provider/definition_cache.h"
#include "provider/registry.h"

CS_ADAPTER(cs_mailingcore);
CS_ADAPTER(cs_campaignlark);
CS_ADAPTER(cs_owlat);
CS_ADAPTER(cs_spotzee);
CS_ADAPTER(cs_caramel);

static const CsProvider *const providers[] = {
	&cs_mailingcore,
	&cs_campaignlark,
	&cs_owlat,
	&cs_spotzee,
	&cs_caramel,
	NULL
};

static const CsRegistrySource *definitions = NULL;

void
cs_registry_set_source(const CsRegistrySource *source)
{
	definitions = source;
}

const CsProvider *const *
cs_registry_built_in(void)
{
	return providers;
}

static const CsProvider *
find_built_in(const char *name)
{
	for (int i = 0; providers[i]; i++)
	{
		if (strcmp(providers[i]->name, name) == 0)
			return providers[i];
	}
	return NULL;
}

bool
cs_registry_is_built_in(const char *name)
{
	return find_built_in(name) != NULL;
}

static void
report_fault(const char *name, const CsDefinitionFault *fault)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid definition of provider \"%s\"", name),
			 errdetail("%s %s.", *fault->path ? cs_text_from_utf8(cs_text_make_visible(fault->path)) : "The definition",
					   cs_text_from_utf8(cs_text_make_visible(fault->problem)))));
}

const CsProvider *
cs_registry_compile(const char *name, const char *utf8)
{
	CsDefinitionFault fault;
	const CsProvider *provider = cs_compile_definition(name, utf8, &fault);

	if (provider == NULL)
		report_fault(name, &fault);
	return provider;
}

/* Return NULL if there is none, or if it is faulty; then "fault" says what is wrong. */
static const CsProvider *
find(const char *name, Oid roleid, bool member, CsDefinitionFault *fault)
{
	const CsProvider *provider = find_built_in(name);
	CsRegistryText found;

	fault->problem = NULL;
	if (provider || definitions == NULL || !cs_compile_is_name(name) ||
		!definitions->find(name, roleid, member, cs_definition_cache_has, &found))
		return provider;
	return cs_definition_cache_get(name, found.stamp, found.utf8, fault);
}

static const CsProvider *
find_well(const char *name, Oid roleid, bool member)
{
	CsDefinitionFault fault;
	const CsProvider *provider = find(name, roleid, member, &fault);

	if (provider == NULL && fault.problem)
		report_fault(name, &fault);
	return provider;
}

const CsProvider *
cs_registry_find(const char *name, Oid roleid)
{
	return find_well(name, roleid, false);
}

char *
cs_registry_text(const char *name, Oid roleid)
{
	CsRegistryText found;

	return definitions && cs_compile_is_name(name) && definitions->find(name, roleid, false, NULL, &found) ? found.utf8 : NULL;
}

const CsProvider *
cs_registry_look(const char *name, Oid roleid)
{
	CsDefinitionFault fault;

	return find(name, roleid, false, &fault);
}

const CsProvider *
cs_registry_find_for(const char *name, Oid roleid)
{
	return find_well(name, roleid, true);
}

char *
cs_registry_names(Oid roleid)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; providers[i]; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", providers[i]->name);
	if (definitions)
		definitions->names(&list, roleid);
	return list.data;
}

/*
 * Append the options of a table that belong in a place and whose names are not listed
 * yet.
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

/* Return the table of secrets that a kind of authorization has. */
static const CsOption *
secrets_of(CsAuth auth)
{
	static const CsOption nothing[] = {{.name = NULL}};

	switch (auth)
	{
		case CS_AUTH_BEARER:
		case CS_AUTH_QUERY:
			return cs_option_bearer;
		case CS_AUTH_OAUTH:
			return cs_option_oauth;
		case CS_AUTH_BASIC:
			return cs_option_basic;
		case CS_AUTH_NONE:
			break;
	}
	return nothing;
}

static List *
append_provider(List *list, const CsProvider *provider, CsOptionPlace place)
{
	if (provider->options != NULL)
		list = append_options(list, provider->options, place);
	list = append_options(list, secrets_of(provider->auth), place);
	return provider->signing ? append_options(list, cs_option_signing, place) : list;
}

/* Definitions have no options of their own on user mappings. */
static List *
append_all(List *list, CsOptionPlace place)
{
	for (int i = 0; providers[i] != NULL; i++)
		list = append_provider(list, providers[i], place);
	list = append_options(list, cs_option_basic, place);
	return append_options(list, cs_option_signing, place);
}

List *
cs_registry_options(const CsProvider *provider, CsOptionPlace place)
{
	List	   *list = provider ? append_provider(NIL, provider, place) : append_all(NIL, place);

	return append_options(list, cs_option_common, place);
}

const CsOption *
cs_registry_secret(const CsProvider *provider)
{
	static const char *const names[] = {
		[CS_AUTH_BEARER] = "api_key",
		[CS_AUTH_OAUTH] = "access_token",
		[CS_AUTH_BASIC] = "password",
		[CS_AUTH_QUERY] = "api_key",
		[CS_AUTH_NONE] = "signing_secret"
	};

	return cs_registry_find_option(provider, names[provider->auth], CS_ON_MAPPING);
}

const CsOption *
cs_registry_find_option(const CsProvider *provider, const char *name, CsOptionPlace place)
{
	List	   *list = cs_registry_options(provider, place);
	const CsOption *found = NULL;
	ListCell   *cell;

	foreach(cell, list)
	{
		const CsOption *option = lfirst(cell);

		if (strcmp(option->name, name) == 0)
			found = option;
	}
	list_free(list);
	return found;
}
