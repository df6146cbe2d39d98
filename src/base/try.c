/*-------------------------------------------------------------------------
 *
 * try.c
 *		Whose fault an error is that came up while rows were read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/try.h"

CsFault
cs_fault_classify(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case MAKE_SQLSTATE('3', 'F', '0', '0', '0'):
		case ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION:
			return CS_FAULT_BROKEN;
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case MAKE_SQLSTATE('5', '5', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):
			return CS_FAULT_LATER;
		default:
			return sqlerrcode == CS_ERRCODE_SOURCE_TIMEOUT ? CS_FAULT_TIMEOUT : CS_FAULT_ROW;
	}
}

CsFault
cs_fault_try(void (*run) (void *arg), void *arg, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile CsFault fault = CS_FAULT_NONE;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		run(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if ((*error)->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(*error);	/* it is not the rows that somebody ends */
		fault = cs_fault_classify((*error)->sqlerrcode);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return fault;
}
