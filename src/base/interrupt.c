/*-------------------------------------------------------------------------
 *
 * interrupt.c
 *		Running code that is not ours, and telling what ended it.
 *
 * Mappings, filters, casts and policies are somebody's code, which may run for
 * ever, and may catch whatever error ends it.  Between cs_interrupt_begin() and
 * cs_interrupt_end() a timer therefore fires again and again:
 *
 *	- past the time limit it cancels the query with each tick.  Code that catches a
 *	  cancellation is cancelled again at once, before its next statement, because
 *	  the subtransaction in which it caught the error is rolled back;
 *	- when the worker is to end it does the same, for the worker first answers
 *	  what is in flight; if the code goes on after ENDING_GRACE, the process ends
 *	  where it is, as a backend does in die(), which no code can catch.
 *
 * Who cancelled is known by these marks, never by the SQLSTATE of the error: code
 * may raise any.  A cancellation by somebody else is an error that the server
 * itself raised where it looks for interrupts.
 *
 * Outside such a region a termination only sets a mark, which the worker's loop
 * looks at, except where it waits for a lock (cs_interrupt_allow_end()).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/interrupt.h"
#include "base/shmem.h"

/* The timer fires this often (ms), or at the time limit if that is less. */
#define TICK			100

/* Code that does not end when it is cancelled is ended after this time (ms). */
#define ENDING_GRACE	500

/* The region that we are in; only one, nested ones are part of it. */
static struct
{
	volatile sig_atomic_t active;
	int			nest_level;		/* of transactions, where it began */
	int			limit;			/* ms */
	int			tick;			/* ms */
	volatile sig_atomic_t nticks;
	volatile sig_atomic_t nending;	/* of these, since the process is to end */
	instr_time	began;
}			region;

static double spent = 0;		/* see cs_interrupt_take_spent() */

/* The last region, if it was over its limit, or the process is to end. */
static volatile sig_atomic_t expired = false;
static volatile sig_atomic_t ending = false;

/* Errors that these caused are marked, for they may be thrown again. */
static const char expired_mark[] = "time limit";
static const char ending_mark[] = "end of the process";

static volatile sig_atomic_t end_allowed = false;
static bool is_worker = false;
static TimeoutId timer = MAX_TIMEOUTS;

/* Is this process a worker that is to end? */
bool
cs_interrupt_is_ending(void)
{
	return is_worker && (ShutdownRequestPending || cs_shmem_asked_to_leave());
}

static void
cancel(void)
{
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static void
end_process(void)
{
	ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/* The timer has fired.  Runs in a signal handler. */
static void
tick(void)
{
	if (!region.active)
		return;
	region.nticks++;
	expired = region.nticks * region.tick >= region.limit;
	if (cs_interrupt_is_ending())
	{
		ending = true;
		region.nending++;
	}
	if (expired || ending)
		cancel();
	if (region.nending * region.tick >= ENDING_GRACE)
		end_process();
}

/* SIGTERM of a worker. */
static void
request_shutdown(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (end_allowed)
		end_process();
	else if (region.active)
	{
		ending = true;
		cancel();
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/* The code has ended, in whichever way. */
static void
close_region(void)
{
	instr_time	now;

	if (!region.active)
		return;
	disable_timeout(timer, false);
	region.active = false;
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, region.began);
	spent += INSTR_TIME_GET_DOUBLE(now);
	/* a cancellation of ours that the code ended without */
	if (expired || ending)
		QueryCancelPending = false;
}

static void
at_subxact(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	if (GetCurrentTransactionNestLevel() <= region.nest_level)
	{
		close_region();
		expired = ending = false;
	}
	else if (region.active && (expired || ending))
		cancel();
}

static void
at_xact(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_ABORT)
		return;
	close_region();
	expired = ending = false;
}

/* Have a worker end as described above.  Call it before signals are unblocked. */
void
cs_interrupt_init_worker(void)
{
	is_worker = true;
	pqsignal(SIGTERM, request_shutdown);
}

/*
 * From here on code runs that is not ours, for at most "limit" ms.  Return false in
 * a region that has begun already, which this one is a part of.  The region ends
 * with cs_interrupt_end(), or with the (sub)transaction if that aborts.
 */
bool
cs_interrupt_begin(int limit)
{
	if (region.active)
		return false;
	if (timer == MAX_TIMEOUTS)
	{
		timer = RegisterTimeout(USER_TIMEOUT, tick);
		RegisterXactCallback(at_xact, NULL);
		RegisterSubXactCallback(at_subxact, NULL);
	}
	expired = false;
	ending = cs_interrupt_is_ending();
	region.nest_level = GetCurrentTransactionNestLevel();
	region.limit = limit;
	region.tick = Min(limit, TICK);
	region.nticks = region.nending = 0;
	INSTR_TIME_SET_CURRENT(region.began);
	region.active = true;
	enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), region.tick),
						 region.tick);
	if (ending)
		cancel();
	return true;
}

/*
 * End the region that cs_interrupt_begin() began.  Return false if it is not to be
 * taken for well what the code did: it caught what should have ended it.
 */
bool
cs_interrupt_end(void)
{
	close_region();
	return !expired && !ending;
}

/* Return how many seconds code that is not ours took since the last call. */
double
cs_interrupt_take_spent(void)
{
	double		result = spent;

	spent = 0;
	return result;
}

/* Between calls with true and false, a termination ends the worker where it is. */
void
cs_interrupt_allow_end(bool allow)
{
	end_allowed = allow && is_worker;
	if (end_allowed && ShutdownRequestPending)
		end_process();
}

/* Did somebody else cancel the query? */
static bool
is_cancelled(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->funcname &&
		strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/*
 * Tell what caused an error that was caught, before the (sub)transaction is rolled
 * back, and mark it with that.
 */
CsInterrupt
cs_interrupt_of(ErrorData *error)
{
	if (ending)
		error->funcname = ending_mark;
	else if (expired)
		error->funcname = expired_mark;
	/* the worker goes on: what it does was cancelled, not the worker */
	else if (is_worker && region.active && is_cancelled(error))
		error->funcname = ending_mark;

	if (error->funcname == ending_mark)
		return CS_INTERRUPT_ENDING;
	if (error->funcname == expired_mark)
		return CS_INTERRUPT_TIMEOUT;
	return is_cancelled(error) ? CS_INTERRUPT_CANCEL : CS_INTERRUPT_NONE;
}
