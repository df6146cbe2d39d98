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
 * never wrote it.
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
#include "store/remote_contact.h"

/* Return a field as the table has it; NULL if the contact has none. */
static char *
field_of(const CsContact *contact, CsField field)
{
	const char *value = contact ? contact->value[field] : NULL;

	if (value == NULL)
		return NULL;
	if (field == CS_EMAIL)
		value = cs_email_normalize(value);
	return cs_text_from_utf8(value);
}

void
cs_remote_contact_apply(const CsEndpoint *endpoint, int endpoint_id, int n, const CsSourceRow *rows,
						CsKnown *known)
{
	static CsStatement statement = {
		"SELECT k.n::int4 FROM unnest($2, $3) WITH ORDINALITY AS k (email, external_id, n)"
		" WHERE EXISTS (SELECT FROM contactsync.remote_contact r WHERE r.endpoint = $1"
		" AND r.email = k.email AND NOT r.opt_in)"
		" OR EXISTS (SELECT FROM contactsync.remote_contact r WHERE r.endpoint = $1"
		" AND r.external_id = k.external_id AND NOT r.opt_in)",
		3, {INT4OID, TEXTARRAYOID, TEXTARRAYOID}
	};
	char	  **emails;
	char	  **ids;
	int		   *index;
	int			nnew = 0;
	Datum		args[3];
	CsSqlScope	scope;
	uint64		found;

	if (endpoint == NULL || endpoint->provider->build_pull == NULL || n == 0)
		return;
	emails = palloc(n * sizeof(char *));
	ids = palloc(n * sizeof(char *));
	index = palloc(n * sizeof(int));
	for (int i = 0; i < n; i++)
	{
		if (known[i].found || rows[i].contact == NULL)
			continue;
		emails[nnew] = field_of(rows[i].contact, CS_EMAIL);
		ids[nnew] = field_of(rows[i].contact, CS_EXTERNAL_ID);
		index[nnew++] = i;
	}
	if (nnew == 0)
		return;
	args[0] = Int32GetDatum(endpoint_id);
	args[1] = cs_sql_make_text_array(nnew, emails);
	args[2] = cs_sql_make_text_array(nnew, ids);
	cs_sql_enter(&scope);
	found = cs_sql_execute(&statement, args, NULL);
	for (uint64 i = 0; i < found; i++)
		known[index[cs_sql_int(i, 1) - 1]].opted_out = true;
	cs_sql_leave(&scope);
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
		" attributes = excluded.attributes, updated_at = excluded.updated_at, pulled_at = excluded.pulled_at",
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
#define LEARN(match) \
		"UPDATE contactsync.contact c SET opted_out = NOT r.opt_in FROM contactsync.remote_contact r" \
		" WHERE c.endpoint = $1 AND r.endpoint = $1 AND c.action = 'u' AND " match \
		" AND c.opted_out = r.opt_in AND COALESCE(c.synced_at, '-infinity') < $2" \
		" AND (r.pulled_at = $2 OR NOT r.opt_in AND c.synced_at >= COALESCE((SELECT max(b.pulled_at)" \
		" FROM contactsync.remote_contact b WHERE b.endpoint = $1 AND b.pulled_at < $2), '-infinity'))" \
		" AND (r.opt_in OR c.consent_sent OR c.synced_at IS NULL" \
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
