/*-------------------------------------------------------------------------
 *
 * facts.c
 *		The facts of a definition: options, authorization, fields, limits.
 *
 * The options that a definition declares are options of servers, which everybody can
 * read.  Secrets have fixed names and are options of user mappings, so that whatever
 * keeps them secret knows them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "provider/defined/facts.h"
#include "provider/defined/place.h"

#define MAX_OPTIONS		32
#define MAX_PRESETS		4

/* ---------- options ---------- */

enum
{
	TYPE_TEXT,
	TYPE_LABEL,
	TYPE_WORD,
	TYPE_BOOLEAN,
	TYPE_INTEGER
};

static const char *const option_types[] = {"text", "label", "word", "boolean", "integer", NULL};

typedef struct Option
{
	const char *help;
	int			type;
	const char **words;
	const char *preset;
	bool		required;
	bool		account;
} Option;

static const CsMember option_members[] = {
	{"help", CS_MEMBER_TEXT, offsetof(Option, help),.max = 300,.required = true},
	{"type", CS_MEMBER_WORD, offsetof(Option, type),.words = option_types},
	{"words", CS_MEMBER_WORDS, offsetof(Option, words)},
	{"default", CS_MEMBER_TEXT, offsetof(Option, preset),.max = 200},
	{"required", CS_MEMBER_BOOL, offsetof(Option, required)},
	{NULL}
};

static bool
is_in(const CsOption *table, const char *name)
{
	for (; table->name; table++)
		if (strcmp(table->name, name) == 0)
			return true;
	return false;
}

static void
check_option_name(CsCompiler *compiler, const char *name)
{
	size_t		len = strlen(name);

	if (len == 0 || len > 40 || name[0] < 'a' || name[0] > 'z' ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != len)
		cs_fault_set(compiler, "must be called by lower-case letters, digits and _");
	else if (is_in(cs_option_common, name) || is_in(cs_option_bearer, name) || is_in(cs_option_oauth, name) ||
			 is_in(cs_option_basic, name) || is_in(cs_option_signing, name))
		cs_fault_set(compiler, "must not be called like an option that all providers have, or like a secret");
}

static CsOptionCheck
check_of(int type)
{
	switch (type)
	{
		case TYPE_LABEL:
			return cs_option_check_label;
		case TYPE_BOOLEAN:
			return cs_option_check_boolean;
		case TYPE_INTEGER:
			return cs_option_check_integer;
		default:
			return cs_option_check_line;
	}
}

typedef struct OptionVisit
{
	CsCompiler *compiler;
	CsOption   *options;
	int			n;
} OptionVisit;

static bool
compile_option(const char *name, CsJson *value, void *arg)
{
	OptionVisit *visit = arg;
	CsCompiler *compiler = visit->compiler;
	int			mark = cs_fault_enter(compiler, name);
	CsOption   *out = &visit->options[visit->n];
	Option		option = {NULL};
	const char *problem;

	if (visit->n == MAX_OPTIONS)
		cs_fault_set(compiler, "is one too many: there can be %d", MAX_OPTIONS);
	check_option_name(compiler, name);
	cs_fault_read(compiler, value, option_members, &option);
	if ((option.type == TYPE_WORD) != (option.words != NULL))
		cs_fault_set(compiler, "must have \"words\" if its type is \"word\", and only then");
	if (compiler->fault == NULL)
	{
		out->name = pstrdup(name);
		out->place = CS_ON_SERVER;
		out->check = check_of(option.type);
		out->words = option.words;
		out->preset = option.preset;
		out->required = option.required;
		out->payload = true;
		out->help = option.help;
		problem = option.preset ? cs_option_check(out, option.preset) : NULL;
		if (problem)
			cs_fault_set(compiler, "has a \"default\" that %s", problem);
		visit->n++;
	}
	cs_fault_leave(compiler, mark);
	return compiler->fault == NULL;
}

CsOption *
cs_facts_compile_options(CsCompiler *compiler, CsJson *json)
{
	OptionVisit visit = {compiler, palloc0((MAX_OPTIONS + MAX_PRESETS + 1) * sizeof(CsOption)), 0};
	int			mark = cs_fault_enter(compiler, "options");

	if (json && cs_fault_is_object(compiler, json))
		cs_json_each(json, compile_option, &visit);
	cs_fault_leave(compiler, mark);
	return visit.options;
}

void
cs_facts_preset(CsOption *options, const CsOption *common, const char *name, const char *preset)
{
	int			n = 0;

	while (options[n].name)
		n++;
	for (; common->name; common++)
		if (strcmp(common->name, name) == 0)
		{
			options[n] = *common;
			options[n].preset = preset;
		}
}

/* ---------- authorization ---------- */

enum
{
	AUTH_BEARER,
	AUTH_HEADER,
	AUTH_BASIC,
	AUTH_QUERY,
	AUTH_OAUTH,
	AUTH_NONE
};

static const char *const auth_types[] = {"bearer", "header", "basic", "query", "oauth", "none", NULL};

typedef struct Auth
{
	int			type;
	const char *header;
	const char *scheme;
	const char *parameter;
	const char *token_url;
} Auth;

static const CsMember auth_members[] = {
	{"type", CS_MEMBER_WORD, offsetof(Auth, type),.words = auth_types,.required = true},
	{"header", CS_MEMBER_TEXT, offsetof(Auth, header),.max = 64},
	{"scheme", CS_MEMBER_TEXT, offsetof(Auth, scheme),.max = 40},
	{"parameter", CS_MEMBER_TEXT, offsetof(Auth, parameter),.max = 64},
	{"token_url", CS_MEMBER_TEXT, offsetof(Auth, token_url),.max = 500},
	{NULL}
};

#define TOKEN_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

static void
check_auth(CsCompiler *compiler, const Auth *auth)
{
	const char *problem;

	if ((auth->type == AUTH_HEADER) != (auth->header != NULL))
		cs_fault_set(compiler, "must have \"header\" if its type is \"header\", and only then");
	if (auth->header && pg_strcasecmp(auth->header, "Authorization") != 0)
		cs_place_check_header(compiler, auth->header);
	if (auth->scheme && (auth->type != AUTH_HEADER || strspn(auth->scheme, TOKEN_CHARACTERS) != strlen(auth->scheme)))
		cs_fault_set(compiler, "can have a word as \"scheme\" if its type is \"header\"");
	if ((auth->type == AUTH_QUERY) != (auth->parameter != NULL))
		cs_fault_set(compiler, "must have \"parameter\" if its type is \"query\", and only then");
	if (auth->parameter && strspn(auth->parameter, TOKEN_CHARACTERS) != strlen(auth->parameter))
		cs_fault_set(compiler, "must have a \"parameter\" of letters, digits, - and _");
	if ((auth->type == AUTH_OAUTH) != (auth->token_url != NULL))
		cs_fault_set(compiler, "must have \"token_url\" if its type is \"oauth\", and only then");
	problem = auth->token_url ? cs_option_check_url(auth->token_url) : NULL;
	if (problem)
		cs_fault_set(compiler, "has a \"token_url\" that %s", problem);
}

void
cs_facts_compile_auth(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	static const CsAuth kinds[] = {
		[AUTH_BEARER] = CS_AUTH_BEARER,
		[AUTH_HEADER] = CS_AUTH_BEARER,
		[AUTH_BASIC] = CS_AUTH_BASIC,
		[AUTH_QUERY] = CS_AUTH_QUERY,
		[AUTH_OAUTH] = CS_AUTH_OAUTH,
		[AUTH_NONE] = CS_AUTH_NONE
	};
	CsProvider *provider = &definition->provider;
	Auth		auth = {0};
	int			mark = cs_fault_enter(compiler, "auth");

	cs_fault_read(compiler, json, auth_members, &auth);
	if (compiler->fault == NULL)
		check_auth(compiler, &auth);
	provider->auth = kinds[auth.type];
	provider->auth_header = auth.type == AUTH_QUERY ? auth.parameter : auth.header;
	if (auth.type == AUTH_HEADER)
		provider->auth_scheme = auth.scheme ? auth.scheme : "";
	if (auth.type == AUTH_QUERY)
		provider->auth_scheme = "";
	if (auth.type == AUTH_BASIC)
		provider->auth_scheme = "Basic";
	if (auth.token_url)
		cs_facts_preset(unconstify(CsOption *, provider->options), cs_option_oauth, "token_url", auth.token_url);
	cs_fault_leave(compiler, mark);
}

static const char *const signed_parts[] = {"body", "timestamp.body", "id.timestamp.body", NULL};
static const char *const encodings[] = {"hex", "base64", NULL};

typedef struct Signing
{
	const char *header;
	const char *prefix;
	int			over;
	int			encoding;
	const char *timestamp_header;
	const char *id_header;
} Signing;

static const CsMember signing_members[] = {
	{"header", CS_MEMBER_TEXT, offsetof(Signing, header),.max = 64,.required = true},
	{"prefix", CS_MEMBER_TEXT, offsetof(Signing, prefix),.max = 40},
	{"over", CS_MEMBER_WORD, offsetof(Signing, over),.words = signed_parts,.required = true},
	{"encoding", CS_MEMBER_WORD, offsetof(Signing, encoding),.words = encodings,.required = true},
	{"timestamp_header", CS_MEMBER_TEXT, offsetof(Signing, timestamp_header),.max = 64},
	{"id_header", CS_MEMBER_TEXT, offsetof(Signing, id_header),.max = 64},
	{NULL}
};

static void
check_signing(CsCompiler *compiler, const Signing *signing)
{
	const char *const names[] = {signing->header, signing->timestamp_header, signing->id_header};

	for (int i = 0; i < (int) lengthof(names); i++)
		if (names[i])
			cs_place_check_header(compiler, names[i]);
	if ((signing->over > 0) != (signing->timestamp_header != NULL))
		cs_fault_set(compiler, "must have \"timestamp_header\" if the timestamp is signed, and only then");
	if ((signing->over > 1) != (signing->id_header != NULL))
		cs_fault_set(compiler, "must have \"id_header\" if the ID is signed, and only then");
	if (signing->prefix && strspn(signing->prefix, TOKEN_CHARACTERS "=,:.") != strlen(signing->prefix))
		cs_fault_set(compiler, "must have a \"prefix\" of letters, digits and = , : . - _");
}

void
cs_facts_compile_signing(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	Signing		read = {NULL};
	CsSigning  *signing = palloc0(sizeof(CsSigning));
	int			mark = cs_fault_enter(compiler, "sign");

	if (json)
	{
		cs_fault_read(compiler, json, signing_members, &read);
		if (compiler->fault == NULL)
			check_signing(compiler, &read);
		signing->header = read.header;
		signing->prefix = read.prefix ? read.prefix : "";
		signing->base64 = read.encoding == 1;
		signing->timestamp_header = read.timestamp_header;
		signing->id_header = read.id_header;
		definition->provider.signing = signing;
		if (read.id_header)
			definition->provider.abilities |= CS_HAS_IDEMPOTENCY;
	}
	cs_fault_leave(compiler, mark);
}

/* ---------- fields ---------- */

static const char *const unlisted_words[] = {
	[CS_UNLISTED_REJECT] = "reject",
	[CS_UNLISTED_OMIT] = "omit",
	[CS_UNLISTED_BASE] = "base",
	NULL
};

static const CsMember field_members[] = {
	{"max_length", CS_MEMBER_INT, offsetof(CsFieldRule, max_length),.min = 1,.max = 65536},
	{"words", CS_MEMBER_WORDS, offsetof(CsFieldRule, words)},
	{"unlisted", CS_MEMBER_WORD, offsetof(CsFieldRule, unlisted),.words = unlisted_words},
	{NULL}
};

static uint32
field_bit(CsCompiler *compiler, const char *name)
{
	CsField		field;

	if (name == NULL || !cs_contact_field_by_name(name, strlen(name), &field))
	{
		const char *nearest = name ? cs_contact_nearest_field(name) : NULL;

		cs_fault_set(compiler, "must be a field of contacts%s: %s",
					 nearest ? psprintf(", perhaps \"%s\"", nearest) : "",
					 cs_contact_field_list((CS_FIELD_BIT(CS_FIELD_COUNT) - 1) & ~CS_FIELD_BIT(CS_STATUS)));
		return 0;
	}
	if (field == CS_STATUS)
		cs_fault_set(compiler, "must not be \"status\": what the person wants is in opt_in");
	return CS_FIELD_BIT(field);
}

uint32
cs_facts_compile_field_list(CsCompiler *compiler, CsJson *json)
{
	uint32		fields = 0;

	if (!cs_fault_is_array(compiler, json, CS_FIELD_COUNT))
		return 0;
	for (int i = 0; i < cs_json_length(json); i++)
	{
		int			mark = cs_fault_enter_item(compiler, i);

		fields |= field_bit(compiler, cs_json_string(cs_json_item(json, i)));
		cs_fault_leave(compiler, mark);
	}
	return fields;
}

typedef struct FieldVisit
{
	CsCompiler *compiler;
	CsDefined  *definition;
	uint32		fields;
} FieldVisit;

static bool
compile_field(const char *name, CsJson *value, void *arg)
{
	FieldVisit *visit = arg;
	CsCompiler *compiler = visit->compiler;
	int			mark = cs_fault_enter(compiler, name);
	uint32		bit = field_bit(compiler, name);

	visit->fields |= bit;
	for (int i = 0; i < CS_FIELD_COUNT && bit; i++)
		if (bit == CS_FIELD_BIT(i))
			cs_fault_read(compiler, value, field_members, &visit->definition->field_rules[i]);
	cs_fault_leave(compiler, mark);
	return compiler->fault == NULL;
}

/* A list of names, or an object with what each of them can be. */
void
cs_facts_compile_fields(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	FieldVisit	visit = {compiler, definition, 0};
	int			mark = cs_fault_enter(compiler, "fields");

	if (cs_json_is_object(json))
		cs_json_each(json, compile_field, &visit);
	else
		visit.fields = cs_facts_compile_field_list(compiler, json);
	if (visit.fields & CS_FIELD_BIT(CS_OPT_IN))
		visit.fields |= CS_FIELD_BIT(CS_OPT_IN_AT);
	definition->provider.fields = compiler->fields = visit.fields;
	cs_fault_leave(compiler, mark);
}

/* ---------- limits ---------- */

typedef struct Limits
{
	double		pace;
	double		burst;
	double		throttled_pace;
	int			concurrency;
	int			max_retries;
	const char *timeout;
} Limits;

static const CsMember limit_members[] = {
	{"pace", CS_MEMBER_NUMBER, offsetof(Limits, pace),.min = 0.001,.max = 10000},
	{"burst", CS_MEMBER_NUMBER, offsetof(Limits, burst),.min = 1,.max = 10000},
	{"throttled_pace", CS_MEMBER_NUMBER, offsetof(Limits, throttled_pace),.min = 0.001,.max = 10000},
	{"concurrency", CS_MEMBER_INT, offsetof(Limits, concurrency),.min = 1,.max = 1000},
	{"max_retries", CS_MEMBER_INT, offsetof(Limits, max_retries),.min = 0,.max = 100},
	{"timeout", CS_MEMBER_TEXT, offsetof(Limits, timeout),.max = 20},
	{NULL}
};

/* What is not given is cautious. */
void
cs_facts_compile_limits(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	Limits		limits = {.pace = 1,.burst = 1,.concurrency = 1,.max_retries = 5};
	CsProvider *provider = &definition->provider;
	int			mark = cs_fault_enter(compiler, "limits");
	const char *problem;

	if (json)
		cs_fault_read(compiler, json, limit_members, &limits);
	problem = limits.timeout ? cs_option_check_milliseconds(limits.timeout) : NULL;
	if (problem)
		cs_fault_set(compiler, "has a \"timeout\" that %s", problem);
	if (limits.timeout)
		cs_facts_preset(unconstify(CsOption *, provider->options), cs_option_common, "timeout", limits.timeout);
	provider->pace = limits.pace;
	provider->burst = limits.burst;
	provider->throttled_pace = limits.throttled_pace;
	provider->concurrency = limits.concurrency;
	provider->max_retries = limits.max_retries;
	cs_fault_leave(compiler, mark);
}
