/*-------------------------------------------------------------------------
 *
 * notify.c
 *		Events that are announced by NOTIFY.
 *
 * Everybody may LISTEN, so only what the catalogs show to everybody is announced:
 * the names of server, owner and table, and the class of the reason.  A message of
 * a provider or of the source can contain anything, and is not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/sql.h"
#include "store/notify.h"

void
cs_notify(const char *event, int endpoint, int watch, const char *reason, int64 failed)
{
	static CsStatement statement = {
		"SELECT pg_notify('contactsync', json_strip_nulls(json_build_object('event', $1, 'server', e.server,"
		" 'owner', e.role::text, 'source', w.source::text, 'reason', split_part($4, ':', 1),"
		" 'failed', NULLIF($5, 0), 'at', clock_timestamp()))::text)"
		" FROM contactsync.endpoint e LEFT JOIN contactsync.watch w ON w.id = $3 AND w.endpoint = e.id WHERE e.id = $2",
		5, {TEXTOID, INT4OID, INT4OID, TEXTOID, INT8OID}
	};
	Datum		args[5];
	char		nulls[6] = "     ";

	args[0] = CStringGetTextDatum(event);
	args[1] = Int32GetDatum(endpoint);
	args[2] = Int32GetDatum(watch);
	args[3] = cs_sql_message_or_null(reason, &nulls[3]);
	args[4] = Int64GetDatum(failed);
	cs_sql_execute(&statement, args, nulls);
}
