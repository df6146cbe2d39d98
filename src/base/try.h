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

/* A query over a source took longer than contactsync.source_timeout. */
#define CS_ERRCODE_SOURCE_TIMEOUT	MAKE_SQLSTATE('C', 'S', '0', '0', '1')

/* What an error means to the caller. */
typedef enum CsTryResult
{
	CS_TRY_OK,
	CS_TRY_ROW_ERROR,			/* a single row can cause it */
	CS_TRY_TIMEOUT,				/* likewise, but finding the row takes long */
	CS_TRY_LATER,				/* a lock, a conflict, or lack of resources */
	CS_TRY_BROKEN,				/* the definition does not fit its table, or
								 * the role lost a right */
	CS_TRY_CANCELLED			/* somebody ends us; cs_try() throws it */
} CsTryResult;

/*
 * How long a statement of ours waits for a lock that a session of a user may have: on a
 * table, or on what is stored of a watch.
 */
#define CS_LOCK_TIMEOUT		"100ms"

extern CsTryResult cs_try(void (*run) (void *arg), void *arg, const char *lock_timeout,
						  ErrorData **error);
extern void cs_try_and_undo(void (*run) (void *arg), void *arg);

#endif							/* CS_BASE_TRY_H */
