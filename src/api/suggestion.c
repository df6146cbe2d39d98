/*-------------------------------------------------------------------------
 *
 * suggestion.c
 *		Suggesting a mapping, by the names and types of columns.
 *
 * What is suggested can be pasted, or is said to be incomplete.  Consent is suggested
 * only where a column is called opt_in, is boolean, and is not true unless somebody
 * says so; and a mapping by which people could be mailed who said nothing is never
 * called complete.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "api/suggestion.h"
#include "api/verify.h"
#include "base/text.h"
#include "provider/provider.h"
#include "provider/server.h"
#include "store/guess.h"
#include "store/mapping.h"
#include "store/watch.h"
#include "store/unique_key.h"

/*
 * Columns
 */

static Form_pg_attribute
column_at(const CsSuggestion *suggestion, int i)
{
	return TupleDescAttr(RelationGetDescr(suggestion->source), i);
}

static int
count_columns(const CsSuggestion *suggestion)
{
	return RelationGetDescr(suggestion->source)->natts;
}

/* May the caller read the column? */
static bool
is_readable(const CsSuggestion *suggestion, int i)
{
	Oid			relid = RelationGetRelid(suggestion->source);

	return pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
		pg_attribute_aclcheck(relid, (AttrNumber) (i + 1), GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

static char
category_of(Oid type)
{
	char		category;
	bool		preferred;

	get_type_category_preferred(getBaseType(type), &category, &preferred);
	return category;
}

/* Can the column become that field, perhaps by a cast? */
static bool
fits(const CsSuggestion *suggestion, int i, CsField field)
{
	Oid			type = column_at(suggestion, i)->atttypid;
	const char *example;

	return (field == CS_PHONE && category_of(type) == TYPCATEGORY_NUMERIC) ||
		cs_mapping_wanted_type(field, type, &example) == NULL;
}

static char *
expression_of(const CsSuggestion *suggestion, int i, CsField field)
{
	Form_pg_attribute column = column_at(suggestion, i);
	const char *name = quote_identifier(NameStr(column->attname));

	if (field == CS_PHONE && category_of(column->atttypid) == TYPCATEGORY_NUMERIC)
		return psprintf("%s::text", name);
	return pstrdup(name);
}

/*
 * What is suggested
 */

static CsAdvice *
make_advice(const char *field, const char *expression, const char *reason)
{
	CsAdvice   *advice = palloc(sizeof(CsAdvice));

	advice->field = field;
	advice->expression = expression;
	advice->reason = reason;
	return advice;
}

/* Map a field to a column. */
static void
take(CsSuggestion *suggestion, int i, CsField field, const char *reason)
{
	char	   *expression = expression_of(suggestion, i, field);

	suggestion->taken[i] = true;
	cs_watch_add_mapped(&suggestion->watch, field, NULL, expression);
	suggestion->mapped = lappend(suggestion->mapped,
								 make_advice(cs_contact_field_name(field), expression, reason));
}

static void
add_missing(CsSuggestion *suggestion, CsField field, const char *reason)
{
	suggestion->missing = lappend(suggestion->missing, make_advice(cs_contact_field_name(field), NULL, reason));
}

static bool
is_supported(const CsSuggestion *suggestion, CsField field)
{
	return (suggestion->endpoint->provider->fields & CS_FIELD_BIT(field)) != 0;
}

/* Return the column that is the best for a field and fits it, or -1. */
static int
find_column(const CsSuggestion *suggestion, CsField field, int *rank)
{
	int			best = -1;

	for (int i = 0; i < count_columns(suggestion); i++)
	{
		CsGuess		guess;

		if (column_at(suggestion, i)->attisdropped || !is_readable(suggestion, i))
			continue;
		guess = cs_guess(NameStr(column_at(suggestion, i)->attname));
		if (guess.kind != CS_GUESS_FIELD || guess.field != field || !fits(suggestion, i, field) ||
			(best >= 0 && guess.rank >= *rank))
			continue;
		best = i;
		*rank = guess.rank;
	}
	return best;
}

/* Suggest a field about which a wrong guess harms nobody. */
static void
suggest_field(CsSuggestion *suggestion, CsField field)
{
	int			rank = 0;
	int			i = find_column(suggestion, field, &rank);

	if (i < 0)
		return;
	if (rank == CS_GUESS_EXACT)
		take(suggestion, i, field, "it is called like the field");
	else if (field == CS_LOCALE)
		take(suggestion, i, field, "it may be the language; its values must be codes such as en or de-AT");
	else
		take(suggestion, i, field, "its name is another word for the field");
}

/* Suggest what identifies a person for good: a column of that name, or the primary key. */
static void
suggest_external_id(CsSuggestion *suggestion)
{
	int			rank = 0;
	int			exact = find_column(suggestion, CS_EXTERNAL_ID, &rank);
	List	   *key = cs_unique_key_find(suggestion->source);
	int			i;

	if (exact >= 0)
	{
		take(suggestion, exact, CS_EXTERNAL_ID, "it is called like the field");
		return;
	}
	if (list_length(key) != 1)
	{
		if (suggestion->endpoint->provider->required & CS_FIELD_BIT(CS_EXTERNAL_ID))
			add_missing(suggestion, CS_EXTERNAL_ID,
						key == NIL ? "the table has no primary key; map an expression that identifies the person for good" :
						"the primary key has several columns; map an expression that identifies the person for good");
		return;
	}
	i = get_attnum(RelationGetRelid(suggestion->source), linitial(key)) - 1;
	if (!suggestion->taken[i] && is_readable(suggestion, i) && fits(suggestion, i, CS_EXTERNAL_ID))
		take(suggestion, i, CS_EXTERNAL_ID, "it is the primary key");
}

/* Suggest opt_in, and opt_in_at beside it, only if they can be nothing but the word of a person. */
static void
suggest_consent(CsSuggestion *suggestion)
{
	int			rank = 0;
	int			i = find_column(suggestion, CS_OPT_IN, &rank);
	int			at;

	if (suggestion->opt_in)
	{
		cs_watch_add_mapped(&suggestion->watch, CS_OPT_IN, NULL, pstrdup(suggestion->opt_in));
		suggestion->mapped = lappend(suggestion->mapped, make_advice("opt_in", suggestion->opt_in, "you named it"));
	}
	else if (i < 0 || cs_mapping_has_default(suggestion->source, i))
		return;
	else
		take(suggestion, i, CS_OPT_IN, "it is called like the field, is boolean, and is not true by default: who has true there wants mail");
	at = find_column(suggestion, CS_OPT_IN_AT, &rank);
	if (at >= 0 && !cs_mapping_has_default(suggestion->source, at))
		take(suggestion, at, CS_OPT_IN_AT, "it is called like the field: a newer time is a newer word of the person");
}

/* Leave out what the account at the provider has no field for. */
static void
leave_out_unknown(CsSuggestion *suggestion)
{
	CsWatch		known = {0};
	List	   *mapped = NIL;
	const char **missing = cs_verify_find_missing(suggestion->endpoint, &suggestion->watch);

	if (missing == NULL)
		return;
	for (int i = 0; i < suggestion->watch.nmapped; i++)
	{
		const CsMapped *item = &suggestion->watch.mapped[i];
		CsAdvice   *advice = list_nth(suggestion->mapped, i);

		if (missing[i])
		{
			suggestion->left_out = lappend(suggestion->left_out,
										   make_advice(NULL, advice->expression, psprintf("it could be %s, but %s", advice->field, missing[i])));
			continue;
		}
		cs_watch_add_mapped(&known, item->field, NULL, item->expression);
		mapped = lappend(mapped, advice);
	}
	suggestion->watch = known;
	suggestion->mapped = mapped;
}

/* Note what the provider needs, and how people could be mailed who said nothing. */
static void
check_complete(CsSuggestion *suggestion)
{
	const CsEndpoint *endpoint = suggestion->endpoint;
	const CsProvider *provider = endpoint->provider;
	uint32		fields = 0;
	const char *hint = NULL;
	const char *why = cs_provider_mails_whoever_exists(endpoint);
	const char *refusal;

	for (int i = 0; i < suggestion->watch.nmapped; i++)
		fields |= CS_FIELD_BIT(suggestion->watch.mapped[i].field);
	for (int i = 0; i < CS_ATTRIBUTES; i++)
		if ((provider->required & ~fields & CS_FIELD_BIT(i)) && i != CS_EXTERNAL_ID)
			add_missing(suggestion, i, psprintf("%s needs it, and no column seems to be it", provider->title));
	refusal = provider->check_mapping ? provider->check_mapping(endpoint, fields, &hint) : NULL;
	if (refusal)
		add_missing(suggestion, CS_OPT_IN, cs_text_from_utf8(psprintf("%s. %s", refusal, hint ? hint : "")));
	else if (!(fields & CS_FIELD_BIT(CS_OPT_IN)) &&
			 (why || (provider->implies_consent && provider->implies_consent(endpoint))))
		add_missing(suggestion, CS_OPT_IN,
					psprintf("no column says for certain who wants mail, and without it everybody in the table could be mailed. %s",
							 why ? why : ""));
}

/*
 * What is left out
 */

/* Return what to add to the mapping: "field": "expression". */
static char *
member(const char *field, const char *expression)
{
	StringInfoData out;

	initStringInfo(&out);
	escape_json(&out, field);
	appendStringInfoString(&out, ": ");
	escape_json(&out, expression);
	return out.data;
}

/* Why a column that may say who wants mail is not taken for that. */
static char *
doubt_of_consent(const CsSuggestion *suggestion, int i, const char *expression)
{
	Oid			type = column_at(suggestion, i)->atttypid;
	const char *doubt = "it may say who wants mail, which only you can know";

	if (!is_supported(suggestion, CS_OPT_IN))
		return pstrdup(doubt);
	if (getBaseType(type) == BOOLOID && cs_mapping_has_default(suggestion->source, i))
		return psprintf("%s, and it is true by default, so it need not be the word of a person; if it is, add %s",
						doubt, member("opt_in", expression));
	if (getBaseType(type) == BOOLOID)
		return psprintf("%s; if it does, add %s", doubt, member("opt_in", expression));
	return psprintf("%s; if it does, add \"opt_in\" with an expression of type boolean over it", doubt);
}

static char *
doubt_of_refusal(const CsSuggestion *suggestion, int i, const char *expression)
{
	const char *doubt = "it may say who does not want mail, which tells of nobody who does";

	if (!is_supported(suggestion, CS_OPT_IN) || getBaseType(column_at(suggestion, i)->atttypid) != BOOLOID)
		return pstrdup(doubt);
	return psprintf("%s; if it does, %s withdraws the consent of these, and claims none", doubt,
					member("opt_in", psprintf("CASE WHEN %s THEN false END", expression)));
}

/* Why a column that seems to be a field is not mapped to it. */
static char *
doubt_of_field(const CsSuggestion *suggestion, int i, const CsGuess *guess, const char *expression)
{
	const char *field = cs_contact_field_name(guess->field);
	Oid			type = column_at(suggestion, i)->atttypid;
	const char *example = NULL;
	const char *wanted = cs_mapping_wanted_type(guess->field, type, &example);

	if (!is_supported(suggestion, guess->field))
		return psprintf("it seems to be %s, which %s does not have", field, suggestion->endpoint->provider->title);
	if (guess->field == CS_STATUS)
		return pstrdup("it is called like a field that decides who gets mail; if its values are those of the provider, add it");
	if (wanted && !fits(suggestion, i, guess->field))
		return psprintf("it seems to be %s, but is of type %s instead of %s", field, format_type_be(type), wanted);
	if (guess->field == CS_OPT_IN)
		return doubt_of_consent(suggestion, i, expression);
	if (guess->field == CS_OPT_IN_AT)
		return pstrdup("it seems to be opt_in_at, which is of use only beside opt_in, and only if nothing but the word of a person sets it");
	return psprintf("it may be %s, but another column is more likely to be", field);
}

/* Why a column that is no field is left out: it would be an attribute. */
static char *
doubt_of_attribute(const CsSuggestion *suggestion, const char *name, const char *expression)
{
	const CsProvider *provider = suggestion->endpoint->provider;
	const char *doubt = NULL;

	if (!is_supported(suggestion, CS_ATTRIBUTES))
		return psprintf("it is no field that %s has", provider->title);
	if (provider->check_attribute)
		doubt = provider->check_attribute(suggestion->endpoint, cs_text_to_utf8(name, strlen(name)));
	if (doubt)
		return psprintf("it is no field; to send it, add \"attributes\": {\"...\": ...}, under another name, because %s",
						cs_text_from_utf8(doubt));
	return psprintf("it is no field; to send it, add \"attributes\": {%s}", member(name, expression));
}

static char *
why_left_out(const CsSuggestion *suggestion, int i, const char *expression)
{
	const char *name = NameStr(column_at(suggestion, i)->attname);
	CsGuess		guess = cs_guess(name);

	if (!is_readable(suggestion, i))
		return pstrdup("you may not read it");
	switch (guess.kind)
	{
		case CS_GUESS_FIELD:
			return doubt_of_field(suggestion, i, &guess, expression);
		case CS_GUESS_CONSENT:
			return doubt_of_consent(suggestion, i, expression);
		case CS_GUESS_REFUSAL:
			return doubt_of_refusal(suggestion, i, expression);
		case CS_GUESS_SECRET:
			return pstrdup("it seems to be secret");
		case CS_GUESS_WHOLE_NAME:
			if (is_supported(suggestion, CS_FIRST_NAME) && category_of(column_at(suggestion, i)->atttypid) == TYPCATEGORY_STRING)
				return psprintf("it may be a whole name; if it is, add %s",
								member("first_name", psprintf("split_part(%s, ' ', 1)", expression)));
			break;
		case CS_GUESS_OTHER:
			break;
	}
	return doubt_of_attribute(suggestion, name, expression);
}

/* List the columns that are not mapped. */
static void
list_left_out(CsSuggestion *suggestion)
{
	for (int i = 0; i < count_columns(suggestion); i++)
	{
		Form_pg_attribute column = column_at(suggestion, i);
		const char *expression;
		CsGuess		guess;

		if (column->attisdropped || suggestion->taken[i])
			continue;
		expression = pstrdup(quote_identifier(NameStr(column->attname)));
		guess = cs_guess(NameStr(column->attname));
		if (suggestion->consent == NULL && getBaseType(column->atttypid) == BOOLOID && is_readable(suggestion, i) &&
			(guess.kind == CS_GUESS_CONSENT || (guess.kind == CS_GUESS_FIELD && guess.field == CS_OPT_IN)))
			suggestion->consent = expression;
		suggestion->left_out = lappend(suggestion->left_out,
									   make_advice(NULL, expression, why_left_out(suggestion, i, expression)));
	}
}

/* Does the mapping need to be checked with the account at the provider? */
static bool
asks_provider(const CsEndpoint *endpoint)
{
	return endpoint->provider->mapping_check > 0 && cs_endpoint_option_bool(endpoint, "check_fields");
}

/*
 * Suggest a mapping of a relation for a server of the caller, who may have named an
 * expression for opt_in.  The relation is open and locked.
 */
CsSuggestion *
cs_suggestion_make(Oid source, const char *server, const char *opt_in)
{
	CsSuggestion *suggestion = palloc0(sizeof(CsSuggestion));
	Oid			serverid = cs_server_find(server, GetUserId());

	suggestion->endpoint = cs_server_read_unmapped(serverid);
	if (asks_provider(suggestion->endpoint))
		suggestion->endpoint = cs_server_read(serverid, GetUserId());
	suggestion->source = try_relation_open(source, AccessShareLock);
	if (suggestion->source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", source)));
	suggestion->opt_in = opt_in;
	suggestion->taken = palloc0(count_columns(suggestion) * sizeof(bool) + 1);
	for (int i = 0; i < CS_ATTRIBUTES; i++)
	{
		if (!is_supported(suggestion, i) || i == CS_OPT_IN_AT || i == CS_STATUS)
			continue;
		if (i == CS_EXTERNAL_ID)
			suggest_external_id(suggestion);
		else if (i == CS_OPT_IN)
			suggest_consent(suggestion);
		else
			suggest_field(suggestion, i);
	}
	list_left_out(suggestion);
	leave_out_unknown(suggestion);
	check_complete(suggestion);
	return suggestion;
}
