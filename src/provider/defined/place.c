/*-------------------------------------------------------------------------
 *
 * place.c
 *		Text with placeholders, and the places of a request that it can be in.
 *
 * A definition never says how a value is escaped: the place does.  So a value cannot
 * leave its place, whatever it is: not its segment of the path, not its parameter of
 * the query, not its string of the body.  Nothing of a contact can be in a header or
 * in the host.  Secrets have no placeholder: an option is found only among those that
 * the definition declares, which are options of the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/digest.h"
#include "http/url.h"
#include "provider/defined/place.h"

#define MAX_PIECES	32
#define MAX_NAME	200

static const struct
{
	const char *name;
	CsSource	source;
}			sources[] = {
	{"key", CS_FROM_KEY},
	{"remote_id", CS_FROM_REMOTE_ID},
	{"job", CS_FROM_JOB},
	{"name", CS_FROM_NAME},
	{"value", CS_FROM_VALUE},
	{"cursor", CS_FROM_CURSOR},
	{"since", CS_FROM_SINCE},
	{"page", CS_FROM_PAGE},
	{"offset", CS_FROM_OFFSET},
	{"idempotency_key", CS_FROM_IDEMPOTENCY_KEY}
};

static const char *const filters[] = {
	[CS_FILTER_NONE] = "",
	[CS_FILTER_LOWER] = "lower",
	[CS_FILTER_MD5] = "md5",
	[CS_FILTER_SHA256] = "sha256",
	[CS_FILTER_JSON] = "json",
	[CS_FILTER_SQL] = "sql"
};

/* ---------- compiling ---------- */

static void
compile_filter(CsCompiler *compiler, const char *name, CsPiece *piece)
{
	for (int i = 1; i < (int) lengthof(filters); i++)
		if (strcmp(name, filters[i]) == 0)
		{
			piece->filter = (CsFilter) i;
			return;
		}
	cs_fault_set(compiler, "has the unknown filter \"%s\": use lower, md5, sha256, json or sql", name);
}

static const CsOption *
find_option(const CsCompiler *compiler, const char *name)
{
	for (const CsOption *option = compiler->options; option && option->name; option++)
		if (strcmp(option->name, name) == 0)
			return option;
	return NULL;
}

/* An option must be declared by the definition; so it is one of the server's. */
static void
compile_option(CsCompiler *compiler, const char *name, CsPlace place, CsPiece *piece)
{
	const CsOption *option = find_option(compiler, name);

	piece->source = CS_FROM_OPTION;
	piece->text = pstrdup(name);
	if (option == NULL)
		cs_fault_set(compiler, "refers to the option \"%s\", which is not among \"options\"; secrets cannot be referred to", name);
	else if (place == CS_IN_BASE_URL && option->check != cs_option_check_label)
		cs_fault_set(compiler, "has the option \"%s\" in the host, so its type must be \"label\"", name);
	else if (place == CS_IN_BASE_URL && !option->required && option->preset == NULL)
		cs_fault_set(compiler, "has the option \"%s\" in the host, so it must be required, or have a default", name);
}

static void
compile_name(CsCompiler *compiler, const char *name, CsPlace place, CsPiece *piece)
{
	if (strncmp(name, "option.", 7) == 0)
	{
		compile_option(compiler, name + 7, place, piece);
		return;
	}
	if (strncmp(name, "attribute.", 10) == 0 && name[10])
	{
		piece->source = CS_FROM_ATTRIBUTE;
		piece->text = pstrdup(name + 10);
		if (!(compiler->fields & CS_FIELD_BIT(CS_ATTRIBUTES)))
			cs_fault_set(compiler, "refers to an attribute, but \"fields\" has no attributes");
		return;
	}
	for (int i = 0; i < (int) lengthof(sources); i++)
		if (strcmp(name, sources[i].name) == 0)
		{
			piece->source = sources[i].source;
			return;
		}
	piece->source = CS_FROM_FIELD;
	if (!cs_contact_field_by_name(name, strlen(name), &piece->field))
	{
		const char *nearest = cs_contact_nearest_field(name);

		cs_fault_set(compiler, "has the unknown placeholder \"%s\"%s", name,
					 nearest ? psprintf(": perhaps \"%s\" is meant", nearest) : ": use a field, option.NAME, attribute.NAME, key or remote_id");
	}
	else if (piece->field == CS_OPT_IN || piece->field == CS_OPT_IN_AT || piece->field == CS_STATUS)
		cs_fault_set(compiler, "must not refer to \"%s\": consent is sent by {\"$consent\": ...} only", name);
	else if (!(compiler->fields & CS_FIELD_BIT(piece->field)))
		cs_fault_set(compiler, "refers to \"%s\", which is not among \"fields\"", name);
}

static bool
is_of_contact(CsSource source)
{
	return source == CS_FROM_FIELD || source == CS_FROM_ATTRIBUTE || source == CS_FROM_KEY ||
		source == CS_FROM_REMOTE_ID || source == CS_FROM_JOB || source == CS_FROM_NAME ||
		source == CS_FROM_VALUE;
}

static void
check_place(CsCompiler *compiler, const char *name, CsPlace place, const CsPiece *piece)
{
	CsSource	source = piece->source;

	if (source == CS_FROM_OPTION)
		return;
	if (place == CS_IN_BASE_URL)
		cs_fault_set(compiler, "can have options only, not \"%s\"", name);
	else if (place == CS_IN_HEADER && source != CS_FROM_IDEMPOTENCY_KEY)
		cs_fault_set(compiler, "can have options and idempotency_key only, not \"%s\"", name);
	else if (place != CS_IN_HEADER && source == CS_FROM_IDEMPOTENCY_KEY)
		cs_fault_set(compiler, "cannot have idempotency_key, which is for headers");
	else if (source >= CS_FROM_CURSOR && source <= CS_FROM_OFFSET && !compiler->in_pull)
		cs_fault_set(compiler, "can have \"%s\" in \"pull\" only", name);
	else if (is_of_contact(source) && compiler->in_pull)
		cs_fault_set(compiler, "is about no contact, and cannot have \"%s\"", name);
	else if ((source == CS_FROM_NAME || source == CS_FROM_VALUE) && !compiler->in_list)
		cs_fault_set(compiler, "can have \"%s\" within {\"$for\": ...} only", name);
	else if (is_of_contact(source) && compiler->several && source != CS_FROM_JOB)
		cs_fault_set(compiler, "is about several contacts: \"%s\" must be within {\"$each\": ...}", name);
	if (is_of_contact(source))
		compiler->references++;
}

void
cs_place_compile_piece(CsCompiler *compiler, const char *name, CsPlace place, CsPiece *piece)
{
	const char *bar = strchr(name, '|');
	char	   *copy = bar ? pnstrdup(name, bar - name) : pstrdup(name);

	memset(piece, 0, sizeof(CsPiece));
	if (bar)
		compile_filter(compiler, bar + 1, piece);
	compile_name(compiler, copy, place, piece);
	check_place(compiler, copy, place, piece);
}

/* What is between placeholders goes out as it is. */
static void
check_literal(CsCompiler *compiler, const char *text, CsPlace place)
{
	for (const unsigned char *c = (const unsigned char *) text; *c; c++)
	{
		if (place == CS_IN_BODY)
			return;
		if (*c < ' ' || *c > '~')
			cs_fault_set(compiler, "must consist of printable ASCII characters");
		else if ((place == CS_IN_PATH || place == CS_IN_BASE_URL) && strchr(" \"#?\\<>^`|%", *c))
			cs_fault_set(compiler, "must not have the character '%c'", *c);
	}
}

static void
add_literal(CsCompiler *compiler, CsText *out, const char *text, size_t len, CsPlace place)
{
	CsPiece    *piece = &out->pieces[out->n];

	if (len == 0)
		return;
	piece->text = pnstrdup(text, len);
	check_literal(compiler, piece->text, place);
	out->n++;
}

void
cs_place_compile(CsCompiler *compiler, const char *text, CsPlace place, CsText *out)
{
	const char *brace;

	out->n = 0;
	out->pieces = palloc0((2 * MAX_PIECES + 2) * sizeof(CsPiece));
	while ((brace = strchr(text, '{')) != NULL)
	{
		const char *end = strchr(brace, '}');

		if (end == NULL || end == brace + 1 || end - brace > MAX_NAME || out->n >= 2 * MAX_PIECES)
		{
			cs_fault_set(compiler, "%s", out->n >= 2 * MAX_PIECES ? "has too many placeholders" :
						 "must have the name of a value between { and }");
			return;
		}
		add_literal(compiler, out, text, brace - text, place);
		cs_place_compile_piece(compiler, pnstrdup(brace + 1, end - brace - 1), place, &out->pieces[out->n++]);
		text = end + 1;
	}
	if (strchr(text, '}'))
		cs_fault_set(compiler, "has a } without a {");
	add_literal(compiler, out, text, strlen(text), place);
}

/* ---------- names of headers ---------- */

/* Headers that belong to the engine, or would change what a message is. */
static const char *const reserved_headers[] = {
	"authorization", "proxy-authorization", "host", "content-length", "transfer-encoding", "connection", "cookie",
	"expect", "te", "trailer", "upgrade", "content-type", "accept-encoding", "proxy-connection", "keep-alive", "via",
	"forwarded", "x-forwarded-for", "x-forwarded-host", NULL
};

void
cs_place_check_header(CsCompiler *compiler, const char *name)
{
	size_t		len = strlen(name);

	if (len == 0 || len > 64 ||
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != len)
		cs_fault_set(compiler, "must be called as a header is: letters, digits, - and _");
	for (int i = 0; reserved_headers[i]; i++)
		if (pg_strcasecmp(name, reserved_headers[i]) == 0)
			cs_fault_set(compiler, "must not be set by a definition");
}

/* ---------- values ---------- */

/* Return the text of an element of JSON, or NULL for null. */
static const char *
text_of_json(const char *json)
{
	CsJson	   *value;
	const char *text;

	if (json == NULL)
		return NULL;
	if (*json != '"' && *json != '{' && *json != '[')
		return strcmp(json, "null") == 0 ? NULL : json;
	value = cs_json_parse(json, strlen(json));
	text = cs_json_string(value);
	return text ? text : json;
}

static const char *
number_of(const CsScope *scope, CsSource source)
{
	int			page = scope->pull ? scope->pull->page : 1;

	if (source == CS_FROM_PAGE)
		return psprintf("%d", page);
	return psprintf(INT64_FORMAT, (int64) (page - 1) * scope->page_size);
}

static const char *
plain_value(const CsPiece *piece, const CsScope *scope)
{
	const CsContact *contact = scope->contact;
	const CsAttribute *attribute;

	switch (piece->source)
	{
		case CS_FROM_TEXT:
			return piece->text;
		case CS_FROM_FIELD:
			return contact && piece->field != CS_ATTRIBUTES ? contact->value[piece->field] : NULL;
		case CS_FROM_ATTRIBUTE:
			attribute = contact ? cs_contact_attribute(contact, piece->text) : NULL;
			return attribute ? text_of_json(attribute->json) : NULL;
		case CS_FROM_OPTION:
			return cs_endpoint_option(scope->endpoint, piece->text);
		case CS_FROM_KEY:
			return contact ? contact->upsert_key : NULL;
		case CS_FROM_REMOTE_ID:
			return contact ? contact->remote_id : NULL;
		case CS_FROM_JOB:
			return contact ? contact->job : NULL;
		case CS_FROM_NAME:
			return scope->name;
		case CS_FROM_VALUE:
			return text_of_json(scope->json);
		case CS_FROM_CURSOR:
			return scope->pull ? scope->pull->cursor : NULL;
		case CS_FROM_SINCE:
			return scope->pull ? scope->pull->since : NULL;
		case CS_FROM_PAGE:
		case CS_FROM_OFFSET:
			return number_of(scope, piece->source);
		case CS_FROM_IDEMPOTENCY_KEY:
			return scope->idempotency_key;
	}
	return NULL;
}

/* Lower the ASCII letters. */
static char *
lower(const char *text)
{
	char	   *copy = pstrdup(text);

	for (char *c = copy; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	return copy;
}

/* Write a text as it is within a string of JSON. */
static char *
within_json(const char *text)
{
	StringInfoData out;

	initStringInfo(&out);
	cs_json_quote(&out, text);
	return pnstrdup(out.data + 1, out.len - 2);
}

/* Write a text as it is within a string of standard SQL. */
static char *
within_sql(const char *text)
{
	char	   *copy = palloc(2 * strlen(text) + 1);
	char	   *to = copy;

	for (; *text; text++)
	{
		if (*text == '\'')
			*to++ = '\'';
		*to++ = *text;
	}
	*to = '\0';
	return copy;
}

const char *
cs_place_value(const CsPiece *piece, const CsScope *scope)
{
	const char *value = plain_value(piece, scope);

	if (value == NULL || piece->filter == CS_FILTER_NONE)
		return value;
	if (piece->filter == CS_FILTER_LOWER)
		return lower(value);
	if (piece->filter == CS_FILTER_JSON)
		return within_json(value);
	if (piece->filter == CS_FILTER_SQL)
		return within_sql(value);
	return cs_digest_hex(piece->filter == CS_FILTER_MD5 ? PG_MD5 : PG_SHA256, value, strlen(value));
}

const char *
cs_place_name(const CsPiece *piece)
{
	switch (piece->source)
	{
		case CS_FROM_TEXT:
			return "text";
		case CS_FROM_FIELD:
			return cs_contact_field_name(piece->field);
		case CS_FROM_ATTRIBUTE:
		case CS_FROM_OPTION:
			return piece->text;
		default:
			for (int i = 0; i < (int) lengthof(sources); i++)
				if (sources[i].source == piece->source)
					return sources[i].name;
			return "value";
	}
}

/* ---------- rendering ---------- */

/* Longer values are in no path or query, so that no URL becomes too long. */
#define MAX_IN_URL	1000

/* Would it be another path, or none, with this value in it? */
static bool
fits_path(const char *value)
{
	return *value && strlen(value) <= MAX_IN_URL && strcmp(value, ".") != 0 && strcmp(value, "..") != 0;
}

static bool
fits(const CsPiece *piece, CsPlace place, const char *value)
{
	if (piece->source == CS_FROM_TEXT)
		return true;
	if (place == CS_IN_PATH)
		return fits_path(value);
	return place != CS_IN_QUERY || strlen(value) <= MAX_IN_URL || piece->source == CS_FROM_CURSOR;
}

const CsPiece *
cs_place_missing(const CsText *text, CsPlace place, const CsScope *scope)
{
	for (int i = 0; i < text->n; i++)
	{
		const char *value = cs_place_value(&text->pieces[i], scope);

		if (value == NULL || !fits(&text->pieces[i], place, value))
			return &text->pieces[i];
	}
	return NULL;
}

/* A header is one line of ASCII; options are checked before, so this changes nothing. */
static void
append_header(StringInfo out, const char *value)
{
	for (; *value; value++)
		appendStringInfoCharMacro(out, *value >= ' ' && *value <= '~' ? *value : '?');
}

void
cs_place_render(StringInfo out, const CsText *text, CsPlace place, const CsScope *scope)
{
	for (int i = 0; i < text->n; i++)
	{
		const CsPiece *piece = &text->pieces[i];
		const char *value = cs_place_value(piece, scope);

		if (place == CS_IN_PATH && (value == NULL || !fits(piece, place, value)))
			value = "-";
		if (value == NULL)
			continue;
		if (place == CS_IN_HEADER)
			append_header(out, value);
		else if (place == CS_IN_BODY || place == CS_IN_BASE_URL ||
				 (piece->source == CS_FROM_TEXT && place == CS_IN_PATH))
			appendStringInfoString(out, value);
		else
			appendStringInfoString(out, cs_url_encode(value));
	}
}
