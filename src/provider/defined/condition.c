/*-------------------------------------------------------------------------
 *
 * condition.c
 *		Conditions of a definition.
 *
 * They look at what is known of one contact and at options, and at nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/defined/condition.h"
#include "provider/defined/place.h"

static const struct
{
	const char *name;
	CsConditionKind kind;
}			words[] = {
	{"claims", CS_IF_CLAIMS},
	{"claims_if_new", CS_IF_CLAIMS_IF_NEW},
	{"withdraws", CS_IF_WITHDRAWS},
	{"wants", CS_IF_WANTS},
	{"known", CS_IF_KNOWN},
	{"new", CS_IF_NEW},
	{"opted_out", CS_IF_OPTED_OUT}
};

typedef struct Parts
{
	const char *has;
	const char *option;
	const char **is;
	CsJson	   *not;
	CsJson	   *all;
	CsJson	   *any;
} Parts;

static const CsMember members[] = {
	{"has", CS_MEMBER_TEXT, offsetof(Parts, has)},
	{"option", CS_MEMBER_TEXT, offsetof(Parts, option)},
	{"is", CS_MEMBER_WORDS, offsetof(Parts, is)},
	{"not", CS_MEMBER_JSON, offsetof(Parts, not)},
	{"all", CS_MEMBER_JSON, offsetof(Parts, all)},
	{"any", CS_MEMBER_JSON, offsetof(Parts, any)},
	{NULL}
};

static void
compile_word(CsCompiler *compiler, const char *word, CsCondition *condition)
{
	for (int i = 0; i < (int) lengthof(words); i++)
		if (strcmp(words[i].name, word) == 0)
		{
			condition->kind = words[i].kind;
			if (compiler->several)
				cs_fault_set(compiler, "is about several contacts: \"%s\" must be within {\"$each\": ...}", word);
			return;
		}
	cs_fault_set(compiler, "must be \"claims\", \"claims_if_new\", \"withdraws\", \"wants\", \"known\", \"new\", \"opted_out\" or an object");
}

static void
compile_list(CsCompiler *compiler, CsJson *json, CsCondition *condition)
{
	if (!cs_fault_is_array(compiler, json, 16))
		return;
	condition->n = cs_json_length(json);
	condition->parts = palloc0(Max(condition->n, 1) * sizeof(CsCondition));
	for (int i = 0; i < condition->n; i++)
	{
		int			mark = cs_fault_enter_item(compiler, i);

		cs_condition_compile(compiler, cs_json_item(json, i), &condition->parts[i]);
		cs_fault_leave(compiler, mark);
	}
}

static void
compile_option(CsCompiler *compiler, const Parts *parts, CsCondition *condition)
{
	condition->kind = CS_IF_OPTION;
	condition->values = parts->is;
	cs_place_compile_piece(compiler, psprintf("option.%s", parts->option), CS_IN_BODY, &condition->piece);
}

void
cs_condition_compile(CsCompiler *compiler, CsJson *json, CsCondition *condition)
{
	Parts		parts = {NULL};
	int			given;

	memset(condition, 0, sizeof(CsCondition));
	if (++compiler->nodes > 2000)
		cs_fault_set(compiler, "is one part too many: a definition can have 2000");
	if (cs_json_string(json))
	{
		compile_word(compiler, cs_json_string(json), condition);
		return;
	}
	cs_fault_read(compiler, json, members, &parts);
	given = (parts.has != NULL) + (parts.option != NULL) + (parts.not != NULL) + (parts.all != NULL) + (parts.any != NULL);
	if (given != 1 || (parts.is && !parts.option))
		cs_fault_set(compiler, "must have one of has, option, not, all and any; \"is\" goes with option");
	if (compiler->fault)
		return;
	if (parts.has)
	{
		condition->kind = CS_IF_HAS;
		cs_place_compile_piece(compiler, parts.has, CS_IN_BODY, &condition->piece);
	}
	else if (parts.option)
		compile_option(compiler, &parts, condition);
	else if (parts.not)
	{
		condition->kind = CS_IF_NOT;
		condition->n = 1;
		condition->parts = palloc0(sizeof(CsCondition));
		cs_condition_compile(compiler, parts.not, condition->parts);
	}
	else
	{
		condition->kind = parts.all ? CS_IF_ALL : CS_IF_ANY;
		compile_list(compiler, parts.all ? parts.all : parts.any, condition);
	}
}

/* ---------- what a contact says ---------- */

bool
cs_condition_withdraws(const CsContact *contact)
{
	return contact->action == CS_UNSUBSCRIBE || contact->drops_consent ||
		contact->consent == CS_CONSENT_NO;
}

bool
cs_condition_claims(const CsContact *contact)
{
	return contact->action == CS_UPSERT && contact->consent == CS_CONSENT_YES &&
		!contact->drops_consent && contact->claim == CS_CLAIM;
}

bool
cs_condition_claims_if_new(const CsContact *contact)
{
	return contact->action == CS_UPSERT && contact->consent == CS_CONSENT_YES &&
		!contact->drops_consent && contact->claim != CS_CLAIM_NOT && !contact->opted_out && !contact->claimed;
}

static bool
has_option(const CsCondition *condition, const CsScope *scope)
{
	const char *value = cs_place_value(&condition->piece, scope);

	if (value == NULL || condition->values == NULL)
		return value != NULL;
	for (int i = 0; condition->values[i]; i++)
		if (strcmp(condition->values[i], value) == 0)
			return true;
	return false;
}

static bool
has_value(const CsPiece *piece, const CsScope *scope)
{
	if (piece->source == CS_FROM_FIELD && piece->field == CS_ATTRIBUTES)
		return scope->contact && scope->contact->nattributes > 0;
	return cs_place_value(piece, scope) != NULL;
}

bool
cs_condition_holds(const CsCondition *condition, const CsScope *scope)
{
	const CsContact *contact = scope->contact;
	bool		all = condition->kind == CS_IF_ALL;

	switch (condition->kind)
	{
		case CS_IF_CLAIMS:
			return contact && cs_condition_claims(contact);
		case CS_IF_CLAIMS_IF_NEW:
			return contact && cs_condition_claims_if_new(contact);
		case CS_IF_WITHDRAWS:
			return contact && cs_condition_withdraws(contact);
		case CS_IF_WANTS:
			return contact && contact->action == CS_UPSERT && contact->consent == CS_CONSENT_YES;
		case CS_IF_KNOWN:
			return contact && contact->known;
		case CS_IF_NEW:
			return contact && contact->is_new;
		case CS_IF_OPTED_OUT:
			return contact && contact->opted_out;
		case CS_IF_HAS:
			return has_value(&condition->piece, scope);
		case CS_IF_OPTION:
			return has_option(condition, scope);
		case CS_IF_NOT:
			return !cs_condition_holds(condition->parts, scope);
		case CS_IF_ALL:
		case CS_IF_ANY:
			for (int i = 0; i < condition->n; i++)
				if (cs_condition_holds(&condition->parts[i], scope) != all)
					return !all;
			return all;
	}
	return false;
}
