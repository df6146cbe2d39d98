/*-------------------------------------------------------------------------
 *
 * outcome_log.h
 *		contactsync.outcome: what became of contacts, and why they were sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_OUTCOME_LOG_H
#define CS_STORE_OUTCOME_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Constants, or texts in the database's encoding; NULL: none, or not known. */
typedef struct CsLoggedOutcome
{
	int			watch;			/* 0: contactsync_upsert() */
	const char *key;
	const char *address;		/* to be hashed; of a contact without one the
								 * upsert key */
	const char *upsert_key;
	const char *outcome;
	const char *reason;
	const char *cause;
	const char *again;
	const char *fields;			/* names, parted by CS_FIELD_SEPARATOR */
	int			attempts;
	TimestampTz queued_at;		/* 0: it was not */
} CsLoggedOutcome;

/* The cause of what a scan queued: the run is found that did. */
#define CS_CAUSE_SCAN	"scan"

/* Both need a transaction, within cs_sql_enter(). */
extern void cs_outcome_log_store(int endpoint, int n, const CsLoggedOutcome *outcomes);

/*
 * Delete what is older than contact_log_age, and the oldest beyond contact_log_rows, as
 * many as take a moment.  Return false if there may be more.
 */
extern bool cs_outcome_log_prune(void);

#endif							/* CS_STORE_OUTCOME_LOG_H */
