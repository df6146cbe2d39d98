/*-------------------------------------------------------------------------
 *
 * refresh.c
 *		The access token of an account at work, kept fresh.
 *
 * A token is renewed before it expires, and once more when the provider does
 * not take it.  The provider has made the old refresh token void when it
 * answers, so the answer is stored, durably, before anything else is done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/shmem.h"
#include "base/sql.h"
#include "delivery/pace.h"
#include "delivery/refresh.h"

/* A token that could not be stored is tried to be stored again after (s). */
#define STORE_PAUSE		1.0

bool
cs_refresh_is_due(const CsAccount *account, double now)
{
	if (account->refresh)
		return true;
	return !account->unreadable && cs_token_refreshable(account->endpoint) &&
		(account->refresh_wanted || cs_token_due_at(account->endpoint, now) <= now);
}

/* When the next refresh can start, if one is due. */
double
cs_refresh_ready_at(const CsAccount *account, double now)
{
	return Max(account->refresh_at, now);
}

/* Effect: the refresh is over; its secrets are wiped. */
static void
end_refresh(CsRefresh *refresh)
{
	refresh->account->refresh = NULL;
	cs_token_wipe(&refresh->token);
	MemoryContextDelete(refresh->context);
}

void
cs_refresh_start(CsAccount *account, CsHttp *http, double now)
{
	MemoryContext context;
	MemoryContext old;
	CsRequest	request = {0};

	if (account->refresh || now < account->refresh_at)
		return;
	context = AllocSetContextCreate(account->context, "contactsync refresh",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	account->refresh = palloc0(sizeof(CsRefresh));
	account->refresh->owner.kind = CS_OWNER_REFRESH;
	account->refresh->account = account;
	account->refresh->context = context;
	cs_token_build(account->endpoint, &request);
	(void) cs_http_start(http, account->endpoint, &request, NULL, account->refresh);
	cs_token_wipe_request(&request);
	MemoryContextSwitchTo(old);
}

/* Effect: the token is there to be stored, or the account waits or is halted. */
void
cs_refresh_answered(CsRefresh *refresh, const CsResponse *response, double now)
{
	CsAccount  *account = refresh->account;
	MemoryContext old = MemoryContextSwitchTo(refresh->context);
	CsJudgement judgement;

	cs_token_judge(account->endpoint, response, &judgement, &refresh->token);
	MemoryContextSwitchTo(old);
	switch (judgement.verdict)
	{
		case CS_DONE:
			refresh->received = true;
			return;
		case CS_HALT:
			cs_account_halt(account, now, judgement.retry_after,
							judgement.reason ? judgement.reason : "unauthorized",
							judgement.message);
			account->refresh_at = account->resume_at;
			break;
		default:
			cs_account_throttle(account, now, judgement.retry_after, judgement.message);
			account->refresh_at = account->resume_at;
	}
	end_refresh(refresh);
}

bool
cs_refresh_has_to_store(const CsAccount *account)
{
	return account->refresh != NULL && account->refresh->received;
}

/* Effect: in a subtransaction; false if somebody else was at the user mapping. */
static bool
try_to_store(CsAccount *account)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool stored = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		CsSqlScope	scope;

		cs_sql_enter(&scope);
		(void) cs_token_store(account->endpoint, &account->refresh->token);
		cs_sql_leave(&scope);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		stored = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return stored;
}

/* Effect: the account uses a token that another one has just stored. */
void
cs_refresh_share(CsAccount *account, double now)
{
	account->refresh_wanted = false;
	account->refreshed_at = now;
	cs_account_read_endpoint(account, now);
}

void
cs_refresh_store(CsAccount *account, double now)
{
	if (now < account->refresh_at)
		return;
	if (!try_to_store(account))
	{
		account->refresh_at = now + STORE_PAUSE;
		return;
	}
	/* the change is our own: no need to begin anew */
	cs_shmem_forget_reload();
	CommandCounterIncrement();
	end_refresh(account->refresh);
	cs_refresh_share(account, now);
}
