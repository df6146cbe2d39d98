/*-------------------------------------------------------------------------
 *
 * current.h
 *		What would be sent of source rows now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_CURRENT_H
#define CS_DELIVERY_CURRENT_H

#include "postgres.h"

#include "provider/contact.h"
#include "provider/endpoint.h"
#include "store/contact_state.h"
#include "store/source.h"

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

#endif							/* CS_DELIVERY_CURRENT_H */
