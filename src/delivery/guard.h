/*-------------------------------------------------------------------------
 *
 * guard.h
 *		The bulk guard: stops a watch before many contacts at once set off mail
 *		to people.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_GUARD_H
#define CS_DELIVERY_GUARD_H

#include "postgres.h"

#include "provider/endpoint.h"
#include "store/watch.h"

/* What the guard counts for a watch. */
typedef struct CsGuard
{
	const CsWatch *watch;		/* NULL: direct upserts, which are not guarded */
	bool		closed;			/* nothing is sent; stored in watch.state */
	uint64		released;		/* what transactions before this one queued
								 * was released, and is not counted */

	/* contacts that arrived in the current window, and in the one before */
	double		window_start;
	int			arrived;
	int			arrived_before;
	bool		opened;			/* counting has begun */
} CsGuard;

extern void cs_guard_create(CsGuard *guard, const CsWatch *watch);
extern void cs_guard_carry_over(CsGuard *guard, const CsGuard *before);

extern const char *cs_guard_risk(const CsEndpoint *endpoint, const CsWatch *watch);
extern int	cs_guard_limit(const CsEndpoint *endpoint);

extern void cs_guard_close(CsGuard *guard, const CsEndpoint *endpoint, int64 contacts);
extern bool cs_guard_check(CsGuard *guard, const CsEndpoint *endpoint, int waiting, int arrived,
						   double now);

extern void cs_guard_check_automations(const char *automations);
extern bool cs_guard_release(int endpoint, int watch, const char *automations, const char *by);

#endif							/* CS_DELIVERY_GUARD_H */
