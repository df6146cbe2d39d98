/*-------------------------------------------------------------------------
 *
 * standing.h
 *		What other rows say that stand for a contact, or are about to leave it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_STANDING_H
#define CS_DELIVERY_STANDING_H

#include "postgres.h"

#include "delivery/account.h"
#include "delivery/claim.h"
#include "delivery/lane.h"
#include "delivery/refusals.h"

/* A row of those that are decided on together; texts in the database's encoding. */
typedef struct CsRowNow
{
	const char *key;			/* NULL: the row is not decided on */
	const CsRowState *before;	/* what is stored of it */
	const char *upsert_key;		/* of the contact that it stands for now;
								 * NULL: none */
	const char *address;		/* of that, in UTF-8, or NULL */
	char		consent;		/* CS_CONSENT_..., of that */
} CsRowNow;

typedef struct CsRowsNow
{
	int			n;
	CsRowNow   *rows;
	bool		any_leaves;		/* ... the contact that it stood for */
	HTAB	   *refusals;		/* what they say no for, or NULL */
	TimestampTz oldest_unread;	/* when the oldest change was queued that has
								 * not been read since; 0: not looked for yet */
} CsRowsNow;

/*
 * Find out what rows other than rows[self] say of its contact.  "elsewhere": the
 * upsert key of another contact with its address, or NULL.  Needs a transaction.
 */
extern void cs_standing_read(const CsLane *lane, const CsRowsNow *now, int self,
							 const char *elsewhere, CsClaimOthers *others);

/*
 * Is a row yet to be read, of any contact, that was queued before then?  It can be one that
 * was read, and waits for a call.
 */
extern bool cs_standing_is_unread(const CsAccount *account, CsRowsNow *now, TimestampTz queued_at);

/* A row of the watch that said true, and is leaving its contact, has got another key:
 * from now on another row is taken for it. */
extern void cs_standing_rename(const CsAccount *account, int watch, const char *key);

/* The same, if a row has said true of that contact and gone, of which nothing is stored any
 * more.  Return whether one has. */
extern bool cs_standing_take_departed(const CsAccount *account, const char *upsert_key);

/*
 * The row has gone, which said true of a contact that was last said not to, or which said
 * no: what it has become may be read later, under another key or from another table.
 */
extern void cs_standing_depart(const CsLane *lane, const char *key, const char *upsert_key, char said);

/* May a row that said no of that contact, and has gone, be read soon under another key?  Then
 * the queue is read. */
extern bool cs_standing_may_return(const CsAccount *account, const char *upsert_key);

/* Does another one of the rows say no for the address of rows[self]? */
extern bool cs_standing_is_refused(const CsRowsNow *now, int self);

#endif							/* CS_DELIVERY_STANDING_H */
