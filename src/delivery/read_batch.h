/*-------------------------------------------------------------------------
 *
 * read_batch.h
 *		The memory of contacts that were read together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CS_DELIVERY_READ_BATCH_H
#define CS_DELIVERY_READ_BATCH_H

#include "postgres.h"

#include "delivery/room.h"

typedef struct CsReadBatch
{
	MemoryContext context;
	int			users;			/* freed when this reaches 0 */
	int64		bytes;			/* counted in room and account_bytes */
	CsRoom	   *room;
	int64	   *account_bytes;
	MemoryContextCallback end;
} CsReadBatch;

extern CsReadBatch *cs_read_batch_create(MemoryContext parent, CsRoom *room, int64 *account_bytes);
extern int64 cs_read_batch_weigh(CsReadBatch *read_batch);
extern void cs_read_batch_retain(CsReadBatch *read_batch);
extern void cs_read_batch_release(CsReadBatch *read_batch);

#endif							/* CS_DELIVERY_READ_BATCH_H */
