/*-------------------------------------------------------------------------
 *
 * row_contact.h
 *		What would be sent of source rows now, and how that differs from what
 *		was last synced.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_ROW_CONTACT_H
#define CS_DELIVERY_ROW_CONTACT_H

#include "postgres.h"

#include "provider/contact.h"
#include "provider/endpoint.h"
#include "store/contact_state.h"
#include "store/failure.h"
#include "store/row_state.h"
#include "store/scan_store.h"
#include "store/watch.h"
#include "store/source_row.h"

/*
 * What would be sent of a row now.  Neither contact nor refusal: the row has gone,
 * or the filter keeps it out.
 */
typedef struct CsRowContact
{
	CsContact  *contact;		/* prepared; its upsert_key is set */
	CsRefusal  *refusal;		/* why it cannot be sent */
	ErrorData  *later;			/* what keeps it from being read for now; only
								 * of a row that is read alone */
	char	   *upsert_key;		/* of the contact, in the database's encoding */
	CsKnown		known;			/* what the provider has of the contact */
	CsRowState	row;			/* what the row stands for */
} CsRowContact;

extern void cs_row_contact_read(CsSource *source, const CsWatch *watch, const CsEndpoint *endpoint,
								int n, char **keys, CsRowContact *rows);

/* The result for one key. */
typedef struct CsComparison
{
	CsDifference difference;
	const char *reason;			/* of INVALID and REFUSED: a CS_REASON_ word */
	const char *message;		/* ... and what was said of it, or NULL */
	const char *upsert_key;		/* of the contact that it is, or was; or NULL */
	bool		pending;		/* it has to be queued, to be sent or to have
								 * its failure stored or cleared */
} CsComparison;

/* What to compare, and what need not be looked up. */
typedef struct CsComparer
{
	const CsWatch *watch;
	const CsEndpoint *endpoint;
	CsSource   *source;
	bool		claims_all;		/* claims that were held are to be sent */
	bool		has_failures;	/* failures of the watch are stored */
	bool		assumes_new;	/* rows that were never synced are NEW, and
								 * not read */
	bool		finds_missing_later;	/* known rows that are filtered out
										 * are left to
										 * cs_row_contact_compare_known() */
} CsComparer;

extern void cs_row_contact_judge(const CsComparer *comparer, const CsRowContact *current, const char *key,
								 const CsFailed *failed, CsComparison *result);
extern void cs_row_contact_compare(const CsComparer *comparer, int n, char **keys, CsComparison *result);

extern int	cs_row_contact_next_known(const CsWatch *watch, const char *after, int limit, char **keys);

extern void cs_row_contact_compare_known(const CsComparer *comparer, int n, char **keys, CsComparison *result);

extern CsWatch *cs_row_contact_presence(const CsWatch *watch);

#endif							/* CS_DELIVERY_ROW_CONTACT_H */
