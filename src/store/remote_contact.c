/*-------------------------------------------------------------------------
 *
 * remote_contact.c
 *		contactsync.remote_contact: contacts as the provider has them.
 *
 * Above all it says who has opted out there.  Such a contact is not sent with consent
 * again until the source has said false in between: only then is its true a new
 * consent of the person.
 *
 * That a contact is not opted in there means nothing if we sent it so, or sent
 * nothing and it is the provider's default.  So it counts as an opt-out if we sent
 * something else last, if somebody changed the contact after we wrote it, or if we
 * never wrote it.  If the provider has lost a contact, it comes back without its consent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/sql.h"
#include "base/text.h"
#include "provider/email.h"
#include "provider/provider.h"
#include "store/contact_state.h"
#include "store/keyed_table.h"
#include "store/remote_contact.h"

/* Columns of contactsync.remote_contact that are read by number. */
enum
{
	REMOTE_EMAIL = 1,
	REMOTE_OPT_IN = 4
};

static void
add_listed(CsKeyedTable *table, CsListed *listed)
{
	bool		isnull;
	Datum		opt_in = cs_keyed_table_get(table, REMOTE_OPT_IN, &isnull);

	listed->found = true;
	listed->opted_in |= !isnull && DatumGetBool(opt_in);
	listed->opted_out |= !isnull && !DatumGetBool(opt_in);
}

/* Has the endpoint any? */
static bool
has_any(int endpoint_id)
{
	CsKeyedTable table;
	ScanKeyData key;
	bool		has;

	cs_keyed_table_open(&table, "remote_contact", NULL, 1, AccessShareLock);
	cs_keyed_table_int_key(&key, 0, endpoint_id);
	has = cs_keyed_table_find(&table, &key);
	cs_keyed_table_close(&table);
	return has;
}

/* Look for the texts in the second column of an index, after the endpoint. */
static void
find_listed(const char *index, int endpoint_id, int n, char **texts, CsListed *listed)
{
	CsKeyedTable table;
	ScanKeyData keys[2];

	cs_keyed_table_open(&table, "remote_contact", index, 2, AccessShareLock);
	cs_keyed_table_int_key(keys, 0, endpoint_id);
	for (int i = 0; i < n; i++)
	{
		if (texts[i] == NULL)
			continue;
		cs_keyed_table_text_key(keys, 1, texts[i]);
		for (bool there = cs_keyed_table_find(&table, keys); there; there = cs_keyed_table_next(&table))
		{
			add_listed(&table, &listed[i]);
			listed[i].other_address = cs_keyed_table_text(&table, REMOTE_EMAIL);
		}
	}
	cs_keyed_table_close(&table);
}

void
cs_remote_contact_find(int endpoint_id, int n, char **emails, char **external_ids, CsListed *listed)
{
	memset(listed, 0, n * sizeof(CsListed));
	if (!has_any(endpoint_id))
		return;
	find_listed(NULL, endpoint_id, n, emails, listed);
	for (int i = 0; i < n; i++)
		listed[i].address = listed[i].found;
	find_listed("remote_contact_external_id", endpoint_id, n, external_ids, listed);
	for (int i = 0; i < n; i++)
		if (listed[i].other_address && emails[i] && strcmp(listed[i].other_address, emails[i]) == 0)
			listed[i].other_address = NULL;
}

/* Append a contact to a page. */
static void
append(StringInfo out, const CsRemoteContact *remote)
{
	const CsContact *contact = remote->contact;
	const char *email = cs_email_normalize(contact->value[CS_EMAIL]);

	cs_json_comma(out);
	appendStringInfoCharMacro(out, '{');
	cs_json_member(out, "email", email);
	cs_json_member(out, "remote_id", remote->id);
	cs_json_member(out, "external_id", contact->value[CS_EXTERNAL_ID]);
	if (cs_contact_is(contact, CS_OPT_IN, "true") || cs_contact_is(contact, CS_OPT_IN, "false"))
		cs_json_member_raw(out, "opt_in", contact->value[CS_OPT_IN]);
	cs_json_member(out, "locale", contact->value[CS_LOCALE]);
	cs_json_member(out, "updated_at", remote->updated_at);
	cs_json_key(out, "attributes");
	appendStringInfoCharMacro(out, '{');
	for (int i = 0; i < contact->nattributes; i++)
		cs_json_member_raw(out, contact->attributes[i].name, contact->attributes[i].json);
	appendStringInfoString(out, "}}");
}

bool
cs_remote_contact_read_page(const CsEndpoint *endpoint, const CsPull *pull, CsJson *doc,
							CsPullPage *pulled, StringInfo page)
{
	memset(pulled, 0, sizeof(CsPullPage));
	endpoint->provider->judge_pull(endpoint, pull, doc, pulled);
	if (pulled->items == NULL)
		return false;
	appendStringInfoCharMacro(page, '[');
	for (int i = 0; i < cs_json_length(pulled->items); i++)
	{
		CsRemoteContact remote = {0};

		if (endpoint->provider->read_contact(endpoint, cs_json_item(pulled->items, i), &remote))
			append(page, &remote);
	}
	appendStringInfoCharMacro(page, ']');
	return true;
}

void
cs_remote_contact_store(int endpoint_id, const char *page, TimestampTz pulled_at)
{
#define ROWS \
	"jsonb_to_recordset($2) AS j (email text, remote_id text, external_id text, opt_in bool," \
	" locale text, attributes jsonb, updated_at text)"
	/* an address that another contact has now */
	static CsStatement forget = {
		"DELETE FROM contactsync.remote_contact r USING " ROWS
		" WHERE r.endpoint = $1 AND r.remote_id = j.remote_id COLLATE \"C\" AND r.email <> j.email COLLATE \"C\"",
		2, {INT4OID, JSONBOID}
	};
	static CsStatement store = {
		"INSERT INTO contactsync.remote_contact AS r (endpoint, email, remote_id, external_id, opt_in, locale,"
		" attributes, updated_at, pulled_at)"
		" SELECT DISTINCT ON (j.email) $1, j.email, j.remote_id, j.external_id, j.opt_in, j.locale, j.attributes,"
		" CASE WHEN j.updated_at ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)$' THEN j.updated_at::timestamptz END, $3"
		" FROM " ROWS " ORDER BY j.email, j.updated_at DESC NULLS LAST"
		" ON CONFLICT (endpoint, email) DO UPDATE SET remote_id = excluded.remote_id,"
		" external_id = excluded.external_id, opt_in = excluded.opt_in, locale = excluded.locale,"
		" attributes = excluded.attributes, updated_at = excluded.updated_at, pulled_at = excluded.pulled_at,"
		" recreated = r.recreated OR r.remote_id <> excluded.remote_id",
		3, {INT4OID, JSONBOID, TIMESTAMPTZOID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint_id),
		DirectFunctionCall1(jsonb_in, CStringGetDatum(cs_text_from_utf8(page))),
	TimestampTzGetDatum(pulled_at)};

	cs_sql_execute(&forget, args, NULL);
	cs_sql_execute(&store, args, NULL);
}

/*
 * Keep other sessions from pulling for the endpoint until the end of the
 * transaction.  Return false if one does so already.
 */
bool
cs_remote_contact_lock(int endpoint_id)
{
	static CsStatement statement = {
		"SELECT pg_try_advisory_xact_lock(hashtextextended('contactsync_pull ' || $1, 0))", 1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint_id);
	bool		isnull;

	cs_sql_execute(&statement, &arg, NULL);
	return DatumGetBool(cs_sql_value(0, 1, &isnull));
}

int64
cs_remote_contact_count(int endpoint_id, TimestampTz pulled_at)
{
	static CsStatement statement = {
		"SELECT count(*) FROM contactsync.remote_contact WHERE endpoint = $1 AND pulled_at = $2",
		2, {INT4OID, TIMESTAMPTZOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint_id), TimestampTzGetDatum(pulled_at)};
	bool		isnull;

	cs_sql_execute(&statement, args, NULL);
	return DatumGetInt64(cs_sql_value(0, 1, &isnull));
}

/* A contact that was being written while the last pull listed it may appear later. */
char *
cs_remote_contact_since(int endpoint_id)
{
	static CsStatement statement = {
		"SELECT to_char((pulled_until - interval '1 min') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
		" FROM contactsync.endpoint WHERE id = $1",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint_id);

	return cs_sql_execute(&statement, &arg, NULL) > 0 ? cs_sql_text(0, 1) : NULL;
}

bool
cs_remote_contact_complete(int endpoint_id, TimestampTz pulled_at)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint e SET learned_at = $2, unlearnable = NULL"
		" FROM (SELECT learned_at IS NULL AS first FROM contactsync.endpoint WHERE id = $1) o"
		" WHERE e.id = $1 RETURNING o.first",
		2, {INT4OID, TIMESTAMPTZOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint_id), TimestampTzGetDatum(pulled_at)};
	bool		isnull;

	return cs_sql_execute(&statement, args, NULL) > 0 && DatumGetBool(cs_sql_value(0, 1, &isnull));
}

void
cs_remote_contact_advance(int endpoint_id, TimestampTz pulled_at)
{
	static CsStatement statement = {
		"UPDATE contactsync.endpoint e SET pulled_until = m.newest"
		" FROM (SELECT max(updated_at) AS newest FROM contactsync.remote_contact WHERE endpoint = $1 AND pulled_at = $2) m"
		" WHERE e.id = $1 AND m.newest > COALESCE(e.pulled_until, '-infinity')",
		2, {INT4OID, TIMESTAMPTZOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint_id), TimestampTzGetDatum(pulled_at)};

	cs_sql_execute(&statement, args, NULL);
}

/*
 * Only a contact that was stored before the pull began was certainly written before
 * it was listed.  Those that were stored later are left to the next pull, which
 * considers all that were stored since the one before, and lists what has changed
 * since.  These times are on our clock; that of a change at the provider is on the
 * provider's, and "ahead" is subtracted from it first.
 */
int64
cs_remote_contact_learn(int endpoint_id, TimestampTz pulled_at, double ahead)
{
	/*
	 * that the provider has lost its data, somebody said before it was sent
	 * again
	 */
#define CAME_BACK "(r.recreated AND EXISTS (SELECT FROM contactsync.endpoint e WHERE e.id = $1 AND c.synced_at > e.stale_before))"
#define LEARN(match) \
		"UPDATE contactsync.contact c SET opted_out = NOT r.opt_in FROM contactsync.remote_contact r" \
		" WHERE c.endpoint = $1 AND r.endpoint = $1 AND c.action = 'u' AND " match \
		" AND c.opted_out = r.opt_in AND COALESCE(c.synced_at, '-infinity') < $2" \
		" AND (r.pulled_at = $2 OR NOT r.opt_in AND c.synced_at >= COALESCE((SELECT max(b.pulled_at)" \
		" FROM contactsync.remote_contact b WHERE b.endpoint = $1 AND b.pulled_at < $2), '-infinity'))" \
		" AND (r.opt_in OR c.claimed AND NOT c.inherited AND NOT " CAME_BACK " OR c.synced_at IS NULL" \
		" OR r.updated_at - make_interval(secs => $3) > c.synced_at + interval '1 min')"
	static CsStatement by_email = {
		LEARN("r.email = COALESCE(c.email COLLATE \"C\", c.upsert_key)"), 3, {INT4OID, TIMESTAMPTZOID, FLOAT8OID}
	};
	static CsStatement by_id = {
		LEARN("r.external_id = c.upsert_key"), 3, {INT4OID, TIMESTAMPTZOID, FLOAT8OID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint_id), TimestampTzGetDatum(pulled_at), Float8GetDatum(ahead)};

	return cs_sql_execute(&by_id, args, NULL) + cs_sql_execute(&by_email, args, NULL);
}
