/*-------------------------------------------------------------------------
 *
 * contact_sample.c
 *		Contacts as we believe that the provider has them, to be compared with
 *		what it has.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/sql.h"
#include "store/contact_sample.h"

/* Return how many contacts the provider has from an endpoint. */
int64
cs_contact_sample_count(int endpoint)
{
	static CsStatement statement = {
		"SELECT count(*) FROM contactsync.contact"
		" WHERE endpoint = $1 AND action = 'u' AND digest IS NOT NULL",
		1, {INT4OID}
	};
	Datum		arg = Int32GetDatum(endpoint);
	bool		isnull;

	cs_sql_execute(&statement, &arg, NULL);
	return DatumGetInt64(cs_sql_value(0, 1, &isnull));
}

/* Return up to "limit" of them that were sent for rows, at random, palloc'd. */
CsContactSample *
cs_contact_sample_read(int endpoint, int limit, int *n)
{
	static CsStatement statement = {
		"SELECT s.watch, s.key, EXISTS (SELECT FROM contactsync.queue q WHERE q.endpoint = $1"
		" AND q.watch = s.watch AND (s.key = ANY (q.keys) OR q.keys IS NULL OR q.related IS NOT NULL))"
		" FROM (SELECT c.watch, c.key FROM contactsync.contact c JOIN contactsync.watch w"
		" ON w.id = c.watch WHERE c.endpoint = $1"
		" AND c.action = 'u' AND c.digest IS NOT NULL ORDER BY random() LIMIT $2) s",
		2, {INT4OID, INT4OID}
	};
	Datum		args[2] = {Int32GetDatum(endpoint), Int32GetDatum(limit)};
	MemoryContext context = CurrentMemoryContext;
	CsContactSample *samples;
	bool		isnull;

	*n = (int) cs_sql_execute(&statement, args, NULL);
	MemoryContextSwitchTo(context);
	samples = palloc(Max(*n, 1) * sizeof(CsContactSample));
	for (int i = 0; i < *n; i++)
	{
		samples[i].watch = cs_sql_int(i, 1);
		samples[i].key = cs_sql_text(i, 2);
		samples[i].queued = DatumGetBool(cs_sql_value(i, 3, &isnull));
	}
	return samples;
}
