/*-------------------------------------------------------------------------
 *
 * token.c
 *		Keeping an OAuth access token fresh.
 *
 * The token is written with AlterUserMapping() and not with a statement: logs,
 * pg_stat_statements and audit extensions keep the text of statements.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/xact.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/float.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/shmem.h"
#include "base/sql.h"
#include "base/try.h"
#include "delivery/pace.h"
#include "delivery/token.h"
#include "http/json.h"
#include "http/url.h"
#include "provider/answer.h"

/* Of the life that the provider gave a token this much is used. */
#define USED_LIFE		(5.0 / 6.0)

/* A clock may have been set back by this many seconds before we wonder. */
#define CLOCK_TOLERANCE 60.0

bool
cs_token_is_refreshable(const CsEndpoint *endpoint)
{
	return endpoint->provider->auth == CS_AUTH_OAUTH &&
		cs_endpoint_option(endpoint, "token_url") != NULL &&
		cs_endpoint_option(endpoint, "refresh_token") != NULL;
}

static double
due_at(const CsEndpoint *endpoint, double now)
{
	double		issued_at;
	double		expires_at;
	double		due_at;

	if (!cs_token_is_refreshable(endpoint))
		return get_float8_infinity();
	issued_at = cs_endpoint_option_number(endpoint, "token_refreshed_at", 0);
	expires_at = cs_endpoint_option_number(endpoint, "token_expires_at", 0);

	/* of unknown age, or from a time that the clock has not reached */
	if (cs_endpoint_option(endpoint, "access_token") == NULL ||
		issued_at == 0 || issued_at > now + CLOCK_TOLERANCE)
		return 0;

	due_at = issued_at + cs_endpoint_option_int(endpoint, "refresh_interval", 0);
	if (expires_at > issued_at)
		due_at = Min(due_at, issued_at + (expires_at - issued_at) * USED_LIFE);
	return due_at;
}

/*
 * Append "name=value" to a form, if there is a value.
 */
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
build_request(const CsEndpoint *endpoint, CsRequest *request)
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

static void
wipe_request(CsRequest *request)
{
	if (request->body.data != NULL)
		explicit_bzero(request->body.data, request->body.maxlen);
}

static void
wipe(char *secret)
{
	if (secret != NULL)
		explicit_bzero(secret, strlen(secret));
}

static void
wipe_token(CsToken *token)
{
	wipe(token->access_token);
	wipe(token->refresh_token);
}

/*
 * What the provider says of its refusal, as ": text", but for a text that has a
 * secret of ours in it.
 */
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

/*
 * A token that can be sent in a header, or NULL; palloc'd.
 */
static char *
take_token(CsJson *doc, const char *name)
{
	const char *value = cs_json_string(cs_json_get(doc, name));

	if (value == NULL || *value == '\0' || cs_option_check_header(value) != NULL)
		return NULL;
	return pstrdup(value);
}

/*
 * A 200: take the tokens.  One that is not understood may have been meant for
 * somebody else (a proxy's page), so it is tried again.
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

static void
judge(const CsEndpoint *endpoint, const CsResponse *response,
	  CsJudgement *judgement, CsToken *token)
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

/* ---------- storing ---------- */

/*
 * The options that the user mapping has now, a list of DefElem; NIL if it is
 * gone.
 */
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

/*
 * The value of an option in a list of DefElem, or NULL.
 */
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

/*
 * Append the change of one option of a user mapping; NULL: to be dropped.
 */
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

static bool
write_back(const CsEndpoint *endpoint, const CsToken *token)
{
	List	   *current = current_options(endpoint);
	const char *refresh_token = value_of(current, "refresh_token");
	List	   *changes = NIL;

	if (refresh_token == NULL ||
		strcmp(refresh_token, cs_endpoint_option(endpoint, "refresh_token")) != 0)
		return false;

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
	return true;
}

/* ---------- of an account at work ---------- */

/* A token that could not be stored is tried to be stored again after (s). */
#define STORE_PAUSE		1.0

bool
cs_token_is_due(const CsAccount *account, double now)
{
	if (account->refresh)
		return true;
	return !account->unreadable && cs_token_is_refreshable(account->endpoint) &&
		(account->refresh_wanted || due_at(account->endpoint, now) <= now);
}

/* When the next refresh can start, if one is due. */
double
cs_token_ready_at(const CsAccount *account, double now)
{
	return Max(account->refresh_at, now);
}

/* Effect: the refresh is over; its secrets are wiped. */
static void
end_refresh(CsTokenRefresh *refresh)
{
	refresh->account->refresh = NULL;
	wipe_token(&refresh->token);
	MemoryContextDelete(refresh->context);
}

void
cs_token_refresh(CsAccount *account, CsHttp *http, double now)
{
	MemoryContext context;
	MemoryContext old;
	CsRequest	request = {0};

	if (account->refresh || now < account->refresh_at)
		return;
	context = AllocSetContextCreate(account->context, "contactsync refresh",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	account->refresh = palloc0(sizeof(CsTokenRefresh));
	account->refresh->owner.kind = CS_OWNER_REFRESH;
	account->refresh->account = account;
	account->refresh->context = context;
	build_request(account->endpoint, &request);
	(void) cs_http_start(http, &account->endpoint->http, &request, NULL, account->refresh);
	wipe_request(&request);
	MemoryContextSwitchTo(old);
}

/* Effect: the token is there to be stored, or the account waits or is halted. */
void
cs_token_answered(CsTokenRefresh *refresh, const CsResponse *response, double now)
{
	CsAccount  *account = refresh->account;
	MemoryContext old = MemoryContextSwitchTo(refresh->context);
	CsJudgement judgement;

	judge(account->endpoint, response, &judgement, &refresh->token);
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
cs_token_has_to_store(const CsAccount *account)
{
	return account->refresh != NULL && account->refresh->received;
}

static void
store_token(void *arg)
{
	CsAccount  *account = arg;
	CsSqlScope	scope;

	cs_sql_enter(&scope);
	(void) write_back(account->endpoint, &account->refresh->token);
	cs_sql_leave(&scope);
}

/* Return false if the token could not be stored, as when somebody else is at the
 * user mapping. */
static bool
try_to_store(CsAccount *account)
{
	ErrorData  *error;

	if (cs_try(store_token, account, NULL, &error) == CS_TRY_OK)
		return true;
	error->elevel = WARNING;
	ThrowErrorData(error);
	return false;
}

/* Effect: the account uses a token that another one has just stored. */
void
cs_token_share(CsAccount *account, double now)
{
	account->refresh_wanted = false;
	account->refreshed_at = now;
	cs_account_read_endpoint(account, now);
}

void
cs_token_store(CsAccount *account, double now)
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
	cs_token_share(account, now);
}
