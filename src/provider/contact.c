/*-------------------------------------------------------------------------
 *
 * contact.c
 *		The canonical record that all providers share.
 *
 * A contact is made for every change that is delivered, so copies are avoided: a
 * contact points to strings that its maker has palloc'd.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/text.h"
#include "http/json.h"
#include "provider/contact.h"

static const char *const field_names[CS_FIELD_COUNT] = {
	[CS_EMAIL] = "email",
	[CS_EXTERNAL_ID] = "external_id",
	[CS_FIRST_NAME] = "first_name",
	[CS_LAST_NAME] = "last_name",
	[CS_PHONE] = "phone",
	[CS_LOCALE] = "locale",
	[CS_TIMEZONE] = "timezone",
	[CS_OPT_IN] = "opt_in",
	[CS_OPT_IN_AT] = "opt_in_at",
	[CS_STATUS] = "status",
	[CS_TAGS] = "tags",
	[CS_TOPICS] = "topics",
	[CS_ATTRIBUTES] = "attributes",
};

#define ALL_FIELDS	((UINT32_C(1) << CS_FIELD_COUNT) - 1)

/* Seeds of the two halves of a digest; arbitrary digits of pi. */
#define DIGEST_SEED_1	UINT64CONST(0x243F6A8885A308D3)
#define DIGEST_SEED_2	UINT64CONST(0x13198A2E03707344)

const char *
cs_contact_field_name(CsField field)
{
	return field_names[field];
}

bool
cs_contact_field_by_name(const char *name, size_t len, CsField *field)
{
	for (int i = 0; i < CS_FIELD_COUNT; i++)
	{
		if (strlen(field_names[i]) == len && memcmp(field_names[i], name, len) == 0)
		{
			*field = (CsField) i;
			return true;
		}
	}
	return false;
}

const char *
cs_contact_nearest_field(const char *name)
{
	CsTextNearest nearest;

	cs_text_begin_nearest(&nearest, name);
	for (int i = 0; i < CS_FIELD_COUNT; i++)
		cs_text_consider_nearest(&nearest, field_names[i]);
	return nearest.found;
}

char *
cs_contact_field_list(uint32 fields)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < CS_FIELD_COUNT; i++)
	{
		if (fields & CS_FIELD_BIT(i))
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", field_names[i]);
	}
	return list.data;
}

void
cs_contact_set(CsContact *contact, CsField field, const char *value)
{
	Assert(field != CS_ATTRIBUTES);
	contact->present |= CS_FIELD_BIT(field);
	contact->value[field] = unconstify(char *, value);
}

/* The array doubles when its length is a power of two, which saves a counter. */
void
cs_contact_add_attribute(CsContact *contact, const char *name, const char *json)
{
	int			n = contact->nattributes;

	if (n == 0)
		contact->attributes = palloc(4 * sizeof(CsAttribute));
	else if (n >= 4 && (n & (n - 1)) == 0)
		contact->attributes = repalloc(contact->attributes, 2 * n * sizeof(CsAttribute));
	contact->attributes[n].name = unconstify(char *, name);
	contact->attributes[n].json = unconstify(char *, json);
	contact->nattributes = n + 1;
	contact->present |= CS_FIELD_BIT(CS_ATTRIBUTES);
}

void
cs_contact_keep_consent(CsContact *contact)
{
	static const uint32 kept = CS_FIELD_BIT(CS_EMAIL) | CS_FIELD_BIT(CS_EXTERNAL_ID) | CS_FIELD_BIT(CS_OPT_IN) |
	CS_FIELD_BIT(CS_OPT_IN_AT) | CS_FIELD_BIT(CS_STATUS);

	for (int field = 0; field < CS_FIELD_COUNT; field++)
		if (!(kept & CS_FIELD_BIT(field)))
			contact->value[field] = NULL;
	contact->present &= kept;
	contact->nattributes = 0;
}

bool
cs_contact_is_null(const CsContact *contact, CsField field)
{
	if (field == CS_ATTRIBUTES)
		return contact->nattributes == 0;
	return contact->value[field] == NULL;
}

bool
cs_contact_is(const CsContact *contact, CsField field, const char *value)
{
	return contact->value[field] != NULL && strcmp(contact->value[field], value) == 0;
}

/*
 * Does a text begin with this form, in which 0 stands for a digit?  sscanf() would also
 * take signs and white space.
 */
static bool
has_form(const char *text, const char *form)
{
	for (; *form; text++, form++)
	{
		if (*form == '0' ? *text < '0' || *text > '9' : *text != *form)
			return false;
	}
	return true;
}

/* Read "Z", "+02", "+0200" or "+02:00" in minutes, or nothing. */
static bool
parse_offset(const char *text, int *minutes)
{
	static const char *const forms[] = {"00:00", "0000", "00"};
	int			hours = 0;
	int			rest = 0;
	size_t		len = strlen(text);

	*minutes = 0;
	if (len == 0 || strcmp(text, "Z") == 0)
		return true;
	if (*text != '+' && *text != '-')
		return false;
	for (int i = 0; i < (int) lengthof(forms); i++)
	{
		if (len - 1 != strlen(forms[i]) || !has_form(text + 1, forms[i]))
			continue;
		(void) sscanf(text + 1, i == 0 ? "%2d:%2d" : "%2d%2d", &hours, &rest);
		*minutes = (hours * 60 + rest) * (*text == '-' ? -1 : 1);
		return hours <= 15 && rest < 60;
	}
	return false;
}

bool
cs_contact_parse_time(const char *text, TimestampTz *time)
{
	struct pg_tm tm = {0};
	int			end = 0;
	int			offset;
	fsec_t		fraction = 0;

	if (!has_form(text, "0000-00-00T00:00:00") && !has_form(text, "0000-00-00 00:00:00"))
		return false;
	(void) sscanf(text, "%4d-%2d-%2d%*c%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
				  &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &end);
	if (text[end] == '.')
	{
		size_t		digits = strspn(text + end + 1, "0123456789");

		for (size_t i = 0, unit = USECS_PER_SEC / 10; i < digits && unit > 0; i++, unit /= 10)
			fraction += (text[end + 1 + i] - '0') * unit;
		end += 1 + (int) digits;
	}
	if (tm.tm_year < 1 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
		tm.tm_mday > day_tab[isleap(tm.tm_year)][tm.tm_mon - 1] || tm.tm_hour > 23 ||
		tm.tm_min > 59 || tm.tm_sec > 60 || !parse_offset(text + end, &offset) ||
		tm2timestamp(&tm, fraction, NULL, time) != 0)
		return false;
	*time -= offset * USECS_PER_MINUTE;
	return true;
}

double
cs_contact_unix_time(const char *text)
{
	TimestampTz time;

	return text && cs_contact_parse_time(text, &time) ? cs_clock_unix(time) : -1;
}

/* Does the status allow mail, now or after a confirmation? */
static bool
allows_mail(const char *status)
{
	return pg_strcasecmp(status, "SUBSCRIBED") == 0 || pg_strcasecmp(status, "UNCONFIRMED") == 0;
}

char
cs_contact_said(char before, char consent)
{
	if (consent == CS_CONSENT_UNKNOWN)
		return before;
	if (consent == CS_CONSENT_NULL && (before == CS_CONSENT_YES || before == CS_CONSENT_NULLED))
		return CS_CONSENT_NULLED;
	return consent;
}

char
cs_contact_consent(const CsContact *contact)
{
	const char *status = contact->value[CS_STATUS];
	bool		unsubscribes = contact->action != CS_UPSERT;

	if (contact->value[CS_OPT_IN])
		return cs_contact_is(contact, CS_OPT_IN, "true") &&
			(status == NULL || (allows_mail(status) && !unsubscribes)) ? CS_CONSENT_YES : CS_CONSENT_NO;
	if (status)
		return allows_mail(status) ? CS_CONSENT_YES : CS_CONSENT_NO;
	return contact->present & (CS_FIELD_BIT(CS_OPT_IN) | CS_FIELD_BIT(CS_STATUS)) ?
		CS_CONSENT_NULL : CS_CONSENT_UNKNOWN;
}

const CsAttribute *
cs_contact_attribute(const CsContact *contact, const char *name)
{
	for (int i = 0; i < contact->nattributes; i++)
	{
		if (strcmp(contact->attributes[i].name, name) == 0)
			return &contact->attributes[i];
	}
	return NULL;
}

size_t
cs_contact_size(const CsContact *contact)
{
	size_t		size = 0;

	for (int i = 0; i < CS_FIELD_COUNT; i++)
		if (contact->value[i])
			size += strlen(contact->value[i]);
	for (int i = 0; i < contact->nattributes; i++)
		size += strlen(contact->attributes[i].name) + strlen(contact->attributes[i].json);
	return size;
}

/* ---------- refusals ---------- */

CsRefusal *
cs_contact_refuse(const char *reason, const char *field, const char *fmt,...)
{
	CsRefusal  *refusal = palloc0(sizeof(CsRefusal));
	va_list		args;

	va_start(args, fmt);
	refusal->message = cs_text_format(fmt, args);
	va_end(args);
	refusal->reason = reason;
	refusal->field = field;
	return refusal;
}

CsRefusal *
cs_contact_check_path(const char *field, const char *text)
{
	if (strcmp(text, ".") != 0 && strcmp(text, "..") != 0)
		return NULL;
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, field,
							 "%s is \"%s\", which cannot be part of a URL", field, text);
}

size_t
cs_contact_text_length(const char *text)
{
	size_t		n = 0;

	for (; *text; text++)
		n += ((unsigned char) *text & 0xC0) != 0x80;
	return n;
}

CsRefusal *
cs_contact_check_length(const CsContact *contact, CsField field, size_t max)
{
	const char *value = contact->value[field];

	if (value == NULL || strlen(value) <= max || cs_contact_text_length(value) <= max)
		return NULL;
	return cs_contact_refuse(CS_REASON_INVALID_FIELD, cs_contact_field_name(field),
							 "%s has more than %zu characters", cs_contact_field_name(field), max);
}

/* ---------- from a provider's JSON ---------- */

void
cs_contact_set_json(CsContact *contact, CsField field, CsJson *value)
{
	const char *text = cs_json_text(value);

	if (text)
		cs_contact_set(contact, field, text);
}

typedef struct Reading
{
	CsContact  *contact;
	const char *const *names;
} Reading;

static bool
read_member(const char *name, CsJson *value, void *arg)
{
	Reading    *reading = arg;
	char	   *json = cs_json_dump(value);

	for (int i = 0; i < CS_FIELD_COUNT; i++)
		if (reading->names[i] && strcmp(reading->names[i], name) == 0)
			cs_contact_set_json(reading->contact, i, value);
	/* a mapping may have an attribute of that name as well */
	cs_contact_add_attribute(reading->contact, name, json ? json : "null");
	return true;
}

void
cs_contact_read_attributes(CsContact *contact, CsJson *object, const char *const *names)
{
	Reading		reading = {contact, names};

	cs_json_each(object, read_member, &reading);
}

/* ---------- digest ---------- */

/* The serialized contact; there is room for all of it. */
typedef struct Serial
{
	char	   *next;
} Serial;

/* Append a length-prefixed string; NULL differs from an empty string. */
static inline void
put_string(Serial *serial, const char *text)
{
	uint32		len = text ? (uint32) strlen(text) : PG_UINT32_MAX;

	memcpy(serial->next, &len, sizeof(len));
	serial->next += sizeof(len);
	if (text)
	{
		memcpy(serial->next, text, len);
		serial->next += len;
	}
}

static int
compare_attributes(const void *a, const void *b)
{
	return strcmp((*(CsAttribute *const *) a)->name, (*(CsAttribute *const *) b)->name);
}

/* Append the attributes in the order of their names, which they usually have. */
static void
put_attributes(Serial *serial, const CsContact *contact)
{
	CsAttribute **sorted = palloc(contact->nattributes * sizeof(CsAttribute *));
	bool		in_order = true;

	for (int i = 0; i < contact->nattributes; i++)
	{
		sorted[i] = &contact->attributes[i];
		if (i > 0 && in_order)
			in_order = strcmp(sorted[i - 1]->name, sorted[i]->name) < 0;
	}
	if (!in_order)
		qsort(sorted, contact->nattributes, sizeof(CsAttribute *), compare_attributes);
	for (int i = 0; i < contact->nattributes; i++)
	{
		put_string(serial, sorted[i]->name);
		put_string(serial, sorted[i]->json);
	}
	pfree(sorted);
}

/*
 * With 128 bits, billions of digests do not collide by chance.  The hash is not
 * cryptographic: someone who constructs a collision prevents only their own row
 * from being sent.
 */
void
cs_contact_digest(const CsContact *contact, uint64 payload, pg_uuid_t *digest)
{
	uint32		header[2] = {(uint32) contact->action, contact->present};
	size_t		room = sizeof(header) + cs_contact_size(contact) +
	(CS_FIELD_COUNT + 2 * contact->nattributes) * sizeof(uint32);
	char		small[2048];
	char	   *start = room <= sizeof(small) ? small : palloc(room);
	Serial		serial = {start};
	uint64		hash[2];

	memcpy(serial.next, header, sizeof(header));
	serial.next += sizeof(header);
	for (int i = 0; i < CS_FIELD_COUNT; i++)
	{
		if ((contact->present & CS_FIELD_BIT(i)) && i != CS_ATTRIBUTES)
			put_string(&serial, contact->value[i]);
	}
	if (contact->nattributes > 0)
		put_attributes(&serial, contact);
	Assert(serial.next <= start + room);

	hash[0] = hash_bytes_extended((unsigned char *) start, serial.next - start, DIGEST_SEED_1);
	hash[1] = hash_bytes_extended((unsigned char *) start, serial.next - start, DIGEST_SEED_2);
	hash[0] ^= payload;
	StaticAssertStmt(sizeof(hash) == UUID_LEN, "two hashes fill a digest");
	memcpy(digest->data, hash, UUID_LEN);
	if (start != small)
		pfree(start);
}

/* ---------- from jsonb ---------- */

static const char *
type_name(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "a boolean";
		case jbvBinary:
			return JsonContainerIsArray(value->val.binary.data) ? "an array" : "an object";
		default:
			return "something else";
	}
}

static void
wrong_type(CsField field, const JsonbValue *value, const char *expected)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("contact field \"%s\" must be %s, not %s",
					field_names[field], expected, type_name(value))));
}

/* Return the text of a JSON value in UTF-8, palloc'd. */
static char *
value_to_json(JsonbValue *value)
{
	Jsonb	   *jsonb = JsonbValueToJsonb(value);
	char	   *text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));

	return cs_text_to_utf8(text, strlen(text));
}

/* Read a string; also a number for an ID or a phone number. */
static char *
text_field(CsField field, JsonbValue *value)
{
	bool		number_ok = (field == CS_EXTERNAL_ID || field == CS_PHONE);

	if (value->type == jbvString)
		return cs_text_to_utf8(value->val.string.val, value->val.string.len);
	if (value->type == jbvNumeric && number_ok)
		return value_to_json(value);
	wrong_type(field, value, number_ok ? "a string or a number" : "a string");
	return NULL;				/* not reached */
}

static void
set_attributes(CsContact *contact, JsonbValue *value)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *name = NULL;

	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		wrong_type(CS_ATTRIBUTES, value, "an object");
	contact->present |= CS_FIELD_BIT(CS_ATTRIBUTES);

	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = cs_text_to_utf8(item.val.string.val, item.val.string.len);
		else if (token == WJB_VALUE)
			cs_contact_add_attribute(contact, name, value_to_json(&item));
	}
}

static void
set_field(CsContact *contact, CsField field, JsonbValue *value)
{
	if (value->type == jbvNull)
	{
		if (field != CS_ATTRIBUTES)
			cs_contact_set(contact, field, NULL);
		return;
	}

	switch (field)
	{
		case CS_ATTRIBUTES:
			set_attributes(contact, value);
			break;
		case CS_OPT_IN:
			if (value->type != jbvBool)
				wrong_type(field, value, "true or false");
			cs_contact_set(contact, field, value->val.boolean ? "true" : "false");
			break;
		case CS_TAGS:
		case CS_TOPICS:
			if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
				wrong_type(field, value, "an array");
			cs_contact_set(contact, field, value_to_json(value));
			break;
		default:
			cs_contact_set(contact, field, text_field(field, value));
			break;
	}
}

static CsField
field_of_key(const JsonbValue *key)
{
	const char *name = pnstrdup(key->val.string.val, key->val.string.len);
	const char *nearest = cs_contact_nearest_field(name);
	CsField		field;

	if (!cs_contact_field_by_name(name, strlen(name), &field))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a contact has no field \"%s\"", name),
				 errhint("%sValid fields are: %s. Other values belong in attributes.",
						 nearest ? psprintf("Perhaps you meant the field \"%s\". ", nearest) : "",
						 cs_contact_field_list(ALL_FIELDS))));
	return field;
}

CsContact *
cs_contact_from_jsonb(Jsonb *jsonb)
{
	CsContact  *contact = palloc0(sizeof(CsContact));
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	CsField		field = CS_EMAIL;

	if (!JB_ROOT_IS_OBJECT(jsonb))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a contact must be a JSON object"),
				 errhint("Write it like %s.",
						 "{\"email\": \"jane@example.com\", \"first_name\": \"Jane\"}")));
	contact->direct = true;

	iterator = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			field = field_of_key(&item);
		else if (token == WJB_VALUE)
			set_field(contact, field, &item);
	}
	return contact;
}
