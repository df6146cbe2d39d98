/*-------------------------------------------------------------------------
 *
 * membership.c
 *		Which memberships of a role in another count.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "base/sql.h"
#include "store/membership.h"

/*
 * Is one role a member of another, and not without being asked?  Raises an error if
 * the extension is not there.  Needs a transaction.
 */
bool
cs_membership_is_given(Oid member, Oid role)
{
	static CsStatement is_member = {
		"SELECT WHERE " CS_SQL_IS_MEMBER("$1", "$2"), 2, {OIDOID, OIDOID}
	};
	Datum		args[2] = {ObjectIdGetDatum(member), ObjectIdGetDatum(role)};
	CsSqlScope	scope;
	bool		given;

	cs_sql_enter(&scope);
	given = cs_sql_execute(&is_member, args, NULL) > 0;
	cs_sql_leave(&scope);
	return given;
}
