/*-------------------------------------------------------------------------
 *
 * field_hash.h
 *		Which fields of a contact differ from those that it was last sent with.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_PROVIDER_FIELD_HASH_H
#define CS_PROVIDER_FIELD_HASH_H

#include "postgres.h"

#include "provider/contact.h"

/* What parts names in a list: a character that no name should have. */
#define CS_FIELD_SEPARATOR	'\x1f'

/*
 * Hash each field and attribute of a contact that was prepared.  "secret" is the
 * database's: without it the hashes tell nothing of the values.  Palloc'd.
 */
extern bytea *cs_field_hash_make(const CsContact *contact, uint64 secret);

/*
 * List the fields and attributes whose hashes in "now", which are those of the contact,
 * are not the same in "before"; with NULL, all of them.  An attribute that the contact has no more is listed as
 * "attributes".  UTF-8, palloc'd; "" if there are none.
 */
extern char *cs_field_hash_differences(const CsContact *contact, const bytea *now, const bytea *before);

#endif							/* CS_PROVIDER_FIELD_HASH_H */
