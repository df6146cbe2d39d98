/*-------------------------------------------------------------------------
 *
 * claim.h
 *		Whether a sending may claim a person's consent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_CLAIM_H
#define CS_DELIVERY_CLAIM_H

#include "postgres.h"

#include "delivery/person.h"
#include "provider/contact.h"
#include "store/contact_state.h"
#include "store/row_state.h"

/* What the decision goes by. */
typedef struct CsClaimFacts
{
	char		consent;		/* CS_CONSENT_..., of the contact to be sent */
	TimestampTz opt_in_at;		/* the person's word, or 0 */
	const CsRowState *row;		/* NULL: contactsync_upsert() */
	const CsKnown *known;		/* the contact */
	const CsPerson *person;
	bool		live;			/* a committed change, not a scan */
	bool		all;			/* the user said claims => 'all' */
} CsClaimFacts;

extern CsClaim cs_claim_decide(const CsClaimFacts *facts);

/* Was consent claimed already, and does it stand as far as we know? */
/*
 * What is to be stored as last seen of opt_in, from what was and what is.  Null says
 * nothing, so true, null, true is no change.
 */
extern char cs_claim_seen(char before, char consent);

extern bool cs_claim_stands(const CsClaimFacts *facts);

/* Is it known that the person opted out? */
extern bool cs_claim_is_closed(const CsClaimFacts *facts);

#endif							/* CS_DELIVERY_CLAIM_H */
