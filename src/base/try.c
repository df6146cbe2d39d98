/*-------------------------------------------------------------------------
 *
 * try.c
 *		Running something that may fail in a subtransaction.
 *
 * Nothing else begins a subtransaction, and nothing else decides what an error
 * means: the table below does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/try.h"

/* An SQLSTATE, or its class, and what it means; the first that fits counts. */
static const struct
{
	int			sqlstate;
	bool		whole_class;
	CsTryResult result;
}			meanings[] = {
	{ERRCODE_QUERY_CANCELED, false, CS_TRY_CANCELLED},
	{CS_ERRCODE_SOURCE_TIMEOUT, false, CS_TRY_TIMEOUT},
	{ERRCODE_TRANSACTION_ROLLBACK, true, CS_TRY_LATER},
	{ERRCODE_INSUFFICIENT_RESOURCES, true, CS_TRY_LATER},
	{ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, true, CS_TRY_LATER},
	{ERRCODE_SYSTEM_ERROR, true, CS_TRY_LATER},
	{ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION, true, CS_TRY_BROKEN},
	{ERRCODE_INVALID_SCHEMA_NAME, true, CS_TRY_BROKEN},
	{ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, true, CS_TRY_BROKEN},
};

/* Return what an error means; what is not in the table is a row's own error. */
static CsTryResult
classify(int sqlerrcode)
{
	for (int i = 0; i < lengthof(meanings); i++)
		if (meanings[i].whole_class ?
			ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TO_CATEGORY(meanings[i].sqlstate) :
			sqlerrcode == meanings[i].sqlstate)
			return meanings[i].result;
	return CS_TRY_ROW_ERROR;
}

/*
 * Run something in a subtransaction, in the current memory context.  Unless
 * lock_timeout is NULL it waits no longer for a lock.  On an error everything
 * is rolled back, and the error is returned in *error, if that is not NULL,
 * palloc'd in the current context.  A cancellation is thrown.
 */
CsTryResult
cs_try(void (*run) (void *arg), void *arg, const char *lock_timeout, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile CsTryResult result = CS_TRY_OK;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		/* the end of the subtransaction takes it back */
		if (lock_timeout)
			(void) set_config_option("lock_timeout", lock_timeout, PGC_SUSET, PGC_S_SESSION,
									 GUC_ACTION_SAVE, true, 0, false);
		run(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *caught;

		MemoryContextSwitchTo(context);
		caught = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		result = classify(caught->sqlerrcode);
		if (result == CS_TRY_CANCELLED)
			ReThrowError(caught);
		if (error)
			*error = caught;
		else
			FreeErrorData(caught);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return result;
}

/*
 * Run something in a subtransaction that is rolled back afterwards, which gives
 * back its locks.  Memory of the current context is kept; errors are thrown.
 */
void
cs_try_and_undo(void (*run) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	run(arg);
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}
