/*-------------------------------------------------------------------------
 *
 * remaining_row.c
 *		contactsync.remaining_row: rows that were forgotten and are still there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/sql.h"
#include "store/remaining_row.h"

void
cs_remaining_row_store(int endpoint, int watch, int n, const CsRemainingRow *rows)
{
	static CsStatement statement = {
		"INSERT INTO contactsync.remaining_row (endpoint, watch, key, contact, address)"
		" VALUES ($1, $2, $3, contactsync.consent_hash($4), contactsync.consent_hash($5)) ON CONFLICT DO NOTHING",
		5, {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID}
	};

	for (int i = 0; i < n; i++)
	{
		bool		same = rows[i].address == NULL || strcmp(rows[i].address, rows[i].upsert_key) == 0;
		Datum		args[5];

		args[0] = Int32GetDatum(endpoint);
		args[1] = Int32GetDatum(watch);
		args[2] = CStringGetTextDatum(rows[i].key);
		args[3] = CStringGetTextDatum(rows[i].upsert_key);
		args[4] = same ? (Datum) 0 : CStringGetTextDatum(rows[i].address);
		cs_sql_execute(&statement, args, same ? "    n" : NULL);
	}
}

bool
cs_remaining_row_remove(int watch, int n, char **keys, bool gone)
{
	static CsStatement statement = {
		"DELETE FROM contactsync.remaining_row r WHERE r.watch = $1 AND r.key = ANY ($2) AND ($3 OR NOT EXISTS (SELECT FROM"
		" contactsync.forgotten f WHERE f.endpoint = r.endpoint AND f.watch = r.watch AND f.key = r.key))",
		3, {INT4OID, TEXTARRAYOID, BOOLOID}
	};
	Datum		args[3] = {Int32GetDatum(watch), cs_sql_make_text_array(n, keys), BoolGetDatum(gone)};

	return cs_sql_execute(&statement, args, NULL) > 0;
}

bool
cs_remaining_row_stands(int endpoint, const char *upsert_key, const char *address)
{
	static CsStatement statement = {
		"SELECT FROM contactsync.remaining_row r WHERE r.endpoint = $1 AND (r.contact = ANY (ARRAY(SELECT"
		" contactsync.consent_hash(k) FROM unnest(ARRAY[$2, $3]) k)) OR r.address = (SELECT contactsync.consent_hash($2))) LIMIT 1",
		3, {INT4OID, TEXTOID, TEXTOID}
	};
	Datum		args[3] = {Int32GetDatum(endpoint), CStringGetTextDatum(upsert_key), CStringGetTextDatum(address)};
	CsSqlScope	scope;
	bool		stands;

	cs_sql_enter(&scope);
	stands = cs_sql_execute(&statement, args, NULL) > 0;
	cs_sql_leave(&scope);
	return stands;
}
