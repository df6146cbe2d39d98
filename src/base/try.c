/*-------------------------------------------------------------------------
 *
 * try.c
 *		Running something that may fail in a subtransaction.
 *
 * Nothing else begins a subtransaction, and nothing else decides what an error
 * means.  What ended code from outside (our time limit, a termination, somebody's
 * cancellation) is known by marks, see interrupt.c; everything else is the code's
 * own error, and the table below says what it means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/shmem.h"
#include "base/try.h"

/* An SQLSTATE, or its class, and what it means; the first that fits counts. */
static const struct
{
	int			sqlstate;
	bool		whole_class;
	CsTryResult result;
}			meanings[] = {
	{ERRCODE_LOCK_NOT_AVAILABLE, false, CS_TRY_LATER},
	{ERRCODE_T_R_SERIALIZATION_FAILURE, false, CS_TRY_LATER},
	{ERRCODE_T_R_DEADLOCK_DETECTED, false, CS_TRY_LATER},
	{ERRCODE_INSUFFICIENT_RESOURCES, true, CS_TRY_LATER},
	{ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION, true, CS_TRY_BROKEN},
	{ERRCODE_INVALID_SCHEMA_NAME, true, CS_TRY_BROKEN},
	{ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, true, CS_TRY_BROKEN},
};

/* The time between two warnings of what the server lacks. */
#define WARNING_SECONDS		60

/* What the last error that has to wait says that the server lacks; "" if that was a lock. */
static char lack[256];

const char *
cs_try_lack(const char *otherwise)
{
	return lack[0] ? lack : otherwise;
}

/* Remember why something has to be done later, and tell whoever reads the log of the worker. */
static void
note_later(const ErrorData *error)
{
	static TimestampTz warned_at = 0;
	TimestampTz now = cs_clock_steady();

	lack[0] = '\0';
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_INSUFFICIENT_RESOURCES || error->message == NULL)
		return;
	strlcpy(lack, error->message, sizeof(lack));
	if (!cs_shmem_is_worker() || !TimestampDifferenceExceeds(warned_at, now, WARNING_SECONDS * 1000))
		return;
	warned_at = now;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("contactsync waits: %s", lack),
			 error->hint ? errhint("%s", error->hint) : 0));
}

/* Return what an error means; what is not in the table is a row's own error. */
static CsTryResult
classify(ErrorData *error)
{
	switch (cs_interrupt_of(error))
	{
		case CS_INTERRUPT_TIMEOUT:
			error->message = CS_TRY_TIMEOUT_MESSAGE;
			return CS_TRY_TIMEOUT;
		case CS_INTERRUPT_ENDING:
			return CS_TRY_LATER;
		case CS_INTERRUPT_CANCEL:
			return CS_TRY_CANCELLED;
		case CS_INTERRUPT_NONE:
			break;
	}
	for (int i = 0; i < lengthof(meanings); i++)
		if (meanings[i].whole_class ?
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TO_CATEGORY(meanings[i].sqlstate) :
			error->sqlerrcode == meanings[i].sqlstate)
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
		result = classify(caught);
		RollbackAndReleaseCurrentSubTransaction();
		if (result == CS_TRY_CANCELLED)
			ReThrowError(caught);
		if (result == CS_TRY_LATER)
			note_later(caught);
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
 * Say what an error of reading some rows of a watch means, where reading none of them
 * had the other result.  What fails without any row is the fault of none of them.
 */
CsTryResult
cs_try_narrow(CsTryResult result, CsTryResult without_rows)
{
	switch (without_rows)
	{
		case CS_TRY_OK:
			return result == CS_TRY_BROKEN ? CS_TRY_ROW_ERROR : result;
		case CS_TRY_LATER:
			return CS_TRY_LATER;
		default:
			return CS_TRY_BROKEN;
	}
}

/*
 * Run something that begins and ends transactions of its own, outside of one.  Return
 * false if a lock or the like ended it, after its transaction was rolled back by
 * roll_back(); with NULL, and otherwise, errors are thrown.
 */
bool
cs_try_transactions(void (*run) (void *arg), void *arg, void (*roll_back) (void))
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	PG_TRY();
	{
		run(arg);
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (roll_back == NULL || classify(error) != CS_TRY_LATER)
			PG_RE_THROW();
		FlushErrorState();
		roll_back();
		note_later(error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return done;
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
