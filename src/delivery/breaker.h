/*-------------------------------------------------------------------------
 *
 * breaker.h
 *		Stops an account whose provider refuses everybody alike.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_BREAKER_H
#define CS_DELIVERY_BREAKER_H

#include "postgres.h"

#include "provider/provider.h"

/* What becomes of a contact that was refused. */
typedef enum CsRefused
{
	CS_REFUSED_FAILS,
	CS_REFUSED_LAST,			/* it fails, and the account is halted */
	CS_REFUSED_STAYS			/* it stays queued, and the account is halted */
} CsRefused;

typedef struct CsBreaker
{
	int			alike;			/* contacts in a row that failed, all of one
								 * kind */
	char		kind[80];		/* reason and code; "": any */
	bool		open;			/* the account is halted because of that, and
								 * no contact fails */
	bool		released;		/* somebody wants contacts to fail, until one
								 * does not */
	bool		changed;		/* open or released, since it was last stored */
} CsBreaker;

extern void cs_breaker_load(CsBreaker *breaker, const char *stored);
extern const char *cs_breaker_to_store(const CsBreaker *breaker);
extern void cs_breaker_take_word(CsBreaker *breaker, const char *stored);
extern void cs_breaker_start_anew(CsBreaker *breaker);
extern void cs_breaker_close(CsBreaker *breaker);
extern CsRefused cs_breaker_count(CsBreaker *breaker, const CsEndpoint *endpoint, const CsOutcome *outcome);

#endif							/* CS_DELIVERY_BREAKER_H */
