/*-------------------------------------------------------------------------
 *
 * remote.c
 *		Reading what the service of a definition has.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http/url.h"
#include "provider/defined/facts.h"
#include "provider/defined/pointer.h"
#include "provider/defined/remote.h"
#include "provider/defined/request.h"
#include "provider/defined/step.h"

/* ---------- compiling ---------- */

typedef struct FieldVisit
{
	CsCompiler *compiler;
	CsReading  *reading;
} FieldVisit;

static bool
compile_field(const char *name, CsJson *value, void *arg)
{
	FieldVisit *visit = arg;
	CsCompiler *compiler = visit->compiler;
	int			mark = cs_fault_enter(compiler, name);
	CsField		field;

	if (!cs_contact_field_by_name(name, strlen(name), &field) || !(compiler->fields & CS_FIELD_BIT(field)) ||
		field == CS_OPT_IN || field == CS_OPT_IN_AT || field == CS_ATTRIBUTES)
		cs_fault_set(compiler, "must be among \"fields\"; opt_in and attributes are beside \"fields\"");
	else
		cs_pointer_compile(compiler, value, &visit->reading->fields[field]);
	cs_fault_leave(compiler, mark);
	return compiler->fault == NULL;
}

static void
compile_fields(CsCompiler *compiler, CsJson *json, void *field)
{
	FieldVisit	visit = {compiler, (CsReading *) ((char *) field - offsetof(CsReading, fields))};

	if (cs_fault_is_object(compiler, json))
		cs_json_each(json, compile_field, &visit);
}

static const CsMember contact_members[] = {
	{"at", CS_MEMBER_READ, offsetof(CsReading, at),.read = cs_pointer_compile},
	{"id", CS_MEMBER_READ, offsetof(CsReading, id),.read = cs_pointer_compile},
	{"updated_at", CS_MEMBER_READ, offsetof(CsReading, updated_at),.read = cs_pointer_compile},
	{"fields", CS_MEMBER_READ, offsetof(CsReading, fields),.read = compile_fields,.required = true},
	{"attributes", CS_MEMBER_READ, offsetof(CsReading, attributes),.read = cs_pointer_compile},
	{"opt_in", CS_MEMBER_READ, offsetof(CsReading, opt_in),.read = cs_pointer_compile_tests},
	{"opt_out", CS_MEMBER_READ, offsetof(CsReading, opt_out),.read = cs_pointer_compile_tests},
	{NULL}
};

typedef struct Pull
{
	CsJson	   *request;
	CsPointer  *items;
	CsPointer  *total;
	CsPointer  *cursor;
	const char *cursor_parameter;
	int			page_size;
} Pull;

static const CsMember pull_members[] = {
	{"request", CS_MEMBER_JSON, offsetof(Pull, request),.required = true},
	{"items", CS_MEMBER_READ, offsetof(Pull, items),.read = cs_pointer_compile,.required = true},
	{"total", CS_MEMBER_READ, offsetof(Pull, total),.read = cs_pointer_compile},
	{"cursor", CS_MEMBER_READ, offsetof(Pull, cursor),.read = cs_pointer_compile},
	{"cursor_parameter", CS_MEMBER_TEXT, offsetof(Pull, cursor_parameter),.max = 64},
	{"page_size", CS_MEMBER_INT, offsetof(Pull, page_size),.min = 1,.max = 10000,.required = true},
	{NULL}
};

static void
compile_contact(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	int			mark = cs_fault_enter(compiler, "contact");
	CsReading  *reading = definition->reading = palloc0(sizeof(CsReading));
	CsField		key = definition->identity == CS_BY_EXTERNAL_ID ? CS_EXTERNAL_ID : CS_EMAIL;

	cs_fault_read(compiler, json, contact_members, reading);
	if (reading->fields[key] == NULL)
		cs_fault_set(compiler, "must tell where %s is, by which contacts are found", cs_contact_field_name(key));
	if ((compiler->fields & CS_FIELD_BIT(CS_OPT_IN)) && reading->opt_out.n == 0)
		cs_fault_set(compiler, "must have \"opt_out\", since the definition carries opt_in");
	cs_fault_leave(compiler, mark);
}

static void
compile_lookup(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	int			mark = cs_fault_enter(compiler, "lookup");

	definition->lookup = palloc0(sizeof(CsStep));
	cs_step_compile_request(compiler, json, definition->lookup);
	cs_fault_leave(compiler, mark);
}

static void
compile_pull(CsCompiler *compiler, CsJson *json, CsDefined *definition)
{
	int			mark = cs_fault_enter(compiler, "pull");
	CsListing  *listing = definition->listing = palloc0(sizeof(CsListing));
	Pull		pull = {NULL};
	int			inner;

	cs_fault_read(compiler, json, pull_members, &pull);
	listing->items = pull.items;
	listing->total = pull.total;
	listing->cursor = pull.cursor;
	listing->cursor_parameter = pull.cursor_parameter;
	if (pull.cursor_parameter && pull.cursor == NULL)
		cs_fault_set(compiler, "must have \"cursor\" to have \"cursor_parameter\"");
	listing->page_size = pull.page_size;
	inner = cs_fault_enter(compiler, "request");
	compiler->in_pull = true;
	cs_step_compile_request(compiler, pull.request, &listing->request);
	compiler->in_pull = false;
	cs_fault_leave(compiler, inner);
	cs_fault_leave(compiler, mark);
}

void
cs_remote_compile(CsCompiler *compiler, CsJson *contact, CsJson *lookup, CsJson *pull, CsDefined *definition)
{
	CsProvider *provider = &definition->provider;

	if (contact)
		compile_contact(compiler, contact, definition);
	if (lookup)
		compile_lookup(compiler, lookup, definition);
	if (pull)
		compile_pull(compiler, pull, definition);
	if ((lookup || pull) && !contact)
		cs_fault_set(compiler, "needs the member \"contact\", which tells how a contact is read");
	if (lookup)
		provider->build_lookup = cs_request_build_lookup;
	if (contact)
		provider->read_contact = cs_remote_read_contact;
	if (pull)
	{
		provider->build_pull = cs_request_build_pull;
		provider->judge_pull = cs_remote_judge_pull;
	}
}

/* ---------- reading ---------- */

static void
read_consent(const CsReading *reading, CsJson *item, CsContact *contact)
{
	bool		opted_out = reading->opt_out.n > 0 && cs_pointer_tests_hold(&reading->opt_out, item, NULL);

	/* if there is no telling, nobody is taken for who wants mail */
	if (opted_out || cs_pointer_is_exhausted())
		cs_contact_set(contact, CS_OPT_IN, "false");
	else if (reading->opt_in.n > 0 && cs_pointer_tests_hold(&reading->opt_in, item, NULL))
		cs_contact_set(contact, CS_OPT_IN, "true");
}

bool
cs_remote_read_contact(const CsEndpoint *endpoint, CsJson *doc, CsRemoteContact *remote)
{
	static const char *const no_names[CS_FIELD_COUNT] = {NULL};
	const CsDefined *definition = cs_request_definition(endpoint);
	const CsReading *reading = definition->reading;
	CsJson	   *item = reading->at ? cs_pointer_get(reading->at, doc) : doc;

	if (!cs_json_is_object(item))
		item = doc;
	remote->contact = palloc0(sizeof(CsContact));
	remote->id = cs_pointer_text(reading->id, item);
	remote->updated_at = cs_pointer_text(reading->updated_at, item);
	if (reading->attributes)
		cs_contact_read_attributes(remote->contact, cs_pointer_get(reading->attributes, item), no_names);
	for (int i = 0; i < CS_FIELD_COUNT; i++)
		if (reading->fields[i])
			cs_contact_set_json(remote->contact, i, cs_pointer_get(reading->fields[i], item));
	read_consent(reading, item, remote->contact);
	return remote->contact->value[definition->identity == CS_BY_EXTERNAL_ID ? CS_EXTERNAL_ID : CS_EMAIL] != NULL;
}

/* Return the cursor of the next page, or NULL: a value, or a parameter of a URL. */
static const char *
next_cursor(const CsListing *listing, CsJson *doc)
{
	const char *text = cs_pointer_text(listing->cursor, doc);

	return text && listing->cursor_parameter ? cs_url_parameter(text, listing->cursor_parameter) : text;
}

void
cs_remote_judge_pull(const CsEndpoint *endpoint, const CsPull *pull, CsJson *doc, CsPullPage *pulled)
{
	const CsListing *listing = cs_request_definition(endpoint)->listing;
	int64		total;
	int			n;

	cs_pointer_begin();
	pulled->items = cs_pointer_get(listing->items, doc);
	n = cs_json_length(pulled->items);
	if (n < 0)
		pulled->items = NULL;
	pulled->total = cs_json_int(cs_pointer_get(listing->total, doc), &total) ? total : -1;
	pulled->next_cursor = next_cursor(listing, doc);
	if (listing->cursor)
		pulled->last = pulled->next_cursor == NULL || (pull->cursor && strcmp(pull->cursor, pulled->next_cursor) == 0);
	else
		pulled->last = n < listing->page_size;
	pulled->last |= n == 0;
}
