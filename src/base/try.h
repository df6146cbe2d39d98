/*-------------------------------------------------------------------------
 *
 * try.h
 *		Whose fault an error is that came up while rows were read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_BASE_TRY_H
#define CS_BASE_TRY_H

#include "postgres.h"

/* A query over a source took longer than contactsync.source_timeout. */
#define CS_ERRCODE_SOURCE_TIMEOUT	MAKE_SQLSTATE('C', 'S', '0', '0', '1')

typedef enum CsFault
{
	CS_FAULT_NONE,
	CS_FAULT_ROW,				/* what a single row can cause */
	CS_FAULT_TIMEOUT,			/* likewise, but it takes long to find which */
	CS_FAULT_LATER,				/* locked, or out of resources */
	CS_FAULT_BROKEN				/* the watch does not fit its table any more */
} CsFault;

extern CsFault cs_fault_classify(int sqlerrcode);

/*
 * Runs something in a subtransaction of its own.  An error is returned, palloc'd
 * in the current context, unless it is that somebody cancels us.
 */
extern CsFault cs_fault_try(void (*run) (void *arg), void *arg, ErrorData **error);

#endif							/* CS_BASE_TRY_H */
