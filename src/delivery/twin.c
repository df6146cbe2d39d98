/*-------------------------------------------------------------------------
 *
 * twin.c
 *		Contacts that may be another one by now.
 *
 * Where a contact can get the address that its provider finds it by, a call that was not
 * answered leaves two of them here, of which there is one there: that of the address
 * that it had, and that of the address that it was to get, of which nothing has been
 * heard.  Each is stored as the other one's twin before the call.  Whichever is sent
 * next, the provider's ID in the answer tells which one there is; the other one goes
 * then, and its address remembers what is known of the person.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery/remember.h"
#include "delivery/twin.h"

void
cs_twin_read(int endpoint, CsItem *item)
{
	CsKnown    *twin = &item->twin;

	if (item->known.twin == NULL)
		return;
	cs_contact_state_read(endpoint, 1, &item->known.twin, twin);
	/* it can have become somebody else since */
	if (twin->found && (twin->twin == NULL || strcmp(twin->twin, item->upsert_key) != 0 ||
						(twin->synced_at == 0) == (item->known.synced_at == 0)))
		twin->found = false;
}

void
cs_twin_apply(const CsItem *item)
{
	const CsKnown *twin = &item->twin;
	CsChange   *change = item->change;

	item->contact->in_doubt = item->known.twin && (twin->found || item->known.synced_at == 0);
	if (!twin->found)
		return;
	change->twin_key = twin->upsert_key;
	change->twin_id = twin->synced_at != 0 ? twin->remote_id : item->known.remote_id;
	change->moved_from = cs_remember_left(twin->upsert_key, twin);
	if (twin->synced_at == 0)
		change->moved_from.state = '\0';
}
