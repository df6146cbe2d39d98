/*-------------------------------------------------------------------------
 *
 * render.c
 *		What a compiled template is for contacts.
 *
 * This runs for every contact that is sent.  A part that has no value takes back what
 * was written for it, so nothing is asked twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/defined/condition.h"
#include "provider/defined/place.h"
#include "provider/defined/render.h"

static bool render(StringInfo out, const CsNode *node, const CsScope *scope, bool root);

/* ---------- values ---------- */

/* Return the JSON text of a piece that has one, or NULL. */
static const char *
json_of(const CsPiece *piece, const CsScope *scope)
{
	const CsAttribute *attribute;

	if (piece->filter != CS_FILTER_NONE)
		return NULL;
	if (piece->source == CS_FROM_VALUE)
		return scope->json;
	if (piece->source == CS_FROM_FIELD && (piece->field == CS_TAGS || piece->field == CS_TOPICS))
		return scope->contact ? scope->contact->value[piece->field] : NULL;
	if (piece->source != CS_FROM_ATTRIBUTE || scope->contact == NULL)
		return NULL;
	attribute = cs_contact_attribute(scope->contact, piece->text);
	return attribute ? attribute->json : NULL;
}

/* Has the piece a place in the mapping, whatever its value is? */
static bool
is_mapped(const CsPiece *piece, const CsScope *scope)
{
	if (piece->source == CS_FROM_FIELD)
		return scope->contact && (scope->contact->present & CS_FIELD_BIT(piece->field));
	if (piece->source == CS_FROM_ATTRIBUTE)
		return scope->contact && cs_contact_attribute(scope->contact, piece->text);
	return piece->source == CS_FROM_VALUE;
}

static bool
append_number(StringInfo out, const char *text)
{
	CsJson	   *value = *text == '-' || (*text >= '0' && *text <= '9') ? cs_json_parse(text, strlen(text)) : NULL;
	double		number;

	if (value == NULL || !cs_json_number(value, &number))
		return false;
	appendStringInfoString(out, text);
	return true;
}

static bool
append_boolean(StringInfo out, const char *text)
{
	bool		truth = pg_strcasecmp(text, "true") == 0 || strcmp(text, "t") == 0 || strcmp(text, "1") == 0;

	if (!truth && pg_strcasecmp(text, "false") != 0 && strcmp(text, "f") != 0 && strcmp(text, "0") != 0)
		return false;
	appendStringInfoString(out, truth ? "true" : "false");
	return true;
}

static bool
append_time(StringInfo out, const char *text, CsNodeType type)
{
	double		time = cs_contact_unix_time(text);

	if (time < 0)
		return false;
	appendStringInfo(out, INT64_FORMAT, (int64) (type == CS_AS_UNIX ? time : time * 1000));
	return true;
}

/* A time begins with its date. */
static bool
append_date(StringInfo out, const char *text)
{
	if (strlen(text) < 10 || strspn(text, "0123456789-") < 10)
		return false;
	cs_json_quote(out, pnstrdup(text, 10));
	return true;
}

/* The elements of an array of JSON, with commas, as one string. */
static bool
append_list(StringInfo out, const char *json)
{
	CsJson	   *array = cs_json_parse(json, strlen(json));
	StringInfoData list;
	int			n = cs_json_length(array);

	if (n < 0)
		return false;
	initStringInfo(&list);
	for (int i = 0; i < n; i++)
	{
		const char *text = cs_json_text(cs_json_item(array, i));

		if (text)
			appendStringInfo(&list, "%s%s", list.len > 0 ? "," : "", text);
	}
	cs_json_quote(out, list.data);
	return true;
}

/* Write a value that is not null.  What cannot be one of the type is written as it is. */
static void
append_value(StringInfo out, const CsNode *node, const char *text, const char *json)
{
	switch (node->type)
	{
		case CS_AS_NUMBER:
			if (append_number(out, text))
				return;
			break;
		case CS_AS_BOOLEAN:
			if (append_boolean(out, text))
				return;
			break;
		case CS_AS_UNIX:
		case CS_AS_MILLISECONDS:
			if (append_time(out, text, node->type))
				return;
			break;
		case CS_AS_DATE:
			if (append_date(out, text))
				return;
			break;
		case CS_AS_LIST:
			if (json && append_list(out, json))
				return;
			break;
		case CS_AS_TEXT:
			json = NULL;
			break;
		case CS_AS_IS:
			break;
	}
	if (json)
		appendStringInfoString(out, json);
	else
		cs_json_quote(out, text);
}

/* Null is sent if the template or the option nulls says so. */
static bool
append_null(StringInfo out, const CsNode *node, const CsScope *scope)
{
	if (node->json)
		appendBinaryStringInfo(out, node->json, node->json_len);
	else if (is_mapped(&node->piece, scope) &&
			 (node->nulls == CS_NULL_SEND || (node->nulls == CS_NULL_AS_OPTION && scope->endpoint->nulls_clear)))
		appendStringInfoString(out, "null");
	else
		return false;
	return true;
}

static bool
render_value(StringInfo out, const CsNode *node, const CsScope *scope)
{
	const char *json = json_of(&node->piece, scope);
	const char *text = json && node->type == CS_AS_IS ? json : cs_place_value(&node->piece, scope);

	if (text == NULL || (json && strcmp(json, "null") == 0))
		return append_null(out, node, scope);
	append_value(out, node, text, json);
	return true;
}

static bool
render_text(StringInfo out, const CsNode *node, const CsScope *scope)
{
	StringInfoData text;

	if (cs_place_missing(&node->text, CS_IN_BODY, scope))
		return false;
	initStringInfo(&text);
	cs_place_render(&text, &node->text, CS_IN_BODY, scope);
	cs_json_quote(out, text.data);
	pfree(text.data);
	return true;
}

/* ---------- objects and arrays ---------- */

static bool
render_member(StringInfo out, const CsNodeMember *member, const CsNode *node, const CsScope *scope)
{
	int			start = out->len;

	if (node->attributes && member->yields && cs_contact_attribute(scope->contact, member->name))
		return false;
	cs_json_comma(out);
	appendBinaryStringInfo(out, member->key, member->key_len);
	if (render(out, member->node, scope, false))
		return true;
	out->len = start;
	out->data[start] = '\0';
	return false;
}

static bool
is_reserved(const CsNode *node, const char *name)
{
	for (int i = 0; i < node->n; i++)
		if (strcmp(node->members[i].name, name) == 0 && !node->members[i].yields)
			return true;
	return false;
}

static bool
render_attributes(StringInfo out, const CsNode *node, const CsScope *scope)
{
	const CsContact *contact = scope->contact;
	bool		any = false;

	for (int i = 0; contact && i < contact->nattributes; i++)
	{
		const CsAttribute *attribute = &contact->attributes[i];

		if ((!scope->endpoint->nulls_clear && strcmp(attribute->json, "null") == 0) ||
			is_reserved(node, attribute->name))
			continue;
		cs_json_member_raw(out, attribute->name, attribute->json);
		any = true;
	}
	return any;
}

static bool
render_object(StringInfo out, const CsNode *node, const CsScope *scope, bool root)
{
	int			start = out->len;
	bool		any = root || node->keep;

	appendStringInfoCharMacro(out, '{');
	for (int i = 0; i < node->n; i++)
		any |= render_member(out, &node->members[i], node, scope);
	if (node->attributes)
		any |= render_attributes(out, node, scope);
	appendStringInfoCharMacro(out, '}');
	if (!any)
	{
		out->len = start;
		out->data[start] = '\0';
	}
	return any;
}

/* Write an element; what has no value is no element. */
static void
render_element(StringInfo out, const CsNode *node, const CsScope *scope)
{
	int			start = out->len;

	cs_json_comma(out);
	if (render(out, node, scope, false))
		return;
	out->len = start;
	out->data[start] = '\0';
}

static bool
render_array(StringInfo out, const CsNode *node, const CsScope *scope)
{
	appendStringInfoCharMacro(out, '[');
	for (int i = 0; i < node->n; i++)
		render_element(out, node->members[i].node, scope);
	appendStringInfoCharMacro(out, ']');
	return true;
}

/* ---------- loops ---------- */

/* Every contact has its element, so that positions count. */
static bool
render_each(StringInfo out, const CsNode *node, const CsScope *scope)
{
	CsScope		inner = *scope;

	appendStringInfoCharMacro(out, '[');
	for (int i = 0; i < scope->batch->ncontacts; i++)
	{
		inner.contact = scope->batch->contacts[i];
		cs_json_comma(out);
		if (!render(out, node->inner, &inner, true))
			appendStringInfoString(out, "null");
	}
	appendStringInfoCharMacro(out, ']');
	return true;
}

static void
render_attribute_list(StringInfo out, const CsNode *node, const CsScope *scope)
{
	CsScope		inner = *scope;

	for (int i = 0; i < scope->contact->nattributes; i++)
	{
		const CsAttribute *attribute = &scope->contact->attributes[i];

		if (!scope->endpoint->nulls_clear && strcmp(attribute->json, "null") == 0)
			continue;
		inner.name = attribute->name;
		inner.json = attribute->json;
		render_element(out, node->inner, &inner);
	}
}

static void
render_json_list(StringInfo out, const CsNode *node, const CsScope *scope, const char *json)
{
	CsScope		inner = *scope;
	CsJson	   *array = cs_json_parse(json, strlen(json));

	for (int i = 0; i < cs_json_length(array); i++)
	{
		inner.json = cs_json_dump(cs_json_item(array, i));
		if (inner.json)
			render_element(out, node->inner, &inner);
	}
}

static bool
render_list(StringInfo out, const CsNode *node, const CsScope *scope)
{
	const CsContact *contact = scope->contact;
	const char *json = NULL;

	if (contact == NULL || !(contact->present & CS_FIELD_BIT(node->piece.field)))
		return false;
	if (node->piece.field != CS_ATTRIBUTES)
	{
		json = contact->value[node->piece.field];
		if (json == NULL)
			return false;
	}
	appendStringInfoCharMacro(out, '[');
	if (node->piece.field == CS_ATTRIBUTES)
		render_attribute_list(out, node, scope);
	else
		render_json_list(out, node, scope, json);
	appendStringInfoCharMacro(out, ']');
	return true;
}

/* ---------- choices ---------- */

static const CsNode *
choose_consent(const CsNode *node, const CsContact *contact)
{
	if (contact == NULL)
		return NULL;
	if (cs_condition_withdraws(contact))
		return node->no ? node->no : node->otherwise;
	if (cs_condition_claims(contact))
		return node->yes ? node->yes : node->if_new ? node->if_new : node->otherwise;
	if (node->if_new && cs_condition_claims_if_new(contact))
		return node->if_new;
	return node->otherwise;
}

static bool
render(StringInfo out, const CsNode *node, const CsScope *scope, bool root)
{
	switch (node->kind)
	{
		case CS_NODE_CONSTANT:
			appendBinaryStringInfo(out, node->json, node->json_len);
			return true;
		case CS_NODE_OBJECT:
			return render_object(out, node, scope, root);
		case CS_NODE_ARRAY:
			return render_array(out, node, scope);
		case CS_NODE_VALUE:
			return render_value(out, node, scope);
		case CS_NODE_TEXT:
			return render_text(out, node, scope);
		case CS_NODE_EACH:
			return render_each(out, node, scope);
		case CS_NODE_LIST:
			return render_list(out, node, scope);
		case CS_NODE_IF:
			node = cs_condition_holds(node->condition, scope) ? node->yes : node->no;
			return node && render(out, node, scope, root);
		case CS_NODE_CONSENT:
			node = choose_consent(node, scope->contact);
			return node && render(out, node, scope, root);
	}
	return false;
}

void
cs_render_body(StringInfo out, const CsNode *node, const CsScope *scope)
{
	if (!render(out, node, scope, true))
		appendStringInfoString(out, "{}");
}
