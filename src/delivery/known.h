/*-------------------------------------------------------------------------
 *
 * known.h
 *		What is known of a contact that may be sent, and of its person's consent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_KNOWN_H
#define CS_DELIVERY_KNOWN_H

#include "postgres.h"

#include "delivery/person.h"
#include "delivery/standing.h"

/* One change, its row, and what is stored of them. */
typedef struct CsItem
{
	CsChange   *change;			/* NULL: it is settled or postponed already */
	CsContact  *contact;		/* NULL: the row has gone, or is filtered out */
	CsRefusal  *refusal;		/* why it cannot be sent, or NULL */
	char	   *upsert_key;		/* of the contact, or of that of the row that
								 * has gone; in the database's encoding, or
								 * NULL */
	CsRowState	row;
	CsKnown		known;			/* the contact */
	CsKnown		left;			/* that of row.upsert_key, if it is another
								 * one */
	CsKnown		twin;			/* that of known.twin, if it is not known
								 * which of the two there is */
	CsPerson	person;			/* if the contact says anything of consent */
	CsRowsNow  *now;			/* of all items */
	int			index;			/* of this one among them */
} CsItem;

/* A hash of the address of the contact; 0: it has none. */
extern int64 cs_known_address(const CsContact *contact);

/*
 * If a word of the row has no answer yet, and the row has another address by now, it is
 * none for that one: what the row said there is not known.
 */
extern void cs_known_check_word(CsItem *item);

/* Does the row stand for another contact than it is mapped to now? */
extern bool cs_known_has_left(const CsItem *item);

/* Does the contact have another address so far? */
extern bool cs_known_is_moving(const CsItem *item);

/* Did the row say true of a contact that was last said not to consent, or is withheld? */
extern bool cs_known_was_refused(const CsItem *item);

typedef enum CsKnowledge
{
	CS_KNOWN,					/* enough to send it */
	CS_KNOWN_AFTER_PULL,		/* who is at the provider is to be learnt
								 * first */
	CS_KNOWN_AFTER_ROW			/* another row is to be read first, which may
								 * say the opposite */
} CsKnowledge;

/*
 * Put what is known into the contact, and decide whether it may claim consent, or has
 * to wait.
 */
extern CsKnowledge cs_known_apply(const CsItem *item);

#endif							/* CS_DELIVERY_KNOWN_H */
