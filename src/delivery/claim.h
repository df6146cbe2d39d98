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

/* What rows say, or said, that stand for the contact beside the one to be sent. */
typedef struct CsClaimOthers
{
	bool		say_no;			/* one that still stands for it says no */
	bool		say_null;		/* ... null */
	bool		say_yes;		/* ... true, or did before it said null */
	bool		left_no;		/* one that is leaving it said no */
	bool		left_not_true;	/* ... or null */
	int			left_watch;		/* one that is leaving it said true, and no
								 * other row is taken for it: its watch, */
	const char *left_key;		/* ... and its key; NULL: there is none */
	bool		is_renamed;		/* this row is taken for one of those */
} CsClaimOthers;

/* What the decision goes by. */
typedef struct CsClaimFacts
{
	char		consent;		/* CS_CONSENT_..., of the contact to be sent */
	TimestampTz opt_in_at;		/* the person's word, or 0 */
	bool		has_times;		/* opt_in_at is mapped */
	TimestampTz queued_at;		/* when the row changed, or soon after */
	TimestampTz read_at;		/* when the row was read the last time, if it
								 * is known, or 0 */
	const CsRowState *row;		/* NULL: contactsync_upsert() */
	bool		rows_known;		/* what all rows of the watch said is stored */
	const CsKnown *known;		/* the contact */
	CsClaimOthers others;		/* if cs_claim_asks_others() */
	const CsPerson *person;
	bool		moves;			/* the contact has another address so far */
	bool		moves_on;		/* ... for which nobody claimed its consent:
								 * it only inherited a claim, or its row is
								 * new to it */
	bool		leaves_opt_out; /* what is closed is the address that it
								 * leaves */
	bool		live;			/* a committed change, not a scan */
	bool		word;			/* which was found to be a word before */
	bool		all;			/* the user said claims => 'all' */
} CsClaimFacts;

extern CsClaim cs_claim_decide(const CsClaimFacts *facts);

/*
 * When the person's last word was given, once the contact is sent with that claim, as far
 * as times are mapped; or 0.
 */
extern TimestampTz cs_claim_word_at(const CsClaimFacts *facts, CsClaim claim);

/* Is the row new to its contact, and do other rows decide whether it is a word? */
extern bool cs_claim_asks_others(const CsClaimFacts *facts);

/* Do other rows decide whether claims => 'all' claims it? */
extern bool cs_claim_asks_for_all(const CsClaimFacts *facts);

/* What was said last for the address, whichever contact it was said for, also if that
 * has gone: CS_CONSENT_... */
extern char cs_claim_said(const CsClaimFacts *facts);

/* Was consent claimed already, and does it stand as far as we know? */
extern bool cs_claim_stands(const CsClaimFacts *facts);

/* Is anything known of the person? */
extern bool cs_claim_is_remembered(const CsClaimFacts *facts);

/* Is it known that the person opted out? */
extern bool cs_claim_is_closed(const CsClaimFacts *facts);

/* ... or is it only remembered that a row said no, of a contact that there is not? */
extern bool cs_claim_is_refused(const CsClaimFacts *facts);

#endif							/* CS_DELIVERY_CLAIM_H */
