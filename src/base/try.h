/*-------------------------------------------------------------------------
 *
 * try.h
 *		Running something that may fail in a subtransaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_TRY_H
#define CS_BASE_TRY_H

#include "postgres.h"

/* A row that a lock or the like keeps from being read is given up after so many tries. */
#define CS_TRY_LATER_LIMIT	12

/* What is said of code that took too long. */
#define CS_TRY_TIMEOUT_MESSAGE	"mapping and filter took longer than contactsync.source_timeout"

/* What an error means to the caller. */
typedef enum CsTryResult
{
	CS_TRY_OK,
	CS_TRY_ROW_ERROR,			/* a single row can cause it */
	CS_TRY_TIMEOUT,				/* likewise, but finding the row takes long */
	CS_TRY_LATER,				/* a lock, a conflict, lack of resources, or
								 * the process is to end */
	CS_TRY_BROKEN,				/* the definition does not fit its table, or
								 * the role lost a right */
	CS_TRY_CANCELLED			/* somebody cancelled; cs_try() throws it */
} CsTryResult;

/*
 * How long a statement of ours waits for a lock that a session of a user may have: on a
 * table, or on what is stored of a watch.
 */
#define CS_LOCK_TIMEOUT		"100ms"

extern CsTryResult cs_try(void (*run) (void *arg), void *arg, const char *lock_timeout,
						  ErrorData **error);

/* What the server lacks, such as room on disk, if the last CS_TRY_LATER was for that; else "otherwise". */
extern const char *cs_try_lack(const char *otherwise);
extern CsTryResult cs_try_narrow(CsTryResult result, CsTryResult without_rows);
extern bool cs_try_transactions(void (*run) (void *arg), void *arg, void (*roll_back) (void));
extern void cs_try_and_undo(void (*run) (void *arg), void *arg);

#endif							/* CS_BASE_TRY_H */
