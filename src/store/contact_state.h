/*-------------------------------------------------------------------------
 *
 * contact_state.h
 *		contactsync.contact: what was last synced of every source row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_CONTACT_STATE_H
#define CS_STORE_CONTACT_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "store/state.h"

/* What is known of a source row. */
typedef struct CsKnown
{
	bool		found;
	bool		has_digest;
	pg_uuid_t	digest;
	char		action;
	TimestampTz synced_at;
	char	   *upsert_key;
	char	   *email;			/* NULL: it is the upsert key */
	char	   *remote_id;
	char	   *topics;
	bool		consent_sent;
	bool		opted_out;
} CsKnown;

/* Both need a transaction; known[i] is for keys[i], palloc'd in the current
 * context. */
extern void cs_contact_state_read(int endpoint, int watch, int n, char **keys, CsKnown *known);
extern void cs_contact_state_expire(int n, CsKnown *known, TimestampTz before);
extern void cs_contact_state_store(int endpoint, int watch, int n, const CsStored *stored);

#endif							/* CS_STORE_CONTACT_STATE_H */
