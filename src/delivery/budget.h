/*-------------------------------------------------------------------------
 *
 * budget.h
 *		How much of the process's time the mappings of a role may take.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_BUDGET_H
#define CS_DELIVERY_BUDGET_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct CsBudget
{
	Oid			role;
	List	  **all;			/* the budgets of all roles */
	double		spent;			/* s, less what was left to others since */
	double		spent_at;		/* when that was so */
	double		not_before;		/* no code of the role runs before */
	double		slow_until;		/* it counts as slow, while nothing is known
								 * of later */
} CsBudget;

extern CsBudget *cs_budget_of(List **all, Oid role, MemoryContext context);
extern void cs_budget_charge(CsBudget *budget);
extern bool cs_budget_is_slow(const CsBudget *budget, double now);
extern bool cs_budget_is_spent(const CsBudget *budget, double now);

#endif							/* CS_DELIVERY_BUDGET_H */
