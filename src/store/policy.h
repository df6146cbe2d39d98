/*-------------------------------------------------------------------------
 *
 * policy.h
 *		What a watch may do to people without a further word.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_POLICY_H
#define CS_STORE_POLICY_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/timestamp.h"

/* Of claims, delete_delay and delete_guard what is given; the rest is NULL. */
typedef struct CsPolicy
{
	const char *claims;
	Interval   *delete_delay;
	const char *delete_guard;
} CsPolicy;

/* A guard against removing many contacts at once. */
typedef struct CsDeleteGuard
{
	bool		off;
	int			contacts;		/* more than so many; 0: no such limit */
	double		share;			/* and more than such a part; 0: no such limit */
	bool		all;			/* or all of them, where that is not few */
} CsDeleteGuard;

/* Read the arguments from "arg" on; ereports what is wrong. */
extern void cs_policy_read(FunctionCallInfo fcinfo, int arg, CsPolicy *policy);

/* Return the word; ereports if it is neither "new" nor "all". */
extern const char *cs_policy_check_claims(const char *claims);

/* Store what is given. */
extern void cs_policy_store(int watch, const CsPolicy *policy);

/* Read the option delete_guard, which may be NULL; false if it is none. */
extern bool cs_policy_parse_guard(const char *option, CsDeleteGuard *guard);

#endif							/* CS_STORE_POLICY_H */
