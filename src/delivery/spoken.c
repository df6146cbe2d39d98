/*-------------------------------------------------------------------------
 *
 * spoken.c
 *		Which change of a row that spoke over another one was sent last.
 *
 * A row can be read before all that was queued of it is.  It is sent with its last
 * values, and another row of its contact, which changed before that, is sent after it.
 * When the rest of the queue is read, the first row says what it said, and yet it is
 * the one that changed last: it has to be sent again.
 *
 * This lives in memory, and is forgotten if there is too much of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/settings.h"
#include "base/text.h"
#include "delivery/spoken.h"

typedef struct CsSpoken
{
	uint64		hash;			/* of the upsert key */
	TimestampTz queued_at;
	TimestampTz sent_at;
} CsSpoken;

void
cs_spoken_note(HTAB **spoken, MemoryContext context, const char *upsert_key, TimestampTz queued_at)
{
	HASHCTL		ctl = {.keysize = sizeof(uint64),.entrysize = sizeof(CsSpoken),.hcxt = context};
	uint64		hash = cs_text_hash(upsert_key, 0);
	CsSpoken   *entry;

	if (*spoken && hash_get_num_entries(*spoken) >= cs_max_pending)
	{
		hash_destroy(*spoken);
		*spoken = NULL;
	}
	if (*spoken == NULL)
		*spoken = hash_create("contactsync spoken contacts", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	entry = hash_search(*spoken, &hash, HASH_ENTER, NULL);
	entry->queued_at = queued_at;
	entry->sent_at = GetCurrentTimestamp();
}

static CsSpoken *
find(HTAB *spoken, const char *upsert_key)
{
	uint64		hash = cs_text_hash(upsert_key, 0);

	return spoken ? hash_search(spoken, &hash, HASH_FIND, NULL) : NULL;
}

void
cs_spoken_renew(HTAB **spoken, MemoryContext context, const char *upsert_key, TimestampTz queued_at)
{
	const CsSpoken *entry = find(*spoken, upsert_key);

	if (entry == NULL || entry->queued_at < queued_at)
		cs_spoken_note(spoken, context, upsert_key, queued_at);
}

bool
cs_spoken_is_newer(HTAB *spoken, const char *upsert_key, TimestampTz queued_at)
{
	CsSpoken   *entry = find(spoken, upsert_key);

	return entry && entry->queued_at > queued_at;
}

bool
cs_spoken_is_older(HTAB *spoken, const char *upsert_key, TimestampTz queued_at)
{
	CsSpoken   *entry = find(spoken, upsert_key);

	return entry && entry->queued_at < queued_at && queued_at < entry->sent_at;
}
