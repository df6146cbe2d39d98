/*-------------------------------------------------------------------------
 *
 * contact_known.h
 *		What follows from what was read of a contact.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_CONTACT_KNOWN_H
#define CS_STORE_CONTACT_KNOWN_H

#include "postgres.h"

#include "store/contact_state.h"

/* Is the contact, of which an address is known, to get another one? */
extern bool cs_contact_known_is_moving(const CsKnown *known, const CsContact *contact);

/* The address that it has at the provider, in the database's encoding. */
extern const char *cs_contact_known_address(const CsKnown *known);

/*
 * Read the same contact under another key, where an address has one contact, if we know it both
 * by its address and by an ID.  Needs a transaction.
 */
extern void cs_contact_known_read_alias(int endpoint, const CsKnown *known, CsKnown *alias);

/* Does the row speak for the contact? */
extern bool cs_contact_known_is_speaker(const CsKnown *known, int watch, const char *key);

/* Give rows that speak for their contacts the digests of these, before they expire. */
extern void cs_contact_known_add_digests(int watch, int n, char **keys, const CsKnown *known,
										 CsRowState *rows);

/* Trust nothing that was synced before. */
extern void cs_contact_known_expire(int n, CsKnown *known, TimestampTz before);

/* Consent that was claimed by contacts that were sent before that time may be claimed
 * again. */
extern void cs_contact_known_reclaim(int n, CsKnown *known, TimestampTz before);

#endif							/* CS_STORE_CONTACT_KNOWN_H */
