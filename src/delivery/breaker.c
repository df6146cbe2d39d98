/*-------------------------------------------------------------------------
 *
 * breaker.c
 *		Stops an account whose provider refuses everybody alike.
 *
 * A plan that has run out, or a field that has become required, may be told in words
 * that no judge() knows, as a refusal of each contact.  So after as many refusals of
 * one kind in a row as the option refusal_guard says, without a success between, the
 * account is halted.  From then on a refused contact stays queued, and one contact in
 * a while probes, another one each time.  A success closes the breaker.  A changed
 * option has contacts tried again, as many as one reading has; the first refusal of
 * the same kind opens it again.  contactsync_resume() has contacts fail until there
 * is a success.
 *
 * A conflict does not count: it is between two contacts, however many there are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "delivery/breaker.h"

/* The default of the option refusal_guard. */
#define REFUSAL_GUARD	20

/* The process starts.  An open breaker opens again at the first refusal. */
void
cs_breaker_load(CsBreaker *breaker, const char *stored)
{
	memset(breaker, 0, sizeof(CsBreaker));
	if (stored == NULL)
		return;
	breaker->released = strcmp(stored, "released") == 0;
	breaker->alike = breaker->released ? 0 : INT_MAX;
}

/* What is stored of it; NULL: nothing. */
const char *
cs_breaker_to_store(const CsBreaker *breaker)
{
	return breaker->released ? "released" : breaker->open ? "open" : NULL;
}

/* Take over what somebody may have stored since: that contacts are to fail. */
void
cs_breaker_take_word(CsBreaker *breaker, const char *stored)
{
	if (stored == NULL || strcmp(stored, "released") != 0 || breaker->released || breaker->changed)
		return;
	breaker->released = true;
	breaker->open = false;
	breaker->alike = 0;
}

/* Somebody has changed the server: contacts are tried. */
void
cs_breaker_start_anew(CsBreaker *breaker)
{
	breaker->open = false;
}

/* A contact was not refused. */
void
cs_breaker_close(CsBreaker *breaker)
{
	breaker->changed |= breaker->open || breaker->released || breaker->alike == INT_MAX;
	breaker->open = breaker->released = false;
	breaker->alike = 0;
}

static bool
is_alike(const CsBreaker *breaker, const char *kind)
{
	return breaker->alike > 0 && (breaker->kind[0] == '\0' || strcmp(breaker->kind, kind) == 0);
}

/* A contact was refused. */
CsRefused
cs_breaker_count(CsBreaker *breaker, const CsEndpoint *endpoint, const CsOutcome *outcome)
{
	int			limit = cs_endpoint_option_int(endpoint, "refusal_guard", REFUSAL_GUARD);
	char		kind[sizeof(breaker->kind)];

	if (outcome->ours || breaker->released || limit == 0 ||
		(outcome->reason && strcmp(outcome->reason, CS_REASON_CONFLICT) == 0))
		return CS_REFUSED_FAILS;
	snprintf(kind, sizeof(kind), "%s %s", outcome->reason ? outcome->reason : "",
			 outcome->code ? outcome->code : "");
	if (breaker->open || (is_alike(breaker, kind) && breaker->alike >= limit))
	{
		breaker->changed |= !breaker->open;
		breaker->open = true;
		return CS_REFUSED_STAYS;
	}
	breaker->alike = is_alike(breaker, kind) ? breaker->alike + 1 : 1;
	strlcpy(breaker->kind, kind, sizeof(breaker->kind));
	if (breaker->alike < limit)
		return CS_REFUSED_FAILS;
	breaker->open = breaker->changed = true;
	return CS_REFUSED_LAST;
}
