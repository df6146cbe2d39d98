/*-------------------------------------------------------------------------
 *
 * membership.h
 *		Which memberships of a role in another count.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_MEMBERSHIP_H
#define CS_STORE_MEMBERSHIP_H

#include "postgres.h"

#include "base/compat.h"

/*
 * Is one role a member of another, and not without being asked?  Whoever administers
 * a role can make anybody a member of it, also a superuser.  So a membership counts if
 * it was granted by a superuser, by the member, or by who administers the member.  An
 * SQL condition; its arguments are expressions that are oids or regroles.
 */
#define CS_SQL_IS_MEMBER(member, role) \
	"EXISTS (WITH RECURSIVE held (role) AS (SELECT " member "::oid" \
	" UNION SELECT m.roleid FROM held JOIN pg_auth_members m ON m.member = held.role" \
	" JOIN pg_authid g ON g.oid = m.grantor WHERE g.oid = m.member OR " CS_SQL_ADMINISTERS_ALL("g") \
	" OR pg_has_role(g.oid, m.member, 'MEMBER WITH ADMIN OPTION'))" \
	" SELECT FROM held WHERE held.role = " role "::oid)"

extern bool cs_membership_is_given(Oid member, Oid role);

#endif							/* CS_STORE_MEMBERSHIP_H */
