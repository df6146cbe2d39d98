/*-------------------------------------------------------------------------
 *
 * row_contact.h
 *		How source rows differ from what was last synced of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ROW_CONTACT_H
#define CS_DELIVERY_ROW_CONTACT_H

#include "postgres.h"

#include "provider/contact.h"
#include "provider/endpoint.h"
#include "store/contact_state.h"
#include "store/watch.h"
#include "store/source_row.h"

/* Neither: the row has gone, or the filter keeps it out. */
typedef struct CsRowContact
{
	CsContact  *contact;		/* prepared; its upsert_key is set */
	CsRefusal  *refusal;		/* why it cannot be sent */
	CsKnown		known;			/* what was last synced of it */
} CsRowContact;

/*
 * Reads the rows of n keys of a watch as they would be sent now, with what is
 * known of them; rows[i] is for keys[i], palloc'd in the current context.  A row
 * whose mapping fails is refused, and does not keep the others from being read.
 * Needs a transaction.  Ereports what is not the fault of a single row, and that
 * several together took too long.
 */
extern void cs_row_contact_read(CsSource *source, const CsWatch *watch, const CsEndpoint *endpoint,
								int n, char **keys, CsRowContact *rows);

typedef enum CsDifference
{
	CS_IS_NEW,					/* the provider was never sent it */
	CS_IS_CHANGED,				/* it was sent otherwise, or in doubt */
	CS_IS_UNCHANGED,
	CS_IS_REFUSED,				/* the provider refused it as it is */
	CS_IS_INVALID,				/* it cannot be sent */
	CS_IS_FILTERED,				/* the filter keeps it out */
	CS_IS_GONE,					/* likewise, or the row has gone; to be
								 * removed at the provider */
	CS_DIFFERENCES
} CsDifference;

/* What was found out about one key. */
typedef struct CsComparison
{
	CsDifference difference;
	const char *reason;			/* of INVALID and REFUSED, CS_REASON_ word */
	bool		pending;		/* it has to be queued: to be sent, or for its
								 * failure to be stored or cleared */
} CsComparison;

/* What is compared, and what need not be looked for. */
typedef struct CsComparer
{
	const CsWatch *watch;
	const CsEndpoint *endpoint;
	CsSource   *source;
	bool		has_direct;		/* contacts of contactsync_upsert() are known */
	bool		has_failures;	/* failures of the watch are stored */
	bool		assumes_new;	/* what is not known at all is NEW, unread */
	bool		finds_missing_later;	/* known rows that are filtered out
										 * are left to
										 * cs_row_contact_compare_known() */
} CsComparer;

/*
 * Compares the rows of n keys; result[i] is for keys[i], palloc'd in the current
 * context.  Needs a transaction with an active snapshot.  Ereports what is not
 * the fault of a single row.
 */
extern void cs_row_contact_compare(const CsComparer *comparer, int n, char **keys, CsComparison *result);

/*
 * The next known keys in their order after "after" ("" at first) that would have
 * to be removed, or forgotten, if their rows had gone; palloc'd.  Returns how
 * many; less than "limit" is the end.
 */
extern int	cs_row_contact_next_known(const CsWatch *watch, const char *after, int limit, char **keys);

/*
 * Which of these known keys have no row any more that passes the filter?  Like
 * cs_row_contact_compare(), but comparer->source must be of cs_row_contact_presence().
 */
extern void cs_row_contact_compare_known(const CsComparer *comparer, int n, char **keys, CsComparison *result);

/* The same watch without its mapping, to be read for whether there are rows. */
extern CsWatch *cs_row_contact_presence(const CsWatch *watch);

#endif							/* CS_DELIVERY_ROW_CONTACT_H */
