/*-------------------------------------------------------------------------
 *
 * contact_sample.h
 *		Contacts as we believe that the provider has them, to be compared with
 *		what it has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_CONTACT_SAMPLE_H
#define CS_STORE_CONTACT_SAMPLE_H

#include "postgres.h"

/* A contact that was sent for a row, to be compared with the provider's. */
typedef struct CsContactSample
{
	int			watch;
	char	   *key;
	bool		queued;			/* a change to it is queued */
} CsContactSample;

/* How many contacts the provider has from an endpoint.  Needs the scope of cs_sql_enter(). */
extern int64 cs_contact_sample_count(int endpoint);

/* Up to "limit" of them that were sent for rows, at random, palloc'd; likewise. */
extern CsContactSample *cs_contact_sample_read(int endpoint, int limit, int *n);

#endif							/* CS_STORE_CONTACT_SAMPLE_H */
