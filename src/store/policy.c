/*-------------------------------------------------------------------------
 *
 * policy.c
 *		What a watch may do to people without a further word.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/shmem.h"
#include "base/sql.h"
#include "store/policy.h"

/* The preset of delete_guard. */
#define GUARD_CONTACTS	100
#define GUARD_SHARE		0.1

const char *
cs_policy_check_claims(const char *claims)
{
	if (strcmp(claims, "new") != 0 && strcmp(claims, "all") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"claims\": \"%s\"", claims),
				 errhint("Use 'new' to claim consent only of contacts that the provider does not know, and when a person gives it; "
						 "or 'all' to claim it of everybody whose opt_in is true and who is not known to have opted out.")));
	return claims;
}

bool
cs_policy_parse_guard(const char *option, CsDeleteGuard *guard)
{
	double		number;
	char	   *end;

	memset(guard, 0, sizeof(CsDeleteGuard));
	if (option == NULL)
	{
		guard->contacts = GUARD_CONTACTS;
		guard->share = GUARD_SHARE;
		guard->all = true;
		return true;
	}
	guard->off = strcmp(option, "off") == 0;
	if (guard->off)
		return true;
	if (strspn(option, "0123456789.%") != strlen(option))
		return false;
	number = strtod(option, &end);
	if (end == option || number < 0)
		return false;
	if (strcmp(end, "%") == 0 && number <= 100)
		guard->share = number / 100;
	else if (*end == '\0' && number == (int) number)
		guard->contacts = (int) number;
	else
		return false;
	return true;
}

static const char *
check_guard(const char *option)
{
	CsDeleteGuard guard;

	if (!cs_policy_parse_guard(option, &guard))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"delete_guard\": \"%s\"", option),
				 errhint("Use a number of contacts, a share such as '5%%', or 'off'.")));
	return option;
}

static Interval *
check_delay(Interval *delay)
{
	static const Interval none = {0};

	if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(delay), IntervalPGetDatum(&none))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"delete_delay\" must not be negative")));
	return delay;
}

void
cs_policy_read(FunctionCallInfo fcinfo, int arg, CsPolicy *policy)
{
	memset(policy, 0, sizeof(CsPolicy));
	if (!PG_ARGISNULL(arg))
		policy->claims = cs_policy_check_claims(text_to_cstring(PG_GETARG_TEXT_PP(arg)));
	if (!PG_ARGISNULL(arg + 1))
		policy->delete_delay = check_delay(PG_GETARG_INTERVAL_P(arg + 1));
	if (!PG_ARGISNULL(arg + 2))
		policy->delete_guard = check_guard(text_to_cstring(PG_GETARG_TEXT_PP(arg + 2)));
}

void
cs_policy_store(int watch, const CsPolicy *policy)
{
	static CsStatement statement = {
		"UPDATE contactsync.watch SET claims = COALESCE($2, claims), delete_delay = COALESCE($3, delete_delay),"
		" delete_guard = COALESCE($4, delete_guard) WHERE id = $1",
		4, {INT4OID, TEXTOID, INTERVALOID, TEXTOID}
	};
	Datum		args[4];
	char		nulls[5] = "    ";
	CsSqlScope	scope;

	args[0] = Int32GetDatum(watch);
	args[1] = policy->claims ? CStringGetTextDatum(policy->claims) : (Datum) 0;
	nulls[1] = policy->claims ? ' ' : 'n';
	args[2] = IntervalPGetDatum(policy->delete_delay);
	nulls[2] = policy->delete_delay ? ' ' : 'n';
	args[3] = policy->delete_guard ? CStringGetTextDatum(policy->delete_guard) : (Datum) 0;
	nulls[3] = policy->delete_guard ? ' ' : 'n';
	cs_sql_enter(&scope);
	cs_sql_execute(&statement, args, nulls);
	cs_sql_leave(&scope);
}
