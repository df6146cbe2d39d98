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
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "provider/contact.h"

/* What is known of a source row. */
typedef struct CsKnown
{
	bool		found;
	bool		has_digest;
	pg_uuid_t	digest;
	char		action;
	TimestampTz synced_at;
	char	   *upsert_key;
	char	   *email;			/* NULL: the upsert key is it */
	char	   *remote_id;
	char	   *topics;
	bool		consent_sent;
	bool		opted_out;
} CsKnown;

/* An outcome to be stored. */
typedef struct CsStored
{
	const char *key;
	const CsContact *contact;	/* NULL: it could not be made */
	pg_uuid_t	digest;			/* of a failure: of what was refused, or 0 */
	const char *remote_id;
	const char *remote_status;
	const char *remote_updated_at;	/* as the provider writes it */
	const char *topics;
	const char *note;			/* stored as contact.error beside a success */
	bool		consent_sent;
	bool		opted_out;
	/* of a failure */
	const char *reason;
	const char *code;
	const char *message;
	const char *field;
	const char *request_id;
	int			attempts;
	bool		maybe_sent;		/* it may have reached the provider */
	bool		withdraws;		/* ... and withdrew consent there */
	Jsonb	   *direct;
} CsStored;

/*
 * These need a transaction.  known[i] is for keys[i]; texts are palloc'd in the
 * current context.
 */
extern void cs_contact_state_read(int endpoint, int watch, int n, char **keys, CsKnown *known);
extern void cs_contact_state_expire(int n, CsKnown *known, TimestampTz before);
extern void cs_contact_state_store(int endpoint, int watch, int n, const CsStored *stored);

/* All below need a transaction and the scope of cs_sql_enter(). */
extern bool cs_contact_state_exists(int endpoint, int watch);
extern void cs_contact_state_expire_direct(int endpoint, int n, const CsStored *stored);
extern void cs_contact_state_forget_digests(int endpoint, int watch, int n, char **keys);
extern void cs_contact_state_forget(int endpoint, int watch, int n, char **keys);
extern char *cs_contact_state_find_sharer(int endpoint, const char *upsert_key, int watch, const char *key,
										  int *sharer_watch);

/* A contact that was sent for a row, to be compared with the provider's. */
typedef struct CsContactSample
{
	int			watch;
	char	   *key;
	bool		queued;			/* a change to it is queued */
} CsContactSample;

extern int64 cs_contact_state_count(int endpoint);
extern CsContactSample *cs_contact_state_sample(int endpoint, int limit, int *n);
extern int	cs_contact_state_next_keys(int endpoint, int watch, bool only_failures, const char *after,
									   int limit, char **keys);

#endif							/* CS_STORE_CONTACT_STATE_H */
