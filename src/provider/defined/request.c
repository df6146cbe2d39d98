/*-------------------------------------------------------------------------
 *
 * request.c
 *		What the service of a definition is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/defined/condition.h"
#include "provider/defined/pair.h"
#include "provider/defined/place.h"
#include "provider/defined/pointer.h"
#include "provider/defined/render.h"
#include "provider/defined/request.h"
#include "provider/defined/step.h"
#include "provider/defined/template.h"
#include "provider/email.h"

/* A contact whose part of a body could be larger is refused. */
#define MAX_WEIGHT	(4 * 1024 * 1024)

const CsDefined *
cs_request_definition(const CsEndpoint *endpoint)
{
	return (const CsDefined *) endpoint->provider;
}

/* ---------- steps ---------- */

int
cs_request_route(const CsEndpoint *endpoint, CsAction action, int step, const CsContact *contact)
{
	const CsActionSteps *steps = &cs_request_definition(endpoint)->actions[action];
	CsScope		scope = {.endpoint = endpoint,.contact = contact};

	/* conditions lead forward only, see rule.c */
	while (step != CS_NEXT_NONE && step < steps->n && steps->steps[step].condition &&
		   !cs_condition_holds(steps->steps[step].condition, &scope))
		step = steps->steps[step].otherwise;
	return step;
}

int
cs_request_first_step(const CsEndpoint *endpoint, const CsContact *contact)
{
	return cs_request_route(endpoint, contact->action, 0, contact);
}

/* The contacts of a batch begin with the same step; a later one was chosen by the answer before it. */
const CsStep *
cs_request_step(const CsEndpoint *endpoint, const CsBatch *batch)
{
	const CsActionSteps *steps = &cs_request_definition(endpoint)->actions[batch->action];
	int			step = batch->step;

	if (steps->n == 0)
		return NULL;
	if (step <= 0 || step >= steps->n)
		step = cs_request_route(endpoint, batch->action, 0, batch->contacts[0]);
	return &steps->steps[step];
}

int
cs_request_batch_limit(const CsEndpoint *endpoint, CsAction action, int step)
{
	const CsActionSteps *steps = &cs_request_definition(endpoint)->actions[action];

	return step >= 0 && step < steps->n ? steps->steps[step].batch : 1;
}

const char *
cs_request_lacks(const CsEndpoint *endpoint, const CsStep *step, const CsContact *contact)
{
	CsScope		scope = {.endpoint = endpoint,.contact = contact};
	const CsPiece *missing = cs_place_missing(&step->path, CS_IN_PATH, &scope);

	return missing ? cs_place_name(missing) : NULL;
}

/* ---------- contacts ---------- */

/* Of a removal only the upsert key may be known. */
static void
complete_removal(const CsDefined *definition, CsContact *contact)
{
	bool		is_address = definition->identity == CS_BY_EMAIL ||
	(definition->identity == CS_BY_EITHER && contact->upsert_key && strchr(contact->upsert_key, '@'));

	if (contact->upsert_key && contact->value[CS_EXTERNAL_ID] == NULL && contact->value[CS_EMAIL] == NULL)
		cs_contact_set(contact, is_address ? CS_EMAIL : CS_EXTERNAL_ID, contact->upsert_key);
}

static CsRefusal *
set_key(const CsDefined *definition, CsContact *contact)
{
	char	   *id = contact->value[CS_EXTERNAL_ID];
	char	   *email = contact->value[CS_EMAIL];

	if (id && *id == '\0')
		contact->value[CS_EXTERNAL_ID] = id = NULL;
	if (definition->identity == CS_BY_EMAIL)
		contact->upsert_key = email ? cs_email_normalize(email) : NULL;
	else
		contact->upsert_key = id || definition->identity == CS_BY_EXTERNAL_ID ? id : email;
	if (contact->upsert_key)
		return NULL;
	return cs_contact_refuse(CS_REASON_MISSING_FIELD,
							 definition->identity == CS_BY_EXTERNAL_ID ? "external_id" : "email",
							 "%s finds contacts by %s, which is missing", definition->provider.title,
							 definition->identity == CS_BY_EXTERNAL_ID ? "external_id" : "email");
}

static const char *
find_word(const char **words, const char *text, size_t len)
{
	for (int i = 0; words[i]; i++)
		if (strlen(words[i]) == len && pg_strncasecmp(words[i], text, len) == 0)
			return words[i];
	return NULL;
}

static CsRefusal *
check_words(const CsDefined *definition, CsContact *contact, CsField field)
{
	const CsFieldRule *rule = &definition->field_rules[field];
	const char *value = contact->value[field];
	const char *word = find_word(rule->words, value, strlen(value));

	if (word == NULL && rule->unlisted == CS_UNLISTED_REJECT)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, cs_contact_field_name(field),
								 "%s does not accept this %s", definition->provider.title, cs_contact_field_name(field));
	if (word == NULL && rule->unlisted == CS_UNLISTED_BASE)
		word = find_word(rule->words, value, strcspn(value, "-_.@"));
	if (word)
		cs_contact_set(contact, field, word);
	else
	{
		contact->value[field] = NULL;
		contact->present &= ~CS_FIELD_BIT(field);
	}
	return NULL;
}

static CsRefusal *
check_fields(const CsDefined *definition, CsContact *contact)
{
	CsRefusal  *refusal = NULL;

	for (int i = 0; i < CS_ATTRIBUTES && refusal == NULL; i++)
	{
		const CsFieldRule *rule = &definition->field_rules[i];

		if (contact->value[i] == NULL)
			continue;
		if (rule->max_length > 0)
			refusal = cs_contact_check_length(contact, i, rule->max_length);
		if (refusal == NULL && rule->words)
			refusal = check_words(definition, contact, i);
	}
	return refusal;
}

/* Refuse attributes that would take the place of what the definition writes itself. */
static CsRefusal *
check_attributes(const CsDefined *definition, const CsContact *contact)
{
	const CsActionSteps *steps = &definition->actions[CS_UPSERT];

	for (int i = 0; i < contact->nattributes; i++)
		for (int j = 0; j < steps->n; j++)
			if (cs_template_reserves(steps->steps[j].body, contact->attributes[i].name))
				return cs_contact_refuse(CS_REASON_INVALID_FIELD, contact->attributes[i].name,
										 "%s has no attribute \"%s\": the definition writes something else there",
										 definition->provider.title, contact->attributes[i].name);
	return NULL;
}

/*
 * Weigh the contact by what a body could have of it, so that no batch becomes too large
 * however often a definition repeats a value.  An element of a list has two bytes at
 * least.
 */
static CsRefusal *
weigh(const CsDefined *definition, CsContact *contact)
{
	const CsActionSteps *steps = &definition->actions[contact->action];
	size_t		weight = contact->size;

	for (int i = 0; i < steps->n; i++)
	{
		const CsStep *step = &steps->steps[i];
		size_t		list = step->lists ? contact->size / 2 * step->list_constants : 0;

		weight = Max(weight, step->constants + contact->size * Max(step->references, 1) + list);
	}
	contact->size = weight;
	if (weight <= MAX_WEIGHT)
		return NULL;
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL,
							 "the contact is too large for the definition, which repeats its values");
}

/* The first step of the contact must be possible. */
static CsRefusal *
check_path(const CsEndpoint *endpoint, const CsContact *contact)
{
	const CsDefined *definition = cs_request_definition(endpoint);
	const CsActionSteps *steps = &definition->actions[contact->action];
	const CsStep *step = steps->n > 0 ? &steps->steps[cs_request_first_step(endpoint, contact)] : NULL;
	CsScope		scope = {.endpoint = endpoint,.contact = contact};
	const char *lacks = step ? cs_request_lacks(endpoint, step, contact) : NULL;
	bool		is_missing = lacks && cs_place_missing(&step->path, CS_IN_BODY, &scope);

	if (step == NULL)
		return cs_contact_refuse(CS_REASON_INVALID_FIELD, NULL, "%s cannot %s contacts", definition->provider.title,
								 contact->action == CS_DELETE ? "delete" : "unsubscribe");
	for (int i = 0; step && i < CS_FIELD_COUNT; i++)
		if ((step->needs & CS_FIELD_BIT(i)) && cs_contact_is_null(contact, i))
			return cs_contact_refuse(CS_REASON_MISSING_FIELD, cs_contact_field_name(i), "%s needs %s, which is not known",
									 definition->provider.title, cs_contact_field_name(i));
	if (lacks)
		return cs_contact_refuse(is_missing ? CS_REASON_MISSING_FIELD : CS_REASON_INVALID_FIELD, lacks,
								 is_missing ? "%s needs %s in the path of the request, which is not known" :
								 "%s needs %s in the path of the request, where it cannot be longer than 1000 bytes, or \".\" or \"..\"",
								 definition->provider.title, lacks);
	return NULL;
}

CsRefusal *
cs_request_prepare(const CsEndpoint *endpoint, CsContact *contact)
{
	const CsDefined *definition = cs_request_definition(endpoint);
	CsRefusal  *refusal;

	if (contact->action != CS_UPSERT)
		complete_removal(definition, contact);
	refusal = set_key(definition, contact);
	if (refusal == NULL && contact->action == CS_UPSERT)
		refusal = check_fields(definition, contact);
	if (refusal == NULL && contact->action == CS_UPSERT)
		refusal = check_attributes(definition, contact);
	/* conditions ask for it, and it is set after this */
	contact->consent = cs_contact_consent(contact);
	if (refusal == NULL)
		refusal = check_path(endpoint, contact);
	return refusal ? refusal : weigh(definition, contact);
}

/* ---------- requests ---------- */

static char *
make_url(const CsStep *step, const CsScope *scope)
{
	StringInfoData url;

	initStringInfo(&url);
	appendStringInfoString(&url, scope->endpoint->base_url);
	cs_place_render(&url, &step->path, CS_IN_PATH, scope);
	cs_pair_append_query(&url, step->nquery, step->query, scope, "?");
	return url.data;
}

static void
write_body(CsRequest *request, const CsStep *step, const CsScope *scope)
{
	const char *type = step->form ? "application/x-www-form-urlencoded" : "application/json";

	if (step->body == NULL && step->form == NULL)
		return;
	initStringInfo(&request->body);
	if (step->body)
		cs_render_body(&request->body, step->body, scope);
	else
		cs_pair_append_query(&request->body, step->nform, step->form, scope, "");
	cs_message_add_header(request, "Content-Type", step->content_type ? step->content_type : type);
}

static void
build(const CsDefined *definition, const CsStep *step, CsScope *scope, CsRequest *request)
{
	request->method = cs_step_methods[step->method];
	request->url = make_url(step, scope);
	if (!cs_pair_has_header(definition->nheaders, definition->headers, "Accept") && !cs_pair_has_header(step->nheaders, step->headers, "Accept"))
		cs_message_add_header(request, "Accept", "application/json");
	write_body(request, step, scope);
	if (scope->batch && request->body.data && (definition->provider.abilities & CS_HAS_IDEMPOTENCY))
		scope->idempotency_key = request->idempotency_key =
			cs_provider_idempotency_key(scope->batch, &request->body);
	cs_pair_add_headers(request, definition->nheaders, definition->headers, scope);
	cs_pair_add_headers(request, step->nheaders, step->headers, scope);
}

void
cs_request_build(const CsEndpoint *endpoint, const CsBatch *batch, CsRequest *request)
{
	CsScope		scope = {.endpoint = endpoint,.batch = batch,.contact = batch->contacts[0]};

	build(cs_request_definition(endpoint), cs_request_step(endpoint, batch), &scope, request);
}

bool
cs_request_build_lookup(const CsEndpoint *endpoint, const CsContact *contact, CsRequest *request)
{
	const CsDefined *definition = cs_request_definition(endpoint);
	CsScope		scope = {.endpoint = endpoint,.contact = contact};

	if (definition->lookup == NULL || cs_request_lacks(endpoint, definition->lookup, contact))
		return false;
	for (int i = 0; i < definition->lookup->nquery; i++)
		if (cs_place_missing(&definition->lookup->query[i].text, CS_IN_QUERY, &scope))
			return false;
	build(definition, definition->lookup, &scope, request);
	cs_pointer_begin();			/* for the contact that the answer has */
	return true;
}

void
cs_request_build_pull(const CsEndpoint *endpoint, const CsPull *pull, CsRequest *request)
{
	const CsDefined *definition = cs_request_definition(endpoint);
	CsScope		scope = {.endpoint = endpoint,.pull = pull,.page_size = definition->listing->page_size};

	build(definition, &definition->listing->request, &scope, request);
}
