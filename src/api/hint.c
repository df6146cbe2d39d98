/*-------------------------------------------------------------------------
 *
 * hint.c
 *		contactsync.hint(): what to type when a server or a watch is not well.
 *
 * A hint names the options of its provider, and says ADD or SET as the option is set
 * or not, so that it can be typed as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "api/argument.h"
#include "base/compat.h"
#include "base/network.h"
#include "base/settings.h"
#include "http/message.h"
#include "provider/registry.h"
#include "provider/server.h"

CS_FUNCTION(contactsync_hint);

/* What the view status says of an endpoint that a session delivers to, ... */
#define CS_SESSION_REASON	"contactsync_run() delivers, in the session with pid "

/* ... of one of which something is locked, ... */
#define LOCKED_REASON		"an open transaction has locked "

/* ... and of a watch when another table has the name of its source. */
#define REPLACED_REASON		"replaced: another table is called "

/* ... and of a table that is filled by a subscription, without triggers for that. */
#define SUBSCRIBER_REASON	"subscriber: "

/* What a hint is about. */
typedef struct CsHintSubject
{
	const char *reason;			/* never NULL */
	const char *server;
	const char *identifier;		/* the same, quoted */
	const CsProvider *provider; /* NULL: not known */
	List	   *server_options; /* of DefElem */
	const char *role;			/* of the user mapping, as it is typed */
	bool		has_mapping;
	List	   *mapping_options;	/* of DefElem; their values are secret */
} CsHintSubject;

/* Read the options of the user mapping that a role uses. */
static void
read_mapping(CsHintSubject *subject, Oid serverid, Oid owner)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(owner), ObjectIdGetDatum(serverid));
	Datum		options;
	bool		isnull;

	subject->role = owner == GetUserId() ? "CURRENT_USER" :
		quote_identifier(GetUserNameFromId(owner, false));
	if (!HeapTupleIsValid(tuple))
	{
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(serverid));
		if (!HeapTupleIsValid(tuple))
			return;
		subject->role = "PUBLIC";
	}
	subject->has_mapping = true;
	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		subject->mapping_options = untransformRelOptions(options);
	ReleaseSysCache(tuple);
}

static void
read_subject(CsHintSubject *subject, const char *server, Oid owner)
{
	ForeignServer *foreign = GetForeignServerByName(server, true);
	ListCell   *lc;

	subject->server = server;
	subject->identifier = quote_identifier(server);
	subject->role = "CURRENT_USER";
	if (foreign == NULL)
		return;
	subject->server_options = foreign->options;
	foreach(lc, foreign->options)
		if (strcmp(((DefElem *) lfirst(lc))->defname, "provider") == 0)
		subject->provider = cs_registry_look(defGetString(lfirst(lc)), foreign->owner);
	if (OidIsValid(owner) && SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner)))
		read_mapping(subject, foreign->serverid, owner);
}

/*
 * Statements
 */

static bool
is_set(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
		if (strcmp(((DefElem *) lfirst(lc))->defname, name) == 0)
		return true;
	return false;
}

/* Return "ADD option" or "SET option". */
static char *
add_or_set(List *options, const char *name)
{
	return psprintf("%s %s", is_set(options, name) ? "SET" : "ADD", quote_identifier(name));
}

static char *
alter_server(const CsHintSubject *subject, const char *option)
{
	return psprintf("ALTER SERVER %s OPTIONS (%s '...')", subject->identifier,
					add_or_set(subject->server_options, option));
}

/* Return the statement that sets the secrets of the provider. */
static char *
alter_mapping(const CsHintSubject *subject)
{
	bool		oauth = subject->provider && subject->provider->auth == CS_AUTH_OAUTH;
	const CsOption *secret = subject->provider ? cs_registry_secret(subject->provider) : NULL;
	const char *name = secret ? secret->name : "api_key";

	if (!subject->has_mapping && subject->provider)
		return psprintf("CREATE USER MAPPING FOR %s SERVER %s OPTIONS (%s)", subject->role, subject->identifier,
						oauth ? "access_token '...', refresh_token '...'" : psprintf("%s '...'", name));
	if (oauth)
		return psprintf("ALTER USER MAPPING FOR %s SERVER %s OPTIONS (%s '...', %s '...')",
						subject->role, subject->identifier,
						add_or_set(subject->mapping_options, "access_token"),
						add_or_set(subject->mapping_options, "refresh_token"));
	return psprintf("ALTER USER MAPPING FOR %s SERVER %s OPTIONS (%s '...')", subject->role, subject->identifier,
					add_or_set(subject->mapping_options, name));
}

/* Return the statements that set where calls go. */
static char *
alter_url(const CsHintSubject *subject)
{
	const char *other = subject->provider ? subject->provider->url_option : NULL;

	if (other == NULL)
		return alter_server(subject, "base_url");
	if (is_set(subject->server_options, other))
		return psprintf("%s, or %s", alter_server(subject, other), alter_server(subject, "base_url"));
	return psprintf("%s, or %s", alter_server(subject, "base_url"), alter_server(subject, other));
}

/*
 * Return the statements that set the options that our part of a reason names, or NULL.
 * What the provider says comes after it.
 */
static char *
alter_named(const CsHintSubject *subject)
{
	const char *ours = strstr(subject->reason, ": ");
	List	   *options = subject->provider ? cs_registry_options(subject->provider, CS_ON_SERVER) : NIL;
	char	   *text;
	char	   *statements = NULL;
	ListCell   *lc;

	if (ours == NULL)
		return NULL;
	text = pnstrdup(ours + 2, strcspn(ours + 2, ":"));
	for (char *word = strtok(text, " (),"); word; word = strtok(NULL, " (),"))
	{
		foreach(lc, options)
		{
			const CsOption *option = lfirst(lc);

			if (strcmp(option->name, word) != 0)
				continue;
			statements = statements ? psprintf("%s, or %s", statements, alter_server(subject, word)) :
				alter_server(subject, word);
		}
	}
	return statements;
}

/* Return the statements that allow the networks that a reason names, or NULL. */
static char *
allow_networks(const char *reason)
{
	const char *networks = strstr(reason, CS_NETWORK_REFUSAL);

	if (networks == NULL)
		return NULL;
	networks += strlen(CS_NETWORK_REFUSAL);
	return cs_server_allow_networks(pnstrdup(networks, strspn(networks, "0123456789abcdef.:/, ")));
}

/*
 * Hints
 */

/* What is to be typed for a server that is halted. */
typedef enum CsHintAction
{
	CS_HINT_NOTHING,			/* the text says all */
	CS_HINT_SECRET,
	CS_HINT_ACCOUNT,
	CS_HINT_URL,
	CS_HINT_TOPIC,
	CS_HINT_FORM,
	CS_HINT_NETWORK,
	CS_HINT_RESUME,
	CS_HINT_NAMED				/* the options that the reason names */
} CsHintAction;

typedef struct CsHaltHint
{
	const char *reason;
	const char *text;
	CsHintAction action;
} CsHaltHint;

/* What to do about a server that is halted; an ALTER takes effect at once. */
static const CsHaltHint halts[] = {
	{CS_HALT_UNAUTHORIZED, "Create a key at the provider and set it", CS_HINT_SECRET},
	{CS_HALT_FORBIDDEN, "Grant the key permission to write contacts at the provider; delivery is then retried automatically.", CS_HINT_NOTHING},
	{CS_HALT_SCOPE, "Create a key with the scope that the reason names, and set it", CS_HINT_SECRET},
	{CS_HALT_TENANT, "Correct the ID of the account, or use a key of that account", CS_HINT_ACCOUNT},
	{CS_HALT_ADDRESS, "Allow the address of this machine for the key at the provider; delivery is then retried automatically.", CS_HINT_NOTHING},
	{CS_HALT_NETWORK, "Correct the URL or the proxy, or as a superuser allow the address", CS_HINT_NETWORK},
	{CS_HALT_PLAN, "Upgrade the plan at the provider; delivery is then retried automatically.", CS_HINT_NOTHING},
	{CS_HALT_QUOTA, "Wait for the next period or raise the quota at the provider; delivery is then retried automatically.", CS_HINT_NOTHING},
	{CS_HALT_URL, "Correct the URL", CS_HINT_URL},
	{CS_HALT_REDIRECT, "Correct the URL, because redirects are not followed", CS_HINT_URL},
	{CS_HALT_NOT_API, "A web page answers instead of the API. Check the proxy, or correct the URL", CS_HINT_URL},
	{CS_HALT_REQUEST, "The provider refuses every request; SELECT * FROM contactsync.calls shows its answers.", CS_HINT_NAMED},
	{CS_HALT_FIELD, "Create the field at the provider, or map it to another one; delivery is then retried automatically.", CS_HINT_NOTHING},
	{CS_HALT_TOPIC, "Create the topic at the provider, or set another one", CS_HINT_TOPIC},
	{CS_HALT_REFUSALS, "Correct at the provider, or in the mapping, what the reason says; one contact in a while is tried, and when it is accepted, delivery continues. If the contacts are at fault, have them fail", CS_HINT_RESUME},
	{CS_HALT_FORM, "Create the form at the provider, or set another one", CS_HINT_FORM}
};

static char *
hint_of_action(const CsHintSubject *subject, const CsHaltHint *halt)
{
	const char *option = subject->provider ? subject->provider->account_option : NULL;
	char	   *statement = NULL;

	switch (halt->action)
	{
		case CS_HINT_NOTHING:
			return pstrdup(halt->text);
		case CS_HINT_SECRET:
			statement = alter_mapping(subject);
			break;
		case CS_HINT_ACCOUNT:
			statement = option ? psprintf("%s, or %s", alter_server(subject, option), alter_mapping(subject)) :
				alter_mapping(subject);
			break;
		case CS_HINT_URL:
			statement = alter_url(subject);
			break;
		case CS_HINT_TOPIC:
			statement = alter_server(subject, "topic_id");
			break;
		case CS_HINT_FORM:
			statement = alter_server(subject, "form_id");
			break;
		case CS_HINT_NETWORK:
			statement = allow_networks(subject->reason);
			break;
		case CS_HINT_RESUME:
			statement = psprintf("SELECT contactsync_resume(%s)", quote_literal_cstr(subject->server));
			break;
		case CS_HINT_NAMED:
			statement = alter_named(subject);
			return statement ? psprintf("%s Correct the option: %s.", halt->text, statement) : pstrdup(halt->text);
	}
	return statement ? psprintf("%s: %s.", halt->text, statement) : psprintf("%s.", halt->text);
}

static char *
hint_of_halt(const CsHintSubject *subject)
{
	size_t		len = strcspn(subject->reason, ":");

	for (int i = 0; i < lengthof(halts); i++)
		if (strlen(halts[i].reason) == len && strncmp(halts[i].reason, subject->reason, len) == 0)
			return hint_of_action(subject, &halts[i]);
	if (len == strlen("configuration") && strncmp("configuration", subject->reason, len) == 0 &&
		allow_networks(subject->reason))
		return psprintf("Correct the option that the reason names, or as a superuser allow the address: %s.",
						allow_networks(subject->reason));
	if (len == strlen("configuration") && strncmp("configuration", subject->reason, len) == 0)
		return psprintf("Do what the reason says with CREATE USER MAPPING, ALTER USER MAPPING or ALTER SERVER %s; delivery then continues automatically.",
						subject->identifier);
	return pstrdup("Fix what the reason says; delivery is then retried automatically.");
}

/* Return what to do about a server that does not answer. */
static char *
hint_of_outage(const CsHintSubject *subject)
{
	static const char untrusted[] = "no answer: " CS_HTTP_UNTRUSTED;

	if (strncmp(subject->reason, untrusted, strlen(untrusted)) == 0)
		return psprintf("Delivery continues automatically when the host has a valid certificate. If it has expired, the host has to renew it, or the clock of this machine is wrong."
						" If its authority is not known here: %s. If it belongs to another host, correct the URL: %s.",
						alter_server(subject, "ca_file"), alter_url(subject));
	return pstrdup("No action is needed: calls are repeated until the provider answers, and no contact is given up on. SELECT * FROM contactsync.calls ORDER BY id DESC shows its answers.");
}

/* Return the arguments of a function for a server or, with a source, for a watch. */
static char *
arguments(const char *server, const char *source)
{
	if (source == NULL)
		return quote_literal_cstr(server);
	return psprintf("%s, %s", quote_literal_cstr(source), quote_literal_cstr(server));
}

static char *
hint_of_guard(const char *reason, const char *watch)
{
	if (strncmp(reason, "removals: ", 10) == 0)
		return psprintf("If the rows are gone by mistake, restore them: SELECT contactsync_resume(%s, removals => 'kept'); if the contacts are to be removed, use 'accepted'.",
						watch);
	return psprintf("The reason says what could happen. If you paused the automations at the provider: SELECT contactsync_resume(%s, automations => 'paused'); if these emails are intended, use 'accepted'.",
					watch);
}

/* Return what to do if another table has the name of the source. */
static char *
hint_of_replaced(const char *reason, const char *source, const char *server)
{
	const char *name = reason + strlen(REPLACED_REASON);
	const char *end = strstr(name, " now; ");
	const char *table = quote_literal_cstr(pnstrdup(name, end ? end - name : 0));
	const char *watch = arguments(server, source);

	server = quote_literal_cstr(server);
	return psprintf("To watch that one instead: SELECT contactsync_watch(%s, %s, mapping, filter, on_delete => on_delete) FROM contactsync.watches"
					" WHERE source = %s::regclass AND server = %s; SELECT contactsync_unwatch(%s); SELECT contactsync_import(%s, %s);"
					" To go on with the other: SELECT contactsync_alter_watch(%s);",
					table, server, quote_literal_cstr(source), server, watch, table, server, watch);
}

/* Return what to do about the background worker, or NULL if it is running. */
static const char *
hint_of_worker(const char *worker)
{
	if (strcmp(worker, "running") == 0)
		return NULL;
	if (strcmp(worker, "not preloaded") == 0)
		return "Nothing is sent automatically: set shared_preload_libraries = 'contactsync' and restart the server, or use CALL contactsync_run().";
	if (strcmp(worker, "too many databases") == 0)
		return psprintf("The server has more databases than can have a background worker: ALTER SYSTEM SET contactsync.max_databases = %d; and restart the server. Until then, use CALL contactsync_run().",
						cs_max_databases * 2);
	if (strcmp(worker, "too few processes") == 0)
		return psprintf("No process is left for the background worker of this database: ALTER SYSTEM SET max_worker_processes = %d; and restart the server. Until then, use CALL contactsync_run().",
						max_worker_processes * 2);
	if (strcmp(worker, "waiting for its turn") == 0)
		return psprintf("Databases take turns, because the server has fewer processes than they need: ALTER SYSTEM SET max_worker_processes = %d; and restart the server. Until its turn, use CALL contactsync_run().",
						max_worker_processes * 2);
	if (strcmp(worker, "none on a standby") == 0)
		return "This server is a standby; its primary sends.";
	if (strcmp(worker, "restarting after an error") == 0)
		return "The background worker ended with an error, which the server log shows. It is started again after a pause; until then, use CALL contactsync_run().";
	if (strcmp(worker, "waiting for a lock") == 0)
		return "A session has locked a table that the background worker needs. To see which: SELECT pid, relation::regclass, mode FROM pg_locks WHERE relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'contactsync'::regnamespace) AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock');";
	if (strncmp(worker, "waiting for ", 12) == 0)
		return "ALTER EXTENSION contactsync UPDATE;";
	return "The background worker is starting. If it does not start, see the server log (max_worker_processes may be too low).";
}

/* Is it about a related table that is gone, or its column? */
static bool
is_of_related(const char *reason)
{
	return strncmp(reason, "related table ", 14) == 0 || strstr(reason, ", by which rows are related,") != NULL;
}

/*
 * contactsync.hint(state, reason, server, source, owner, worker, failures): return
 * what to do about a server or, with a source, about a watch; null if it is well.
 */
Datum
contactsync_hint(PG_FUNCTION_ARGS)
{
	const char *state = cs_argument_text(fcinfo, 0);
	const char *reason = cs_argument_text(fcinfo, 1);
	const char *server = cs_argument_text(fcinfo, 2);
	const char *source = cs_argument_text(fcinfo, 3);
	const char *worker = cs_argument_text(fcinfo, 5);
	int64		failures = PG_ARGISNULL(6) ? 0 : PG_GETARG_INT64(6);
	CsHintSubject subject = {.reason = reason ? reason : ""};
	const char *hint;

	if (state == NULL || server == NULL || worker == NULL)
		PG_RETURN_NULL();
	read_subject(&subject, server, PG_ARGISNULL(4) ? InvalidOid : PG_GETARG_OID(4));
	hint = hint_of_worker(worker);
	if (strcmp(state, "paused") == 0)
		hint = psprintf("SELECT contactsync_resume(%s);", arguments(server, source));
	else if (strcmp(state, "broken") == 0 && strncmp(subject.reason, "the type of column", 18) == 0)
		hint = psprintf("If the mapping fits the new type: SELECT contactsync_alter_watch(%s);", arguments(server, source));
	else if (strcmp(state, "broken") == 0 && is_of_related(subject.reason))
		hint = psprintf("Name the related tables anew, with a mapping that does without what is gone: SELECT contactsync_alter_watch(%s, mapping => '...', related => '...'). Delivery then continues automatically with what is queued.",
						arguments(server, source));
	else if (strcmp(state, "broken") == 0)
		hint = psprintf("Fix the table or the privileges of the watch's owner, or change the mapping or the filter: SELECT contactsync_alter_watch(%s, mapping => '...'). Delivery then continues automatically with what is queued.",
						arguments(server, source));
	else if (strcmp(state, "guarded") == 0)
		hint = hint_of_guard(subject.reason, arguments(server, source));
	else if (strcmp(state, "halted") == 0)
		hint = hint_of_halt(&subject);
	else if (hint == NULL && strcmp(state, "throttled") == 0)
		hint = psprintf("No action is needed: calls continue by themselves, less often than before. If you know the limit: %s.",
						alter_server(&subject, "pace"));
	else if (hint == NULL && strcmp(state, "unavailable") == 0)
		hint = hint_of_outage(&subject);
	else if (strncmp(subject.reason, CS_SESSION_REASON, strlen(CS_SESSION_REASON)) == 0)
		hint = psprintf("The background worker delivers when that session has ended. If it hangs: SELECT pg_cancel_backend(%d);",
						atoi(subject.reason + strlen(CS_SESSION_REASON)));
	else if (hint == NULL && strncmp(subject.reason, LOCKED_REASON, strlen(LOCKED_REASON)) == 0)
		hint = "The background worker goes on when that transaction ends. To see which have not, as a member of pg_monitor: SELECT pid, usename, state, xact_start FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start;";
	else if (hint == NULL && source && strncmp(subject.reason, REPLACED_REASON, strlen(REPLACED_REASON)) == 0)
		hint = hint_of_replaced(subject.reason, source, server);
	else if (hint == NULL && source && strncmp(subject.reason, SUBSCRIBER_REASON, strlen(SUBSCRIBER_REASON)) == 0)
		hint = psprintf("SELECT contactsync_alter_watch(%s, always => true); has the triggers fire for them. For those that came before: SELECT contactsync_import(%s);",
						arguments(server, source), arguments(server, source));
	else if (source && strncmp(subject.reason, "removals wait", 13) == 0)
		hint = psprintf("SELECT contactsync_reconcile(%s); reads all rows.", arguments(server, source));
	else if (hint == NULL && failures > 0)
		hint = psprintf("SELECT * FROM contactsync.failures shows why contacts were given up on. To send them again: SELECT contactsync_retry(%s);",
						arguments(server, source));
	if (hint == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(hint));
}
