/*-------------------------------------------------------------------------
 *
 * options.c
 *		The options of a server whose provider is a definition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/defined/options.h"
#include "provider/defined/place.h"
#include "provider/defined/request.h"

char *
cs_options_base_url(const CsEndpoint *endpoint)
{
	CsScope		scope = {.endpoint = endpoint};
	StringInfoData url;

	initStringInfo(&url);
	cs_place_render(&url, &cs_request_definition(endpoint)->base_url, CS_IN_BASE_URL, &scope);
	return url.data;
}

/* Can the options in a text be in their place? */
static const char *
check_text(const CsEndpoint *endpoint, const CsText *text, CsPlace place)
{
	CsScope		scope = {.endpoint = endpoint};

	for (int i = 0; i < text->n; i++)
	{
		const CsPiece *piece = &text->pieces[i];
		const char *value = piece->source == CS_FROM_OPTION ? cs_place_value(piece, &scope) : NULL;
		CsText		alone = {1, unconstify(CsPiece *, piece)};

		if (piece->source != CS_FROM_OPTION || (value == NULL && place == CS_IN_HEADER))
			continue;
		if (value == NULL)
			return psprintf("the option %s is needed in the path of a request", piece->text);
		if (cs_place_missing(&alone, place, &scope))
			return psprintf("the option %s cannot be in the path of a request", piece->text);
	}
	return NULL;
}

const char *
cs_options_check(const CsEndpoint *endpoint)
{
	const CsDefined *definition = cs_request_definition(endpoint);
	const char *problem = NULL;

	for (CsAction action = CS_UPSERT; action <= CS_DELETE; action++)
		for (int i = 0; i < definition->actions[action].n && problem == NULL; i++)
			problem = check_text(endpoint, &definition->actions[action].steps[i].path, CS_IN_PATH);
	if (problem == NULL && definition->lookup)
		problem = check_text(endpoint, &definition->lookup->path, CS_IN_PATH);
	if (problem == NULL && definition->listing)
		problem = check_text(endpoint, &definition->listing->request.path, CS_IN_PATH);
	return problem;
}
