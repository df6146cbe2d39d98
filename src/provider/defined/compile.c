/*-------------------------------------------------------------------------
 *
 * compile.c
 *		Compiling a definition into a provider.
 *
 * What a definition does not say, the provider does not do.  If it does not say that
 * creating a contact subscribes nobody, whoever did not consent is not created.  If no
 * template says what the person wants, opt_in cannot be mapped.  And what claims consent
 * has to be able to withdraw it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/formatting.h"
#include "utils/memutils.h"

#include "base/text.h"
#include "provider/defined/answer.h"
#include "provider/defined/compile.h"
#include "provider/defined/condition.h"
#include "provider/defined/facts.h"
#include "provider/defined/fault.h"
#include "provider/defined/options.h"
#include "provider/defined/pair.h"
#include "provider/defined/place.h"
#include "provider/defined/pointer.h"
#include "provider/defined/remote.h"
#include "provider/defined/request.h"
#include "provider/defined/step.h"

/* ---------- the parts ---------- */

typedef struct Parts
{
	CsJson	   *schema;
	const char *title;
	const char *notes;
	const char *base_url;
	CsJson	   *auth;
	CsJson	   *sign;
	CsJson	   *options;
	const char *account_option;
	CsJson	   *fields;
	CsJson	   *required;
	int			identity;
	bool		unique_email;
	CsJson	   *limits;
	CsJson	   *headers;
	CsJson	   *consent;
	const char *bulk_risk;
	bool		replaces;
	CsJson	   *steps[3];		/* by CsAction */
	CsJson	   *lookup;
	CsJson	   *pull;
	CsJson	   *contact;
	CsJson	   *error;
	CsJson	   *wait;
	const char *request_id;
	CsJson	   *examples;
} Parts;

static const char *const identities[] = {
	[CS_BY_EMAIL] = "email",
	[CS_BY_EXTERNAL_ID] = "external_id",
	[CS_BY_EITHER] = "external_id or email",
	NULL
};

#define PART(name) offsetof(Parts, name)

static const CsMember members[] = {
	{"$schema", CS_MEMBER_JSON, PART(schema)},
	{"title", CS_MEMBER_TEXT, PART(title),.max = 60,.required = true},
	{"notes", CS_MEMBER_TEXT, PART(notes),.max = 4000},
	{"base_url", CS_MEMBER_TEXT, PART(base_url),.max = 500},
	{"auth", CS_MEMBER_JSON, PART(auth),.required = true},
	{"sign", CS_MEMBER_JSON, PART(sign)},
	{"options", CS_MEMBER_JSON, PART(options)},
	{"account_option", CS_MEMBER_TEXT, PART(account_option),.max = 40},
	{"fields", CS_MEMBER_JSON, PART(fields),.required = true},
	{"required", CS_MEMBER_JSON, PART(required)},
	{"identity", CS_MEMBER_WORD, PART(identity),.words = identities,.required = true},
	{"unique_email", CS_MEMBER_BOOL, PART(unique_email)},
	{"limits", CS_MEMBER_JSON, PART(limits)},
	{"headers", CS_MEMBER_JSON, PART(headers)},
	{"consent", CS_MEMBER_JSON, PART(consent)},
	{"bulk_risk", CS_MEMBER_TEXT, PART(bulk_risk),.max = 300},
	{"replaces", CS_MEMBER_BOOL, PART(replaces)},
	{"upsert", CS_MEMBER_JSON, PART(steps[CS_UPSERT]),.required = true},
	{"unsubscribe", CS_MEMBER_JSON, PART(steps[CS_UNSUBSCRIBE])},
	{"delete", CS_MEMBER_JSON, PART(steps[CS_DELETE])},
	{"lookup", CS_MEMBER_JSON, PART(lookup)},
	{"pull", CS_MEMBER_JSON, PART(pull)},
	{"contact", CS_MEMBER_JSON, PART(contact)},
	{"error", CS_MEMBER_JSON, PART(error)},
	{"wait", CS_MEMBER_JSON, PART(wait)},
	{"request_id", CS_MEMBER_TEXT, PART(request_id),.max = 64},
	{"examples", CS_MEMBER_JSON, PART(examples)},
	{NULL}
};

static const char *const action_names[] = {
	[CS_UPSERT] = "upsert",
	[CS_UNSUBSCRIBE] = "unsubscribe",
	[CS_DELETE] = "delete"
};

/* ---------- where calls go ---------- */

/* The host is fixed, but for labels of it that options give. */
static void
compile_base_url(CsCompiler *compiler, const char *url, CsDefined *definition)
{
	int			mark = cs_fault_enter(compiler, "base_url");
	const char *problem;
	bool		plain = true;

	if (url)
	{
		cs_place_compile(compiler, url, CS_IN_BASE_URL, &definition->base_url);
		for (int i = 0; i < definition->base_url.n; i++)
			plain &= definition->base_url.pieces[i].source == CS_FROM_TEXT;
		if (strncmp(url, "https://", 8) != 0 || strchr(url, '@'))
			cs_fault_set(compiler, "must begin with https://");
		problem = plain ? cs_option_check_base_url(url) : NULL;
		if (problem)
			cs_fault_set(compiler, "%s", problem);
		definition->provider.base_url = url;
		definition->provider.expand_url = plain ? NULL : cs_options_base_url;
	}
	cs_fault_leave(compiler, mark);
}

static void
compile_headers(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	int			mark = cs_fault_enter(compiler, "headers");

	if (json)
		cs_pair_compile(compiler, json, CS_IN_HEADER, &definition->nheaders, &definition->headers);
	cs_fault_leave(compiler, mark);
}

/* ---------- answers ---------- */

typedef struct Error
{
	CsPointer  *message;
	CsPointer  *code;
	CsPointer  *field;
} Error;

static const CsMember error_members[] = {
	{"message", CS_MEMBER_READ, offsetof(Error, message),.read = cs_pointer_compile},
	{"code", CS_MEMBER_READ, offsetof(Error, code),.read = cs_pointer_compile},
	{"field", CS_MEMBER_READ, offsetof(Error, field),.read = cs_pointer_compile},
	{NULL}
};

static const char *const wait_units[] = {
	[CS_WAIT_SECONDS] = "seconds",
	[CS_WAIT_MILLISECONDS] = "milliseconds",
	[CS_WAIT_UNIX] = "unix",
	NULL
};

typedef struct Wait
{
	const char *header;
	int			unit;
} Wait;

static const CsMember wait_members[] = {
	{"header", CS_MEMBER_TEXT, offsetof(Wait, header),.max = 64,.required = true},
	{"unit", CS_MEMBER_WORD, offsetof(Wait, unit),.words = wait_units,.required = true},
	{NULL}
};

static char *
lower(const char *text)
{
	return text ? asc_tolower(text, strlen(text)) : NULL;
}

static void
compile_answers(CsCompiler *compiler, const Parts *parts, CsDefined *definition)
{
	int			mark = cs_fault_enter(compiler, "error");
	Error		error = {NULL};
	Wait		wait = {NULL};

	if (parts->error)
		cs_fault_read(compiler, parts->error, error_members, &error);
	cs_fault_leave(compiler, mark);
	mark = cs_fault_enter(compiler, "wait");
	if (parts->wait)
		cs_fault_read(compiler, parts->wait, wait_members, &wait);
	cs_fault_leave(compiler, mark);
	definition->error_message = error.message;
	definition->error_code = error.code;
	definition->error_field = error.field;
	definition->wait_header = lower(wait.header);
	definition->wait_unit = wait.unit;
	definition->request_id = lower(parts->request_id);
}

/* ---------- consent ---------- */

static const char *const creatings[] = {"mailable", "nothing", NULL};
static const char *const opt_out_words[] = {"keep", "delete", NULL};

typedef struct Consent
{
	int			creating;
	const char *why;
	CsJson	   *unless;
	int			on_opt_out;
} Consent;

static const CsMember consent_members[] = {
	{"creating", CS_MEMBER_WORD, offsetof(Consent, creating),.words = creatings,.required = true},
	{"why", CS_MEMBER_TEXT, offsetof(Consent, why),.max = 300},
	{"unless", CS_MEMBER_JSON, offsetof(Consent, unless)},
	{"on_opt_out", CS_MEMBER_WORD, offsetof(Consent, on_opt_out),.words = opt_out_words},
	{NULL}
};

/* Do the steps that write a contact say what the person wants? */
static void
find_words(const CsActionSteps *steps, bool *yes, bool *no)
{
	*yes = *no = false;
	for (int i = 0; i < steps->n; i++)
	{
		*yes |= steps->steps[i].claims || steps->steps[i].claims_if_new;
		*no |= steps->steps[i].withdraws;
	}
}

static void
check_words(CsCompiler *compiler, const CsDefined *definition)
{
	bool		carried = (definition->provider.fields & CS_FIELD_BIT(CS_OPT_IN)) != 0;
	bool		mailable = definition->provider.mails_whoever_exists != NULL;
	bool		yes;
	bool		no;

	find_words(&definition->actions[CS_UPSERT], &yes, &no);
	if (yes && !no)
		cs_fault_set(compiler, "has a {\"$consent\": ...} with \"yes\" or \"if_new\", but none with \"no\": what claims must be able to withdraw");
	else if ((yes || no) && !carried)
		cs_fault_set(compiler, "has a {\"$consent\": ...}, so \"fields\" must have opt_in");
	else if (carried && !yes && !mailable)
		cs_fault_set(compiler, "has opt_in among \"fields\", but no {\"$consent\": ...} in \"upsert\" that sends it");
	else if (carried && !no && !definition->deletes_opt_outs)
		cs_fault_set(compiler, "has opt_in among \"fields\", but does not withdraw it: a {\"$consent\": ...} with \"no\", or \"on_opt_out\": \"delete\"");
}

static bool
deletes_opt_outs(const CsEndpoint *endpoint)
{
	return cs_request_definition(endpoint)->deletes_opt_outs;
}

static bool
implies_consent(const CsEndpoint *endpoint)
{
	return cs_provider_mails_whoever_exists(endpoint) != NULL;
}

static bool
mails_by_consent(const CsEndpoint *endpoint)
{
	CsScope		scope = {.endpoint = endpoint};

	return cs_condition_holds(cs_request_definition(endpoint)->mails_by_consent, &scope);
}

/* Is a condition about options only? */
static bool
is_of_options(const CsCondition *condition)
{
	for (int i = 0; i < condition->n; i++)
		if (!is_of_options(&condition->parts[i]))
			return false;
	return condition->n > 0 || condition->kind == CS_IF_OPTION;
}

/* The user of the definition can know that creating a contact subscribes nobody at the account. */
static void
compile_unless(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	int			mark = cs_fault_enter(compiler, "unless");

	definition->mails_by_consent = palloc0(sizeof(CsCondition));
	cs_condition_compile(compiler, json, definition->mails_by_consent);
	if (compiler->fault == NULL && !is_of_options(definition->mails_by_consent))
		cs_fault_set(compiler, "must be about options only");
	cs_fault_leave(compiler, mark);
	definition->provider.mails_by_consent = mails_by_consent;
}

static void
compile_consent(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	CsProvider *provider = &definition->provider;
	Consent		consent = {0};
	int			mark = cs_fault_enter(compiler, "consent");

	if (json)
		cs_fault_read(compiler, json, consent_members, &consent);
	if (consent.unless && consent.creating != 0)
		cs_fault_set(compiler, "must have \"creating\": \"mailable\" to have \"unless\"");
	if (consent.unless && compiler->fault == NULL)
		compile_unless(compiler, consent.unless, definition);
	cs_fault_leave(compiler, mark);
	if (consent.creating == 0)
	{
		provider->mails_whoever_exists = consent.why ? consent.why :
			psprintf("The definition of %s does not say that creating a contact subscribes nobody.", provider->title);
		provider->implies_consent = implies_consent;
	}
	definition->deletes_opt_outs = consent.on_opt_out != 0;
	if (definition->deletes_opt_outs && definition->actions[CS_DELETE].n == 0)
		cs_fault_set(compiler, "has \"on_opt_out\": \"delete\", so it needs \"delete\"");
	if (definition->deletes_opt_outs)
		provider->deletes_opt_outs = deletes_opt_outs;
	check_words(compiler, definition);
}

/* ---------- behaviour ---------- */

static const char *
bulk_risk(const CsEndpoint *endpoint, uint32 fields)
{
	return cs_request_definition(endpoint)->bulk_risk;
}

static bool
replaces(const CsEndpoint *endpoint)
{
	return true;
}

static const CsOption *
find_option(const CsOption *options, const char *name)
{
	for (; options->name; options++)
		if (strcmp(options->name, name) == 0)
			return options;
	return NULL;
}

static void
compile_account(CsCompiler *compiler, const char *name, CsProvider *provider)
{
	int			mark = cs_fault_enter(compiler, "account_option");

	if (name && find_option(provider->options, name) == NULL)
		cs_fault_set(compiler, "must be among \"options\"");
	provider->account_option = name;
	cs_fault_leave(compiler, mark);
}

/* Contacts can begin with the first step, and with those that stand for it. */
static void
set_first_steps(const CsActionSteps *steps, CsAction action, CsProvider *provider)
{
	const CsStep *step = &steps->steps[0];

	if (step->condition)
		provider->first_step = cs_request_first_step;
	if (action != CS_UPSERT)
		return;
	provider->max_batch = step->batch;
	for (; step->condition; step = &steps->steps[step->otherwise])
		provider->max_batch = Max(provider->max_batch, steps->steps[step->otherwise].batch);
}

static void
compile_steps(CsCompiler *compiler, const Parts *parts, CsDefined *definition)
{
	CsProvider *provider = &definition->provider;

	for (CsAction action = CS_UPSERT; action <= CS_DELETE; action++)
	{
		CsActionSteps *steps = &definition->actions[action];
		int			mark = cs_fault_enter(compiler, action_names[action]);

		if (parts->steps[action])
			cs_step_compile_all(compiler, parts->steps[action], steps);
		cs_fault_leave(compiler, mark);
		for (int i = 0; i < steps->n; i++)
		{
			if (cs_pair_has_key(steps->steps[i].nheaders, steps->steps[i].headers))
				provider->abilities |= CS_HAS_IDEMPOTENCY;
			if (definition->nheaders + steps->steps[i].nheaders > CS_DEFINED_MAX_HEADERS)
				cs_fault_set(compiler, "has too many headers: with those of all requests there can be %d", CS_DEFINED_MAX_HEADERS);
		}
	}
	if (cs_pair_has_key(definition->nheaders, definition->headers))
		provider->abilities |= CS_HAS_IDEMPOTENCY;
	if (definition->actions[CS_UNSUBSCRIBE].n > 0)
		provider->abilities |= CS_CAN_UNSUBSCRIBE;
	if (definition->actions[CS_DELETE].n > 0)
		provider->abilities |= CS_CAN_DELETE;
	provider->max_batch = 1;
	for (CsAction action = CS_UPSERT; action <= CS_DELETE; action++)
		if (definition->actions[action].n > 0 && compiler->fault == NULL)
			set_first_steps(&definition->actions[action], action, provider);
}

static void
set_identity(CsCompiler *compiler, const Parts *parts, CsDefined *definition)
{
	CsProvider *provider = &definition->provider;
	int			mark = cs_fault_enter(compiler, "required");

	definition->identity = (CsIdentity) parts->identity;
	if (parts->required)
		provider->required = cs_facts_compile_field_list(compiler, parts->required);
	cs_fault_leave(compiler, mark);
	provider->required |= definition->identity == CS_BY_EXTERNAL_ID ? CS_FIELD_BIT(CS_EXTERNAL_ID) : CS_FIELD_BIT(CS_EMAIL);
	if (provider->required & ~provider->fields)
		cs_fault_set(compiler, "must have %s among \"fields\"",
					 cs_contact_field_list(provider->required & ~provider->fields));
	if (definition->identity == CS_BY_EITHER && !(provider->fields & CS_FIELD_BIT(CS_EXTERNAL_ID)))
		cs_fault_set(compiler, "must have external_id among \"fields\"");
	if (parts->unique_email)
		provider->abilities |= CS_UNIQUE_EMAIL;
}

static void
compile_all(CsCompiler *compiler, const Parts *parts, CsDefined *definition)
{
	CsProvider *provider = &definition->provider;

	provider->title = parts->title;
	provider->options = compiler->options = cs_facts_compile_options(compiler, parts->options);
	cs_facts_compile_auth(compiler, parts->auth, definition);
	cs_facts_compile_signing(compiler, parts->sign, definition);
	cs_facts_compile_fields(compiler, parts->fields, definition);
	cs_facts_compile_limits(compiler, parts->limits, definition);
	set_identity(compiler, parts, definition);
	compile_base_url(compiler, parts->base_url, definition);
	compile_account(compiler, parts->account_option, provider);
	compile_headers(compiler, parts->headers, definition);
	if (compiler->fault == NULL)
		compile_steps(compiler, parts, definition);
	if (compiler->fault == NULL)
		compile_consent(compiler, parts->consent, definition);
	compile_answers(compiler, parts, definition);
	if (compiler->fault == NULL)
		cs_remote_compile(compiler, parts->contact, parts->lookup, parts->pull, definition);
	definition->bulk_risk = parts->bulk_risk;
	if (parts->bulk_risk)
		provider->bulk_risk = bulk_risk;
	if (parts->replaces)
		provider->replaces = replaces;
}

static uint64
hash_json(CsJson *json)
{
	return cs_text_hash(json ? cs_json_dump(json) : "", 0);
}

bool
cs_compile_is_name(const char *name)
{
	size_t		len = strlen(name);

	return len > 0 && len <= 40 && name[0] >= 'a' && name[0] <= 'z' &&
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

CsProvider *
cs_compile_definition(const char *name, const char *utf8, CsDefinitionFault *fault)
{
	CsDefined  *definition = palloc0(sizeof(CsDefined));
	CsProvider *provider = &definition->provider;
	CsCompiler	compiler = {{0}};
	Parts		parts = {NULL};
	MemoryContext document = AllocSetContextCreate(CurrentMemoryContext, "contactsync definition", ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	CsJson	   *json = NULL;

	initStringInfo(&compiler.path);
	if (strlen(utf8) > CS_DEFINITION_MAX_BYTES)
		cs_fault_set(&compiler, "must have at most %d kB", CS_DEFINITION_MAX_BYTES / 1024);
	else
	{
		old = MemoryContextSwitchTo(document);
		json = cs_json_parse(utf8, strlen(utf8));
		MemoryContextSwitchTo(old);
	}
	if (json == NULL)
		cs_fault_set(&compiler, "must be a JSON object, nested at most %d deep", CS_JSON_MAX_DEPTH);
	cs_fault_read(&compiler, json, members, &parts);
	if (compiler.fault == NULL)
		compile_all(&compiler, &parts, definition);
	if (compiler.fault)
	{
		fault->path = compiler.fault_path;
		fault->problem = compiler.fault;
		MemoryContextDelete(document);
		return NULL;
	}
	provider->name = pstrdup(name);
	provider->hash = hash_combine64(hash_json(json), cs_text_hash(name, 0)) | 1;
	provider->payload = hash_json(parts.steps[CS_UPSERT]);
	provider->build = cs_request_build;
	provider->judge = cs_defined_answer_judge;
	provider->prepare = cs_request_prepare;
	provider->batch_limit = cs_request_batch_limit;
	provider->check_options = cs_options_check;
	MemoryContextDelete(document);
	return provider;
}
