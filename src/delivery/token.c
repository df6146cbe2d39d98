/*-------------------------------------------------------------------------
 *
 * token.c
 *		The OAuth access token of an account, kept fresh.
 *
 * A token is renewed before it expires, and once more when the provider refuses
 * it.  A refresh is a request like any other, but without authorization, and no
 * call about contacts starts while it is under way.
 *
 * The provider rotates the refresh token: when it answers, the old one is void
 * and the new one exists nowhere but in CsToken.  So the answer is stored,
 * durably, before anything else is done; if that fails, it is kept and stored
 * again.  Two accounts can use one user mapping, that of PUBLIC, so only one of
 * them refreshes it at a time.
 *
 * The token is written with AlterUserMapping() and not with a statement: logs,
 * pg_stat_statements and audit extensions keep the text of statements.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <float.h>

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/xact.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/invalidation.h"
#include "base/shmem.h"
#include "base/sql.h"
#include "base/try.h"
#include "delivery/token.h"
#include "http/json.h"
#include "http/url.h"
#include "provider/answer.h"

/* A token is renewed after this fraction of its lifetime. */
#define USED_LIFE		(5.0 / 6.0)

/* A time of issue that is further in the future is not believed (s). */
#define CLOCK_TOLERANCE 60.0

/* A token that could not be stored is stored again after (s). */
#define STORE_PAUSE		1.0

/*
 * When a refresh is due
 */

/* Does the endpoint have a token to refresh?  API keys are none. */
bool
cs_token_is_refreshable(const CsEndpoint *endpoint)
{
	return endpoint->provider->auth == CS_AUTH_OAUTH &&
		cs_endpoint_option(endpoint, "token_url") != NULL &&
		cs_endpoint_option(endpoint, "refresh_token") != NULL;
}

/* In Unix seconds; 0: at once. */
static double
due_at(const CsEndpoint *endpoint, double now)
{
	double		issued_at = cs_endpoint_option_number(endpoint, "token_refreshed_at", 0);
	double		expires_at = cs_endpoint_option_number(endpoint, "token_expires_at", 0);
	double		at;

	/* of unknown age, or from a time that the clock has not reached */
	if (cs_endpoint_option(endpoint, "access_token") == NULL ||
		issued_at == 0 || issued_at > now + CLOCK_TOLERANCE)
		return 0;
	at = issued_at + cs_endpoint_option_int(endpoint, "refresh_interval", 0);
	if (expires_at > issued_at)
		at = Min(at, issued_at + (expires_at - issued_at) * USED_LIFE);
	return at;
}

/* Is a refresh due, wanted or under way?  No call about contacts starts then. */
bool
cs_token_is_due(const CsAccount *account, double now)
{
	if (account->refresh)
		return true;
	return !account->unreadable && cs_token_is_refreshable(account->endpoint) &&
		(account->refresh_wanted || due_at(account->endpoint, now) <= now);
}

/* When a refresh that is due can go on; DBL_MAX: only when it is answered. */
double
cs_token_ready_at(const CsAccount *account, double now)
{
	if (account->refresh && !account->refresh->received)
		return DBL_MAX;
	return Max(account->refresh_at, now);
}

/* Do the accounts use the same user mapping? */
static bool
share_mapping(const CsAccount *a, const CsAccount *b)
{
	return a != b && a->endpoint && b->endpoint && a->serverid == b->serverid &&
		a->endpoint->mapping_roleid == b->endpoint->mapping_roleid;
}

static bool
is_refreshed_elsewhere(const CsAccount *account, const List *accounts)
{
	ListCell   *lc;

	foreach(lc, accounts)
		if (share_mapping(account, lfirst(lc)) && ((CsAccount *) lfirst(lc))->refresh)
		return true;
	return false;
}

/* Have a token refreshed that the provider refused in another session. */
void
cs_token_take_stale(const List *accounts)
{
	Oid			serverid;
	Oid			mapping_roleid;
	ListCell   *lc;

	if (!cs_shmem_take_stale_token(&serverid, &mapping_roleid))
		return;
	foreach(lc, accounts)
	{
		CsAccount  *account = lfirst(lc);

		if (account->serverid != serverid || account->endpoint == NULL ||
			account->endpoint->mapping_roleid != mapping_roleid)
			continue;
		account->refresh_wanted = true;
		break;
	}
}

/*
 * The request
 */

/* Append "name=value" to a form, if there is a value. */
static void
add_field(StringInfo form, const char *name, const char *value)
{
	char	   *encoded;

	if (value == NULL)
		return;
	encoded = cs_url_encode(value);
	appendStringInfo(form, "%s%s=%s", form->len > 0 ? "&" : "", name, encoded);
	explicit_bzero(encoded, strlen(encoded));
	pfree(encoded);
}

static void
build(const CsEndpoint *endpoint, CsRequest *request)
{
	memset(request, 0, sizeof(CsRequest));
	request->method = "POST";
	request->url = pstrdup(cs_endpoint_option(endpoint, "token_url"));
	cs_message_add_header(request, "Content-Type", "application/x-www-form-urlencoded");
	cs_message_add_header(request, "Accept", "application/json");
	initStringInfo(&request->body);
	add_field(&request->body, "grant_type", "refresh_token");
	add_field(&request->body, "refresh_token", cs_endpoint_option(endpoint, "refresh_token"));
	add_field(&request->body, "client_id", cs_endpoint_option(endpoint, "client_id"));
}

/*
 * Start a refresh, unless one is under way, here or in another of the accounts,
 * or has to wait.
 */
void
cs_token_refresh(CsAccount *account, const List *accounts, CsHttp *http, double now)
{
	MemoryContext context;
	MemoryContext old;
	CsRequest	request;

	if (account->refresh || now < account->refresh_at || is_refreshed_elsewhere(account, accounts))
		return;
	context = AllocSetContextCreate(account->context, "contactsync refresh",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	account->refresh = palloc0(sizeof(CsTokenRefresh));
	account->refresh->owner.kind = CS_OWNER_REFRESH;
	account->refresh->account = account;
	account->refresh->context = context;
	build(account->endpoint, &request);
	account->refresh->transfer = cs_http_start(http, &account->endpoint->http, &request, NULL,
											   account->refresh);
	account->refresh->version = cs_account_hold_version(account);
	explicit_bzero(request.body.data, request.body.maxlen);
	MemoryContextSwitchTo(old);
}

/*
 * The answer
 */

/* What the provider says of its refusal, as ": text", unless the text contains
 * one of our secrets. */
static const char *
quote_refusal(const CsEndpoint *endpoint, CsJson *doc)
{
	const char *code = cs_json_string(cs_json_get(doc, "error"));
	const char *message = cs_json_string(cs_json_get(doc, "error_description"));
	const char *text;

	if (message == NULL)
		message = cs_answer_error_message(doc);
	text = code != NULL && message != NULL && strcmp(code, message) != 0 ?
		psprintf("%s (%s)", code, message) : code != NULL ? code : message;
	if (text == NULL || strstr(text, cs_endpoint_option(endpoint, "refresh_token")) != NULL)
		return "";
	return psprintf(": %s", text);
}

/* A token that can be sent in a header, palloc'd, or NULL. */
static char *
take_token(CsJson *doc, const char *name)
{
	const char *value = cs_json_string(cs_json_get(doc, name));

	if (value == NULL || *value == '\0' || cs_option_check_header(value) != NULL)
		return NULL;
	return pstrdup(value);
}

/*
 * Take the tokens of an answer with status 200.  One that is not understood may
 * come from somebody else, a proxy for example, so the refresh is tried again.
 */
static void
take_tokens(const CsEndpoint *endpoint, const CsResponse *response, CsJson *doc,
			CsJudgement *judgement, CsToken *token)
{
	int64		lifetime = 0;

	token->access_token = take_token(doc, "access_token");
	token->refresh_token = take_token(doc, "refresh_token");
	token->issued_at = response->received_at;
	if (cs_json_int(cs_json_get(doc, "expires_in"), &lifetime) && lifetime > 0)
		token->lifetime = lifetime;
	if (token->access_token == NULL)
		cs_answer_conclude(judgement, CS_RETRY, CS_REASON_UNREADABLE,
						   "%s answered a token refresh without an access token",
						   endpoint->provider->title);
}

/* The verdict is DONE, with a token, or RETRY or HALT; no text of it contains a
 * secret. */
static void
judge(const CsEndpoint *endpoint, const CsResponse *response, CsJudgement *judgement,
	  CsToken *token)
{
	CsBatch		none = {0};
	CsJson	   *doc = cs_json_parse(response->body, response->body_len);
	int			status = response->status;

	memset(token, 0, sizeof(CsToken));
	cs_provider_begin_judgement(&none, judgement);
	if (status == 200)
		take_tokens(endpoint, response, doc, judgement, token);
	else if (status == 400 || status == 401 || status == 403)
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_UNAUTHORIZED,
						   "%s does not accept the refresh token%s; sign in again and "
						   "set access_token and refresh_token of the user mapping",
						   endpoint->provider->title, quote_refusal(endpoint, doc));
	else if (status < 200 || status == 408 || status == 425 || status == 429 || status >= 500)
		cs_answer_judge_common(endpoint, response, doc, judgement);
	else
		cs_answer_conclude(judgement, CS_HALT, CS_HALT_URL,
						   "HTTP status %d from token_url%s",
						   status, quote_refusal(endpoint, doc));
}

static void
wipe(char *secret)
{
	if (secret != NULL)
		explicit_bzero(secret, strlen(secret));
}

/* End the refresh, and wipe its secrets. */
static void
end_refresh(CsTokenRefresh *refresh)
{
	refresh->account->refresh = NULL;
	cs_account_release_version(refresh->version);
	wipe(refresh->token.access_token);
	wipe(refresh->token.refresh_token);
	MemoryContextDelete(refresh->context);
}

/* End a refresh without its token: the account is no more. */
void
cs_token_abort(CsAccount *account, CsHttp *http)
{
	if (account->refresh == NULL)
		return;
	if (!account->refresh->received)
		cs_http_cancel(http, account->refresh->transfer);
	end_refresh(account->refresh);
}

/* Keep the token to be stored, or have the account wait or halt, unless somebody has
 * signed in again. */
void
cs_token_answered(CsTokenRefresh *refresh, const CsResponse *response, double now)
{
	CsAccount  *account = refresh->account;
	MemoryContext old = MemoryContextSwitchTo(refresh->context);
	CsJudgement judgement;

	judge(refresh->version->endpoint, response, &judgement, &refresh->token);
	MemoryContextSwitchTo(old);
	if (judgement.verdict == CS_DONE)
	{
		refresh->received = true;
		return;
	}
	if (!refresh->version->superseded)
	{
		if (judgement.verdict == CS_HALT)
			cs_account_halt(account, now, judgement.retry_after,
							judgement.reason ? judgement.reason : "unauthorized",
							judgement.message);
		else
			cs_account_wait(account, now, judgement.retry_after, judgement.message);
		account->refresh_at = account->resume_at;
	}
	end_refresh(refresh);
}

/*
 * Storing
 */

/* The options that the user mapping has now, a list of DefElem; NIL if it is
 * gone. */
static List *
current_options(const CsEndpoint *endpoint)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
										ObjectIdGetDatum(endpoint->mapping_roleid),
										ObjectIdGetDatum(endpoint->serverid));
	List	   *options = NIL;
	Datum		datum;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		options = untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return options;
}

/* The value of an option in a list of DefElem, or NULL. */
static const char *
value_of(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *def = lfirst(cell);

		if (strcmp(def->defname, name) == 0)
			return defGetString(def);
	}
	return NULL;
}

/* Append the change of one option of a user mapping; NULL drops it. */
static List *
change(List *changes, List *current, const char *name, const char *value)
{
	bool		exists = value_of(current, name) != NULL;
	DefElemAction action = value == NULL ? DEFELEM_DROP : exists ? DEFELEM_SET : DEFELEM_ADD;

	if (value == NULL && !exists)
		return changes;
	return lappend(changes, makeDefElemExtended(NULL, pstrdup(name),
												value != NULL ? (Node *) makeString(pstrdup(value)) : NULL,
												action, -1));
}

/*
 * Alter the user mapping as the role that may do so: its own, or for that of
 * PUBLIC the server's owner.
 */
static void
alter_mapping(const CsEndpoint *endpoint, List *changes)
{
	ForeignServer *server = GetForeignServer(endpoint->serverid);
	AlterUserMappingStmt *statement = makeNode(AlterUserMappingStmt);
	bool		is_public = !OidIsValid(endpoint->mapping_roleid);
	Oid			userid;
	int			context;

	statement->user = makeNode(RoleSpec);
	statement->user->location = -1;
	statement->user->roletype = is_public ? ROLESPEC_PUBLIC : ROLESPEC_CSTRING;
	if (!is_public)
		statement->user->rolename = GetUserNameFromId(endpoint->mapping_roleid, false);
	statement->servername = server->servername;
	statement->options = changes;

	GetUserIdAndSecContext(&userid, &context);
	SetUserIdAndSecContext(is_public ? server->owner : endpoint->mapping_roleid,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	AlterUserMapping(statement);
	SetUserIdAndSecContext(userid, context);
}

/*
 * Write the token into the user mapping, to be on disk when the caller commits,
 * whatever synchronous_commit says.  Write nothing when the mapping has another
 * refresh token by now, or is gone: somebody signed in again.  Ereports if
 * somebody else is altering the mapping.
 */
static void
write_token(const CsEndpoint *endpoint, const CsToken *token)
{
	List	   *current = current_options(endpoint);
	const char *refresh_token = value_of(current, "refresh_token");
	List	   *changes = NIL;

	if (refresh_token == NULL ||
		strcmp(refresh_token, cs_endpoint_option(endpoint, "refresh_token")) != 0)
		return;

	changes = change(changes, current, "access_token", token->access_token);
	if (token->refresh_token != NULL)
		changes = change(changes, current, "refresh_token", token->refresh_token);
	changes = change(changes, current, "token_refreshed_at",
					 psprintf("%.0f", token->issued_at));
	changes = change(changes, current, "token_expires_at",
					 token->lifetime > 0 ?
					 psprintf("%.0f", token->issued_at + token->lifetime) : NULL);
	alter_mapping(endpoint, changes);
	CommandCounterIncrement();
	ForceSyncCommit();
}

static void
write_as_owner(void *arg)
{
	CsAccount  *account = arg;
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	/* the change is our own: no need to reload definitions */
	cs_invalidation_hold(true);
	PG_TRY();
	{
		write_token(account->refresh->version->endpoint, &account->refresh->token);
	}
	PG_FINALLY();
	{
		cs_invalidation_hold(false);
	}
	PG_END_TRY();
	cs_sql_leave(&scope);
}

/* Return false, with a warning, if the token could not be written. */
static bool
try_to_write(CsAccount *account)
{
	ErrorData  *error;

	if (cs_try(write_as_owner, account, NULL, &error) == CS_TRY_OK)
		return true;
	error->elevel = WARNING;
	ThrowErrorData(error);
	return false;
}

/* Use the token that is in the user mapping now. */
static void
use_token(CsAccount *account, double now)
{
	CsServerVersion *version = cs_account_hold_version(account);
	bool		reconfigured = account->reconfigured;

	account->refresh_wanted = false;
	account->refreshed_at = now;
	cs_account_read_endpoint(account, now);
	/* the token is our own change */
	account->reconfigured = reconfigured;
	version->superseded = false;
	cs_account_release_version(version);
}

/* Has a token been received that is not stored? */
bool
cs_token_has_to_store(const CsAccount *account)
{
	return account->refresh != NULL && account->refresh->received;
}

/*
 * Store the token that was received, and have all accounts use it that share the
 * user mapping.  Needs a transaction, which is to be committed at once.  If the
 * token cannot be stored it is kept, to be stored again.
 */
void
cs_token_store(CsAccount *account, const List *accounts, double now)
{
	ListCell   *lc;

	if (now < account->refresh_at)
		return;
	if (!try_to_write(account))
	{
		account->refresh_at = now + STORE_PAUSE;
		return;
	}
	CommandCounterIncrement();
	end_refresh(account->refresh);
	use_token(account, now);
	foreach(lc, accounts)
		if (share_mapping(account, lfirst(lc)))
		use_token(lfirst(lc), now);
}
