/*-------------------------------------------------------------------------
 *
 * mapping.c
 *		Completing and checking the mapping of a watch.
 *
 * A mapping is checked when its watch is made, as the user who makes it.  "*" is
 * replaced by the columns that exist then, so that a column that is added to the
 * table next year is not sent unless somebody asks for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "nodes/bitmapset.h"
#include "port/pg_bitutils.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "base/text.h"
#include "provider/provider.h"
#include "store/guess.h"
#include "store/mapping.h"
#include "store/source.h"
#include "store/watch.h"

/* Map the columns that have the name of a field. */
void
cs_mapping_default(CsWatch *watch, Relation source, uint32 fields)
{
	TupleDesc	desc = RelationGetDescr(source);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		const char *name = NameStr(attribute->attname);
		CsField		field;

		if (attribute->attisdropped || !cs_contact_field_by_name(name, strlen(name), &field))
			continue;
		if (field != CS_ATTRIBUTES && (fields & CS_FIELD_BIT(field)))
			cs_watch_add_mapped(watch, field, NULL, pstrdup(quote_identifier(name)));
	}
}

/* Map the columns that no expression uses yet, as attributes. */
void
cs_mapping_add_remaining(CsWatch *watch, Relation source, const Bitmapset *used)
{
	TupleDesc	desc = RelationGetDescr(source);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped ||
			bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, used))
			continue;
		cs_watch_add_mapped(watch, CS_ATTRIBUTES, pstrdup(NameStr(attribute->attname)),
							pstrdup(quote_identifier(NameStr(attribute->attname))));
	}
}

/*
 * Has the i-th column a value other than false and null where a row does not give one?
 * Then it is not the word of a person.
 */
bool
cs_mapping_has_default(Relation source, int i)
{
	Node	   *value;

	if (TupleDescAttr(RelationGetDescr(source), i)->attgenerated)
		return true;
	value = build_column_default(source, i + 1);
	if (value == NULL)
		return false;
	return !IsA(value, Const) ||
		(!((Const *) value)->constisnull &&
		 (((Const *) value)->consttype != BOOLOID || DatumGetBool(((Const *) value)->constvalue)));
}

static char *
mapped_label(const CsMapped *mapped)
{
	return mapped->attribute ?
		psprintf("mapping of attribute \"%s\"", mapped->attribute) :
		psprintf("mapping of \"%s\"", cs_contact_field_name(mapped->field));
}

/*
 * Return NULL if values of the type can become that field, or else what they must be,
 * and an example.
 */
const char *
cs_mapping_wanted_type(CsField field, Oid type, const char **example)
{
	char		category;
	bool		preferred;
	const char *wanted = NULL;

	get_type_category_preferred(getBaseType(type), &category, &preferred);
	switch (field)
	{
		case CS_ATTRIBUTES:
			break;
		case CS_OPT_IN:
			if (category != TYPCATEGORY_BOOLEAN)
			{
				wanted = "boolean";
				*example = "newsletter = 'yes'";
			}
			break;
		case CS_OPT_IN_AT:
			if (category != TYPCATEGORY_DATETIME)
			{
				wanted = "timestamptz";
				*example = "confirmed_at";
			}
			break;
		case CS_TAGS:
		case CS_TOPICS:
			if (category != TYPCATEGORY_ARRAY && type != JSONOID && type != JSONBOID)
			{
				wanted = "an array or jsonb";
				*example = "ARRAY[plan, region]";
			}
			break;
		case CS_EXTERNAL_ID:
			if (category == TYPCATEGORY_BOOLEAN || category == TYPCATEGORY_ARRAY ||
				category == TYPCATEGORY_COMPOSITE || type == JSONOID || type == JSONBOID)
			{
				wanted = "text, a number or uuid";
				*example = "extra->>'id'";
			}
			break;
		default:
			if (category != TYPCATEGORY_STRING && category != TYPCATEGORY_ENUM &&
				category != TYPCATEGORY_UNKNOWN)
			{
				wanted = "text";
				*example = "code::text";
			}
	}
	return wanted;
}

static void
check_type(const CsMapped *mapped, Oid type)
{
	const char *example = NULL;
	const char *wanted = cs_mapping_wanted_type(mapped->field, type, &example);

	if (wanted)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s is of type %s, but must be %s", mapped_label(mapped),
						format_type_be(type), wanted),
				 errhint("Map an expression of that type, such as \"%s\".", example)));
}

/* Return the column that may be meant where an expression names one that does not exist, or NULL. */
static const char *
meant_column(Relation source, const CsMapped *mapped)
{
	const char *name = mapped->attribute ? NULL : cs_guess_column(source, mapped->field);

	return name ? name : cs_guess_nearest_column(source, mapped->attribute ? mapped->attribute : mapped->expression);
}

/* Check every expression, and collect the columns that they use. */
void
cs_mapping_check_expressions(CsWatch *watch, Relation source, int from, Bitmapset **used)
{
	for (int i = from; i < watch->nmapped; i++)
	{
		CsMapped   *mapped = &watch->mapped[i];

		check_type(mapped, cs_source_check_expression(watch, mapped->expression, mapped_label(mapped),
													  meant_column(source, mapped), used));
	}
}

/* Return the expression of a field, or NULL if it is not mapped. */
static const char *
mapped_expression(const CsWatch *watch, CsField field)
{
	for (int i = 0; i < watch->nmapped; i++)
		if (watch->mapped[i].field == field)
			return watch->mapped[i].expression;
	return NULL;
}

/* Warn if contacts are identified at the provider by what people change. */
static void
check_external_id(const CsWatch *watch)
{
	const char *id = mapped_expression(watch, CS_EXTERNAL_ID);
	const char *email = mapped_expression(watch, CS_EMAIL);

	if (id && email && strcmp(id, email) == 0)
		ereport(WARNING,
				(errmsg("external_id is mapped to the e-mail address, which may change"),
				 errhint("Map external_id to what identifies the row for good, such as its primary key.")));
}

/* Return a mapping of what is required, by the names of columns, or an example, as a literal. */
static char *
mapping_of_required(Relation source, uint32 required)
{
	CsWatch		example = {0};

	for (int i = 0; i < CS_ATTRIBUTES; i++)
	{
		const char *column = cs_guess_column(source, i);

		if (required & CS_FIELD_BIT(i))
			cs_watch_add_mapped(&example, i, NULL, pstrdup(column ? quote_identifier(column) : i == CS_EMAIL ? "email_address" : "id"));
	}
	return quote_literal_cstr(DatumGetCString(DirectFunctionCall1(jsonb_out, cs_watch_mapping_to_jsonb(&example))));
}

/* Raise an error unless the provider can take these fields. */
void
cs_mapping_check_fields(const CsWatch *watch, Relation source, const CsEndpoint *endpoint)
{
	const CsProvider *provider = endpoint->provider;
	uint32		fields = 0;
	const char *hint = NULL;
	const char *refusal;

	for (int i = 0; i < watch->nmapped; i++)
	{
		const CsMapped *mapped = &watch->mapped[i];
		const char *doubt = NULL;

		fields |= CS_FIELD_BIT(mapped->field);
		if (mapped->attribute && provider->check_attribute)
			doubt = provider->check_attribute(endpoint, mapped->attribute_utf8);
		if (doubt)
			ereport(WARNING, (errmsg("%s: %s", mapped_label(mapped), cs_text_from_utf8(doubt))));
	}
	if (fields & ~provider->fields)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg_plural("%s does not support the field %s", "%s does not support the fields %s",
							   pg_popcount32(fields & ~provider->fields), provider->title,
							   cs_contact_field_list(fields & ~provider->fields)),
				 errhint("It supports: %s.", cs_contact_field_list(provider->fields))));
	if (provider->required & ~fields)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg_plural("%s needs the field %s, which is not mapped",
							   "%s needs the fields %s, which are not mapped",
							   pg_popcount32(provider->required & ~fields), provider->title,
							   cs_contact_field_list(provider->required & ~fields)),
				 errhint("For example: mapping => %s. SELECT * FROM contactsync_suggest(%s) suggests one.",
						 mapping_of_required(source, provider->required),
						 cs_source_typed(watch->source, endpoint->server_name))));
	check_external_id(watch);
	refusal = provider->check_mapping ? provider->check_mapping(endpoint, fields, &hint) : NULL;
	if (refusal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s", cs_text_from_utf8(refusal)),
				 hint ? errhint("%s", cs_text_from_utf8(hint)) : 0));
}
