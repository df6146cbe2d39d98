/*-------------------------------------------------------------------------
 *
 * hint.c
 *		What to do about a state, for the view status.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/regproc.h"

#include "base/compat.h"
#include "provider/provider.h"

CS_FUNCTION(contactsync_hint);

typedef struct CsHint
{
	const char *reason;
	const char *text;			/* %s: the server, quoted as a name */
} CsHint;

/* It goes on by itself when the fault is mended; an ALTER is seen at once. */
static const CsHint halts[] = {
	{CS_HALT_UNAUTHORIZED, "Make a key at the provider and give it: ALTER USER MAPPING FOR CURRENT_USER SERVER %s OPTIONS (SET api_key '...'), or SET access_token and refresh_token."},
	{CS_HALT_FORBIDDEN, "Give the key the rights to write contacts at the provider; it is tried again by itself."},
	{CS_HALT_SCOPE, "Make a key that has the scope that the reason names, and give it: ALTER USER MAPPING FOR CURRENT_USER SERVER %s OPTIONS (SET api_key '...')."},
	{CS_HALT_TENANT, "Correct the account's id, or take a key of that account: ALTER SERVER %s OPTIONS (SET ...)."},
	{CS_HALT_ADDRESS, "Allow the address of this machine for the key at the provider; it is tried again by itself."},
	{CS_HALT_PLAN, "Take another plan at the provider; it is tried again by itself."},
	{CS_HALT_QUOTA, "Wait for the next period or raise the quota at the provider; it is tried again by itself."},
	{CS_HALT_URL, "Correct the URL: ALTER SERVER %s OPTIONS (SET base_url '...')."},
	{CS_HALT_REDIRECT, "Correct the URL, for redirects are not followed: ALTER SERVER %s OPTIONS (SET base_url '...')."},
	{CS_HALT_NOT_API, "A web page answers in place of the API. Correct the URL, or look at the proxy: ALTER SERVER %s OPTIONS (SET base_url '...')."},
	{CS_HALT_REQUEST, "The provider refuses whatever is sent; contactsync.calls shows its answers. If an option is at fault: ALTER SERVER %s OPTIONS (SET ...)."},
	{CS_HALT_FIELD, "Make the field at the provider, or map it to another one; it is tried again by itself."},
	{CS_HALT_TOPIC, "Make the topic at the provider, or name another one: ALTER SERVER %s OPTIONS (SET topic_id '...')."},
	{CS_HALT_FORM, "Make the form at the provider, or name another one: ALTER SERVER %s OPTIONS (SET form_id '...')."},
	{"configuration", "Do what the reason says with CREATE USER MAPPING, ALTER USER MAPPING or ALTER SERVER %s; it goes on by itself."}
};

static char *
hint_of_halt(const char *reason, const char *server)
{
	size_t		len = strcspn(reason, ":");

	for (int i = 0; i < lengthof(halts); i++)
		if (strlen(halts[i].reason) == len && strncmp(halts[i].reason, reason, len) == 0)
		{
			StringInfoData text;
			const char *place = strstr(halts[i].text, "%s");

			initStringInfo(&text);
			if (place == NULL)
				return pstrdup(halts[i].text);
			appendBinaryStringInfo(&text, halts[i].text, place - halts[i].text);
			appendStringInfo(&text, "%s%s", server, place + 2);
			return text.data;
		}
	return pstrdup("Mend what the reason says; it is tried again by itself.");
}

/* The arguments of a function that is about a server, or a watch of it. */
static char *
arguments(const char *server, const char *source)
{
	if (source == NULL)
		return quote_literal_cstr(server);
	return psprintf("%s, %s", quote_literal_cstr(source), quote_literal_cstr(server));
}

/* Of the process that should deliver; NULL: it does. */
static const char *
hint_of_worker(const char *worker)
{
	if (strcmp(worker, "running") == 0)
		return NULL;
	if (strcmp(worker, "not preloaded") == 0)
		return "Nothing is sent by itself: set shared_preload_libraries = 'contactsync' and restart the server, or use CALL contactsync_run().";
	if (strcmp(worker, "too many databases") == 0)
		return "There is no worker for so many databases: use CALL contactsync_run().";
	if (strncmp(worker, "waiting for ", 12) == 0)
		return "ALTER EXTENSION contactsync UPDATE;";
	return "The worker is being started; if it stays so, the log of the server says why (max_worker_processes may be too low).";
}

/* The text of an argument, or NULL. */
static char *
text_argument(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/*
 * contactsync.hint(state, reason, server, source, worker, failures): what to
 * type, or null where all is well.  With a source it is about the watch.
 */
Datum
contactsync_hint(PG_FUNCTION_ARGS)
{
	const char *state = text_argument(fcinfo, 0);
	const char *reason = text_argument(fcinfo, 1);
	const char *server = text_argument(fcinfo, 2);
	const char *source = text_argument(fcinfo, 3);
	const char *worker = text_argument(fcinfo, 4);
	int64		failures = PG_ARGISNULL(5) ? 0 : PG_GETARG_INT64(5);
	const char *hint;

	if (state == NULL || server == NULL || worker == NULL)
		PG_RETURN_NULL();
	hint = hint_of_worker(worker);
	if (strcmp(state, "paused") == 0)
		hint = psprintf("SELECT contactsync_resume(%s);", arguments(server, source));
	else if (strcmp(state, "broken") == 0)
		hint = psprintf("Mend the table or the rights of the watch's owner, or give another mapping or filter: SELECT contactsync_alter_watch(%s, mapping => '...'). It goes on by itself, with what is queued.",
						arguments(server, source));
	else if (strcmp(state, "guarded") == 0)
		hint = psprintf("Look at what the reason says can happen. If you paused what would do so: SELECT contactsync_resume(%s, automations => 'paused'); if it is meant to happen, 'accepted'.",
						arguments(server, source));
	else if (strcmp(state, "halted") == 0)
		hint = hint_of_halt(reason ? reason : "", quote_identifier(server));
	else if (hint == NULL && strcmp(state, "throttled") == 0)
		hint = psprintf("Nothing: the provider said when to come again. To call less often: ALTER SERVER %s OPTIONS (ADD pace '...').",
						quote_identifier(server));
	else if (hint == NULL && strcmp(state, "unavailable") == 0)
		hint = "Nothing: the provider is tried until it answers, and nobody is given up on. SELECT * FROM contactsync.calls ORDER BY id DESC shows what it says.";
	else if (hint == NULL && failures > 0)
		hint = psprintf("SELECT * FROM contactsync.failures says why contacts were given up on; then SELECT contactsync_retry(%s);",
						arguments(server, source));
	if (hint == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(hint));
}
