/*-------------------------------------------------------------------------
 *
 * registry.c
 *		Which providers there are, and which options each of them has.
 *
 * Adding a provider means adding its file or folder, and two lines here; no other
 * file of the extension knows a provider by its name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

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

const CsProvider *
cs_registry_find(const char *name)
{
	for (int i = 0; providers[i]; i++)
	{
		if (strcmp(providers[i]->name, name) == 0)
			return providers[i];
	}
	return NULL;
}

char *
cs_registry_names(void)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; providers[i]; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", providers[i]->name);
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

List *
cs_registry_options(const CsProvider *provider, CsOptionPlace place)
{
	List	   *list = NIL;
	int			i;

	for (i = 0; providers[i] != NULL; i++)
	{
		const CsProvider *candidate = providers[i];

		if (provider != NULL && provider != candidate)
			continue;
		if (candidate->options != NULL)
			list = append_options(list, candidate->options, place);
		list = append_options(list, candidate->auth == CS_AUTH_OAUTH ?
							  cs_option_oauth : cs_option_bearer, place);
	}
	return append_options(list, cs_option_common, place);
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
