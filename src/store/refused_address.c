/*-------------------------------------------------------------------------
 *
 * refused_address.c
 *		Addresses that contacts do not get, since nobody consented to them.
 *
 * Where a contact is found by an ID, it keeps its address until there is a consent for
 * the one that its row has.  Another row can give that, so the contact has a hash of the
 * address.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/sql.h"
#include "store/refused_address.h"

int64
cs_refused_address_hash(const char *address)
{
	return DatumGetInt64(DirectFunctionCall2Coll(hashtextextended, C_COLLATION_OID,
												 CStringGetTextDatum(address), Int64GetDatum(0)));
}

int
cs_refused_address_find(int endpoint, int n, char **addresses, CsSpeaker **speakers)
{
	static CsStatement statement = {
		"SELECT c.watch, c.key, c.upsert_key FROM contactsync.contact c"
		" JOIN contactsync.source_row s ON s.watch = c.watch AND s.key = c.key AND s.upsert_key = c.upsert_key"
		" WHERE c.endpoint = $1 AND c.refused IN (SELECT hashtextextended(a, 0) FROM unnest($2) a)",
		2, {INT4OID, TEXTARRAYOID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), cs_sql_make_text_array(n, addresses)};
	MemoryContext context = CurrentMemoryContext;
	int			found = (int) cs_sql_execute(&statement, args, NULL);

	MemoryContextSwitchTo(context);
	*speakers = palloc0(Max(found, 1) * sizeof(CsSpeaker));
	for (int i = 0; i < found; i++)
	{
		(*speakers)[i].watch = cs_sql_int(i, 1);
		(*speakers)[i].key = cs_sql_text(i, 2);
		(*speakers)[i].upsert_key = cs_sql_text(i, 3);
	}
	return found;
}
