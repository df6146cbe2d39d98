/*-------------------------------------------------------------------------
 *
 * call_log.h
 *		contactsync.call: the log of HTTP calls.
 *
 * Every function needs a transaction and the scope of cs_sql_enter().
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_CALL_LOG_H
#define CS_STORE_CALL_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A row of contactsync.call. */
typedef struct CsCallRecord
{
	int			endpoint;
	TimestampTz started_at;
	double		duration;		/* s */
	const char *method;
	const char *path;
	int			status;
	const char *verdict;
	int			contacts;
	int			failed;
	int			created;		/* as the provider counts; -1: not known */
	int			updated;
	int			attempt;
	int			sent;
	int			received;
	const char *idempotency_key;
	const char *request_id;
	const char *error;
	List	   *traces;			/* of CsTrace, to be stored with it */
} CsCallRecord;

extern void cs_call_log_store(const List *records);
extern void cs_call_log_prune(void);

#endif							/* CS_STORE_CALL_LOG_H */
