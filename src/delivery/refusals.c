/*-------------------------------------------------------------------------
 *
 * refusals.c
 *		Which contacts and addresses rows said no for, and in which transaction.
 *
 * A set holds hashes of 64 bits.  That two are equal by chance is possible, and has
 * somebody say no who did not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"


#include "base/text.h"
#include "delivery/refusals.h"

static uint64
hash(const char *kind, const char *identity, uint64 xact)
{
	return cs_text_hash(identity, cs_text_hash(kind, xact));
}

static void
add(HTAB **refusals, MemoryContext context, const char *kind, const char *identity, uint64 xact)
{
	HASHCTL		ctl = {.keysize = sizeof(uint64),.entrysize = sizeof(uint64),.hcxt = context};
	uint64		key;

	if (identity == NULL)
		return;
	if (*refusals == NULL)
		*refusals = hash_create("contactsync refusals", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	key = hash(kind, identity, xact);
	(void) hash_search(*refusals, &key, HASH_ENTER, NULL);
}

static bool
has(HTAB *refusals, const char *kind, const char *identity, uint64 xact)
{
	uint64		key;

	if (identity == NULL)
		return false;
	key = hash(kind, identity, xact);
	return hash_search(refusals, &key, HASH_FIND, NULL) != NULL;
}

void
cs_refusals_add(HTAB **refusals, MemoryContext context, const char *upsert_key, const char *address,
				uint64 xact)
{
	add(refusals, context, "key", upsert_key, xact);
	add(refusals, context, "email", address, xact);
}

bool
cs_refusals_has(HTAB *refusals, const char *upsert_key, const char *address, uint64 xact)
{
	return refusals && (has(refusals, "key", upsert_key, xact) || has(refusals, "email", address, xact));
}
