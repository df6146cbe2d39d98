/*-------------------------------------------------------------------------
 *
 * suggest.c
 *		SQL functions that suggest a mapping.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

#include "api/argument.h"
#include "api/suggestion.h"
#include "base/compat.h"
#include "base/try.h"
#include "store/source.h"
#include "store/watch_make.h"

CS_FUNCTION(contactsync_suggest);
CS_FUNCTION(contactsync_suggest_mapping);

static Jsonb *
mapping_of(const CsSuggestion *suggestion)
{
	return DatumGetJsonbP(cs_watch_mapping_to_jsonb(&suggestion->watch));
}

static bool
is_table(const CsSuggestion *suggestion)
{
	char		kind = suggestion->source->rd_rel->relkind;

	return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

/* Make a watch of it, without storing it, so that what is pasted works. */
static void
check_by_making(void *arg)
{
	const CsSuggestion *suggestion = arg;
	CsSchedule	schedule = {0};

	(void) cs_watch_make(RelationGetRelid(suggestion->source), suggestion->endpoint, mapping_of(suggestion),
						 NULL, NIL, "ignore", &schedule, NULL);
}

/* Return how to go on if only the user can tell who wants mail. */
static char *
hint_of_missing(const CsSuggestion *suggestion)
{
	const CsAdvice *first = linitial(suggestion->missing);
	const char *watch = cs_source_typed(RelationGetRelid(suggestion->source), suggestion->endpoint->server_name);

	if (cs_watch_maps(&suggestion->watch, CS_OPT_IN) && strcmp(first->field, "opt_in") == 0)
		return pstrdup("Do that, or write the mapping yourself, and begin with what is suggested.");
	if (strcmp(first->field, "opt_in") == 0)
		return psprintf("Name the column that says who wants mail%s: SELECT contactsync_suggest_mapping(%s, opt_in => %s);",
						suggestion->consent ? psprintf(", if that is \"%s\"", suggestion->consent) : "",
						watch, quote_literal_cstr(suggestion->consent ? suggestion->consent : "..."));
	return pstrdup("Write the mapping yourself, and begin with what is suggested.");
}

/* Tell the user what to type, or what is missing. */
static void
notice_statement(CsSuggestion *suggestion)
{
	const char *table = RelationGetRelationName(suggestion->source);
	const char *mapping = quote_literal_cstr(DatumGetCString(DirectFunctionCall1(jsonb_out, JsonbPGetDatum(mapping_of(suggestion)))));
	const char *watch = cs_source_typed(RelationGetRelid(suggestion->source), suggestion->endpoint->server_name);
	ErrorData  *error = NULL;

	if (suggestion->missing != NIL)
		ereport(NOTICE,
				(errmsg("the columns of \"%s\" do not suggest a complete mapping", table),
				 errdetail("\"%s\" is missing: %s", ((CsAdvice *) linitial(suggestion->missing))->field,
						   ((CsAdvice *) linitial(suggestion->missing))->reason),
				 errhint("%s", hint_of_missing(suggestion))));
	else if (!is_table(suggestion))
		ereport(NOTICE,
				(errmsg("the columns of \"%s\" suggest a mapping", table),
				 errhint("SELECT contactsync_suggest_mapping(%s) returns it. To watch what is no table, contactsync_watch() also needs capture => 'poll', poll_column and key.",
						 watch)));
	else if (cs_try(check_by_making, suggestion, NULL, &error) != CS_TRY_OK)
		ereport(NOTICE,
				(errmsg("the columns of \"%s\" suggest a mapping, but it cannot be watched yet", table),
				 errdetail("%s.", error->message),
				 error->hint ? errhint("%s", error->hint) : 0));
	else
		ereport(NOTICE,
				(errmsg("the columns of \"%s\" suggest a mapping", table),
				 errhint("SELECT contactsync_watch(%s, mapping => %s);", watch, mapping)));
}

static void
put_rows(FunctionCallInfo fcinfo, List *advices)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *lc;

	foreach(lc, advices)
	{
		const CsAdvice *advice = lfirst(lc);
		const char *texts[] = {advice->field, advice->expression, advice->reason};
		Datum		values[3];
		bool		nulls[3];

		for (int i = 0; i < lengthof(texts); i++)
		{
			nulls[i] = texts[i] == NULL;
			values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* contactsync_suggest(source, server) */
Datum
contactsync_suggest(PG_FUNCTION_ARGS)
{
	CsSuggestion *suggestion;

	InitMaterializedSRF(fcinfo, 0);
	suggestion = cs_suggestion_make(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), NULL);
	put_rows(fcinfo, suggestion->mapped);
	put_rows(fcinfo, suggestion->missing);
	put_rows(fcinfo, suggestion->left_out);
	notice_statement(suggestion);
	relation_close(suggestion->source, NoLock);
	return (Datum) 0;
}

/* contactsync_suggest_mapping(source, server, opt_in) */
Datum
contactsync_suggest_mapping(PG_FUNCTION_ARGS)
{
	CsSuggestion *suggestion;

	cs_argument_require(fcinfo, 0, "source");
	cs_argument_require(fcinfo, 1, "server");
	suggestion = cs_suggestion_make(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), cs_argument_text(fcinfo, 2));
	if (suggestion->missing != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the columns of \"%s\" do not suggest a complete mapping",
						RelationGetRelationName(suggestion->source)),
				 errdetail("\"%s\" is missing: %s", ((CsAdvice *) linitial(suggestion->missing))->field,
						   ((CsAdvice *) linitial(suggestion->missing))->reason),
				 errhint("%s", hint_of_missing(suggestion))));
	if (is_table(suggestion))
		check_by_making(suggestion);
	relation_close(suggestion->source, NoLock);
	PG_RETURN_JSONB_P(mapping_of(suggestion));
}
