/*-------------------------------------------------------------------------
 *
 * contact_known.c
 *		What follows from what was read of a contact.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/text.h"
#include "store/contact_known.h"

const char *
cs_contact_known_address(const CsKnown *known)
{
	return known->email ? known->email : known->upsert_key;
}

void
cs_contact_known_read_alias(int endpoint, const CsKnown *known, CsKnown *alias)
{
	char	   *upsert_key = known->upsert_key;
	char	   *email = known->email;

	if (email)
		cs_contact_state_read(endpoint, 1, &email, alias);
	else
		cs_contact_state_read_addresses(endpoint, 1, &upsert_key, &upsert_key, alias);
}

bool
cs_contact_known_is_moving(const CsKnown *known, const CsContact *contact)
{
	const char *email = contact->value[CS_EMAIL];

	return known->found && email && strcmp(cs_contact_known_address(known), cs_text_from_utf8(email)) != 0;
}

bool
cs_contact_known_is_speaker(const CsKnown *known, int watch, const char *key)
{
	return known->key && key && known->watch == watch && strcmp(known->key, key) == 0;
}

void
cs_contact_known_add_digests(int watch, int n, char **keys, const CsKnown *known, CsRowState *rows)
{
	for (int i = 0; i < n; i++)
	{
		if (!rows[i].found || rows[i].withheld || !known[i].has_digest ||
			!cs_contact_known_is_speaker(&known[i], watch, keys[i]) ||
			strcmp(known[i].upsert_key, rows[i].upsert_key) != 0)
			continue;
		rows[i].has_digest = true;
		rows[i].in_doubt = false;
		rows[i].digest = known[i].digest;
	}
}

void
cs_contact_known_expire(int n, CsKnown *known, TimestampTz before)
{
	for (int i = 0; i < n; i++)
		if (known[i].found && known[i].synced_at < before)
		{
			known[i].has_digest = false;
			known[i].is_stale = true;
		}
}

void
cs_contact_known_reclaim(int n, CsKnown *known, TimestampTz before)
{
	for (int i = 0; i < n; i++)
		known[i].claim_again = known[i].found && known[i].claimed && known[i].synced_at != 0 &&
			known[i].synced_at < before;
}
