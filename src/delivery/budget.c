/*-------------------------------------------------------------------------
 *
 * budget.c
 *		How much of the process's time the mappings of a role may take.
 *
 * One process runs the mappings of all roles, one after the other.  So that slow
 * ones do not leave the others without a turn, however many watches a role has, the
 * roles whose mappings are slow have half of the time together: with k of them each
 * has a share of 1 / 2k.  Whoever takes no more than that, or is alone, never waits;
 * whoever has taken more waits until their share makes up for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/settings.h"
#include "delivery/budget.h"

/* What a role may take beyond its share before it waits (s). */
#define ALLOWANCE	0.1

/* A role that has had to wait counts as slow for so long after it (s). */
#define SLOW_FOR	60.0

/* Return the budget of a role, made in the context if there is none. */
CsBudget *
cs_budget_of(List **all, Oid role, MemoryContext context)
{
	MemoryContext old;
	CsBudget   *budget;
	ListCell   *lc;

	foreach(lc, *all)
	{
		budget = lfirst(lc);
		if (budget->role == role)
			return budget;
	}
	old = MemoryContextSwitchTo(context);
	budget = palloc0(sizeof(CsBudget));
	budget->role = role;
	budget->all = all;
	*all = lappend(*all, budget);
	MemoryContextSwitchTo(old);
	return budget;
}

bool
cs_budget_is_slow(const CsBudget *budget, double now)
{
	return budget && budget->slow_until > now;
}

bool
cs_budget_is_spent(const CsBudget *budget, double now)
{
	return budget && budget->not_before > now;
}

/* How many roles are slow, this one included? */
static int
count_slow(const CsBudget *budget, double now)
{
	int			slow = 1;
	ListCell   *lc;

	foreach(lc, *budget->all)
		if (lfirst(lc) != budget && cs_budget_is_slow(lfirst(lc), now))
		slow++;
	return slow;
}

/* Charge the role for the code that has run since the last call. */
void
cs_budget_charge(CsBudget *budget)
{
	double		seconds = cs_interrupt_take_spent() * cs_clock_speed;
	double		now = cs_clock_now();
	double		share;

	if (budget == NULL || list_length(*budget->all) < 2)
		return;
	share = 0.5 / count_slow(budget, now);
	budget->spent = Max(budget->spent - (now - budget->spent_at) * share, 0) + seconds;
	/* what was just taken was time that others did not have */
	budget->spent -= Min(seconds * share, budget->spent);
	budget->spent_at = now;
	if (budget->spent <= ALLOWANCE * cs_clock_speed)
		return;
	budget->not_before = now + budget->spent / share;
	budget->slow_until = budget->not_before + SLOW_FOR;
}
