/*-------------------------------------------------------------------------
 *
 * failure.h
 *		contactsync.failure: contacts that were given up on.
 *
 * Every function needs a transaction and the scope of cs_sql_enter(); those that read
 * single failures enter it themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_FAILURE_H
#define CS_STORE_FAILURE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/array.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* A contact that was given up on; texts of ours in the database's encoding, those
 * of the provider in UTF-8. */
typedef struct CsFailureStored
{
	int			watch;			/* 0: contactsync_upsert() */
	const char *key;
	const char *upsert_key;		/* or NULL */
	pg_uuid_t	digest;			/* of what was refused, or zero */
	const char *reason;
	const char *code;
	const char *message;
	const char *field;
	const char *request_id;
	int			attempts;
	const char *conflict;		/* the address that another contact has, or
								 * NULL */
	bool		removal;
	Jsonb	   *direct;			/* of contactsync_upsert() */
	bool		erases;			/* the person is to be erased: nothing else
								 * keeps the message */
} CsFailureStored;

/* A failure as stored. */
typedef struct CsFailed
{
	bool		found;
	char	   *reason;
	char	   *message;
	bool		has_digest;
	pg_uuid_t	digest;
	TimestampTz last_at;
	bool		conflicts;		/* another contact of ours has the address */
} CsFailed;

extern bool cs_failure_exists(int endpoint, int watch);
extern void cs_failure_read(int endpoint, int watch, int n, char **keys, CsFailed *failed);
extern void cs_failure_store(int endpoint, int n, const CsFailureStored *stored);

/* The upsert key that failed, palloc'd, or NULL. */
extern char *cs_failure_upsert_key(int endpoint, int watch, const char *key);

/* Is there a row of a watch that was sent as this contact, and refused? */
extern bool cs_failure_has_row(int endpoint, const char *upsert_key);

/*
 * Contacts do not have these addresses any more: queue the rows that failed because they
 * had.  Return whether there were any.
 */
extern bool cs_failure_retry_conflicts(int endpoint, int n, char **addresses);

/* Rows stand for these contacts: that they could not be removed is over. */
extern void cs_failure_clear_removals(int endpoint, int n, char **upsert_keys);

extern void cs_failure_clear(int endpoint, int watch, int n, char **keys);
extern void cs_failure_prune(void);

/* Failures of a role and of the roles whose privileges it has. */
typedef struct CsFailureFilter
{
	Oid			roleid;
	Name		server;			/* NULL: of all servers */
	int			watch;			/* 0: of all watches, and of upserts */
	text	   *reason;			/* NULL: any */
	ArrayType  *ids;			/* int8[]; NULL: all that are not ignored */
} CsFailureFilter;

extern int64 cs_failure_retry(const CsFailureFilter *filter);

/* Did the provider fail, rather than refuse?  It may accept the contact now. */
extern bool cs_failure_is_passing(const CsFailed *failed);

/*
 * Queue those of an endpoint for which that is so, and that failed or were queued so
 * longer than so many seconds ago; at most "limit".  Return how many.
 */
extern int64 cs_failure_retry_passing(int endpoint, int seconds, int limit);

extern int64 cs_failure_ignore(Oid roleid, ArrayType *ids);

#endif							/* CS_STORE_FAILURE_H */
