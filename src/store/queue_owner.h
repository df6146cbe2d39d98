/*-------------------------------------------------------------------------
 *
 * queue_owner.h
 *		Who may deliver what is queued.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_STORE_QUEUE_OWNER_H
#define CS_STORE_QUEUE_OWNER_H

#include "postgres.h"

/* Who owns what is queued for an endpoint. */
typedef enum CsQueueOwner
{
	CS_QUEUE_OURS,				/* this session, from now on */
	CS_QUEUE_OTHERS,			/* another session */
	CS_QUEUE_WORKERS			/* the worker, as the whole queue */
} CsQueueOwner;

extern CsQueueOwner cs_queue_lock_endpoint(int endpoint);
extern bool cs_queue_endpoint_is_locked(int endpoint);
extern bool cs_queue_lock(void);
extern void cs_queue_protect(void); /* before SQL of a user is run */
extern void cs_queue_recover(void); /* afterwards */
extern void cs_queue_unlock(void);

#endif							/* CS_STORE_QUEUE_OWNER_H */
