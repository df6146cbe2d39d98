/*-------------------------------------------------------------------------
 *
 * field_hash.c
 *		Which fields of a contact differ from those that it was last sent with.
 *
 * The digest of a contact tells that something has changed, and not what.  Where that
 * is wanted, each field has a hash beside it, of so few bits that many values share it:
 * it tells which field has changed, but hardly what it is, or was.  A change that
 * gives the same hash, one in 2^15, is not listed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/text.h"
#include "provider/field_hash.h"

/* The upper half of an item is what it belongs to, the lower half the hash. */
#define HASH_BITS		15
#define HASH_MASK		((UINT32_C(1) << HASH_BITS) - 1)
#define ATTRIBUTE_BIT	(UINT32_C(1) << 31) /* a hash of the name, not a
											 * CsField */
#define IDENTITY(item)	((item) >> HASH_BITS)

static uint32
hash(const char *text, uint64 seed)
{
	if (text == NULL)
		return (uint32) (seed >> 32) & HASH_MASK;
	return (uint32) cs_text_hash(text, seed) & HASH_MASK;
}

static uint32
field_item(const CsContact *contact, CsField field, uint64 seed)
{
	return ((uint32) field << HASH_BITS) | hash(contact->value[field], seed + field);
}

static uint32
attribute_item(const CsAttribute *attribute, uint64 seed)
{
	uint32		name = hash(attribute->name, 0);

	return ATTRIBUTE_BIT | (name << HASH_BITS) | hash(attribute->json, seed + CS_FIELD_COUNT + name);
}

bytea *
cs_field_hash_make(const CsContact *contact, uint64 secret)
{
	Size		room = VARHDRSZ + (CS_FIELD_COUNT + contact->nattributes) * sizeof(uint32);
	bytea	   *hashes = palloc(room);
	uint32	   *items = (uint32 *) VARDATA(hashes);
	uint64		seed = cs_text_hash(contact->upsert_key, secret);
	int			n = 0;

	for (int i = 0; i < CS_FIELD_COUNT; i++)
		if (i != CS_ATTRIBUTES && (contact->present & CS_FIELD_BIT(i)) != 0)
			items[n++] = field_item(contact, i, seed);
	for (int i = 0; i < contact->nattributes; i++)
		items[n++] = attribute_item(&contact->attributes[i], seed);
	SET_VARSIZE(hashes, VARHDRSZ + n * sizeof(uint32));
	return hashes;
}

static int
count(const bytea *hashes)
{
	return (int) (VARSIZE_ANY_EXHDR(hashes) / sizeof(uint32));
}

static uint32
get(const bytea *hashes, int i)
{
	uint32		item;

	/* what was stored need not be aligned */
	memcpy(&item, VARDATA_ANY(hashes) + i * sizeof(item), sizeof(item));
	return item;
}

/* Find the item of the same field or attribute; return false if there is none. */
static bool
find(const bytea *hashes, uint32 identity, uint32 *item)
{
	for (int i = 0; i < count(hashes); i++)
	{
		*item = get(hashes, i);
		if (IDENTITY(*item) == identity)
			return true;
	}
	return false;
}

static void
list(StringInfo names, const char *name)
{
	if (names->len > 0)
		appendStringInfoChar(names, CS_FIELD_SEPARATOR);
	appendStringInfoString(names, name);
}

/* List what there was and is no more. */
static void
list_gone(StringInfo names, const bytea *now, const bytea *before)
{
	bool		attributes = false;
	uint32		item;

	for (int i = 0; i < count(before); i++)
	{
		uint32		gone = get(before, i);

		if (find(now, IDENTITY(gone), &item))
			continue;
		if ((gone & ATTRIBUTE_BIT) != 0)
			attributes = true;
		else if (IDENTITY(gone) < CS_FIELD_COUNT)
			list(names, cs_contact_field_name(IDENTITY(gone)));
	}
	if (attributes)
		list(names, cs_contact_field_name(CS_ATTRIBUTES));
}

char *
cs_field_hash_differences(const CsContact *contact, const bytea *now, const bytea *before)
{
	int			nfields = count(now) - contact->nattributes;
	StringInfoData names;
	uint32		item;

	initStringInfo(&names);
	for (int i = 0; i < count(now); i++)
	{
		uint32		current = get(now, i);

		if (before && find(before, IDENTITY(current), &item) && item == current)
			continue;
		list(&names, i < nfields ? cs_contact_field_name(IDENTITY(current)) : contact->attributes[i - nfields].name);
	}
	if (before)
		list_gone(&names, now, before);
	return names.data;
}
