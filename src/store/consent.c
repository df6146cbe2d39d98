/*-------------------------------------------------------------------------
 *
 * consent.c
 *		contactsync.consent: what is remembered of a person's consent when the
 *		contact has gone.
 *
 * The address is kept as a keyed hash.  The key is one per database, in a table
 * that only the extension's owner reads, and it is dumped, for a restore that
 * forgets opt-outs is worse.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/sql.h"
#include "base/text.h"
#include "provider/contact.h"
#include "provider/email.h"
#include "store/consent.h"
#include "store/keyed_table.h"
#include "store/membership.h"

#define HASH_BYTES	16

/*
 * Accounts
 */

/*
 * The id of an account, made if it is not there: a provider, the URL that it is
 * reached by, the name that tells accounts there apart, and whose it is.
 */
static int
account_id(const char *provider, const char *base_url, const char *name, Oid roleid)
{
	static CsStatement find = {
		"SELECT id FROM contactsync.account WHERE provider = $1 AND base_url = $2 AND name = $3 AND role = $4",
		4, {TEXTOID, TEXTOID, TEXTOID, REGROLEOID}
	};
	static CsStatement make = {
		"INSERT INTO contactsync.account (provider, base_url, name, role) VALUES ($1, $2, $3, $4)"
		" ON CONFLICT (provider, base_url, name, role) DO UPDATE SET name = excluded.name RETURNING id",
		4, {TEXTOID, TEXTOID, TEXTOID, REGROLEOID}
	};
	Datum		args[4];

	args[0] = CStringGetTextDatum(provider);
	args[1] = CStringGetTextDatum(base_url);
	args[2] = CStringGetTextDatum(name);
	args[3] = ObjectIdGetDatum(roleid);
	if (cs_sql_execute(&find, args, NULL) == 0)
		cs_sql_execute(&make, args, NULL);
	return cs_sql_int(0, 1);
}

int
cs_consent_set_account(int endpoint, const char *provider, const char *base_url,
					   const char *name, const char *otherwise, Oid roleid)
{
	static CsStatement present = {
		"SELECT a.name FROM contactsync.endpoint e JOIN contactsync.account a ON a.id = e.account"
		" WHERE e.id = $1 AND a.provider = $2 AND a.base_url = $3",
		3, {INT4OID, TEXTOID, TEXTOID}
	};
	static CsStatement store = {
		"UPDATE contactsync.endpoint SET account = $2 WHERE id IN"
		" (SELECT id FROM contactsync.endpoint WHERE id = $1 AND account IS DISTINCT FROM $2 FOR UPDATE SKIP LOCKED)",
		2, {INT4OID, INT4OID}
	};
	Datum		args[3];
	int			account;

	args[0] = Int32GetDatum(endpoint);
	args[1] = CStringGetTextDatum(provider);
	args[2] = CStringGetTextDatum(base_url);
	if (name == NULL)
		name = cs_sql_execute(&present, args, NULL) > 0 ? cs_sql_text(0, 1) : otherwise;
	account = account_id(provider, base_url, name, roleid);
	args[1] = Int32GetDatum(account);
	cs_sql_execute(&store, args, NULL);
	return account;
}

/* The first column of the last result, palloc'd in the given context. */
static int *
ints_of_result(uint64 n, MemoryContext context)
{
	int		   *ints = MemoryContextAlloc(context, Max(n, 1) * sizeof(int));

	for (uint64 i = 0; i < n; i++)
		ints[i] = cs_sql_int(i, 1);
	return ints;
}

void
cs_consent_load_scope(int endpoint, int account, CsConsentScope *scope)
{
	static CsStatement stored = {
		"SELECT COALESCE(account, 0) FROM contactsync.endpoint WHERE id = $1", 1, {INT4OID}
	};
	static CsStatement accounts = {
		"SELECT o.id FROM contactsync.account a JOIN contactsync.account o USING (provider, base_url, name)"
		" WHERE a.id = $1 AND (o.id = a.id OR " CS_SQL_IS_MEMBER("o.role", "a.role") " OR " CS_SQL_IS_MEMBER("a.role", "o.role") ")"
		" ORDER BY o.id <> a.id, o.id",
		1, {INT4OID}
	};
	static CsStatement endpoints = {
		"SELECT $1 UNION ALL SELECT id FROM contactsync.endpoint WHERE account = ANY ($2) AND id <> $1",
		2, {INT4OID, INT4ARRAYOID}
	};
	static CsStatement exists = {
		"SELECT FROM contactsync.consent WHERE account = ANY ($1) LIMIT 1", 1, {INT4ARRAYOID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		args[2] = {Int32GetDatum(endpoint)};
	Datum	   *elements;

	memset(scope, 0, sizeof(CsConsentScope));
	scope->account = account;
	if (account == 0 && cs_sql_execute(&stored, args, NULL) > 0)
		scope->account = cs_sql_int(0, 1);
	args[0] = Int32GetDatum(scope->account);
	scope->naccounts = (int) cs_sql_execute(&accounts, args, NULL);
	scope->accounts = ints_of_result(scope->naccounts, context);
	elements = palloc(Max(scope->naccounts, 1) * sizeof(Datum));
	for (int i = 0; i < scope->naccounts; i++)
		elements[i] = Int32GetDatum(scope->accounts[i]);
	args[0] = Int32GetDatum(endpoint);
	args[1] = PointerGetDatum(construct_array(elements, scope->naccounts, INT4OID, 4, true, TYPALIGN_INT));
	scope->nendpoints = (int) cs_sql_execute(&endpoints, args, NULL);
	scope->endpoints = ints_of_result(scope->nendpoints, context);
	scope->has_consents = cs_sql_execute(&exists, &args[1], NULL) > 0;
	MemoryContextSwitchTo(context);
}

/* What is closed stays so; a yes that was not claimed says nothing new of the claim. */
#define MERGE \
		" ON CONFLICT (account, hash) DO UPDATE SET" \
		" state = CASE WHEN 'o' IN (c.state, excluded.state) THEN 'o'::\"char\"" \
		" WHEN excluded.state = 'h' THEN c.state ELSE excluded.state END," \
		" said = CASE excluded.said WHEN '-' THEN c.said ELSE excluded.said END," \
		" yes_left = CASE excluded.state WHEN 'c' THEN NULL ELSE c.yes_left END," \
		" opt_in_at = GREATEST(c.opt_in_at, excluded.opt_in_at)"

void
cs_consent_remember_endpoint(int endpoint)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.consent AS c (account, hash, state, said, opt_in_at)"
		" SELECT account, hash, CASE WHEN bool_or(said = 'f') THEN 'n' WHEN bool_or(closed) THEN 'o'"
		" WHEN bool_or(claimed) THEN 'c' ELSE 'h' END::\"char\","
		" (array_agg(said ORDER BY said = '-', synced_at DESC NULLS FIRST))[1], max(opt_in_at)"
		" FROM (SELECT e.account, contactsync.consent_hash(COALESCE(t.email, t.upsert_key)) AS hash, COALESCE(t.left_opt_in, t.opt_in) AS said,"
		" t.opted_out OR t.action = 'n' OR t.action = 'd' AND NOT t.claimed AS closed, t.claimed, t.synced_at, COALESCE(t.opt_in_at, t.synced_at) AS opt_in_at"
		" FROM contactsync.contact t JOIN contactsync.endpoint e ON e.id = t.endpoint"
		" WHERE t.endpoint = $1 AND e.account IS NOT NULL"
		" AND (t.claimed OR t.opted_out OR COALESCE(t.left_opt_in, t.opt_in) IN ('f', 't', 'N') OR t.action <> 'u')) m GROUP BY account, hash"
		MERGE,
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);

	cs_sql_execute(&statement, &arg, NULL);
}

void
cs_consent_forget(Datum contact_endpoints, Datum upsert_keys, Datum endpoints, Datum address, Oid roleid,
				  bool suppression)
{
#define FORGET_TYPES 5, {INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTOID, OIDOID}
	/* of the address; a server may have been dropped */
#define ACCOUNTS \
	"SELECT e.account FROM contactsync.endpoint e WHERE e.id = ANY ($3) AND $4 <> ''" \
	" UNION SELECT a.id FROM contactsync.account a WHERE $5 <> 0 AND pg_has_role($5, a.role, 'USAGE') AND $4 <> ''"

	/* of the contacts */
#define CONTACT_HASHES \
	"SELECT e.account, contactsync.consent_hash(t.address) AS hash FROM unnest($1, $2) AS k (endpoint, upsert_key)" \
	" CROSS JOIN LATERAL (SELECT COALESCE(c.email, c.upsert_key) AS address FROM contactsync.contact c" \
	" WHERE c.endpoint = k.endpoint AND c.upsert_key = k.upsert_key OFFSET 0) t" \
	" JOIN contactsync.endpoint e ON e.id = k.endpoint WHERE e.account IS NOT NULL"

	/* what the provider has, was told, or what it listed */
	static CsStatement close = {
		"INSERT INTO contactsync.consent AS c (account, hash, state)"
		" SELECT account, hash, 'o' FROM (" CONTACT_HASHES
		" UNION SELECT e.account, contactsync.consent_hash(r.email) FROM contactsync.remote_contact r"
		" JOIN contactsync.endpoint e ON e.id = r.endpoint WHERE r.endpoint = ANY ($3) AND r.email = $4"
		" AND e.account IS NOT NULL) m"
		" ON CONFLICT (account, hash) DO UPDATE SET state = excluded.state, said = excluded.said, opt_in_at = NULL, yes_left = NULL",
		FORGET_TYPES
	};

	/* times of what is only remembered are forgotten as well */
	static CsStatement redact = {
		"UPDATE contactsync.consent c SET state = 'o', said = '-', opt_in_at = NULL, yes_left = NULL FROM (" ACCOUNTS ") a"
		" WHERE c.account = a.account AND c.hash = (SELECT contactsync.consent_hash($4))",
		FORGET_TYPES
	};
	static CsStatement drop = {
		"DELETE FROM contactsync.consent c USING (" CONTACT_HASHES
		" UNION SELECT a.account, contactsync.consent_hash($4) FROM (" ACCOUNTS ") a) m"
		" WHERE c.account = m.account AND c.hash = m.hash",
		FORGET_TYPES
	};
	Datum		args[5] = {contact_endpoints, upsert_keys, endpoints, address, ObjectIdGetDatum(roleid)};

	if (!suppression)
		cs_sql_execute(&drop, args, NULL);
	else
	{
		cs_sql_execute(&close, args, NULL);
		cs_sql_execute(&redact, args, NULL);
	}
}

/*
 * Hashes
 */

/*
 * Make the key of the hashes if it is not there.  Whoever delivers does so early, so
 * that it is not made by a session, for whose transaction all others would wait.
 */
void
cs_consent_make_key(void *arg)
{
	static CsStatement make = {
		"INSERT INTO contactsync.consent_key (key)"
		" SELECT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')"
		" WHERE NOT EXISTS (SELECT FROM contactsync.consent_key) ON CONFLICT DO NOTHING"
	};

	cs_sql_execute(&make, NULL, NULL);
}

/* The key of the hashes, made when it is first needed; palloc'd. */
static bytea *
read_key(void)
{
	static CsStatement find = {"SELECT key FROM contactsync.consent_key"};
	MemoryContext context = CurrentMemoryContext;
	MemoryContext old;
	bytea	   *key;
	bool		isnull;

	if (cs_sql_execute(&find, NULL, NULL) == 0)
	{
		cs_consent_make_key(NULL);
		cs_sql_execute(&find, NULL, NULL);
	}
	old = MemoryContextSwitchTo(context);
	key = DatumGetByteaPCopy(cs_sql_value(0, 1, &isnull));
	MemoryContextSwitchTo(old);
	return key;
}

/* The hash of a normalized address in UTF-8, as bytea; palloc'd. */
static Datum
hash_of(const bytea *key, const char *address)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	bytea	   *hash = palloc(VARHDRSZ + HASH_BYTES);
	pg_hmac_ctx *context = pg_hmac_create(PG_SHA256);

	if (context == NULL ||
		pg_hmac_init(context, (const uint8 *) VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)) < 0 ||
		pg_hmac_update(context, (const uint8 *) address, strlen(address)) < 0 ||
		pg_hmac_final(context, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute the hash of an address");
	pg_hmac_free(context);
	SET_VARSIZE(hash, VARHDRSZ + HASH_BYTES);
	memcpy(VARDATA(hash), digest, HASH_BYTES);
	return PointerGetDatum(hash);
}

void
cs_consent_hash_addresses(int n, char **addresses, Datum *hashes)
{
	MemoryContext context = CurrentMemoryContext;
	bytea	   *key = read_key();

	MemoryContextSwitchTo(context);
	for (int i = 0; i < n; i++)
		hashes[i] = addresses[i] ? hash_of(key, cs_email_normalize(cs_text_message_to_utf8(addresses[i]))) : (Datum) 0;
}

uint64
cs_consent_secret(void)
{
	MemoryContext context = CurrentMemoryContext;
	CsSqlScope	scope;
	Datum		hash;
	uint64		secret;

	cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	/* no address is empty */
	hash = hash_of(read_key(), "");
	cs_sql_leave(&scope);
	MemoryContextSwitchTo(context);
	memcpy(&secret, VARDATA_ANY(DatumGetByteaPP(hash)), sizeof(secret));
	return secret;
}

CS_FUNCTION(contactsync_consent_hash);

/* contactsync.consent_hash(address text) returns bytea */
Datum
contactsync_consent_hash(PG_FUNCTION_ARGS)
{
	char	   *address = cs_email_normalize(cs_text_message_to_utf8(text_to_cstring(PG_GETARG_TEXT_PP(0))));

	/* the key is read once per statement */
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		CsSqlScope	scope;

		cs_sql_enter(&scope);
		MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = read_key();
		cs_sql_leave(&scope);
	}
	PG_RETURN_DATUM(hash_of(fcinfo->flinfo->fn_extra, address));
}

/*
 * Reading and remembering
 */

enum
{
	CONSENT_ACCOUNT,
	CONSENT_HASH,
	CONSENT_STATE,
	CONSENT_SAID,
	CONSENT_OPT_IN_AT,
	CONSENT_YES_LEFT
};

/* Take what one account remembers; what is closed wins. */
static void
add(CsKeyedTable *table, CsConsent *consent)
{
	char		state = cs_keyed_table_char(table, CONSENT_STATE);
	char		said = cs_keyed_table_char(table, CONSENT_SAID);

	if (consent->state == '\0' || (consent->state != CS_MEMORY_CLOSED && state != CS_MEMORY_HELD))
		consent->state = state;
	if (said != CS_CONSENT_UNKNOWN)
		consent->said = said;
	consent->opt_in_at = Max(consent->opt_in_at, cs_keyed_table_time(table, CONSENT_OPT_IN_AT));
	consent->yes_left = Max(consent->yes_left, cs_keyed_table_xact(table, CONSENT_YES_LEFT));
}

void
cs_consent_read(const CsConsentScope *scope_of, int n, char **addresses, CsConsent *consents)
{
	CsKeyedTable table;
	CsSqlScope	scope;
	ScanKeyData keys[2];
	MemoryContext context = CurrentMemoryContext;
	bytea	   *key;

	memset(consents, 0, n * sizeof(CsConsent));
	cs_sql_enter(&scope);
	MemoryContextSwitchTo(context);
	key = read_key();
	MemoryContextSwitchTo(context);
	cs_sql_leave(&scope);
	cs_keyed_table_open(&table, "consent", NULL, 2, AccessShareLock);
	for (int i = 0; i < n; i++)
	{
		if (addresses[i] == NULL)
			continue;
		consents[i].address = addresses[i];
		consents[i].said = CS_CONSENT_UNKNOWN;
		ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_BYTEAEQ,
					hash_of(key, cs_text_message_to_utf8(addresses[i])));
		for (int j = 0; j < scope_of->naccounts; j++)
		{
			cs_keyed_table_int_key(keys, 0, scope_of->accounts[j]);
			if (cs_keyed_table_find(&table, keys))
				add(&table, &consents[i]);
		}
	}
	cs_keyed_table_close(&table);
}

void
cs_consent_reopen(const CsConsentScope *scope, int n, const CsConsent *consents)
{
	static CsStatement statement = {
		"UPDATE contactsync.consent SET state = 'c', said = 't', opt_in_at = GREATEST(opt_in_at, $3), yes_left = NULL WHERE account = $1 AND hash = $2",
		3, {INT4OID, BYTEAOID, TIMESTAMPTZOID}
	};
	MemoryContext context = CurrentMemoryContext;
	bytea	   *key = read_key();

	for (int i = 0; i < n; i++)
	{
		Datum		args[3];

		MemoryContextSwitchTo(context);
		args[1] = hash_of(key, consents[i].address);
		args[2] = TimestampTzGetDatum(consents[i].opt_in_at);
		for (int j = 0; j < scope->naccounts; j++)
		{
			args[0] = Int32GetDatum(scope->accounts[j]);
			cs_sql_execute(&statement, args, NULL);
		}
	}
}

void
cs_consent_remember(int account, int n, const CsConsent *consents)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.consent AS c (account, hash, state, opt_in_at, said) VALUES ($1, $2, $3, $4, $5)"
		MERGE,
		5, {INT4OID, BYTEAOID, CHAROID, TIMESTAMPTZOID, CHAROID}
	};
	MemoryContext context = CurrentMemoryContext;
	bytea	   *key;

	if (n == 0)
		return;
	key = read_key();
	for (int i = 0; i < n; i++)
	{
		Datum		args[5];

		MemoryContextSwitchTo(context);
		args[0] = Int32GetDatum(account);
		args[1] = hash_of(key, cs_text_message_to_utf8(consents[i].address));
		args[2] = CharGetDatum(consents[i].state);
		args[3] = TimestampTzGetDatum(consents[i].opt_in_at);
		args[4] = CharGetDatum(consents[i].said ? consents[i].said : CS_CONSENT_UNKNOWN);
		cs_sql_execute(&statement, args, consents[i].opt_in_at == 0 ? "   n " : NULL);
	}
}

void
cs_consent_note_yes_left(int account, int n, char **addresses)
{
	static CsStatement statement = {
		"UPDATE contactsync.consent SET yes_left = pg_current_xact_id() WHERE account = $1 AND hash = $2 AND state = 'n' AND yes_left IS NULL",
		2, {INT4OID, BYTEAOID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum	   *hashes = palloc(n * sizeof(Datum));

	if (n == 0)
		return;
	cs_consent_hash_addresses(n, addresses, hashes);
	for (int i = 0; i < n; i++)
	{
		Datum		args[2] = {Int32GetDatum(account), hashes[i]};

		MemoryContextSwitchTo(context);
		cs_sql_execute(&statement, args, NULL);
	}
}
